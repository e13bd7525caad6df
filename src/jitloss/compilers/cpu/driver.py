"""The way into compiled kernels: one C signature for all of them, one serial and one parallel driver.

A kernel is ``double kernel(intp *table, intp start, intp stop, double scale)``: it handles a range of elements or rows and returns
the sum of their values. The drivers are compiled once for every loss, dtype and rank, because all they are given is the kernel's
address and a table of words. From Python the table is a tuple of arrays, integers and ``None``.

Work is cut into chunks whose size does not depend on the number of threads, and the chunks' sums are added in order: the same bits
with any number of threads.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, prange, types
from numba.extending import intrinsic

from .cache import cached, of_this_version, own_files
from .flags import FLAGS
from .objects import Table, address_of
from .pipeline import KernelCompiler

__all__ = ["KERNEL", "call", "entry_point", "range_kernel", "run", "single_threaded"]

KERNEL = types.float64(types.intp, types.intp, types.intp, types.float64)
_WORD = ir.IntType(64)


def range_kernel(function: Any) -> Any:
    """Compile a function of the signature :data:`KERNEL`, or find it in the disk cache."""
    options = {"fastmath": FLAGS, "error_model": "numpy", "_nrt": False, "pipeline_class": KernelCompiler}
    return cached(lambda cache: cfunc(KERNEL, cache=cache, **options)(own_files(function) if cache else function))


@intrinsic
def call(typing: Any, kernel: Any, table: Any, start: Any, stop: Any, scale: Any) -> Any:
    """Call a kernel at its address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [_WORD, _WORD, _WORD, ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.float64(types.intp, types.intp, types.intp, types.intp, types.float64), codegen


_WORK = (types.intp, Table(), types.intp, types.intp, types.float64)


def _serial(kernel: Any, words: Any, count: Any, chunk: Any, scale: Any) -> Any:
    table, total = address_of(words), 0.0
    for start in range(0, count, chunk):
        total += call(kernel, table, start, min(count, start + chunk), scale)
    return total


def _parallel(kernel: Any, words: Any, count: Any, chunk: Any, scale: Any) -> Any:
    table, chunks = address_of(words), (count + chunk - 1) // chunk
    partial = np.empty(chunks, np.float64)
    for index in prange(chunks):
        partial[index] = call(kernel, table, index * chunk, min(count, (index + 1) * chunk), scale)
    total = 0.0
    for index in range(chunks):
        total += partial[index]
    return total


@functools.cache
def entry_point(parallel: bool) -> Callable[..., Any]:
    """The compiled driver's entry point, which unboxes by the declared types alone; loaded when first needed."""
    function = _parallel if parallel else _serial
    signature = types.float64(*_WORK)
    options: dict[str, Any] = {"parallel": True} if parallel else {"pipeline_class": KernelCompiler}
    compiled = cached(
        lambda cache: njit(signature, nogil=True, cache=cache, error_model="numpy", **options)(of_this_version(function))
    )
    entry: Callable[..., Any] = compiled.overloads[signature.args].entry_point
    return entry


_here = threading.local()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Within it, what this Python thread calls runs on it alone: for engines that have their own threads."""
    before, _here.alone = getattr(_here, "alone", False), True
    try:
        yield
    finally:
        _here.alone = before


_used_threads = False
_forked = False
_busy = threading.Lock()


def _after_fork() -> None:
    """A child of a process that has run OpenMP threads must not enter them again: it computes serially."""
    global _forked, _busy
    _forked = _used_threads
    _busy = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _threads_take_turns() -> bool:
    """Whether numba's threading layer is the one that aborts when two Python threads enter it at once."""
    from numba.np.ufunc.parallel import threading_layer

    return bool(threading_layer() == "workqueue")


def run(kernel: int, words: tuple[Any, ...], count: int, chunk: int, scale: float, parallel: bool) -> float:
    """Run a kernel over ``count`` elements or rows, in chunks of ``chunk``; the sum of what the chunks return."""
    global _used_threads
    if not parallel or _forked or getattr(_here, "alone", False):
        return entry_point(False)(kernel, words, count, chunk, scale)
    compiled = entry_point(True)
    if not _used_threads:
        with _busy:  # the first call starts numba's threads
            _used_threads = True
            return compiled(kernel, words, count, chunk, scale)
    if not _threads_take_turns():
        return compiled(kernel, words, count, chunk, scale)
    if not _busy.acquire(blocking=False):
        return entry_point(False)(kernel, words, count, chunk, scale)
    try:
        return compiled(kernel, words, count, chunk, scale)
    finally:
        _busy.release()
