"""What surrounds the loops over a block of short rows: targets and weights before them, values after them."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..elements import ITEMSIZE, LOADS, address, store_one
from ..intrinsics import intrinsic
from ..targets import element, mark
from ..tuples import weighted
from . import table as at
from .loops import over_columns
from .memory import label_of, literals, row_weight, word_of
from .repeat import COLUMN, Iteration, convert, pick, repeat

__all__ = [
    "add_values",
    "clear_marks",
    "copy_in",
    "each_label",
    "fill",
    "fill_background",
    "mix",
    "mix_columns",
    "read_rows",
    "set_aside",
]

_I64 = ir.IntType(64)
_NO_ARRAYS = types.Tuple(())

Make = Callable[..., Any]


def _target(typing: Any, inputs: Any, given: Any, dtypes: Any, working: Any, kind: Any) -> Make:
    """How the target of an element that is not labelled is computed: (context, builder, classes, inputs, index, column, given)."""
    places = types.intp, types.intp, types.none, types.none
    numbers, make = element.typer(typing, types.voidptr, inputs, *places, given, dtypes, working, kind)
    position = len(dtypes) - (kind.literal_value.split()[0] == "mixed")

    def target(context: Any, builder: Any, classes: Any, arrays: Any, index: Any, column: Any, values: Any) -> Any:
        nothing = context.get_dummy_value()
        made = make(context, builder, numbers, (classes, arrays, index, column, nothing, nothing, values))
        return builder.extract_value(made, position)

    return target


@intrinsic(prefer_literal=True)
def mix(
    typing: Any,
    target: Any,
    count: Any,
    classes: Any,
    inputs: Any,
    base: Any,
    first: Any,
    given: Any,
    dtypes: Any,
    working: Any,
    kind: Any,
) -> Any:
    """Write the targets of ``count`` columns of a row from ``first`` on."""
    make = _target(typing, inputs, given, dtypes, working, kind)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def step(one: Iteration, carried: Any) -> None:
            column = builder.add(args[5], one.index)
            with one.own():
                number = make(context, builder, args[2], args[3], builder.add(args[4], column), column, args[6])
            one.store([args[0]], [number], str(working.dtype))

        repeat(builder, args[1], step)
        return context.get_dummy_value()

    where = types.voidptr, types.intp, types.voidptr, inputs, types.intp, types.intp
    return types.void(*where, given, dtypes, working, kind), codegen


@intrinsic(prefer_literal=True)
def mix_columns(typing: Any, columns: Any, rows: Any, grids: Any, classes: Any, given: Any, working: Any, kind: Any) -> Any:
    """Write the targets of a block over the dense ones, which are the last of its grids."""
    dtypes = types.Tuple([types.literal(str(working.dtype))] * len(grids))
    make = _target(typing, grids, given, dtypes, working, kind)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def column(which: Any, pieces: list[Any]) -> None:
            arrays = context.make_tuple(builder, grids, pieces)

            def step(one: Iteration, carried: Any) -> None:
                with one.own():
                    number = make(context, builder, args[3], arrays, one.index, which, args[4])
                one.store(pieces[-1:], [number], str(working.dtype))

            repeat(builder, _I64(rows.literal_value), step)

        over_columns(builder, args[0], [COLUMN] * len(grids), pick(builder, args[2]), column)
        return context.get_dummy_value()

    return types.void(types.intp, rows, grids, types.voidptr, given, working, kind), codegen


@intrinsic(prefer_literal=True)
def fill_background(typing: Any, columns: Any, rows: Any, grid: Any, classes: Any, given: Any, working: Any, kind: Any) -> Any:
    """Fill a grid with the targets of elements that no label marks."""
    make, name = _target(typing, _NO_ARRAYS, given, _NO_ARRAYS, working, kind), str(working.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        none = context.make_tuple(builder, _NO_ARRAYS, [])

        def column(which: Any, pieces: list[Any]) -> None:
            number = make(context, builder, args[3], none, _I64(0), which, args[4])
            repeat(builder, _I64(rows.literal_value), lambda one, carried: one.store(pieces, [number], name))

        over_columns(builder, args[0], [COLUMN], [args[2]], column)
        return context.get_dummy_value()

    return types.void(types.intp, rows, types.voidptr, types.voidptr, given, working, kind), codegen


@intrinsic(prefer_literal=True)
def read_rows(
    typing: Any,
    table: Any,
    begin: Any,
    count: Any,
    rows: Any,
    marks: Any,
    counts: Any,
    factors: Any,
    scale: Any,
    classes: Any,
    given: Any,
    labels: Any,
    weights: Any,
    working: Any,
    kind: Any,
) -> Any:
    """Write the weight of each of ``count`` rows, that times ``scale``, and the labels' marks where there is a grid for them."""
    real, name = working.dtype, str(working.dtype)
    weight_kind, weigh = row_weight.typer(typing, types.intp, types.intp, labels, weights, working)
    mark_kind, make_mark = mark.typer(typing, types.voidptr, types.intp, given, working, kind)
    label_kind, read_label = label_of.typer(typing, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with cgutils.for_range(builder, args[2], intp=_I64) as loop:
            row = builder.add(args[1], loop.index)
            weight = weigh(context, builder, weight_kind, (args[0], row))
            store_one(builder, args[5], loop.index, weight, name)
            store_one(builder, args[6], loop.index, builder.fmul(args[7], weight), name)
            for grid in pick(builder, args[4], range(len(marks))):
                label = read_label(context, builder, label_kind, (args[0], row))
                number = make_mark(context, builder, mark_kind, (args[8], label, args[9]))
                place = builder.add(builder.mul(label, _I64(rows.literal_value)), loop.index)
                store_one(builder, grid, place, number, name)
        return context.get_dummy_value()

    where = types.intp, types.intp, types.intp, rows, marks, types.voidptr, types.voidptr, real, types.voidptr
    return types.void(*where, given, labels, weights, working, kind), codegen


def each_label(builder: Any, table: Any, begin: Any, count: Any, rows: int, step: Any) -> None:
    """Run ``step`` with the row, its label and the labelled element's position in a grid, for each of ``count`` rows."""
    kind, read = label_of.typer(None, types.intp, types.intp)
    with cgutils.for_range(builder, count, intp=_I64) as loop:
        label = read(None, builder, kind, (table, builder.add(begin, loop.index)))
        step(loop.index, label, builder.add(builder.mul(label, _I64(rows)), loop.index))


@intrinsic(prefer_literal=True)
def clear_marks(
    typing: Any, table: Any, begin: Any, count: Any, rows: Any, grid: Any, classes: Any, given: Any, working: Any, kind: Any
) -> Any:
    """Restore the background targets where rows have their marks."""
    make = _target(typing, _NO_ARRAYS, given, _NO_ARRAYS, working, kind)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        none = context.make_tuple(builder, _NO_ARRAYS, [])

        def step(row: Any, label: Any, place: Any) -> None:
            store_one(builder, args[4], place, make(context, builder, args[5], none, _I64(0), label, args[6]), str(working.dtype))

        each_label(builder, args[0], args[1], args[2], rows.literal_value, step)
        return context.get_dummy_value()

    where = types.intp, types.intp, types.intp, rows, types.voidptr, types.voidptr
    return types.void(*where, given, working, kind), codegen


@intrinsic(prefer_literal=True)
def add_values(
    typing: Any,
    table: Any,
    begin: Any,
    count: Any,
    values: Any,
    counts: Any,
    total: Any,
    factored: Any,
    items: Any,
    output: Any,
    working: Any,
) -> Any:
    """Add the values of ``count`` rows, times the weight of each where they are ``factored``.

    Values are also written where ``items`` are wanted.
    """
    real, single = working.dtype, types.UniTuple(working.dtype, 1)
    name = str(real)
    weighted_kind, weigh = weighted.typer(typing, single, real)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        written = []
        if items.literal_value:
            kind = LOADS[output.literal_value][0]
            written = [address(builder, word_of(builder, args[0], at.ITEMS, ir.IntType(8).as_pointer()), args[1], kind)]

        def step(one: Iteration, carried: Any) -> Any:
            value = one.load(context, args[3], name, real)
            if factored.literal_value:
                weight = one.load(context, args[4], name, real)
                (value,) = pick(
                    builder, weigh(context, builder, weighted_kind, (context.make_tuple(builder, single, [value]), weight))
                )
            one.store(written, [value][: len(written)], output.literal_value)
            return [builder.fadd(carried[0], context.cast(builder, value, real, types.float64))]

        return repeat(builder, args[2], step, [args[5]])[0]

    where = types.intp, types.intp, types.intp, types.voidptr, types.voidptr, types.float64
    return types.float64(*where, factored, items, output, working), codegen


@intrinsic(prefer_literal=True)
def fill(typing: Any, rows: Any, pieces: Any, values: Any, working: Any) -> Any:
    """Fill a piece of its own with each number of a tuple, for ``rows`` rows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        among = range(len(pieces))
        memories, numbers = pick(builder, args[1], among), pick(builder, args[2], among)
        repeat(builder, _I64(rows.literal_value), lambda one, carried: one.store(memories, numbers, str(working.dtype)))
        return context.get_dummy_value()

    return types.void(rows, pieces, values, working), codegen


@intrinsic(prefer_literal=True)
def set_aside(typing: Any, count: Any, pieces: Any, places: Any, working: Any) -> Any:
    """Move ``count`` numbers of each piece to a place of its own, and leave zeros behind."""
    real, name = working.dtype, str(working.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memories, others = pick(builder, args[1]), pick(builder, args[2])

        def step(one: Iteration, carried: Any) -> None:
            one.store(others, [one.load(context, memory, name, real) for memory in memories], name)
            one.store(memories, [context.get_constant(real, 0.0)] * len(memories), name)

        repeat(builder, _I64(count.literal_value), step)
        return context.get_dummy_value()

    return types.void(count, pieces, places, working), codegen


@intrinsic(prefer_literal=True)
def copy_in(typing: Any, pieces: Any, arrays: Any, first: Any, count: Any, dtypes: Any, working: Any) -> Any:
    """Copy ``count`` numbers of each array from ``first`` on, in the working precision, to a piece of its own."""
    names, real = literals(dtypes), working.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for which, name in enumerate(names):
            piece, array = (builder.extract_value(one, which) for one in args[:2])
            array = builder.gep(array, [builder.mul(args[2], _I64(ITEMSIZE[name]))])
            convert(context, builder, piece, str(real), array, name, args[3], real)
        return context.get_dummy_value()

    return types.void(pieces, arrays, types.intp, types.intp, dtypes, working), codegen
