"""Atomic operations of compiled code on memory that threads share, and what a thread does while it waits."""

import platform
import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..intrinsics import intrinsic

__all__ = ["atomic_add", "atomic_load", "atomic_store", "load_number", "pause", "store_number", "yield_thread"]

_WORD, _NUMBER = ir.IntType(64), ir.DoubleType()
_IN_ORDER = "seq_cst"
_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", []), "aarch64": ("llvm.aarch64.hint", [1])}
_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


def _at(builder: Any, place: Any, kind: Any = _WORD) -> Any:
    memory, index = place
    return builder.gep(builder.inttoptr(memory, kind.as_pointer()), [index])


@intrinsic
def atomic_load(typing: Any, memory: Any, index: Any) -> Any:
    """Load a word. Loads, stores and additions are sequentially consistent, and publish what was written before them."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_at(builder, args), _IN_ORDER, 8)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def atomic_store(typing: Any, memory: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _at(builder, args[:2]), _IN_ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def atomic_add(typing: Any, memory: Any, index: Any, value: Any) -> Any:
    """Add to a word, and return what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _at(builder, args[:2]), args[2], _IN_ORDER)

    return types.intp(types.intp, types.intp, types.intp), codegen


@intrinsic
def load_number(typing: Any, memory: Any, index: Any) -> Any:
    """A float64, which no thread writes at the same time."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_at(builder, args, _NUMBER))

    return types.float64(types.intp, types.intp), codegen


@intrinsic
def store_number(typing: Any, memory: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _at(builder, args[:2], _NUMBER))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float64), codegen


@intrinsic
def pause(typing: Any) -> Any:
    """Tell the processor that this thread is spinning."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        machine = platform.machine().lower()
        if known := _PAUSES.get(_NAMES.get(machine, machine)):
            name, values = known
            numbers = [ir.IntType(32)(value) for value in values]
            kind = ir.FunctionType(ir.VoidType(), [one.type for one in numbers])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), numbers)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_thread(typing: Any) -> Any:
    """Yield the processor to another thread that waits for it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), name), [])
        return context.get_dummy_value()

    return types.void(), codegen
