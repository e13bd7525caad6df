"""Rows along a short inner axis: a block of them is turned, so that the elements of each are contiguous, for a kernel of such rows.

:mod:`.lanes` reads such rows side by side; where fewer of them lie there than a vector holds, it would process them one by one.
One kernel turns blocks for all losses: its own table describes the arrays, and holds the table of the kernel that it calls.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...definition import Definition
from ..elements import stack
from ..intrinsics import intrinsic
from . import table as at
from .entry import call, range_kernel
from .flags import jitable
from .memory import LINE, advance, pointer, smaller, word, write

__all__ = ["turned", "turns"]

SHORTEST_INNER = 16
"""Rows along an inner axis from which on they are read side by side; fewer are transposed, a block of them at a time."""

BLOCK_BYTES = 2**17
"""Bytes of stack for such a block, in all arrays: it stays in the second-level cache. Longer rows are read side by side."""

MOST_ARRAYS, MOST_WORDS = 16, 64
"""The most arrays, and words of a table, with which blocks are transposed: the stack has room for so many."""

STACK_BYTES, TABLE_BYTES = BLOCK_BYTES + MOST_ARRAYS * LINE, 8 * MOST_WORDS
"""Bytes of stack for the arrays, each of which begins at a cache line, and for the table that is passed on."""

KERNEL, INNER, ROWS, READ, ARRAYS, WORDS, FIRST = range(7)
"""The kernel's own words: the kernel to call; the inner axis; the rows of a block; how many arrays are read, and are there in all;
how many words are passed on. Then a pair for each array, its place among those words and its itemsize; then those words. The arrays
that are read come first."""

_I64 = ir.IntType(64)


def turns(definition: Definition, columns: int, inner: int, sizes: Sequence[int]) -> bool:
    """Whether rows of so many elements are turned; ``sizes`` are the itemsizes of all arrays with a number per element."""
    fits = len(sizes) <= MOST_ARRAYS and at.found_at(definition, 1, 0)[0][0] <= MOST_WORDS
    return 1 < inner < SHORTEST_INNER and fits and columns * sum(sizes) <= BLOCK_BYTES


def turned(kernel: int, words: tuple[Any, ...], read: Sequence[int], written: int) -> tuple[int, tuple[Any, ...]]:
    """The kernel, and its table, that turn blocks of rows for a kernel of rows with its table.

    ``read`` are the inputs that have a number per element, by their positions; ``written`` is the number of outputs, the last words.
    """
    places = (*(at.FIRST + which for which in read), *range(len(words) - written, len(words)))
    sizes = [words[place].itemsize for place in places]
    rows = BLOCK_BYTES // (words[at.COLUMNS] * sum(sizes))
    own = (kernel, words[at.INNER], rows, len(read), len(places), len(words))
    return _turning_kernel(), (*own, *itertools.chain(*zip(places, sizes, strict=True)), *words)


@intrinsic
def _address(typing: Any, pointer: Any) -> Any:
    """A pointer as a word."""
    return types.intp(types.voidptr), lambda context, builder, signature, args: builder.ptrtoint(args[0], _I64)


@intrinsic
def _move(typing: Any, rows: Any, memory: Any, lanes: Any, columns: Any, inner: Any, size: Any, back: Any) -> Any:
    """Copy elements of ``size`` bytes from memory, where rows are lanes of an inner axis, to contiguous rows; or ``back``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, memory, lanes, columns, inner, size, back = args
        after = builder.append_basic_block("moved")
        choice = builder.switch(builder.or_(size, builder.shl(back, _I64(4))), after)
        for number, returns in itertools.product((1, 2, 4, 8), (False, True)):
            block = builder.append_basic_block()
            choice.add_case(_I64(number | returns << 4), block)
            builder.position_at_end(block)
            kind = ir.IntType(8 * number).as_pointer()
            across, along = builder.bitcast(memory, kind), builder.bitcast(rows, kind)
            with cgutils.for_range(builder, lanes) as lane:
                here, there = builder.gep(across, [lane.index]), builder.gep(along, [builder.mul(lane.index, columns)])
                with cgutils.for_range(builder, columns) as column:
                    ends = builder.gep(here, [builder.mul(column.index, inner)]), builder.gep(there, [column.index])
                    source, destination = reversed(ends) if returns else ends
                    builder.store(builder.load(source, align=number), destination, align=number)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.voidptr, *[types.intp] * 5), codegen


@jitable
def _turn(rows, array, first, count, columns, inner, size, back):  # type: ignore[no-untyped-def]
    """Copy ``count`` rows from row ``first`` of an array on to contiguous rows; or ``back``."""
    row = first
    while row < first + count:
        lanes = smaller(inner - row % inner, first + count - row)
        there = advance(array, (row // inner * inner * columns + row % inner) * size)
        _move(advance(rows, (row - first) * columns * size), there, lanes, columns, inner, size, back)
        row += lanes


@functools.cache
def _turning_kernel() -> int:
    """The kernel, loaded when first needed."""

    @range_kernel
    def kernel(table, start, stop, scale):  # type: ignore[no-untyped-def]
        inner, most, read = word(table, INNER), word(table, ROWS), word(table, READ)
        arrays, words = word(table, ARRAYS), word(table, WORDS)
        given = table + 8 * (FIRST + 2 * arrays)
        own, block, columns, total = stack(TABLE_BYTES), stack(STACK_BYTES), word(given, at.COLUMNS), 0.0
        for index in range(words):
            write(own, index, word(given, index))
        write(own, at.INNER, 1)
        write(own, at.STREAM, at.THROUGH)
        for first in range(start, stop, most):
            count, rows = smaller(most, stop - first), block
            for which in range(arrays):
                place, size = word(table, FIRST + 2 * which), word(table, FIRST + 2 * which + 1)
                write(own, place, _address(rows) - first * columns * size)  # so that row ``first`` is there
                if which < read:
                    _turn(rows, pointer(given, place), first, count, columns, inner, size, 0)
                rows = advance(rows, (count * columns * size + LINE - 1) // LINE * LINE)
            total += call(word(table, KERNEL), _address(own), first, first + count, scale)
            for which in range(read, arrays):
                place, size = word(table, FIRST + 2 * which), word(table, FIRST + 2 * which + 1)
                rows = advance(pointer(_address(own), place), first * columns * size)
                _turn(rows, pointer(given, place), first, count, columns, inner, size, 1)
        return total

    return int(kernel.address)
