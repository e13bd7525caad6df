"""The kernel over rows: a rowwise definition for CUDA."""

from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import load, spread
from ..rowwise import RowLoop, row_loop
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, scaled, select, weighted
from ..variant import Variant
from .memory import WARP, expand, fetch, flush, integer, local, reducer, repeated, settled, shared_pieces
from .plan import Plan
from .sums import share
from .toolchain import jitable

__all__ = ["row_pass", "rowwise_kernel", "steps"]


def steps(loop: RowLoop, factored: bool, output: str) -> tuple[Any, Any, Any]:
    """What happens to one element in each pass: ``(state, place, column, row)`` gives the new state.

    ``place`` is where the element lies in the thread's own memory; ``row`` is what all elements of a row share.
    """
    peak, terms, slope, working = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.slope, loop.working
    top, of_peak, summed, of_terms = peak.function, peak.wanted, terms.function, terms.wanted
    bent, of_slope, takes_terms, wanted = slope.function, slope.wanted, loop.rows.slope_takes_terms, loop.wanted
    dtypes, kind = loop.dtypes, loop.source

    @jitable
    def numbers(place, column, row):  # type: ignore[no-untyped-def]
        taken, classes, label, target, given, peaks = row[0], row[1], row[2], row[3], row[4], row[5]
        return element(classes, taken, place, column, label, target, given, dtypes, working, kind) + peaks

    @jitable
    def highest(peaks, place, column, row):  # type: ignore[no-untyped-def]
        return maximum_of(peaks, cast(top(*select(numbers(place, column, row), of_peak)), working))

    @jitable
    def sums(state, place, column, row):  # type: ignore[no-untyped-def]
        return add(state, cast(summed(*select(numbers(place, column, row), of_terms)), working))

    @jitable
    def slopes(state, place, column, row):  # type: ignore[no-untyped-def]
        coefficients, made, weight, factor = row[6], row[7], row[8], row[9]
        found = numbers(place, column, row)
        if takes_terms:
            everything = found + coefficients + (cast(summed(*select(found, of_terms)), working),)
        else:
            everything = found + coefficients
        results = select(cast(bent(*select(everything, of_slope)), working), wanted)
        if factored:
            results = weighted(results, weight)
        spread(made, place, scaled(results, factor), output)
        return state

    return highest, sums, slopes


def row_pass(step: Any, loop: RowLoop, plan: Plan, output: str, *, reads: bool, writes: bool) -> Any:
    """One pass of a thread over its part of a row: ``(state, lane, row, span)`` gives the new state.

    ``span`` is where the row lies: inputs, outputs, its first element, its columns, the distance of neighbours, and the first column
    that is wanted.
    """
    width, held, reach, dtypes = plan.width, plan.kept, plan.team * plan.width, loop.dtypes
    each = repeated(step, width, 1, 1)

    @jitable
    def vector(state, place, column, both):  # type: ignore[no-untyped-def]
        row, (inputs, outs, base, columns, inner, _) = both
        if column < columns:
            if reads:
                fetch(row[0], place, inputs, base + column * inner, dtypes, width)
            state = each(state, place, column, row)
            if writes:
                flush(outs, base + column * inner, row[7], place, output, width)
        return state

    if held:
        all_of_them = repeated(vector, held, width, reach)

        @jitable
        def over_the_row(state, lane, row, span):  # type: ignore[no-untyped-def]
            return all_of_them(state, 0, np.int64(lane * width), (row, span))
    else:

        @jitable
        def over_the_row(state, lane, row, span):  # type: ignore[no-untyped-def]
            column = span[5] + lane * width
            while column < span[3]:
                state = vector(state, 0, column, (row, span))
                column += reach
            return state

    return over_the_row


def rowwise_kernel(variant: Variant, plan: Plan) -> Any:
    """A kernel in which a team of threads takes a row: its peak, its sums, its slopes.

    A team is one thread, part of a warp, or the block. The threads hold the row in registers where the plan says that it fits; else
    each of the three passes reads it again, from the cache where it is not too long. A row whose label is no class becomes NaN.
    """
    loop = row_loop(variant, jitable)
    value, of_value, working, name, kind = (
        loop.rows.value.function,
        loop.rows.value.wanted,
        loop.working,
        variant.working,
        loop.source,
    )
    output, kinds, weight_dtype, label_dtype = variant.output, variant.statics, (plan.weights,), plan.labels
    places, row_places, row_dtypes, rest = loop.inputs, loop.row_inputs, loop.row_dtypes, loop.rest
    lowest, zeros, peaks_count, sums_count = loop.lowest, loop.zeros, len(loop.lowest), len(loop.zeros)
    with_peak, with_labels, with_weights = loop.rows.peak is not None, variant.targets == "labels", variant.weights
    with_items, outputs, with_outputs, divided = variant.items, loop.outputs, loop.outputs > 0, plan.divided
    factored, team, threads, width, nan = with_labels or with_weights, plan.team, plan.threads, plan.width, working(np.nan)
    inputs_count, stored, teams, first_value = len(loop.dtypes), max(plan.kept, 1) * width, threads // team, (0,)
    slots = max(peaks_count, sums_count, 1) * (threads // WARP)
    highest, sums, slopes = steps(loop, factored, output)
    kept = plan.kept > 0
    place = np.int32 if kept else np.int64  # a row that is kept has few columns, and comparing them costs half
    find_peaks = row_pass(highest, loop, plan, output, reads=True, writes=False)
    add_terms = row_pass(sums, loop, plan, output, reads=not kept or not with_peak, writes=False)
    write_slopes = row_pass(slopes, loop, plan, output, reads=not kept, writes=True)
    highest_of, sum_of = reducer(maximum_of, team, name, max(peaks_count, 1)), reducer(add, team, name, sums_count)
    total_of = reducer(add, threads, "float64", 1)

    def kernel(  # type: ignore[no-untyped-def]
        arrays,
        outs,
        items,
        numbers,
        weights,
        each,
        labels,
        ignored,
        classes,
        columns,
        inner,
        count,
        scale,
        times,
        divisors,
        parts,
        partials,
    ):
        memory = cuda.shared.array(slots, types.float64)
        given, inputs, row_inputs = expand(numbers, kinds, working), select(arrays, places), select(arrays, row_places)
        taken, made = local(inputs_count, stored), local(outputs, stored)
        lane, factor, total, label, target = cuda.threadIdx.x % team, working(scale), 0.0, place(-1), working(0.0)
        if divided:
            factor = working(share(scale, divisors, parts))
        factor, own = settled(factor), settled(working(times))
        begin, step = np.int64(cuda.blockIdx.x) * teams, np.int64(cuda.gridDim.x) * teams
        while begin < count:
            row = begin + cuda.threadIdx.x // team
            active = row < count
            row = min(row, count - 1)  # all threads of a warp exchange numbers, also those without a row of their own
            span = (inputs, outs, (row // inner) * columns * inner + row % inner, columns, inner, np.int64(0))
            weight = working(1.0)
            if with_labels:
                found_label, label = integer(labels, row, label_dtype), place(0)
                if found_label == ignored:
                    weight = working(0.0)
                elif found_label < 0 or found_label >= columns:
                    weight = nan
                else:
                    label = place(found_label)
                target = mark(classes, label, given, working, kind)
            if with_weights:
                weight *= load((weights,), row // each, weight_dtype, working)[0]
            peaks = lowest
            if with_peak:
                peaks = find_peaks(peaks, lane, (taken, classes, label, target, given, ()), span)
                peaks = highest_of(peaks, lane, shared_pieces(memory, peaks_count))
            totals = add_terms(zeros, lane, (taken, classes, label, target, given, peaks), span)
            totals = sum_of(totals, lane, shared_pieces(memory, sums_count))
            found = load(row_inputs, row, row_dtypes, working) + given + peaks + (totals,)
            result = cast(value(*select(found, of_value)), working)
            counted = select(result, first_value)
            if factored:
                counted = weighted(counted, weight)
            if active and lane == 0:
                total += np.float64(counted[0])
                if with_items:
                    spread(items, row, scaled(counted, own), output)
            if with_outputs and active:
                shared = (taken, classes, label, target, given, peaks, select(result, rest), made, weight, factor)
                write_slopes(0, lane, shared, span)
            begin += step
        whole = total_of((total,), cuda.threadIdx.x, shared_pieces(memory, 1))
        if cuda.threadIdx.x == 0:
            spread((partials,), cuda.blockIdx.x, whole, "float64")

    return kernel
