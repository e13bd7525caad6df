"""The loop over long rows, each taken three times; the second and third read from the cache. Shorter ones are taken some side by side."""

from typing import Any

from ..elements import ITEMSIZE, load, spread, stacks
from ..rowwise import row_loop
from ..targets import element, mark
from ..tuples import cast, parameters, scaled, select
from ..usage import only_term
from ..variant import Variant
from . import table as at
from .across import peak_across, sum_across
from .beside import BESIDE, consecutive, side_by_side
from .blocks import add_values, bring, fill, mix, set_aside
from .entry import range_kernel
from .flags import jitable
from .labelled import correct_sums
from .loops import each, each_scaled, fold_lanes
from .memory import (
    LINE,
    advanced,
    assume_positive,
    claim,
    clear_all,
    columns_of_row,
    either,
    label_of,
    places,
    pointer,
    pointers,
    prefetch,
    row_weight,
    wide_vectors,
    word,
)
from .stream import FLOW, begin, finish, flow_out, flowing

__all__ = ["LONGEST_KEPT", "TILE", "long_rows_kernel"]

LONGEST_KEPT = 32768
"""Elements of a row up to which their terms are kept, on the stack: they do not leave the second cache. Of longer ones the only term that
a slope takes is kept where the slope goes, unless that is past the caches."""

TILE = 1024
"""Elements of targets that are mixed before they are used."""

FLOWING = 256
"""Elements of slopes that are written at once, past the caches or over the input. With each comes a wish for half as many of what is
read next; the passes before have asked for the other half: so memory is read all the time."""

AHEAD = 1024
"""Elements between what is computed and what is asked of memory where rows are shorter; else it is the next row, or those next."""

NEAR = 16384
"""Bytes that rows side by side have together, with what is kept and what is written of them: so they stay in the first cache."""

STRIP = 4096
"""Elements between two additions in float64."""

BLOCK = 64
"""Elements that are folded side by side. The last block of a row ends with it, and begins among those of the block before."""


def long_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop that takes each row three times: its peak, its sums, its slopes.

    Of rows side by side all peaks are found first, then all sums, and their values together: nothing waits for one row's.

    Where ``slope`` takes the terms of its element, the layout "rows" keeps them on the stack, and "long" in the output or not at all.

    The last block of a row, which begins among those of the block before, comes first: an output may be an input.
    """
    loop = row_loop(variant, jitable)
    peak, terms, value, slope = loop.rows.peak or loop.rows.terms, loop.rows.terms, loop.rows.value, loop.rows.slope
    of_peak, of_terms, of_value, of_slope = peak.function, terms.function, value.function, slope.function
    kind, working, kinds, name = loop.source, loop.working, variant.kinds, variant.working
    inputs_at, row_inputs_at = at.inputs_at(variant.definition, loop.inputs), at.inputs_at(variant.definition, loop.row_inputs)
    outputs_at, row_dtypes = at.outputs_at(variant.definition, loop.outputs), loop.row_dtypes
    lowest, zeros, zeros64 = loop.lowest, loop.zeros, (0.0,) * len(loop.zeros)
    with_peak, with_labels, with_items, with_weights = (
        loop.rows.peak is not None,
        variant.targets == "labels",
        variant.items,
        variant.weights,
    )
    # targets that differ from column to column are mixed one by one; without them a row has the background, but for its label
    smoothed = with_labels and variant.smoothed
    marked_peaks = with_labels and variant.definition.peaks_take_targets
    mixed = variant.targets == "mixed" or (smoothed and variant.class_weights) or marked_peaks
    stored, own, factored = loop.dtypes, (name,), with_labels or with_weights
    outputs, output = len(outputs_at), variant.output
    itemsize, number_size, with_outputs = ITEMSIZE[output], ITEMSIZE[name], len(outputs_at) > 0
    takes_terms = loop.rows.slope_takes_terms
    kept = takes_terms and with_outputs and variant.layout == "rows"
    only = only_term(variant.definition, variant.statics) if with_outputs and output == name and not kept else None
    lent = only is not None
    buffer_bytes, mixed_bytes, kept_bytes = (
        FLOWING * itemsize + LINE,
        TILE * number_size * mixed,
        (LONGEST_KEPT if kept else BLOCK) * number_size,
    )
    # what stands where: in the sources pieces of stack, then arrays; then numbers; then terms
    inner = loop.others if variant.targets != "direct" else tuple(range(len(stored)))
    peaks, sums, coefficients = loop.rows.peaks, terms.results, value.results - 1
    sizes = mixed, sums * (kept or lent), len(inner), len(variant.statics), peaks, coefficients, 1
    target, own_terms, flat, numbers_at, peaks_at, rest_at, last = consecutive(*sizes)
    if with_labels and not mixed:
        target = numbers_at[-1:]
    elements = flat + (target if variant.targets != "direct" else ()) + numbers_at + peaks_at + rest_at + last
    flat_at, dtypes = tuple(inputs_at[one] for one in inner), tuple(stored[one] for one in inner)
    lane_bytes, quarter, half_block, half = BLOCK * number_size, BLOCK // 4, BLOCK // 2, FLOWING // 2
    targets, terms_count = int(mixed), sums * (kept or lent)
    nearest = NEAR // (sum(ITEMSIZE[one] for one in stored) + kept * sums * number_size + outputs * itemsize)
    its, beside_bytes = side_by_side(loop, len(variant.statics), with_labels), BESIDE * number_size
    row_pieces, tops_at, sums_at, own_at, counts_at = its.pieces, its.tops, its.sums, its.own, its.counts
    results_at, result_at = its.results, its.results[:1]
    labelled_at, background_at, here_at, its_slopes, known_at = its.labelled, its.background, its.here, its.slopes, its.known
    here_takes, old_takes, value_takes, its_slope_takes = its.here_takes, its.old_takes, its.value_takes, its.slope_takes
    of_label, of_background = tuple(range(len(stored) + 1)), (len(stored),)
    top_dtypes, known_dtypes, slope_dtypes = ((name,) * len(ones) for ones in (tops_at, known_at, its_slopes))
    at_home = tuple(
        sums if which == only else which for which in range(terms_count)
    )  # pieces of stack, and the output as the last one
    peak_takes, terms_take = (tuple(elements[one] for one in part.wanted) for part in (peak, terms))
    peak_takes_target = any(one in target for one in peak_takes)
    terms_of, slopes_of = terms.wanted, slope.wanted
    slope_keeps = tuple(elements[one] for one in slope.wanted)
    if takes_terms and not kept:

        @jitable
        def slope_of_own_terms(*numbers):  # type: ignore[no-untyped-def]
            return of_slope(*select(numbers + (cast(of_terms(*select(numbers, terms_of)), working),), slopes_of))

        slope_each, slope_takes = slope_of_own_terms, elements[:-1]
    else:
        slope_each, slope_takes = of_slope, slope_keeps

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        classes = pointer(table, at.CLASS_WEIGHTS)
        given, inputs = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        if smoothed:
            assume_positive(given[-1])
        columns, streamed, total = columns_of_row(table), word(table, at.STREAM) == at.PAST, 0.0
        spread_out = word(table, at.STREAM) != at.THROUGH
        buffers, flows, destinations = stacks(outputs, buffer_bytes), stacks(outputs, FLOW), pointers(table, outputs_at)
        begin(flows, advanced(destinations, start * columns * itemsize))
        mixture, row_terms = stacks(targets, mixed_bytes), stacks(terms_count, kept_bytes)
        top_lanes, sum_lanes, last_lanes = stacks(peaks, lane_bytes), stacks(sums, lane_bytes), stacks(sums, lane_bytes)
        of_rows = stacks(row_pieces, beside_bytes)
        clear_all(of_rows, beside_bytes)
        whole, wished = TILE if mixed else columns, pointers(table, flat_at)
        beside = max(1, min(BESIDE, nearest // columns))
        ahead = max(beside * columns, AHEAD)
        for first_row in range(start, stop, beside):
            last_row = min(stop, first_row + beside)
            if with_peak:
                for row in range(first_row, last_row):
                    base, which = row * columns, row - first_row
                    if factored and row_weight(table, row, with_labels, with_weights, working) == working(0.0):
                        continue
                    if marked_peaks:
                        label = label_of(table, row)
                        marked = mark(classes, label, given, working, kind)
                    fill(BLOCK, top_lanes, lowest, working)
                    for first in range(0, columns, BLOCK):
                        place = min(first, columns - BLOCK)
                        if mixed and peak_takes_target:
                            mix(mixture[0], BLOCK, classes, inputs, base, place, given, stored, working, kind)
                        if marked_peaks and place <= label and label < place + BLOCK:
                            spread(mixture, label - place, (marked,), name)
                        sources = places(mixture + row_terms, table, flat_at, (), dtypes, base + place, 0)
                        if with_outputs and spread_out:
                            prefetch(wished, base + ahead + place // 4, dtypes, quarter, 2)
                        fold_lanes("peak", of_peak, BLOCK, sources, dtypes, peak_takes, given, (), top_lanes, working)
                    spread(select(of_rows, tops_at), which, peak_across(top_lanes, BLOCK, working), name)
            for row in range(first_row, last_row):
                base, which, totals = row * columns, row - first_row, zeros64
                weight = row_weight(table, row, with_labels, with_weights, working)
                spread(select(of_rows, counts_at), which, (weight,), name)
                if factored and weight == working(0.0):
                    continue
                tops = load(select(of_rows, tops_at), which, top_dtypes, working)
                if with_labels:
                    label = label_of(table, row)
                    marked = mark(classes, label, given, working, kind)
                    there = element(classes, inputs, base + label, label, label, marked, given, stored, working, kind)
                    elsewhere = element(classes, inputs, base + label, label, None, marked, given, stored, working, kind)
                    spread(select(of_rows, labelled_at), which, select(there, of_label), name)
                    spread(select(of_rows, background_at), which, select(elsewhere, of_background), name)
                fill(BLOCK, last_lanes, zeros, working)
                tail = columns % BLOCK
                for strip in range(0, columns, STRIP):
                    fill(BLOCK, sum_lanes, zeros, working)
                    before = BLOCK if strip == 0 and tail > 0 else 0
                    for first in range(strip - before, min(strip + STRIP, columns - tail), BLOCK):
                        place = first if first >= 0 else columns - BLOCK
                        if mixed:
                            mix(mixture[0], BLOCK, classes, inputs, base, place, given, stored, working, kind)
                        following = base + ahead
                        if not with_outputs:
                            prefetch(wished, following + place, dtypes, BLOCK, 2)
                        elif spread_out and with_peak:
                            prefetch(wished, following + (columns + place) // 4, dtypes, quarter, 2)
                        elif spread_out:
                            prefetch(wished, following + place // 2, dtypes, half_block, 2)
                        else:
                            prefetch(wished, following + place, dtypes, BLOCK, 1)
                            claim(destinations, (base + place) * itemsize, BLOCK * itemsize)
                        if lent:
                            homes = select(row_terms + advanced(destinations, (base + place) * itemsize), at_home)
                            pieces = mixture + either(streamed or first < 0, row_terms, homes)
                        else:
                            pieces = mixture + advanced(row_terms, (which * columns + place) * number_size)
                        sources = places(pieces, table, flat_at, (), dtypes, base + place, 0)
                        fold_lanes(
                            "sum", of_terms, BLOCK, sources, dtypes, terms_take, given + tops, own_terms, sum_lanes, working
                        )
                        if first < 0:
                            set_aside(BLOCK, sum_lanes, last_lanes, working)
                    counted_twice = BLOCK if strip + STRIP < columns else -columns % BLOCK
                    totals = sum_across(sum_lanes, last_lanes, counted_twice, BLOCK, totals, working)
                if lent and not streamed:
                    ends = select(advanced(destinations, (base + columns - tail) * itemsize), (0,))
                    bring(ends, select(row_terms, (only,)), BLOCK - tail, tail, own, working)
                spread(select(of_rows, sums_at), which, cast(totals, working), name)
                spread(select(of_rows, own_at), which, load(pointers(table, row_inputs_at), row, row_dtypes, working), name)
            if with_labels:
                correct_sums(of_terms, BESIDE, of_rows, old_takes, here_takes, given, sums_at, here_at, working)
            each(of_value, BESIDE, of_rows, value_takes, sums_at, given, results_at, working)
            if with_labels and with_outputs:
                each(of_slope, BESIDE, of_rows, its_slope_takes, here_at, given, its_slopes, working)
            values, counts = select(of_rows, result_at)[0], select(of_rows, counts_at)[0]
            rows = last_row - first_row
            total = add_values(table, first_row, rows, values, counts, total, factored, with_items, output, working)
            if with_outputs:
                for row in range(first_row, last_row):
                    base, which = row * columns, row - first_row
                    weight = load(select(of_rows, counts_at), which, own, working)[0]
                    if factored and weight == working(0.0):
                        finish(streamed, buffers, flows)
                        clear_all(advanced(destinations, base * itemsize), columns * itemsize)
                        begin(flows, advanced(destinations, (base + columns) * itemsize))
                        continue
                    known = load(select(of_rows, known_at), which, known_dtypes, working)
                    factor, others = working(scale) * weight, given + known
                    if with_labels:
                        label = label_of(table, row)
                    step = FLOWING if spread_out else whole
                    for first in range(0, columns, step):
                        count, streamed = min(step, columns - first), word(table, at.STREAM) == at.PAST
                        if word(table, at.STREAM) != at.THROUGH:
                            prefetch(wished, base + ahead + (columns + first) // 2, dtypes, half, 2)
                        if mixed:
                            mix(mixture[0], count, classes, inputs, base, first, given, stored, working, kind)
                        final = advanced(destinations, (base + first) * itemsize)
                        written = flowing(streamed, buffers, flows, final)
                        if lent and not streamed:
                            pieces = mixture + select(row_terms + final, at_home)
                            sources = places(pieces, table, flat_at, (), dtypes, base + first, 0)
                            each_scaled(
                                of_slope, count, sources, dtypes, slope_keeps, own_terms, others, written, output, factor, working
                            )
                        else:
                            pieces = mixture + advanced(row_terms, (which * columns + first) * number_size)
                            sources = places(pieces, table, flat_at, (), dtypes, base + first, 0)
                            each_scaled(
                                slope_each,
                                count,
                                sources,
                                dtypes,
                                slope_takes,
                                own_terms,
                                others,
                                written,
                                output,
                                factor,
                                working,
                            )
                        if with_labels and first <= label and label < first + count:
                            slopes = scaled(load(select(of_rows, its_slopes), which, slope_dtypes, working), factor)
                            spread(written, label - first, slopes, output)
                        flow_out(streamed, buffers, flows, count * itemsize)
        finish(streamed, buffers, flows)
        return total

    return kernel
