"""Communication between the threads of a device: within a warp, a block, or a cluster of blocks.

Each intrinsic has an equivalent in plain Python, which the simulator runs.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils

from ..elements import load, spread
from ..intrinsics import intrinsic
from .toolchain import SIMULATED, jitable, teach_intrinsic

__all__ = ["WARP", "across", "arrive", "barrier", "reducer", "shared_pieces", "wait"]

WARP = 1 if SIMULATED else 32
"""Threads that exchange numbers without shared memory: just one in the simulator."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()


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
    """The numbers of the thread of this warp whose lane differs in the bit ``lanes``."""

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


def _cluster_barrier(builder: Any, code: str) -> None:
    builder.call(ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), code, "~{memory}", side_effect=True), [])


_ARRIVE, _WAIT = "barrier.cluster.arrive.release.aligned;", "barrier.cluster.wait.acquire.aligned;"


@intrinsic(plain=lambda: None)
def arrive(typing: Any) -> Any:
    """Signal to the other blocks of the cluster that this one has arrived."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _cluster_barrier(builder, _ARRIVE)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic(plain=lambda: None)
def wait(typing: Any) -> Any:
    """Wait until the other blocks of the cluster have arrived; what they wrote before is then visible."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _cluster_barrier(builder, _WAIT)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic(plain=lambda pieces, rank: pieces)
def peer(typing: Any, pieces: Any, rank: Any) -> Any:
    """The same pieces of shared memory in the cluster's block with that rank."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        asm = ir.InlineAsm(ir.FunctionType(_I64, [_I64, _I32]), "mapa.u64 $0, $1, $2;", "=l,l,r")
        place = context.cast(builder, args[1], rank, types.int32)
        parts = []
        for position in range(len(pieces)):
            here = builder.ptrtoint(builder.extract_value(args[0], position), _I64)
            parts.append(builder.inttoptr(builder.call(asm, [here, place]), _BYTES))
        return context.make_tuple(builder, pieces, parts)

    return pieces(pieces, rank), codegen


for _one in (shared_pieces, exchange, arrive, wait, peer):
    teach_intrinsic(_one)


def _barrier() -> None:
    """Wait for the other threads of the block."""
    cuda.syncthreads()


barrier = cuda.jit(device=True)(_barrier) if SIMULATED else jitable(_barrier)


def reducer(combine: Any, team: int, name: str, count: int) -> Any:
    """A function that combines ``count`` numbers of each thread of a team, in a fixed order, for all of them.

    It takes the numbers, the thread's index in the team and, for teams larger than a warp, a piece of shared memory for each number.
    """
    working, dtypes, masks = np.dtype(name).type, (name,) * count, _masks(min(team, WARP))
    warps, crosses, exchanges = team // WARP, team > WARP, team > 1 and WARP > 1

    @jitable
    def reduce(values, lane, pieces):  # type: ignore[no-untyped-def]
        if exchanges:
            for mask in masks:
                values = combine(values, exchange(values, mask))
        if crosses:
            barrier()  # until all threads have read its previous contents
            if lane % WARP == 0:
                spread(pieces, lane // WARP, values, name)
            barrier()
            values = load(pieces, 0, dtypes, working)
            for warp in range(1, warps):
                values = combine(values, load(pieces, warp, dtypes, working))
        return values

    return reduce


def across(combine: Any, cluster: int, name: str, count: int) -> Any:
    """A function that combines the numbers of the blocks of a cluster, in a fixed order, for all of them.

    It takes a block's numbers, a thread's index in the block, and a piece of shared memory for each number, which must not be
    overwritten until the next barrier of the cluster has passed.
    """
    working, dtypes = np.dtype(name).type, (name,) * count

    @jitable
    def combined(values, thread, pieces):  # type: ignore[no-untyped-def]
        if thread == 0:
            spread(pieces, 0, values, name)
        arrive()
        wait()
        values = load(peer(pieces, 0), 0, dtypes, working)
        for rank in range(1, cluster):
            values = combine(values, load(peer(pieces, rank), 0, dtypes, working))
        return values

    return combined


def _masks(width: int) -> tuple[int, ...]:
    return tuple(1 << bit for bit in reversed(range(max(width.bit_length() - 1, 1))))
