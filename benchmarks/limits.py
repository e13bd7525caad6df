"""Measure how close jitloss is to its limits, every row with its goal; with ``--write``, bring docs/performance.md up to date.

python benchmarks/limits.py --write            all rows, some minutes on a quiet machine
python benchmarks/limits.py --only short       a group, or rows whose name holds a word; may be given several times
python benchmarks/limits.py --quick            small arrays, one round: only to see that it runs
"""

import argparse
import sys
from pathlib import Path

from jitloss.bench import limits
from jitloss.bench.pages import Measured

MEASURED = Measured(Path(__file__).resolve().parents[1] / "docs" / "performance.md", "limits")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    limits.add_arguments(parser)
    parser.add_argument("--write", action="store_true", help="rewrite the measured part of docs/performance.md")
    arguments = parser.parse_args(argv)
    try:
        if arguments.write:
            MEASURED.parts()  # said now, not after minutes of measuring
        if arguments.write and (arguments.quick or arguments.only):
            raise ValueError("--write is for the whole table: without --quick and --only")
        report = limits.command(arguments)
    except ValueError as error:
        print(f"limits.py: {error}", file=sys.stderr)
        return 2
    if arguments.write:
        MEASURED.fill(limits.markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
