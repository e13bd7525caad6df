"""Measure jitloss against NumPy, PyTorch, JAX and a plain copy; with ``--write``, bring README.md and docs/ up to date.

python benchmarks/compare.py --quick           a look: smaller arrays, few rounds
python benchmarks/compare.py --write           the whole table, some minutes on a quiet machine
python benchmarks/compare.py l1_loss:1000000   anything else
"""

import argparse
import sys
from pathlib import Path

from jitloss import bench
from jitloss.bench.pages import Measured

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": False, "docs/performance.md": True}  # whether the page shows the figures to reach
CHART = ROOT / "docs" / "compare.png"

_MEMORY = {"NumPy": 6, "PyTorch": 5, "JAX": 3, "copy": 1.6}
_LONG_ROWS = {"NumPy": 5, "PyTorch": 8, "JAX": 4, "copy": 2, "np.copyto": 1.2}
TARGETS = {
    ("mse_loss 10M", "out="): _MEMORY,
    ("huber_loss 10M", "out="): _MEMORY,
    ("binary_cross_entropy_with_logits 10M", "out="): {"NumPy": 20, "PyTorch": 10, "JAX": 6, "copy": 2},
    ("cross_entropy_with_logits 8192×1000", "out="): {"NumPy": 4.5, "PyTorch": 3.5, "JAX": 4, "copy": 2.8},
    ("cross_entropy_with_logits 1024×32000", "out="): _LONG_ROWS,
    ("cross_entropy_with_logits 256×128256", "out="): _LONG_ROWS,
    ("cross_entropy_with_logits 65536×10", "out="): {"NumPy": 6, "PyTorch": 8, "JAX": 2.5},
    ("cross_entropy_with_logits 32×10", "new array"): {"NumPy": 6, "PyTorch": 10, "JAX": 6, "jitloss": 4e-6},
    ("start", ""): {"cold": 0.4, "cached": 0.03, "import": 0.03},
}
"""The targets on 2 cores: at least so many times as fast as a library, at most so many times a copy, or at most so many seconds.

They were set for a gradient that goes into an array that is there, as the copy's does; for 32×10, for the whole public call.
"""


def write(report: bench.Report) -> None:
    draw(report, CHART)
    for name, goals in PAGES.items():
        page = Measured(ROOT / name, "compare")
        picture = CHART.relative_to(page.page.parent).as_posix()
        chart = f"![How many times as long as jitloss NumPy, PyTorch and JAX take]({picture})"
        page.fill(f"{chart}\n\n{bench.markdown(report, TARGETS if goals else None)}")


COLOURS = {"NumPy": "#4c78a8", "PyTorch": "#e45756", "JAX": "#72a98f"}
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)


def draw(report: bench.Report, file: Path) -> None:
    """Bars in groups, one group per work: how many times as long as jitloss the others take, paler where jitloss has ``out=``."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(9, 1.4 + 0.8 * len(report.rows)), layout="constrained")
    axes, height, ends = figure.subplots(), 0.8 / len(COLOURS), [1.0]
    for group, row in enumerate(report.rows):
        for position, (name, colour) in enumerate(COLOURS.items()):
            allocating = row.ratios[bench.NEW].get(name)
            if allocating is None:
                continue
            place, reusing = group + (position - 1) * height, row.ratios.get(bench.OUT, {}).get(name, 0)
            texts = [f"{ratio:.{1 if ratio < 10 else 0}f}" for ratio in (allocating, reusing) if ratio]
            far = max(allocating, reusing)
            if far > allocating:
                axes.barh(place, far - 1, height * 0.9, left=1, color=colour, alpha=0.4)
            axes.barh(place, allocating - 1, height * 0.9, left=1, color=colour)
            text = " – ".join(dict.fromkeys(texts)) + "×"
            axes.annotate(
                text, (max(far, 1), place), (4, 0), textcoords="offset points", va="center", fontsize=8, color="#333333"
            )
            ends += [allocating, far]
    low, high = min(ends) * 0.97, max(ends) * 1.35
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(report.rows)), [row.work.title.replace(" ", "\n") for row in report.rows], fontsize=9)
    axes.set_ylim(len(report.rows) - 0.4, -0.6)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(
        "their time for value and gradient, jitloss = 1 (log scale)\npaler: jitloss writes its gradient into an existing array"
    )
    measured = {name for row in report.rows for name in row.ratios[bench.NEW]}
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items() if name in measured]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(COLOURS), frameon=False)
    figure.savefig(file, dpi=160)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bench.add_arguments(parser)
    parser.add_argument("--write", action="store_true", help="rewrite the measured part of README.md and of docs/, and the chart")
    arguments = parser.parse_args(argv)
    try:
        for name in PAGES if arguments.write else ():
            Measured(ROOT / name, "compare").parts()  # said now, not after minutes of measuring
        if arguments.write and (arguments.quick or arguments.works):
            raise ValueError("--write is for the whole table: without --quick and without works")
        report = bench.command(arguments, TARGETS)
    except ValueError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    if arguments.write:
        write(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
