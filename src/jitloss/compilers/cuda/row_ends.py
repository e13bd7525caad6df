"""What happens once per row, before and after its passes: its label and its weight, its value, and the writing of its slopes."""

from typing import Any

import numpy as np

from ..elements import load, spread
from ..rowwise import RowLoop
from ..targets import mark
from ..tuples import cast, select, weighted
from ..variant import Variant
from .memory import integer
from .passes import Passes
from .plan import Plan
from .toolchain import jitable

__all__ = ["closing", "opening", "writing"]


def _factored(variant: Variant) -> bool:
    """Whether rows have weights: the caller's, or 0 and NaN because of their labels."""
    return variant.targets == "labels" or variant.weights


def opening(variant: Variant, plan: Plan, loop: RowLoop, place: Any) -> Any:
    """A function that gives a row's label as the column ``place``, the target there, and the weight of the row.

    An ignored row has weight 0, and one whose label is not a class NaN.
    """
    working, kind, weight_dtype, label_dtype = loop.working, loop.source, (plan.weights,), plan.labels
    with_labels, with_weights, nan = variant.targets == "labels", variant.weights, loop.working(np.nan)

    @jitable
    def opened(labels, ignored, columns, classes, given, weights, each, row):  # type: ignore[no-untyped-def]
        label, target, weight = place(0), working(0.0), working(1.0)
        if with_labels:
            found = integer(labels, row, label_dtype)
            if found == ignored:
                weight = working(0.0)
            elif found < 0 or found >= columns:
                weight = nan
            else:
                label = place(found)
            target = mark(classes, label, given, working, kind)
        if with_weights:
            weight *= load((weights,), row // each, weight_dtype, working)[0]
        return label, target, weight

    return opened


def closing(variant: Variant, loop: RowLoop) -> Any:
    """A function that gives a row's value, times its weight, and the coefficients of its slopes."""
    value, wanted, working = loop.rows.value.function, loop.rows.value.wanted, loop.working
    dtypes, factored, first, rest = loop.row_dtypes, _factored(variant), (0,), loop.rest

    @jitable
    def closed(row_inputs, row, given, peaks, totals, weight):  # type: ignore[no-untyped-def]
        found = load(row_inputs, row, dtypes, working) + given + peaks + (totals,)
        result = cast(value(*select(found, wanted)), working)
        seen = select(result, first)
        if factored:
            seen = weighted(seen, weight)
        return seen, select(result, rest)

    return closed


def writing(variant: Variant, loop: RowLoop, do: Passes) -> Any:
    """A function that writes a thread's slopes of a row, or zeros where the row has weight 0.

    The thread to which the labelled element belongs reads it before it writes any slopes, and writes its slope after them.
    """
    factored, zero, nothing = _factored(variant), loop.working(0.0), (loop.working(0.0),) * loop.outputs
    write_zeros, write_slopes, labelled, output = do.zeros, do.slopes, do.labelled, variant.output

    @jitable
    def written(weight, lane, mine, row, span):  # type: ignore[no-untyped-def]
        if factored and weight == zero:
            write_zeros(0, lane, row, span)
        else:
            bent = nothing
            if mine:
                bent = labelled(span.base + row.label * span.distance, row, span.inputs)
            write_slopes(0, lane, row, span)
            if mine:
                spread(span.outs, span.base + row.label * span.distance, bent, output)

    return written
