"""The loop over short rows: a block of rows at a time, so that the costly functions run over long vectors."""

from typing import Any

import numpy as np

from ..elements import ITEMSIZE, load, read, spread, stack, stacks, store
from ..rowwise import row_loop
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, parameters, scaled, select, weighted
from ..variant import Variant
from . import table as at
from .driver import range_kernel
from .flags import jitable
from .memory import advance, copy_out, fence, pointer, pointers, wide_vectors, word
from .vectors import PADDING, fill_row

__all__ = ["LONGEST", "TILE", "short_rows_kernel"]

TILE = 1024
"""Elements of a block of short rows, and between two writes of a long one."""

LONGEST = 192
"""Elements of a row up to which blocks are faster than one row after the other."""


def short_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over blocks of rows that fill a tile.

    Only what belongs to a row runs row by row: its peak and targets, the addition of its terms, the copies of its numbers beside its
    elements. The terms and slopes run over all elements of the block, ``value`` runs over all its rows.
    """
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak, loop.rows.terms.function, loop.rows.value.function, loop.rows.slope.function
    of_peak, of_terms = (peak or loop.rows.terms).wanted, loop.rows.terms.wanted
    of_value, of_slope = loop.rows.value.wanted, loop.rows.slope.wanted
    top, kind, working, double = (peak or loop.rows.terms).function, loop.source, loop.working, np.float64
    output, kinds, name, dtypes, others = variant.output, variant.statics, variant.working, loop.dtypes, loop.others
    inputs_at, row_inputs_at = at.inputs_at(variant.definition, loop.inputs), at.inputs_at(variant.definition, loop.row_inputs)
    outputs_at, row_dtypes = at.outputs_at(variant.definition, loop.outputs), loop.row_dtypes
    lowest, zeros, rest, wanted = loop.lowest, loop.zeros, loop.rest, loop.wanted
    with_peak, with_labels, with_items, with_weights = (
        peak is not None,
        variant.targets == "labels",
        variant.items,
        variant.weights,
    )
    tiled, by_row = variant.targets != "direct", peak is not None or variant.targets != "direct"
    # targets that differ from column to column are mixed one by one; without them a row has the background, but for its label
    mixed = variant.targets == "mixed" or (with_labels and variant.class_weights)
    target_at, background_at = len(dtypes) - (variant.targets == "mixed"), (-1,)
    factored = with_labels or with_weights
    outputs, with_outputs, itemsize = len(outputs_at), len(outputs_at) > 0, ITEMSIZE[output]
    tile_bytes, number_bytes, rest_count = TILE * itemsize, TILE * ITEMSIZE[name] + PADDING, len(rest)
    peaks_count, sums_count, row_count = len(lowest), len(zeros), len(rest) + 1
    peak_dtypes, sum_dtypes, row_results = (name,) * peaks_count, (name,) * sums_count, (name,) * row_count
    rest_dtypes, own, takes_terms = (name,) * len(rest), (name,), loop.rows.slope_takes_terms

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes = pointer(table, at.CLASS_WEIGHTS)
        given, inputs = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        columns, streamed, total = word(table, at.COLUMNS), word(table, at.STREAM) != 0, 0.0
        tiles, destinations, label = stacks(outputs, tile_bytes), pointers(table, outputs_at), 0
        targets, factors, most = stack(number_bytes), stack(number_bytes), TILE // columns
        flat_peaks, row_peaks = stacks(peaks_count, number_bytes), stacks(peaks_count, number_bytes)
        flat_terms, row_totals = stacks(sums_count, number_bytes), stacks(sums_count, number_bytes)
        flat_rest, results = stacks(rest_count, number_bytes), stacks(row_count, number_bytes)
        for begin in range(start, stop, most):
            rows, base = min(most, stop - begin), begin * columns
            count = rows * columns
            if by_row:
                for row in range(rows):
                    first, highest = row * columns, lowest
                    if with_labels:
                        label = read(pointer(table, at.LABELS), begin + row)
                        label = 0 if label == word(table, at.IGNORED) else label
                        fill_row((targets,), first, columns, select(given, background_at))
                    if with_peak or mixed:
                        for column in range(columns):
                            numbers = element(
                                classes, inputs, base + first + column, column, None, None, given, dtypes, working, kind
                            )
                            if mixed:
                                store(targets, first + column, numbers[target_at], name)
                            if with_peak:
                                highest = maximum_of(highest, cast(top(*select(numbers, of_peak)), working))
                    if with_labels:
                        store(targets, first + label, mark(classes, label, given, working, kind), name)
                    spread(row_peaks, row, highest, name)
                    fill_row(flat_peaks, first, columns, highest)
            for index in range(count):
                numbers = load(inputs, base + index, dtypes, working)
                if tiled:
                    numbers = select(numbers, others) + load((targets,), index, own, working)
                numbers = numbers + given + load(flat_peaks, index, peak_dtypes, working)
                spread(flat_terms, index, cast(terms(*select(numbers, of_terms)), working), name)
            for row in range(rows):
                sums, first = zeros, row * columns
                for index in range(first, first + columns):
                    sums = add(sums, load(flat_terms, index, sum_dtypes, working))
                spread(row_totals, row, sums, name)
            for row in range(rows):
                numbers = load(pointers(table, row_inputs_at), begin + row, row_dtypes, working) + given
                numbers = numbers + load(row_peaks, row, peak_dtypes, working) + (load(row_totals, row, sum_dtypes, working),)
                spread(results, row, cast(value(*select(numbers, of_value)), working), name)
            for row in range(rows):
                result, first, weight = load(results, row, row_results, working), row * columns, working(1.0)
                if with_labels and read(pointer(table, at.LABELS), begin + row) == word(table, at.IGNORED):
                    weight = working(0.0)
                if with_weights:
                    weight *= load((pointer(table, at.WEIGHTS),), (begin + row) // word(table, at.WEIGHT_SPAN), own, working)[0]
                counted = weighted(result, weight)[0] if factored else result[0]
                total += double(counted)
                if with_items:
                    store(pointer(table, at.ITEMS), begin + row, counted, output)
                if with_outputs:
                    fill_row(flat_rest, first, columns, select(result, rest))
                    if factored:
                        fill_row((factors,), first, columns, (working(scale) * weight,))
            if with_outputs:
                for index in range(count):
                    numbers = load(inputs, base + index, dtypes, working)
                    if tiled:
                        numbers = select(numbers, others) + load((targets,), index, own, working)
                    numbers = numbers + given + load(flat_peaks, index, peak_dtypes, working)
                    numbers = numbers + load(flat_rest, index, rest_dtypes, working)
                    if takes_terms:
                        numbers = numbers + (load(flat_terms, index, sum_dtypes, working),)
                    slopes = cast(slope(*select(numbers, of_slope)), working)
                    if factored:
                        slopes = weighted(slopes, load((factors,), index, own, working)[0])
                    else:
                        slopes = scaled(slopes, working(scale))
                    spread(tiles, index, select(slopes, wanted), output)
                for which in range(outputs):
                    copy_out(advance(destinations[which], base * itemsize), tiles[which], count * itemsize, streamed)
        if streamed:
            fence()
        return total

    return kernel
