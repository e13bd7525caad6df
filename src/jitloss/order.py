"""The order in which the axes of predictions lie in memory: what is not in C order is read where it lies, and gradients lie like it.

The elements of a pointwise loss may come in any order. The rows of a rowwise loss stay in theirs, and only their axis moves.
"""

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Order", "order_of"]

BESIDE = 16
"""The fewest rows along an inner axis that are read side by side sooner than copied."""


class Order(NamedTuple):
    """The axes of the call's arrays as they follow each other in memory, and where among those the row's own stands."""

    axes: tuple[int, ...]
    axis: int

    def inner(self, array: np.ndarray) -> int:
        """How far apart the elements of a row lie, in elements."""
        return math.prod(array.shape[one] for one in self.axes[self.axis + 1 :])

    def inwards(self, array: np.ndarray) -> np.ndarray:
        """An array of the call as kernels read it."""
        return array.transpose(self.axes)

    def outwards(self, array: np.ndarray) -> np.ndarray:
        """An array that a kernel wrote as the caller gets it."""
        return array.transpose(np.argsort(self.axes))


def order_of(first: np.ndarray, axis: int | None) -> Order | None:
    """The order of predictions whose rows, if there are such, lie along an axis; None where they are in C order, or in none."""
    if first.flags.c_contiguous:
        return None
    if axis is None:
        orders = [Order(tuple(np.argsort([-stride for stride in first.strides], kind="stable").tolist()), 0)]
    else:
        rest = [one for one in range(first.ndim) if one != axis]
        orders = [Order((*rest[:place], axis, *rest[place:]), place) for place in range(first.ndim)]
        orders = [one for one in orders if one.inner(first) == 1 or one.inner(first) >= BESIDE]
    return next((one for one in orders if one.inwards(first).flags.c_contiguous), None)
