"""The small kernels around a loss: the divisor of "mean", counted on the device, and the sum of the blocks' partial sums.

Every thread adds numbers in a grid-stride loop, then the threads' sums are added in a fixed order.
"""

import operator
from typing import Any

import numpy as np
from numba import cuda, types

from ..elements import load, spread
from ..intrinsics import intrinsic
from ..tuples import add, scaled
from ..variant import Variant
from .exchange import WARP, barrier, reducer, shared_pieces
from .memory import integer
from .plan import Plan
from .toolchain import jitable, teach_intrinsic

__all__ = [
    "adding_kernel",
    "compensated_add",
    "compensated_sum",
    "count_kernel",
    "divider",
    "empty_rows_kernel",
    "ending",
    "sharer",
    "total_kernel",
]


_DOUBLE = ("float64",)


@jitable
def quotient(scale, whole):  # type: ignore[no-untyped-def]
    """A number divided by what counts, and 0 where nothing does."""
    return scale / whole if whole != 0.0 else 0.0


def warp_divider() -> Any:
    """A function by which a warp divides a number by the total of the counting blocks; all its threads get the result."""
    lanes, sum_of = WARP, reducer(add, WARP, "float64", 1)

    @jitable
    def divided(scale, divisors, parts, lane):  # type: ignore[no-untyped-def]
        whole, index = 0.0, np.int64(lane)
        while index < parts:
            whole += load((divisors,), index, _DOUBLE, np.float64)[0]
            index += lanes
        return quotient(scale, sum_of((whole,), lane, ())[0])

    return divided


def sharer(passes_barrier: bool = False) -> tuple[Any, Any]:
    """The same for a block: a function by which its first warp divides, and one by which all threads read the result.

    The result is in a shared array of one float64, in which nothing else is ever written. A barrier must lie between writing and
    reading: reading begins with one, unless ``passes_barrier`` says that all threads of the block pass one between the two anyway.
    """
    lanes, divide, double = WARP, warp_divider(), _DOUBLE

    @jitable
    def publish(scale, divisors, parts, thread, result):  # type: ignore[no-untyped-def]
        if thread < lanes:
            divided = divide(scale, divisors, parts, thread)
            if thread == 0:
                spread(shared_pieces(result, 1), 0, (divided,), "float64")

    @jitable
    def published(result):  # type: ignore[no-untyped-def]
        if not passes_barrier:
            barrier()
        return load(shared_pieces(result, 1), 0, double, np.float64)[0]

    return publish, published


def total_kernel(threads: int, output: str, divided: bool) -> Any:
    """Add the blocks' sums and write the value of the loss; or, with several blocks of this kernel, one sum each for a further launch."""
    total_of, double, warps = reducer(add, threads, "float64", 1), ("float64",), threads // WARP
    divide, lanes = warp_divider(), WARP

    def kernel(partials, count, scale, divisors, parts, value):  # type: ignore[no-untyped-def]
        memory = cuda.shared.array(warps, types.float64)
        factor = scale
        if divided and cuda.threadIdx.x < lanes:
            factor = divide(scale, divisors, parts, cuda.threadIdx.x)
        total, index = 0.0, np.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x
        step = np.int64(cuda.gridDim.x) * threads
        while index + 3 * step < count:  # four at a time, so that their latencies overlap
            one, two = load((partials,), index, double, np.float64)[0], load((partials,), index + step, double, np.float64)[0]
            index += 2 * step
            three, four = load((partials,), index, double, np.float64)[0], load((partials,), index + step, double, np.float64)[0]
            index += 2 * step
            total += (one + two) + (three + four)
        while index < count:
            total += load((partials,), index, double, np.float64)[0]
            index += step
        whole = total_of((total,), cuda.threadIdx.x, shared_pieces(memory, 1))
        if cuda.threadIdx.x == 0:
            spread((value,), cuda.blockIdx.x, (whole[0] * factor,), output)

    return kernel


def adding_kernel(dtypes: tuple[str, ...], output: str) -> Any:
    """Add numbers from separate arrays: the values of several losses. A single thread does it."""

    def kernel(values, total):  # type: ignore[no-untyped-def]
        whole = 0.0
        for one in load(values, 0, dtypes, np.float64):
            whole += one
        spread((total,), 0, (whole,), output)

    return kernel


def empty_rows_kernel(threads: int, labels: str, items: bool, output: str) -> Any:
    """The values of rows without columns, and their sum for each block: 0, or NaN where a label is not ignored, as it is no class.

    ``labels`` is a dtype, empty where there are none; ``items`` says that the value of each row is written.
    """
    total_of, warps = reducer(add, threads, "float64", 1), threads // WARP
    label_dtype, with_labels, with_items = labels, labels != "", items
    working = np.float64 if output == "float64" else np.float32
    zero, nan = working(0.0), working(np.nan)

    def kernel(labels, ignored, count, items, partials):  # type: ignore[no-untyped-def]
        memory = cuda.shared.array(warps, types.float64)
        total, row = 0.0, np.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x
        while row < count:
            each = zero
            if with_labels and integer(labels, row, label_dtype) != ignored:
                each = nan
            if with_items:
                spread(items, row, (each,), output)
            total += np.float64(each)
            row += np.int64(cuda.gridDim.x) * threads
        whole = total_of((total,), cuda.threadIdx.x, shared_pieces(memory, 1))
        if cuda.threadIdx.x == 0:
            spread((partials,), cuda.blockIdx.x, whole, "float64")

    return kernel


def counter(working: str, labels: str, weights: str, classes: bool) -> Any:
    """A function that counts rows, from the first on in steps: their total count, and how many of their labels are not classes.

    Each row counts 1, or its sample weight times the class weight of its label where those are given; an ignored row counts 0.
    ``labels`` and ``weights`` are dtypes, empty where there are none.
    """
    label_dtype, weight_dtype, class_dtype = labels, (weights,), (working,)
    with_labels, with_weights, with_classes = labels != "", weights != "", classes

    @jitable
    def count_rows(labels, ignored, weights, span, classes, columns, count, row, step):  # type: ignore[no-untyped-def]
        total, bad = 0.0, 0.0
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
        return total, bad

    return count_rows


def divider(variant: Variant, plan: Plan, passes_barrier: bool = False) -> tuple[Any, Any]:
    """Two functions that divide the scale of a loss by the count: of earlier blocks, or counted here if this is the only block.

    They are those of :func:`sharer`; the second is given the result of the first.
    """
    here, threads, (publish, published) = plan.here, plan.threads, sharer(passes_barrier)
    count_rows = counter(
        variant.working,
        plan.labels if variant.targets == "labels" else "",
        plan.weights if plan.weighted and variant.weights else "",
        plan.weighted and variant.class_weights,
    )
    total_of = reducer(add, threads, "float64", 1)

    @jitable
    def begun(  # type: ignore[no-untyped-def]
        scale, divisors, parts, labels, ignored, weights, span, classes, columns, count, thread, memory, result,
    ):  # fmt: skip
        if here:
            found = count_rows(labels, ignored, weights, span, classes, columns, count, np.int64(thread), threads)[0]
            return quotient(scale, total_of((found,), thread, shared_pieces(memory, 1))[0])
        publish(scale, divisors, parts, thread, result)
        return scale

    @jitable
    def divided(found, result):  # type: ignore[no-untyped-def]
        return found if here else published(result)

    return begun, divided


def ending(plan: Plan, name: str, several: bool) -> Any:
    """A function that writes a block's sum of values: as its partial sum or, for the only block, times ``scale`` as the value.

    ``several`` says that each thread has a sum, and these are added over the block; else only the first thread has it.
    """
    total_of, valued = reducer(add, plan.threads, "float64", 1), plan.total == "value"

    @jitable
    def ended(total, scale, partials, block, thread, memory):  # type: ignore[no-untyped-def]
        whole = (total,)
        if several:
            whole = total_of(whole, thread, shared_pieces(memory, 1))
        if thread == 0:
            if valued:
                spread((partials,), 0, scaled(whole, scale), name)
            else:
                spread((partials,), block, whole, "float64")

    return ended


def count_kernel(threads: int, working: str, labels: str, weights: str, classes: bool) -> Any:
    """The divisor of a mean, in parts from each block, followed by how many labels are neither classes nor ignored."""
    total_of, slots = reducer(add, threads, "float64", 2), 2 * (threads // WARP)
    count_rows = counter(working, labels, weights, classes)

    def kernel(labels, ignored, weights, span, classes, columns, count, counted):  # type: ignore[no-untyped-def]
        memory = cuda.shared.array(slots, types.float64)
        row, step = np.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x, np.int64(cuda.gridDim.x) * threads
        sums = count_rows(labels, ignored, weights, span, classes, columns, count, row, step)
        sums = total_of(sums, cuda.threadIdx.x, shared_pieces(memory, 2))
        if cuda.threadIdx.x == 0:
            spread((counted,), cuda.blockIdx.x, (sums[0],), "float64")
            spread((counted,), cuda.gridDim.x + cuda.blockIdx.x, (sums[1],), "float64")

    return kernel


def _compensated_add(total: Any, lost: Any, more: Any, plus: Any, minus: Any) -> tuple[Any, Any]:
    joined = plus(total, more)
    rest = minus(joined, total)
    return joined, plus(lost, plus(minus(total, minus(joined, rest)), minus(more, rest)))


def _plain_compensated_add(state: Any, more: Any) -> tuple[Any, ...]:
    halves = zip(state[: len(more)], state[len(more) :], more, strict=True)
    pairs = [_compensated_add(*one, operator.add, operator.sub) for one in halves]
    return (*(total for total, _ in pairs), *(lost for _, lost in pairs))


@intrinsic(plain=_plain_compensated_add)
def compensated_add(typing: Any, state: Any, more: Any) -> Any:
    """Compensated sums: sums followed by the accumulated rounding errors of each, with ``more`` added to each sum.

    Kernels for CUDA are compiled without fast-math flags, which would remove the compensation.
    """
    count = len(more)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts, added = ([builder.extract_value(one, index) for index in range(one.type.count)] for one in args)
        halves = zip(parts[:count], parts[count:], added, strict=True)
        pairs = [_compensated_add(*one, builder.fadd, builder.fsub) for one in halves]
        return context.make_tuple(builder, state, [*(total for total, _ in pairs), *(lost for _, lost in pairs)])

    return state(state, more), codegen


def _plain_compensated_sum(state: Any) -> tuple[Any, ...]:
    count = len(state) // 2
    return tuple(
        total + (lost if lost == lost else lost.dtype.type(0.0)) for total, lost in zip(state[:count], state[count:], strict=True)
    )


@intrinsic(plain=_plain_compensated_sum)
def compensated_sum(typing: Any, state: Any) -> Any:
    """The totals of :func:`compensated_add`. An infinite sum has no rounding error to add."""
    count = len(state) // 2
    result = types.UniTuple(state.dtype, count)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums = []
        for index in range(count):
            total, lost = builder.extract_value(args[0], index), builder.extract_value(args[0], index + count)
            known = builder.fcmp_ordered("ord", lost, lost)
            sums.append(builder.fadd(total, builder.select(known, lost, lost.type(0.0))))
        return context.make_tuple(builder, result, sums)

    return result(state), codegen


for _one in (compensated_add, compensated_sum):
    teach_intrinsic(_one)
