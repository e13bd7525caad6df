"""What the parts of the loop over long rows share: positions of numbers, and which of them each part takes."""

from dataclasses import dataclass
from typing import Any

from ..elements import ITEMSIZE
from ..tuples import cast, select
from ..usage import only_term
from ..variant import Variant
from .beside import ROWS_AT_ONCE, SideBySide, consecutive, side_by_side
from .flags import jitable
from .memory import LINE
from .row_plan import RowPlan, row_plan

__all__ = ["BLOCK", "LONGEST_KEPT", "SLOPE_STRIP", "TILE", "LongRows", "long_rows"]

LONGEST_KEPT = 32768
"""Elements of a row up to which their terms are kept, on the stack: they stay in the L2 cache. For longer rows the only term that
a slope takes is kept where the slope goes, unless that is written with streaming stores."""

TILE = 1024
"""Elements whose targets are mixed (smoothed, weighted) before they are used."""

SLOPE_STRIP = 256
"""Elements of slopes that are written at once, with streaming stores or over the input. With each such part goes a prefetch of half as
many elements of what is read next; the passes before have prefetched the other half, so that memory is read all the time."""

NEAR = 24576
"""Bytes of rows that are processed side by side, with what is kept and written of them: few enough to stay in the L1 cache."""

BLOCK = 64
"""Elements that are folded side by side. The last block of a row ends at the row's end, and overlaps the block before."""


@dataclass(frozen=True)
class LongRows(RowPlan):
    """The constants of the loop over long rows.

    The numbers of an element are in pieces of stack (the mixed target and the terms that are kept), then in arrays; they are
    followed by the parameters and the row's numbers, the last of which is the tuple of the element's own terms.
    """

    beside: SideBySide
    mixed: bool
    """Whether targets differ from column to column and are mixed one by one. Otherwise all but the labelled have the background."""
    marked_peaks: bool
    """Whether peaks take targets that come from labels."""
    kept: bool
    """Whether terms are kept on the stack."""
    only: int | None
    """The only term that slopes take, where it is kept in the place of the slope."""
    peak_takes: tuple[int, ...]
    terms_take: tuple[int, ...]
    slope_takes: tuple[int, ...]
    """What a slope takes if its terms are kept."""
    again: Any
    """A slope that recomputes its terms, unless they are kept."""
    again_takes: tuple[int, ...]
    own_terms: tuple[int, ...]
    """The positions of the element's own terms, if they are kept."""

    @property
    def kept_in_output(self) -> bool:
        """Whether the only term is kept in the output, where the slope will be written."""
        return self.only is not None

    @property
    def pieces(self) -> int:
        """Pieces of stack for terms."""
        return self.sums * (self.kept or self.kept_in_output)

    @property
    def terms_at(self) -> tuple[int, ...]:
        """Where terms are written if one of them is kept in the output: to pieces of stack, and after these the output."""
        return tuple(self.sums if which == self.only else which for which in range(self.pieces))

    @property
    def kept_bytes(self) -> int:
        return (LONGEST_KEPT if self.kept else BLOCK) * self.number_size

    @property
    def mixtures(self) -> int:
        """Pieces of stack for targets."""
        return int(self.mixed)

    @property
    def mixed_bytes(self) -> int:
        return TILE * self.number_size

    @property
    def buffer_bytes(self) -> int:
        return SLOPE_STRIP * self.itemsize + LINE

    @property
    def lane_bytes(self) -> int:
        return BLOCK * self.number_size

    @property
    def row_bytes(self) -> int:
        return ROWS_AT_ONCE * self.number_size

    @property
    def top_dtypes(self) -> tuple[str, ...]:
        return self.own * len(self.beside.tops)

    @property
    def known_dtypes(self) -> tuple[str, ...]:
        return self.own * len(self.beside.known)

    @property
    def slope_dtypes(self) -> tuple[str, ...]:
        return self.own * len(self.beside.slopes)

    @property
    def near(self) -> int:
        """Elements that stay in the L1 cache."""
        read, kept = sum(ITEMSIZE[one] for one in self.dtypes), self.kept * self.sums * self.number_size
        return NEAR // (read + kept + self.outputs * self.itemsize)

    @property
    def peaks_mix(self) -> bool:
        """Whether peaks take mixed targets."""
        return self.mixed and 0 in self.peak_takes


def long_rows(variant: Variant) -> LongRows:
    """Set up the loop of a variant."""
    row, definition = row_plan(variant), variant.definition
    labels, direct = row.with_labels, variant.targets == "direct"
    marked_peaks = labels and definition.peaks_take_targets
    mixed = variant.targets == "mixed" or (row.smoothed and variant.class_weights) or marked_peaks or row.marks_terms
    kept = row.takes_terms and row.with_outputs and variant.layout == "rows"
    only = only_term(definition, variant.statics) if row.with_outputs and row.output == row.name and not kept else None
    beside = side_by_side(row, len(variant.statics), labels)

    terms = row.sums * (kept or only is not None)
    sizes = int(mixed), terms, len(row.flat), len(variant.statics), row.peaks, len(beside.results) - 1, 1
    target, own_terms, flat, numbers, *others = consecutive(*sizes)
    if labels and not mixed:
        target = numbers[-1:]
    elements = sum((flat, () if direct else target, numbers, *others), ())
    peak_takes, terms_take, slope_takes = (
        tuple(elements[one] for one in wanted) for wanted in (row.of_peak, row.of_terms, row.of_slope)
    )
    again = row.takes_terms and not kept
    return LongRows(
        **vars(row),
        beside=beside,
        mixed=mixed,
        marked_peaks=marked_peaks,
        kept=kept,
        only=only,
        peak_takes=peak_takes,
        terms_take=terms_take,
        slope_takes=slope_takes,
        again=_with_terms(row) if again else row.slope,
        again_takes=elements[:-1] if again else slope_takes,
        own_terms=own_terms,
    )


def _with_terms(row: RowPlan) -> Any:
    """The slope as a function of numbers without the terms."""
    terms, slope, working, terms_of, slope_of = row.terms, row.slope, row.working, row.of_terms, row.of_slope

    @jitable
    def slope_of_own_terms(*numbers):  # type: ignore[no-untyped-def]
        return slope(*select(numbers + (cast(terms(*select(numbers, terms_of)), working),), slope_of))

    return slope_of_own_terms
