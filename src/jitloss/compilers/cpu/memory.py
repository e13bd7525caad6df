"""Memory access in the CPU's kernels: words of the table, streaming copies, prefetches."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..elements import ITEMSIZE, LOADS, address, load_one
from ..intrinsics import intrinsic
from . import table as at
from .flags import jitable

__all__ = [
    "advance",
    "advanced",
    "assume_positive",
    "clear_all",
    "columns_of_row",
    "copy_out",
    "either",
    "fence",
    "fill_weights",
    "label_of",
    "larger",
    "literals",
    "llvm_prefetch",
    "pointer",
    "pointers",
    "prefetch",
    "prefetch_for_writing",
    "row_weight",
    "smaller",
    "source_pointers",
    "wide",
    "wide_vectors",
    "word",
    "word_of",
    "write_short",
]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
LINE = 64
"""Bytes of a cache line."""


def llvm_prefetch(builder: Any) -> Any:
    """LLVM's prefetch intrinsic."""
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, _I32, _I32, _I32])
    return cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")


@intrinsic(prefer_literal=True)
def prefetch(typing: Any, pointers: Any, index: Any, dtypes: Any, count: Any, cache: Any) -> Any:
    """Prefetch ``count`` elements from ``index`` on of each array; they may lie outside of it, since a prefetch never faults.

    They are fetched to the first- or the second-level ``cache``, of which the latter can have more lines in flight.
    """
    names = [one.literal_value for one in dtypes]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ask = llvm_prefetch(builder)
        for position, name in enumerate(names):
            first = address(builder, builder.extract_value(args[0], position), args[1], LOADS[name][0])
            first = builder.bitcast(first, _BYTES)
            for line in range(0, count.literal_value * ITEMSIZE[name], LINE):
                builder.call(ask, [builder.gep(first, [_I64(line)]), _I32(0), _I32(4 - cache.literal_value), _I32(1)])
        return context.get_dummy_value()

    return types.void(pointers, types.intp, dtypes, count, cache), codegen


@intrinsic
def word(typing: Any, table: Any, position: Any) -> Any:
    """A word of the kernel's table."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(args[0], _I64.as_pointer()), [args[1]]))

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def columns_of_row(typing: Any, table: Any) -> Any:
    """How many elements a row has. LLVM is told that there are some, and does not generate code for empty rows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        columns = word_of(builder, args[0], at.COLUMNS, _I64)
        columns.set_metadata("range", builder.module.add_metadata([_I64(1), _I64(2**63 - 1)]))
        return columns

    return types.intp(types.intp), codegen


@intrinsic
def assume_positive(typing: Any, number: Any) -> Any:
    """Tell LLVM that a number is above 0: then smoothed targets need no test for 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.assume(builder.fcmp_ordered(">", args[0], args[0].type(0.0)))
        return context.get_dummy_value()

    return types.void(number), codegen


@intrinsic
def pointer(typing: Any, table: Any, position: Any) -> Any:
    """A word of the table as a pointer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(builder.load(builder.gep(builder.inttoptr(args[0], _I64.as_pointer()), [args[1]])), _BYTES)

    return types.voidptr(types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def pointers(typing: Any, table: Any, positions: Any) -> Any:
    """Words of the table as a tuple of pointers."""
    indices = [one.literal_value for one in positions]
    result = types.UniTuple(types.voidptr, len(indices))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = builder.inttoptr(args[0], _I64.as_pointer())
        words = (builder.load(builder.gep(base, [_I64(index)])) for index in indices)
        return context.make_tuple(builder, result, [builder.inttoptr(one, _BYTES) for one in words])

    return result(types.intp, positions), codegen


@intrinsic(prefer_literal=True)
def source_pointers(typing: Any, pieces: Any, table: Any, elements: Any, rows: Any, dtypes: Any, element: Any, row: Any) -> Any:
    """Pieces of stack, followed by words of the table as pointers to an element or a row of arrays of those dtypes."""
    words, kinds = literals(elements) + literals(rows), [LOADS[name][0] for name in literals(dtypes)]
    result = types.UniTuple(types.voidptr, len(pieces) + len(words))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [builder.extract_value(args[0], position) for position in range(len(pieces))]
        for number, (position, kind) in enumerate(zip(words, kinds, strict=True)):
            index = args[5] if number < len(elements) else args[6]
            parts.append(builder.bitcast(address(builder, word_of(builder, args[1], position, _BYTES), index, kind), _BYTES))
        return context.make_tuple(builder, result, parts)

    return result(pieces, types.intp, elements, rows, dtypes, types.intp, types.intp), codegen


def literals(values: Any) -> list[Any]:
    """The values of a tuple of constants, from its type."""
    return [one.literal_value for one in values]


def word_of(builder: Any, table: Any, position: int, kind: Any) -> Any:
    """A word of the table as a value of a type that is as wide."""
    return builder.load(builder.gep(builder.inttoptr(table, kind.as_pointer()), [_I64(position)]))


def _is_ignored(builder: Any, table: Any, row: Any) -> tuple[Any, Any]:
    """A row's label, and whether it is the ignored one."""
    label = builder.load(builder.gep(word_of(builder, table, at.LABELS, _I64.as_pointer()), [row]))
    return label, builder.icmp_signed("==", label, word_of(builder, table, at.IGNORED, _I64))


@intrinsic
def label_of(typing: Any, table: Any, row: Any) -> Any:
    """A row's label; 0 where it is ignored, or not a class: labels have been checked, but someone may have written to them since."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        label, ignored = _is_ignored(builder, *args)
        no_class = builder.icmp_unsigned(">=", label, word_of(builder, args[0], at.COLUMNS, _I64))
        return builder.select(builder.or_(ignored, no_class), _I64(0), label)

    return types.intp(types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def row_weight(typing: Any, table: Any, row: Any, labels: Any, weights: Any, working: Any) -> Any:
    """The weight of a row: 1, or 0 where there are ``labels`` and its own is the ignored one, times its sample weight if there are any."""
    real = working.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = context.get_constant(real, 1.0)
        ignored = _is_ignored(builder, args[0], args[1])[1] if labels.literal_value else ir.IntType(1)(0)
        weight = builder.select(ignored, one.type(0.0), one)
        if weights.literal_value:
            which = builder.sdiv(args[1], word_of(builder, args[0], at.WEIGHT_SPAN, _I64))
            own = load_one(context, builder, word_of(builder, args[0], at.WEIGHTS, _BYTES), which, str(real), real)
            weight = builder.fmul(weight, own)
        return weight

    return real(types.intp, types.intp, labels, weights, working), codegen


def _chosen(sign: str) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed(sign, *args), *args)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def smaller(typing: Any, one: Any, other: Any) -> Any:
    """The smaller of two integers. Numba compiles a function for its own ``min``, in every process."""
    return _chosen("<")


@intrinsic
def larger(typing: Any, one: Any, other: Any) -> Any:
    """The larger of two integers."""
    return _chosen(">")


@intrinsic
def write_short(typing: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write an integer to an element of an int32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[2], _I32), address(builder, args[0], args[1], _I32))
        return context.get_dummy_value()

    return types.void(types.voidptr, types.intp, types.intp), codegen


@intrinsic
def advance(typing: Any, pointer: Any, count: Any) -> Any:
    """The pointer advanced by ``count`` bytes."""
    return types.voidptr(types.voidptr, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


@intrinsic
def advanced(typing: Any, pointers: Any, count: Any) -> Any:
    """The same of each pointer of a tuple."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        moved = (builder.gep(builder.extract_value(args[0], which), [args[1]]) for which in range(len(pointers)))
        return context.make_tuple(builder, pointers, list(moved))

    return pointers(pointers, types.intp), codegen


@intrinsic
def either(typing: Any, condition: Any, yes: Any, no: Any) -> Any:
    """The first of two tuples of pointers where a condition holds, else the second."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = ([builder.extract_value(one, which) for one in args[1:]] for which in range(len(yes)))
        return context.make_tuple(builder, yes, [builder.select(args[0], *pair) for pair in pairs])

    return yes(types.boolean, yes, yes), codegen


@intrinsic
def prefetch_for_writing(typing: Any, pointers: Any, offset: Any, count: Any) -> Any:
    """Prefetch ``count`` bytes from each pointer for writing: otherwise a store waits until its line is there."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ask = llvm_prefetch(builder)
        for which in range(len(pointers)):
            first = builder.gep(builder.extract_value(args[0], which), [args[1]])
            with cgutils.for_range_slice(builder, _I64(0), args[2], _I64(LINE), _I64) as (line, _):
                builder.call(ask, [builder.gep(first, [line]), _I32(1), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(pointers, types.intp, types.intp), codegen


@intrinsic
def clear_all(typing: Any, pieces: Any, count: Any) -> Any:
    """Set ``count`` bytes of each piece to zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for which in range(len(pieces)):
            cgutils.memset(builder, builder.extract_value(args[0], which), args[1], 0)
        return context.get_dummy_value()

    return types.void(pieces, types.intp), codegen


@intrinsic
def _copy(typing: Any, to: Any, source: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.raw_memcpy(builder, args[0], args[1], args[2], 1)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.voidptr, types.intp), codegen


def _copy_line(typing: Any, to: Any, source: Any, streamed: bool) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line = ir.VectorType(_I32, LINE // 4).as_pointer()
        value = builder.load(builder.bitcast(args[1], line), align=1)
        store = builder.store(value, builder.bitcast(args[0], line), align=LINE)
        if streamed:
            store.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(types.voidptr, types.voidptr), codegen


@intrinsic
def _store_line(typing: Any, to: Any, source: Any) -> Any:
    """Copy one cache line; ``to`` is aligned to lines."""
    return _copy_line(typing, to, source, streamed=False)


@intrinsic
def _stream_line(typing: Any, to: Any, source: Any) -> Any:
    """Copy one cache line with streaming stores; ``to`` is aligned to lines."""
    return _copy_line(typing, to, source, streamed=True)


@intrinsic
def _to_line(typing: Any, pointer: Any) -> Any:
    """Bytes from a pointer to the next cache line."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(builder.neg(builder.ptrtoint(args[0], _I64)), _I64(LINE - 1))

    return types.intp(types.voidptr), codegen


_OF_TARGETS = ('"prefer-vector-width"="512"', '"reciprocal-estimates"="!sqrt,!vec-sqrt"')
"""Estimates of 1 / sqrt(x), even when refined, are NaN for 0 and inf, and wrong for subnormal numbers."""


def wide(function: Any) -> None:
    """Set the attributes of :func:`wide_vectors` on an LLVM function."""
    function.attributes.add("noinline")
    for attribute in _OF_TARGETS:
        set.add(function.attributes, attribute)  # llvmlite's own add rejects target attributes


@intrinsic
def wide_vectors(typing: Any) -> Any:
    """Request vectors of 512 bits in the calling function, where the machine has them, and square roots without estimates.

    For most Intel processors LLVM prefers 256 bits because of clock rates; loops that are bound by arithmetic gain from 512.
    These are attributes of the function, which are lost if it is inlined into another.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide(builder.function)
        return context.get_dummy_value()

    return types.void(), codegen


def order_stores(builder: Any) -> None:
    """Order streaming stores before all that follow: other threads must see them.

    On x86 LLVM's own fences do not order them, except for the full fence, which also waits for loads.
    """
    if "x86" in builder.module.triple:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.sfence"), [])
    else:
        builder.fence("seq_cst")


@intrinsic
def fence(typing: Any) -> Any:
    """Order streaming stores before whatever follows: other threads must see them."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        order_stores(builder)
        return context.get_dummy_value()

    return types.void(), codegen


@jitable
def copy_out(to: Any, tile: Any, count: Any, streamed: Any) -> None:
    """Copy a finished tile to its destination. An ordinary store first reads the line that it overwrites; a streaming store does not."""
    head = smaller(_to_line(to), count)
    lines = (count - head) // LINE
    done = head + LINE * lines
    _copy(to, tile, head)
    if streamed:
        for place in range(head, done, LINE):
            _stream_line(advance(to, place), advance(tile, place))
    else:
        for place in range(head, done, LINE):
            _store_line(advance(to, place), advance(tile, place))
    _copy(advance(to, done), advance(tile, done), count - done)


@jitable
def fill_weights(tile: Any, weights: Any, span: Any, begin: Any, count: Any, itemsize: Any) -> None:
    """Write the weights of ``count`` elements from ``begin`` on, where each weight applies to ``span`` consecutive elements."""
    if span == 1:
        _copy(tile, advance(weights, begin * itemsize), count * itemsize)
        return
    done = 0
    while done < count:
        which = (begin + done) // span
        stop = smaller(count, (which + 1) * span - begin)
        for index in range(done, stop):
            _copy(advance(tile, index * itemsize), advance(weights, which * itemsize), itemsize)
        done = stop
