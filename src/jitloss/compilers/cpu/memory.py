"""Memory as kernels see it: words of the table, loads and stores that convert, tiles on the stack, copies that pass the caches.

Pointers are ``void *`` and arrays are known by the name of their dtype, because numba has no arithmetic for the half types and no
pointer to them: a load converts to the working precision, a store converts back, and both vectorise.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from .intrinsics import intrinsic

__all__ = [
    "ITEMSIZE",
    "advance",
    "clear",
    "copy_out",
    "fence",
    "fill_weights",
    "load",
    "load_all",
    "load_one",
    "pointer",
    "pointers",
    "prefetch",
    "read",
    "read_short",
    "spread",
    "stack",
    "stacks",
    "store",
    "wide_vectors",
    "word",
    "word_at",
    "write",
    "write_short",
]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_HALF, _FLOAT, _DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_BYTES = _I8.as_pointer()
LINE = 64  # bytes of a cache line


def _from_bfloat16(builder: Any, bits: Any, to: Any) -> Any:
    wide = builder.bitcast(builder.shl(builder.zext(bits, _I32), _I32(16)), _FLOAT)
    return wide if to == _FLOAT else builder.fpext(wide, to)


def _to_bfloat16(builder: Any, value: Any) -> Any:
    """Round to nearest, ties to even; NaN stays NaN."""
    single = value if value.type == _FLOAT else builder.fptrunc(value, _FLOAT)
    bits = builder.bitcast(single, _I32)
    odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, _I32(0x7FFF))), _I32(16))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", single, single), _I32(0x7FC0), rounded), _I16)


def _float_to(builder: Any, value: Any, to: Any) -> Any:
    width = {_HALF: 16, _FLOAT: 32, _DOUBLE: 64}
    if value.type == to:
        return value
    return builder.fpext(value, to) if width[value.type] < width[to] else builder.fptrunc(value, to)


def _signed(builder: Any, value: Any, to: Any) -> Any:
    return builder.sitofp(value, to)


def _unsigned(builder: Any, value: Any, to: Any) -> Any:
    return builder.uitofp(value, to)


_LOADS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "float16": (_HALF, _float_to),
    "bfloat16": (_I16, _from_bfloat16),
    "float32": (_FLOAT, _float_to),
    "float64": (_DOUBLE, _float_to),
    "bool": (_I8, _unsigned),
    **{f"int{bits}": (ir.IntType(bits), _signed) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (ir.IntType(bits), _unsigned) for bits in (8, 16, 32, 64)},
}

ITEMSIZE = {
    name: 2 if kind == _HALF else 4 if kind == _FLOAT else 8 if kind == _DOUBLE else kind.width // 8
    for name, (kind, _) in _LOADS.items()
}


def _element(builder: Any, pointer: Any, index: Any, kind: Any) -> Any:
    return builder.gep(builder.bitcast(pointer, kind.as_pointer()), [index])


def load_one(context: Any, builder: Any, pointer: Any, index: Any, name: str, working: Any) -> Any:
    """Write the instructions that read an element and convert it."""
    kind, convert = _LOADS[name]
    stored = builder.load(_element(builder, pointer, index, kind))
    stored.align = ITEMSIZE[name]
    return convert(builder, stored, context.get_value_type(working))


def load_all(context: Any, builder: Any, pointers: Any, index: Any, names: list[str], working: Any) -> list[Any]:
    """The same for a tuple of pointers."""
    each = enumerate(names)
    return [load_one(context, builder, builder.extract_value(pointers, at), index, name, working) for at, name in each]


def word_at(builder: Any, table: Any, position: int) -> Any:
    """Write the instructions that read a word of the table as a pointer."""
    return builder.inttoptr(builder.load(builder.gep(builder.inttoptr(table, _I64.as_pointer()), [_I64(position)])), _BYTES)


@intrinsic(prefer_literal=True)
def load(typing: Any, pointers: Any, index: Any, dtypes: Any, working: Any) -> Any:
    """Element ``index`` of each array as a tuple in the working precision."""
    names = [one.literal_value for one in dtypes]
    result = types.UniTuple(working.dtype, len(names))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, load_all(context, builder, args[0], args[1], names, working.dtype))

    return result(pointers, types.intp, dtypes, working), codegen


@intrinsic(prefer_literal=True)
def store(typing: Any, pointer: Any, index: Any, value: Any, dtype: Any) -> Any:
    """Write one number to element ``index`` of an array of the named floating dtype."""
    name = dtype.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, args[0], args[1], args[2], name)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp, value, dtype), codegen


def _store(builder: Any, pointer: Any, index: Any, value: Any, name: str) -> None:
    kind = _LOADS[name][0]
    converted = _to_bfloat16(builder, value) if name == "bfloat16" else _float_to(builder, value, kind)
    builder.store(converted, _element(builder, pointer, index, kind), align=ITEMSIZE[name])


@intrinsic(prefer_literal=True)
def prefetch(typing: Any, pointers: Any, index: Any, dtypes: Any, count: Any) -> Any:
    """Ask for the lines of ``count`` elements from ``index`` on of each array, which need not be there: a wish never fails."""
    names = [one.literal_value for one in dtypes]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _I32, _I32, _I32])
        wish = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        for position, name in enumerate(names):
            first = _element(builder, builder.extract_value(args[0], position), args[1], _LOADS[name][0])
            first = builder.bitcast(first, _BYTES)
            for line in range(0, count.literal_value * ITEMSIZE[name], LINE):
                builder.call(wish, [builder.gep(first, [_I64(line)]), _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(pointers, types.intp, dtypes, count), codegen


@intrinsic(prefer_literal=True)
def spread(typing: Any, pointers: Any, index: Any, values: Any, dtype: Any) -> Any:
    """Write each number of a tuple to element ``index`` of an array of its own."""
    name = dtype.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position in range(len(values)):
            _store(builder, builder.extract_value(args[0], position), args[1], builder.extract_value(args[2], position), name)
        return context.get_dummy_value()

    return types.void(pointers, types.intp, values, dtype), codegen


@intrinsic
def word(typing: Any, table: Any, position: Any) -> Any:
    """A word of the kernel's table."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(args[0], _I64.as_pointer()), [args[1]]))

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def pointer(typing: Any, table: Any, position: Any) -> Any:
    """A word of the table as a pointer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(builder.load(builder.gep(builder.inttoptr(args[0], _I64.as_pointer()), [args[1]])), _BYTES)

    return types.voidptr(types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def pointers(typing: Any, table: Any, positions: Any) -> Any:
    """Words of the table as a tuple of pointers."""
    indices = [one.literal_value for one in positions]
    result = types.UniTuple(types.voidptr, len(indices))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = builder.inttoptr(args[0], _I64.as_pointer())
        words = (builder.load(builder.gep(base, [_I64(index)])) for index in indices)
        return context.make_tuple(builder, result, [builder.inttoptr(one, _BYTES) for one in words])

    return result(types.intp, positions), codegen


@intrinsic
def read(typing: Any, pointer: Any, index: Any) -> Any:
    """An element of an int64 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_element(builder, args[0], args[1], _I64))

    return types.intp(types.voidptr, types.intp), codegen


@intrinsic
def write(typing: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write an element of an int64 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _element(builder, args[0], args[1], _I64))
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp, types.intp), codegen


@intrinsic
def read_short(typing: Any, pointer: Any, index: Any) -> Any:
    """An element of an int32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_element(builder, args[0], args[1], _I32))

    return types.int32(types.voidptr, types.intp), codegen


@intrinsic
def write_short(typing: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write an integer to an element of an int32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[2], _I32), _element(builder, args[0], args[1], _I32))
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp, types.intp), codegen


@intrinsic
def advance(typing: Any, pointer: Any, count: Any) -> Any:
    """The pointer ``count`` bytes on."""
    return types.voidptr(types.voidptr, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


@intrinsic(prefer_literal=True)
def stack(typing: Any, count: Any) -> Any:
    """``count`` bytes of the kernel's own stack, on a cache line."""
    size = count.literal_value
    return types.voidptr(count), lambda context, builder, signature, args: _allocate(builder, size)


def _allocate(builder: Any, size: int) -> Any:
    with builder.goto_entry_block():
        memory = builder.alloca(_I8, _I64(size))
        memory.align = 64
    return memory


@intrinsic(prefer_literal=True)
def stacks(typing: Any, number: Any, count: Any) -> Any:
    """A tuple of ``number`` pieces of stack; what is written to a piece and never read is compiled out."""
    pieces, size = number.literal_value, count.literal_value
    result = types.UniTuple(types.voidptr, pieces)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, [_allocate(builder, size) for _ in range(pieces)])

    return result(number, count), codegen


@intrinsic
def clear(typing: Any, to: Any, count: Any) -> Any:
    """Set bytes to zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.memset(builder, args[0], args[1], 0)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp), codegen


@intrinsic
def _copy(typing: Any, to: Any, source: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.raw_memcpy(builder, args[0], args[1], args[2], 1)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.voidptr, types.intp), codegen


def _copy_line(typing: Any, to: Any, source: Any, streamed: bool) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line = ir.VectorType(_I32, 16).as_pointer()
        value = builder.load(builder.bitcast(args[1], line), align=1)
        store = builder.store(value, builder.bitcast(args[0], line), align=64)
        if streamed:
            store.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(types.voidptr, types.voidptr), codegen


@intrinsic
def _store_line(typing: Any, to: Any, source: Any) -> Any:
    """Copy one cache line; ``to`` lies on a line."""
    return _copy_line(typing, to, source, streamed=False)


@intrinsic
def _stream_line(typing: Any, to: Any, source: Any) -> Any:
    """Copy one cache line past the caches; ``to`` lies on a line."""
    return _copy_line(typing, to, source, streamed=True)


@intrinsic
def _to_line(typing: Any, pointer: Any) -> Any:
    """Bytes from a pointer to the next cache line."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(builder.neg(builder.ptrtoint(args[0], _I64)), _I64(63))

    return types.intp(types.voidptr), codegen


@intrinsic
def wide_vectors(typing: Any) -> Any:
    """Ask for vectors of 512 bits in the function that calls this, where the machine has them.

    For most Intel processors LLVM prefers 256 bits, out of care for clock rates; loops that are bound by arithmetic gain from 512.
    The wish is an attribute of the function, which would be lost if the function became part of another.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        attributes = builder.function.attributes
        attributes.add("noinline")
        set.add(attributes, '"prefer-vector-width"="512"')  # llvmlite's own add knows no attributes of targets
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def fence(typing: Any) -> Any:
    """Order streamed stores before whatever follows: other threads must see them."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@register_jitable
def copy_out(to: Any, tile: Any, count: Any, streamed: Any) -> None:
    """Copy a finished tile out. A plain store first reads the line that it overwrites; a streamed one does not."""
    head = min(_to_line(to), count)
    lines = (count - head) // 64
    done = head + 64 * lines
    _copy(to, tile, head)
    if streamed:
        for place in range(head, done, 64):
            _stream_line(advance(to, place), advance(tile, place))
    else:
        for place in range(head, done, 64):
            _store_line(advance(to, place), advance(tile, place))
    _copy(advance(to, done), advance(tile, done), count - done)


@register_jitable
def fill_weights(tile: Any, weights: Any, span: Any, begin: Any, count: Any, itemsize: Any) -> None:
    """The weights of ``count`` elements from ``begin`` on, where one weight stands for ``span`` neighbours."""
    if span == 1:
        _copy(tile, advance(weights, begin * itemsize), count * itemsize)
        return
    done = 0
    while done < count:
        which = (begin + done) // span
        stop = min(count, (which + 1) * span - begin)
        for index in range(done, stop):
            _copy(advance(tile, index * itemsize), advance(weights, which * itemsize), itemsize)
        done = stop
