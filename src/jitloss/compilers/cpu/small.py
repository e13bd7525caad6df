"""A whole call on small arrays in one compiled step: it checks the arrays, counts the labels, runs the kernel, and divides.

A plan, which similar calls share, tells it what the arrays must be. The Python code around it only looks up the plan.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import table as at
from .entry import call, entry_point
from .flags import jitable
from .labels import counting_rows
from .memory import smaller, word
from .objects import READABLE, WRITABLE, Object, address_of, fields, of_one_type

__all__ = ["PLAN", "small_driver"]

PLAN = np.dtype(
    [
        ("kernel", np.int64),
        ("labelled", np.int64),  # whether the second array holds labels; otherwise it has the shape of the first one
        ("every", np.int64),  # whether all rows must count
        ("chunk", np.int64),  # elements or rows
        ("most", np.int64),  # the largest count that is a small call
        ("columns", np.int64),  # of a row, or 1
        ("rowwise", np.int64),
        ("writes", np.int64),  # whether there is a gradient
        ("dtypes", np.int64, 2),  # addresses; 0 where there is no array
        ("itemsizes", np.int64, 2),
        ("factor", np.float64),
        ("divisor", np.float64),  # 0 for the number of rows that count
        ("table", np.int64, at.FIRST),  # the beginning of the kernel's table, as far as it is known
    ]
)
"""What similar calls share. It keeps nothing alive."""

_fields: Any = PLAN.fields
_INTEGERS = _fields["factor"][1] // 8
"""The number of words before the factor and the divisor, which come before the table."""

_WORD = ir.IntType(64)


@intrinsic
def _integers(typing: Any, plan: Any) -> Any:
    result = types.UniTuple(types.intp, _INTEGERS)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = builder.inttoptr(args[0], _WORD.as_pointer())
        return context.make_tuple(builder, result, [builder.load(builder.gep(words, [_WORD(n)])) for n in range(_INTEGERS)])

    return result(types.intp), codegen


@intrinsic
def _numbers(typing: Any, plan: Any) -> Any:
    """The factor and the divisor."""
    result = types.UniTuple(types.float64, 2)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = builder.inttoptr(args[0], ir.DoubleType().as_pointer())
        numbers = [builder.load(builder.gep(words, [_WORD(place)])) for place in (_INTEGERS, _INTEGERS + 1)]
        return context.make_tuple(builder, result, numbers)

    return result(types.intp), codegen


@intrinsic
def _table(typing: Any, plan: Any, first: Any, second: Any, gradient: Any, sample: Any, classes: Any) -> Any:
    """The address of a kernel's table on the stack of the call: the words that the plan knows, and pointers to data."""
    places = (at.FIRST, at.FIRST + 1, at.FIRST + 2, at.WEIGHTS, at.CLASS_WEIGHTS)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words, known = cgutils.alloca_once(builder, _WORD, size=at.FIRST + 3), builder.inttoptr(args[0], _WORD.as_pointer())
        for place in range(at.FIRST):
            builder.store(builder.load(builder.gep(known, [_WORD(_INTEGERS + 2 + place)])), builder.gep(words, [_WORD(place)]))
        for place, pointer in zip((*places, at.LABELS), (*args[1:], args[2]), strict=True):
            builder.store(pointer, builder.gep(words, [_WORD(place)]))
        return builder.ptrtoint(words, _WORD)

    return types.intp(*[types.intp] * (1 + len(places))), codegen


@jitable
def _alike(one: Any, other: Any, axes: Any) -> Any:
    """Whether two shapes have the same first axes."""
    same = True
    for axis in range(axes):
        same = same and word(one, axis) == word(other, axis)
    return same


@jitable
def _data(array: Any, known: Any) -> Any:
    """The data of an array that may be None."""
    return fields(array)[0] if of_one_type(array, known) else 0


def _small(known: Any, first: Any, second: Any, gradient: Any, sample: Any, classes: Any, equal: Any) -> Any:
    """The value of a call, whose gradient, if any, has been written; None, and nothing written, where the arrays do not fit the plan.

    ``equal`` says that the dtypes are equal to those of the plan, without being the same objects. Neither array may share memory
    with the gradient, except that the first may be the very same. Weights are already as the kernel reads them.
    """
    if not (of_one_type(first, known) and of_one_type(second, known)):
        return None
    plan = fields(known)[0]
    kernel, labelled, every, chunk, most, columns, rowwise, writes, dtype1, dtype2, size1, size2 = _integers(plan)
    data, axes, shape, dtype, flags = fields(first)
    other_data, other_axes, other_shape, other_dtype, other_flags = fields(second)
    if flags & other_flags & READABLE != READABLE or not (equal or (dtype == dtype1 and other_dtype == dtype2)):
        return None
    shared = axes - 1 if labelled else axes
    if axes < rowwise or other_axes != shared or not _alike(shape, other_shape, shared):
        return None
    count = 1
    for axis in range(axes - rowwise):
        count *= word(shape, axis)
    if not 0 < count <= most or (rowwise and word(shape, axes - 1) != columns):
        return None

    destination = 0
    if (address_of(gradient) != 0) != writes or (writes and not of_one_type(gradient, known)):
        return None
    if writes:
        destination, own_axes, own_shape, own_dtype, own_flags = fields(gradient)
        if own_axes != axes or own_flags & WRITABLE != WRITABLE or not (equal or own_dtype == dtype):
            return None
        size, other_size = count * columns * size1, (count if labelled else count * columns) * size2
        if not _alike(shape, own_shape, axes) or (destination < other_data + other_size and other_data < destination + size):
            return None
        if address_of(gradient) != address_of(first) and abs(destination - data) < size:
            return None

    table = _table(plan, data, other_data, destination, _data(sample, known), _data(classes, known))
    counted = float(count)
    if labelled:
        counted = counting_rows(table, 0, count)
        if not counted > 0.0 or (every and counted != count):
            return None
    factor, divisor = _numbers(plan)
    total, over = 0.0, divisor or counted
    for start in range(0, count, chunk):
        total += call(kernel, table, start, smaller(count, start + chunk), factor / over)
    return factor * (total / over)


@functools.cache
def small_driver() -> Callable[..., float | None]:
    """The compiled function, which takes Python objects as they are."""
    return entry_point(_small, types.Optional(types.float64)(*[Object()] * 6, types.boolean))
