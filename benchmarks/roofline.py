"""Draw docs/roofline.png: every loss on one core, in the L2 cache, in the last-level cache and in memory.

python benchmarks/roofline.py                    measure and draw, about a minute on a quiet machine
python benchmarks/roofline.py --output FILE      draw somewhere else
python benchmarks/roofline.py --quick            small arrays: only to see that it runs

x is the arithmetic intensity of a loss: floating-point operations over the bytes that must be moved (inputs and gradients). The
operations are counted in the compiled kernel: its optimised LLVM IR is run with a counter in every block, where additions,
multiplications, divisions and roots count one, fused multiply-adds two, and comparisons, conversions and bit operations nothing.
y is operations per second of the kernel alone, without the public call, with the faster kind of stores. The slanted roofs are copies
of the same sizes, the flat one is a loop of fused multiply-adds; all are measured.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jitloss
from jitloss.bench.progress import progress
from jitloss.bench.roofline import LEVELS, Level, Point, points
from jitloss.bench.roofs import copied_bytes_per_second, operations_per_second

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "roofline.png"
COLOURS = ("#1f6feb", "#2da44e", "#d1495b")
INK, FAINT, PALE = "#24292f", "#57606a", "#d8dee4"


def draw(measured: Sequence[Point], bandwidths: dict[Level, float], peak: float, file: Path) -> None:
    """One panel per level; losses are numbered, with a key below."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.loss for one in measured))
    figure = Figure(figsize=(15, 7.4), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(wspace=0.03)
    panels, key = figure.subplots(2, len(bandwidths), height_ratios=[5.2, 1.1], sharex="row", sharey="row")
    low, high = 0.7 * min(one.intensity for one in measured), 1.6 * max(one.intensity for one in measured)
    bottom = 0.5 * min(one.operations / one.seconds for one in measured)
    for axes, (level, bandwidth), colour in zip(panels, bandwidths.items(), COLOURS, strict=False):
        for other, other_colour in zip(bandwidths, COLOURS, strict=False):
            _roof(axes, bandwidths[other], peak, (low, high), other_colour, other == level)
        _points(axes, [one for one in measured if one.level == level], colour)
        axes.set_title(
            f"{level.name}: {_size(level.size)}, {bandwidth / 1e9:.0f} GB/s", loc="left", color=colour, fontweight="bold"
        )
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(bottom, 1.6 * peak))
        axes.set_xlabel("operations a byte", color=FAINT)
        axes.grid(color=PALE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.tick_params(which="both", length=0, labelcolor=FAINT)
        ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16) if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("operations a second, one core", color=FAINT)
    ticks = [tick for tick in (1e9, 2e9, 5e9, 1e10, 2e10, 5e10, 1e11, 2e11, 5e11) if bottom <= tick <= 1.6 * peak]
    panels[0].set_yticks(ticks, [f"{tick / 1e9:g} G" for tick in ticks])
    panels[0].set_yticks([], minor=True)
    _key(key, names)
    figure.draw_without_rendering()
    for axes, level in zip(panels, bandwidths, strict=False):
        _numbers(axes, [one for one in measured if one.level == level], names)
    figure.savefig(file, dpi=130, metadata={"Software": None})


def _roof(axes: Any, bandwidth: float, peak: float, ends: tuple[float, float], colour: str, mine: bool) -> None:
    ridge = min(peak / bandwidth, ends[1])
    xs = [ends[0], ridge, ends[1]]
    style = {"linewidth": 2.4} if mine else {"linewidth": 1, "alpha": 0.45, "linestyle": (0, (4, 3))}
    axes.plot(xs, [min(peak, bandwidth * x) for x in xs], color=colour, **style, zorder=2)
    if mine:
        axes.annotate(
            f"{peak / 1e9:.0f} G fused multiply-adds", (ends[0] * 1.1, peak), (0, 4), textcoords="offset points", color=FAINT
        )
        axes.axhline(peak, color=PALE, linewidth=1.2, zorder=1)


def _points(axes: Any, measured: Sequence[Point], colour: str) -> None:
    xs, ys = zip(*((one.intensity, one.operations / one.seconds) for one in measured), strict=True)
    axes.plot(xs, ys, "o", color=colour, markersize=6.5, markeredgecolor="white", markeredgewidth=0.8, zorder=4)


SIDES = [
    (x, y)
    for far in (8, 15, 23)
    for x, y in ((far, 0), (-far, 0), (0, far), (0, -far), (far, far), (-far, far), (far, -far), (-far, -far))
]
"""Positions for the number of a dot, in points from it; the first free one is used."""


def _numbers(axes: Any, measured: Sequence[Point], names: list[str]) -> None:
    """Draw the numbers of the losses beside their dots, after the layout of the panel."""
    to_points = 72 / axes.figure.dpi
    dots = {one: axes.transData.transform((one.intensity, one.operations / one.seconds)) * to_points for one in measured}
    taken = [tuple(dot) for dot in dots.values()]
    for one, (x, y) in sorted(dots.items(), key=lambda item: tuple(item[1])):
        shift = next(
            (to for to in SIDES if all(abs(x + to[0] - a) > 12 or abs(y + to[1] - b) > 9 for a, b in taken if (a, b) != (x, y))),
            SIDES[0],
        )
        taken.append((x + shift[0], y + shift[1]))
        axes.annotate(
            str(names.index(one.loss) + 1), (one.intensity, one.operations / one.seconds), shift, textcoords="offset points",
            fontsize=8.5, color=INK, ha="center", va="center", zorder=5,
        )  # fmt: skip


def _key(key: Sequence[Any], names: list[str]) -> None:
    """Draw the key, numbers and names of the losses, in the row of empty panels below."""
    each = -(-len(names) // len(key))
    for column, axes in enumerate(key):
        axes.axis("off")
        for place, name in enumerate(names[column * each : (column + 1) * each]):
            text = f"{column * each + place + 1}  {name}"
            half, rows = divmod(place, -(-each // 2))
            axes.text(0.02 + 0.52 * half, 0.95 - 0.27 * rows, text, transform=axes.transAxes, fontsize=9.5, color=INK, va="top")


def _size(size: int) -> str:
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"


def table(measured: Sequence[Point], bandwidths: dict[Level, float], peak: float) -> None:
    print(f"one core: {peak / 1e9:.0f} G operations a second;", end=" ")
    print(", ".join(f"{level.name} ({_size(level.size)}) {rate / 1e9:.1f} GB/s" for level, rate in bandwidths.items()))
    levels = list(bandwidths)
    print(f"{'loss':34}{'operations':>11}{'bytes':>7}", *(f"{f'ns, {level.name}':>21}" for level in levels))
    for first in (one for one in measured if one.level == levels[0]):
        times = [one.seconds for one in measured if one.loss == first.loss]
        print(f"{first.loss:34}{first.operations:11.1f}{first.bytes:7.1f}", *(f"{1e9 * seconds:21.3f}" for seconds in times))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PICTURE, help="the picture (default: docs/roofline.png)")
    parser.add_argument("--quick", action="store_true", help="small arrays instead of the levels' sizes")
    arguments = parser.parse_args(argv)
    if arguments.quick and arguments.output == PICTURE:
        parser.error("--quick draws nothing for the docs: give --output")
    levels = [replace(level, size=level.size // 64) for level in LEVELS] if arguments.quick else LEVELS
    with progress(1 + len(jitloss.LOSSES)) as step:
        step("roofs")
        peak, bandwidths = operations_per_second(), {level: copied_bytes_per_second(level.size) for level in levels}
        measured = list(points(levels, step))
    table(measured, bandwidths, peak)
    draw(measured, bandwidths, peak, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
