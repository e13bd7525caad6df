"""The kernel over rows: a rowwise definition for CUDA."""

from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import spread
from ..rowwise import row_loop
from ..tuples import add, maximum_of, scaled, select
from ..variant import Variant
from .exchange import WARP, across, arrive, reducer, shared_pieces, wait
from .memory import expand, fetch_row, local, opaque
from .passes import Row, Span, own_dtypes, passes
from .plan import Plan
from .row_ends import closing, opening, writing
from .sums import divider, ending
from .toolchain import jitable_for

__all__ = ["rowwise_kernel"]


def rowwise_kernel(variant: Variant, plan: Plan) -> Any:
    """A kernel in which a team of threads processes a row: its peak, its sums, its slopes.

    A team is one thread, part of a warp, a block, or a cluster of blocks. The threads keep the row in registers where it fits by
    the plan; else each of the three passes reads it again, from the cache where it is not too long. A row whose label is not a
    class becomes NaN.
    """
    loop = row_loop(variant, jitable_for(variant))
    working, name, output, kinds = loop.working, variant.working, variant.output, variant.statics
    places, row_places, lowest, zeros, outputs = loop.inputs, loop.row_inputs, loop.lowest, loop.zeros, loop.outputs
    peaks_count, sums_count, inputs_count, dtypes = len(lowest), len(zeros), len(loop.dtypes), loop.dtypes
    with_peak, with_labels, with_items, with_outputs = peaks_count > 0, variant.targets == "labels", variant.items, outputs > 0

    team, threads, width, cluster, held, reach = plan.team, plan.threads, plan.width, plan.cluster, plan.kept, plan.reach
    kept, strided, clustered, divided, totalled = held > 0, plan.strided, cluster > 1, plan.divided, plan.total != "nothing"
    teams, exchanged, stored = threads // team, peaks_count + sums_count, max(held, 1) * width
    slots = max(peaks_count, sums_count, 1) * (threads // WARP)
    cluster_bits, team_bits, width_bits = (one.bit_length() - 1 for one in (cluster, team, width))  # all of them powers of two
    of_peaks, of_sums, everybody = tuple(range(peaks_count)), tuple(range(peaks_count, exchanged)), team * cluster
    # The divisor is published before the sums, and read after them. Between the two lie the barriers of the sums if a team is
    # larger than a warp, and is thus the block, also where blocks form clusters. Smaller teams exchange by shuffles, or not at all.
    with_barriers = team > WARP
    # It is found while the row is being loaded; but before that if a block has its registers full of it.
    early = plan.packed and with_barriers
    place = np.int32 if kept else np.int64  # a row that is kept has few columns, and 32-bit comparisons cost half

    do, own_as = passes(loop, plan, output), own_dtypes(loop, plan)
    find_peaks, add_terms, patched = do.peaks, do.sums, do.patched
    highest_of, sum_of = reducer(maximum_of, team, name, max(peaks_count, 1)), reducer(add, team, name, sums_count)
    highest_across, sum_across = across(maximum_of, cluster, name, peaks_count), across(add, cluster, name, sums_count)
    open_row, close_row, write_row = opening(variant, plan, loop, place), closing(variant, loop), writing(variant, loop, do)
    (begin_division, end_division), end = divider(variant, plan, with_barriers), ending(plan, name, teams > 1)

    def kernel(  # type: ignore[no-untyped-def]
        arrays, outs, items, numbers, weights, each, labels, ignored, classes, columns, inner, count, scale, times, divisors,
        parts, partials,
    ):  # fmt: skip
        memory = cuda.shared.array(slots, types.float64)
        quotient = cuda.shared.array(1, types.float64)  # on a line of its own: the simulator knows shared arrays by their lines
        shared = shared_pieces(cuda.shared.array(exchanged, types.float64), exchanged)
        given, inputs, row_inputs = expand(numbers, kinds, working), select(arrays, places), select(arrays, row_places)
        kept_elements, kept_slopes, kept_terms = local(inputs_count, stored), local(outputs, stored), local(sums_count, stored)
        thread, rank = cuda.threadIdx.x, cuda.blockIdx.x & (cluster - 1)
        own_lane, total = thread & (team - 1), 0.0
        lane = rank * team + own_lane
        row = np.int64(cuda.blockIdx.x >> cluster_bits) * teams + (thread >> team_bits)
        active = row < count
        row = min(row, count - 1)  # all threads of a warp take part in exchanges, also those without a row of their own
        if strided:
            distance, base = inner, (row // inner) * columns * inner + row % inner
        else:
            distance, base = np.int64(1), row * columns
        span = Span(inputs, outs, base, columns, distance, np.int64(0))
        whole_scale = scale
        if divided and early:
            whole_scale = begin_division(
                scale, divisors, parts, labels, ignored, weights, each, classes, columns, count, thread, memory, quotient
            )
        if kept:
            fetch_row(kept_elements, inputs, base, np.int64(lane * width), columns, dtypes, own_as, width, held, reach, working)
        if divided and not early:
            whole_scale = begin_division(
                scale, divisors, parts, labels, ignored, weights, each, classes, columns, count, thread, memory, quotient
            )
        label, target, weight = open_row(labels, ignored, columns, classes, given, weights, each, row)
        peaks = lowest
        if with_peak:
            peaks = find_peaks(
                peaks, lane, Row(kept_elements, classes, label, target, given, kept_terms, kept_slopes, (), (), ()), span
            )
            peaks = highest_of(peaks, own_lane, shared_pieces(memory, peaks_count))
            if clustered:
                peaks = highest_across(peaks, thread, select(shared, of_peaks))
        known = Row(kept_elements, classes, label, target, given, kept_terms, kept_slopes, peaks, (), ())
        mine = with_labels and (label >> width_bits) & (everybody - 1) == lane
        totals = add_terms(zeros, lane, known, span)
        if mine:
            totals = patched(totals, base + label * distance, known, inputs)
        totals = sum_of(totals, own_lane, shared_pieces(memory, sums_count))
        if clustered:
            totals = sum_across(totals, thread, select(shared, of_sums))
            arrive()
        if divided:
            whole_scale = end_division(whole_scale, quotient)
        factor, own = opaque(working(whole_scale)), opaque(working(times))
        seen, coefficients = close_row(row_inputs, row, given, peaks, totals, weight)
        if active and lane == 0:
            total += np.float64(seen[0])
            if with_items:
                spread(items, row, scaled(seen, own), output)
        if with_outputs and active:
            final = Row(
                kept_elements, classes, label, target, given, kept_terms, kept_slopes, peaks, coefficients, factor * weight
            )
            write_row(weight, lane, mine, final, span)
        if clustered:
            wait()  # shared memory must stay valid until all blocks have read it
        if totalled:
            end(total, whole_scale, partials, cuda.blockIdx.x, thread, memory)

    return kernel
