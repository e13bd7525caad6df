"""The work of a thread on its part of a row: one pass for peaks, one for sums, one for slopes."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..elements import load, spread
from ..rowwise import RowLoop
from ..targets import element
from ..tuples import add, cast, maximum_of, patch, scaled, select
from .memory import clear, clear_row, fetch, flush, repeated
from .plan import Plan
from .sums import compensated_add, compensated_sum
from .toolchain import jitable

__all__ = ["Passes", "Row", "Span", "own_dtypes", "passes"]


class Row(NamedTuple):
    """What all elements of a row share; what is not yet known, or not needed, is empty.

    ``kept_elements``, ``kept_slopes`` and ``kept_terms`` are in the thread's own memory. Slopes are multiplied by ``factor``.
    """

    kept_elements: Any
    classes: Any
    label: Any
    target: Any
    given: Any
    kept_terms: Any
    kept_slopes: Any
    peaks: Any
    coefficients: Any
    factor: Any


class Span(NamedTuple):
    """The memory layout of a row: its first element in inputs and outputs, its columns and their stride, the first wanted column."""

    inputs: Any
    outs: Any
    base: Any
    columns: Any
    distance: Any
    begin: Any


@dataclass(frozen=True)
class Passes:
    """The passes of a thread over its part of a row, each a function ``(state, lane, row, span)`` to the new state.

    They treat the labelled element like all others, unless it is marked. The thread to which it belongs, and which alone writes
    it, corrects for that: ``patched`` corrects its sums, ``labelled`` gives the slopes of the element.
    """

    peaks: Any
    sums: Any
    slopes: Any
    zeros: Any
    patched: Any
    labelled: Any


def passes(loop: RowLoop, plan: Plan, output: str) -> Passes:
    """The passes over a row that is kept in a thread's own memory, or read again in each of them."""
    name, kept = np.dtype(loop.working).name, plan.kept > 0
    highest, sums, slopes, patched, labelled = _steps(loop, plan, name)
    return Passes(
        peaks=_row_pass(highest, loop, plan, output, reads=not kept),
        sums=_row_pass(sums, loop, plan, output, reads=not kept, adds=True),
        slopes=_row_pass(slopes, loop, plan, output, reads=not kept, writes=True),
        zeros=_zeros(plan, output) if kept else _row_pass(None, loop, plan, output, clears=True),
        patched=patched,
        labelled=labelled,
    )


def own_dtypes(loop: RowLoop, plan: Plan) -> tuple[str, ...]:
    """The dtypes in which a thread keeps the elements of a row."""
    return loop.dtypes if plan.packed else (np.dtype(loop.working).name,) * len(loop.dtypes)


def _steps(loop: RowLoop, plan: Plan, name: str) -> tuple[Any, ...]:
    """What each pass does with one element: ``(state, place, column, row)`` gives the new state.

    ``place`` is the element's index in the thread's own memory. The terms of a row that is kept are kept too, for its slopes,
    unless it is packed, which leaves no room for them.
    """
    peak, terms, slope, working = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.slope, loop.working
    top, of_peak, summed, of_terms = peak.function, peak.wanted, terms.function, terms.wanted
    bent, of_slope, takes_terms, wanted = slope.function, slope.wanted, loop.rows.slope_takes_terms, loop.wanted
    stored = loop.dtypes
    own, kind, kept = own_dtypes(loop, plan), loop.source, plan.kept > 0 and not plan.packed
    keeps = loop.rows.slope_takes_terms and loop.outputs > 0 and kept
    own_terms = (name,) * terms.results
    marks_peaks, marks_terms = "labels" in kind.split() and len(own) in of_peak, loop.marks_terms

    @jitable
    def numbers(place, column, row):  # type: ignore[no-untyped-def]
        return element(row.classes, row.kept_elements, place, column, None, row.target, row.given, own, working, kind) + row.peaks

    @jitable
    def marked(place, column, row):  # type: ignore[no-untyped-def]
        return (
            element(row.classes, row.kept_elements, place, column, row.label, row.target, row.given, own, working, kind)
            + row.peaks
        )

    @jitable
    def highest(peaks, place, column, row):  # type: ignore[no-untyped-def]
        if marks_peaks:
            found = marked(place, column, row)
        else:
            found = numbers(place, column, row)
        return maximum_of(peaks, cast(top(*select(found, of_peak)), working))

    @jitable
    def sums(state, place, column, row):  # type: ignore[no-untyped-def]
        if marks_terms:
            own_numbers = marked(place, column, row)
        else:
            own_numbers = numbers(place, column, row)
        found = cast(summed(*select(own_numbers, of_terms)), working)
        if keeps:
            spread(row.kept_terms, place, found, name)
        return add(state, found)

    @jitable
    def bend(found, own_found, row):  # type: ignore[no-untyped-def]
        if takes_terms:
            everything = found + row.coefficients + (own_found,)
        else:
            everything = found + row.coefficients
        return scaled(select(cast(bent(*select(everything, of_slope)), working), wanted), row.factor)

    @jitable
    def slopes(state, place, column, row):  # type: ignore[no-untyped-def]
        found = numbers(place, column, row)
        if keeps:
            own_found = load(row.kept_terms, place, own_terms, working)
        else:
            own_found = cast(summed(*select(found, of_terms)), working)
        spread(row.kept_slopes, place, bend(found, own_found, row), name)
        return state

    @jitable
    def patched(totals, at, row, inputs):  # type: ignore[no-untyped-def]
        if marks_terms:
            return totals
        there = element(row.classes, inputs, at, row.label, row.label, row.target, row.given, stored, working, kind) + row.peaks
        elsewhere = element(row.classes, inputs, at, row.label, None, row.target, row.given, stored, working, kind) + row.peaks
        here, old = cast(summed(*select(there, of_terms)), working), cast(summed(*select(elsewhere, of_terms)), working)
        return patch(totals, here, old)

    @jitable
    def labelled(at, row, inputs):  # type: ignore[no-untyped-def]
        there = element(row.classes, inputs, at, row.label, row.label, row.target, row.given, stored, working, kind) + row.peaks
        return bend(there, cast(summed(*select(there, of_terms)), working), row)

    return highest, sums, slopes, patched, labelled


def _row_pass(
    step: Any,
    loop: RowLoop,
    plan: Plan,
    output: str,
    *,
    reads: bool = False,
    writes: bool = False,
    clears: bool = False,
    adds: bool = False,
) -> Any:
    """One pass of a thread over its part of a row. If the row is read and may be long, sums are compensated (two-sum)."""
    width, held, dtypes, working = plan.width, plan.kept, loop.dtypes, loop.working
    reach, steps, zeros, nothing = plan.reach, step is not None, loop.zeros, loop.zeros * 2

    @jitable
    def vector(state, place, column, both):  # type: ignore[no-untyped-def]
        row, span = both
        if column < span.columns:
            if reads:
                fetch(row.kept_elements, place, span.inputs, span.base + column * span.distance, dtypes, width, working)
            if steps:
                state = repeated(step, width, state, place, column, row, 1, 1)
            if writes:
                flush(span.outs, span.base + column * span.distance, row.kept_slopes, place, output, width, working)
            if clears:
                clear(span.outs, span.base + column * span.distance, output, width)
        return state

    if held:

        @jitable
        def over_the_row(state, lane, row, span):  # type: ignore[no-untyped-def]
            return repeated(vector, held, state, 0, np.int64(lane * width), (row, span), width, reach)
    elif adds:

        @jitable
        def over_the_row(state, lane, row, span):  # type: ignore[no-untyped-def]
            found, column = nothing, span.begin + lane * width
            while column < span.columns:
                found = compensated_add(found, vector(zeros, 0, column, (row, span)))
                column += reach
            return add(state, compensated_sum(found))
    else:

        @jitable
        def over_the_row(state, lane, row, span):  # type: ignore[no-untyped-def]
            column = span.begin + lane * width
            while column < span.columns:
                state = vector(state, 0, column, (row, span))
                column += reach
            return state

    return over_the_row


def _zeros(plan: Plan, output: str) -> Any:
    """The pass that writes zeros for a row that is kept."""
    width, held, reach = plan.width, plan.kept, plan.reach

    @jitable
    def over_the_row(state, lane, row, span):  # type: ignore[no-untyped-def]
        clear_row(span.outs, span.base, np.int64(lane * width), span.columns, output, width, held, reach)
        return state

    return over_the_row
