"""The loop over short rows: blocks of rows are transposed, and what a definition says of an element is vectorised along a column."""

from dataclasses import dataclass
from typing import Any

from ..elements import stack, stacks
from ..tuples import parameters, select
from ..variant import Variant
from . import table as at
from .beside import consecutive
from .blocks import add_values, clear_marks, copy_in, fill, fill_background, mix_columns, read_rows
from .entry import range_kernel
from .labelled import correct_sums, gather_labelled, scatter_labelled
from .loops import each, fold_columns, scaled_columns
from .memory import (
    LINE,
    advanced,
    assume_positive,
    columns_of_row,
    either,
    pointer,
    pointers,
    smaller,
    source_pointers,
    wide_vectors,
    word,
)
from .repeat import COLUMN
from .row_plan import RowPlan, row_plan
from .stream import FLOW, begin, finish
from .translate import part
from .transpose import PADDING, columns_of, lanes_of, rows_of

__all__ = ["BLOCKS_UP_TO", "LONGEST", "SHORTEST_PATCHED", "short_rows_kernel"]

LONGEST = 144
"""The longest row that fits in a block, in elements."""

BLOCKS_UP_TO = {64: (104, 88, 63), 32: (LONGEST, 88, 88), 16: (LONGEST, 88, 88)}
"""By the bytes of a vector, the row lengths up to which blocks are faster than one row after the other: in losses with a peak,
which read each element once more, in those without one, and in those that write several gradients, which are all transposed. With
a peak, values alone, smoothed labels and float64 use blocks up to the longest row that fits."""

SHORTEST_PATCHED = {64: (20, 24), 32: (10, 24), 16: (10, 24)}
"""By the bytes of a vector, the row lengths from which labels are corrected for afterwards in losses with a peak: where all other
targets are 0, and where they are smoothed. For shorter rows, and in losses with less arithmetic, a grid of targets is less
work."""


@dataclass(frozen=True)
class ShortRows(RowPlan):
    """The constants of the loop over short rows.

    Positions: pieces of stack for a block's elements (its grids), then for its rows, then for its labelled elements where these
    are corrected for afterwards; then the parameters, then the tuple of an element's own terms.
    """

    patched: bool
    """Whether labels are corrected for afterwards. Otherwise they mark their elements in a grid of targets."""
    mixed: bool
    grids: int
    row_pieces: int
    elements: tuple[int, ...]
    """Grids of what is read of each element."""
    marked: tuple[int, ...]
    """The grid of targets that labels make."""
    kept: tuple[int, ...]
    """Grids of terms."""
    slopes: tuple[int, ...]
    """They overwrite what was read, which is no longer needed."""
    tops: tuple[int, ...]
    totals: tuple[int, ...]
    values: tuple[int, ...]
    coefficients: tuple[int, ...]
    counts: tuple[int, ...]
    """The weights of the rows, and those times the call's scale."""
    own_inputs: tuple[int, ...]
    there: tuple[int, ...]
    """The labelled elements' numbers, their target last."""
    there_terms: tuple[int, ...]
    there_slopes: tuple[int, ...]
    peak_takes: tuple[int, ...]
    terms_take: tuple[int, ...]
    value_takes: tuple[int, ...]
    slope_takes: tuple[int, ...]
    old_takes: tuple[int, ...]
    """What the terms of the labelled element take if it is treated as not labelled."""
    new_takes: tuple[int, ...]
    there_slope_takes: tuple[int, ...]

    @property
    def lanes(self) -> int:
        """Rows of a block, of which a column fills :data:`.repeat.COLUMN` bytes."""
        return lanes_of(self.name)

    @property
    def with_grid(self) -> bool:
        """Whether labels mark their elements in a grid of targets."""
        return self.with_labels and not self.patched

    @property
    def folded(self) -> tuple[int, ...]:
        return self.tops + self.totals

    @property
    def unfolded(self) -> tuple[Any, ...]:
        """The initial values of peaks and sums."""
        return self.lowest + self.zeros

    @property
    def results_at(self) -> tuple[int, ...]:
        return self.values + self.coefficients

    @property
    def factors(self) -> tuple[int, ...]:
        """The factors of a row's slopes, where rows differ in them."""
        return self.counts[1:] * self.factored

    @property
    def moved(self) -> tuple[str, ...]:
        """Dtypes of what is read, then of what is written."""
        return (*self.dtypes, *[self.output] * self.outputs)

    @property
    def grid_bytes(self) -> int:
        return LONGEST * COLUMN

    @property
    def scratch_bytes(self) -> int:
        return LONGEST * COLUMN + PADDING

    @property
    def buffer_bytes(self) -> int:
        return LONGEST * self.lanes * self.itemsize + PADDING + LINE


def short_rows(variant: Variant) -> ShortRows:
    """Set up the loop of a variant."""
    row, patched = row_plan(variant), variant.layout == "patched"
    stored = len(row.dtypes)
    grids = stored, int(row.with_labels and not patched), row.sums, max(0, row.outputs - stored)
    of_rows = row.peaks, row.sums, 1, row.results - 1, 2, len(row.row_dtypes)
    of_there = tuple(patched * size for size in (stored, 1, row.sums, row.outputs))
    elements, marked, kept, more, *others = consecutive(*grids, *of_rows, *of_there, len(variant.statics), 1)
    tops, totals, values, coefficients, counts, own_inputs, *others = others
    there_inputs, there_target, there_terms, there_slopes, numbers, last = others

    def takes(wanted: tuple[int, ...], *positions: tuple[int, ...]) -> tuple[int, ...]:
        among = sum(positions, ())
        return tuple(among[one] for one in wanted)

    known = numbers, tops, coefficients, last
    target = numbers[-1:] if patched else marked  # the background's number, or a grid
    old, new = (there_inputs, target), (there_inputs, there_target)
    return ShortRows(
        **vars(row),
        patched=patched,
        mixed=variant.targets == "mixed",
        grids=sum(grids),
        row_pieces=sum(of_rows) + sum(of_there),
        elements=elements,
        marked=marked,
        kept=kept,
        slopes=(elements + more)[: row.outputs],
        tops=tops,
        totals=totals,
        values=values,
        coefficients=coefficients,
        counts=counts,
        own_inputs=own_inputs,
        there=there_inputs + there_target,
        there_terms=there_terms,
        there_slopes=there_slopes,
        peak_takes=takes(row.of_peak, elements, target, *known),
        terms_take=takes(row.of_terms, elements, target, *known),
        value_takes=takes(row.of_value, own_inputs, numbers, tops, last),
        slope_takes=takes(row.of_slope, elements, target, *known),
        old_takes=takes(row.of_terms, *old, *known) if patched else (),
        new_takes=takes(row.of_terms, *new, *known) if patched else (),
        there_slope_takes=takes(row.of_slope, *new, *known) if patched else (),
    )


def short_rows_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over blocks of rows. A block that is not full is padded with rows whose results are not used.

    In the layout "blocks" a label marks its element in a grid of targets; in "patched" it is corrected for afterwards.
    """
    plan = short_rows(variant)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        columns, working, total = columns_of_row(table), plan.working, 0.0
        given, factor = parameters(pointer(table, at.PARAMETERS), plan.kinds, working), working(scale)
        if plan.smoothed:
            assume_positive(given[-1])
        sources = stacks(plan.grids, plan.grid_bytes) + stacks(plan.row_pieces, COLUMN)
        buffers, flows = stacks(plan.outputs, plan.buffer_bytes), stacks(plan.outputs, FLOW)
        scratch, classes = stack(plan.scratch_bytes), pointer(table, at.CLASS_WEIGHTS)
        marks, values, counts = select(sources, plan.marked), select(sources, plan.values)[0], select(sources, plan.counts)[0]
        begin(flows, advanced(pointers(table, plan.outputs_at), start * columns * plan.itemsize))
        if plan.with_grid:
            fill_background(columns, plan.lanes, marks[0], classes, given, working, plan.source)
        for first in range(start, stop, plan.lanes):
            rows = smaller(plan.lanes, stop - first)
            read_block(plan, table, first, rows, sources, scratch, given, factor)
            fold_block(plan, table, first, rows, sources, buffers, given)
            each(plan.value, plan.lanes, sources, plan.value_takes, plan.totals, given, plan.results_at, working)
            factored, items = plan.factored, plan.with_items
            total = add_values(table, first, rows, values, counts, total, factored, items, plan.output, working)
            if plan.with_outputs:
                write_block(plan, table, first, rows, sources, scratch, buffers, flows, given, factor)
            if plan.with_grid:
                clear_marks(table, first, rows, plan.lanes, marks[0], classes, given, working, plan.source)
        finish(word(table, at.STREAM) == at.PAST, buffers, flows)
        return total

    return kernel


@part
def read_block(plan: ShortRows, table, first, rows, sources, scratch, given, factor):  # type: ignore[no-untyped-def]
    """Read a block: its elements into grids, the weights and labels of its rows, its targets."""
    columns, working, grids = columns_of_row(table), plan.working, select(sources, plan.elements)
    classes, counted, lanes = pointer(table, at.CLASS_WEIGHTS), select(sources, plan.counts), plan.lanes
    columns_of(grids, pointers(table, plan.inputs_at), first * columns, rows, columns, scratch, plan.dtypes, working)
    copy_in(select(sources, plan.own_inputs), pointers(table, plan.row_inputs_at), first, rows, plan.row_dtypes, working)
    fill(lanes, select(sources, plan.folded), plan.unfolded, working)
    if plan.factored:
        marks, labels, weights = select(sources, plan.marked), plan.with_labels, plan.with_weights
        counts, factors, kind = counted[0], counted[1], plan.source
        read_rows(table, first, rows, lanes, marks, counts, factors, factor, classes, given, labels, weights, working, kind)
    if plan.patched:
        gather_labelled(table, first, rows, lanes, grids, select(sources, plan.there), classes, given, working, plan.source)
    if plan.mixed:
        mix_columns(columns, lanes, grids, classes, given, working, plan.source)


@part
def fold_block(plan: ShortRows, table, first, rows, sources, buffers, given):  # type: ignore[no-untyped-def]
    """Find the peaks and the sums of a block's rows; prefetch what the next block reads, and where this one is written."""
    columns, working, lanes, grids = columns_of_row(table), plan.working, plan.lanes, plan.grids
    base, streamed = first * columns, word(table, at.STREAM) == at.PAST
    if plan.with_peak:
        takes, tops = plan.peak_takes, plan.tops
        fold_columns("peak", plan.peak, columns, lanes, grids, sources, takes, given, (), tops, (), (), (), working)
    following = source_pointers((), table, plan.inputs_at, (), plan.dtypes, base + rows * columns, 0)
    claimed = either(streamed, buffers, advanced(pointers(table, plan.outputs_at), base * plan.itemsize))
    wanted, kept, totals, moved = plan.terms_take, plan.kept, plan.totals, plan.moved
    terms = plan.terms
    fold_columns("sum", terms, columns, lanes, grids, sources, wanted, given, kept, totals, following, claimed, moved, working)
    if plan.patched:
        old, new = plan.old_takes, plan.new_takes
        correct_sums(terms, lanes, sources, old, new, given, totals, plan.there_terms, working)


@part
def write_block(plan: ShortRows, table, first, rows, sources, scratch, buffers, flows, given, factor):  # type: ignore[no-untyped-def]
    """Find the slopes of a block and write them, as rows again."""
    columns, working, lanes, slope = columns_of_row(table), plan.working, plan.lanes, plan.slope
    grids, takes, kept, slopes, factors = plan.grids, plan.slope_takes, plan.kept, plan.slopes, plan.factors
    written, streamed = select(sources, slopes), word(table, at.STREAM) == at.PAST
    scaled_columns(slope, columns, lanes, grids, sources, takes, kept, given, slopes, factors, factor, working)
    if plan.patched:
        own_takes, terms, own = plan.there_slope_takes, plan.there_terms, plan.there_slopes
        scaled_columns(slope, 1, lanes, 0, sources, own_takes, terms, given, own, factors, factor, working)
        scatter_labelled(table, first, rows, lanes, select(sources, own), written, working)
    final = advanced(pointers(table, plan.outputs_at), first * columns * plan.itemsize)
    rows_of(final, buffers, flows, written, rows, columns, scratch, streamed, plan.output, working)
