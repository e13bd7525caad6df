"""Measure how near jitloss is to its limits, every row with its goal; with ``--write``, bring docs/performance.md up to date.

python benchmarks/limits.py --write            all rows, some minutes on a quiet machine
python benchmarks/limits.py --only short       a group, or rows whose name holds a word; may be given several times
python benchmarks/limits.py --quick            small arrays, one round: only to see that it runs
"""

import argparse
import sys
from pathlib import Path

from jitloss.bench import limits

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- limits:begin -->", "<!-- limits:end -->"


def page() -> tuple[str, str]:
    """What stands before and after the measured part of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/{PAGE.name} needs the lines {BEGIN} and {END}, in this order")
    return before, after


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    limits.add_arguments(parser)
    parser.add_argument("--write", action="store_true", help="rewrite the measured part of docs/performance.md")
    arguments = parser.parse_args(argv)
    try:
        before, after = page() if arguments.write else ("", "")
        if arguments.write and (arguments.quick or arguments.only):
            raise ValueError("--write is for the whole table: without --quick and --only")
        report = limits.command(arguments)
    except ValueError as error:
        print(f"limits.py: {error}", file=sys.stderr)
        return 2
    if arguments.write:
        PAGE.write_text(f"{before}{BEGIN}\n{limits.markdown(report)}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
