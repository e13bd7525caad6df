"""A look at integer labels before anything is written: how many rows count, and whether any label is out of range."""

import functools
from typing import Any

import numpy as np

from ..elements import read
from . import table as at
from .driver import range_kernel
from .memory import pointer, word

__all__ = ["labels_kernel"]


@functools.cache
def labels_kernel() -> int:
    """The kernel that counts the rows whose label is not the ignored one; NaN where a label is no class.

    Labels are looked at before the rows are, because a call that fails must leave ``out``, which may be the logits themselves, as
    it was. A row has one label and many logits, so this costs little.
    """

    @range_kernel
    def kernel(table: Any, start: Any, stop: Any, scale: Any) -> Any:
        labels, columns, ignored = pointer(table, at.LABELS), word(table, at.COLUMNS), word(table, at.IGNORED)
        counted, bad = 0, 0
        for row in range(start, stop):
            label = read(labels, row)
            counts = label != ignored
            counted += counts
            bad += counts & ((label < 0) | (label >= columns))
        return np.nan if bad > 0 else float(counted)

    return int(kernel.address)
