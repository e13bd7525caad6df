"""The kernel over rows: a rowwise definition for CUDA."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import ITEMSIZE, load, spread
from ..rowwise import RowLoop, row_loop
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, patch, scaled, select, weighted
from ..variant import Variant
from .memory import (
    WARP,
    across,
    arrive,
    clear,
    clear_row,
    expand,
    fetch,
    fetch_row,
    flush,
    integer,
    local,
    reducer,
    repeated,
    settled,
    shared_pieces,
    wait,
)
from .plan import Plan
from .sums import divider
from .toolchain import jitable, jitable_for

__all__ = ["Passes", "passes", "rowwise_kernel"]


@dataclass(frozen=True)
class Passes:
    """What a thread does with its part of a row, each a function ``(state, lane, row, span)`` to the new state.

    ``row`` is what all elements of a row share. ``span`` is where the row lies: inputs, outputs, its first element, its columns, the
    distance of neighbours, and the first column that is wanted.

    The element with the label is an element like all others to them. The thread to which it belongs, and which alone writes it, puts
    that right: ``patched`` is for its sums, ``labelled`` gives the slopes of the element.
    """

    peaks: Any
    sums: Any
    slopes: Any
    zeros: Any
    patched: Any
    labelled: Any


def passes(loop: RowLoop, plan: Plan, output: str) -> Passes:
    """The passes over a row that lies in a thread's own memory, or is read anew in each of them."""
    name, kept = np.dtype(loop.working).name, plan.kept > 0
    highest, sums, slopes, patched, labelled = _steps(loop, kept, name)
    return Passes(
        peaks=_row_pass(highest, loop, plan, output, reads=not kept),
        sums=_row_pass(sums, loop, plan, output, reads=not kept),
        slopes=_row_pass(slopes, loop, plan, output, reads=not kept, writes=True),
        zeros=_row_pass(None, loop, plan, output, clears=True),
        patched=patched,
        labelled=labelled,
    )


def _steps(loop: RowLoop, kept: bool, name: str) -> tuple[Any, ...]:
    """What happens to one element in each pass: ``(state, place, column, row)`` gives the new state.

    ``place`` is where the element lies in the thread's own memory. The terms of a row that is kept are kept too, for its slopes.
    """
    peak, terms, slope, working = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.slope, loop.working
    top, of_peak, summed, of_terms = peak.function, peak.wanted, terms.function, terms.wanted
    bent, of_slope, takes_terms, wanted = slope.function, slope.wanted, loop.rows.slope_takes_terms, loop.wanted
    stored = loop.dtypes
    own, kind, keeps = (name,) * len(loop.dtypes), loop.source, loop.rows.slope_takes_terms and loop.outputs > 0 and kept
    own_terms = (name,) * terms.results
    compared = "labels" in kind.split() and len(own) in of_peak

    @jitable
    def numbers(place, column, row):  # type: ignore[no-untyped-def]
        return element(row[1], row[0], place, column, None, row[3], row[4], own, working, kind) + row[5]

    @jitable
    def highest(peaks, place, column, row):  # type: ignore[no-untyped-def]
        if compared:
            found = element(row[1], row[0], place, column, row[2], row[3], row[4], own, working, kind)
        else:
            found = numbers(place, column, row)
        return maximum_of(peaks, cast(top(*select(found, of_peak)), working))

    @jitable
    def sums(state, place, column, row):  # type: ignore[no-untyped-def]
        found = cast(summed(*select(numbers(place, column, row), of_terms)), working)
        if keeps:
            spread(row[6], place, found, name)
        return add(state, found)

    @jitable
    def bend(found, own_found, row):  # type: ignore[no-untyped-def]
        if takes_terms:
            everything = found + row[7] + (own_found,)
        else:
            everything = found + row[7]
        return scaled(select(cast(bent(*select(everything, of_slope)), working), wanted), row[9])

    @jitable
    def slopes(state, place, column, row):  # type: ignore[no-untyped-def]
        found = numbers(place, column, row)
        if keeps:
            own_found = load(row[6], place, own_terms, working)
        else:
            own_found = cast(summed(*select(found, of_terms)), working)
        spread(row[8], place, bend(found, own_found, row), name)
        return state

    @jitable
    def patched(totals, at, row, inputs):  # type: ignore[no-untyped-def]
        there = element(row[1], inputs, at, row[2], row[2], row[3], row[4], stored, working, kind) + row[5]
        elsewhere = element(row[1], inputs, at, row[2], None, row[3], row[4], stored, working, kind) + row[5]
        here, old = cast(summed(*select(there, of_terms)), working), cast(summed(*select(elsewhere, of_terms)), working)
        return patch(totals, here, old)

    @jitable
    def labelled(at, row, inputs):  # type: ignore[no-untyped-def]
        there = element(row[1], inputs, at, row[2], row[2], row[3], row[4], stored, working, kind) + row[5]
        return bend(there, cast(summed(*select(there, of_terms)), working), row)

    return highest, sums, slopes, patched, labelled


def _row_pass(
    step: Any, loop: RowLoop, plan: Plan, output: str, *, reads: bool = False, writes: bool = False, clears: bool = False
) -> Any:
    """One pass of a thread over its part of a row."""
    width, held, dtypes, working = plan.width, plan.kept, loop.dtypes, loop.working
    reach, steps = plan.team * plan.cluster * plan.width, step is not None

    @jitable
    def vector(state, place, column, both):  # type: ignore[no-untyped-def]
        row, (inputs, outs, base, columns, inner, _) = both
        if column < columns:
            if reads:
                fetch(row[0], place, inputs, base + column * inner, dtypes, width, working)
            if steps:
                state = repeated(step, width, state, place, column, row, 1, 1)
            if writes:
                flush(outs, base + column * inner, row[8], place, output, width, working)
            if clears:
                clear(outs, base + column * inner, output, width)
        return state

    if held:

        @jitable
        def over_the_row(state, lane, row, span):  # type: ignore[no-untyped-def]
            return repeated(vector, held, state, 0, np.int64(lane * width), (row, span), width, reach)
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

    A team is one thread, part of a warp, the block, or a cluster of blocks. The threads hold the row in registers where the plan says
    that it fits; else each of the three passes reads it again, from the cache where it is not too long. A row whose label is no class
    becomes NaN.
    """
    loop = row_loop(variant, jitable_for(variant))
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
    slots, cluster, clustered = max(peaks_count, sums_count, 1) * (threads // WARP), plan.cluster, plan.cluster > 1
    kept, everybody, exchanged = plan.kept > 0, team * plan.cluster, peaks_count + sums_count
    apart, several, totalled, valued = plan.apart, teams > 1, plan.total != "nothing", plan.total == "value"
    divide, wide = divider(variant, plan), ITEMSIZE[output] > 2
    first = threads > 256 or (clustered and wide)  # where registers are scarce; else while the row is on its way
    cluster_bits, team_bits, width_bits = (one.bit_length() - 1 for one in (cluster, team, width))  # all of them powers of two
    nothing, dtypes = (working(0.0),) * outputs, loop.dtypes
    of_peaks, of_sums = tuple(range(peaks_count)), tuple(range(peaks_count, exchanged))
    place = np.int32 if kept else np.int64  # a row that is kept has few columns, and comparing them costs half
    do = passes(loop, plan, output)
    find_peaks, add_terms, write_slopes, write_zeros = do.peaks, do.sums, do.slopes, do.zeros
    patched, labelled, reach, held = do.patched, do.labelled, everybody * width, plan.kept
    highest_of, sum_of = reducer(maximum_of, team, name, max(peaks_count, 1)), reducer(add, team, name, sums_count)
    highest_across, sum_across = across(maximum_of, cluster, name, peaks_count), across(add, cluster, name, sums_count)
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
        shared = shared_pieces(cuda.shared.array(exchanged, types.float64), exchanged)
        given, inputs, row_inputs = expand(numbers, kinds, working), select(arrays, places), select(arrays, row_places)
        taken, made, heights = local(inputs_count, stored), local(outputs, stored), local(sums_count, stored)
        thread, rank = cuda.threadIdx.x, cuda.blockIdx.x & (cluster - 1)
        own_lane, total, label, target = thread & (team - 1), 0.0, place(0), working(0.0)
        lane = rank * team + own_lane
        whole_scale = scale
        if divided and first:
            whole_scale = divide(scale, divisors, parts, labels, ignored, weights, each, classes, columns, count, thread, memory)
        row = np.int64(cuda.blockIdx.x >> cluster_bits) * teams + (thread >> team_bits)
        active = row < count
        row = min(row, count - 1)  # all threads of a warp exchange numbers, also those without a row of their own
        if apart:
            distance, base = inner, (row // inner) * columns * inner + row % inner
        else:
            distance, base = np.int64(1), row * columns
        span = (inputs, outs, base, columns, distance, np.int64(0))
        if kept:
            fetch_row(taken, inputs, base, np.int64(lane * width), columns, dtypes, width, held, reach, working)
        if divided and not first:
            whole_scale = divide(scale, divisors, parts, labels, ignored, weights, each, classes, columns, count, thread, memory)
        factor, own = settled(working(whole_scale)), settled(working(times))
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
            peaks = highest_of(peaks, own_lane, shared_pieces(memory, peaks_count))
            if clustered:
                peaks = highest_across(peaks, thread, select(shared, of_peaks))
        known = (taken, classes, label, target, given, peaks, heights)
        mine = with_labels and (label >> width_bits) & (everybody - 1) == lane
        totals = add_terms(zeros, lane, known, span)
        if mine:
            totals = patched(totals, base + label * distance, known, inputs)
        totals = sum_of(totals, own_lane, shared_pieces(memory, sums_count))
        if clustered:
            totals = sum_across(totals, thread, select(shared, of_sums))
            arrive()
        found = load(row_inputs, row, row_dtypes, working) + given + peaks + (totals,)
        result = cast(value(*select(found, of_value)), working)
        seen = select(result, first_value)
        if factored:
            seen = weighted(seen, weight)
        if active and lane == 0:
            total += np.float64(seen[0])
            if with_items:
                spread(items, row, scaled(seen, own), output)
        if with_outputs and active:
            final = known + (select(result, rest), made, factor * weight)
            if factored and weight == working(0.0):
                if kept:
                    clear_row(outs, base, np.int64(lane * width), columns, output, width, held, reach)
                else:
                    write_zeros(0, lane, final, span)
            else:
                bent = nothing
                if mine:
                    bent = labelled(base + label * distance, final, inputs)
                write_slopes(0, lane, final, span)
                if mine:
                    spread(outs, base + label * distance, bent, output)
        if clustered:
            wait()  # nobody's shared memory goes before it has been read
        if totalled:
            whole = (total,)
            if several:
                whole = total_of(whole, thread, shared_pieces(memory, 1))
            if thread == 0 and valued:
                spread((partials,), 0, scaled(whole, whole_scale), name)
            elif thread == 0:
                spread((partials,), cuda.blockIdx.x, whole, "float64")

    return kernel
