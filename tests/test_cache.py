"""The disk cache: a second process compiles nothing, an edit recompiles only what it changes, and no stale code is used."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import jitloss
import processes
from cases import CASES, draw
from jitloss.compilers import cpu
from jitloss.compilers.cpu import driver, helpers, small

HELPERS = """
def bent(x):
    return x + 1.0
"""

SCRIPT = '''
import processes
compiled = processes.watch()
import json
import jitloss
from helpers import bent
WEIGHT = 3.0

def doubled(x):
    return 2.0 * x

@jitloss.pointwise
def first(prediction, target, alpha=1.0):
    """A loss with a parameter."""
    error = prediction - target
    return alpha * error * error, 2.0 * alpha * error

@jitloss.pointwise
def second(prediction, target):
    error = doubled(prediction - target)
    return WEIGHT * error + bent(error), 2.0 * WEIGHT + 2.0

@jitloss.rowwise
class third:
    """A loss of rows."""
    def terms(prediction, target):
        return (prediction - target) * (prediction - target)
    def value(sums):
        return 5.0 * sums
    def slope(prediction, target):
        return 10.0 * (prediction - target)

def make(factor):
    @jitloss.pointwise
    def closed(prediction, target):
        return factor * (prediction - target), factor
    return closed

fourth = make(4.0)
losses = {"first": first, "second": second, "third": third, "fourth": fourth, "sum": first + 0.5 * fourth, "mse": jitloss.mse_loss}
values = {name: loss.value_and_gradient([1.0, 2.0], [0.0, 0.0])[0] for name, loss in losses.items()}
print(json.dumps([values, [name for name in compiled if "kernel" in name]]))
'''

VALUES = {"first": 2.5, "second": 13.0, "third": 25.0, "fourth": 6.0, "sum": 5.5, "mse": 2.5}
"""What the script prints, worked out by hand."""


class Edit(NamedTuple):
    """An edit of the user's files, the values that it changes, and the number of kernels that it recompiles."""

    file: str
    old: str
    new: str
    values: dict[str, float]
    kernels: int


EDITS = {
    "definition": Edit("script.py", "alpha * error * error,", "alpha * error * error + 1.0,", {"first": 3.5, "sum": 6.5}, 2),
    "gradient only": Edit("script.py", "2.0 * alpha * error", "3.0 * alpha * error", {}, 2),
    "part of a rowwise definition": Edit("script.py", "5.0 * sums", "6.0 * sums", {"third": 30.0}, 1),
    "helper": Edit("script.py", "return 2.0 * x", "return 4.0 * x", {"second": 25.0}, 1),
    "helper of another file": Edit("helpers.py", "x + 1.0", "x + 2.0", {"second": 14.0}, 1),
    "global number": Edit("script.py", "WEIGHT = 3.0", "WEIGHT = 5.0", {"second": 19.0}, 1),
    "closed-over number": Edit("script.py", "make(4.0)", "make(8.0)", {"fourth": 12.0, "sum": 8.5}, 2),
    "default of a parameter": Edit("script.py", "alpha=1.0", "alpha=3.0", {"first": 7.5, "sum": 10.5}, 0),
    "weight of a sum": Edit("script.py", "0.5 * fourth", "1.5 * fourth", {"sum": 11.5}, 0),
    "docstring": Edit("script.py", "A loss with a parameter.", "What it does, in other words.", {}, 0),
    "docstring of a class": Edit("script.py", '    """A loss of rows."""\n', "", {}, 0),
    "lines above": Edit("script.py", "WEIGHT = 3.0", "\n\n# a comment\n\nWEIGHT = 3.0", {}, 0),
}


class Project:
    """A user's folder with a script, and a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"

    def write(self, edit: Edit | None = None, place: str = "project") -> Path:
        """Write the files, edited; where the script is."""
        folder = self.folder / place
        folder.mkdir(exist_ok=True)
        for file, text in (("script.py", SCRIPT), ("helpers.py", HELPERS)):
            mine = edit is not None and edit.file == file
            assert not mine or text.count(edit.old) == 1
            (folder / file).write_text(text.replace(edit.old, edit.new) if mine else text)
        return folder / "script.py"

    def run(self, edit: Edit | None = None, place: str = "project") -> tuple[dict[str, float], list[str]]:
        """The values of the script's losses, and the kernels that were compiled for it."""
        out = processes.python("-W", "error", str(self.write(edit, place)), NUMBA_CACHE_DIR=str(self.cache))
        values, kernels = json.loads(out.splitlines()[-1])
        return values, kernels


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project whose script has run once."""
    made = Project(tmp_path_factory.mktemp("cache"))
    values, kernels = made.run()
    assert values == VALUES
    assert len(kernels) == len(set(kernels)) == len(VALUES)
    return made


def test_the_cache_does_not_grow_from_run_to_run(project):
    before = processes.cache_files(project.cache)
    for _ in range(3):
        assert project.run() == (VALUES, [])
    assert processes.cache_files(project.cache) == before


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_compiles_what_it_changes(project, name):
    edit = EDITS[name]
    values, kernels = project.run(edit)
    assert values == {**VALUES, **edit.values}
    assert len(kernels) == edit.kernels
    assert not kernels or project.run(edit) == (values, []), "what was compiled was not found again"


def test_taking_an_edit_back_compiles_nothing(project):
    project.run(EDITS["definition"])
    assert project.run() == (VALUES, [])


def test_a_moved_script_compiles_nothing(project):
    assert project.run(place="elsewhere") == (VALUES, [])


def test_one_process_may_define_a_name_twice(tmp_path):
    text = SCRIPT[: SCRIPT.index("fourth =")]
    again = text.replace("compiled = processes.watch()", "").replace("alpha * error * error,", "7.0 * error * error,")
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "script.py").write_text(
        f"{text}\nold = first\nprint(first([1.0], [0.0]))\n{again}\nprint(first([1.0], [0.0]), old([1.0], [0.0]), old([2.0], [0.0]))"
    )
    out = processes.python(str(tmp_path / "script.py"), NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert out.split() == ["1.0", "7.0", "1.0", "4.0"]


# What is shipped --------------------------------------------------------------------------------------------------------------


@jitloss.pointwise
def imported(prediction, target):
    """A custom loss of a module."""
    return prediction * target, target


def everything() -> list[Any]:
    """Call all losses and every layout, option and form that has a kernel of its own; values, and the functions compiled."""
    compiled = processes.watch()
    values = [case.loss.value_and_gradient(*draw(case, case.shape, "float32"))[0] for case in CASES]
    logits = np.linspace(-2.0, 3.0, 4 * 300 * 5).reshape(4, 300, 5).astype(np.float32)
    labels = np.arange(4 * 5).reshape(4, 5) % 5
    softmax, binary = jitloss.cross_entropy_with_logits, jitloss.binary_cross_entropy_with_logits
    both = jitloss.mse_loss + 0.5 * jitloss.huber_loss
    values += [
        softmax.value_and_gradient(logits, labels, axis=1)[0],
        softmax.value_and_gradient(logits[:, :, 0], labels[:, 0])[0],
        softmax(logits[:, :, 0], logits[:, :, 0] ** 2, label_smoothing=0.1, z_loss=0.1),
        softmax.value_gradient_hessian(logits[:, :5], labels, class_weight="balanced", sample_weight=np.ones((4, 5)))[0],
        (jitloss.cross_entropy_loss + 0.5 * jitloss.kl_divergence)(logits[:, :5] ** 2, logits[:, :5] ** 2),
        float(binary(logits.astype(np.float16), logits > 0.0, reduction="none").sum()),
        both(np.tile(logits, (10, 1, 1)), np.tile(logits, (10, 1, 1)) + 1.0),  # all threads
        imported(logits, logits),
    ]
    return [values, list(compiled)]


def test_a_second_process_compiles_nothing(tmp_path):
    values, compiled = processes.call(everything, NUMBA_CACHE_DIR=str(tmp_path))
    assert len(compiled) > len(CASES)
    files = processes.cache_files(tmp_path)
    again, compiled = processes.call(everything, NUMBA_CACHE_DIR=str(tmp_path))
    assert compiled == []
    assert again == values
    assert processes.cache_files(tmp_path) == files


def test_code_that_is_found_needs_no_more_than_numba_itself(tmp_path):
    """What numba imports before it compiles takes longer than a call whose kernel is cached."""
    code = (
        "import sys, numpy, jitloss; jitloss.mse_loss(numpy.zeros(100_000), numpy.ones(100_000)); "
        "print(*(name for name in ('numba', 'numba.np.arraymath') if name in sys.modules))"
    )
    first, second = (processes.python("-c", code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.split() == ["numba", "numba.np.arraymath"]
    assert second.split() == ["numba"]


def test_processes_that_compile_at_once(tmp_path):
    """Kernels have files of their own: an index that two processes write could end with one's code under the other's key."""
    project = Project(tmp_path)
    script = str(project.write())
    running = [processes.start(script, NUMBA_CACHE_DIR=str(project.cache)) for _ in range(3)]
    for process in running:
        assert json.loads(processes.finish(process).splitlines()[-1])[0] == VALUES
    names = [Path(name).name for name in processes.cache_files(project.cache)]
    indices = [name.removesuffix(".nbi") for name in names if name.endswith(".nbi")]
    assert sorted(name for name in names if name.endswith(".nbc")) == sorted(f"{name}.1.nbc" for name in indices)
    assert project.run() == (VALUES, [])


# Without a cache --------------------------------------------------------------------------------------------------------------


def copy_of_the_package(folder: Path) -> Path:
    source = Path(jitloss.__file__).parent
    return Path(shutil.copytree(source, folder / "jitloss", ignore=shutil.ignore_patterns("__pycache__")))


def test_no_place_for_a_cache(tmp_path):
    """Everything is read-only. A file in the place of each folder that numba would write to stops even the superuser."""
    package, wall = copy_of_the_package(tmp_path), tmp_path / "file"
    wall.write_text("")
    for folder in (package, *(one for one in package.rglob("*") if one.is_dir())):
        (folder / "__pycache__").write_text("")
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "script.py").write_text(SCRIPT + "\nprint(jitloss.__file__, jitloss.mse_loss([1.0] * 100_000, [0.0] * 100_000))")
    before = processes.cache_files(tmp_path)
    nowhere = {name: str(wall / "x") for name in ("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    out = processes.python("-B", "-W", "error", str(tmp_path / "script.py"), **nowhere, PYTHONPATH=_path(tmp_path))
    *_, result, last = out.splitlines()
    values, kernels = json.loads(result)
    assert values == VALUES
    assert len(kernels) >= len(VALUES)
    assert last.split() == [str(package / "__init__.py"), "1.0"]
    assert processes.cache_files(tmp_path) == before


def _path(folder: Path) -> str:
    return f"{folder}{':' if sys.platform != 'win32' else ';'}{processes.HERE}"


def full_disk() -> list[float]:
    """Compute where no file can grow."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return [jitloss.mse_loss([1.0, 2.0], [0.0, 0.0]), jitloss.mse_loss([1.0] * 100_000, [0.0] * 100_000)]


def test_a_full_disk(tmp_path):
    pytest.importorskip("resource")
    assert processes.call(full_disk, NUMBA_CACHE_DIR=str(tmp_path)) == [2.5, 1.0]
    assert not any(processes.cache_files(tmp_path).values())


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_damaged_files(project, tmp_path, suffix):
    shutil.copytree(project.cache, tmp_path / "cache")
    damaged = Project(tmp_path)
    assert damaged.run() == (VALUES, [])
    for file in damaged.cache.rglob(f"*{suffix}"):
        file.write_bytes(file.read_bytes()[:100])
    values, kernels = damaged.run()
    assert values == VALUES
    assert len(set(kernels)) == len(VALUES)


# The library itself is edited -------------------------------------------------------------------------------------------------


def test_an_edited_compiler_compiles_everything_again(tmp_path):
    package = copy_of_the_package(tmp_path)
    file, cache = package / "compilers" / "elementary.py", str(tmp_path / "cache")
    run = "import jitloss; print(jitloss.__file__, jitloss.l1_loss([1.0, -2.0], [0.0, 0.0]))"
    first = processes.python("-c", run, NUMBA_CACHE_DIR=cache, PYTHONPATH=_path(tmp_path))
    assert first.split() == [str(package / "__init__.py"), "1.5"]
    kernels = sorted(file.name for file in tmp_path.rglob("*.nbi") if "kernel" in file.name)
    assert kernels
    text, edits = re.subn(r'(def absolute.*\n    return x\.call\("fabs"\))', r"\1 * 2.0", file.read_text())
    assert edits == 1
    file.write_text(text)
    assert processes.python("-c", run, NUMBA_CACHE_DIR=cache, PYTHONPATH=_path(tmp_path)).split()[1] == "3.0"
    assert sorted(file.name for file in tmp_path.rglob("*.nbi") if "kernel" in file.name) == kernels  # over the old ones


def test_a_library_read_from_bytecode_compiles_nothing_again(tmp_path):
    copy_of_the_package(tmp_path)
    run = (
        "import processes; compiled = processes.watch(); import jitloss as j; "
        "j.contrastive_loss([[1.0, 2.0]], [[0.0, 1.0]], [0]); j.cross_entropy_loss([[0.25, 0.75]], [1]); "
        "(j.mse_loss + 0.5 * j.l1_loss)([1.0], [2.0]); print(len(compiled))"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": _path(tmp_path), "PYTHONDONTWRITEBYTECODE": None}
    assert not [*tmp_path.rglob("*.pyc")]
    assert int(processes.python("-c", run, **environment)) > 3
    assert [*tmp_path.rglob("*.pyc")]
    assert int(processes.python("-c", run, **environment)) == 0


def test_the_drivers_have_files_of_their_own_for_each_version():
    """They call functions in other files, whose changes numba does not notice."""
    cpu.small_driver()
    driver.serial()
    driver.helpers()
    for function in (small._small, driver._serial, helpers._lead, helpers._help):
        assert function.__qualname__ == f"{function.__name__}_{cpu.fingerprint()[:16]}"


def test_the_fingerprint_covers_every_file_that_makes_code(monkeypatch):
    read, original = set(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read.add(file) or original(file))
    cpu.fingerprint.__wrapped__()
    package = Path(jitloss.__file__).parent
    compilers = package / "compilers"
    assert read >= {package / "math.py", package / "binding.py", *compilers.glob("*.py"), *(compilers / "cpu").glob("*.py")}


# Typed by hand ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["-", "-i"])
def test_definitions_typed_at_a_prompt(tmp_path, mode):
    (tmp_path / "helpers.py").write_text(HELPERS)
    typed = SCRIPT.lstrip() + "\n"

    def session() -> Any:
        out = processes.python("-W", "error", mode, stdin=typed, cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        return json.loads(out.splitlines()[-1])

    values, kernels = session()
    assert values == VALUES
    assert len(kernels) == len(VALUES)
    files = processes.cache_files(tmp_path / "cache")
    for _ in range(2):
        assert session() == [VALUES, []]
    assert processes.cache_files(tmp_path / "cache") == files
