"""The loop over elements: a pointwise definition becomes a kernel."""

from typing import Any

import numpy as np

from ..canonical import point
from ..elements import ITEMSIZE, stacks
from ..tuples import parameters
from ..variant import Variant
from . import table as at
from .entry import range_kernel
from .flags import jitable
from .loops import fold_points
from .memory import LINE, advanced, claim, fill_weights, places, pointer, pointers, prefetch, smaller, wide_vectors, word
from .stream import FLOW, begin, finish, flow_out, flowing

__all__ = ["TILE", "pointwise_kernel"]

TILE = 192
"""Elements between two additions in float64, and between two wishes for lines of memory."""

AHEAD = 4 * TILE
"""Elements between what is computed and what is asked of memory, so that the one does not wait for the other."""

SHRINK = 2.0**-10
"""A tile's sum is taken of values times this, exactly, so that it overflows only where its mean does."""


def pointwise_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over elements. Gradients are multiplied by the call's scale; the returned sum is not."""
    definition, working = variant.definition, np.dtype(variant.working).type
    call = point(definition, working, jitable)
    function, dtypes, output, kinds = call.function, variant.inputs, variant.output, variant.kinds
    with_weights = variant.weights
    itemsize, weight_size = ITEMSIZE[output], ITEMSIZE[variant.working]
    inputs_at = tuple(range(at.first_input(definition), at.first_gradient(definition)))
    wanted_outputs = (
        (variant.items, 0, at.ITEMS),
        (variant.gradient, 1, at.first_gradient(definition)),
        (variant.hessian, 2, at.first_hessian(definition)),
    )
    results = tuple(which for wanted, which, _ in wanted_outputs if wanted)
    outputs_at = tuple(place for wanted, _, place in wanted_outputs if wanted)
    outputs, buffer_bytes, weight_bytes, weight_pieces = (
        len(outputs_at),
        TILE * itemsize + LINE,
        TILE * weight_size,
        int(with_weights),
    )
    weight, takes = tuple(range(weight_pieces)), tuple(one + weight_pieces for one in call.wanted)
    shrink = working(SHRINK)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        given, arrays = parameters(pointer(table, at.PARAMETERS), kinds, working), pointers(table, inputs_at)
        factor, total, streamed = working(scale), 0.0, word(table, at.STREAM) == at.PAST
        buffers, flows, weights = stacks(outputs, buffer_bytes), stacks(outputs, FLOW), stacks(weight_pieces, weight_bytes)
        destinations = pointers(table, outputs_at)
        begin(flows, advanced(destinations, start * itemsize))
        for first in range(start, stop, TILE):
            count, final = smaller(TILE, stop - first), advanced(destinations, first * itemsize)
            prefetch(arrays, first + AHEAD, dtypes, TILE, 1)
            if not streamed:
                claim(final, AHEAD * itemsize, count * itemsize)
            if with_weights:
                fill_weights(weights[0], pointer(table, at.WEIGHTS), word(table, at.WEIGHT_SPAN), first, count, weight_size)
            sources = places(weights, table, inputs_at, (), dtypes, first, 0)
            tiles = flowing(streamed, buffers, flows, final)
            total += np.float64(
                fold_points(
                    function, count, sources, dtypes, takes, given, weight, results, tiles, output, factor, shrink, working
                )
            )
            flow_out(streamed, buffers, flows, count * itemsize)
        finish(streamed, buffers, flows)
        return total / SHRINK

    return kernel
