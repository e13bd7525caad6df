"""The README and the pages of docs/: examples run, links lead somewhere, generated parts are current, equivalences hold."""

import doctest
import functools
import importlib.util
import itertools
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jitloss
from cases import Case, draw, weights

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

BLOCK = re.compile(r"^```(\w*|\{code-cell\} ipython3)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELL = "{code-cell} ipython3"


def blocks(name: str, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with its first line's number."""
    text = TEXTS[name]
    return [(text.count("\n", 0, found.start(2)), found[2]) for found in BLOCK.finditer(text) if found[1] == language]


def prose(name: str) -> str:
    return BLOCK.sub("", TEXTS[name])


@functools.cache
def generator(name: str = "generate") -> Any:
    sys.path[:0] = [str(ROOT / "docs")]
    spec = importlib.util.spec_from_file_location(f"{name}_docs", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Examples ---------------------------------------------------------------------------------------------------------------------


class Numbers(doctest.OutputChecker):
    """Outputs agree if their words do, and their numbers to four digits, because the last digits depend on the machine."""

    NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e[-+]?\d+)?(?![\w])")

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        shapes = [re.sub(r"\s+", "", self.NUMBER.sub("#", text)) for text in (want, got)]
        numbers = [[float(one) for one in self.NUMBER.findall(text)] for text in (want, got)]
        return shapes[0] == shapes[1] and all(
            math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6) for one, other in zip(*numbers, strict=True)
        )


@pytest.mark.parametrize(("want", "got", "agree"), [
    ("0.41666\n", "0.4166666\n", True),
    ("0.4167\n", "0.4177\n", False),
    ("array([1., 2.])\n", "array([1.00001, 2.        ])\n", True),
    ("array([1., 2.])\n", "array([1.])\n", False),
    ("(0.5, True)\n", "(0.5, False)\n", False),
])  # fmt: skip
def test_numbers_are_compared(want, got, agree):
    assert Numbers().check_output(want, got, doctest.ELLIPSIS) is agree


@pytest.mark.parametrize("name", [name for name in TEXTS if blocks(name, "python")])
def test_examples(name, tmp_path, monkeypatch):
    """The blocks of a page share their names, in order."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(Numbers(), verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    with np.printoptions():
        for line, block in blocks(name, "python"):
            test = doctest.DocTestParser().get_doctest(block, names, name, name, line)
            assert test.examples, f"{name}, line {line}: a python block without an example"
            test.globs = names  # get_doctest made a copy
            runner.run(test, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", [name for name in TEXTS if blocks(name, CELL)])
def test_cells(name, tmp_path, monkeypatch):
    """The cells of a page that is a notebook share their names, in order."""
    monkeypatch.chdir(ROOT / "docs")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, Any] = {"__name__": "__main__", "__file__": name}
    for line, block in blocks(name, CELL):
        code = compile("\n" * line + re.sub(r"^:.*\n", "", block, flags=re.MULTILINE), name, "exec")
        try:
            exec(code, names)
        except ModuleNotFoundError as error:
            pytest.skip(f"{error.name} is not installed")


def test_examples_are_found():
    assert {"README.md", "docs/quickstart.md", "docs/your-own-loss.md", "docs/conventions.md"} <= {
        name for name in TEXTS if blocks(name, "python")
    }


# Links, commands, generated parts ---------------------------------------------------------------------------------------------


def anchors(name: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(name: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(name))


def is_written_with_the_site(file: str) -> bool:
    """Whether docs/pages.py writes this file of docs/."""
    folder, _, rest = file.rpartition("/")
    stem = rest.partition(".")[0]
    if folder == "losses":
        return stem in jitloss.LOSSES
    return file in ("gallery.md", "api.md") or (folder == "pictures" and stem in {*generator("figures").GALLERY, "rooms"})


@pytest.mark.parametrize("name", TEXTS)
def test_links(name):
    for link in links(name):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / file).resolve() if file else ROOT / name
        if is_written_with_the_site(target.relative_to(ROOT / "docs").as_posix() if target.is_relative_to(ROOT / "docs") else ""):
            continue
        assert target.exists(), f"{name}: {link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{name}: {link} leaves the repository"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT).as_posix()), f"{name}: {link}: no such heading"


def test_every_page_is_reached():
    reached = {(ROOT / name).parent.joinpath(link).resolve() for name in ("README.md", "docs/index.md") for link in links(name)}
    assert not [page for page in PAGES if page not in reached and page.name not in ("README.md", "index.md")]


def test_generated_parts_are_current():
    generate = generator()
    stale = [
        page.name for page in PAGES if generate.filled(page, page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")
    ]
    assert not stale, f"run python docs/generate.py: {', '.join(stale)}"
    everywhere = "".join(TEXTS.values())
    assert not [part for part in generate.PARTS if f"<!-- {part}:begin -->" not in everywhere]


def test_markers_come_in_pairs():
    for name, text in TEXTS.items():
        begins, ends = (re.findall(rf"<!-- (\w+):{word} -->", text) for word in ("begin", "end"))
        assert begins == ends, name


def test_a_stale_page_is_found(tmp_path, monkeypatch, capsys):
    generate = generator()
    page = tmp_path / "README.md"
    page.write_text("<!-- losses:begin -->\nold\n<!-- losses:end -->\n", encoding="utf-8")
    for name, value in {"ROOT": tmp_path, "DOCS": tmp_path, "FORMULAS": tmp_path / "conventions.md"}.items():
        monkeypatch.setattr(generate, name, value)
    assert generate.main(["--check"]) == 1
    assert "README.md" in capsys.readouterr().out
    assert "old" in page.read_text(encoding="utf-8")
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert "mse_loss" in page.read_text(encoding="utf-8")


def test_commands_of_the_readme_are_those_of_ci():
    given = [line for _, block in blocks("README.md", "bash") for line in block.splitlines()]
    assert given == ["pip install '.[demo]'", "jitloss demo", "pip install '.[test]'", "pytest"]
    ci = [line.strip().replace("pip install -q", "pip install") for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert [line for line in ci if line in given[2:]] == given[2:]
    assert any(line.startswith("jitloss demo") for line in ci)


def commands() -> list[str]:
    """The commands of jitloss that the pages name, in their prose and in their blocks."""
    spans = [span for name in TEXTS for span in re.findall(r"`([^`]+)`", prose(name))]
    lines = [line for name in TEXTS for _, block in blocks(name, "bash") for line in block.splitlines()]
    return sorted({found[1] for one in spans + lines if (found := re.match(r"jitloss ([a-z]+)\b", one))})


def test_commands_are_found():
    assert {"demo", "evaluate", "info", "warmup", "bench"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_commands_exist(command, capsys):
    from jitloss import cli

    assert cli.main([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_no_path_of_a_machine():
    for name, text in TEXTS.items():
        assert not re.search(r"(?<![\w.])/(tmp|work|home|root|Users)/", text), name


# What the page of conventions says of other libraries -------------------------------------------------------------------------


def equivalences(title: str) -> list[tuple[str, str]]:
    """The rows of the table under a heading: their call, ours."""
    section = re.search(rf"^### {title}\n(.*?)(?=^##)", TEXTS["docs/conventions.md"], re.MULTILINE | re.DOTALL)
    assert section is not None, title
    return re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", section[1], re.MULTILINE)


def arrays() -> dict[str, np.ndarray]:
    """The arrays that the tables name."""
    losses = jitloss.LOSSES
    p, t = draw(Case(losses["mse_loss"]), (33,))
    rates, counts = draw(Case(losses["poisson_nll_loss"]), (33,))
    z, labels = draw(Case(losses["cross_entropy_with_logits"], labels=True), (33, 7))
    q, soft = draw(Case(losses["kl_divergence"]), (33, 7))
    u, y = draw(Case(losses["binary_cross_entropy"]), (33,))
    x, _ = draw(Case(losses["binary_cross_entropy_with_logits"]), (33,))
    maps, masks = draw(Case(losses["cross_entropy_with_logits"], labels=True), (4, 7, 3, 5), axis=1)
    a, b, c = draw(Case(losses["triplet_loss"]), (33, 7))
    _, side = draw(Case(losses["hinge_loss"]), (33,))
    rows = soft + 0.01
    return {
        "p": p, "t": t, "rates": rates, "counts": counts, "z": z, "labels": labels, "q": q, "soft": rows / rows.sum(-1, keepdims=True),
        "u": u, "y": np.round(y), "x": x, "maps": maps, "masks": masks, "a": a, "b": b, "c": c, "side": side,
        "s": weights((33,)), "w": np.linspace(0.25, 2.0, 7),
    }  # fmt: skip


def check(theirs: str, ours: str, namespace: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = float(eval(theirs, namespace))
    got = eval(ours, {**jitloss.LOSSES, **arrays()})
    assert isinstance(got, float)
    assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12), f"{theirs} is {want}, {ours} is {got}"


@pytest.mark.parametrize(("theirs", "ours"), equivalences("PyTorch"))
def test_pytorch(theirs, ours):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(array) for name, array in arrays().items()}
    check(theirs, ours, {"torch": torch, "F": torch.nn.functional, **tensors})


@pytest.mark.parametrize(("theirs", "ours"), equivalences("optax"))
def test_optax(theirs, ours):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        check(
            theirs, ours, {"jnp": jax.numpy, "optax": optax, **{name: jax.numpy.asarray(one) for name, one in arrays().items()}}
        )


@pytest.mark.parametrize(("theirs", "ours"), equivalences("scikit-learn"))
def test_sklearn(theirs, ours):
    metrics = pytest.importorskip("sklearn.metrics")
    check(theirs, ours, {"metrics": metrics, **arrays()})


def test_the_tables_have_rows():
    tables = [equivalences(title) for title in ("PyTorch", "optax", "scikit-learn")]
    assert all(len(rows) >= 5 for rows in tables)
    named = {name for _, ours in itertools.chain(*tables) for name in re.findall(r"\w+(?=\()", ours)}
    assert named <= set(jitloss.LOSSES)
