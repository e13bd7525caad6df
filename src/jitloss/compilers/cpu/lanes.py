"""The loop over rows that lie along an inner axis: neighbouring rows side by side, so that memory is read sequentially."""

from typing import Any

from ..elements import stack, stacks
from ..tuples import parameters
from ..variant import Variant
from . import table as at
from .entry import range_kernel
from .lane_parts import begin_lanes, find_peaks, find_sums, find_values, write_slopes
from .lane_plan import LANES, plan_lanes
from .memory import columns_of_row, fence, pointer, smaller, wide_vectors, word

__all__ = ["lanes_kernel"]

EVEN = 16
"""The number of rows that are taken together is a multiple of this, where there are enough: so that no vector holds a single row."""


def lanes_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over rows whose elements are ``inner`` apart, up to :data:`.lane_plan.LANES` neighbouring rows at a time."""
    plan = plan_lanes(variant)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        given = parameters(pointer(table, at.PARAMETERS), plan.kinds, plan.working)
        factor, columns, inner = plan.working(scale), columns_of_row(table), word(table, at.INNER)
        peaks, totals = stacks(plan.peaks, plan.number_bytes), stacks(plan.sums, plan.double_bytes)
        results, kept = stacks(plan.results, plan.number_bytes), stacks(plan.homes, plan.kept_bytes)
        factors, marks, labels = stack(plan.number_bytes), stack(plan.number_bytes), stack(plan.label_bytes)
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
