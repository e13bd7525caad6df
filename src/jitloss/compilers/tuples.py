"""Tuples of numbers in a kernel: selected, added, scaled. Their lengths are compile-time constants, so all of it unrolls."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .intrinsics import intrinsic

__all__ = ["add", "cast", "flat", "maximum_of", "parameters", "patch", "scaled", "select", "weighted", "with_floor"]


@intrinsic(prefer_literal=True, plain=lambda values, indices: tuple(values[index] for index in indices))
def select(typing: Any, values: Any, indices: Any) -> Any:
    """The values at constant indices, in that order."""
    wanted = [one.literal_value % len(values) for one in indices]
    result = types.Tuple([values[index] for index in wanted])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, [builder.extract_value(args[0], index) for index in wanted])

    return result(values, indices), codegen


@intrinsic(plain=lambda values: (*values[:-1], *values[-1]))
def flat(typing: Any, values: Any) -> Any:
    """The values of a tuple whose last item is a tuple, with the values of that appended."""
    *first, last = values
    result = types.Tuple([*first, *last])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *parts, inner = (builder.extract_value(args[0], index) for index in range(len(values)))
        parts += [builder.extract_value(inner, index) for index in range(len(last))]
        return context.make_tuple(builder, result, parts)

    return result(values), codegen


@intrinsic(plain=lambda values, working: tuple(map(working, values if isinstance(values, tuple) else (values,))))
def cast(typing: Any, values: Any, working: Any) -> Any:
    """A number or a tuple of numbers as a tuple in the working precision."""
    kinds = list(values) if isinstance(values, types.BaseTuple) else [values]
    result = types.UniTuple(working.dtype, len(kinds))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        single = not isinstance(values, types.BaseTuple)
        parts = [args[0]] if single else [builder.extract_value(args[0], index) for index in range(len(kinds))]
        converted = [context.cast(builder, part, kind, working.dtype) for part, kind in zip(parts, kinds, strict=True)]
        return context.make_tuple(builder, result, converted)

    return result(values, working), codegen


def _elementwise(left: Any, operate: Callable[[Any, Any, Any], Any]) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = ((builder.extract_value(args[0], index), builder.extract_value(args[1], index)) for index in range(len(left)))
        return context.make_tuple(builder, left, [operate(builder, one, other) for one, other in pairs])

    return left(left, left), codegen


def _maximum(builder: Any, one: Any, other: Any) -> Any:
    kind = one.type  # llvm.maximum vectorises and preserves NaN; the built-in max does neither
    function = builder.module.declare_intrinsic("llvm.maximum", [kind], ir.FunctionType(kind, [kind, kind]))
    # LLVM tests whether the first is NaN. If that were the peak so far, it would use a masked store, which is slow on some processors
    return builder.call(function, (other, one))


@intrinsic(plain=lambda left, right: tuple(one + other for one, other in zip(left, right, strict=True)))
def add(typing: Any, left: Any, right: Any) -> Any:
    """The elementwise sum of two tuples."""
    return _elementwise(left, lambda builder, one, other: builder.fadd(one, other))


@intrinsic(plain=lambda left, right: tuple(map(np.maximum, left, right)))
def maximum_of(typing: Any, left: Any, right: Any) -> Any:
    """The elementwise maximum of two tuples; NaN where either is NaN."""
    return _elementwise(left, _maximum)


@intrinsic(plain=lambda values, factor: tuple(one * factor for one in values))
def scaled(typing: Any, values: Any, factor: Any) -> Any:
    """A tuple times a number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [builder.fmul(builder.extract_value(args[0], index), args[1]) for index in range(len(values))]
        return context.make_tuple(builder, values, parts)

    return values(values, values.dtype), codegen


@intrinsic(plain=lambda values, factor, floor: (*values[:-1], np.maximum(values[-1] * factor, floor)))
def with_floor(typing: Any, values: Any, factor: Any, floor: Any) -> Any:
    """A tuple whose last number is multiplied by a factor and is then at least ``floor``; NaN stays NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *others, last = (builder.extract_value(args[0], index) for index in range(len(values)))
        return context.make_tuple(builder, values, [*others, _maximum(builder, args[2], builder.fmul(last, args[1]))])

    return values(values, values.dtype, values.dtype), codegen


@intrinsic(plain=lambda values, weight: tuple(one * weight if weight != 0.0 else weight * 0.0 for one in values))
def weighted(typing: Any, values: Any, weight: Any) -> Any:
    """A tuple times a weight; exactly 0 where the weight is 0, whatever the values are."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = args[1].type(0.0)
        nothing = builder.fcmp_ordered("==", args[1], zero)
        products = (builder.fmul(builder.extract_value(args[0], index), args[1]) for index in range(len(values)))
        return context.make_tuple(builder, values, [builder.select(nothing, zero, product) for product in products])

    return values(values, values.dtype), codegen


def _plain_patch(sums: Any, there: Any, elsewhere: Any) -> tuple[Any, ...]:
    return tuple(total + (new - old if new != old else new * 0.0) for total, new, old in zip(sums, there, elsewhere, strict=True))


@intrinsic(plain=_plain_patch)
def patch(typing: Any, sums: Any, there: Any, elsewhere: Any) -> Any:
    """Sums that contain ``elsewhere``, with ``there`` in its place; where both are the same infinity, the sum stays as it is."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = []
        for index in range(len(sums)):
            total, new, old = (builder.extract_value(one, index) for one in args)
            same = builder.fcmp_ordered("==", new, old)
            change = builder.select(same, new.type(0.0), builder.fsub(new, old))
            parts.append(builder.fadd(total, context.cast(builder, change, there.dtype, sums.dtype)))
        return context.make_tuple(builder, sums, parts)

    return sums(sums, there, there), codegen


@intrinsic(prefer_literal=True)
def parameters(typing: Any, pointer: Any, kinds: Any, working: Any) -> Any:
    """The parameters of a call, a word each: ``n`` the number at its position in a float64 array, ``0`` None, ``T`` and ``F``
    switches, ``z`` the number 0; anything else is itself a number.

    All but ``n`` are constants here, so that what they turn off is compiled out.
    """
    words = kinds.literal_value.split()
    result = types.Tuple([{"0": types.none, "T": types.boolean, "F": types.boolean}.get(word, working.dtype) for word in words])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = builder.bitcast(args[0], ir.DoubleType().as_pointer())
        values = []
        for position, word in enumerate(words):
            if word == "n":
                number = builder.load(builder.gep(numbers, [ir.IntType(64)(position)]))
                values.append(context.cast(builder, number, types.float64, working.dtype))
            elif word == "0":
                values.append(context.get_dummy_value())
            elif word in ("T", "F"):
                values.append(context.get_constant(types.boolean, word == "T"))
            else:
                values.append(context.get_constant(working.dtype, 0.0 if word == "z" else float(word)))
        return context.make_tuple(builder, result, values)

    return result(types.voidptr, kinds, working), codegen
