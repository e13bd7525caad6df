"""The table of limits: measured, shown on the terminal, as JSON and as Markdown."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..progress import progress
from ..report import check_arguments, coloured, digits, machine, machine_line, times
from .row import GROUPS, Goal, Row
from .rows import chosen

__all__ = ["Report", "add_arguments", "command", "markdown"]

HEADINGS = ("work", "against", "measured", "goal", "")
CAPTION = (
    "Figures with ≤ are our time over theirs, with ≥ theirs over ours, each the median over the rounds of a ratio taken within a "
    "round; ours writes its gradient into an array that is there. copy is a parallel kernel that moves the same bytes, with plain "
    "or streaming stores, whichever is faster."
)


@dataclass(frozen=True)
class Report:
    figures: Mapping[Row, Mapping[str, float]]
    machine: Mapping[str, str]

    def to_json(self) -> str:
        rows = [
            {
                "group": row.group,
                "name": row.name,
                "unit": GROUPS[row.group].unit,
                "goals": [_json(one, found) for one in row.goals],
            }
            for row, found in self.figures.items()
        ]
        return json.dumps({"rows": rows, "machine": dict(self.machine)}, indent=2, ensure_ascii=False) + "\n"

    def missed(self) -> int:
        return sum(not goal.reached(found[goal.against]) for _, goal, found in self._measured())

    def count(self) -> int:
        return sum(1 for _ in self._measured())

    def _measured(self) -> Iterator[tuple[Row, Goal, Mapping[str, float]]]:
        for row, found in self.figures.items():
            for goal in row.goals:
                if goal.against in found:
                    yield row, goal, found

    def note(self) -> str:
        return f"{self.count() - self.missed()} of {self.count()} goals reached."


def _json(goal: Goal, found: Mapping[str, float]) -> dict[str, object]:
    figure = found.get(goal.against)
    reached = None if figure is None else goal.reached(figure)
    return {"against": goal.against, "limit": goal.limit, "at least": goal.at_least, "measured": figure, "reached": reached}


def run(rows: Sequence[Row], quick: bool, rounds: int) -> Report:
    """Measure the rows one after the other."""
    rounds = rounds or (1 if quick else 15)
    about = machine()
    with progress(len(rows)) as step:
        figures = {}
        for row in rows:
            step(row.name)
            figures[row] = row.figures(quick, rounds)
    return Report(figures, about)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a group, or a part of the rows' names")
    parser.add_argument("--quick", action="store_true", help="small arrays and one round: does it run? The figures say nothing")
    parser.add_argument("--rounds", type=int, default=0, help="rounds per row (default: 15, quick: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to FILE too")


def command(arguments: argparse.Namespace) -> Report:
    """Measure and show what the arguments of :func:`add_arguments` select; ``ValueError`` where they are invalid."""
    rows = chosen(arguments.only)
    check_arguments(arguments)
    report = run(rows, arguments.quick, arguments.rounds)
    show(report)
    if arguments.json:
        arguments.json.write_text(report.to_json(), encoding="utf-8")
    return report


# Showing ----------------------------------------------------------------------------------------------------------------------


def _figure(figure: float, unit: str) -> str:
    return times(figure) if unit == "×" else f"{digits(figure)} {unit}"


def lines(report: Report) -> Iterator[tuple[str, list[str]]]:
    """The group of each line, and its cells: one line per goal, with the work's name on the first of its lines."""
    for row, found in report.figures.items():
        unit = GROUPS[row.group].unit
        for position, goal in enumerate(row.goals):
            measured = _figure(found[goal.against], unit) if goal.against in found else "–"
            mark = ("✓" if goal.reached(found[goal.against]) else "✗") if goal.against in found else ""
            limit = f"{'≥' if goal.at_least else '≤'} {goal.limit:g}{'' if unit == '×' else f' {unit}'}"
            yield row.group, ["" if position else row.name, goal.against, measured, limit, mark]


def show(report: Report) -> None:
    """Print to the terminal: a rich table where rich is installed, else plain columns."""
    notes = [report.note(), machine_line(report.machine)]
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for _, line in lines(report):
            print(*line, sep="  ")
        print(*notes, sep="\n")
        return
    console = Console() if sys.stdout.isatty() else Console(width=150)
    table, before = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0)), ""
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if position in (2, 3) else "left")
    for group, (name, *cells) in lines(report):
        if group != before:
            table.add_row(f"[bold]{GROUPS[group].title}[/bold]")
            before = group
        table.add_row(name, *map(coloured, cells))
    console.print(table)
    for note in (CAPTION, "", *notes):
        console.print(note, highlight=False)


def markdown(report: Report) -> str:
    """The same for a page, with what was measured and on which machine."""
    text, before = [], ""
    for group, line in lines(report):
        if group != before:
            text += [f"\n**{GROUPS[group].title}**\n", f"| {' | '.join(HEADINGS)} |", "| --- | --- | ---: | ---: | --- |"]
            before = group
        text.append(f"| {' | '.join(line)} |")
    return "\n".join([f"{report.note()} {CAPTION}", *text, "", f"Measured here: {machine_line(report.machine)}.", ""])
