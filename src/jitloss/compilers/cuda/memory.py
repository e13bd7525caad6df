"""Memory and threads as kernels see them on a device. Each intrinsic has a plain meaning, which the simulator runs.

Elements are moved in vectors: as many neighbours as fill 128 bits in the widest of a kernel's arrays that are read by element.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils

from ..elements import ITEMSIZE, LOADS, address, load, spread
from ..intrinsics import intrinsic
from .toolchain import SIMULATED, jitable, teach_intrinsic

__all__ = ["WARP", "expand", "fetch", "flush", "local", "reducer", "shared_pieces"]

WARP = 1 if SIMULATED else 32
"""Threads that exchange numbers without shared memory: none in the simulator."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_WIDEST = 16


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
            memory.align = _WIDEST
        return builder.bitcast(memory, _BYTES)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, [piece(builder) for _ in range(pieces)])

    return result(count, size), codegen


def _move(builder: Any, to: Any, source: Any, size: int) -> None:
    """Copy ``size`` bytes by the widest loads and stores that there are."""
    place = 0
    while place < size:
        width = next(one for one in (16, 8, 4, 2, 1) if one <= size - place)
        kind = ir.VectorType(_I32, 4) if width == _WIDEST else ir.IntType(8 * width)
        at = [_I64(place)]
        value = builder.load(builder.bitcast(builder.gep(source, at), kind.as_pointer()), align=width)
        builder.store(value, builder.bitcast(builder.gep(to, at), kind.as_pointer()), align=width)
        place += width


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
            _move(builder, builder.bitcast(place, _BYTES), builder.bitcast(source, _BYTES), size)
        return context.get_dummy_value()

    return types.void(to, types.intp, pointers, types.intp, dtypes, count), codegen


def _plain_flush(arrays: Any, index: Any, pieces: Any, dtype: Any, count: Any) -> None:
    for array, piece in zip(arrays, pieces, strict=True):
        array[index : index + count] = piece[:count]


@intrinsic(prefer_literal=True, plain=_plain_flush)
def flush(typing: Any, pointers: Any, index: Any, pieces: Any, dtype: Any, count: Any) -> Any:
    """Write the first ``count`` elements of each piece of a thread's own memory to an array of its own, from ``index`` on."""
    name, number = dtype.literal_value, count.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position in range(len(pieces)):
            place = address(builder, builder.extract_value(args[0], position), args[1], LOADS[name][0])
            source = builder.extract_value(args[2], position)
            _move(builder, builder.bitcast(place, _BYTES), source, number * ITEMSIZE[name])
        return context.get_dummy_value()

    return types.void(pointers, types.intp, pieces, dtype, count), codegen


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


for _one in (local, fetch, flush, expand, shared_pieces, exchange):
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


def _masks(width: int) -> tuple[int, ...]:
    return tuple(1 << bit for bit in reversed(range(max(width.bit_length() - 1, 1))))
