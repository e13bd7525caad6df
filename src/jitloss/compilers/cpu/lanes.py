"""The loop over rows that lie along an inner axis: neighbouring rows side by side, so that memory is read as it lies."""

from typing import Any

import numpy as np

from ..elements import ITEMSIZE, load, read, spread, stack, stacks, store
from ..rowwise import row_loop
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, parameters, select, weighted
from ..usage import only_term
from ..variant import Variant
from . import table as at
from .entry import range_kernel
from .flags import jitable
from .memory import (
    advance,
    columns_of_row,
    copy_out,
    fence,
    pointer,
    pointers,
    prefetch,
    read_short,
    wide_vectors,
    word,
    write_short,
)

__all__ = ["LANES", "LONGEST_KEPT_BESIDE", "lanes_kernel"]

LANES = 512
"""Rows that are taken side by side."""

EVEN = 16
"""Of that many are the rows that are taken together, where there are enough: none of them is the only one of its vector."""

LONGEST_KEPT_BESIDE = 64
"""Elements of a row up to which the only term that a slope takes is kept, for all rows side by side."""

LABELS_BYTES = LANES * 4
"""Labels of the lanes, as wide as a float32, so that their comparison does not halve the vectors."""

STRIPE = 256
"""Columns whose terms are added in the working precision before they are added in float64."""


def lanes_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over rows whose elements are ``inner`` apart, up to :data:`LANES` neighbouring rows at a time."""
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak, loop.rows.terms.function, loop.rows.value.function, loop.rows.slope.function
    of_peak, of_terms = (peak or loop.rows.terms).wanted, loop.rows.terms.wanted
    of_value, of_slope = loop.rows.value.wanted, loop.rows.slope.wanted
    top, kind, working, double = (peak or loop.rows.terms).function, loop.source, loop.working, np.float64
    output, kinds, name, dtypes = variant.output, variant.kinds, variant.working, loop.dtypes
    inputs_at, row_inputs_at = at.inputs_at(variant.definition, loop.inputs), at.inputs_at(variant.definition, loop.row_inputs)
    outputs_at, row_dtypes = at.outputs_at(variant.definition, loop.outputs), loop.row_dtypes
    lowest, zeros, zeros64, rest, wanted = loop.lowest, loop.zeros, (0.0,) * len(loop.zeros), loop.rest, loop.wanted
    with_peak, with_labels, with_items, with_weights = (
        peak is not None,
        variant.targets == "labels",
        variant.items,
        variant.weights,
    )
    outputs, with_outputs, itemsize = len(outputs_at), len(outputs_at) > 0, ITEMSIZE[output]
    tile_bytes, number_bytes, double_bytes = LANES * itemsize, LANES * ITEMSIZE[name], LANES * 8
    peaks_count, sums_count, row_count = len(lowest), len(zeros), len(rest) + 1
    peak_dtypes, sum_dtypes, total_dtypes = (name,) * peaks_count, (name,) * sums_count, ("float64",) * sums_count
    row_results, own, takes_terms = (name,) * row_count, (name,), loop.rows.slope_takes_terms
    only = only_term(variant.definition, variant.statics) if with_outputs and variant.layout == "lanes" else None
    kept = only is not None
    homes, kept_bytes, kept_term = int(kept), LONGEST_KEPT_BESIDE * number_bytes, only or 0
    as_terms, term_dtypes = (0,) * sums_count, (name,) * sums_count
    flat = loop.others if variant.targets != "direct" else tuple(range(len(dtypes)))
    flat_at, flat_dtypes, half = tuple(inputs_at[one] for one in flat), tuple(dtypes[one] for one in flat), LANES // 2

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes = pointer(table, at.CLASS_WEIGHTS)
        given, inputs = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        columns, inner, streamed, total = columns_of_row(table), word(table, at.INNER), word(table, at.STREAM) == at.PAST, 0.0
        tiles, destinations = stacks(outputs, tile_bytes), pointers(table, outputs_at)
        peaks, sums, results = (
            stacks(peaks_count, number_bytes),
            stacks(sums_count, number_bytes),
            stacks(row_count, number_bytes),
        )
        totals, factors, marks, labels = (
            stacks(sums_count, double_bytes),
            stack(number_bytes),
            stack(number_bytes),
            stack(LABELS_BYTES),
        )
        kept_terms, wished = stacks(homes, kept_bytes), pointers(table, flat_at)
        begin, own_label, target = start, np.int32(0), working(0.0)
        while begin < stop:
            beside = inner - begin % inner
            left = min(beside, stop - begin)
            groups = (left + LANES - 1) // LANES
            lanes = min(left, ((left + groups - 1) // groups + EVEN - 1) // EVEN * EVEN)
            base = begin // inner * inner * columns + begin % inner
            for lane in range(lanes):
                weight = working(1.0)
                if with_labels:
                    label = read(pointer(table, at.LABELS), begin + lane)
                    if label == word(table, at.IGNORED):
                        weight, label = working(0.0), 0
                    write_short(labels, lane, label)
                    store(marks, lane, mark(classes, label, given, working, kind), name)
                if with_weights:
                    weight *= load((pointer(table, at.WEIGHTS),), (begin + lane) // word(table, at.WEIGHT_SPAN), own, working)[0]
                store(factors, lane, weight, name)
                spread(peaks, lane, lowest, name)
                spread(totals, lane, zeros64, "float64")
            if with_peak:
                for column in range(columns):
                    there = base + column * inner
                    for lane in range(lanes):
                        if with_labels:
                            own_label, target = read_short(labels, lane), load((marks,), lane, own, working)[0]
                        numbers = element(classes, inputs, there + lane, column, own_label, target, given, dtypes, working, kind)
                        highest = cast(top(*select(numbers, of_peak)), working)
                        spread(peaks, lane, maximum_of(load(peaks, lane, peak_dtypes, working), highest), name)
            for first in range(0, columns, STRIPE):
                for lane in range(lanes):
                    spread(sums, lane, zeros, name)
                for column in range(first, min(columns, first + STRIPE)):
                    there = base + column * inner
                    if beside > lanes:
                        prefetch(wished, there + lanes, flat_dtypes, half, 2)
                    for lane in range(lanes):
                        if with_labels:
                            own_label, target = read_short(labels, lane), load((marks,), lane, own, working)[0]
                        numbers = element(classes, inputs, there + lane, column, own_label, target, given, dtypes, working, kind)
                        more = cast(terms(*select(numbers + load(peaks, lane, peak_dtypes, working), of_terms)), working)
                        spread(sums, lane, add(load(sums, lane, sum_dtypes, working), more), name)
                        if kept:
                            store(kept_terms[0], column * LANES + lane, more[kept_term], name)
                for lane in range(lanes):
                    found = cast(load(sums, lane, sum_dtypes, working), double)
                    spread(totals, lane, add(load(totals, lane, total_dtypes, double), found), "float64")
            for lane in range(lanes):
                of_row = load(pointers(table, row_inputs_at), begin + lane, row_dtypes, working) + given
                own_sums = cast(load(totals, lane, total_dtypes, double), working)
                known = of_row + load(peaks, lane, peak_dtypes, working) + (own_sums,)
                result = cast(value(*select(known, of_value)), working)
                spread(results, lane, result, name)
                counted = weighted(result, load((factors,), lane, own, working)[0])[0]
                total += double(counted)
                if with_items:
                    store(pointer(table, at.ITEMS), begin + lane, counted, output)
            if with_outputs:
                for column in range(columns):
                    there = base + column * inner
                    if beside > lanes:
                        prefetch(wished, there + lanes + half, flat_dtypes, half, 2)
                    for lane in range(lanes):
                        if with_labels:
                            own_label, target = read_short(labels, lane), load((marks,), lane, own, working)[0]
                        numbers = element(classes, inputs, there + lane, column, own_label, target, given, dtypes, working, kind)
                        with_peaks = numbers + load(peaks, lane, peak_dtypes, working)
                        coefficients = select(load(results, lane, row_results, working), rest)
                        if kept:
                            mine = (load(select(kept_terms, as_terms), column * LANES + lane, term_dtypes, working),)
                            slopes = cast(slope(*select(with_peaks + coefficients + mine, of_slope)), working)
                        elif takes_terms:
                            mine = (cast(terms(*select(with_peaks, of_terms)), working),)
                            slopes = cast(slope(*select(with_peaks + coefficients + mine, of_slope)), working)
                        else:
                            slopes = cast(slope(*select(with_peaks + coefficients, of_slope)), working)
                        factor = working(scale) * load((factors,), lane, own, working)[0]
                        spread(tiles, lane, select(weighted(slopes, factor), wanted), output)
                    for which in range(outputs):
                        copy_out(advance(destinations[which], there * itemsize), tiles[which], lanes * itemsize, streamed)
            begin += lanes
        if streamed:
            fence()
        return total

    return kernel
