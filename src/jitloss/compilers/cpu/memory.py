"""Memory as the CPU's kernels see it: words of the table, copies that pass the caches, lines asked for ahead."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from ..elements import ITEMSIZE, LOADS, address
from ..intrinsics import intrinsic

__all__ = [
    "advance",
    "clear",
    "copy_out",
    "fence",
    "fill_weights",
    "pointer",
    "pointers",
    "prefetch",
    "read_short",
    "wide_vectors",
    "word",
    "write",
    "write_short",
]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
LINE = 64  # bytes of a cache line


@intrinsic(prefer_literal=True)
def prefetch(typing: Any, pointers: Any, index: Any, dtypes: Any, count: Any) -> Any:
    """Ask for the lines of ``count`` elements from ``index`` on of each array, which need not be there: a wish never fails."""
    names = [one.literal_value for one in dtypes]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _I32, _I32, _I32])
        wish = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        for position, name in enumerate(names):
            first = address(builder, builder.extract_value(args[0], position), args[1], LOADS[name][0])
            first = builder.bitcast(first, _BYTES)
            for line in range(0, count.literal_value * ITEMSIZE[name], LINE):
                builder.call(wish, [builder.gep(first, [_I64(line)]), _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(pointers, types.intp, dtypes, count), codegen


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
def write(typing: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write an element of an int64 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], address(builder, args[0], args[1], _I64))
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp, types.intp), codegen


@intrinsic
def read_short(typing: Any, pointer: Any, index: Any) -> Any:
    """An element of an int32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(address(builder, args[0], args[1], _I32))

    return types.int32(types.voidptr, types.intp), codegen


@intrinsic
def write_short(typing: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write an integer to an element of an int32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[2], _I32), address(builder, args[0], args[1], _I32))
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp, types.intp), codegen


@intrinsic
def advance(typing: Any, pointer: Any, count: Any) -> Any:
    """The pointer ``count`` bytes on."""
    return types.voidptr(types.voidptr, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


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
