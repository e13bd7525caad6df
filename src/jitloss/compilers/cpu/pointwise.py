"""The loop over elements: a pointwise definition becomes a kernel."""

from typing import Any

import numpy as np

from ..canonical import point
from ..elements import ITEMSIZE, load, stack, store
from ..tuples import cast, parameters, select, weighted
from ..variant import Variant
from . import table as at
from .driver import range_kernel
from .flags import jitable
from .memory import advance, copy_out, fence, fill_weights, pointer, pointers, prefetch, wide_vectors, word

__all__ = ["TILE", "pointwise_kernel"]

TILE = 192
"""Elements between two writes: gradients are computed into a tile on the stack, then copied out.

So inputs and outputs may be the same memory, a definition vectorises without overlap tests, outputs can pass the caches, and sums
are taken in the working precision over a tile only, in float64 from tile to tile.
"""

AHEAD = 4 * TILE
"""Elements between what is computed and what is asked of memory, so that the one does not wait for the other."""

SHRINK = 2.0**-10
"""A tile's sum is taken of values times this, exactly, so that it overflows only where its mean does."""


def pointwise_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over elements. Gradients are multiplied by the call's scale; the returned sum is not."""
    definition, working = variant.definition, np.dtype(variant.working).type
    call = point(definition, working, jitable)
    function, wanted = call.function, call.wanted
    dtypes, output, kinds, weight_dtype = variant.inputs, variant.output, variant.statics, (variant.working,)
    with_gradient, with_hessian, with_items, with_weights = variant.gradient, variant.hessian, variant.items, variant.weights
    itemsize, weight_size = ITEMSIZE[output], ITEMSIZE[variant.working]
    tile_bytes, weight_bytes = TILE * itemsize, TILE * weight_size
    inputs_at = tuple(range(at.first_input(definition), at.first_gradient(definition)))
    gradient_at, hessian_at = at.first_gradient(definition), at.first_hessian(definition)
    shrink, zero = working(SHRINK), working(0.0)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        given, inputs = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        factor, total, streamed = working(scale), 0.0, word(table, at.STREAM) != 0
        items, slopes, bends, weights = stack(tile_bytes), stack(tile_bytes), stack(tile_bytes), stack(weight_bytes)
        for begin in range(start, stop, TILE):
            count, partial = min(TILE, stop - begin), zero
            prefetch(inputs, begin + AHEAD, dtypes, TILE)
            if with_weights:
                fill_weights(weights, pointer(table, at.WEIGHTS), word(table, at.WEIGHT_SPAN), begin, count, weight_size)
            for index in range(count):
                numbers = load(inputs, begin + index, dtypes, working) + given
                result = cast(function(*select(numbers, wanted)), working)
                if with_weights:
                    result = weighted(result, load((weights,), index, weight_dtype, working)[0])
                partial += shrink * result[0]
                if with_items:
                    store(items, index, result[0], output)
                if with_gradient:
                    store(slopes, index, factor * result[1], output)
                if with_hessian:
                    store(bends, index, factor * result[2], output)
            total += np.float64(partial)
            place, size = begin * itemsize, count * itemsize
            if with_items:
                copy_out(advance(pointer(table, at.ITEMS), place), items, size, streamed)
            if with_gradient:
                copy_out(advance(pointer(table, gradient_at), place), slopes, size, streamed)
            if with_hessian:
                copy_out(advance(pointer(table, hessian_at), place), bends, size, streamed)
        if streamed:
            fence()
        return total / SHRINK

    return kernel
