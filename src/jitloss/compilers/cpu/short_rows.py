"""The loop over short rows: a block of rows at a time, so that the costly functions run over long vectors."""

from itertools import accumulate, pairwise
from typing import Any

from ..elements import ITEMSIZE, stacks, store
from ..rowwise import row_loop
from ..targets import element, mark
from ..tuples import parameters, select, weighted
from ..variant import Variant
from . import table as at
from .driver import range_kernel
from .flags import jitable
from .loops import each, each_scaled
from .memory import copy_all_out, fence, label_of, places, pointer, pointers, row_weight, wide_vectors, word
from .vectors import PADDING, add_rows, fill_row, peak_rows, take

__all__ = ["LONGEST", "TILE", "short_rows_kernel"]

TILE = 1024
"""Elements of a block of short rows, and between two writes of a long one."""

LONGEST = 192
"""Elements of a row up to which blocks are faster than one row after the other."""


def _consecutive(*lengths: int) -> list[tuple[int, ...]]:
    """Positions 0, 1, 2, ... shared out."""
    return [tuple(range(*ends)) for ends in pairwise(accumulate(lengths, initial=0))]


def short_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over blocks of rows that fill a tile.

    Only what belongs to a row runs row by row: its peak and targets, the addition of its terms, the copies of its numbers beside its
    elements. The terms and slopes run over all elements of the block, ``value`` runs over all its rows.
    """
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.value, loop.rows.slope
    of_peak, of_terms, of_value, of_slope = peak.function, terms.function, value.function, slope.function
    kind, working, kinds, name = loop.source, loop.working, variant.statics, variant.working
    inputs_at, outputs_at = at.inputs_at(variant.definition, loop.inputs), at.outputs_at(variant.definition, loop.outputs)
    class_weights_at, parameters_at, columns_at, stream_at = at.CLASS_WEIGHTS, at.PARAMETERS, at.COLUMNS, at.STREAM
    with_peak, with_labels, with_items, with_weights = (
        loop.rows.peak is not None,
        variant.targets == "labels",
        variant.items,
        variant.weights,
    )
    tiled = variant.targets != "direct"
    # targets that differ from column to column are mixed one by one; without them a row has the background, but for its label
    mixed = variant.targets == "mixed" or (with_labels and variant.class_weights)
    filled = with_labels and not mixed
    stored, background, factored = loop.dtypes, (-1,), with_labels or with_weights
    mixed_target = len(stored) - (variant.targets == "mixed")
    outputs, with_outputs, output, itemsize = len(outputs_at), len(outputs_at) > 0, variant.output, ITEMSIZE[variant.output]
    tile_bytes, number_bytes = TILE * itemsize, TILE * ITEMSIZE[name] + PADDING
    # what stands where in the sources: pieces of stack, then arrays
    read = loop.others if tiled else tuple(range(len(stored)))
    peaks, sums, rest, per_row = loop.rows.peaks, terms.results, value.results - 1, loop.row_inputs
    sizes = 1, 1, peaks, peaks, peaks, sums, sums, 1, rest, rest
    positions = _consecutive(*sizes, len(read), len(per_row), len(kinds), 1)
    target, factor, tops, row_peaks, flat_peaks, flat_terms, row_sums, row_value, row_rest, flat_rest, *others = positions
    flat_inputs, row_inputs, numbers, last = others
    elements = flat_inputs + target * tiled + numbers + flat_peaks + flat_rest + last
    of_rows = row_inputs + numbers + row_peaks + last
    pieces_count, factors, row_results = sum(sizes), factor * factored, row_value + row_rest
    flat_at, rows_at = tuple(inputs_at[one] for one in read), at.inputs_at(variant.definition, per_row)
    dtypes = (*(stored[one] for one in read), *loop.row_dtypes)
    peak_takes, terms_take, slope_takes = (tuple(elements[one] for one in part.wanted) for part in (peak, terms, slope))
    value_takes = tuple(of_rows[one] for one in value.wanted)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes, inputs, destinations = pointer(table, class_weights_at), pointers(table, inputs_at), pointers(table, outputs_at)
        given, scale = parameters(pointer(table, parameters_at), kinds, working), working(scale)
        columns, streamed, total = word(table, columns_at), word(table, stream_at) != 0, 0.0
        pieces, tiles = stacks(pieces_count, number_bytes), stacks(outputs, tile_bytes)
        most = TILE // columns & -4  # rows are added four at a time; LONGEST leaves four of them
        for begin in range(start, stop, most):
            rows, base = min(most, stop - begin), begin * columns
            count = rows * columns
            sources = places(pieces, table, flat_at, rows_at, dtypes, base, begin)
            if filled:
                fill_row(pieces, target, 0, count, select(given, background))
            if mixed:
                for row in range(rows):
                    first = row * columns
                    for column in range(columns):
                        numbers = element(
                            classes, inputs, base + first + column, column, None, None, given, stored, working, kind
                        )
                        store(pieces[0], first + column, numbers[mixed_target], name)
            if with_labels:
                for row in range(rows):
                    label = label_of(table, begin + row)
                    store(pieces[0], row * columns + label, mark(classes, label, given, working, kind), name)
            if with_peak:
                each(of_peak, count, sources, dtypes, peak_takes, flat_terms, given, tops, working)
                peak_rows(pieces, tops, row_peaks, flat_peaks, rows, columns, working)
            each(of_terms, count, sources, dtypes, terms_take, flat_terms, given, flat_terms, working)
            add_rows(pieces, flat_terms, row_sums, rows, columns, working)
            each(of_value, rows, sources, dtypes, value_takes, row_sums, given, row_results, working)
            for row in range(rows):
                first, counted = row * columns, take(pieces, row_value, row, working)
                weight = row_weight(table, begin + row, with_labels, with_weights, working)
                if factored:
                    counted = weighted(counted, weight)
                total += counted[0]
                if with_items:
                    store(pointer(table, at.ITEMS), begin + row, counted[0], output)
                if with_outputs:
                    fill_row(pieces, flat_rest, first, columns, take(pieces, row_rest, row, working))
                    if factored:
                        fill_row(pieces, factors, first, columns, (scale * weight,))
            if with_outputs:
                each_scaled(
                    of_slope, count, sources, dtypes, slope_takes, flat_terms, given, tiles, output, factors, scale, working
                )
                copy_all_out(destinations, tiles, base * itemsize, count * itemsize, streamed)
        if streamed:
            fence()
        return total

    return kernel
