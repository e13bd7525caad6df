"""Kernels and drivers as machine code that is called by address or from Python, and the one C signature that all kernels have.

A kernel is ``double kernel(intp *table, intp start, intp stop, double scale)``: it handles a range of elements or rows and returns
the sum of their values. Drivers are compiled once for every loss, dtype and rank, because they only get the kernel's address and
a table of words. From Python the table is a tuple of arrays, integers and ``None``.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from .cache import MachineCode, cached, of_this_version, own_files
from .flags import FLAGS
from .pipeline import KernelCompiler

__all__ = ["call", "entry_point", "range_kernel"]

KERNEL = types.float64(types.intp, types.intp, types.intp, types.float64)
_WORD = ir.IntType(64)


def range_kernel(function: Any) -> Any:
    """Compile a function with the signature :data:`KERNEL`, or load it from the disk cache."""
    return cached(lambda cache: _kernel(own_files(function) if cache else function, cache))


def _kernel(function: Any, cache: bool) -> Any:
    options = {"fastmath": FLAGS, "error_model": "numpy", "_nrt": False}
    kernel: Any = CFunc(function, (KERNEL.args, KERNEL.return_type), {}, options, KernelCompiler)
    if cache:
        kernel._cache = MachineCode(function)
    kernel.compile()
    return kernel


@intrinsic
def call(typing: Any, kernel: Any, table: Any, start: Any, stop: Any, scale: Any) -> Any:
    """Call the kernel at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [_WORD, _WORD, _WORD, ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.float64(types.intp, types.intp, types.intp, types.intp, types.float64), codegen


def entry_point(function: Any, signature: Any) -> Callable[..., Any]:
    """Compile a driver, or load it from the disk cache; its entry point unboxes by the declared types alone."""
    entry: Callable[..., Any] = cached(lambda cache: _driver(of_this_version(function), signature, cache))
    return entry


def _driver(function: Any, signature: Any, cache: bool) -> Any:
    driver = njit(nogil=True, error_model="numpy", pipeline_class=KernelCompiler)(function)
    if cache:
        driver._cache = MachineCode(function)
    return driver.compile(signature)
