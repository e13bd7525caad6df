"""The loop over long rows: one row after the other, each in tiles."""

from typing import Any

import numpy as np

from ..elements import ITEMSIZE, load, read, spread, stacks, store
from ..rowwise import row_loop
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, parameters, patch, scaled, select
from ..variant import Variant
from . import table as at
from .driver import range_kernel
from .flags import jitable
from .memory import advance, clear, copy_out, fence, pointer, pointers, wide_vectors, word
from .short_rows import TILE

__all__ = ["LONGEST_KEPT", "long_rows_kernel"]

LONGEST_KEPT = 8192
"""Elements of a row up to which the terms of all of them are kept: 32 kB in float32, and nothing of them leaves the caches."""


def long_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop that takes each row three times: its peak, its sums, its slopes. The second and third read from the cache.

    Where ``slope`` takes the terms of its element, the layout "rows" keeps them on the stack, and "long" computes them once more.
    """
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak, loop.rows.terms.function, loop.rows.value.function, loop.rows.slope.function
    of_peak, of_terms = (peak or loop.rows.terms).wanted, loop.rows.terms.wanted
    of_value, of_slope = loop.rows.value.wanted, loop.rows.slope.wanted
    top, kind, working, double = (peak or loop.rows.terms).function, loop.source, loop.working, np.float64
    output, kinds, own, dtypes = variant.output, variant.statics, (variant.working,), loop.dtypes
    inputs_at, row_inputs_at = at.inputs_at(variant.definition, loop.inputs), at.inputs_at(variant.definition, loop.row_inputs)
    outputs_at, row_dtypes = at.outputs_at(variant.definition, loop.outputs), loop.row_dtypes
    lowest, zeros, zeros64, rest, wanted = loop.lowest, loop.zeros, (0.0,) * len(loop.zeros), loop.rest, loop.wanted
    with_peak, with_labels, with_items, with_weights = (
        peak is not None,
        variant.targets == "labels",
        variant.items,
        variant.weights,
    )
    factored = with_labels or with_weights
    outputs, with_outputs, itemsize = len(outputs_at), len(outputs_at) > 0, ITEMSIZE[output]
    tile_bytes, name = TILE * itemsize, variant.working
    takes_terms = loop.rows.slope_takes_terms
    kept = takes_terms and with_outputs and variant.layout == "rows"
    kept_bytes, sums_count, sum_dtypes = LONGEST_KEPT * ITEMSIZE[name] if kept else 0, len(zeros), (name,) * len(zeros)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes = pointer(table, at.CLASS_WEIGHTS)
        given, inputs = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        columns, streamed, total = word(table, at.COLUMNS), word(table, at.STREAM) != 0, 0.0
        tiles, destinations, own_terms = stacks(outputs, tile_bytes), pointers(table, outputs_at), stacks(sums_count, kept_bytes)
        for row in range(start, stop):
            base, peaks, totals, weight = row * columns, lowest, zeros64, working(1.0)
            if with_labels:
                label = read(pointer(table, at.LABELS), row)
                if label == word(table, at.IGNORED):
                    weight, label = working(0.0), 0
                target = mark(classes, label, given, working, kind)
                there = element(classes, inputs, base + label, label, label, target, given, dtypes, working, kind)
                elsewhere = element(classes, inputs, base + label, label, None, target, given, dtypes, working, kind)
            if with_weights:
                weight *= load((pointer(table, at.WEIGHTS),), row // word(table, at.WEIGHT_SPAN), own, working)[0]
            if factored and weight == working(0.0):
                if with_items:
                    store(pointer(table, at.ITEMS), row, weight, output)
                if with_outputs:
                    for which in range(outputs):
                        clear(advance(destinations[which], base * itemsize), columns * itemsize)
                continue
            if with_peak:
                for column in range(columns):
                    numbers = element(classes, inputs, base + column, column, None, None, given, dtypes, working, kind)
                    peaks = maximum_of(peaks, cast(top(*select(numbers, of_peak)), working))
            for first in range(0, columns, TILE):
                partial = zeros
                for column in range(first, min(first + TILE, columns)):
                    numbers = element(classes, inputs, base + column, column, None, None, given, dtypes, working, kind) + peaks
                    more = cast(terms(*select(numbers, of_terms)), working)
                    partial = add(partial, more)
                    if kept:
                        spread(own_terms, column, more, name)
                totals = add(totals, cast(partial, double))
            if with_labels:
                old = cast(terms(*select(elsewhere + peaks, of_terms)), working)
                totals = patch(totals, cast(terms(*select(there + peaks, of_terms)), working), old)
            numbers = load(pointers(table, row_inputs_at), row, row_dtypes, working) + given + peaks
            result = cast(value(*select(numbers + (cast(totals, working),), of_value)), working)
            total += double(result[0] * weight)
            if with_items:
                store(pointer(table, at.ITEMS), row, result[0] * weight, output)
            if with_outputs:
                factor, coefficients = working(scale) * weight, select(result, rest)
                for first in range(0, columns, TILE):
                    count = min(TILE, columns - first)
                    for column in range(first, first + count):
                        numbers = (
                            element(classes, inputs, base + column, column, None, None, given, dtypes, working, kind) + peaks
                        )
                        if kept:
                            numbers = numbers + coefficients + (load(own_terms, column, sum_dtypes, working),)
                        elif takes_terms:
                            numbers = numbers + coefficients + (cast(terms(*select(numbers, of_terms)), working),)
                        else:
                            numbers = numbers + coefficients
                        slopes = scaled(cast(slope(*select(numbers, of_slope)), working), factor)
                        spread(tiles, column - first, select(slopes, wanted), output)
                    if with_labels and first <= label and label < first + count:
                        numbers = there + peaks
                        if takes_terms:
                            numbers = numbers + coefficients + (cast(terms(*select(numbers, of_terms)), working),)
                        else:
                            numbers = numbers + coefficients
                        slopes = scaled(cast(slope(*select(numbers, of_slope)), working), factor)
                        spread(tiles, label - first, select(slopes, wanted), output)
                    for which in range(outputs):
                        copy_out(
                            advance(destinations[which], (base + first) * itemsize), tiles[which], count * itemsize, streamed
                        )
        if streamed:
            fence()
        return total

    return kernel
