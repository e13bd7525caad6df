"""The loops over pieces of rows: no task has a whole row, and each piece computes what its own elements contribute.

The results of the pieces must be combined before any of them continues, so there is a kernel for each stage: peaks, sums, slopes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..elements import load, read, spread, store
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, parameters, select, weighted
from ..variant import Variant
from . import table as at
from .entry import range_kernel
from .memory import advanced, pointer, pointers, row_weight, smaller, wide_vectors, word
from .row_plan import RowPlan, row_plan
from .translate import part

__all__ = ["piece_kernel"]

STRIP = 1024
"""Elements whose terms are added in the working precision before they are added in float64."""


@dataclass(frozen=True)
class Pieces(RowPlan):
    """The constants of the loop of one stage."""

    stage: str
    peaks_at: tuple[int, ...]
    sums_at: tuple[int, ...]

    @property
    def finds_peaks(self) -> bool:
        return self.stage == "peaks"

    @property
    def finds_sums(self) -> bool:
        return self.stage == "sums"

    @property
    def finds_values(self) -> bool:
        return self.stage == "slopes"


def piece_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile the loop of one stage, which is the variant's layout. Labels count from the piece's first element."""
    row = row_plan(variant)
    peaks_at, sums_at = at.found_at(variant.definition, row.peaks, row.sums)
    plan = Pieces(**vars(row), stage=variant.layout, peaks_at=peaks_at, sums_at=sums_at)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        working, classes, total = plan.working, pointer(table, at.CLASS_WEIGHTS), 0.0
        given = parameters(pointer(table, at.PARAMETERS), plan.kinds, working)
        for row in range(start, stop):
            label, marked, tops = 0, working(0.0), plan.lowest
            weight = row_weight(table, row, plan.with_labels, plan.with_weights, working)
            if plan.with_labels:
                label = read(pointer(table, at.LABELS), row)
                if label >= 0 and label < word(table, at.COLUMNS):
                    marked = mark(classes, label, given, working, plan.source)
            if plan.finds_peaks:
                find_peaks(plan, table, row, given, label, marked)
            elif plan.with_peak:
                tops = load(pointers(table, plan.peaks_at), row, plan.peak_dtypes, working)
            if plan.finds_sums:
                find_sums(plan, table, row, given, label, marked, tops)
            if plan.finds_values:
                sums = cast(load(pointers(table, plan.sums_at), row, plan.total_dtypes, np.float64), working)
                of_row = load(pointers(table, plan.row_inputs_at), row, plan.row_dtypes, working) + given + tops + (sums,)
                result = cast(plan.value(*select(of_row, plan.of_value)), working)
                counted = weighted(result, weight)[0]
                total += np.float64(counted)
                if plan.with_items:
                    store(pointer(table, at.ITEMS), row, counted, plan.output)
                if plan.with_outputs:
                    known = tops + select(result, plan.rest)
                    write_slopes(plan, table, row, given, label, marked, tops, known, working(scale) * weight)
        return total

    return kernel


@part
def find_peaks(plan: Pieces, table, row, given, label, marked):  # type: ignore[no-untyped-def]
    """Write the peaks of a row's piece."""
    working, columns, found = plan.working, word(table, at.COLUMNS), plan.lowest
    classes, inputs = pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    for column in range(columns):
        place = row * columns + column
        numbers = element(classes, inputs, place, column, label, marked, given, plan.dtypes, working, plan.source)
        found = maximum_of(found, cast(plan.peak(*select(numbers, plan.of_peak)), working))
    spread(pointers(table, plan.peaks_at), row, found, plan.name)


@part
def find_sums(plan: Pieces, table, row, given, label, marked, tops):  # type: ignore[no-untyped-def]
    """Write the sums of a row's piece."""
    working, columns, totals = plan.working, word(table, at.COLUMNS), plan.zeros64
    classes, inputs = pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    for strip in range(0, columns, STRIP):
        found = plan.zeros
        for column in range(strip, smaller(columns, strip + STRIP)):
            place = row * columns + column
            numbers = element(classes, inputs, place, column, label, marked, given, plan.dtypes, working, plan.source)
            found = add(found, cast(plan.terms(*select(numbers + tops, plan.of_terms)), working))
        totals = add(totals, cast(found, np.float64))
    spread(pointers(table, plan.sums_at), row, totals, "float64")


@part
def write_slopes(plan: Pieces, table, row, given, label, marked, tops, known, factor):  # type: ignore[no-untyped-def]
    """Write the slopes of a row's piece, times a number."""
    working, columns = plan.working, word(table, at.COLUMNS)
    classes, inputs = pointer(table, at.CLASS_WEIGHTS), pointers(table, plan.inputs_at)
    written = advanced(pointers(table, plan.outputs_at), row * columns * plan.itemsize)
    for column in range(columns):
        place = row * columns + column
        numbers = element(classes, inputs, place, column, label, marked, given, plan.dtypes, working, plan.source)
        if plan.takes_terms:
            terms = cast(plan.terms(*select(numbers + tops, plan.of_terms)), working)
            slopes = cast(plan.slope(*select(numbers + known + (terms,), plan.of_slope)), working)
        else:
            slopes = cast(plan.slope(*select(numbers + known, plan.of_slope)), working)
        spread(written, column, select(weighted(slopes, factor), plan.wanted), plan.output)
