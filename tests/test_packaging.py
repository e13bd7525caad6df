"""What is published: names, metadata, stubs, pickles, and what an import loads."""

import ast
import fnmatch
import importlib.metadata
import json
import pickle
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import jitloss
import processes

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE = Path(jitloss.__file__).parent

FORMS = ("value", "gradient", "value_and_gradient", "value_gradient_hessian")

each_name = pytest.mark.parametrize("name", jitloss.LOSSES)


# The import -------------------------------------------------------------------------------------------------------------------

IMPORT = """
import sys, os, json, threading
import numpy, numba, llvmlite
import processes
compiled = processes.watch()
tasks = lambda: len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
modules, threads = set(sys.modules), (threading.active_count(), tasks())
import jitloss
print(json.dumps([
    sorted({name.partition(".")[0] for name in set(sys.modules) - modules}),
    [name for name in sys.modules if name.startswith("numba.cuda") and name not in modules],
    (threading.active_count(), tasks()) == threads,
    compiled,
]))
"""


def test_the_import_brings_nothing_along(tmp_path):
    out = processes.python("-W", "error", "-c", IMPORT, NUMBA_CACHE_DIR=str(tmp_path))
    packages, cuda, same_threads, compiled = json.loads(out)
    assert set(packages) - sys.stdlib_module_names == {"jitloss"}
    assert cuda == []
    assert same_threads
    assert compiled == []
    assert processes.cache_files(tmp_path) == {}


def test_the_import_needs_nothing_else():
    """With every optional package made unavailable."""
    optional = ["rich", "scipy", "sklearn", "torch", "jax", "pandas", "matplotlib", "ml_dtypes", "optax", "yaml"]
    code = f"import sys; sys.modules.update(dict.fromkeys({optional!r}))\nimport jitloss; print(jitloss.mse_loss([1.0], [3.0]))"
    assert processes.python("-c", code).strip() == "4.0"


# Names ------------------------------------------------------------------------------------------------------------------------


def test_all_names_exist():
    assert len(set(jitloss.__all__)) == len(jitloss.__all__)
    for name in jitloss.__all__:
        assert hasattr(jitloss, name), name


def test_nothing_public_is_missing_from_all():
    public = {
        name
        for name, value in vars(jitloss).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and _is_own(value)
    }
    assert public <= set(jitloss.__all__)


def _is_own(value: Any) -> bool:
    return getattr(value, "__module__", "jitloss").startswith("jitloss")


@each_name
def test_every_loss_is_published(name):
    loss = jitloss.LOSSES[name]
    assert loss.__name__ == name
    assert loss.__module__ == "jitloss"
    assert getattr(jitloss, name) is loss
    assert getattr(jitloss, f"{name}_gradient") is loss.gradient
    assert {name, f"{name}_gradient"} <= set(jitloss.__all__)


# Pickles ----------------------------------------------------------------------------------------------------------------------


@each_name
def test_losses_and_forms_are_pickled_by_name(name):
    loss = jitloss.LOSSES[name]
    for one in (loss, *(getattr(loss, form) for form in FORMS)):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            text = pickle.dumps(one, protocol)
            assert pickle.loads(text) is one
            assert name.encode() in text
            assert len(text) < 150


@jitloss.pointwise
def custom(prediction, target):
    """A loss of a module of the user's."""
    return prediction * target, target


@pytest.mark.parametrize(
    "loss", [custom, jitloss.huber_loss.with_parameters(delta=2.0), jitloss.mse_loss + 0.5 * custom], ids=lambda one: one.__name__
)
def test_other_losses_are_pickled_too(loss):
    again = pickle.loads(pickle.dumps(loss))
    assert again.value_and_gradient([3.0], [1.0]) == loss.value_and_gradient([3.0], [1.0])
    assert again.__name__ == loss.__name__


# Metadata ---------------------------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_metadata():
    assert jitloss.__version__ == importlib.metadata.version("jitloss") == PROJECT["project"]["version"]


DISTRIBUTIONS = {"sklearn": "scikit-learn", "xdist": "pytest-xdist", "cuda": "numba-cuda"}

OF_THE_CALLER = {"cupy"}
"""Libraries that are imported when an array of theirs arrives, and never installed for it."""


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", one).group() for one in requirements}


def third_party(folder: Path, *, at_the_top: bool = False) -> set[str]:
    """The distributions that the files of a folder import, anywhere in them or outside of functions."""
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        waiting: list[ast.AST] = [ast.parse(file.read_text())]
        while waiting:
            one = waiting.pop()
            if isinstance(one, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in one.names}
            elif isinstance(one, ast.ImportFrom) and one.level == 0:
                found.add(one.module.partition(".")[0])
            elif not (at_the_top and isinstance(one, ast.FunctionDef)):
                waiting += ast.iter_child_nodes(one)
    own = {"jitloss", "benchmarks", *(file.stem for pattern in ("*.py", "cuda/*.py") for file in folder.glob(pattern))}
    return {DISTRIBUTIONS.get(name, name) for name in found - own - sys.stdlib_module_names}


NEEDED = {"numba", "numpy", "llvmlite"}


def test_requirements():
    project = PROJECT["project"]
    extras = {name: names_of(given) for name, given in project["optional-dependencies"].items()}
    assert names_of(project["dependencies"]) == NEEDED
    assert project["requires-python"] == ">=3.11"
    assert {"cli", "demo", "test", "peers", "lint", "bench"} <= set(extras)
    assert third_party(PACKAGE) - NEEDED - OF_THE_CALLER <= set().union(*extras.values())
    assert not extras["test"] & {"torch", "jax", "optax"}, "the tests' own requirements are light"
    assert extras["cli"] <= extras["demo"]


def test_tests_import_what_their_extra_brings():
    """All except the peers, which are imported inside tests that are skipped without them."""
    given = names_of(PROJECT["project"]["optional-dependencies"]["test"])
    assert third_party(ROOT / "tests", at_the_top=True) <= given | NEEDED


# Files ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["py.typed", "__init__.pyi"])
def test_types_are_shipped(file):
    assert (PACKAGE / file).is_file()
    assert any(fnmatch.fnmatch(file, pattern) for pattern in PROJECT["tool"]["setuptools"]["package-data"]["jitloss"])


def test_the_stub_knows_every_public_name():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    known = {one.name for one in stub.body if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
    known |= {one.target.id for one in stub.body if isinstance(one, ast.AnnAssign)}
    known |= {alias.asname or alias.name for one in stub.body if isinstance(one, ast.ImportFrom) for alias in one.names}
    assert {*jitloss.__all__, *jitloss._SUBPACKAGES, "math"} <= known


def test_all_names_together_hide_none_of_the_standard_library():
    hidden = sys.stdlib_module_names & set(jitloss.__all__)
    assert not hidden


def tracked_files() -> list[str]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return []
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


MACHINE = re.compile(rb"(?<![\w.-])/(?:(?:ro" rb"ot|wo" rb"rk|ho" rb"me|Us" rb"ers)/|tm" rb"p/\w)")
"""An absolute path of somebody's machine."""


def test_the_pattern_finds_paths_of_a_machine():
    for path in ("/ro" + "ot/x", "open('/wo" + "rk/x')", "/ho" + "me/me", " /tm" + "p/x", "/Us" + "ers/me"):
        assert MACHINE.search(path.encode()), path
    for path in ("src/jitloss/bench/work.py", "https://example.org/home/x", "a folder called work/", "/proc/self"):
        assert not MACHINE.search(path.encode()), path


def test_no_file_holds_a_path_of_a_machine():
    files = tracked_files()
    if not files:
        pytest.skip("not a git checkout")
    found = [name for name in files if MACHINE.search((ROOT / name).read_bytes())]
    assert not found
