"""Horizontal reductions: vectors of numbers folded into one number by repeated halving."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..intrinsics import intrinsic

__all__ = ["peak_across", "sum_across"]

_I32 = ir.IntType(32)


def _vector(context: Any, builder: Any, memory: Any, real: Any, count: int) -> Any:
    kind = ir.VectorType(context.get_value_type(real), count)
    return builder.load(builder.bitcast(memory, kind.as_pointer()), align=64)


def _lanes(builder: Any, vector: Any, first: int, count: int) -> Any:
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, count), list(range(first, first + count))))


def _halved(builder: Any, vector: Any, combine: Any, count: int) -> Any:
    """Combine halves until ``count`` lanes are left."""
    while (width := vector.type.count) > count:
        vector = combine(builder, _lanes(builder, vector, 0, width // 2), _lanes(builder, vector, width // 2, width // 2))
    return vector


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _sum(builder: Any, one: Any, other: Any) -> Any:
    return builder.fadd(one, other)


@intrinsic(prefer_literal=True)
def peak_across(typing: Any, pieces: Any, count: Any, working: Any) -> Any:
    """The largest of ``count`` numbers of each piece; NaN if any is NaN."""
    result = types.UniTuple(working.dtype, len(pieces))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = []
        for which in range(len(pieces)):
            vector = _vector(context, builder, builder.extract_value(args[0], which), working.dtype, count.literal_value)
            largest = builder.extract_element(_halved(builder, vector, _larger, 1), _I32(0))
            lost = builder.bitcast(builder.fcmp_unordered("uno", vector, vector), ir.IntType(vector.type.count))
            numbers.append(builder.select(builder.icmp_unsigned("==", lost, lost.type(0)), largest, largest.type(np.nan)))
        return context.make_tuple(builder, result, numbers)

    return result(pieces, count, working), codegen


@intrinsic(prefer_literal=True)
def sum_across(typing: Any, pieces: Any, others: Any, first: Any, count: Any, totals: Any, working: Any) -> Any:
    """Add to float64 totals ``count`` numbers of each piece, and of as many ``others`` those from ``first`` on."""
    size = count.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = []
        for which in range(len(pieces)):
            own, other = (_vector(context, builder, builder.extract_value(one, which), working.dtype, size) for one in args[:2])
            lanes = ir.Constant(ir.VectorType(_I32, size), list(range(size)))
            start = builder.insert_element(ir.Constant(lanes.type, ir.Undefined), builder.trunc(args[2], _I32), _I32(0))
            start = builder.shuffle_vector(start, start, ir.Constant(lanes.type, [0] * size))
            counted = builder.select(builder.icmp_signed(">=", lanes, start), other, ir.Constant(other.type, [0.0] * size))
            few = _halved(builder, builder.fadd(own, counted), _sum, 8)
            if working.dtype == types.float32:
                few = builder.fpext(few, ir.VectorType(ir.DoubleType(), 8))
            one = builder.extract_element(_halved(builder, few, _sum, 1), _I32(0))
            numbers.append(builder.fadd(builder.extract_value(args[4], which), one))
        return context.make_tuple(builder, totals, numbers)

    return totals(pieces, others, types.intp, count, totals, working), codegen
