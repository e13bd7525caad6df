"""Running a kernel over rows: with one thread or several, chunk by chunk, storing through the caches or past them."""

import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from . import stores

__all__ = ["CHUNK", "SERIAL", "Memory", "chunk_rows", "compiler", "total_of"]

CHUNK = 16384
"""Elements of a chunk: the unit of parallel work and of the sum in order, whatever the number of threads."""

FEWEST_INNER_ROWS = 128
"""The fewest rows of a chunk where rows lie along an inner axis, side by side."""

SERIAL = 2 * CHUNK
"""Elements up to which a single thread is used: splitting so little is no faster."""


@functools.cache
def compiler() -> Any:
    """The CPU compiler, loaded when the first array arrives."""
    with _loading:
        _register_again()
        from .compilers import cpu

        return cpu


_loading = threading.RLock()
_held: list[bool] = []

LONGEST_WAIT = 10.0
"""Seconds that a fork waits for the thread that is loading the compiler."""


def _before_fork() -> None:
    """Wait for the compiler to load: a hook that the compiler registers would not be called by a fork that waited for its import."""
    if _loading.acquire(timeout=LONGEST_WAIT):
        _held.append(True)
    wait = getattr(sys.modules.get(f"{__package__}.compilers.cpu"), "before_fork", None)
    if wait is not None:
        wait()


def _after_fork() -> None:
    if _held:
        _held.pop()
        _loading.release()


def _in_child() -> None:
    """Replace a lock that another thread held for longer than that: the child does not have that thread."""
    global _loading
    if not _held:
        _loading = threading.RLock()
    _after_fork()


def _register_fork_hooks() -> None:
    """A child has no thread that would finish an import, so a fork waits for it, and for any compilation."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


_register_fork_hooks()


@functools.cache
def _register_again() -> None:
    """Register again. Hooks before a fork run in reverse order: so ours comes before that of logging, whose lock numba takes on import."""
    import logging  # noqa: F401

    _register_fork_hooks()


class Memory(NamedTuple):
    """A kernel's memory traffic: how many bytes it moves, whether outputs are new, whether it writes, and whether over an input."""

    moved: int
    new: bool
    writes: bool
    over: bool


def chunk_rows(columns: int, inner: int = 1) -> int:
    """Rows of a chunk. Rows along an inner axis are read side by side: with few of them, only part of each cache line would be used."""
    return max(CHUNK // columns, 1 if inner == 1 else FEWEST_INNER_ROWS)


def total_of(
    kernel: int,
    words: Callable[[int], tuple[Any, ...]],
    shape: tuple[int, int],
    scale: float,
    memory: Memory,
    inner: int = 1,
) -> float:
    """The sum of a kernel's values over rows of the given shape; ``words`` makes its table, given the way of storing."""
    cpu, (count, columns) = compiler(), shape

    def stored(past: bool) -> float:
        way = cpu.OVER if memory.over else cpu.PAST if past else cpu.THROUGH
        size = count * columns
        total: float = cpu.run(
            kernel, words(way), count, chunk_rows(columns, inner), scale, size // CHUNK if size > SERIAL else 0
        )
        return total

    if memory.writes and not memory.over and stores.streams(memory.moved):
        return stores.faster(kernel, memory.moved, memory.new, stored)
    return stored(False)
