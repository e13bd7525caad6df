"""Numbers of a row copied beside its elements, in explicit vectors: a row too short for a SIMD loop of its own is still one vector.

A piece of stack that is filled so is :data:`PADDING` bytes longer than what lies in it: a row's last vector writes beyond its end, on
the place of the next row, which is written later.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..intrinsics import intrinsic

__all__ = ["PADDING", "fill_row"]

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
