"""Memory and threads as kernels see them on a device. Each intrinsic has a plain meaning, which the simulator runs.

Elements are moved in vectors: as many neighbours as fill 128 bits in the widest of a kernel's arrays that are read by element.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils

from ..elements import ITEMSIZE, LOADS, address, load, spread
from ..intrinsics import intrinsic
from .toolchain import SIMULATED, jitable, teach_intrinsic

__all__ = ["WARP", "expand", "fetch", "flush", "integer", "local", "reducer", "repeated", "settled", "shared_pieces"]

WARP = 1 if SIMULATED else 32
"""Threads that exchange numbers without shared memory: none in the simulator."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()


def _plain_local(count: Any, size: Any) -> tuple[Any, ...]:
    return tuple(np.zeros(size, np.float64) for _ in range(count))


@intrinsic(prefer_literal=True, plain=_plain_local)
def local(typing: Any, count: Any, size: Any) -> Any:
    """``count`` pieces of a thread's own memory, each for ``size`` numbers of any dtype; registers where indices are constants."""
    pieces, numbers = count.literal_value, size.literal_value
    result = types.UniTuple(types.voidptr, pieces)

    def piece(builder: Any) -> Any:
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(ir.IntType(8), 8 * numbers))
            memory.align = 16
        return builder.bitcast(memory, _BYTES)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, [piece(builder) for _ in range(pieces)])

    return result(count, size), codegen


def _chunks(size: int, itemsize: int) -> Iterator[tuple[int, Any, int]]:
    """Bytes cut into the widest words that there are: where, the type of the words, and the bytes of one."""
    place = 0
    while place < size:
        width = next(one for one in (16, 8, 4, 2, 1) if one <= size - place)
        word = max(itemsize, min(4, width))
        kind = ir.IntType(8 * word)
        yield place, kind if word == width else ir.VectorType(kind, width // word), word
        place += width


def _read_items(builder: Any, source: Any, to: Any, size: int, itemsize: int) -> None:
    """Copy from a device's memory by wide loads to a thread's own, item by item: LLVM turns those into registers."""
    item = ir.IntType(8 * itemsize)
    for place, kind, word in _chunks(size, itemsize):
        width = word * getattr(kind, "count", 1)
        words = builder.load(builder.bitcast(builder.gep(source, [_I64(place)]), kind.as_pointer()), align=width)
        for offset in range(0, width, itemsize):
            whole = words if width == word else builder.extract_element(words, _I32(offset // word))
            shifted = builder.lshr(whole, whole.type(8 * (offset % word))) if offset % word else whole
            part = builder.trunc(shifted, item) if word > itemsize else shifted
            builder.store(part, builder.bitcast(builder.gep(to, [_I64(place + offset)]), item.as_pointer()), align=itemsize)


def _write_items(builder: Any, to: Any, source: Any, size: int, itemsize: int) -> None:
    """The way back."""
    item = ir.IntType(8 * itemsize)
    for place, kind, word in _chunks(size, itemsize):
        width = word * getattr(kind, "count", 1)
        words = ir.Constant(kind, ir.Undefined)
        for first in range(0, width, word):
            whole = ir.IntType(8 * word)(0)
            for offset in range(first, first + word, itemsize):
                at = builder.bitcast(builder.gep(source, [_I64(place + offset)]), item.as_pointer())
                part = builder.load(at, align=itemsize)
                part = builder.zext(part, whole.type) if word > itemsize else part
                whole = builder.or_(whole, builder.shl(part, whole.type(8 * (offset - first)))) if word > itemsize else part
            words = whole if width == word else builder.insert_element(words, whole, _I32(first // word))
        builder.store(words, builder.bitcast(builder.gep(to, [_I64(place)]), kind.as_pointer()), align=width)


def _plain_fetch(to: Any, at: Any, arrays: Any, index: Any, dtypes: Any, count: Any) -> None:
    for piece, array in zip(to, arrays, strict=True):
        piece[at : at + count] = array[index : index + count]


@intrinsic(prefer_literal=True, plain=_plain_fetch)
def fetch(typing: Any, to: Any, at: Any, pointers: Any, index: Any, dtypes: Any, count: Any) -> Any:
    """Read ``count`` neighbouring elements of each array, from ``index`` on, into a thread's own memory from ``at`` on."""
    names, number = [one.literal_value for one in dtypes], count.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position, name in enumerate(names):
            kind, size = LOADS[name][0], number * ITEMSIZE[name]
            source = address(builder, builder.extract_value(args[2], position), args[3], kind)
            place = address(builder, builder.extract_value(args[0], position), args[1], kind)
            _read_items(builder, builder.bitcast(source, _BYTES), builder.bitcast(place, _BYTES), size, ITEMSIZE[name])
        return context.get_dummy_value()

    return types.void(to, types.intp, pointers, types.intp, dtypes, count), codegen


def _plain_flush(arrays: Any, index: Any, pieces: Any, at: Any, dtype: Any, count: Any) -> None:
    for array, piece in zip(arrays, pieces, strict=True):
        array[index : index + count] = piece[at : at + count]


@intrinsic(prefer_literal=True, plain=_plain_flush)
def flush(typing: Any, pointers: Any, index: Any, pieces: Any, at: Any, dtype: Any, count: Any) -> Any:
    """Write ``count`` elements of each piece of a thread's own memory, from ``at`` on, to an array of its own from ``index`` on."""
    name, number = dtype.literal_value, count.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position in range(len(pieces)):
            place = address(builder, builder.extract_value(args[0], position), args[1], LOADS[name][0])
            source = address(builder, builder.extract_value(args[2], position), args[3], LOADS[name][0])
            place, source = builder.bitcast(place, _BYTES), builder.bitcast(source, _BYTES)
            _write_items(builder, place, source, number * ITEMSIZE[name], ITEMSIZE[name])
        return context.get_dummy_value()

    return types.void(pointers, types.intp, pieces, types.intp, dtype, count), codegen


def _plain_expand(numbers: Any, kinds: Any, working: Any) -> tuple[Any, ...]:
    left = iter(numbers)
    constants = {"0": None, "T": True, "F": False, "z": working(0.0)}
    return tuple(next(left) if letter == "n" else constants[letter] for letter in kinds)


@intrinsic(prefer_literal=True, plain=_plain_expand)
def expand(typing: Any, numbers: Any, kinds: Any, working: Any) -> Any:
    """The parameters of a call, a letter each: ``n`` the next of the numbers, ``0`` None, ``T`` and ``F`` switches, ``z`` 0."""
    letters = kinds.literal_value
    known = {"n": working.dtype, "z": working.dtype, "0": types.none}
    result = types.Tuple([known.get(letter, types.boolean) for letter in letters])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = iter(range(len(numbers)))
        values = []
        for letter in letters:
            if letter == "n":
                values.append(builder.extract_value(args[0], next(left)))
            elif letter == "z":
                values.append(context.get_constant(working.dtype, 0.0))
            elif letter == "0":
                values.append(context.get_dummy_value())
            else:
                values.append(context.get_constant(types.boolean, letter == "T"))
        return context.make_tuple(builder, result, values)

    return result(numbers, kinds, working), codegen


@intrinsic(prefer_literal=True, plain=lambda array, index, dtype: np.int64(array[index]))
def integer(typing: Any, pointer: Any, index: Any, dtype: Any) -> Any:
    """An element of an array of integers or bools, as int64."""
    kind = LOADS[dtype.literal_value][0]
    signed = not dtype.literal_value.startswith(("u", "b"))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.load(address(builder, args[0], args[1], kind), align=kind.width // 8)
        return stored if kind.width == 64 else builder.sext(stored, _I64) if signed else builder.zext(stored, _I64)

    return types.int64(types.voidptr, types.intp, dtype), codegen


@intrinsic(plain=lambda value: value)
def settled(typing: Any, value: Any) -> Any:
    """The number itself, computed here: LLVM would move a conversion from float64 into the loop that uses it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, letter = args[0].type, "f" if value == types.float32 else "d"
        code = f"mov.{'f32' if value == types.float32 else 'f64'} $0, $1;"
        asm = ir.InlineAsm(ir.FunctionType(kind, [kind]), code, f"={letter},{letter}", side_effect=True)
        return builder.call(asm, [args[0]])

    return value(value), codegen


def _plain_pieces(memory: Any, count: Any) -> tuple[Any, ...]:
    size = len(memory) // max(count, 1)
    return tuple(memory[index * size : (index + 1) * size] for index in range(count))


@intrinsic(prefer_literal=True, plain=_plain_pieces)
def shared_pieces(typing: Any, memory: Any, count: Any) -> Any:
    """A block's shared array of float64 as ``count`` pieces of equal size."""
    pieces = count.literal_value
    result = types.UniTuple(types.voidptr, pieces)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(memory)(context, builder, args[0])
        base = builder.bitcast(array.data, _BYTES)
        size = builder.mul(builder.udiv(array.nitems, _I64(max(pieces, 1))), _I64(8))
        parts = [builder.gep(base, [builder.mul(size, _I64(index))]) for index in range(pieces)]
        return context.make_tuple(builder, result, parts)

    return result(memory, count), codegen


@intrinsic(prefer_literal=True, plain=lambda values, lanes: values)
def exchange(typing: Any, values: Any, lanes: Any) -> Any:
    """The numbers of the thread of this warp whose place differs in the bit ``lanes``."""

    def shuffle(builder: Any, bits: Any, by: Any) -> Any:
        kind = ir.FunctionType(ir.LiteralStructType((_I32, ir.IntType(1))), [_I32] * 5)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.shfl.sync.i32")
        everybody, butterfly, limit = _I32(-1), _I32(3), _I32(0x1F)
        return builder.extract_value(builder.call(function, (everybody, butterfly, bits, by, limit)), 0)

    def shuffle_real(builder: Any, value: Any, by: Any) -> Any:
        if values.dtype == types.float32:
            return builder.bitcast(shuffle(builder, builder.bitcast(value, _I32), by), ir.FloatType())
        bits = builder.bitcast(value, _I64)
        low = shuffle(builder, builder.trunc(bits, _I32), by)
        high = shuffle(builder, builder.trunc(builder.lshr(bits, _I64(32)), _I32), by)
        both = builder.or_(builder.zext(low, _I64), builder.shl(builder.zext(high, _I64), _I64(32)))
        return builder.bitcast(both, ir.DoubleType())

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        by = context.cast(builder, args[1], lanes, types.int32)
        parts = [shuffle_real(builder, builder.extract_value(args[0], index), by) for index in range(len(values))]
        return context.make_tuple(builder, values, parts)

    return values(values, lanes), codegen


for _one in (local, fetch, flush, integer, expand, settled, shared_pieces, exchange):
    teach_intrinsic(_one)


def _barrier() -> None:
    """Wait for the other threads of the block."""
    cuda.syncthreads()


barrier = cuda.jit(device=True)(_barrier) if SIMULATED else jitable(_barrier)


def reducer(combine: Any, team: int, name: str, count: int) -> Any:
    """A function that combines ``count`` numbers of each of a team's threads, in a fixed order, for all of them.

    It takes the numbers, the thread's place in the team and, for teams larger than a warp, a piece of shared memory for each number.
    """
    working, dtypes, masks = np.dtype(name).type, (name,) * count, _masks(min(team, WARP))
    warps, crosses, exchanges = team // WARP, team > WARP, team > 1 and WARP > 1

    @jitable
    def reduce(values, lane, pieces):  # type: ignore[no-untyped-def]
        if exchanges:
            for mask in masks:
                values = combine(values, exchange(values, mask))
        if crosses:
            barrier()  # until everybody has read what lay there before
            if lane % WARP == 0:
                spread(pieces, lane // WARP, values, name)
            barrier()
            values = load(pieces, 0, dtypes, working)
            for warp in range(1, warps):
                values = combine(values, load(pieces, warp, dtypes, working))
        return values

    return reduce


def repeated(step: Any, count: int, place: int, column: int) -> Any:
    """A function that takes a step ``count`` times, a power of two, without a loop: what is indexed by constants stays in registers.

    A step is ``(state, place, column, rest)`` to the new state; ``place`` and ``column`` say how far the next one lies.
    """
    if count == 1:
        return step
    half = repeated(step, count // 2, place, column)
    places, columns = place * (count // 2), column * (count // 2)

    @jitable
    def twice(state, at, first, rest):  # type: ignore[no-untyped-def]
        return half(half(state, at, first, rest), at + places, first + columns, rest)

    return twice


def _masks(width: int) -> tuple[int, ...]:
    return tuple(1 << bit for bit in reversed(range(max(width.bit_length() - 1, 1))))
