"""The kernel over elements: a pointwise definition for CUDA."""

from typing import Any

import numpy as np
from numba import cuda, types

from ..canonical import point
from ..elements import load, spread
from ..tuples import add, cast, scaled, select, weighted
from ..variant import Variant
from .memory import WARP, expand, fetch, flush, local, reducer, shared_pieces
from .plan import Plan
from .sums import share
from .toolchain import jitable

__all__ = ["pointwise_kernel"]

SHRINK = 2.0**-10
"""A thread's sum is taken of values times this, exactly, so that it overflows only where the mean does."""


def pointwise_kernel(variant: Variant, plan: Plan) -> Any:
    """A kernel in which each thread takes vectors of neighbouring elements, a grid apart.

    Sums are taken in the working precision, with what each addition rounds away in a second number, and in float64 over the block.
    """
    definition, working = variant.definition, np.dtype(variant.working).type
    call = point(definition, working, jitable)
    function, wanted = call.function, call.wanted
    dtypes, output, kinds, weight_dtype = variant.inputs, variant.output, variant.statics, (variant.working,)
    outputs = variant.gradient + variant.hessian
    results, slopes = tuple(range(call.results)), tuple(range(1, 1 + outputs))
    with_outputs, with_items, with_weights, divided = outputs > 0, variant.items, variant.weights, plan.divided
    inputs_count, width, threads = len(dtypes), plan.width, plan.threads
    shrink, zero = working(SHRINK), working(0.0)
    total_of = reducer(add, threads, "float64", 1)
    first_value, double, warps = (0,), ("float64",), threads // WARP

    def kernel(  # type: ignore[no-untyped-def]
        inputs, outs, items, numbers, weights, span, labels, ignored, classes, columns, inner, count, scale, divisor, partials
    ):
        memory = cuda.shared.array(warps, types.float64)
        given = expand(numbers, kinds, working)
        taken, made, values = local(inputs_count, width), local(outputs, width), local(1, width)
        factor = working(scale)
        if divided:
            factor = working(share(scale, load((divisor,), 0, double, np.float64)[0]))
        high, low = zero, zero
        first = (np.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x) * width
        step = np.int64(cuda.gridDim.x) * threads * width
        while first < count:
            whole, partial = first + width <= count, zero
            if whole:
                fetch(taken, 0, inputs, first, dtypes, width)
            for index in range(width):
                if first + index < count:
                    if whole:
                        elements = load(taken, index, dtypes, working)
                    else:
                        elements = load(inputs, first + index, dtypes, working)
                    result = select(cast(function(*select(elements + given, wanted)), working), results)
                    if with_weights:
                        result = weighted(result, load((weights,), (first + index) // span, weight_dtype, working)[0])
                    partial += shrink * result[0]
                    if with_items:
                        spread(values, index, select(result, first_value), output)
                    if with_outputs:
                        spread(made, index, scaled(select(result, slopes), factor), output)
                    if not whole:
                        if with_items:
                            spread((items,), first + index, select(result, first_value), output)
                        if with_outputs:
                            spread(outs, first + index, scaled(select(result, slopes), factor), output)
            if whole:
                if with_items:
                    flush((items,), first, values, output, width)
                if with_outputs:
                    flush(outs, first, made, output, width)
            joined = high + partial
            rest = joined - high
            low += (high - (joined - rest)) + (partial - rest)
            high = joined
            first += step
        lane = cuda.threadIdx.x
        exact = np.float64(high) if low != low else np.float64(high) + np.float64(low)  # of an infinite sum nothing is left over
        total = total_of((exact / SHRINK,), lane, shared_pieces(memory, 1))
        if lane == 0:
            spread((partials,), cuda.blockIdx.x, total, "float64")

    return kernel
