"""Checking integer labels before anything is written: how many rows count, and whether any label is out of range."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..intrinsics import intrinsic
from . import table as at
from .entry import range_kernel
from .memory import word_of
from .repeat import Iteration, repeat

__all__ = ["counting_rows", "labels_kernel"]

_I64, _F64 = ir.IntType(64), ir.DoubleType()


@intrinsic
def counting_rows(typing: Any, table: Any, start: Any, stop: Any) -> Any:
    """How many rows of a range have a label other than the ignored one; NaN where a label is not a class."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table, start, stop = args
        labels = builder.gep(word_of(builder, table, at.LABELS, _I64.as_pointer()), [start])
        columns, ignored = (word_of(builder, table, place, _I64) for place in (at.COLUMNS, at.IGNORED))

        def step(one: Iteration, found: Sequence[Any]) -> Sequence[Any]:
            with one.own():
                label = builder.load(builder.gep(labels, [one.index]))
            counts = builder.icmp_signed("!=", label, ignored)
            bad = builder.and_(counts, builder.icmp_unsigned(">=", label, columns))  # a negative label is a large unsigned one
            return [builder.add(total, builder.zext(also, _I64)) for total, also in zip(found, (counts, bad), strict=True)]

        counted, bad = repeat(builder, builder.sub(stop, start), step, (_I64(0), _I64(0)))
        return builder.select(builder.icmp_signed("==", bad, _I64(0)), builder.sitofp(counted, _F64), _F64(np.nan))

    return types.float64(types.intp, types.intp, types.intp), codegen


@functools.cache
def labels_kernel() -> int:
    """The kernel that counts the rows whose label is not the ignored one; NaN where a label is not a class.

    Labels are checked before the rows are processed, because a call that fails must leave ``out``, which may be the logits
    themselves, unchanged. A row has one label and many logits, so this costs little.
    """

    @range_kernel
    def kernel(table: Any, start: Any, stop: Any, scale: Any) -> Any:
        return counting_rows(table, start, stop)

    return int(kernel.address)
