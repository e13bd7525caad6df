"""Memory order: arrays that are not in C order are read in the order of their axes in memory, and gradients have the same layout.

The elements of a pointwise loss may be visited in any order. The rows of a rowwise loss keep their order, and only their axis moves.
"""

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Order", "order_of"]

INNER_ROWS = 16
"""The fewest rows along an inner axis that are read side by side rather than copied."""


class Order(NamedTuple):
    """The axes of the call's arrays in memory order, and the position of the row's own axis among them."""

    axes: tuple[int, ...]
    axis: int

    def inner(self, array: np.ndarray) -> int:
        """The stride between the elements of a row, in elements."""
        return math.prod(array.shape[one] for one in self.axes[self.axis + 1 :])

    def inwards(self, array: np.ndarray) -> np.ndarray:
        """An array of the call with its axes in memory order, as kernels read it."""
        return array.transpose(self.axes)

    def outwards(self, array: np.ndarray) -> np.ndarray:
        """An array that a kernel wrote, with its axes as the caller expects them."""
        return array.transpose(np.argsort(self.axes))


def order_of(first: np.ndarray, axis: int | None) -> Order | None:
    """The memory order of predictions whose rows, if any, lie along an axis; None where it is C order, or where there is none."""
    if first.flags.c_contiguous:
        return None
    if axis is None:
        orders = [Order(tuple(np.argsort([-stride for stride in first.strides], kind="stable").tolist()), 0)]
    else:
        rest = [one for one in range(first.ndim) if one != axis]
        orders = [Order((*rest[:place], axis, *rest[place:]), place) for place in range(first.ndim)]
        orders = [one for one in orders if one.inner(first) == 1 or one.inner(first) >= INNER_ROWS]
    return next((one for one in orders if one.inwards(first).flags.c_contiguous), None)
