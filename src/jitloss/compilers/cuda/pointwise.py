"""The kernel over elements: a pointwise definition for CUDA."""

from typing import Any

import numpy as np
from numba import cuda, types

from ..canonical import point
from ..elements import load, spread
from ..tuples import cast, scaled, select, weighted
from ..variant import Variant
from .exchange import WARP
from .memory import expand, fetch, flush, local, opaque, repeated
from .plan import Plan
from .sums import compensated_add, divider, ending
from .toolchain import jitable, jitable_for

__all__ = ["pointwise_kernel"]

SHRINK = 2.0**-10
"""A thread's sum is taken of values times this power of two, which is exact, so that it overflows only where the mean does."""


def _one_element(variant: Variant, plan: Plan, dtypes: tuple[str, ...]) -> Any:
    """A function of one element, which is in arrays of these dtypes: its value and its slopes, times its weights.

    Its own sample weight is the last of these arrays, if there is one; else it is the one at ``which``, shared by several elements.
    """
    working, names = np.dtype(variant.working).type, [one.name for one in variant.definition.inputs]
    call = point(variant.definition, working, jitable_for(variant))
    function, wanted, results = call.function, call.wanted, tuple(range(1 + variant.outputs))
    weight_dtype, class_dtype = (plan.weights,), (variant.working,)
    own_weight, shared_weight, with_classes = plan.each, variant.weights and not plan.each, variant.class_weights
    read, last = tuple(range(len(names))), len(dtypes) - 1
    target = names.index(variant.definition.target.name) if variant.definition.target is not None else 0
    graded, zero, unit = variant.definition.inputs[target].space.graded, working(0.0), working(1.0)

    @jitable
    def one(arrays, index, given, weights, which, classes):  # type: ignore[no-untyped-def]
        elements = load(arrays, index, dtypes, working)
        result = select(cast(function(*select(select(elements, read) + given, wanted)), working), results)
        if own_weight:
            result = weighted(result, elements[last])
        if shared_weight:
            result = weighted(result, load((weights,), which, weight_dtype, working)[0])
        if with_classes:
            negative, positive = load((classes,), 0, class_dtype, working)[0], load((classes,), 1, class_dtype, working)[0]
            mark, share = elements[target], negative
            if graded and mark != zero:
                share = (unit - mark) * negative + mark * positive
            result = weighted(result, positive if mark == unit else share)
        return result

    return one


def pointwise_kernel(variant: Variant, plan: Plan) -> Any:
    """A kernel in which each thread takes vectors of consecutive elements in a grid-stride loop.

    Sums are compensated in the working precision, and taken in float64 over the block.
    """
    working = np.dtype(variant.working).type
    name, dtypes = variant.working, variant.inputs + (plan.weights,) * plan.each
    own_one, one = _one_element(variant, plan, (name,) * len(dtypes)), _one_element(variant, plan, dtypes)
    output, kinds, outputs, divided = variant.output, variant.statics, variant.outputs, plan.divided
    own_weights, shared_weights = (0,) * plan.each, variant.weights and not plan.each
    of_items, of_outputs = (0,) * variant.items, tuple(range(1, 1 + outputs))
    with_items, with_outputs, item_count = variant.items, outputs > 0, int(variant.items)
    read, width, threads = len(dtypes), plan.width, plan.threads
    shrink, zero = working(SHRINK), working(0.0)
    begin_division, end_division = divider(variant, plan)
    warps, end, totalled = threads // WARP, ending(plan, name, True), plan.total != "nothing"

    @jitable
    def beyond(which, left, span):  # type: ignore[no-untyped-def]
        """The weight of the next element, and how many have it from there on."""
        return (which + 1, span) if left == 1 else (which, left - 1)

    @jitable
    def add_own(state, place, index, rest):  # type: ignore[no-untyped-def]
        partial, which, left = state
        taken, made, values, given, weights, span, classes, factor, own = rest
        result = own_one(taken, place, given, weights, which, classes)
        if with_items:
            spread(values, place, scaled(select(result, of_items), own), name)
        if with_outputs:
            spread(made, place, scaled(select(result, of_outputs), factor), name)
        if shared_weights:
            which, left = beyond(which, left, span)
        return partial + shrink * result[0], which, left

    def kernel(  # type: ignore[no-untyped-def]
        inputs, outs, items, numbers, weights, span, labels, ignored, classes, columns, inner, count, scale, times, divisors,
        parts, partials,
    ):  # fmt: skip
        memory = cuda.shared.array(warps, types.float64)
        quotient = cuda.shared.array(1, types.float64)  # on a line of its own: the simulator knows shared arrays by their lines
        given = expand(numbers, kinds, working)
        taken, made, values = local(read, width), local(outputs, width), local(item_count, width)
        whole_scale = scale
        if divided:
            thread = cuda.threadIdx.x
            begun = begin_division(
                scale, divisors, parts, labels, ignored, weights, span, classes, columns, count, thread, memory, quotient
            )
            whole_scale = end_division(begun, quotient)
        factor, own = opaque(working(whole_scale)), opaque(working(times))
        sources, high, low = inputs + select((weights,), own_weights), zero, zero
        first = (np.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x) * width
        step = np.int64(cuda.gridDim.x) * threads * width
        while first < count:
            partial, which, left = zero, np.int64(0), np.int64(0)
            if shared_weights:  # one division for all of them, since it is expensive
                which = first // span
                left = (which + 1) * span - first
            if first + width <= count:
                fetch(taken, 0, sources, first, dtypes, width, working)
                rest = taken, made, values, given, weights, span, classes, factor, own
                partial = repeated(add_own, width, (partial, which, left), np.int64(0), first, rest, 1, 1)[0]
                flush(items, first, values, 0, output, width, working)
                flush(outs, first, made, 0, output, width, working)
            else:
                for index in range(first, count):
                    result = one(sources, index, given, weights, which, classes)
                    partial += shrink * result[0]
                    if shared_weights:
                        which, left = beyond(which, left, span)
                    if with_items:
                        spread(items, index, scaled(select(result, of_items), own), output)
                    if with_outputs:
                        spread(outs, index, scaled(select(result, of_outputs), factor), output)
            high, low = compensated_add((high, low), (partial,))
            first += step
        exact = np.float64(high) if low != low else np.float64(high) + np.float64(low)  # an infinite sum has no remainder
        if totalled:
            end(exact / SHRINK, whole_scale, partials, cuda.blockIdx.x, cuda.threadIdx.x, memory)

    return kernel
