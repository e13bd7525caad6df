"""The kernels over pieces of rows, for few and long rows: every row is shared by several blocks.

There are three launches, because the results of all blocks of a row must be complete before any of them continues: peaks, sums,
slopes. Each block combines the results of its row's blocks in the same order, so that all of them get the same bits.
"""

from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import load, spread
from ..rowwise import row_loop
from ..tuples import add, maximum_of, scaled, select
from ..variant import Stage, Variant
from .exchange import WARP, reducer, shared_pieces
from .memory import expand, local, opaque
from .passes import Row, Span, passes
from .plan import Plan
from .row_ends import closing, opening, writing
from .sums import sharer
from .toolchain import jitable_for

__all__ = ["split_kernel"]


def split_kernel(variant: Variant, plan: Plan, stage: Stage) -> Any:
    """One of the launches. ``found_peaks`` and ``found_sums`` hold one number per piece for each peak and each sum."""
    loop = row_loop(variant, jitable_for(variant))
    working, name, output, kinds = loop.working, variant.working, variant.output, variant.statics
    places, row_places, lowest, zeros, outputs = loop.inputs, loop.row_inputs, loop.lowest, loop.zeros, loop.outputs
    peaks_count, sums_count, inputs_count = len(lowest), len(zeros), len(loop.dtypes)
    with_peak, with_labels, with_items, with_outputs = peaks_count > 0, variant.targets == "labels", variant.items, outputs > 0

    threads, width, totalled = plan.threads, plan.width, plan.total != "nothing"
    slots, width_bits = max(peaks_count, sums_count) * (threads // WARP), width.bit_length() - 1
    peak_dtypes, sum_dtypes = (name,) * peaks_count, (name,) * sums_count
    finds_peaks, finds_sums, finishes = stage == "peaks", stage == "sums", stage == "slopes"
    divided, (publish, published) = plan.divided and finishes and with_outputs, sharer()

    do = passes(loop, plan, output)
    find_peaks, add_terms, patched = do.peaks, do.sums, do.patched
    highest_of, sum_of = reducer(maximum_of, threads, name, max(peaks_count, 1)), reducer(add, threads, name, sums_count)
    open_row, close_row, write_row = opening(variant, plan, loop, np.int64), closing(variant, loop), writing(variant, loop, do)

    def kernel(  # type: ignore[no-untyped-def]
        arrays, outs, items, numbers, weights, each, labels, ignored, classes, columns, length, pieces, scale, times, divisors,
        parts, found_peaks, found_sums, partials,
    ):  # fmt: skip
        memory = cuda.shared.array(slots, types.float64)
        quotient = cuda.shared.array(1, types.float64)  # on a line of its own: the simulator knows shared arrays by their lines
        given, inputs, row_inputs = expand(numbers, kinds, working), select(arrays, places), select(arrays, row_places)
        kept_elements, kept_slopes, kept_terms = local(inputs_count, width), local(outputs, width), local(sums_count, width)
        block, lane = np.int64(cuda.blockIdx.x), cuda.threadIdx.x
        whole_scale = scale
        if divided:
            publish(scale, divisors, parts, lane, quotient)
            whole_scale = published(quotient)
        row, piece = block // pieces, block % pieces
        begin, end = piece * length, min(columns, (piece + 1) * length)
        span = Span(inputs, outs, row * columns, end, 1, begin)
        label, target, weight = open_row(labels, ignored, columns, classes, given, weights, each, row)
        mine = with_labels and begin <= label and label < end
        mine = mine and ((label - begin) >> width_bits) & (threads - 1) == lane
        peaks = lowest
        if finds_peaks:
            peaks = find_peaks(
                peaks, lane, Row(kept_elements, classes, label, target, given, kept_terms, kept_slopes, (), (), ()), span
            )
            peaks = highest_of(peaks, lane, shared_pieces(memory, peaks_count))
            if lane == 0:
                spread(found_peaks, block, peaks, name)
        elif with_peak:
            for other in range(row * pieces, (row + 1) * pieces):
                peaks = maximum_of(peaks, load(found_peaks, other, peak_dtypes, working))
        known = Row(kept_elements, classes, label, target, given, kept_terms, kept_slopes, peaks, (), ())
        if finds_sums:
            totals = add_terms(zeros, lane, known, span)
            if mine:
                totals = patched(totals, row * columns + label, known, inputs)
            totals = sum_of(totals, lane, shared_pieces(memory, sums_count))
            if lane == 0:
                spread(found_sums, block, totals, name)
        if finishes:
            totals = zeros
            for other in range(row * pieces, (row + 1) * pieces):
                totals = add(totals, load(found_sums, other, sum_dtypes, working))
            seen, coefficients = close_row(row_inputs, row, given, peaks, totals, weight)
            if lane == 0 and piece == 0:
                if totalled:
                    spread((partials,), row, (np.float64(seen[0]),), "float64")
                if with_items:
                    spread(items, row, scaled(seen, working(times)), output)
            if with_outputs:
                factor = opaque(working(whole_scale)) * weight
                final = Row(kept_elements, classes, label, target, given, kept_terms, kept_slopes, peaks, coefficients, factor)
                write_row(weight, lane, mine, final, span)

    return kernel
