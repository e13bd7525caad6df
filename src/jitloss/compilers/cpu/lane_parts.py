"""The parts of the loop over rows along an inner axis. Neighbouring rows are lanes, with one number each in pieces of stack.

``first`` is the first of the rows, ``base`` the index of its first element; elements of a row are the table's word ``INNER`` apart.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..elements import address, load, load_one, spread, stacks, store
from ..intrinsics import intrinsic
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, select, weighted
from . import table as at
from .lane_plan import LANES, Lanes
from .memory import (
    advance,
    columns_of_row,
    copy_out,
    label_of,
    pointer,
    pointers,
    prefetch,
    row_weight,
    smaller,
    word,
    write_short,
)
from .translate import part

__all__ = ["begin_lanes", "find_peaks", "find_sums", "find_values", "write_slopes"]

HALF = LANES // 2

STRIPE = 256
"""Columns whose terms are added in the working precision before they are added in float64."""


@part
def begin_lanes(plan: Lanes, table, first, lanes, given, labels, marks, factors, peaks, totals):  # type: ignore[no-untyped-def]
    """Read the weight of each row, and its label; reset its peaks and sums."""
    working, classes = plan.working, pointer(table, at.CLASS_WEIGHTS)
    for lane in range(lanes):
        if plan.with_labels:
            label = label_of(table, first + lane)
            write_short(labels, lane, label)
            store(marks, lane, mark(classes, label, given, working, plan.source), plan.name)
        store(factors, lane, row_weight(table, first + lane, plan.with_labels, plan.with_weights, working), plan.name)
        spread(peaks, lane, plan.lowest, plan.name)
        spread(totals, lane, plan.zeros64, "float64")


@intrinsic(prefer_literal=True)
def element_of(
    typing: Any,
    classes: Any,
    inputs: Any,
    place: Any,
    column: Any,
    labels: Any,
    marks: Any,
    lane: Any,
    given: Any,
    dtypes: Any,
    working: Any,
    kind: Any,
) -> Any:
    """The numbers of a lane's element, and the parameters."""
    real, with_labels = working.dtype, "labels" in kind.literal_value.split()
    where = types.voidptr, inputs, types.intp, types.intp
    numbers, make = element.typer(typing, *where, types.int32, real, given, dtypes, working, kind)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        classes, inputs, place, column, labels, marks, lane, given, *_ = args
        label = target = None
        if with_labels:
            label = builder.load(address(builder, labels, lane, ir.IntType(32)))
            target = load_one(context, builder, marks, lane, str(real), real)
        return make(context, builder, numbers, (classes, inputs, place, column, label, target, given))

    return numbers.return_type(*where, types.voidptr, types.voidptr, types.intp, given, dtypes, working, kind), codegen


@part
def find_peaks(plan: Lanes, table, base, lanes, given, labels, marks, peaks):  # type: ignore[no-untyped-def]
    """Find the rows' peaks."""
    classes, inputs = pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    for column in range(columns_of_row(table)):
        there = base + column * word(table, at.INNER)
        for lane in range(lanes):
            numbers = element_of(
                classes, inputs, there + lane, column, labels, marks, lane, given, plan.dtypes, plan.working, plan.source
            )
            highest = cast(plan.peak(*select(numbers, plan.of_peak)), plan.working)
            spread(peaks, lane, maximum_of(load(peaks, lane, plan.peak_dtypes, plan.working), highest), plan.name)


@part
def find_sums(plan: Lanes, table, base, lanes, following, given, labels, marks, peaks, totals, kept):  # type: ignore[no-untyped-def]
    """Add the rows' terms, and keep the only one that slopes take."""
    working, columns, prefetched = plan.working, columns_of_row(table), pointers(table, plan.flat_at)
    classes, inputs = pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    sums = stacks(plan.sums, plan.number_bytes)
    for first in range(0, columns, STRIPE):
        for lane in range(lanes):
            spread(sums, lane, plan.zeros, plan.name)
        for column in range(first, smaller(columns, first + STRIPE)):
            there = base + column * word(table, at.INNER)
            if following:
                prefetch(prefetched, there + lanes, plan.flat_dtypes, HALF, 2)
            for lane in range(lanes):
                numbers = element_of(
                    classes, inputs, there + lane, column, labels, marks, lane, given, plan.dtypes, plan.working, plan.source
                )
                with_peaks = numbers + load(peaks, lane, plan.peak_dtypes, working)
                more = cast(plan.terms(*select(with_peaks, plan.of_terms)), working)
                spread(sums, lane, add(load(sums, lane, plan.sum_dtypes, working), more), plan.name)
                if plan.kept:
                    store(kept[0], column * LANES + lane, more[plan.only], plan.name)
        for lane in range(lanes):
            found = cast(load(sums, lane, plan.sum_dtypes, working), np.float64)
            spread(totals, lane, add(load(totals, lane, plan.total_dtypes, np.float64), found), "float64")


@part
def find_values(plan: Lanes, table, first, lanes, given, peaks, totals, factors, results, total):  # type: ignore[no-untyped-def]
    """Compute the rows' values, write them where they are wanted, and add them to the total."""
    working, row_inputs = plan.working, pointers(table, plan.row_inputs_at)
    for lane in range(lanes):
        of_row = load(row_inputs, first + lane, plan.row_dtypes, working) + given
        own_sums = cast(load(totals, lane, plan.total_dtypes, np.float64), working)
        known = of_row + load(peaks, lane, plan.peak_dtypes, working) + (own_sums,)
        result = cast(plan.value(*select(known, plan.of_value)), working)
        spread(results, lane, result, plan.name)
        counted = weighted(result, load((factors,), lane, plan.own, working)[0])[0]
        total += np.float64(counted)
        if plan.with_items:
            store(pointer(table, at.ITEMS), first + lane, counted, plan.output)
    return total


@part
def write_slopes(plan: Lanes, table, base, lanes, following, given, labels, marks, peaks, results, factors, kept, scale):  # type: ignore[no-untyped-def]
    """Write the rows' slopes, times a number and the weight of each row: to a tile of one column, then to memory."""
    working, prefetched, destinations = plan.working, pointers(table, plan.flat_at), pointers(table, plan.outputs_at)
    classes, inputs = pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    tiles, streamed = stacks(plan.outputs, plan.tile_bytes), word(table, at.STREAM) == at.PAST
    for column in range(columns_of_row(table)):
        there = base + column * word(table, at.INNER)
        if following:
            prefetch(prefetched, there + lanes + HALF, plan.flat_dtypes, HALF, 2)
        for lane in range(lanes):
            numbers = element_of(
                classes, inputs, there + lane, column, labels, marks, lane, given, plan.dtypes, plan.working, plan.source
            )
            with_peaks = numbers + load(peaks, lane, plan.peak_dtypes, working)
            known = with_peaks + select(load(results, lane, plan.result_dtypes, working), plan.rest)
            if plan.kept:
                terms = load(select(kept, plan.as_terms), column * LANES + lane, plan.sum_dtypes, working)
                slopes = cast(plan.slope(*select(known + (terms,), plan.of_slope)), working)
            elif plan.takes_terms:
                terms = cast(plan.terms(*select(with_peaks, plan.of_terms)), working)
                slopes = cast(plan.slope(*select(known + (terms,), plan.of_slope)), working)
            else:
                slopes = cast(plan.slope(*select(known, plan.of_slope)), working)
            factor = scale * load((factors,), lane, plan.own, working)[0]
            spread(tiles, lane, select(weighted(slopes, factor), plan.wanted), plan.output)
        for which in range(plan.outputs):
            copy_out(advance(destinations[which], there * plan.itemsize), tiles[which], lanes * plan.itemsize, streamed)
