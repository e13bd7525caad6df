"""The loops over pieces of rows: of rows that nobody holds as a whole, each place finds what its own elements give.

What the places have found must be put together before any of them goes on, so there is a kernel for each stage: peaks, sums, slopes.
"""

from typing import Any

import numpy as np

from ..elements import ITEMSIZE, load, read, spread, store
from ..rowwise import row_loop
from ..targets import element, mark
from ..tuples import add, cast, maximum_of, parameters, select, weighted
from ..variant import Variant
from . import table as at
from .entry import range_kernel
from .flags import jitable
from .memory import advanced, pointer, pointers, wide_vectors, word

__all__ = ["STRIP", "piece_kernel"]

STRIP = 1024
"""Elements whose terms are added in the working precision before they are added in float64."""


def piece_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile the loop of one stage, which is the variant's layout. Labels count from the piece's first element."""
    loop, stage = row_loop(variant, jitable), variant.layout
    peak, terms, value, slope = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.value, loop.rows.slope
    top, of_peak, term, of_terms = peak.function, peak.wanted, terms.function, terms.wanted
    value_of, of_value, slope_of, of_slope = value.function, value.wanted, slope.function, slope.wanted
    kind, working, kinds, name, double = loop.source, loop.working, variant.kinds, variant.working, np.float64
    inputs_at, row_inputs_at = at.inputs_at(variant.definition, loop.inputs), at.inputs_at(variant.definition, loop.row_inputs)
    outputs_at, dtypes, row_dtypes = at.outputs_at(variant.definition, loop.outputs), loop.dtypes, loop.row_dtypes
    peaks_at, sums_at = at.found_at(variant.definition, loop.rows.peaks, terms.results)
    lowest, zeros, zeros64, rest, wanted = loop.lowest, loop.zeros, (0.0,) * terms.results, loop.rest, loop.wanted
    own, peak_dtypes, sum_dtypes = (name,), (name,) * loop.rows.peaks, ("float64",) * terms.results
    with_peak, with_labels, with_weights = loop.rows.peak is not None, variant.targets == "labels", variant.weights
    with_items, with_outputs, takes_terms = variant.items, loop.outputs > 0, loop.rows.slope_takes_terms
    output, itemsize, first_of = variant.output, ITEMSIZE[variant.output], (0,)
    finds_peaks, finds_sums, finishes = stage == "peaks", stage == "sums", stage == "slopes"

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes, columns, total = pointer(table, at.CLASS_WEIGHTS), word(table, at.COLUMNS), 0.0
        given, inputs = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        for row in range(start, stop):
            base, weight, label, marked, tops = row * columns, working(1.0), 0, working(0.0), lowest
            if with_labels:
                label = read(pointer(table, at.LABELS), row)
                if label == word(table, at.IGNORED):
                    weight = working(0.0)
                if label >= 0 and label < columns:
                    marked = mark(classes, label, given, working, kind)
            if with_weights:
                weight *= load((pointer(table, at.WEIGHTS),), row // word(table, at.WEIGHT_SPAN), own, working)[0]
            if finds_peaks:
                for column in range(columns):
                    numbers = element(classes, inputs, base + column, column, label, marked, given, dtypes, working, kind)
                    tops = maximum_of(tops, cast(top(*select(numbers, of_peak)), working))
                spread(pointers(table, peaks_at), row, tops, name)
            elif with_peak:
                tops = load(pointers(table, peaks_at), row, peak_dtypes, working)
            if finds_sums:
                totals = zeros64
                for strip in range(0, columns, STRIP):
                    sums = zeros
                    for column in range(strip, min(columns, strip + STRIP)):
                        numbers = element(classes, inputs, base + column, column, label, marked, given, dtypes, working, kind)
                        sums = add(sums, cast(term(*select(numbers + tops, of_terms)), working))
                    totals = add(totals, cast(sums, double))
                spread(pointers(table, sums_at), row, totals, "float64")
            if finishes:
                sums = cast(load(pointers(table, sums_at), row, sum_dtypes, double), working)
                of_row = load(pointers(table, row_inputs_at), row, row_dtypes, working) + given + tops + (sums,)
                result = cast(value_of(*select(of_row, of_value)), working)
                counted = weighted(select(result, first_of), weight)[0]
                total += double(counted)
                if with_items:
                    store(pointer(table, at.ITEMS), row, counted, output)
                if with_outputs:
                    written, factor = advanced(pointers(table, outputs_at), base * itemsize), working(scale) * weight
                    for column in range(columns):
                        numbers = element(classes, inputs, base + column, column, label, marked, given, dtypes, working, kind)
                        known = numbers + tops + select(result, rest)
                        if takes_terms:
                            mine = (cast(term(*select(numbers + tops, of_terms)), working),)
                            slopes = cast(slope_of(*select(known + mine, of_slope)), working)
                        else:
                            slopes = cast(slope_of(*select(known, of_slope)), working)
                        spread(written, column, select(weighted(slopes, factor), wanted), output)
        return total

    return kernel
