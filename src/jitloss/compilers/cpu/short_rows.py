"""The loop over short rows: a block of rows at a time, so that the costly functions run over long vectors."""

from typing import Any

import numpy as np

from ..variant import Variant
from . import table as at
from .driver import range_kernel
from .memory import (
    ITEMSIZE,
    advance,
    copy_out,
    fence,
    load,
    pointer,
    pointers,
    read,
    spread,
    stack,
    stacks,
    store,
    wide_vectors,
    word,
    write,
)
from .pointwise import TILE
from .rowwise import row_loop
from .targets import element, mark
from .tuples import cast, parameters, patch, scaled, select, weighted
from .vectors import PADDING, fill_row, row_maxima, row_sums

__all__ = ["LONGEST", "short_rows_kernel"]

LONGEST = 192
"""Elements of a row up to which blocks are faster than one row after the other."""


def short_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over blocks of rows that fill a tile.

    The definition's functions run over all elements of the block, or over all its rows; only sums, maxima, and the copies of a
    row's numbers beside its elements go row by row, as explicit vectors. Labelled elements are taken as if they had no label, and
    put right afterwards, all those of the block at once.
    """
    loop = row_loop(variant)
    peak, terms, value, slope = loop.rows.peak, loop.rows.terms.function, loop.rows.value.function, loop.rows.slope.function
    of_peak, of_terms = (peak or loop.rows.terms).wanted, loop.rows.terms.wanted
    of_value, of_slope = loop.rows.value.wanted, loop.rows.slope.wanted
    top, kind, working, double = (peak or loop.rows.terms).function, loop.source, loop.working, np.float64
    output, kinds, name, dtypes, others = variant.output, variant.statics, variant.working, loop.dtypes, loop.others
    inputs_at, row_inputs_at, row_dtypes, outputs_at = loop.inputs_at, loop.row_inputs_at, loop.row_dtypes, loop.outputs_at
    rest, wanted, takes_terms, size = loop.rest, loop.wanted, loop.rows.slope_takes_terms, ITEMSIZE[variant.working]
    with_peak, with_labels, with_items, with_weights = peak is not None, loop.with_labels, variant.items, variant.weights
    # targets that are mixed element by element lie in a tile of their own; without one, unlabelled elements have the background
    tiled = variant.targets == "mixed" or (with_labels and variant.class_weights)
    target_at, behind = len(dtypes) - (not with_labels), (-1,) if with_labels and not tiled else ()
    flat_dtypes = (*(dtypes[index] for index in others), name) if tiled else dtypes
    factored, outputs, with_outputs, itemsize = (
        with_labels or with_weights,
        len(outputs_at),
        len(outputs_at) > 0,
        ITEMSIZE[output],
    )
    tile_bytes, number_bytes, label_bytes = TILE * itemsize, TILE * size + PADDING, TILE * 8
    peaks_count, sums_count, row_count, inputs_count = len(loop.lowest), len(loop.zeros), len(rest) + 1, len(dtypes)
    peak_dtypes, sum_dtypes, rest_dtypes = (name,) * peaks_count, (name,) * sums_count, (name,) * len(rest)
    row_results, number_dtypes, own, rest_count = (name,) * row_count, (name,) * inputs_count, (name,), len(rest)
    slope_dtypes = (name,) * outputs

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        given, inputs = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        columns, streamed, total = word(table, at.COLUMNS), word(table, at.STREAM) != 0, 0.0
        tiles, destinations, most = stacks(outputs, tile_bytes), pointers(table, outputs_at), TILE // columns
        targets, labels, marks, backgrounds = stack(number_bytes), stack(label_bytes), stack(number_bytes), stack(number_bytes)
        tops, flat_peaks, row_peaks = (
            stacks(peaks_count, number_bytes),
            stacks(peaks_count, number_bytes),
            stacks(peaks_count, number_bytes),
        )
        flat_terms, row_totals, there = (
            stacks(sums_count, number_bytes),
            stacks(sums_count, number_bytes),
            stacks(inputs_count, number_bytes),
        )
        flat_rest, results, factors = stacks(rest_count, number_bytes), stacks(row_count, number_bytes), stacks(1, number_bytes)
        flat_given, row_slopes = select(given, behind) + given, stacks(outputs, number_bytes)
        for begin in range(start, stop, most):
            rows, base = min(most, stop - begin), begin * columns
            count = rows * columns
            if tiled:
                for row in range(rows):
                    for column in range(columns):
                        index = row * columns + column
                        numbers = element(table, inputs, base + index, column, None, None, given, dtypes, working, kind)
                        store(targets, index, numbers[target_at], name)
                flat_inputs = select(inputs, others) + (advance(targets, -base * size),)
            else:
                flat_inputs = inputs
            if with_peak:
                for index in range(count):
                    numbers = load(flat_inputs, base + index, flat_dtypes, working) + flat_given
                    spread(tops, index, cast(top(*select(numbers, of_peak)), working), name)
                for row in range(rows):
                    highest = row_maxima(tops, row * columns, columns, working)
                    spread(row_peaks, row, highest, name)
                    fill_row(flat_peaks, row * columns, columns, highest)
            for index in range(count):
                numbers = (
                    load(flat_inputs, base + index, flat_dtypes, working)
                    + flat_given
                    + load(flat_peaks, index, peak_dtypes, working)
                )
                spread(flat_terms, index, cast(terms(*select(numbers, of_terms)), working), name)
            for row in range(rows):
                spread(row_totals, row, row_sums(flat_terms, row * columns, columns, working), name)
            if with_labels:
                for row in range(rows):
                    label, place = read(pointer(table, at.LABELS), begin + row), base + row * columns
                    label = 0 if label == word(table, at.IGNORED) else label
                    write(labels, row, row * columns + label)
                    spread(there, row, load(inputs, place + label, dtypes, working), name)
                    store(marks, row, mark(table, label, given, working, kind), name)
                    numbers = element(table, inputs, place + label, label, None, None, given, dtypes, working, kind)
                    store(backgrounds, row, numbers[target_at], name)
                for row in range(rows):
                    peaks, at_label = load(row_peaks, row, peak_dtypes, working), load(there, row, number_dtypes, working)
                    new = at_label + load((marks,), row, own, working) + given + peaks
                    old = at_label + load((backgrounds,), row, own, working) + given + peaks
                    new_terms, old_terms = (
                        cast(terms(*select(new, of_terms)), working),
                        cast(terms(*select(old, of_terms)), working),
                    )
                    spread(row_totals, row, patch(load(row_totals, row, sum_dtypes, working), new_terms, old_terms), name)
            for row in range(rows):
                numbers = load(pointers(table, row_inputs_at), begin + row, row_dtypes, working) + given
                numbers = numbers + load(row_peaks, row, peak_dtypes, working) + (load(row_totals, row, sum_dtypes, working),)
                spread(results, row, cast(value(*select(numbers, of_value)), working), name)
            for row in range(rows):
                result, weight = load(results, row, row_results, working), working(1.0)
                if with_labels and read(pointer(table, at.LABELS), begin + row) == word(table, at.IGNORED):
                    weight = working(0.0)
                if with_weights:
                    weight *= load((pointer(table, at.WEIGHTS),), (begin + row) // word(table, at.WEIGHT_SPAN), own, working)[0]
                counted = weighted(result, weight)[0] if factored else result[0]
                total += double(counted)
                if with_items:
                    store(pointer(table, at.ITEMS), begin + row, counted, output)
                if with_outputs:
                    fill_row(flat_rest, row * columns, columns, select(result, rest))
                    if factored:
                        fill_row(factors, row * columns, columns, (working(scale) * weight,))
            if with_outputs:
                for index in range(count):
                    numbers = load(flat_inputs, base + index, flat_dtypes, working) + flat_given
                    numbers = (
                        numbers + load(flat_peaks, index, peak_dtypes, working) + load(flat_rest, index, rest_dtypes, working)
                    )
                    if takes_terms:
                        numbers = numbers + (load(flat_terms, index, sum_dtypes, working),)
                    slopes = cast(slope(*select(numbers, of_slope)), working)
                    if factored:
                        slopes = weighted(slopes, load(factors, index, own, working)[0])
                    else:
                        slopes = scaled(slopes, working(scale))
                    spread(tiles, index, select(slopes, wanted), output)
                if with_labels:
                    for row in range(rows):
                        first = row * columns
                        peaks, at_label = load(row_peaks, row, peak_dtypes, working), load(there, row, number_dtypes, working)
                        numbers = at_label + load((marks,), row, own, working) + given + peaks
                        if takes_terms:
                            own_terms = (cast(terms(*select(numbers, of_terms)), working),)
                            numbers = numbers + select(load(results, row, row_results, working), rest) + own_terms
                        else:
                            numbers = numbers + select(load(results, row, row_results, working), rest)
                        slopes = weighted(cast(slope(*select(numbers, of_slope)), working), load(factors, first, own, working)[0])
                        spread(row_slopes, row, select(slopes, wanted), name)
                    for row in range(rows):
                        spread(tiles, read(labels, row), load(row_slopes, row, slope_dtypes, working), output)
                for which in range(outputs):
                    copy_out(advance(destinations[which], base * itemsize), tiles[which], count * itemsize, streamed)
        if streamed:
            fence()
        return total

    return kernel
