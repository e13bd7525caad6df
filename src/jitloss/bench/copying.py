"""The yardstick: a parallel kernel that reads what a loss reads, writes as much as its gradient, and computes nothing."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
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


def _line_copier(streamed: bool) -> Any:
    @intrinsic
    def copy_line(typing: Any, to: Any, sources: Any, index: Any) -> Any:
        """One cache line of every source, combined by XOR, to a line of every ``to``: past the caches where ``streamed``."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def line(address: Any) -> Any:
                return builder.gep(builder.inttoptr(address, _LINE.as_pointer()), [args[2]])

            value = builder.load(line(builder.extract_value(args[1], 0)), align=4)
            for position in range(1, len(sources)):
                value = builder.xor(value, builder.load(line(builder.extract_value(args[1], position)), align=4))
            for position in range(len(to)):
                store = builder.store(value, line(builder.extract_value(args[0], position)), align=_BYTES)
                if streamed:
                    store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            return context.get_dummy_value()

        return types.void(to, sources, types.intp), codegen

    return copy_line


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
    """A call that reads the inputs and writes every ``to``, arrays as large as the gradients and :func:`aligned_like` them.

    Inputs as large as these are read line by line, smaller ones (labels) beside them; a last part of a line is left out.
    """
    size = to[0].nbytes
    targets = tuple(one.ctypes.data for one in to)
    sources = tuple(one.ctypes.data for one in inputs if one.nbytes == size)
    small = [one.reshape(-1).view(np.uint8) for one in inputs if one.nbytes != size]
    rest = np.concatenate([np.zeros(0, np.uint8), *small])
    words = rest[: rest.size // 8 * 8].view(np.int64)
    kernel = _kernel()

    def call(keep: Any = (to, inputs)) -> None:
        kernel(targets, sources, size // _BYTES, words, streamed)

    return call
