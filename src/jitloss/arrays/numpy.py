"""NumPy arrays, and what is converted to one: subclasses, sequences, scalars."""

from typing import Any

import numpy as np

__all__ = ["as_it_is", "from_sequence", "plain", "refuse_masked"]


def as_it_is(result: Any, argument: Any) -> Any:
    return result


def plain(value: Any) -> np.ndarray:
    """The array as a base-class array: subclasses such as ``np.matrix`` redefine methods."""
    return np.asarray(value)


def from_sequence(value: Any) -> np.ndarray:
    _refuse_masks(value)
    result = np.asarray(value)
    return result.astype(np.float64) if result.size == 0 else result


def _refuse_masks(value: Any) -> None:
    """Raise for masked arrays within sequences, whose masks NumPy would drop."""
    kinds = set(map(type, value)) if isinstance(value, (list, tuple)) else set()
    if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds):
        refuse_masked(value)
    if not kinds.isdisjoint((list, tuple)):
        for one in value:
            _refuse_masks(one)


def refuse_masked(value: Any) -> np.ndarray:
    raise TypeError("a masked array: its mask would be lost. Give array.filled(...) and sample_weight=~array.mask instead")
