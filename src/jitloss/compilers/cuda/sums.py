"""The small kernels round a loss: what "mean" divides by, found on the device, and the sum of what the blocks have summed.

Every thread adds numbers that lie a grid apart, then the threads' sums are added in a fixed order.
"""

from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import load, spread
from ..tuples import add
from .memory import WARP, integer, reducer, shared_pieces
from .toolchain import jitable

__all__ = ["adding_kernel", "count_kernel", "share", "total_kernel"]


_DOUBLE = ("float64",)


@jitable
def share(scale, divisors, parts):  # type: ignore[no-untyped-def]
    """A number divided by what the counting blocks have found together, and 0 where nothing counts."""
    whole = 0.0
    for index in range(parts):
        whole += load((divisors,), index, _DOUBLE, np.float64)[0]
    return scale / whole if whole != 0.0 else 0.0


def total_kernel(threads: int, output: str, divided: bool) -> Any:
    """Add the blocks' sums and write the value of the loss."""
    total_of, double, warps = reducer(add, threads, "float64", 1), ("float64",), threads // WARP

    def kernel(partials, count, scale, divisors, parts, value):  # type: ignore[no-untyped-def]
        memory = cuda.shared.array(warps, types.float64)
        total, index = 0.0, np.int64(cuda.threadIdx.x)
        while index < count:
            total += load((partials,), index, double, np.float64)[0]
            index += threads
        whole = total_of((total,), cuda.threadIdx.x, shared_pieces(memory, 1))
        if cuda.threadIdx.x == 0:
            factor = scale
            if divided:
                factor = share(scale, divisors, parts)
            spread((value,), 0, (whole[0] * factor,), output)

    return kernel


def adding_kernel(dtypes: tuple[str, ...], output: str) -> Any:
    """Add numbers, each an array of its own: the values of several losses. One thread does it."""

    def kernel(values, total):  # type: ignore[no-untyped-def]
        whole = 0.0
        for one in load(values, 0, dtypes, np.float64):
            whole += one
        spread((total,), 0, (whole,), output)

    return kernel


def count_kernel(threads: int, working: str, labels: str, weights: str, classes: bool) -> Any:
    """What a mean divides by, a part for each block; behind those, how many labels are neither a class nor ignored.

    Each row counts 1, or its sample weight times the class weight of its label where those are given; an ignored one nothing.
    ``labels`` and ``weights`` are dtypes, empty where there are none.
    """
    total_of, slots = reducer(add, threads, "float64", 2), 2 * (threads // WARP)
    label_dtype, weight_dtype, class_dtype = labels, (weights,), (working,)
    with_labels, with_weights, with_classes = labels != "", weights != "", classes

    def kernel(labels, ignored, weights, span, classes, columns, count, counted):  # type: ignore[no-untyped-def]
        memory = cuda.shared.array(slots, types.float64)
        total, bad, row = 0.0, 0.0, np.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x
        step = np.int64(cuda.gridDim.x) * threads
        while row < count:
            each = 1.0
            if with_weights:
                each *= np.float64(load((weights,), row // span, weight_dtype, np.float64)[0])
            if with_labels:
                label = integer(labels, row, label_dtype)
                if label == ignored:
                    each = 0.0
                elif label < 0 or label >= columns:
                    bad += 1.0
                elif with_classes:
                    each *= np.float64(load((classes,), label, class_dtype, np.float64)[0])
            total += each
            row += step
        sums = total_of((total, bad), cuda.threadIdx.x, shared_pieces(memory, 2))
        if cuda.threadIdx.x == 0:
            spread((counted,), cuda.blockIdx.x, (sums[0],), "float64")
            spread((counted,), cuda.gridDim.x + cuda.blockIdx.x, (sums[1],), "float64")

    return kernel
