"""Whether an array is on a CUDA device: one lookup by type, without any import for host arrays."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..keys import remember

if TYPE_CHECKING:
    from .cuda import Library

__all__ = ["library_of"]

_HOST = (np.ndarray, np.generic, int, float, list, tuple, type(None))

_found: dict[type, Callable[[Any], "Library | None"]] = {}


def _nothing(value: Any) -> None:
    return None


def library_of(value: Any) -> "Library | None":
    """The device library of an array on a CUDA device; None for everything else."""
    kind = type(value)
    find = _found.get(kind)
    if find is None:
        find = _nothing
        if not issubclass(kind, _HOST):
            from .cuda import finder

            find = finder(kind) or _nothing
        remember(_found, kind, find)
    return find(value)
