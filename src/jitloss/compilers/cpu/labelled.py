"""The labelled elements of a block of short rows, computed separately: all other elements have the background target.

So no target is read or multiplied for each element. Afterwards the sums and slopes are corrected, as those of long rows are, but
for all rows of the block at once, with their labelled elements side by side.
"""

from typing import Any

from llvmlite import ir
from numba import types

from ..elements import load_one, store_one
from ..intrinsics import intrinsic
from ..targets import mark
from ..tuples import patch
from .blocks import each_label
from .loops import NOTHING, body_of
from .memory import literals
from .repeat import Iteration, pick, repeat, vectors_of

__all__ = ["correct_sums", "gather_labelled", "scatter_labelled"]

_I64 = ir.IntType(64)


@intrinsic(prefer_literal=True)
def gather_labelled(
    typing: Any,
    table: Any,
    begin: Any,
    count: Any,
    rows: Any,
    grids: Any,
    pieces: Any,
    classes: Any,
    given: Any,
    working: Any,
    kind: Any,
) -> Any:
    """Copy the numbers of each row's labelled element from grids to pieces, and its target, the mark, to the last piece."""
    real, name = working.dtype, str(working.dtype)
    mark_kind, make_mark = mark.typer(typing, types.voidptr, types.intp, given, working, kind)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *others, target = pick(builder, args[5])
        sources = pick(builder, args[4])

        def step(row: Any, label: Any, place: Any) -> None:
            for grid, piece in zip(sources, others, strict=True):
                store_one(builder, piece, row, load_one(context, builder, grid, place, name, real), name)
            store_one(builder, target, row, make_mark(context, builder, mark_kind, (args[6], label, args[7])), name)

        each_label(builder, args[0], args[1], args[2], rows.literal_value, step)
        return context.get_dummy_value()

    where = types.intp, types.intp, types.intp, rows, grids, pieces, types.voidptr
    return types.void(*where, given, working, kind), codegen


@intrinsic(prefer_literal=True)
def correct_sums(
    typing: Any, function: Any, rows: Any, sources: Any, old: Any, new: Any, given: Any, totals: Any, kept: Any, working: Any
) -> Any:
    """Replace a function's results for the numbers at ``old`` by those for the numbers at ``new`` in each row's sums.

    The sums are the pieces at ``totals``; the new terms are kept in those at ``kept``.
    """
    before, after = (body_of(typing, function, sources, NOTHING, one, NOTHING, given, working) for one in (old, new))
    real, name = before.real, str(before.real)
    numbers = types.UniTuple(real, len(totals))
    corrected, correct = patch.typer(typing, numbers, numbers, numbers)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pieces = pick(builder, args[2])
        sums, terms = ([pieces[position] for position in literals(one)] for one in (totals, kept))

        def step(one: Iteration, carried: Any) -> None:
            there, elsewhere = (body.results(context, one, pieces, args[5]) for body in (after, before))
            found = [one.load(context, piece, name, real) for piece in sums]
            tuples = tuple(context.make_tuple(builder, numbers, values) for values in (found, there, elsewhere))
            one.store(sums + terms, pick(builder, correct(context, builder, corrected, tuples)) + there, name)

        repeat(builder, _I64(rows.literal_value), step, together=vectors_of(rows.literal_value, name))
        return context.get_dummy_value()

    return types.void(function, rows, sources, old, new, given, totals, kept, working), codegen


@intrinsic(prefer_literal=True)
def scatter_labelled(typing: Any, table: Any, begin: Any, count: Any, rows: Any, pieces: Any, grids: Any, working: Any) -> Any:
    """Copy one number per row from pieces to the labelled element of each row in the grids."""
    real, name = working.dtype, str(working.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = list(zip(pick(builder, args[4]), pick(builder, args[5]), strict=True))

        def step(row: Any, label: Any, place: Any) -> None:
            for piece, grid in pairs:
                store_one(builder, grid, place, load_one(context, builder, piece, row, name, real), name)

        each_label(builder, args[0], args[1], args[2], rows.literal_value, step)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, rows, pieces, grids, working), codegen
