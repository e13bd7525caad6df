"""The loop over rows that lie along an inner axis: neighbouring rows side by side, so that memory is read as it lies."""

from dataclasses import dataclass
from typing import Any

from ..elements import stack, stacks
from ..tuples import parameters
from ..usage import only_term
from ..variant import Variant
from . import table as at
from .entry import range_kernel
from .lane_parts import LANES, begin_lanes, find_peaks, find_sums, find_values, write_slopes
from .memory import columns_of_row, fence, pointer, smaller, wide_vectors, word
from .row_plan import RowPlan, row_plan

__all__ = ["LONGEST_KEPT_BESIDE", "lanes_kernel"]

EVEN = 16
"""Of that many are the rows that are taken together, where there are enough: none of them is the only one of its vector."""

LONGEST_KEPT_BESIDE = 64
"""Elements of a row up to which the only term that a slope takes is kept, for all rows side by side."""

LABELS_BYTES = LANES * 4
"""Labels of the lanes, as wide as a float32, so that their comparison does not halve the vectors."""


@dataclass(frozen=True)
class Lanes(RowPlan):
    """The constants of the loop over rows side by side."""

    flat_at: tuple[int, ...]
    """The arrays that are read element by element as they are."""
    flat_dtypes: tuple[str, ...]
    kept: bool
    """Whether the only term that slopes take is kept."""
    only: int
    """Which one it is."""

    @property
    def homes(self) -> int:
        """Pieces of stack for the terms that are kept."""
        return int(self.kept)

    @property
    def kept_bytes(self) -> int:
        return LONGEST_KEPT_BESIDE * self.number_bytes

    @property
    def as_terms(self) -> tuple[int, ...]:
        """The kept term in the places of all, of which the slope takes no other."""
        return (0,) * self.sums

    @property
    def number_bytes(self) -> int:
        """A number for each lane."""
        return LANES * self.number_size

    @property
    def double_bytes(self) -> int:
        return LANES * 8

    @property
    def tile_bytes(self) -> int:
        return LANES * self.itemsize


def lanes_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over rows whose elements are ``inner`` apart, up to :data:`.lane_parts.LANES` neighbouring rows at a time."""
    row = row_plan(variant)
    flat = tuple(range(len(row.stored))) if variant.targets == "direct" else row.loop.others
    only = only_term(variant.definition, variant.statics) if row.with_outputs and variant.layout == "lanes" else None
    at_flat, dtypes = tuple(row.inputs_at[one] for one in flat), tuple(row.stored[one] for one in flat)
    plan = Lanes(**vars(row), flat_at=at_flat, flat_dtypes=dtypes, kept=only is not None, only=only or 0)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        given = parameters(pointer(table, at.PARAMETERS), plan.kinds, plan.working)
        factor, columns, inner = plan.working(scale), columns_of_row(table), word(table, at.INNER)
        peaks, totals = stacks(plan.peaks, plan.number_bytes), stacks(plan.sums, plan.double_bytes)
        results, kept = stacks(plan.results, plan.number_bytes), stacks(plan.homes, plan.kept_bytes)
        factors, marks, labels = stack(plan.number_bytes), stack(plan.number_bytes), stack(LABELS_BYTES)
        begin, total = start, 0.0
        while begin < stop:
            beside = inner - begin % inner
            left = smaller(beside, stop - begin)
            groups = (left + LANES - 1) // LANES
            lanes = smaller(left, ((left + groups - 1) // groups + EVEN - 1) // EVEN * EVEN)
            base, following = begin // inner * inner * columns + begin % inner, beside > lanes
            begin_lanes(plan, table, begin, lanes, given, labels, marks, factors, peaks, totals)
            if plan.with_peak:
                find_peaks(plan, table, base, lanes, given, labels, marks, peaks)
            find_sums(plan, table, base, lanes, following, given, labels, marks, peaks, totals, kept)
            total = find_values(plan, table, begin, lanes, given, peaks, totals, factors, results, total)
            if plan.with_outputs:
                write_slopes(plan, table, base, lanes, following, given, labels, marks, peaks, results, factors, kept, factor)
            begin += lanes
        if word(table, at.STREAM) == at.PAST:
            fence()
        return total

    return kernel
