"""The loop over long rows: three passes each, the second and third of which read from the cache. Shorter rows go side by side."""

from typing import Any

from ..elements import stacks
from ..tuples import parameters, select
from ..variant import Variant
from . import table as at
from .beside import ROWS_AT_ONCE
from .blocks import add_values
from .entry import range_kernel
from .labelled import correct_sums
from .long_parts import add_terms, find_peaks, write_slopes
from .long_plan import long_rows
from .loops import each
from .memory import advanced, assume_positive, clear_all, columns_of_row, larger, pointer, pointers, smaller, wide_vectors, word
from .stream import FLOW, begin, finish

__all__ = ["long_rows_kernel"]

AHEAD = 1024
"""The least distance of a prefetch from the computation, in elements: the next row or rows are prefetched, or what follows at that
distance where they are shorter."""


def long_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop with three passes over each row: its peak, its sums, its slopes.

    For rows side by side all peaks are found first, then all sums, and their values together, so that no row's latency is exposed.

    Where ``slope`` takes the terms of its element, the layout "rows" keeps them on the stack, and "long" in the output or not at all.
    """
    plan = long_rows(variant)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        its = plan.beside
        working, columns, total = plan.working, columns_of_row(table), 0.0
        given = parameters(pointer(table, at.PARAMETERS), plan.kinds, working)
        if plan.smoothed:
            assume_positive(given[-1])
        buffers, flows = stacks(plan.outputs, plan.buffer_bytes), stacks(plan.outputs, FLOW)
        kept, of_rows = stacks(plan.pieces, plan.kept_bytes), stacks(its.pieces, plan.row_bytes)
        clear_all(of_rows, plan.row_bytes)
        begin(flows, advanced(pointers(table, plan.outputs_at), start * columns * plan.itemsize))
        together = larger(1, smaller(ROWS_AT_ONCE, plan.near // columns))
        ahead = larger(together * columns, AHEAD)
        for first in range(start, stop, together):
            last = smaller(stop, first + together)
            if plan.with_peak:
                find_peaks(plan, table, first, last, ahead, given, of_rows, kept)
            add_terms(plan, table, first, last, ahead, given, of_rows, kept)
            if plan.with_labels:
                correct_sums(plan.terms, ROWS_AT_ONCE, of_rows, its.old_takes, its.here_takes, given, its.sums, its.here, working)
            each(plan.value, ROWS_AT_ONCE, of_rows, its.value_takes, its.sums, given, its.results, working)
            if plan.with_labels and plan.with_outputs:
                each(plan.slope, ROWS_AT_ONCE, of_rows, its.slope_takes, its.here, given, its.slopes, working)
            values, counts = select(of_rows, its.values)[0], select(of_rows, its.counts)[0]
            rows, factored, items = last - first, plan.factored, plan.with_items
            total = add_values(table, first, rows, values, counts, total, factored, items, plan.output, working)
            if plan.with_outputs:
                write_slopes(plan, table, first, last, ahead, given, of_rows, kept, working(scale), buffers, flows)
        finish(word(table, at.STREAM) == at.PAST, buffers, flows)
        return total

    return kernel
