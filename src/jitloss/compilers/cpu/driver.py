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
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from . import table as at
from .cache import cached, own_files
from .flags import FLAGS
from .memory import word
from .pipeline import KernelCompiler

__all__ = ["KERNEL", "MOST_WORDS", "entry_point", "range_kernel", "run", "single_threaded"]

KERNEL = types.float64(types.intp, types.intp, types.intp, types.float64)
MOST_WORDS = 64
_FLAGS = MOST_WORDS + at.FIRST

_FLAGS_OFFSET = 48
"""Bytes from an array object's pointer to its data to its flags, by NumPy's C interface: number of axes, shape, strides, base and dtype
lie between."""
_READABLE, _WRITABLE = 0x101, 0x501
"""NumPy's flags of an array that is contiguous in C order and aligned, and of one that may be written to as well."""

_WORD, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()


def range_kernel(function: Any) -> Any:
    """Compile a function of the signature :data:`KERNEL`, or find it in the disk cache."""
    options = {"fastmath": FLAGS, "error_model": "numpy", "_nrt": False, "pipeline_class": KernelCompiler}
    return cached(lambda cache: cfunc(KERNEL, cache=cache, **options)(own_files(function) if cache else function))


class Table(types.Type):  # type: ignore[misc]
    """A Python tuple of arrays, integers and None, unboxed to the address of as many words."""

    def __init__(self) -> None:
        super().__init__("jitloss.Table")


@register_model(Table)
class _TableModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WORD)


@unbox(Table)
def _unbox_table(kind: Any, value: Any, c: Any) -> NativeValue:
    """An array gives the pointer to its data, read from the array object itself: no type is looked up, nothing is allocated.

    Its flags lie :data:`MOST_WORDS` words later. The words are on the stack of the call, and the caller's tuple keeps the arrays
    alive until it returns.
    """
    builder, api = c.builder, c.pyapi
    words = cgutils.alloca_once(builder, _WORD, size=2 * MOST_WORDS)
    integer = builder.bitcast(api.get_c_object("PyLong_Type"), _BYTES)
    none = builder.bitcast(api.borrow_none(), _BYTES)
    getitem = ir.FunctionType(api.pyobj, [api.pyobj, api.py_ssize_t])
    borrow = cgutils.get_or_insert_function(builder.module, getitem, "PyTuple_GetItem")
    with cgutils.for_range(builder, api.tuple_size(value)) as loop:
        boxed = builder.call(borrow, [value, loop.index])
        item, place = builder.bitcast(boxed, _BYTES), builder.gep(words, [loop.index])
        with builder.if_else(builder.icmp_unsigned("==", item, none)) as (is_none, is_some):
            with is_none:
                builder.store(_WORD(0), place)
            with is_some:
                type_field = builder.gep(item, [_WORD(object.__basicsize__ - 8)])
                exact = builder.load(builder.bitcast(type_field, _BYTES.as_pointer()))
                with builder.if_else(builder.icmp_unsigned("==", exact, integer)) as (is_integer, is_array):
                    with is_integer:
                        builder.store(api.long_as_longlong(boxed), place)
                    with is_array:
                        data_field = builder.gep(item, [_WORD(object.__basicsize__)])
                        builder.store(builder.load(builder.bitcast(data_field, _WORD.as_pointer())), place)
                        flags_field = builder.gep(item, [_WORD(object.__basicsize__ + _FLAGS_OFFSET)])
                        flags = builder.load(builder.bitcast(flags_field, ir.IntType(32).as_pointer()))
                        builder.store(builder.zext(flags, _WORD), builder.gep(place, [_WORD(MOST_WORDS)]))
    return NativeValue(builder.ptrtoint(words, _WORD))


@intrinsic
def _address(typing: Any, table: Any) -> Any:
    return types.intp(table), lambda context, builder, signature, args: args[0]


@intrinsic
def _call(typing: Any, kernel: Any, table: Any, start: Any, stop: Any, scale: Any) -> Any:
    """Call a kernel at its address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [_WORD, _WORD, _WORD, ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.float64(types.intp, types.intp, types.intp, types.intp, types.float64), codegen


_WORK = (types.intp, Table(), types.intp, types.intp, types.float64)
_CHECKS = (types.float64, types.intp, types.boolean, types.intp, types.intp, types.boolean)
_NO_CHECKS = (1.0, 0, False, 0, 0, False)


def _serial(
    kernel: Any, words: Any, count: Any, chunk: Any, scale: Any,
    divisor: Any, counter: Any, every: Any, gradient_bytes: Any, second_bytes: Any, in_place: Any,
) -> Any:  # fmt: skip
    """The sum over ``divisor``, which is the number of rows that the ``counter`` counts where it is 0.

    None, and nothing done, where a label is no class, where ``every`` row should count and does not, and, of a loss of two inputs
    whose arrays are looked at, where they do not lie as a kernel reads them, or where the gradient shares memory with another one
    than that which it overwrites ``in_place``.
    """
    table, counted, total = _address(words), float(count), 0.0
    if second_bytes and word(table, _FLAGS) & word(table, _FLAGS + 1) & _READABLE != _READABLE:
        return None
    if gradient_bytes:
        if word(table, _FLAGS + 2) & _WRITABLE != _WRITABLE:
            return None
        first, second, gradient = word(table, at.FIRST), word(table, at.FIRST + 1), word(table, at.FIRST + 2)
        if not in_place and abs(gradient - first) < gradient_bytes:
            return None
        if gradient < second + second_bytes and second < gradient + gradient_bytes:
            return None
    if counter:
        counted = _call(counter, table, 0, count, 1.0)
        if not counted > 0.0 or (every and counted != count):
            return None
    divisor = divisor or counted
    for start in range(0, count, chunk):
        total += _call(kernel, table, start, min(count, start + chunk), scale / divisor)
    return total / divisor


def _parallel(kernel: Any, words: Any, count: Any, chunk: Any, scale: Any) -> Any:
    table, chunks = _address(words), (count + chunk - 1) // chunk
    partial = np.empty(chunks, np.float64)
    for index in prange(chunks):
        partial[index] = _call(kernel, table, index * chunk, min(count, (index + 1) * chunk), scale)
    total = 0.0
    for index in range(chunks):
        total += partial[index]
    return total


@functools.cache
def entry_point(parallel: bool) -> Callable[..., Any]:
    """The compiled driver's entry point, which unboxes by the declared types alone; loaded when first needed."""
    function = _parallel if parallel else _serial
    signature = types.float64(*_WORK) if parallel else types.Optional(types.float64)(*_WORK, *_CHECKS)
    compiled = cached(lambda cache: njit(signature, parallel=parallel, nogil=True, cache=cache, error_model="numpy")(function))
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


def _alone(*work: Any) -> float:
    total: float = entry_point(False)(*work, *_NO_CHECKS)
    return total


def run(kernel: int, words: tuple[Any, ...], count: int, chunk: int, scale: float, parallel: bool) -> float:
    """Run a kernel over ``count`` elements or rows, in chunks of ``chunk``; the sum of what the chunks return."""
    global _used_threads
    if not parallel or _forked or getattr(_here, "alone", False):
        return _alone(kernel, words, count, chunk, scale)
    compiled = entry_point(True)
    if not _used_threads:
        with _busy:  # the first call starts numba's threads
            _used_threads = True
            return compiled(kernel, words, count, chunk, scale)
    if not _threads_take_turns():
        return compiled(kernel, words, count, chunk, scale)
    if not _busy.acquire(blocking=False):
        return _alone(kernel, words, count, chunk, scale)
    try:
        return compiled(kernel, words, count, chunk, scale)
    finally:
        _busy.release()
