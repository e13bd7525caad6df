"""How kernels run over ranges of elements or rows: in one thread, or with helper threads.

Work is cut into chunks whose size does not depend on the number of threads, and the chunks' sums are added in order: the same bits
with any number of threads.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from numba import types

from .entry import call, entry_point
from .helpers import Helpers, threads_allowed
from .memory import smaller
from .objects import Table, address_of

__all__ = ["run", "serial", "single_threaded"]


def _serial(kernel: Any, words: Any, count: Any, chunk: Any, scale: Any) -> Any:
    table, total = address_of(words), 0.0
    for start in range(0, count, chunk):
        total += call(kernel, table, start, smaller(count, start + chunk), scale)
    return total


@functools.cache
def serial() -> Callable[..., float]:
    """The single-threaded driver; loaded when first needed."""
    return entry_point(_serial, types.float64(types.intp, Table(), types.intp, types.intp, types.float64))


_here = threading.local()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Within it, calls of this Python thread do not use helpers: for engines that have threads of their own."""
    before, _here.alone = getattr(_here, "alone", False), True
    try:
        yield
    finally:
        _here.alone = before


_helpers: Helpers | None = None
_making = threading.Lock()


def helpers() -> Helpers:
    """The helper threads of this process; loaded when first needed."""
    global _helpers
    if _helpers is None:
        with _making:
            _helpers = _helpers or Helpers()
    return _helpers


def _after_fork() -> None:
    """Threads do not survive a fork."""
    global _helpers, _making
    _helpers, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(kernel: int, words: tuple[Any, ...], count: int, chunk: int, scale: float, work: int) -> float:
    """Run a kernel over ``count`` elements or rows, in chunks of ``chunk``; the sum of what the chunks return.

    ``work`` is the time that all of it takes, in units of what a chunk of short rows takes; 0 for a single thread.
    """
    if work and not getattr(_here, "alone", False):
        threads = threads_allowed()
        if threads > 1:
            total = helpers().run(kernel, words, count, chunk, scale, threads, work)
            if total is not None:
                return total
    return serial()(kernel, words, count, chunk, scale)
