"""What is found for several rows at a time, side by side in pieces of stack, so that one loop computes all their values.

A row's value needs its sums, and its slopes need its value. One row after the other would stall on each of these in turn.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise

from ..canonical import Call
from ..rowwise import RowLoop

__all__ = ["ROWS_AT_ONCE", "SideBySide", "consecutive", "side_by_side"]

ROWS_AT_ONCE = 8
"""Rows that a loop over long rows computes side by side, where they are short enough. For a single row the others are unused."""


def consecutive(*lengths: int) -> list[tuple[int, ...]]:
    """Consecutive positions 0, 1, 2, ... in groups of these lengths."""
    return [tuple(range(*ends)) for ends in pairwise(accumulate(lengths, initial=0))]


@dataclass(frozen=True)
class SideBySide:
    """Positions of pieces with one number for each row, and which of them, of the parameters and of a tuple each part takes."""

    pieces: int
    labelled: tuple[int, ...]
    """The numbers of the labelled element, its target last."""
    background: tuple[int, ...]
    """The target that it would have if it were not labelled."""
    here: tuple[int, ...]
    """Its terms."""
    tops: tuple[int, ...]
    sums: tuple[int, ...]
    counts: tuple[int, ...]
    """The weight of the row."""
    results: tuple[int, ...]
    """Its value, then its coefficients."""
    known: tuple[int, ...]
    """What all slopes of a row share: peaks and coefficients."""
    own: tuple[int, ...]
    """The row's own inputs."""
    slopes: tuple[int, ...]
    """Those of the labelled element."""
    here_takes: tuple[int, ...]
    old_takes: tuple[int, ...]
    value_takes: tuple[int, ...]
    slope_takes: tuple[int, ...]

    @property
    def values(self) -> tuple[int, ...]:
        return self.results[:1]

    @property
    def of_label(self) -> tuple[int, ...]:
        """The labelled element's numbers among those of an element."""
        return tuple(range(len(self.labelled)))

    @property
    def of_background(self) -> tuple[int, ...]:
        """Its background target among them."""
        return self.of_label[-1:]


def side_by_side(loop: RowLoop, statics: int, labels: bool) -> SideBySide:
    """Positions for rows whose labels, if any, are corrected for afterwards; ``statics`` is the number of parameters."""
    terms, value, slope, inputs = loop.rows.terms, loop.rows.value, loop.rows.slope, len(loop.dtypes)
    labelled = tuple(labels * size for size in (inputs, 1, 1, terms.results))
    sizes = (*labelled, loop.rows.peaks, terms.results, 1, 1, value.results - 1, len(loop.row_dtypes), labels * loop.outputs)
    its_inputs, mark, background, here, tops, *others = consecutive(*sizes, statics, 1)
    sums, counts, values, coefficients, own, slopes, given, share = others

    def takes(part: Call, *numbers: tuple[int, ...]) -> tuple[int, ...]:
        among = sum(numbers, ())
        return tuple(among[one] for one in part.wanted)

    return SideBySide(
        pieces=sum(sizes),
        labelled=its_inputs + mark,
        background=background,
        here=here,
        tops=tops,
        sums=sums,
        counts=counts,
        results=values + coefficients,
        known=tops + coefficients,
        own=own,
        slopes=slopes,
        here_takes=takes(terms, its_inputs, mark, given, tops) if labels else (),
        old_takes=takes(terms, its_inputs, background, given, tops) if labels else (),
        value_takes=takes(value, own, given, tops, share),
        slope_takes=takes(slope, its_inputs, mark, given, tops, coefficients, share) if labels else (),
    )
