"""Fill the generated parts of README.md and of the pages in docs/ from the library itself.

python docs/generate.py              rewrite what is out of date
python docs/generate.py --check      list pages that are out of date, and exit with 1 if there are any
python docs/generate.py --pictures   draw docs/losses.png too (needs matplotlib)

A part lies between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``, where NAME is in :data:`PARTS`.
"""

import argparse
import ast
import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import jitloss
from jitloss import spaces as annotations
from jitloss.definition import Definition, Input, Parameter, Range, Space
from jitloss.documentation import entries, sections
from jitloss.options import DEFAULTS, option_names

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FORMULAS = DOCS / "conventions.md"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


# Docstrings as Markdown -------------------------------------------------------------------------------------------------------


def summary(doc: str) -> str:
    return inline(" ".join(inspect.cleandoc(doc).split("\n\n")[0].split()))


_ESCAPES = {r"\\": r"\cr", r"\{": r"\lbrace ", r"\}": r"\rbrace ", r"\|": r"\Vert ", r"\,": r"\thinspace ", r"\;": " ", r"\!": ""}


def tex(formula: str) -> str:
    """A formula without the sequences that Markdown would treat as escapes."""
    return re.sub(r"\\[^a-zA-Z]", lambda found: _ESCAPES.get(found[0], found[0]), formula)


def inline(text: str) -> str:
    """Roles, literals, references and footnotes of reStructuredText as Markdown."""
    text = re.sub(r":math:`([^`]+)`", lambda found: f"${tex(found[1]).strip()}$", text)
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"`([^`<]+) <([^>]+)>`_+", r"[\1](\2)", text)
    text = re.sub(r"\barXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"\[(\d+)\]_", r"[\1]", text)


_MATH = re.compile(r"^\.\. math::[ \t]*(.*)\n?((?:[ \t]+\S.*\n?|[ \t]*\n)*)", re.MULTILINE)


def markdown(text: str) -> str:
    """The text of a docstring: formulas in ``$$``, paragraphs on one line each, references as a list."""
    blocks: list[str] = []

    def keep(found: re.Match[str]) -> str:
        formulas = re.split(r"\n\s*\n", f"{found[1]}\n{found[2]}".strip())
        blocks.extend("\n".join(["$$", *(tex(line.strip()) for line in one.splitlines()), "$$"]) for one in formulas)
        return "".join(f"\n\n\0{index}\n\n" for index in range(len(blocks) - len(formulas), len(blocks)))

    text = inline(_MATH.sub(keep, text + "\n"))
    text = re.sub(r"^\.\. \[(\d+)\]\s+", r"\n\n[\1] ", text, flags=re.MULTILINE)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    return "\n\n".join(blocks[int(part[1:])] if part.startswith("\0") else part for part in paragraphs)


def described(doc: str) -> dict[str, str]:
    """The description of each parameter, from the section of parameters."""
    found = entries(sections(doc).get("Parameters", ""))
    return {name: inline(" ".join(text.split())) for name, (_, text) in found.items()}


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is the header."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def cell(text: str) -> str:
    return text.replace("|", "\\|")


# The parts --------------------------------------------------------------------------------------------------------------------


def call(definition: Definition) -> str:
    """The loss with its inputs and its own parameters: ``huber_loss(predictions, targets, delta=1.0)``."""
    parts, star = [one.public for one in definition.inputs], False
    for one in sorted(definition.parameters, key=lambda one: one.keyword_only):
        if one.keyword_only and not star:
            parts.append("*")
            star = True
        parts.append(f"{one.name}={one.default!r}")
    return f"{definition.name}({', '.join(parts)})"


def _definitions() -> list[Definition]:
    return [loss.definition for loss in jitloss.LOSSES.values()]


def losses(page: Path) -> str:
    """Every loss with its arguments and one line."""
    to = "" if page == FORMULAS else f"{FORMULAS.relative_to(page.parent).as_posix()}"
    rows = ((f"[`{call(one)}`]({to}#{one.name})", cell(summary(one.doc or one.name))) for one in _definitions())
    return table(("loss", "what it is"), *rows)


def options(page: Path) -> str:
    """Which loss takes which option."""
    names = [name for name in DEFAULTS if any(name in option_names(one) for one in _definitions())]
    rows = []
    for one in _definitions():
        mine = option_names(one)
        own = ", ".join(f"`{each.name}`" for each in one.parameters)
        rows.append((f"`{one.name}`", *("✓" if name in mine else "" for name in names), own, "✓" if one.hessian else ""))
    defaults = (f"`{name}={DEFAULTS[name]!r}`".replace("'", '"') for name in names)
    return table(("loss", *defaults, "its own parameters", "`.value_gradient_hessian`"), *rows)


def formulas(page: Path) -> str:
    """A section for each loss, from its docstring: value and gradient, inputs, parameters."""
    return "\n\n".join(map(_section, _definitions()))


def _section(definition: Definition) -> str:
    parts, texts = sections(definition.doc), described(definition.doc)
    named = [*(_input(one, texts) for one in definition.inputs), *(_parameter(one, texts) for one in definition.parameters)]
    body = [f"### {definition.name}", f"`{call(definition)}`", markdown(parts[""]), "\n".join(named)]
    body += [markdown(parts[name]) for name in ("Notes", "References") if name in parts]
    return "\n\n".join(part for part in body if part)


def _input(one: Input, texts: dict[str, str]) -> str:
    shape = ", one number per row" if one.per_row else ""
    return f"* `{one.public}`: {texts.get(one.public) or one.space.description + shape}"


def _parameter(one: Parameter, texts: dict[str, str]) -> str:
    wanted = "True or False" if isinstance(one.default, bool) else one.range.description + (" or None" if one.optional else "")
    return f"* `{one.name}={one.default!r}`: {texts.get(one.name) or wanted}"


def functions(page: Path) -> str:
    """The functions that a definition may call and their error bounds, from the docstrings of jitloss.math."""
    rows = []
    for name, function in jitloss.math.FUNCTIONS.items():
        text = " ".join((function.__doc__ or "").split())
        found = re.search(r"(Exact|Correctly rounded|Within (.+) ulp)\.$", text)
        if found is None:
            raise ValueError(f"jitloss.math.{name}: the docstring does not end with an error bound")
        bound = f"{found[2]} ulp" if found[2] else found[1].lower()
        meaning = cell(inline(text[: found.start()].strip().rstrip(".")))
        rows.append((f"`{name}({', '.join(inspect.signature(function).parameters)})`", meaning, bound.replace("``", "")))
    return table(("function", "result", "error"), *rows)


def _constants(module: ModuleType) -> dict[str, str]:
    """The docstrings of the constants of a module."""
    body = ast.parse(inspect.getsource(module)).body
    found = {}
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split("\n\n")[0].split())
    return found


SIZES = (
    ("jitloss.running", "CHUNK"),
    ("jitloss.running", "FEWEST_INNER_ROWS"),
    ("jitloss.running", "SERIAL"),
    ("jitloss.order", "INNER_ROWS"),
    ("jitloss.compilers.cpu.helpers", "CALLS"),
    ("jitloss.compilers.cpu.helpers", "PATIENCE"),
    ("jitloss.compilers.cpu.helpers", "YIELD_EVERY"),
    ("jitloss.compilers.cpu.helpers", "WORTH_WAKING"),
    ("jitloss.compilers.cpu.helpers", "RECENT"),
    ("jitloss.compilers.cpu.helpers", "WAKE_AT_ONCE"),
    ("jitloss.buffers", "LARGE"),
    ("jitloss.buffers", "MOST_WAITING"),
    ("jitloss.buffers", "MOST_READY"),
    ("jitloss.stores", "TRIES"),
    ("jitloss.stores", "MOST_TRIES"),
    ("jitloss.compilers.cpu.pointwise", "TILE"),
    ("jitloss.compilers.cpu.turning", "SHORTEST_INNER"),
    ("jitloss.compilers.cpu.turning", "BLOCK_BYTES"),
    ("jitloss.compilers.cpu.short_rows", "LONGEST"),
    ("jitloss.compilers.cpu.short_rows", "BLOCKS_UP_TO"),
    ("jitloss.compilers.cpu.short_rows", "SHORTEST_PATCHED"),
    ("jitloss.compilers.cpu.repeat", "COLUMN"),
    ("jitloss.compilers.cpu.long_plan", "LONGEST_KEPT"),
    ("jitloss.compilers.cpu.long_plan", "BLOCK"),
    ("jitloss.compilers.cpu.long_parts", "STRIP"),
    ("jitloss.compilers.cpu.long_plan", "TILE"),
    ("jitloss.compilers.cpu.long_plan", "SLOPE_STRIP"),
    ("jitloss.compilers.cpu.long_rows", "AHEAD"),
    ("jitloss.compilers.cpu.long_plan", "NEAR"),
    ("jitloss.compilers.cpu.beside", "ROWS_AT_ONCE"),
    ("jitloss.compilers.cpu", "MOST_KEPT_TERMS"),
    ("jitloss.compilers.cpu.lane_plan", "LANES"),
    ("jitloss.compilers.cpu.lane_plan", "LONGEST_KEPT_LANES"),
    ("jitloss.compilers.cpu.lane_parts", "STRIPE"),
)


def sizes(page: Path) -> str:
    """The sizes that the loops use, from the source."""
    rows = []
    for path, name in SIZES:
        module = importlib.import_module(path)
        rows.append(
            (f"`{path.removeprefix('jitloss.')}.{name}`", str(getattr(module, name)), _constants(module)[name].rstrip("."))
        )
    return table(("name", "value", "meaning"), *rows)


def _annotations(kind: type) -> Iterator[tuple[str, Any]]:
    for name in vars(annotations):
        for extra in getattr(getattr(annotations, name), "__metadata__", ()):
            if isinstance(extra, kind):
                yield name, extra


def spaces(page: Path) -> str:
    """The annotations of inputs."""
    rows = ((f"`{name}`", space.description, "data" if space.target else "") for name, space in _annotations(Space))
    return table(("annotation", "the input holds", "a target?"), *rows)


def ranges(page: Path) -> str:
    """The annotations of parameters."""
    return table(("annotation", "the parameter is"), *((f"`{name}`", one.description) for name, one in _annotations(Range)))


PARTS: dict[str, Callable[[Path], str]] = {
    one.__name__: one for one in (losses, options, formulas, functions, sizes, spaces, ranges)
}
"""The text between the markers of that name, for a page."""


def filled(page: Path, text: str) -> str:
    """The text of a page with its generated parts up to date."""

    def fill(found: re.Match[str]) -> str:
        return f"<!-- {found[1]}:begin -->\n{PARTS[found[1]](page)}\n<!-- {found[1]}:end -->"

    return re.sub(rf"<!-- ({'|'.join(PARTS)}):begin -->.*?<!-- \1:end -->", fill, text, flags=re.DOTALL)


# Pictures ---------------------------------------------------------------------------------------------------------------------

INK, FAINT, PALE, GRID, VALUE, SLOPE = "#24292f", "#57606a", "#c9d1d9", "#eef1f4", "#1f6feb", "#d1495b"
COLUMNS, HIGHEST = 4, 4.5

SCENES: dict[str, tuple[Any, tuple[float, float]]] = {
    "real": (0.0, (-3.0, 3.0)),
    "binary": (1.0, (-4.0, 4.0)),
    "sign": (1.0, (-2.0, 3.0)),
    "count": (3.0, (-1.0, 2.2)),
    "parameter": (None, (-3.0, 3.0)),
}
"""The target of a curve and the limits of its axis, by the space of the target."""

SHOWN: dict[str, dict[str, Any]] = {
    "quantile_loss": {"quantile": 0.9},
    "l1_regularization": {"strength": 1.0},
    "l2_regularization": {"strength": 1.0},
    "elastic_net": {"strength": 1.0},
}
"""Parameters that are more instructive than the defaults."""


def pictures() -> None:
    """Draw value and gradient of each pointwise loss against its prediction, as the library computes them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = [loss for loss in jitloss.LOSSES.values() if loss.definition.form == "pointwise"]
    rows = -(-(len(shown) + 1) // COLUMNS)
    with mpl.rc_context({"font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": FAINT}):
        figure = Figure(figsize=(3.1 * COLUMNS, 2.45 * rows), layout="constrained", facecolor="white")
        figure.get_layout_engine().set(h_pad=0.09, w_pad=0.09, hspace=0.03, wspace=0.03)
        panels = figure.subplots(rows, COLUMNS).reshape(-1)
        for axes, loss in zip(panels, shown, strict=False):
            _panel(axes, loss)
        for axes in panels[len(shown) :]:
            axes.axis("off")
        handles = panels[0].get_lines()[-2:]
        panels[len(shown)].legend(handles, ["value", "gradient"], loc="center", frameon=False, fontsize=13, handlelength=2.4)
        figure.savefig(DOCS / "losses.png", dpi=140, metadata={"Software": None})


def _panel(axes: Any, loss: jitloss.Loss) -> None:
    definition = loss.definition
    first, given = definition.inputs[0], SHOWN.get(definition.name, {})
    target, (low, high) = SCENES[(definition.target or first).space.name]
    if first.space.name == "probability":
        low, high = 0.0, 1.0
    x = np.linspace(low, high, 1201)
    value, gradient = _curves(loss, x, target, given)
    axes.axhline(0.0, color=PALE, linewidth=1.2)
    axes.plot(x, value, color=VALUE, linewidth=2.2, solid_capstyle="round")
    jumps = np.where(np.abs(np.diff(gradient, append=gradient[-1])) > 0.5, np.nan, 0.0)
    axes.plot(x, gradient + jumps, color=SLOPE, linewidth=1.8, linestyle=(0, (4, 1.6)))
    both = np.clip(np.concatenate([value, gradient]), -HIGHEST, HIGHEST)
    margin = 0.06 * np.ptp(both)
    axes.set_ylim(both.min() - margin, both.max() + margin)
    axes.set_xlim(low, high)
    axes.set_title(definition.name, fontsize=10, fontweight="bold", loc="left", color=INK)
    words = [first.name, *([] if target is None else [f"target {target:g}"]), *(f"{name} {one:g}" for name, one in given.items())]
    axes.set_xlabel(", ".join(words), fontsize=9, labelpad=2)
    axes.tick_params(length=0, labelsize=8, labelcolor=FAINT)
    axes.spines[:].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _curves(loss: jitloss.Loss, x: np.ndarray, target: float | None, given: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Value and gradient at each ``x``; a penalty, which is a sum, is evaluated element by element."""
    if target is None:
        return np.array([loss([one], **given) for one in x]), loss.gradient(x, **given)
    value, gradient = loss.value_and_gradient(x, np.full_like(x, target), **given, reduction="none")
    return value, gradient


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is out of date")
    parser.add_argument("--pictures", action="store_true", help="draw docs/losses.png too")
    arguments = parser.parse_args(argv)
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        wanted = filled(page, text)
        if wanted != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not arguments.check:
                page.write_text(wanted, encoding="utf-8")
    if arguments.pictures:
        pictures()
    if arguments.check:
        print(f"out of date: {', '.join(stale)}; run python docs/generate.py" if stale else "generated pages are current")
        return bool(stale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
