"""The kernel over rows: a rowwise definition for CUDA."""

from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import load, read, spread
from ..rowwise import row_loop
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, scaled, select, weighted
from ..variant import Variant
from .memory import WARP, expand, fetch, flush, local, reducer, shared_pieces
from .plan import Plan
from .sums import share
from .toolchain import jitable

__all__ = ["rowwise_kernel"]


def rowwise_kernel(variant: Variant, plan: Plan) -> Any:
    """A kernel in which a team of threads takes a row: its peak, its sums, its slopes.

    A team is one thread, a warp or the block. The threads hold the row in registers where the plan says that it fits; else each of
    the three passes reads it again, from the cache where it is not too long. A row whose label is no class becomes NaN.
    """
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak, loop.rows.terms.function, loop.rows.value.function, loop.rows.slope.function
    of_peak, of_terms = (peak or loop.rows.terms).wanted, loop.rows.terms.wanted
    of_value, of_slope = loop.rows.value.wanted, loop.rows.slope.wanted
    top, kind, working, name = (peak or loop.rows.terms).function, loop.source, loop.working, variant.working
    output, kinds, own, dtypes, row_dtypes = variant.output, variant.statics, (variant.working,), loop.dtypes, loop.row_dtypes
    places, row_places, lowest, zeros, rest, wanted = (
        loop.inputs,
        loop.row_inputs,
        loop.lowest,
        loop.zeros,
        loop.rest,
        loop.wanted,
    )
    with_peak, with_labels, with_items = peak is not None, variant.targets == "labels", variant.items
    with_weights, takes_terms, divided = variant.weights, loop.rows.slope_takes_terms, plan.divided
    factored, outputs, with_outputs = with_labels or with_weights, loop.outputs, loop.outputs > 0
    threads, team, width, held = plan.threads, plan.team, plan.width, plan.kept
    kept, inputs_count, teams, warps = held > 0, len(dtypes), threads // team, threads // WARP
    stored, reach, first_value, double = max(held, 1) * width, team * width, (0,), ("float64",)
    peaks_count, sums_count, pieces = len(lowest), len(zeros), max(len(lowest), len(zeros), 1)
    highest_of, sum_of = reducer(maximum_of, team, name, max(peaks_count, 1)), reducer(add, team, name, sums_count)
    slots = pieces * warps
    total_of, none = reducer(add, threads, "float64", 1), working(np.nan)

    def kernel(  # type: ignore[no-untyped-def]
        arrays, outs, items, numbers, weights, span, labels, ignored, classes, columns, inner, count, scale, divisor, partials
    ):
        memory = cuda.shared.array(slots, types.float64)
        given, inputs, row_inputs = expand(numbers, kinds, working), select(arrays, places), select(arrays, row_places)
        taken, made = local(inputs_count, stored), local(outputs, width)
        lane = cuda.threadIdx.x % team
        factor, total, label, target = working(scale), 0.0, np.int64(0), working(0.0)
        if divided:
            factor = working(share(scale, load((divisor,), 0, double, np.float64)[0]))
        row, step = np.int64(cuda.blockIdx.x) * teams + cuda.threadIdx.x // team, np.int64(cuda.gridDim.x) * teams
        passes = held if kept else (columns + reach - 1) // reach
        while row < count:
            base, peaks, weight = (row // inner) * columns * inner + row % inner, lowest, working(1.0)
            if with_labels:
                label = read(labels, row)
                if label == ignored:
                    weight, label = working(0.0), np.int64(0)
                elif label < 0 or label >= columns:
                    weight, label = none, np.int64(0)
                target = mark(classes, label, given, working, kind)
            if with_weights:
                weight *= load((weights,), row // span, own, working)[0]
            if kept:
                for number in range(held):
                    column = np.int64(number * reach + lane * width)
                    if column < columns:
                        fetch(taken, number * width, inputs, base + column, dtypes, width)
            if with_peak:
                for number in range(passes):
                    column, at = np.int64(number) * reach + lane * width, number * width
                    if column < columns:
                        if not kept:
                            at = 0
                            fetch(taken, at, inputs, base + column * inner, dtypes, width)
                        for index in range(width):
                            found = element(
                                classes, taken, at + index, column + index, label, target, given, dtypes, working, kind
                            )
                            peaks = maximum_of(peaks, cast(top(*select(found, of_peak)), working))
                peaks = highest_of(peaks, lane, shared_pieces(memory, peaks_count))
            sums = zeros
            for number in range(passes):
                column, at = np.int64(number) * reach + lane * width, number * width
                if column < columns:
                    if not kept:
                        at = 0
                        fetch(taken, at, inputs, base + column * inner, dtypes, width)
                    for index in range(width):
                        found = element(classes, taken, at + index, column + index, label, target, given, dtypes, working, kind)
                        sums = add(sums, cast(terms(*select(found + peaks, of_terms)), working))
            sums = sum_of(sums, lane, shared_pieces(memory, sums_count))
            found = load(row_inputs, row, row_dtypes, working) + given + peaks + (sums,)
            result = cast(value(*select(found, of_value)), working)
            counted = select(result, first_value)
            if factored:
                counted = weighted(counted, weight)
            if lane == 0:
                total += np.float64(counted[0])
                if with_items:
                    spread((items,), row, counted, output)
            if with_outputs:
                coefficients = select(result, rest)
                for number in range(passes):
                    column, at = np.int64(number) * reach + lane * width, number * width
                    if column < columns:
                        if not kept:
                            at = 0
                            fetch(taken, at, inputs, base + column * inner, dtypes, width)
                        for index in range(width):
                            found = element(
                                classes, taken, at + index, column + index, label, target, given, dtypes, working, kind
                            )
                            found = found + peaks
                            if takes_terms:
                                everything = found + coefficients + (cast(terms(*select(found, of_terms)), working),)
                            else:
                                everything = found + coefficients
                            slopes = select(cast(slope(*select(everything, of_slope)), working), wanted)
                            if factored:
                                slopes = scaled(weighted(slopes, weight), factor)
                            else:
                                slopes = scaled(slopes, factor)
                            spread(made, index, slopes, output)
                        flush(outs, base + column * inner, made, output, width)
            row += step
        sum_here = total_of((total,), cuda.threadIdx.x, shared_pieces(memory, 1))
        if cuda.threadIdx.x == 0:
            spread((partials,), cuda.blockIdx.x, sum_here, "float64")

    return kernel
