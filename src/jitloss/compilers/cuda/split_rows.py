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
from .rowwise import row_pass, steps
from .sums import share
from .toolchain import jitable

__all__ = ["split_kernel"]


def split_kernel(variant: Variant, plan: Plan, stage: Stage) -> Any:
    """One of the launches. ``found_peaks`` and ``found_sums`` hold a number per piece for each peak and each sum."""
    loop = row_loop(variant, jitable)
    value, of_value, working, name = loop.rows.value.function, loop.rows.value.wanted, loop.working, variant.working
    output, kinds, kind, weight_dtype, label_dtype = variant.output, variant.statics, loop.source, (plan.weights,), plan.labels
    places, row_places, row_dtypes, rest, first_value = loop.inputs, loop.row_inputs, loop.row_dtypes, loop.rest, (0,)
    lowest, zeros, peaks_count, sums_count = loop.lowest, loop.zeros, len(loop.lowest), len(loop.zeros)
    with_peak, with_labels, with_weights = loop.rows.peak is not None, variant.targets == "labels", variant.weights
    with_items, with_outputs, divided, outputs = variant.items, loop.outputs > 0, plan.divided, loop.outputs
    factored, threads, width, nan = with_labels or with_weights, plan.threads, plan.width, working(np.nan)
    inputs_count, slots = len(loop.dtypes), max(peaks_count, sums_count) * (threads // WARP)
    peak_dtypes, sum_dtypes = (name,) * peaks_count, (name,) * sums_count
    highest, sums, slopes = steps(loop, factored, output)
    find_peaks = row_pass(highest, loop, plan, output, reads=True, writes=False)
    add_terms = row_pass(sums, loop, plan, output, reads=True, writes=False)
    write_slopes = row_pass(slopes, loop, plan, output, reads=True, writes=True)
    highest_of, sum_of = reducer(maximum_of, threads, name, max(peaks_count, 1)), reducer(add, threads, name, sums_count)
    finds_peaks, finds_sums, finishes = stage == "peaks", stage == "sums", stage == "slopes"

    def kernel(  # type: ignore[no-untyped-def]
        arrays, outs, items, numbers, weights, each, labels, ignored, classes, columns, length, pieces, scale, times, divisors,
        parts, found_peaks, found_sums, partials,
    ):  # fmt: skip
        memory = cuda.shared.array(slots, types.float64)
        given, inputs, row_inputs = expand(numbers, kinds, working), select(arrays, places), select(arrays, row_places)
        taken, made = local(inputs_count, width), local(outputs, width)
        block, lane = np.int64(cuda.blockIdx.x), cuda.threadIdx.x
        row, piece = block // pieces, block % pieces
        span = (inputs, outs, row * columns, min(columns, (piece + 1) * length), 1, piece * length)
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
        peaks = lowest
        if finds_peaks:
            peaks = find_peaks(peaks, lane, (taken, classes, label, target, given, ()), span)
            peaks = highest_of(peaks, lane, shared_pieces(memory, peaks_count))
            if lane == 0:
                spread(found_peaks, block, peaks, name)
        elif with_peak:
            for other in range(row * pieces, (row + 1) * pieces):
                peaks = maximum_of(peaks, load(found_peaks, other, peak_dtypes, working))
        if finds_sums:
            totals = add_terms(zeros, lane, (taken, classes, label, target, given, peaks), span)
            totals = sum_of(totals, lane, shared_pieces(memory, sums_count))
            if lane == 0:
                spread(found_sums, block, totals, name)
        if finishes:
            totals = zeros
            for other in range(row * pieces, (row + 1) * pieces):
                totals = add(totals, load(found_sums, other, sum_dtypes, working))
            found = load(row_inputs, row, row_dtypes, working) + given + peaks + (totals,)
            result = cast(value(*select(found, of_value)), working)
            counted = select(result, first_value)
            if factored:
                counted = weighted(counted, weight)
            if lane == 0 and piece == 0:
                spread((partials,), row, (np.float64(counted[0]),), "float64")
                if with_items:
                    spread(items, row, scaled(counted, working(times)), output)
            if with_outputs:
                factor = working(scale)
                if divided:
                    factor = working(share(scale, divisors, parts))
                shared = (taken, classes, label, target, given, peaks, select(result, rest), made, weight, settled(factor))
                write_slopes(0, lane, shared, span)

    return kernel
