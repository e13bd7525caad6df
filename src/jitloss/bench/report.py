"""The table of ``jitloss bench``: measured, and shown on the terminal, as JSON and as Markdown."""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numba

import jitloss

from ..compilers.cpu.repeat import vector_bytes
from .measure import NEW, Row, measure
from .progress import progress
from .startup import STARTS, first_calls, import_seconds
from .work import WORKS, Work

__all__ = [
    "Report",
    "about",
    "add_arguments",
    "check_arguments",
    "coloured",
    "command",
    "digits",
    "duration",
    "machine",
    "machine_line",
    "markdown",
    "reached",
    "run",
    "show",
    "simd_bits",
    "versions",
]

Targets = Mapping[tuple[str, str], Mapping[str, float]]
"""Target figures: by the work's title and the kind of call, then by column."""

_AT_LEAST = ("NumPy", "PyTorch", "JAX")
_AT_MOST = ("copy", "np.copyto")
HEADINGS = ("value and gradient, float32", "gradient in", "jitloss", *_AT_LEAST, *_AT_MOST)
CAPTION = (
    "NumPy, PyTorch, JAX: their time in units of ours. copy, np.copyto: our time in units of theirs; copy is a parallel kernel "
    "that reads the same inputs and writes as much as the gradient, np.copyto copies the logits. Gradients are new arrays "
    "in every call, each dropped before the next one is computed; copies write into an array that is there."
)
STARTUP = ("start", "")
"""The key of the targets for first calls and the import."""


@dataclass(frozen=True)
class Report:
    """Rows of the table; seconds of first calls (by kind and loss) and of the import; the machine."""

    rows: list[Row]
    first: dict[str, dict[str, float]]
    importing: float
    machine: dict[str, str]

    def to_json(self) -> str:
        rows = [{"title": row.work.title, **asdict(row)} for row in self.rows]
        return json.dumps({**asdict(self), "rows": rows}, indent=2) + "\n"


def versions(libraries: Sequence[str] = ("numpy", "numba", "llvmlite", "torch", "jax")) -> dict[str, str]:
    """The versions of Python, of this library, and of those of the others that are installed."""
    found = {"Python": platform.python_version(), "jitloss": jitloss.__version__}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "threads": f"{numba.get_num_threads()} of {os.cpu_count()}",
        "SIMD": f"{simd_bits()} bits",
        "versions": ", ".join(map(" ".join, versions().items())),
        "load before": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
        "date": datetime.date.today().isoformat(),
    }


def about() -> str:
    """The same on one line, for the end of a table."""
    return ", ".join(f"{name} {text}" for name, text in machine().items())


def simd_bits() -> int:
    """The width of the processor's vectors."""
    return 8 * vector_bytes()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# Running ----------------------------------------------------------------------------------------------------------------------


def run(works: Sequence[Work] = WORKS, quick: bool = False, rounds: int = 0) -> Report:
    """Measure everything."""
    rounds = rounds or (3 if quick else 15)
    works = [work.quickly() for work in works] if quick else works
    losses = list(dict.fromkeys(work.loss for work in works)) if quick else list(jitloss.LOSSES)
    about, starts = machine(), 1 if quick else STARTS
    with progress(len(works) * (rounds + 1) + 2 * starts + 1) as step:
        rows = [measure(work, rounds, step) for work in works]
        first = first_calls(losses, step, starts)
        importing = import_seconds(3 if quick else 7, step)
    return Report(rows, first, importing, about)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    wanted = "what to measure, e.g. l1_loss:1000000 kl_divergence:4096x100; default: the README's table"
    parser.add_argument("works", nargs="*", metavar="LOSS[:SHAPE]", help=wanted)
    parser.add_argument("--quick", action="store_true", help="smaller arrays and few rounds")
    parser.add_argument("--rounds", type=int, default=0, help="rounds per row (default: 15, quick: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to FILE too")


def command(arguments: argparse.Namespace, targets: Targets | None = None) -> Report:
    """Measure and show what the arguments of :func:`add_arguments` select; ``ValueError`` where they are invalid."""
    works = tuple(Work.parse(text) for text in arguments.works) or WORKS
    check_arguments(arguments)
    report = run(works, arguments.quick, arguments.rounds)
    show(report, targets)
    if arguments.json:
        arguments.json.write_text(report.to_json(), encoding="utf-8")
    return report


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ``ValueError`` for invalid rounds and files now, not after minutes of measuring."""
    if arguments.rounds < 0:
        raise ValueError(f"--rounds must not be negative, got {arguments.rounds}")
    file = arguments.json
    if file and not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise ValueError(f"--json {file}: there is no folder {str(file.parent)!r} that can be written to")


# Showing ----------------------------------------------------------------------------------------------------------------------


def reached(figure: float, limit: float, at_least: bool) -> bool:
    return figure >= limit if at_least else figure <= limit


def duration(seconds: float) -> str:
    unit, scale = ("s", 1.0) if seconds >= 1.0 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    return f"{seconds * scale:.3g} {unit}"


def digits(figure: float) -> str:
    """A figure with three significant digits, or all those before the point."""
    return f"{figure:.{2 if abs(figure) < 10 else 1 if abs(figure) < 100 else 0}f}"


def times(ratio: float) -> str:
    return f"{digits(ratio)}×"


def _mark(text: str, column: str, figure: float, targets: Mapping[str, float]) -> str:
    """``5.2×``, followed by the target figure, where there is one."""
    limit = targets.get(column)
    if limit is None:
        return text
    at_least, number = column in _AT_LEAST, duration(limit) if column in ("jitloss", *_STARTUP) else f"{limit:g}"
    return f"{text} {'✓' if reached(figure, limit, at_least) else '✗'} {'≥' if at_least else '≤'} {number}"


def lines(row: Row, targets: Targets | None = None) -> Iterator[list[str]]:
    """The lines of one row, one for each kind of call: what, where the gradient goes, our time, then a figure per column."""
    for kind, ratios in row.ratios.items():
        wanted = (targets or {}).get((row.work.title, kind), {})
        time = _mark(duration(row.seconds[kind]), "jitloss", row.seconds[kind], wanted)
        figures = (_mark(times(ratios[name]), name, ratios[name], wanted) if name in ratios else "–" for name in HEADINGS[3:])
        yield [row.work.title if kind == NEW else "", kind, time, *figures]


_STARTUP = {
    "cold": "first call of a loss, compiled",
    "cached": "first call of a loss, from the disk cache",
    "import": "import jitloss, over import numba",
}


def startup_lines(report: Report, targets: Targets | None = None) -> list[str]:
    """First calls, with the slowest loss, and the import."""
    wanted, notes = (targets or {}).get(STARTUP, {}), []
    for kind, seconds in report.first.items():
        slowest = max(seconds, key=seconds.__getitem__)
        worst = _mark(duration(seconds[slowest]), kind, seconds[slowest], wanted)
        notes.append(f"{_STARTUP[kind]}: median {duration(statistics.median(seconds.values()))}, slowest {worst} ({slowest})")
    notes.append(f"{_STARTUP['import']}: {_mark(duration(report.importing), 'import', report.importing, wanted)}")
    return notes


def machine_line(about: Mapping[str, str]) -> str:
    """The result of :func:`machine`, as a line below a table."""
    return "; ".join(f"{name}: {value}" for name, value in about.items())


def show(report: Report, targets: Targets | None = None) -> None:
    """Print to the terminal: a rich table where rich is installed, else plain columns."""
    body = [line for row in report.rows for line in lines(row, targets)]
    notes = [*startup_lines(report, targets), machine_line(report.machine)]
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _show_plain(body, notes)
        return
    console = Console() if sys.stdout.isatty() else Console(width=150)
    table, narrow = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0)), console.width < 110
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if position > 1 else "left", min_width=0 if position or narrow else 32)
    for title, *line in body:
        table.add_row(title, *(coloured(cell) for cell in line))
    console.print(table)
    for note in (CAPTION, "", *notes):
        console.print(coloured(note), highlight=False)


def coloured(text: str) -> str:
    """The marks of target figures in colour, in rich's markup."""
    return text.replace("✓", "[green]✓[/green]").replace("✗", "[red]✗[/red]")


def _show_plain(body: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    widths = [max(map(len, column)) for column in zip(HEADINGS, *body, strict=True)]
    for title, *line in (HEADINGS, *body):
        print(title.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line, widths[1:], strict=True)), sep="  ")
    print("", CAPTION, *notes, sep="\n")


def markdown(report: Report, targets: Targets | None = None) -> str:
    """The same for a page, with what was measured and on which machine."""
    body = [line for row in report.rows for line in lines(row, targets)]
    rule = ["---", "---", *["---:"] * (len(HEADINGS) - 2)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (HEADINGS, rule, *body))
    notes = "\n".join(f"* {line}" for line in startup_lines(report, targets))
    return f"{table}\n\n{CAPTION}\n\n{notes}\n\nMeasured here: {machine_line(report.machine)}.\n"
