"""Reuse of memory for large new arrays: the next call that needs about as much takes it.

An operating system maps new memory page by page and zeroes each page, which takes longer than most losses do. So the memory of an
array that is no longer referenced waits here. It is marked with ``MADV_FREE``, so that the system can reclaim it when it runs
short, except for what was freed most recently: marking takes long too, since every processor that has touched the memory must be
told.
"""

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["empty", "release", "without_reuse"]

LARGE = 2**25
"""Bytes from which on memory is kept here: allocators request such blocks from the system each time, and reuse smaller ones."""

LINED, LINE = 2**20, 64
"""Bytes from which on an array is aligned to cache lines, and the bytes of a line: streaming stores write whole lines."""

MOST_WAITING = 2**29
"""Bytes that wait at most; what has waited longest is released."""

MOST_READY = 2**28
"""Bytes of the most recently freed memory that wait without a mark: a loop over batches takes them again at once."""

_ready: list["mmap"] = []  # oldest first, as below; threads share both lists, so every operation on them is atomic
_waiting: list["mmap"] = []  # marked with MADV_FREE

_keeps = ContextVar("keeps", default=True)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An uninitialised array."""
    size = math.prod(shape) * dtype.itemsize
    if size < LINED:
        return np.empty(shape, dtype)
    memory = _take(size) if size >= LARGE and _keeps.get() else None
    numbers = np.empty(size + LINE, np.uint8) if memory is None else np.asarray(_Lease(memory))
    start = -numbers.ctypes.data % LINE
    return numbers[start : start + size].view(dtype).reshape(shape)


@contextmanager
def without_reuse() -> Iterator[None]:
    """Keep no memory for arrays that are made within the context, because an engine monitors the memory of the process."""
    token = _keeps.set(False)
    try:
        yield
    finally:
        _keeps.reset(token)


def release() -> None:
    """Return waiting memory to the system."""
    _ready.clear()
    _waiting.clear()


@functools.cache
def _maps() -> Any:
    """The ``mmap`` module, loaded for the first large array; None where the system cannot reclaim memory."""
    import mmap

    return mmap if all(hasattr(mmap, name) for name in ("MAP_PRIVATE", "MAP_ANONYMOUS", "MADV_FREE")) else None


class _Lease:
    """The base of an array and of all its views: when the last of them is gone, its memory waits for the next array."""

    def __init__(self, memory: "mmap") -> None:
        self.memory = memory

    @property
    def __array_interface__(self) -> dict[str, Any]:
        address = np.frombuffer(self.memory, np.uint8).ctypes.data
        return {"version": 3, "typestr": "|u1", "shape": (len(self.memory),), "data": (address, False)}

    def __del__(self) -> None:
        _give(self.memory)


def _take(size: int) -> "mmap | None":
    """Memory of so many bytes, or waiting memory of up to twice as many; None where none can be had."""
    for those in (_ready, _waiting):
        for one in sorted(those, key=len):
            if size <= len(one) <= 2 * size:
                with suppress(ValueError):  # another thread has taken it
                    those.remove(one)
                    return one
    maps = _maps()
    if maps is None:
        return None
    try:
        memory: mmap = maps.mmap(-1, size, flags=maps.MAP_PRIVATE | maps.MAP_ANONYMOUS)
    except OSError:
        release()
        return None
    with suppress(OSError, AttributeError):  # no huge pages on this system
        memory.madvise(maps.MADV_HUGEPAGE)
    return memory


def _give(memory: "mmap") -> None:
    _ready.append(memory)
    while _bytes_of(_ready) > MOST_READY:
        with suppress(IndexError):
            _mark(_ready.pop(0))  # popped, so no other thread can have it


def _mark(memory: "mmap") -> None:
    try:
        memory.madvise(_maps().MADV_FREE)
    except OSError:  # locked memory cannot be reclaimed, so it is not kept either
        return
    _waiting.append(memory)
    while _waiting and _bytes_of(_waiting) + _bytes_of(_ready) > MOST_WAITING:
        with suppress(IndexError):
            _waiting.pop(0)


def _bytes_of(those: list["mmap"]) -> int:
    return sum(map(len, tuple(those)))
