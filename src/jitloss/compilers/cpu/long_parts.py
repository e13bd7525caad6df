"""The three parts of the loop over long rows: for some rows side by side their peaks, their sums, their slopes.

A part is given the plan, the table, its rows, how far ahead to prefetch, the parameters, the pieces with a number for each row,
and those of terms that are kept.
"""

from ..elements import load, spread, stacks
from ..targets import element, mark
from ..tuples import cast, scaled, select
from . import table as at
from .across import peak_across, sum_across
from .blocks import copy_in, fill, mix, set_aside
from .long_plan import BLOCK, SLOPE_STRIP, TILE, LongRows
from .loops import each_scaled, fold_lanes
from .memory import (
    advanced,
    clear_all,
    columns_of_row,
    either,
    label_of,
    pointer,
    pointers,
    prefetch,
    prefetch_for_writing,
    row_weight,
    smaller,
    source_pointers,
    word,
)
from .stream import begin, finish, flow_out, flowing
from .translate import part

__all__ = ["add_terms", "find_peaks", "write_slopes"]

STRIP = 4096
"""Elements between two additions in float64."""

QUARTER, HALF_BLOCK, HALF = BLOCK // 4, BLOCK // 2, SLOPE_STRIP // 2


@part
def find_peaks(plan: LongRows, table, first_row, last_row, ahead, given, of_rows, kept):  # type: ignore[no-untyped-def]
    """Find the peaks of the rows."""
    working, dtypes = plan.working, plan.flat_dtypes
    columns, classes, inputs = columns_of_row(table), pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    prefetched, spread_out = pointers(table, plan.flat_at), word(table, at.STREAM) != at.THROUGH
    mixture, lanes = stacks(plan.mixtures, plan.mixed_bytes), stacks(plan.peaks, plan.lane_bytes)
    for row in range(first_row, last_row):
        base = row * columns
        if plan.factored and row_weight(table, row, plan.with_labels, plan.with_weights, working) == working(0.0):
            continue
        if plan.marked_peaks:
            label = label_of(table, row)
            marked = mark(classes, label, given, working, plan.source)
        fill(BLOCK, lanes, plan.lowest, working)
        for first in range(0, columns, BLOCK):
            place = smaller(first, columns - BLOCK)
            if plan.peaks_mix:
                mix(mixture[0], BLOCK, classes, inputs, base, place, given, plan.dtypes, working, plan.source)
            if plan.marked_peaks and place <= label and label < place + BLOCK:
                spread(mixture, label - place, (marked,), plan.name)
            sources = source_pointers(mixture + kept, table, plan.flat_at, (), dtypes, base + place, 0)
            if plan.with_outputs and spread_out:
                prefetch(prefetched, base + ahead + place // 4, dtypes, QUARTER, 2)
            fold_lanes("peak", plan.peak, BLOCK, sources, dtypes, plan.peak_takes, given, (), lanes, working)
        spread(select(of_rows, plan.beside.tops), row - first_row, peak_across(lanes, BLOCK, working), plan.name)


@part
def add_terms(plan: LongRows, table, first_row, last_row, ahead, given, of_rows, kept):  # type: ignore[no-untyped-def]
    """Add the terms of the rows, and read what else their values take.

    The last block of a row, which overlaps the block before, comes first: an output may be an input.
    """
    its = plan.beside
    working, dtypes, itemsize = plan.working, plan.flat_dtypes, plan.itemsize
    columns, classes, inputs = columns_of_row(table), pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    prefetched, spread_out = pointers(table, plan.flat_at), word(table, at.STREAM) != at.THROUGH
    destinations, streamed = pointers(table, plan.outputs_at), word(table, at.STREAM) == at.PAST
    mixture = stacks(plan.mixtures, plan.mixed_bytes)
    lanes, last_lanes, tail = stacks(plan.sums, plan.lane_bytes), stacks(plan.sums, plan.lane_bytes), columns % BLOCK
    for row in range(first_row, last_row):
        base, which, totals = row * columns, row - first_row, plan.zeros64
        weight = row_weight(table, row, plan.with_labels, plan.with_weights, working)
        spread(select(of_rows, its.counts), which, (weight,), plan.name)
        if plan.factored and weight == working(0.0):
            continue
        tops = load(select(of_rows, its.tops), which, plan.top_dtypes, working)
        if plan.with_labels:
            label = label_of(table, row)
            marked = mark(classes, label, given, working, plan.source)
            there = element(classes, inputs, base + label, label, label, marked, given, plan.dtypes, working, plan.source)
            if plan.marks_terms:
                elsewhere = there
            else:
                elsewhere = element(classes, inputs, base + label, label, None, marked, given, plan.dtypes, working, plan.source)
            spread(select(of_rows, its.labelled), which, select(there, its.of_label), plan.name)
            spread(select(of_rows, its.background), which, select(elsewhere, its.of_background), plan.name)
        fill(BLOCK, last_lanes, plan.zeros, working)
        for strip in range(0, columns, STRIP):
            fill(BLOCK, lanes, plan.zeros, working)
            before = BLOCK if strip == 0 and tail > 0 else 0
            for first in range(strip - before, smaller(strip + STRIP, columns - tail), BLOCK):
                place = first if first >= 0 else columns - BLOCK
                if plan.mixed:
                    mix(mixture[0], BLOCK, classes, inputs, base, place, given, plan.dtypes, working, plan.source)
                if plan.marks_terms and place <= label and label < place + BLOCK:
                    spread(mixture, label - place, (marked,), plan.name)
                following = base + ahead
                if not plan.with_outputs:
                    prefetch(prefetched, following + place, dtypes, BLOCK, 2)
                elif spread_out and plan.with_peak:
                    prefetch(prefetched, following + (columns + place) // 4, dtypes, QUARTER, 2)
                elif spread_out:
                    prefetch(prefetched, following + place // 2, dtypes, HALF_BLOCK, 2)
                else:
                    prefetch(prefetched, following + place, dtypes, BLOCK, 1)
                    prefetch_for_writing(destinations, (base + place) * itemsize, BLOCK * itemsize)
                if plan.kept_in_output:
                    homes = select(kept + advanced(destinations, (base + place) * itemsize), plan.terms_at)
                    pieces = mixture + either(streamed or first < 0, kept, homes)
                else:
                    pieces = mixture + advanced(kept, (which * columns + place) * plan.number_size)
                sources = source_pointers(pieces, table, plan.flat_at, (), dtypes, base + place, 0)
                numbers, taken = given + tops, plan.terms_take
                fold_lanes("sum", plan.terms, BLOCK, sources, dtypes, taken, numbers, plan.own_terms, lanes, working)
                if first < 0:
                    set_aside(BLOCK, lanes, last_lanes, working)
            counted_twice = BLOCK if strip + STRIP < columns else -columns % BLOCK
            totals = sum_across(lanes, last_lanes, counted_twice, BLOCK, totals, working)
        if plan.kept_in_output and not streamed:
            ends = select(advanced(destinations, (base + columns - tail) * itemsize), (0,))
            copy_in(ends, select(kept, (plan.only,)), BLOCK - tail, tail, plan.own, working)
        spread(select(of_rows, its.sums), which, cast(totals, working), plan.name)
        own_inputs = load(pointers(table, plan.row_inputs_at), row, plan.row_dtypes, working)
        spread(select(of_rows, its.own), which, own_inputs, plan.name)


@part
def write_slopes(plan: LongRows, table, first_row, last_row, ahead, given, of_rows, kept, scale, buffers, flows):  # type: ignore[no-untyped-def]
    """Write the slopes of the rows, times a number and the weight of each row."""
    its = plan.beside
    working, dtypes, itemsize = plan.working, plan.flat_dtypes, plan.itemsize
    columns, classes, inputs = columns_of_row(table), pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    prefetched, destinations = pointers(table, plan.flat_at), pointers(table, plan.outputs_at)
    mixture = stacks(plan.mixtures, plan.mixed_bytes)
    step = SLOPE_STRIP if word(table, at.STREAM) != at.THROUGH else TILE if plan.mixed else columns
    for row in range(first_row, last_row):
        base, which = row * columns, row - first_row
        weight = load(select(of_rows, its.counts), which, plan.own, working)[0]
        if plan.factored and weight == working(0.0):
            finish(word(table, at.STREAM) == at.PAST, buffers, flows)
            clear_all(advanced(destinations, base * itemsize), columns * itemsize)
            begin(flows, advanced(destinations, (base + columns) * itemsize))
            continue
        factor, others = scale * weight, given + load(select(of_rows, its.known), which, plan.known_dtypes, working)
        if plan.with_labels:
            label = label_of(table, row)
        for first in range(0, columns, step):
            count, streamed = smaller(step, columns - first), word(table, at.STREAM) == at.PAST
            if word(table, at.STREAM) != at.THROUGH:
                prefetch(prefetched, base + ahead + (columns + first) // 2, dtypes, HALF, 2)
            if plan.mixed:
                mix(mixture[0], count, classes, inputs, base, first, given, plan.dtypes, working, plan.source)
            final = advanced(destinations, (base + first) * itemsize)
            to = flowing(streamed, buffers, flows, final)
            if plan.kept_in_output and not streamed:
                sources = source_pointers(
                    mixture + select(kept + final, plan.terms_at), table, plan.flat_at, (), dtypes, base + first, 0
                )
                slope, taken = plan.slope, plan.slope_takes
                each_scaled(slope, count, sources, dtypes, taken, plan.own_terms, others, to, plan.output, factor, working)
            else:
                pieces = mixture + advanced(kept, (which * columns + first) * plan.number_size)
                sources = source_pointers(pieces, table, plan.flat_at, (), dtypes, base + first, 0)
                again, takes = plan.again, plan.again_takes
                each_scaled(again, count, sources, dtypes, takes, plan.own_terms, others, to, plan.output, factor, working)
            if plan.with_labels and first <= label and label < first + count:
                slopes = load(select(of_rows, its.slopes), which, plan.slope_dtypes, working)
                spread(to, label - first, scaled(slopes, factor), plan.output)
            flow_out(streamed, buffers, flows, count * itemsize)
