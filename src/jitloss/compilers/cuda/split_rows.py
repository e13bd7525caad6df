"""The kernels over pieces of rows, where rows are few and long: every row is shared by several blocks.

Three launches, because what the blocks of a row have found must be complete before any of them goes on: peaks, sums, slopes. Each
block combines what its row's blocks have found in the same order, so that all of them have the same bits.
"""

from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import load, spread
from ..rowwise import row_loop
from ..targets import mark
from ..tuples import add, cast, maximum_of, scaled, select, weighted
from ..variant import Stage, Variant
from .memory import WARP, expand, integer, local, reducer, settled, shared_pieces
from .plan import Plan
from .rowwise import passes
from .sums import share
from .toolchain import jitable_for

__all__ = ["split_kernel"]


def split_kernel(variant: Variant, plan: Plan, stage: Stage) -> Any:
    """One of the launches. ``found_peaks`` and ``found_sums`` hold a number per piece for each peak and each sum."""
    loop = row_loop(variant, jitable_for(variant))
    value, of_value, working, name = loop.rows.value.function, loop.rows.value.wanted, loop.working, variant.working
    output, kinds, kind, weight_dtype, label_dtype = variant.output, variant.statics, loop.source, (plan.weights,), plan.labels
    places, row_places, row_dtypes, rest, first_value = loop.inputs, loop.row_inputs, loop.row_dtypes, loop.rest, (0,)
    lowest, zeros, peaks_count, sums_count = loop.lowest, loop.zeros, len(loop.lowest), len(loop.zeros)
    with_peak, with_labels, with_weights = loop.rows.peak is not None, variant.targets == "labels", variant.weights
    with_items, with_outputs, divided, outputs = variant.items, loop.outputs > 0, plan.divided, loop.outputs
    factored, threads, width, nan = with_labels or with_weights, plan.threads, plan.width, working(np.nan)
    inputs_count, slots = len(loop.dtypes), max(peaks_count, sums_count) * (threads // WARP)
    peak_dtypes, sum_dtypes = (name,) * peaks_count, (name,) * sums_count
    width_bits, totalled = width.bit_length() - 1, plan.total != "nothing"
    do = passes(loop, plan, output)
    find_peaks, add_terms, write_slopes, write_zeros = do.peaks, do.sums, do.slopes, do.zeros
    patched, labelled, nothing = do.patched, do.labelled, (working(0.0),) * outputs
    highest_of, sum_of = reducer(maximum_of, threads, name, max(peaks_count, 1)), reducer(add, threads, name, sums_count)
    finds_peaks, finds_sums, finishes = stage == "peaks", stage == "sums", stage == "slopes"

    def kernel(  # type: ignore[no-untyped-def]
        arrays, outs, items, numbers, weights, each, labels, ignored, classes, columns, length, pieces, scale, times, divisors,
        parts, found_peaks, found_sums, partials,
    ):  # fmt: skip
        memory = cuda.shared.array(slots, types.float64)
        given, inputs, row_inputs = expand(numbers, kinds, working), select(arrays, places), select(arrays, row_places)
        taken, made, heights = local(inputs_count, width), local(outputs, width), local(sums_count, width)
        block, lane = np.int64(cuda.blockIdx.x), cuda.threadIdx.x
        row, piece = block // pieces, block % pieces
        begin, end = piece * length, min(columns, (piece + 1) * length)
        span = (inputs, outs, row * columns, end, 1, begin)
        weight, label, target = working(1.0), np.int64(0), working(0.0)
        if with_labels:
            found_label = integer(labels, row, label_dtype)
            if found_label == ignored:
                weight = working(0.0)
            elif found_label < 0 or found_label >= columns:
                weight = nan
            else:
                label = found_label
            target = mark(classes, label, given, working, kind)
        if with_weights:
            weight *= load((weights,), row // each, weight_dtype, working)[0]
        at, mine = row * columns + label, with_labels and begin <= label and label < end
        mine = mine and ((label - begin) >> width_bits) & (threads - 1) == lane
        peaks = lowest
        if finds_peaks:
            peaks = find_peaks(peaks, lane, (taken, classes, label, target, given, ()), span)
            peaks = highest_of(peaks, lane, shared_pieces(memory, peaks_count))
            if lane == 0:
                spread(found_peaks, block, peaks, name)
        elif with_peak:
            for other in range(row * pieces, (row + 1) * pieces):
                peaks = maximum_of(peaks, load(found_peaks, other, peak_dtypes, working))
        known = (taken, classes, label, target, given, peaks, heights)
        if finds_sums:
            totals = add_terms(zeros, lane, known, span)
            if mine:
                totals = patched(totals, at, known, inputs)
            totals = sum_of(totals, lane, shared_pieces(memory, sums_count))
            if lane == 0:
                spread(found_sums, block, totals, name)
        if finishes:
            totals = zeros
            for other in range(row * pieces, (row + 1) * pieces):
                totals = add(totals, load(found_sums, other, sum_dtypes, working))
            found = load(row_inputs, row, row_dtypes, working) + given + peaks + (totals,)
            result = cast(value(*select(found, of_value)), working)
            seen = select(result, first_value)
            if factored:
                seen = weighted(seen, weight)
            if lane == 0 and piece == 0:
                if totalled:
                    spread((partials,), row, (np.float64(seen[0]),), "float64")
                if with_items:
                    spread(items, row, scaled(seen, working(times)), output)
            if with_outputs:
                factor = working(scale)
                if divided:
                    factor = working(share(scale, divisors, parts))
                final = known + (select(result, rest), made, settled(factor) * weight)
                if factored and weight == working(0.0):
                    write_zeros(0, lane, final, span)
                else:
                    bent = nothing
                    if mine:
                        bent = labelled(at, final, inputs)
                    write_slopes(0, lane, final, span)
                    if mine:
                        spread(outs, at, bent, output)

    return kernel
