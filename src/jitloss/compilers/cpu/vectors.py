"""Rows of a block in explicit vectors: a row too short for a SIMD loop of its own is still one vector, or a few.

The pieces of stack that these read and write are :data:`PADDING` bytes longer than what lies in them: a row's last vector reads and
writes beyond its end. What is read there is left out; what is written there belongs to the next row, which is written later.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .intrinsics import intrinsic

__all__ = ["PADDING", "fill_row", "row_maxima", "row_sums"]

PADDING = 64
"""Bytes of a vector. A machine whose vectors are shorter takes several."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _vector_of(real: Any) -> Any:
    return ir.VectorType(real, PADDING // (4 if real == ir.FloatType() else 8))


def _at(builder: Any, memory: Any, index: Any, vector: Any) -> Any:
    """The address of the vector that starts at a number's place."""
    return builder.bitcast(builder.gep(builder.bitcast(memory, vector.element.as_pointer()), [index]), vector.as_pointer())


def _splat(builder: Any, value: Any, count: int) -> Any:
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(nothing, value, _I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_I32, count), [0] * count))


def _call(builder: Any, name: str, result: Any, operands: list[Any], flags: tuple[str, ...]) -> Any:
    kinds = [one.type for one in operands]
    suffix = f"v{kinds[-1].count}{'f32' if kinds[-1].element == ir.FloatType() else 'f64'}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, kinds), f"{name}.{suffix}")
    return builder.call(function, operands, fastmath=flags)


def _reduced(
    pieces: Any, working: Any, start: float, combine: Callable[[Any, Any, Any], Any], finish: Callable[[Any, Any], Any]
) -> Any:
    """The type and the code of an intrinsic that reduces a row of each of some pieces of stack."""
    result = types.UniTuple(working.dtype, len(pieces))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _vector_of(context.get_value_type(working.dtype))
        memories = [builder.extract_value(args[0], index) for index in range(len(pieces))]
        numbers = ir.Constant(ir.VectorType(_I64, vector.count), list(range(vector.count)))
        blank = ir.Constant(vector, [start] * vector.count)
        places = [cgutils.alloca_once_value(builder, blank) for _ in memories]
        for place in places:
            builder.store(blank, place)
        with cgutils.for_range_slice(builder, _I64(0), args[2], _I64(vector.count), _I64) as (column, _):
            inside = builder.icmp_signed("<", numbers, _splat(builder, builder.sub(args[2], column), vector.count))
            for memory, place in zip(memories, places, strict=True):
                some = builder.load(_at(builder, memory, builder.add(args[1], column), vector))
                some.align = 4
                builder.store(combine(builder, builder.load(place), builder.select(inside, some, blank)), place)
        return context.make_tuple(builder, result, [finish(builder, builder.load(place)) for place in places])

    return result(pieces, types.intp, types.intp, working), codegen


@intrinsic
def row_sums(typing: Any, pieces: Any, first: Any, columns: Any, working: Any) -> Any:
    """The sums of ``columns`` numbers from ``first`` on, one for each piece of a tuple of pieces."""

    def finish(builder: Any, vector: Any) -> Any:
        real = vector.type.element
        return _call(builder, "llvm.vector.reduce.fadd", real, [ir.Constant(real, 0.0), vector], ("reassoc", "nsz"))

    return _reduced(pieces, working, 0.0, lambda builder, one, other: builder.fadd(one, other), finish)


@intrinsic
def row_maxima(typing: Any, pieces: Any, first: Any, columns: Any, working: Any) -> Any:
    """The largest of ``columns`` numbers from ``first`` on, one for each piece of a tuple of pieces; NaN where there is one."""

    def combine(builder: Any, one: Any, other: Any) -> Any:
        return _call(builder, "llvm.maximum", one.type, [one, other], ("nsz",))

    def finish(builder: Any, vector: Any) -> Any:
        return _call(builder, "llvm.vector.reduce.fmaximum", vector.type.element, [vector], ("nsz",))

    return _reduced(pieces, working, float("-inf"), combine, finish)


@intrinsic
def fill_row(typing: Any, pieces: Any, first: Any, columns: Any, values: Any) -> Any:
    """Write each number of a tuple ``columns`` times, from ``first`` of its own piece on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = [builder.extract_value(args[3], index) for index in range(len(values))]
        memories = [builder.extract_value(args[0], index) for index in range(len(values))]
        vectors = [_splat(builder, one, _vector_of(one.type).count) for one in numbers]
        if vectors:
            with cgutils.for_range_slice(builder, _I64(0), args[2], _I64(vectors[0].type.count), _I64) as (column, _):
                for memory, vector in zip(memories, vectors, strict=True):
                    builder.store(vector, _at(builder, memory, builder.add(args[1], column), vector.type), align=4)
        return context.get_dummy_value()

    return types.void(pieces, types.intp, types.intp, values), codegen
