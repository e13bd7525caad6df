"""Arrays in many memory layouts, with guard bytes around each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LAYOUTS", "Guarded", "guarded"]

SENTINEL = 0xA5
MARGIN = 256


class Guarded(NamedTuple):
    """An array inside a larger buffer, whose other bytes must stay unchanged."""

    array: Any
    buffer: Any
    mine: Any

    def intact(self) -> bool:
        return bool((self.buffer[~self.mine] == SENTINEL).all())


def guarded(numbers: Any, layout: Callable[[Any, tuple[int, ...], Any], Any] | None = None) -> Guarded:
    """A copy of an array in a guarded buffer; ``layout`` makes a view of its shape and dtype there."""
    numbers = np.asarray(numbers)
    layout = LAYOUTS["contiguous"] if layout is None else layout
    size = 2 * numbers.itemsize * int(np.prod([length + 1 for length in numbers.shape])) + 64
    buffer = np.full(size + 2 * MARGIN, SENTINEL, np.uint8)
    view = layout(buffer[MARGIN:-MARGIN], numbers.shape, numbers.dtype)
    view[...] = numbers
    mine = np.zeros(buffer.size, bool)
    for address in _addresses(view):
        start = address - buffer.ctypes.data
        mine[start : start + view.itemsize] = True
    return Guarded(view, buffer, mine)


def _addresses(view: Any) -> Any:
    offsets = np.zeros((), np.int64)
    for length, stride in zip(view.shape, view.strides, strict=True):
        offsets = np.add.outer(offsets, stride * np.arange(length, dtype=np.int64))
    return (offsets + view.ctypes.data).reshape(-1)


def _take(memory: Any, count: int, dtype: Any, start: int = 0) -> Any:
    return memory[start : start + count * dtype.itemsize].view(dtype)


def _contiguous(memory: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return _take(memory, int(np.prod(shape)), dtype).reshape(shape)


def _fortran(memory: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return _contiguous(memory, shape[::-1], dtype).T


def _spaced(memory: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    if not shape:
        return _contiguous(memory, shape, dtype)
    return _contiguous(memory, (*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]


def _columns(memory: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The first columns of a wider array."""
    if not shape:
        return _contiguous(memory, shape, dtype)
    return _contiguous(memory, (*shape[:-1], shape[-1] + 1), dtype)[..., :-1]


def _backwards(memory: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return _contiguous(memory, shape, dtype)[(*(slice(None, None, -1) for _ in shape), ...)]


def _unaligned(memory: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return _take(memory, int(np.prod(shape)), dtype, start=1).reshape(shape)


def _swapped(memory: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return _contiguous(memory, shape, dtype.newbyteorder("S"))


LAYOUTS = {
    "contiguous": _contiguous,
    "fortran": _fortran,
    "spaced": _spaced,
    "columns": _columns,
    "backwards": _backwards,
    "unaligned": _unaligned,
    "swapped": _swapped,
}
"""Writable views of a shape and a dtype in a piece of memory that is large enough."""
