"""The loop over short rows: blocks of rows are transposed, and what a definition says of an element runs along a column."""

from typing import Any

from ..elements import ITEMSIZE, stack, stacks
from ..rowwise import row_loop
from ..tuples import parameters, select
from ..variant import Variant
from . import table as at
from .beside import consecutive
from .blocks import add_values, bring, fill, lay_background, mix_columns, read_rows, wipe_marks
from .entry import range_kernel
from .flags import jitable
from .labelled import correct_sums, place_labelled, take_labelled
from .loops import each, fold_columns, scaled_columns
from .memory import LINE, advanced, assume_positive, columns_of_row, either, places, pointer, pointers, wide_vectors, word
from .repeat import COLUMN
from .stream import FLOW, begin, finish
from .transpose import PADDING, columns_of, lanes_of, rows_of

__all__ = ["BLOCKS_UP_TO", "LONGEST", "SHORTEST_PATCHED", "short_rows_kernel"]

LONGEST = 144
"""Elements of a row for which a block has room."""

BLOCKS_UP_TO = {64: (88, 63), 32: (LONGEST, 88), 16: (LONGEST, 88)}
"""By the bytes of a vector, for rows of up to how many elements blocks are faster than one row after the other: in losses with a peak,
which take each element once more, and in those without one."""

SHORTEST_PATCHED = {64: (20, 24), 32: (10, 24), 16: (10, 24)}
"""By the bytes of a vector, elements of a row from which labels are put right afterwards in losses with a peak: where all other targets
are 0, and where they are smoothed. For shorter rows, and in losses that compute less of an element, a grid of targets is less work."""


def short_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over blocks of rows whose columns fill :data:`.repeat.COLUMN` bytes.

    A block that is not full is filled up with rows that nobody reads. In the layout "blocks" a label marks its element in a grid of
    targets; in "patched" it is put right afterwards.
    """
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.value, loop.rows.slope
    of_peak, of_terms, of_value, of_slope = peak.function, terms.function, value.function, slope.function
    kind, working, kinds, name = loop.source, loop.working, variant.kinds, variant.working
    inputs_at, outputs_at = at.inputs_at(variant.definition, loop.inputs), at.outputs_at(variant.definition, loop.outputs)
    rows_at = at.inputs_at(variant.definition, loop.row_inputs)
    class_weights_at, parameters_at, stream_at, past = at.CLASS_WEIGHTS, at.PARAMETERS, at.STREAM, at.PAST
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
    apart, smoothed = variant.layout == "patched", with_labels and variant.smoothed
    made, sums, rest = int(with_labels and not apart), terms.results, value.results - 1
    grid_sizes, row_sizes = (
        (len(stored), made, sums, max(0, outputs - len(stored))),
        (loop.rows.peaks, sums, 1, rest, 2, len(rows_at)),
    )
    there_sizes = tuple(apart * size for size in (len(stored), 1, sums, outputs))  # of the labelled elements
    inputs, marked, kept, more, *others = consecutive(*grid_sizes, *row_sizes, *there_sizes, len(variant.statics), 1)
    tops, totals, results, coefficients, counts, own_inputs, *others = others
    there_inputs, there_target, there_terms, there_slopes, numbers, last = others
    target = numbers[-1:] if apart else marked  # the background's number, or a grid
    slopes, moved = (inputs + more)[:outputs], (*stored, *[output] * outputs)  # slopes lie on inputs, which are needed no more
    elements, of_rows = inputs + target + numbers + tops + coefficients + last, own_inputs + numbers + tops + last
    peak_takes, terms_take, slope_takes = (tuple(elements[one] for one in part.wanted) for part in (peak, terms, slope))
    value_takes, row_results, factors = tuple(of_rows[one] for one in value.wanted), results + coefficients, counts[1:] * factored
    there, of_known = there_inputs + there_target, numbers + tops
    old, new = (one + of_known if apart else elements for one in (there_inputs + target, there))
    old_takes, new_takes = (tuple(one[which] for which in terms.wanted) for one in (old, new))
    there_slope_takes = tuple((new + coefficients + last)[one] for one in slope.wanted)
    grids, row_pieces, folds, grid_bytes = sum(grid_sizes), sum(row_sizes) + sum(there_sizes), tops + totals, LONGEST * COLUMN
    scratch_bytes, buffer_bytes = grid_bytes + PADDING, LONGEST * lanes * itemsize + PADDING + LINE

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes, arrays, destinations = pointer(table, class_weights_at), pointers(table, inputs_at), pointers(table, outputs_at)
        given, factor, columns = (
            parameters(pointer(table, parameters_at), kinds, working),
            working(scale),
            columns_of_row(table),
        )
        if smoothed:
            assume_positive(given[-1])
        sources = stacks(grids, grid_bytes) + stacks(row_pieces, COLUMN)
        buffers, flows, scratch = stacks(outputs, buffer_bytes), stacks(outputs, FLOW), stack(scratch_bytes)
        streamed, total = word(table, stream_at) == past, 0.0
        begin(flows, advanced(destinations, start * columns * itemsize))
        marks, counted = select(sources, marked), select(sources, counts)
        if made:
            lay_background(columns, lanes, marks[0], classes, given, working, kind)
        for first in range(start, stop, lanes):
            rows, base = min(lanes, stop - first), first * columns
            columns_of(select(sources, inputs), arrays, base, rows, columns, scratch, stored, working)
            bring(select(sources, own_inputs), pointers(table, rows_at), first, rows, row_dtypes, working)
            fill(lanes, select(sources, folds), start_values, working)
            if factored:
                read_rows(
                    table,
                    first,
                    rows,
                    lanes,
                    marks,
                    counted[0],
                    counted[1],
                    factor,
                    classes,
                    given,
                    with_labels,
                    with_weights,
                    working,
                    kind,
                )
            if apart:
                grid = select(sources, inputs)
                take_labelled(table, first, rows, lanes, grid, select(sources, there), classes, given, working, kind)
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
            if apart:
                correct_sums(of_terms, lanes, sources, old_takes, new_takes, given, totals, there_terms, working)
            each(of_value, lanes, sources, value_takes, totals, given, row_results, working)
            total = add_values(
                table, first, rows, select(sources, results)[0], counted[0], total, factored, with_items, output, working
            )
            if with_outputs:
                scaled_columns(
                    of_slope, columns, lanes, grids, sources, slope_takes, kept, given, slopes, factors, factor, working
                )
                if apart:
                    scaled_columns(
                        of_slope,
                        1,
                        lanes,
                        0,
                        sources,
                        there_slope_takes,
                        there_terms,
                        given,
                        there_slopes,
                        factors,
                        factor,
                        working,
                    )
                    place_labelled(table, first, rows, lanes, select(sources, there_slopes), select(sources, slopes), working)
                rows_of(final, buffers, flows, select(sources, slopes), rows, columns, scratch, streamed, output, working)
            if made:
                wipe_marks(table, first, rows, lanes, marks[0], classes, given, working, kind)
        finish(streamed, buffers, flows)
        return total

    return kernel
