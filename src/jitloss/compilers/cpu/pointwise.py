"""The loop over elements: a pointwise definition becomes a kernel."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..canonical import Call, point
from ..elements import ITEMSIZE, stacks
from ..tuples import parameters
from ..variant import Variant
from . import table as at
from .entry import range_kernel
from .flags import maths_jitable
from .loops import fold_points
from .memory import (
    LINE,
    advanced,
    fill_weights,
    pointer,
    pointers,
    prefetch,
    prefetch_for_writing,
    smaller,
    source_pointers,
    wide_vectors,
    word,
)
from .stream import FLOW, begin, finish, flow_out, flowing

__all__ = ["TILE", "pointwise_kernel"]

TILE = 192
"""Elements between two additions in float64, and between two prefetches."""

AHEAD = 4 * TILE
"""How far ahead of the computation memory is prefetched, in elements, so that it does not wait."""

SHRINK = 2.0**-10
"""A tile's sum is taken of values times this power of two, which is exact, so that it overflows only where the mean does."""


@dataclass(frozen=True)
class Points:
    """The constants of a loop over elements. Kernels use its attributes; see :mod:`.translate`."""

    point: Call
    working: Any
    name: str
    """The working precision, as a dtype's name."""
    kinds: str
    """The parameters, in the encoding of :func:`..tuples.parameters`."""
    dtypes: tuple[str, ...]
    output: str
    inputs_at: tuple[int, ...]
    outputs_at: tuple[int, ...]
    results: tuple[int, ...]
    """Which numbers are written: the value, the gradient, the second derivative."""
    sums: tuple[int, ...]
    """Which are added up: the value, or none where only derivatives are wanted; then the value is not computed either."""
    with_weights: bool

    @property
    def function(self) -> Any:
        return self.point.function

    @property
    def weight(self) -> tuple[int, ...]:
        """The position of the weight: before the inputs."""
        return (0,) * self.with_weights

    @property
    def weights(self) -> int:
        return len(self.weight)

    @property
    def takes(self) -> tuple[int, ...]:
        return tuple(one + self.weights for one in self.point.wanted)

    @property
    def outputs(self) -> int:
        return len(self.outputs_at)

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.output]

    @property
    def buffer_bytes(self) -> int:
        return TILE * self.itemsize + LINE

    @property
    def weight_size(self) -> int:
        return ITEMSIZE[self.name]

    @property
    def weight_bytes(self) -> int:
        return TILE * self.weight_size


def points(variant: Variant) -> Points:
    """Set up the loop of a variant."""
    definition, working = variant.definition, np.dtype(variant.working).type
    wanted = (
        (variant.items, at.ITEMS),
        (variant.gradient, at.first_gradient(definition)),
        (variant.hessian, at.first_hessian(definition)),
    )
    return Points(
        point=point(definition, working, maths_jitable),
        working=working,
        name=variant.working,
        kinds=variant.kinds,
        dtypes=variant.inputs,
        output=variant.output,
        inputs_at=tuple(range(at.FIRST, at.first_gradient(definition))),
        outputs_at=tuple(place for there, place in wanted if there),
        results=tuple(which for which, (there, _) in enumerate(wanted) if there),
        sums=(0,) * variant.summed,
        with_weights=variant.weights,
    )


def pointwise_kernel(variant: Variant, fingerprint: str) -> Any:
    """Compile a loop over elements. Gradients are multiplied by the call's scale; the returned sum is not, and may be left out."""
    plan = points(variant)

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018  # part of the cache's key
        wide_vectors()
        working, arrays = plan.working, pointers(table, plan.inputs_at)
        given, factor, shrink = parameters(pointer(table, at.PARAMETERS), plan.kinds, working), working(scale), working(SHRINK)
        destinations, streamed, total = pointers(table, plan.outputs_at), word(table, at.STREAM) == at.PAST, 0.0
        buffers, flows = stacks(plan.outputs, plan.buffer_bytes), stacks(plan.outputs, FLOW)
        weights = stacks(plan.weights, plan.weight_bytes)
        begin(flows, advanced(destinations, start * plan.itemsize))
        for first in range(start, stop, TILE):
            count, final = smaller(TILE, stop - first), advanced(destinations, first * plan.itemsize)
            prefetch(arrays, first + AHEAD, plan.dtypes, TILE, 1)
            if not streamed:
                prefetch_for_writing(final, AHEAD * plan.itemsize, count * plan.itemsize)
            if plan.with_weights:
                of_items, span = pointer(table, at.WEIGHTS), word(table, at.WEIGHT_SPAN)
                fill_weights(weights[0], of_items, span, first, count, plan.weight_size)
            sources = source_pointers(weights, table, plan.inputs_at, (), plan.dtypes, first, 0)
            tiles = flowing(streamed, buffers, flows, final)
            function, dtypes, takes = plan.function, plan.dtypes, plan.takes
            weight, results, sums = plan.weight, plan.results, plan.sums
            found = fold_points(
                function, count, sources, dtypes, takes, given, weight, results, sums, tiles, plan.output, factor, shrink, working
            )
            total += np.float64(found)
            flow_out(streamed, buffers, flows, count * plan.itemsize)
        finish(streamed, buffers, flows)
        return total / SHRINK

    return kernel
