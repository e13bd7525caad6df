"""The loop over short rows: blocks of rows are transposed, and what a definition says of an element runs along a column."""

from itertools import accumulate, pairwise
from typing import Any

from ..elements import ITEMSIZE, stack, stacks
from ..rowwise import row_loop
from ..tuples import parameters, select
from ..variant import Variant
from . import table as at
from .blocks import add_values, bring, fill, lay_background, mix_columns, read_rows, wipe_marks
from .driver import range_kernel
from .flags import jitable
from .loops import each, fold_columns, scaled_columns
from .memory import LINE, advanced, either, places, pointer, pointers, wide_vectors, word
from .repeat import COLUMN
from .stream import FLOW, begin, finish
from .transpose import PADDING, columns_of, lanes_of, rows_of

__all__ = ["LONGEST", "consecutive", "short_rows_kernel"]

LONGEST = 112
"""Elements of a row up to which blocks are faster than one row after the other, for a loss with a peak; for others less than a block of
:mod:`.long_rows`."""


def consecutive(*lengths: int) -> list[tuple[int, ...]]:
    """Positions 0, 1, 2, ... shared out."""
    return [tuple(range(*ends)) for ends in pairwise(accumulate(lengths, initial=0))]


def short_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over blocks of rows whose columns fill :data:`.repeat.COLUMN` bytes.

    A block that is not full is filled up with rows that nobody reads.
    """
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.value, loop.rows.slope
    of_peak, of_terms, of_value, of_slope = peak.function, terms.function, value.function, slope.function
    kind, working, kinds, name = loop.source, loop.working, variant.statics, variant.working
    inputs_at, outputs_at = at.inputs_at(variant.definition, loop.inputs), at.outputs_at(variant.definition, loop.outputs)
    rows_at = at.inputs_at(variant.definition, loop.row_inputs)
    class_weights_at, parameters_at, columns_at, stream_at = at.CLASS_WEIGHTS, at.PARAMETERS, at.COLUMNS, at.STREAM
    with_peak, with_labels, with_items, with_weights = (
        loop.rows.peak is not None,
        variant.targets == "labels",
        variant.items,
        variant.weights,
    )
    mixed, factored, stored, row_dtypes = variant.targets == "mixed", with_labels or with_weights, loop.dtypes, loop.row_dtypes
    outputs, with_outputs, output, itemsize = len(outputs_at), len(outputs_at) > 0, variant.output, ITEMSIZE[variant.output]
    lanes, start_values = lanes_of(name), loop.lowest + loop.zeros
    # pieces of stack for a block's elements and for its rows, and what stands where in them; then numbers, then terms
    made, sums, rest = int(with_labels), terms.results, value.results - 1
    grid_sizes, row_sizes = (
        (len(stored), made, sums, max(0, outputs - len(stored))),
        (loop.rows.peaks, sums, 1, rest, 2, len(rows_at)),
    )
    inputs, target, kept, more, tops, totals, results, coefficients, counts, own_inputs, numbers, last = consecutive(
        *grid_sizes, *row_sizes, len(kinds), 1
    )
    slopes, moved = (inputs + more)[:outputs], (*stored, *[output] * outputs)  # slopes lie on inputs, which are needed no more
    elements, of_rows = inputs + target + numbers + tops + coefficients + last, own_inputs + numbers + tops + last
    peak_takes, terms_take, slope_takes = (tuple(elements[one] for one in part.wanted) for part in (peak, terms, slope))
    value_takes, row_results, factors = tuple(of_rows[one] for one in value.wanted), results + coefficients, counts[1:] * factored
    grids, row_pieces, folds, grid_bytes = sum(grid_sizes), sum(row_sizes), tops + totals, LONGEST * COLUMN
    scratch_bytes, buffer_bytes = grid_bytes + PADDING, LONGEST * lanes * itemsize + PADDING + LINE

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes, arrays, destinations = pointer(table, class_weights_at), pointers(table, inputs_at), pointers(table, outputs_at)
        given, factor, columns = (
            parameters(pointer(table, parameters_at), kinds, working),
            working(scale),
            word(table, columns_at),
        )
        sources = stacks(grids, grid_bytes) + stacks(row_pieces, COLUMN)
        buffers, flows, scratch = stacks(outputs, buffer_bytes), stacks(outputs, FLOW), stack(scratch_bytes)
        streamed, total = word(table, stream_at) != 0, 0.0
        begin(flows, advanced(destinations, start * columns * itemsize))
        marks, counted = select(sources, target), select(sources, counts)
        if with_labels:
            lay_background(columns, lanes, marks[0], classes, given, working, kind)
        for first in range(start, stop, lanes):
            rows, base = min(lanes, stop - first), first * columns
            columns_of(select(sources, inputs), arrays, base, rows, columns, scratch, stored, working)
            bring(select(sources, own_inputs), pointers(table, rows_at), first, rows, row_dtypes, working)
            fill(lanes, select(sources, folds), start_values, working)
            if factored:
                read_rows(
                    table, first, rows, lanes, marks, counted[0], counted[1], factor, classes, given, with_weights, working, kind
                )
            if mixed:
                mix_columns(columns, lanes, select(sources, inputs), classes, given, working, kind)
            if with_peak:
                fold_columns("peak", of_peak, columns, lanes, grids, sources, peak_takes, given, (), tops, (), (), (), working)
            following, final = (
                places((), table, inputs_at, (), stored, base + rows * columns, 0),
                advanced(destinations, base * itemsize),
            )
            claimed = either(streamed, buffers, final)
            fold_columns(
                "sum",
                of_terms,
                columns,
                lanes,
                grids,
                sources,
                terms_take,
                given,
                kept,
                totals,
                following,
                claimed,
                moved,
                working,
            )
            each(of_value, lanes, sources, value_takes, totals, given, row_results, working)
            total = add_values(
                table, first, rows, select(sources, results)[0], counted[0], total, factored, with_items, output, working
            )
            if with_outputs:
                scaled_columns(
                    of_slope, columns, lanes, grids, sources, slope_takes, kept, given, slopes, factors, factor, working
                )
                rows_of(final, buffers, flows, select(sources, slopes), rows, columns, scratch, streamed, output, working)
            if with_labels:
                wipe_marks(table, first, rows, lanes, marks[0], classes, given, working, kind)
        finish(streamed, buffers, flows)
        return total

    return kernel
