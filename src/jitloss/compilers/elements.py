"""Numbers in memory: loads and stores that convert, and pieces of a kernel's own stack.

Pointers are ``void *`` and arrays are known by the name of their dtype, because numba has no arithmetic for the half types and no
pointer to them: a load converts to the working precision, a store converts back, and both vectorise.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from .intrinsics import intrinsic

__all__ = [
    "ITEMSIZE",
    "LOADS",
    "address",
    "as_single",
    "converted",
    "load",
    "load_all",
    "load_one",
    "read",
    "spread",
    "stack",
    "stacks",
    "store",
    "store_one",
]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_HALF, _FLOAT, _DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()


def _from_bfloat16(builder: Any, bits: Any, to: Any) -> Any:
    wide = builder.bitcast(builder.shl(builder.zext(bits, _I32), _I32(16)), _FLOAT)
    return wide if to == _FLOAT else builder.fpext(wide, to)


def _to_odd(builder: Any, value: Any) -> Any:
    """A double as a float, rounded towards zero and, if inexact, to an odd last bit: then a second rounding gives the same as a single one.

    Few processors round doubles to halves directly, and on the others LLVM calls a library function that is not available.
    """
    nearest = builder.fptrunc(value, _FLOAT)
    back = builder.fpext(nearest, _DOUBLE)
    farther, size = (builder.shl(builder.bitcast(one, _I64), _I64(1)) for one in (back, value))  # without their signs
    away = builder.icmp_unsigned(">", farther, size)
    lost = builder.fcmp_ordered("!=", back, value)
    below = builder.sub(builder.bitcast(nearest, _I32), builder.zext(away, _I32))
    return builder.bitcast(builder.or_(below, builder.zext(lost, _I32)), _FLOAT)


def _to_bfloat16(builder: Any, value: Any) -> Any:
    """Round to nearest, ties to even; NaN stays NaN."""
    single = as_single(builder, value)
    bits = builder.bitcast(single, _I32)
    odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, _I32(0x7FFF))), _I32(16))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", single, single), _I32(0x7FC0), rounded), _I16)


def _float_to(builder: Any, value: Any, to: Any) -> Any:
    width = {_HALF: 16, _FLOAT: 32, _DOUBLE: 64}
    if value.type == to:
        return value
    if (value.type, to) == (_DOUBLE, _HALF):
        value = _to_odd(builder, value)
    return builder.fpext(value, to) if width[value.type] < width[to] else builder.fptrunc(value, to)


def _signed(builder: Any, value: Any, to: Any) -> Any:
    return builder.sitofp(value, to)


def _unsigned(builder: Any, value: Any, to: Any) -> Any:
    return builder.uitofp(value, to)


def _sign(builder: Any, value: Any, to: Any) -> Any:
    """A bool as 1 or -1."""
    return builder.sitofp(builder.sub(builder.shl(value, _I8(1)), _I8(1)), to)


LOADS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "float16": (_HALF, _float_to),
    "bfloat16": (_I16, _from_bfloat16),
    "float32": (_FLOAT, _float_to),
    "float64": (_DOUBLE, _float_to),
    "bool": (_I8, _unsigned),
    "sign": (_I8, _sign),
    **{f"int{bits}": (ir.IntType(bits), _signed) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (ir.IntType(bits), _unsigned) for bits in (8, 16, 32, 64)},
}

ITEMSIZE = {
    name: 2 if kind == _HALF else 4 if kind == _FLOAT else 8 if kind == _DOUBLE else kind.width // 8
    for name, (kind, _) in LOADS.items()
}


def address(builder: Any, pointer: Any, index: Any, kind: Any) -> Any:
    """The address of an element whose LLVM type is ``kind``."""
    return builder.gep(builder.bitcast(pointer, kind.as_pointer()), [index])


def load_one(context: Any, builder: Any, pointer: Any, index: Any, name: str, working: Any) -> Any:
    """Emit the instructions that read an element and convert it."""
    kind, convert = LOADS[name]
    stored = builder.load(address(builder, pointer, index, kind))
    stored.align = ITEMSIZE[name]
    return convert(builder, stored, context.get_value_type(working))


def load_all(context: Any, builder: Any, pointers: Any, index: Any, names: list[str], working: Any) -> list[Any]:
    """The same for a tuple of pointers."""
    each = enumerate(names)
    return [load_one(context, builder, builder.extract_value(pointers, at), index, name, working) for at, name in each]


def _plain_load(arrays: Any, index: Any, dtypes: Any, working: Any) -> tuple[Any, ...]:
    signs = zip(arrays, dtypes, strict=False)
    return tuple(working(2 * int(one[index]) - 1 if name == "sign" else one[index]) for one, name in signs)


def _plain_store(array: Any, index: Any, value: Any, dtype: Any) -> None:
    array[index] = value


def _plain_spread(arrays: Any, index: Any, values: Any, dtype: Any) -> None:
    for array, value in zip(arrays, values, strict=True):
        array[index] = value


@intrinsic(prefer_literal=True, plain=_plain_load)
def load(typing: Any, pointers: Any, index: Any, dtypes: Any, working: Any) -> Any:
    """Element ``index`` of each array as a tuple in the working precision."""
    names = [one.literal_value for one in dtypes]
    result = types.UniTuple(working.dtype, len(names))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, load_all(context, builder, args[0], args[1], names, working.dtype))

    return result(pointers, types.intp, dtypes, working), codegen


@intrinsic(prefer_literal=True, plain=_plain_store)
def store(typing: Any, pointer: Any, index: Any, value: Any, dtype: Any) -> Any:
    """Write one number to element ``index`` of an array of the named floating dtype."""
    name = dtype.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store_one(builder, args[0], args[1], args[2], name)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp, value, dtype), codegen


def store_one(builder: Any, pointer: Any, index: Any, value: Any, name: str) -> None:
    """Emit the instructions that convert a number and store it."""
    builder.store(converted(builder, value, name), address(builder, pointer, index, LOADS[name][0]), align=ITEMSIZE[name])


def converted(builder: Any, value: Any, name: str) -> Any:
    """A number as it is stored in an array of a floating dtype."""
    return _to_bfloat16(builder, value) if name == "bfloat16" else _float_to(builder, value, LOADS[name][0])


def as_single(builder: Any, value: Any) -> Any:
    """A number as a float that rounds to a half as the number itself would."""
    return value if value.type == _FLOAT else _to_odd(builder, value)


@intrinsic(prefer_literal=True, plain=_plain_spread)
def spread(typing: Any, pointers: Any, index: Any, values: Any, dtype: Any) -> Any:
    """Write each number of a tuple to element ``index`` of an array of its own."""
    name = dtype.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position in range(len(values)):
            store_one(builder, builder.extract_value(args[0], position), args[1], builder.extract_value(args[2], position), name)
        return context.get_dummy_value()

    return types.void(pointers, types.intp, values, dtype), codegen


@intrinsic(plain=lambda array, index: int(array[index]))
def read(typing: Any, pointer: Any, index: Any) -> Any:
    """An element of an int64 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(address(builder, args[0], args[1], _I64))

    return types.intp(types.voidptr, types.intp), codegen


@intrinsic(prefer_literal=True)
def stack(typing: Any, count: Any) -> Any:
    """``count`` bytes on the kernel's own stack, aligned to a cache line."""
    size = count.literal_value
    return types.voidptr(count), lambda context, builder, signature, args: _allocate(builder, size)


def _allocate(builder: Any, size: int) -> Any:
    with builder.goto_entry_block():
        memory = builder.alloca(_I8, _I64(size))
        memory.align = 64
    return memory


@intrinsic(prefer_literal=True)
def stacks(typing: Any, number: Any, count: Any) -> Any:
    """A tuple of ``number`` pieces of stack; what is written to a piece and never read is optimised away."""
    pieces, size = number.literal_value, count.literal_value
    result = types.UniTuple(types.voidptr, pieces)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, [_allocate(builder, size) for _ in range(pieces)])

    return result(number, count), codegen
