"""The baseline: a parallel kernel that reads what a loss reads, writes as much as its gradient, and computes nothing."""

import functools
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["aligned_like", "copy"]

_LINE = ir.VectorType(ir.IntType(32), 16)
_BYTES = 64
_CHUNK = 1024  # lines


def aligned_like(array: np.ndarray) -> np.ndarray:
    """An empty C-contiguous array of the same shape and dtype that starts on a cache line."""
    memory = np.empty(array.nbytes + _BYTES, np.uint8)
    start = -memory.ctypes.data % _BYTES
    return memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)


def _line(builder: Any, addresses: Any, position: int, index: Any) -> Any:
    return builder.gep(builder.inttoptr(builder.extract_value(addresses, position), _LINE.as_pointer()), [index])


def _combined(builder: Any, sources: Any, count: int, index: Any) -> Any:
    """A line of every source, combined by XOR."""
    lines = [builder.load(_line(builder, sources, position, index), align=4) for position in range(count)]
    return functools.reduce(builder.xor, lines)


@intrinsic
def _read_line(typing: Any, sources: Any, index: Any) -> Any:
    """A number made of one cache line of every source, so that each is read."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [_LINE])
        fold = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.xor.v16i32")
        return builder.call(fold, [_combined(builder, args[0], len(sources), args[1])])

    return types.int32(sources, types.intp), codegen


def _line_copier(streamed: bool) -> Any:
    @intrinsic
    def copy_line(typing: Any, to: Any, sources: Any, index: Any) -> Any:
        """Copy one cache line of every source, combined by XOR, to a line of every ``to``: past the caches where ``streamed``."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = _combined(builder, args[1], len(sources), args[2])
            for position in range(len(to)):
                store = builder.store(value, _line(builder, args[0], position, args[2]), align=_BYTES)
                if streamed:
                    store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            return context.get_dummy_value()

        return types.void(to, sources, types.intp), codegen

    return copy_line


@cache
def _reader() -> Any:
    @njit(parallel=True, nogil=True)
    def kernel(sources: Any, lines: Any, small: Any) -> Any:
        chunks = (lines + _CHUNK - 1) // _CHUNK
        seen = np.zeros(chunks, np.int64)
        for chunk in prange(chunks):
            total = 0
            for index in range(chunk * _CHUNK, min(lines, (chunk + 1) * _CHUNK)):
                total ^= _read_line(sources, index)
            for value in small[chunk * small.size // chunks : (chunk + 1) * small.size // chunks]:
                total ^= value
            seen[chunk] = total
        return seen.sum()

    return kernel


@cache
def _kernel() -> Any:
    plain, past_caches = _line_copier(streamed=False), _line_copier(streamed=True)

    @njit(parallel=True, nogil=True)
    def kernel(to: Any, sources: Any, lines: Any, small: Any, streamed: Any) -> Any:
        chunks = (lines + _CHUNK - 1) // _CHUNK
        seen = np.zeros(chunks, np.int64)
        for chunk in prange(chunks):
            stop = min(lines, (chunk + 1) * _CHUNK)
            if streamed:
                for index in range(chunk * _CHUNK, stop):
                    past_caches(to, sources, index)
            else:
                for index in range(chunk * _CHUNK, stop):
                    plain(to, sources, index)
            total = 0
            for value in small[chunk * small.size // chunks : (chunk + 1) * small.size // chunks]:
                total ^= value
            seen[chunk] = total
        return seen.sum()

    return kernel


def copy(to: Sequence[np.ndarray], inputs: Sequence[np.ndarray], streamed: bool) -> Callable[[], None]:
    """A call that reads the inputs and writes every ``to``: arrays as large as the first input, allocated by :func:`aligned_like`.

    Inputs of that size are read line by line, smaller ones (labels) separately; a last incomplete line is left out.
    """
    size = inputs[0].nbytes
    targets = tuple(one.ctypes.data for one in to)
    sources = tuple(one.ctypes.data for one in inputs if one.nbytes == size)
    small = [one.reshape(-1).view(np.uint8) for one in inputs if one.nbytes != size]
    rest = np.concatenate([np.zeros(0, np.uint8), *small])
    words = rest[: rest.size // 8 * 8].view(np.int64)
    reader, kernel = _reader(), _kernel()

    def call(keep: Any = (to, inputs)) -> None:
        if to:
            kernel(targets, sources, size // _BYTES, words, streamed)
        else:
            reader(sources, size // _BYTES, words)

    return call
