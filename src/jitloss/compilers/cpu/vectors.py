"""Numbers of a block of short rows in explicit vectors: a row too short for a SIMD loop of its own is still one vector.

Numbers of a row are copied beside its elements, and its elements are added and compared, several rows at a time. A piece of stack is
:data:`PADDING` bytes longer than what lies in it: a row's last vector reads beyond its end, and writes there, on the place of the
next row, which is written later.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..elements import load_one
from ..intrinsics import intrinsic
from .memory import literals, wide

__all__ = ["PADDING", "add_rows", "fill_row", "peak_rows", "pick", "take"]

PADDING = 64
"""Bytes of a vector. A machine whose vectors are shorter takes several."""

Combine = Callable[[Any, Any, Any], Any]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()


def _vector_of(real: Any) -> Any:
    return ir.VectorType(real, PADDING // (4 if real == ir.FloatType() else 8))


def _at(builder: Any, memory: Any, index: Any, vector: Any) -> Any:
    """The address of the vector that starts at a number's place."""
    return builder.bitcast(builder.gep(builder.bitcast(memory, vector.element.as_pointer()), [index]), vector.as_pointer())


def _splat(builder: Any, value: Any, count: int) -> Any:
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(nothing, value, _I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_I32, count), [0] * count))


def pick(builder: Any, pieces: Any, positions: Sequence[int]) -> list[Any]:
    return [builder.extract_value(pieces, position) for position in positions]


def _fill(builder: Any, memories: list[Any], numbers: list[Any], first: Any, columns: Any) -> None:
    vectors = [_splat(builder, one, _vector_of(one.type).count) for one in numbers]
    if vectors:
        with cgutils.for_range_slice(builder, _I64(0), columns, _I64(vectors[0].type.count), _I64) as (column, _):
            for memory, vector in zip(memories, vectors, strict=True):
                builder.store(vector, _at(builder, memory, builder.add(first, column), vector.type), align=4)


@intrinsic(prefer_literal=True)
def fill_row(typing: Any, pieces: Any, positions: Any, first: Any, columns: Any, values: Any) -> Any:
    """Write each number of a tuple ``columns`` times, from ``first`` of the piece at its position on."""
    chosen = literals(positions)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memories, numbers = pick(builder, args[0], chosen), pick(builder, args[4], range(len(chosen)))
        _fill(builder, memories, numbers, *args[2:4])
        return context.get_dummy_value()

    return types.void(pieces, positions, types.intp, types.intp, values), codegen


@intrinsic(prefer_literal=True)
def take(typing: Any, pieces: Any, positions: Any, index: Any, working: Any) -> Any:
    """Element ``index`` of the pieces at some positions."""
    chosen, real = literals(positions), working.dtype
    result = types.UniTuple(real, len(chosen))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memories = pick(builder, args[0], chosen)
        return context.make_tuple(
            builder, result, [load_one(context, builder, one, args[2], str(real), real) for one in memories]
        )

    return result(pieces, positions, types.intp, working), codegen


def _last_lanes(builder: Any, columns: Any, vector: Any) -> tuple[Any, Any]:
    """Where the last vector of a row starts, and which of its lanes belong to the row; it has at least one."""
    before = builder.sub(columns, _I64(1))
    rest = builder.srem(before, _I64(vector.count))
    lanes = ir.Constant(ir.VectorType(_I32, vector.count), list(range(vector.count)))
    inside = builder.icmp_signed("<=", lanes, _splat(builder, builder.trunc(rest, _I32), vector.count))
    return builder.sub(before, rest), inside


def _lanes_of_rows(
    builder: Any, memory: Any, firsts: list[Any], last: Any, inside: Any, neutral: Any, combine: Combine
) -> list[Any]:
    """The numbers of some rows combined lane by lane, a vector for each row. What is read beyond a row is not taken."""
    vector = neutral.type
    results = []
    for first in firsts:
        number = builder.load(_at(builder, memory, builder.add(first, last), vector), align=4)
        results.append(cgutils.alloca_once_value(builder, builder.select(inside, number, neutral)))
    with cgutils.for_range_slice(builder, _I64(0), last, _I64(vector.count), _I64) as (column, _):
        for first, result in zip(firsts, results, strict=True):
            number = builder.load(_at(builder, memory, builder.add(first, column), vector), align=4)
            builder.store(combine(builder, builder.load(result), number), result)
    return [builder.load(result) for result in results]


def _across(builder: Any, rows: list[Any], combine: Combine) -> Any:
    """The lanes of each of four vectors combined: a vector of four, for the price of little more than one."""
    count = rows[0].type.count
    half, quarter = count // 2, count // 4

    def halves(one: Any, other: Any, part: int) -> Any:
        """Of each vector every other piece of ``part`` lanes, combined with the piece behind it."""
        low = [lane for lane in range(2 * count) if lane // part % 2 == 0]
        return combine(builder, *(_shuffle(builder, one, other, [lane + more for lane in low]) for more in (0, part)))

    result = halves(halves(rows[0], rows[1], half), halves(rows[2], rows[3], half), quarter)
    step = quarter // 2
    while step:
        result = combine(builder, result, _shuffle(builder, result, result, [lane ^ step for lane in range(count)]))
        step //= 2
    return _shuffle(builder, result, result, list(range(0, count, quarter)))


def _shuffle(builder: Any, one: Any, other: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _reduction(module: Any, neutral: Any, name: str, combine: Combine) -> Any:
    """A function that combines the numbers of each row's elements, from one piece to another, four rows at a time.

    Four rows are read where there are fewer, the last of them again, and as many results are written. It is compiled once for all
    the pieces of a kernel.
    """
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES, _I64, _I64]), name)
    function.linkage = "internal"
    wide(function)
    numbers, totals, rows, columns = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    nothing = _splat(builder, neutral, _vector_of(neutral.type).count)
    last, inside = _last_lanes(builder, columns, nothing.type)
    end = builder.sub(rows, _I64(1))
    with cgutils.for_range_slice(builder, _I64(0), rows, _I64(4), _I64) as (row, _):
        those = [builder.add(row, _I64(more)) for more in range(4)]
        firsts = [builder.mul(builder.select(builder.icmp_signed("<", one, end), one, end), columns) for one in those]
        result = _across(builder, _lanes_of_rows(builder, numbers, firsts, last, inside, nothing, combine), combine)
        builder.store(result, _at(builder, totals, row, result.type), align=4)
    builder.ret_void()
    return function


@intrinsic(prefer_literal=True)
def add_rows(typing: Any, pieces: Any, positions: Any, totals: Any, rows: Any, columns: Any, working: Any) -> Any:
    """Add the numbers of each row's elements, from the pieces at ``positions`` to those at ``totals``."""
    places = list(zip(literals(positions), literals(totals), strict=True))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        reduction = _reduction(builder.module, context.get_constant(working.dtype, 0.0), "jitloss.add_rows", _sum)
        for place in places:
            builder.call(reduction, [*pick(builder, args[0], place), *args[3:5]])
        return context.get_dummy_value()

    return types.void(pieces, positions, totals, types.intp, types.intp, working), codegen


@intrinsic(prefer_literal=True)
def peak_rows(typing: Any, pieces: Any, positions: Any, peaks: Any, copies: Any, rows: Any, columns: Any, working: Any) -> Any:
    """The largest number of each row's elements, NaN where one is, from the pieces at ``positions`` to those at ``peaks``.

    It is copied beside the row's elements in the pieces at ``copies``.
    """
    places, name = list(zip(literals(positions), literals(peaks), strict=True)), str(working.dtype)
    whence, whither = literals(peaks), literals(copies)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        reduction = _reduction(builder.module, context.get_constant(working.dtype, -np.inf), "jitloss.peak_rows", _larger)
        for place in places:
            builder.call(reduction, [*pick(builder, args[0], place), *args[4:6]])
        with cgutils.for_range(builder, args[4], intp=_I64) as row:
            numbers = [load_one(context, builder, one, row.index, name, working.dtype) for one in pick(builder, args[0], whence)]
            _fill(builder, pick(builder, args[0], whither), numbers, builder.mul(row.index, args[5]), args[5])
        return context.get_dummy_value()

    return types.void(pieces, positions, peaks, copies, types.intp, types.intp, working), codegen


def _sum(builder: Any, one: Any, other: Any) -> Any:
    return builder.fadd(one, other)


def _larger(builder: Any, one: Any, other: Any) -> Any:
    kind = one.type
    width = 32 if kind.element == ir.FloatType() else 64
    shape = ir.FunctionType(kind, [kind, kind])
    return builder.call(
        cgutils.get_or_insert_function(builder.module, shape, f"llvm.maximum.v{kind.count}f{width}"), [one, other]
    )
