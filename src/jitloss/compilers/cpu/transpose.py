"""Blocks of short rows transposed to columns and back: the numbers of neighbouring rows in a column are contiguous, and fill vectors.

A block is read in quarters of a vector, each from a different row, and transposed in registers. A *grid* holds a block by
columns: first the first number of each row, then the second, and so on.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..elements import ITEMSIZE
from ..intrinsics import intrinsic
from .memory import literals, wide
from .repeat import COLUMN, convert
from .stream import enqueue, place_in, stream_through

__all__ = ["PADDING", "columns_of", "lanes_of", "rows_of"]

PADDING = 64
"""Bytes of padding at the end of a piece of stack: the last quarter of a vector may extend beyond a row's end."""

_QUARTER = 16  # bytes
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def lanes_of(working: str) -> int:
    """Rows of a block."""
    return COLUMN // ITEMSIZE[working]


def _shuffled(builder: Any, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))


def _halves(count: int, width: int, part: int, half: int) -> list[int]:
    """Lanes that take one half from each group of ``width`` lanes of two vectors: ``part`` lanes of the first, then of the second."""
    starts = range(half * width // 2, count, width)
    pieces = [list(range(at, at + part)) for start in starts for at in range(start, start + width // 2, part)]
    return [lane for piece in pieces for lane in (*piece, *(one + count for one in piece))]


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """A transposition of as many vectors as each has groups of lanes; it is its own inverse."""
    width, count, part = len(vectors), vectors[0].type.count, 1
    while part < width:
        pairs = [(which, which + part) for which in range(width) if which // part % 2 == 0]
        vectors = [
            _shuffled(builder, vectors[one], vectors[other], _halves(count, width, part, half))
            for one, other in pairs
            for half in (0, 1)
        ]
        part *= 2
    return vectors


def _joined(builder: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        lanes, pairs = range(2 * parts[0].type.count), zip(parts[::2], parts[1::2], strict=True)
        parts = [_shuffled(builder, one, other, lanes) for one, other in pairs]
    return parts[0]


class _Corner:
    """The position in a block and in its grid from which a square of rows and columns is transposed."""

    def __init__(self, builder: Any, block: Any, grid: Any, row: Any, column: Any, columns: Any) -> None:
        self.builder, self.columns, self.column, self.row = builder, columns, column, row
        self.block, self.grid = block, grid
        size = 4 if block.type.pointee == ir.FloatType() else 8
        self.width, self.lanes = _QUARTER // size, COLUMN // size

    def in_block(self, row: int) -> Any:
        """A quarter of a vector of a row."""
        start = self.builder.mul(self.builder.add(self.row, _I64(row)), self.columns)
        return self._at(self.block, self.builder.add(start, self.column), self.width)

    def in_grid(self, column: int) -> Any:
        """A vector of a column."""
        start = self.builder.mul(self.builder.add(self.column, _I64(column)), _I64(self.lanes))
        return self._at(self.grid, self.builder.add(start, self.row), 4 * self.width)

    def _at(self, memory: Any, index: Any, count: int) -> Any:
        kind = ir.VectorType(memory.type.pointee, count).as_pointer()
        return self.builder.bitcast(self.builder.gep(memory, [index]), kind)

    def to_grid(self) -> None:
        load, width = self.builder.load, self.width
        rows = [[load(self.in_block(group * width + which), align=4) for group in range(4)] for which in range(width)]
        vectors = _transposed(self.builder, [_joined(self.builder, parts) for parts in rows])
        for which, vector in enumerate(vectors):
            self.builder.store(vector, self.in_grid(which), align=64)

    def to_block(self) -> None:
        """Row by row: what a quarter writes beyond the end of a short row is overwritten by the next."""
        width = self.width
        vectors = _transposed(self.builder, [self.builder.load(self.in_grid(which), align=64) for which in range(width)])
        for group in range(4):
            for which, vector in enumerate(vectors):
                quarter = _shuffled(self.builder, vector, vector, range(group * width, group * width + width))
                self.builder.store(quarter, self.in_block(group * width + which), align=1)


def _transposition(module: Any, real: Any, to_grid: bool) -> Any:
    """A function (block, grid, columns) that copies one to the other; compiled once for all uses in a kernel."""
    name = "jitloss.to_grid" if to_grid else "jitloss.to_block"
    if name in module.globals:
        return module.globals[name]
    pointer = real.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, pointer, _I64]), name)
    function.linkage = "internal"
    wide(function)
    block, grid, columns = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    size = 4 if real == ir.FloatType() else 8
    width, lanes = _QUARTER // size, COLUMN // size
    last = builder.sub(columns, _I64(width))
    last = builder.select(builder.icmp_signed(">", last, _I64(0)), last, _I64(0))
    by_rows = cgutils.for_range_slice(builder, _I64(0), _I64(lanes), _I64(4 * width), _I64)
    by_columns = cgutils.for_range_slice(builder, _I64(0), columns, _I64(width), _I64)
    with by_rows as (row, _), by_columns as (column, _):
        column = builder.select(builder.icmp_signed("<", column, last), column, last)
        corner = _Corner(builder, block, grid, row, column, columns)
        corner.to_grid() if to_grid else corner.to_block()
    builder.ret_void()
    return function


def _is_full(builder: Any, rows: Any, columns: Any, name: str) -> Any:
    """Whether a block has all of its rows, and they are at least as long as a quarter of a vector: so nothing outside of it is accessed."""
    full = builder.icmp_signed("==", rows, _I64(lanes_of(name)))
    return builder.and_(full, builder.icmp_signed(">=", columns, _I64(_QUARTER // ITEMSIZE[name])))


@intrinsic(prefer_literal=True)
def columns_of(
    typing: Any, grids: Any, arrays: Any, base: Any, rows: Any, columns: Any, scratch: Any, dtypes: Any, working: Any
) -> Any:
    """Fill a grid from each array: ``rows`` rows from element ``base`` on, converted; the other lanes hold arbitrary numbers.

    A block that is not full, or of another dtype, goes through ``scratch``: nothing is read beyond the array.
    """
    names, real = literals(dtypes), working.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(real)
        function, pointer = _transposition(builder.module, kind, to_grid=True), kind.as_pointer()
        full = _is_full(builder, args[3], args[4], str(real))
        for which, name in enumerate(names):
            grid, array = (builder.extract_value(one, which) for one in args[:2])
            array = builder.gep(array, [builder.mul(args[2], _I64(ITEMSIZE[name]))])
            direct = full if name == str(real) else ir.IntType(1)(0)
            with builder.if_then(builder.not_(direct)):
                convert(context, builder, args[5], str(real), array, name, builder.mul(args[3], args[4]), real)
            block = builder.select(direct, array, args[5])
            builder.call(function, [builder.bitcast(block, pointer), builder.bitcast(grid, pointer), args[4]])
        return context.get_dummy_value()

    kinds = grids, arrays, types.intp, types.intp, types.intp, types.voidptr, dtypes, working
    return types.void(*kinds), codegen


@intrinsic(prefer_literal=True)
def rows_of(
    typing: Any,
    destinations: Any,
    buffers: Any,
    flows: Any,
    grids: Any,
    rows: Any,
    columns: Any,
    scratch: Any,
    streamed: Any,
    output: Any,
    working: Any,
) -> Any:
    """Write the rows of each grid to its destination, converted to the dtype ``output``.

    Where they are ``streamed``, they go to its buffer, and from there complete lines are written out. A block that is not full,
    or of another dtype, goes through ``scratch``.
    """
    name, real = output.literal_value, working.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, count = context.get_value_type(real), builder.mul(args[4], args[5])
        function, pointer = _transposition(builder.module, kind, to_grid=False), kind.as_pointer()
        full = _is_full(builder, args[4], args[5], str(real)) if name == str(real) else ir.IntType(1)(0)
        for which in range(len(buffers)):
            final, buffer, flow, grid = (builder.extract_value(one, which) for one in args[:4])
            place = place_in(builder, args[7], buffer, flow, final)
            block = builder.select(full, place, args[6])
            builder.call(function, [builder.bitcast(block, pointer), builder.bitcast(grid, pointer), args[5]])
            with builder.if_then(builder.not_(full)):
                convert(context, builder, place, name, block, str(real), count, real)
            with builder.if_then(args[7]):
                enqueue(builder, flow, builder.mul(count, _I64(ITEMSIZE[name])))
                builder.call(stream_through(builder.module), [buffer, flow])
        return context.get_dummy_value()

    kinds = destinations, buffers, flows, grids, types.intp, types.intp, types.voidptr, types.boolean, output, working
    return types.void(*kinds), codegen
