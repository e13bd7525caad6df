"""Kernels as machine code: a variant and a plan become a cubin, which is cached on disk; in the simulator kernels stay Python."""

from dataclasses import dataclass
from typing import Any

from numba import cuda, types

from ..rowwise import row_loop
from ..variant import Stage, Variant
from .plan import Plan
from .pointwise import pointwise_kernel
from .rowwise import rowwise_kernel
from .split_rows import split_kernel
from .sums import adding_kernel, count_kernel, empty_rows_kernel, total_kernel
from .toolchain import device_kind, jitable

__all__ = ["Source", "adding", "counting", "empty_rows", "loss", "ptx", "total"]

_POINTER, _INTEGER, _DOUBLE = types.voidptr, types.int64, types.float64


@dataclass(frozen=True, eq=False)
class Source:
    """A kernel as a Python function, and the types of its arguments: tuples are flattened into separate arguments."""

    function: Any
    arguments: tuple[Any, ...]
    threads: int
    cluster: int = 1
    resident: int = 1


def _tuple(kind: Any, count: int) -> Any:
    return types.UniTuple(kind, count) if count else types.Tuple(())


def loss(variant: Variant, plan: Plan) -> Source:
    working = types.float32 if variant.working == "float32" else types.float64
    build = pointwise_kernel if variant.definition.form == "pointwise" else rowwise_kernel
    arguments = (
        _tuple(_POINTER, len(variant.inputs)),
        _tuple(_POINTER, variant.outputs),
        _tuple(_POINTER, int(variant.items)),
        _tuple(working, variant.statics.count("n")),
        *(
            _POINTER,
            _INTEGER,
            _POINTER,
            _INTEGER,
            _POINTER,
            _INTEGER,
            _INTEGER,
            _INTEGER,
            _DOUBLE,
            _DOUBLE,
            _POINTER,
            _INTEGER,
            _POINTER,
        ),
    )
    return Source(build(variant, plan), arguments, plan.threads, plan.cluster, plan.resident)


def split(variant: Variant, plan: Plan, stage: Stage) -> Source:
    """One of the three launches over pieces of rows."""
    working = types.float32 if variant.working == "float32" else types.float64
    loop = row_loop(variant, jitable)
    arguments = (
        _tuple(_POINTER, len(variant.inputs)),
        _tuple(_POINTER, variant.outputs),
        _tuple(_POINTER, int(variant.items)),
        _tuple(working, variant.statics.count("n")),
        *(_POINTER, _INTEGER, _POINTER, _INTEGER, _POINTER, _INTEGER, _INTEGER, _INTEGER, _DOUBLE, _DOUBLE, _POINTER, _INTEGER),
        _tuple(_POINTER, loop.rows.peaks),
        _tuple(_POINTER, len(loop.zeros)),
        _POINTER,
    )
    return Source(split_kernel(variant, plan, stage), arguments, plan.threads, 1, plan.resident)


def pieces_found(variant: Variant) -> tuple[int, int]:
    """How many numbers each piece of a row produces: peaks and sums."""
    loop = row_loop(variant, jitable)
    return loop.rows.peaks, len(loop.zeros)


def total(threads: int, output: str, divided: bool) -> Source:
    return Source(total_kernel(threads, output, divided), (_POINTER, _INTEGER, _DOUBLE, _POINTER, _INTEGER, _POINTER), threads)


def adding(dtypes: tuple[str, ...], output: str) -> Source:
    return Source(adding_kernel(dtypes, output), (_tuple(_POINTER, len(dtypes)), _POINTER), 1)


def empty_rows(threads: int, labels: str, items: bool, output: str) -> Source:
    arguments = (_POINTER, _INTEGER, _INTEGER, _tuple(_POINTER, int(items)), _POINTER)
    return Source(empty_rows_kernel(threads, labels, items, output), arguments, threads)


def counting(threads: int, working: str, labels: str, weights: str, classes: bool) -> Source:
    arguments = (_POINTER, _INTEGER, _POINTER, _INTEGER, _POINTER, _INTEGER, _INTEGER, _POINTER)
    return Source(count_kernel(threads, working, labels, weights, classes), arguments, threads)


def ptx(source: Source, capability: tuple[int, int]) -> str:
    """The PTX of a kernel; no device of that capability is needed, except by numba's own small device functions."""
    token = device_kind.set(capability)
    try:
        text, _ = cuda.compile_ptx(
            source.function, source.arguments, cc=capability, launch_bounds=(source.threads, source.resident)
        )
    finally:
        device_kind.reset(token)
    if source.cluster == 1:
        return str(text)
    together = f".explicitcluster\n.reqnctapercluster {source.cluster}, 1, 1\n"
    return str(text).replace(".maxntid", together + ".maxntid", 1)
