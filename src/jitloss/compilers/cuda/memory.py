"""Memory access of a kernel's threads. Each intrinsic has an equivalent in plain Python, which the simulator runs.

Elements are moved in vectors: as many neighbours as fill 128 bits in the widest of a kernel's arrays that are read by element.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..elements import ITEMSIZE, LOADS, address, as_single, converted, load
from ..intrinsics import intrinsic
from .toolchain import device_kind, teach_intrinsic

__all__ = [
    "clear",
    "clear_row",
    "expand",
    "fetch",
    "fetch_row",
    "flush",
    "integer",
    "local",
    "opaque",
    "repeated",
]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()


def _plain_local(count: Any, size: Any) -> tuple[Any, ...]:
    return tuple(np.zeros(size, np.float64) for _ in range(count))


@intrinsic(prefer_literal=True, plain=_plain_local)
def local(typing: Any, count: Any, size: Any) -> Any:
    """``count`` pieces of thread-local memory, each for ``size`` numbers of any dtype; registers where indices are constants."""
    pieces, numbers = count.literal_value, size.literal_value
    result = types.UniTuple(types.voidptr, pieces)

    def piece(builder: Any) -> Any:
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(ir.IntType(8), 8 * numbers))
            memory.align = 16
        return builder.bitcast(memory, _BYTES)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, result, [piece(builder) for _ in range(pieces)])

    return result(count, size), codegen


def _chunks(size: int, itemsize: int) -> Iterator[tuple[int, Any, int]]:
    """Bytes split into the widest available words: the offset, the type of the word, and its bytes."""
    place = 0
    while place < size:
        width = next(one for one in (16, 8, 4, 2, 1) if one <= size - place)
        word = max(itemsize, min(4, width))
        kind = ir.IntType(8 * word)
        yield place, kind if word == width else ir.VectorType(kind, width // word), word
        place += width


def _read_items(builder: Any, source: Any, to: Any, name: str, count: int) -> None:
    """Copy from device memory by wide loads to a thread's own, converting item by item: LLVM turns those into registers."""
    (kind, convert), itemsize, real = LOADS[name], ITEMSIZE[name], to.type.pointee
    item, number = ir.IntType(8 * itemsize), 0
    for place, whole_kind, word in _chunks(count * itemsize, itemsize):
        width = word * getattr(whole_kind, "count", 1)
        words = builder.load(builder.bitcast(builder.gep(source, [_I64(place)]), whole_kind.as_pointer()), align=width)
        for offset in range(0, width, itemsize):
            whole = words if width == word else builder.extract_element(words, _I32(offset // word))
            shifted = builder.lshr(whole, whole.type(8 * (offset % word))) if offset % word else whole
            bits = builder.trunc(shifted, item) if word > itemsize else shifted
            stored = bits if isinstance(kind, ir.IntType) else builder.bitcast(bits, kind)
            builder.store(convert(builder, stored, real), builder.gep(to, [_I64(number)]))
            number += 1


def _keep_items(builder: Any, source: Any, to: Any, name: str, count: int) -> None:
    """The same for half types that are not converted, two in a word."""
    itemsize = ITEMSIZE[name]
    for place, whole_kind, word in _chunks(count * itemsize, itemsize):
        lanes = getattr(whole_kind, "count", 1)
        words = builder.load(builder.bitcast(builder.gep(source, [_I64(place)]), whole_kind.as_pointer()), align=word * lanes)
        for lane in range(lanes):
            one = words if lanes == 1 else builder.extract_element(words, _I32(lane))
            at = builder.gep(to, [_I64(place + lane * word)])
            builder.store(one, builder.bitcast(at, one.type.as_pointer()), align=word)


def _pair(builder: Any, numbers: list[Any], name: str) -> Any:
    """Two numbers as the halves of a word, made by one instruction that devices before 8.0 lack."""
    if device_kind.get() >= (8, 0):
        kind = ir.FunctionType(_I32, [ir.FloatType()] * 2)
        code = f"cvt.rn.{'bf16x2' if name == 'bfloat16' else 'f16x2'}.f32 $0, $1, $2;"
        return builder.call(ir.InlineAsm(kind, code, "=r,f,f"), [as_single(builder, one) for one in reversed(numbers)])
    bits = [builder.zext(_narrow(builder, one, name), _I32) for one in numbers]
    return builder.or_(bits[0], builder.shl(bits[1], _I32(16)))


def _narrow(builder: Any, number: Any, name: str) -> Any:
    """A number as the bits of one item."""
    stored = converted(builder, number, name)
    return stored if isinstance(stored.type, ir.IntType) else builder.bitcast(stored, ir.IntType(8 * ITEMSIZE[name]))


def _write_items(builder: Any, to: Any, source: Any, name: str, count: int) -> None:
    """The reverse: convert a thread's own numbers and write them by wide stores."""
    itemsize, number = ITEMSIZE[name], 0
    for place, kind, word in _chunks(count * itemsize, itemsize):
        width = word * getattr(kind, "count", 1)
        words = ir.Constant(kind, ir.Undefined)
        for first in range(0, width, word):
            numbers = [builder.load(builder.gep(source, [_I64(number + one)])) for one in range(word // itemsize)]
            number += len(numbers)
            whole = _pair(builder, numbers, name) if len(numbers) == 2 else _narrow(builder, numbers[0], name)
            words = whole if width == word else builder.insert_element(words, whole, _I32(first // word))
        builder.store(words, builder.bitcast(builder.gep(to, [_I64(place)]), kind.as_pointer()), align=width)


def _own(builder: Any, pieces: Any, position: int, at: Any, working: Any) -> Any:
    """The address of a thread's own number."""
    real = ir.FloatType() if working.dtype == types.float32 else ir.DoubleType()
    return address(builder, builder.extract_value(pieces, position), at, real)


def _plain_fetch(to: Any, at: Any, arrays: Any, index: Any, dtypes: Any, count: Any, working: Any) -> None:
    for piece, array, name in zip(to, arrays, dtypes, strict=True):
        piece[at : at + count] = [load((array,), one, (name,), working)[0] for one in range(index, index + count)]


@intrinsic(prefer_literal=True, plain=_plain_fetch)
def fetch(typing: Any, to: Any, at: Any, pointers: Any, index: Any, dtypes: Any, count: Any, working: Any) -> Any:
    """Read ``count`` consecutive elements of each array, from ``index`` on, into a thread's own memory from ``at`` on."""
    names, number = [one.literal_value for one in dtypes], count.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position, name in enumerate(names):
            source = address(builder, builder.extract_value(args[2], position), args[3], LOADS[name][0])
            place = _own(builder, args[0], position, args[1], working)
            _read_items(builder, builder.bitcast(source, _BYTES), place, name, number)
        return context.get_dummy_value()

    return types.void(to, types.intp, pointers, types.intp, dtypes, count, working), codegen


def _plain_flush(arrays: Any, index: Any, pieces: Any, at: Any, dtype: Any, count: Any, working: Any) -> None:
    for array, piece in zip(arrays, pieces, strict=True):
        array[index : index + count] = piece[at : at + count]


@intrinsic(prefer_literal=True, plain=_plain_flush)
def flush(typing: Any, pointers: Any, index: Any, pieces: Any, at: Any, dtype: Any, count: Any, working: Any) -> Any:
    """Write ``count`` of a thread's own numbers, from ``at`` on, of each piece to an array of its own, from ``index`` on."""
    name, number = dtype.literal_value, count.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position in range(len(pieces)):
            place = address(builder, builder.extract_value(args[0], position), args[1], LOADS[name][0])
            source = _own(builder, args[2], position, args[3], working)
            _write_items(builder, builder.bitcast(place, _BYTES), source, name, number)
        return context.get_dummy_value()

    return types.void(pointers, types.intp, pieces, types.intp, dtype, count, working), codegen


def _zero_items(builder: Any, to: Any, name: str, count: int) -> None:
    for place, kind, word in _chunks(count * ITEMSIZE[name], ITEMSIZE[name]):
        at = builder.bitcast(builder.gep(to, [_I64(place)]), kind.as_pointer())
        builder.store(ir.Constant(kind, None), at, align=word * getattr(kind, "count", 1))


def _plain_clear(arrays: Any, index: Any, dtype: Any, count: Any) -> None:
    for array in arrays:
        array[index : index + count] = 0


@intrinsic(prefer_literal=True, plain=_plain_clear)
def clear(typing: Any, pointers: Any, index: Any, dtype: Any, count: Any) -> Any:
    """Write ``count`` zeros to each array from ``index`` on."""
    name, number = dtype.literal_value, count.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for position in range(len(pointers)):
            place = address(builder, builder.extract_value(args[0], position), args[1], LOADS[name][0])
            _zero_items(builder, builder.bitcast(place, _BYTES), name, number)
        return context.get_dummy_value()

    return types.void(pointers, types.intp, dtype, count), codegen


def _within(builder: Any, first: Any, columns: Any, kept: int, reach: int) -> Iterator[tuple[int, Any]]:
    """Code for each vector of a row that is kept, executed if the row is long enough: yields the vector's number and its column."""
    for number in range(kept):
        column = builder.add(first, _I64(number * reach))
        with builder.if_then(builder.icmp_signed("<", column, columns)):
            yield number, column


def _plain_fetch_row(
    to: Any,
    arrays: Any,
    base: Any,
    first: Any,
    columns: Any,
    dtypes: Any,
    own: Any,
    count: Any,
    kept: Any,
    reach: Any,
    working: Any,
) -> None:
    for number in range(kept):
        if first + number * reach < columns:
            _plain_fetch(to, number * count, arrays, base + first + number * reach, dtypes, count, working)


@intrinsic(prefer_literal=True, plain=_plain_fetch_row)
def fetch_row(
    typing: Any,
    to: Any,
    pointers: Any,
    base: Any,
    first: Any,
    columns: Any,
    dtypes: Any,
    own: Any,
    count: Any,
    kept: Any,
    reach: Any,
    working: Any,
) -> Any:
    """Read the part of a row that a thread keeps: ``kept`` vectors, ``reach`` apart, from its ``first`` column on.

    They are kept in the ``own`` dtypes: that of the working precision, or their own if these are half types. All loads are issued
    before any is waited for. This and the next are one function for all vectors, since every function that numba compiles adds to
    the compile time of a kernel.
    """
    names, width = list(zip(*([one.literal_value for one in kinds] for kinds in (dtypes, own)), strict=True)), count.literal_value
    vectors, distance = kept.literal_value, reach.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for number, column in _within(builder, args[3], args[4], vectors, distance):
            for position, (name, kept_as) in enumerate(names):
                index, first = builder.add(args[2], column), _I64(number * width)
                source = address(builder, builder.extract_value(args[1], position), index, LOADS[name][0])
                if kept_as == name and ITEMSIZE[name] == 2:
                    place = address(builder, builder.extract_value(args[0], position), first, LOADS[name][0])
                    _keep_items(builder, builder.bitcast(source, _BYTES), builder.bitcast(place, _BYTES), name, width)
                else:
                    place = _own(builder, args[0], position, first, working)
                    _read_items(builder, builder.bitcast(source, _BYTES), place, name, width)
        return context.get_dummy_value()

    return types.void(to, pointers, types.intp, types.intp, types.intp, dtypes, own, count, kept, reach, working), codegen


def _plain_clear_row(arrays: Any, base: Any, first: Any, columns: Any, dtype: Any, count: Any, kept: Any, reach: Any) -> None:
    for number in range(kept):
        if first + number * reach < columns:
            _plain_clear(arrays, base + first + number * reach, dtype, count)


@intrinsic(prefer_literal=True, plain=_plain_clear_row)
def clear_row(
    typing: Any, pointers: Any, base: Any, first: Any, columns: Any, dtype: Any, count: Any, kept: Any, reach: Any
) -> Any:
    """Write zeros to the part of a row that a thread keeps."""
    name, width, vectors, distance = (one.literal_value for one in (dtype, count, kept, reach))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for _, column in _within(builder, args[2], args[3], vectors, distance):
            for position in range(len(pointers)):
                index = builder.add(args[1], column)
                place = address(builder, builder.extract_value(args[0], position), index, LOADS[name][0])
                _zero_items(builder, builder.bitcast(place, _BYTES), name, width)
        return context.get_dummy_value()

    return types.void(pointers, types.intp, types.intp, types.intp, dtype, count, kept, reach), codegen


def _plain_expand(numbers: Any, kinds: Any, working: Any) -> tuple[Any, ...]:
    left = iter(numbers)
    constants = {"0": None, "T": True, "F": False, "z": working(0.0)}
    return tuple(next(left) if letter == "n" else constants[letter] for letter in kinds)


@intrinsic(prefer_literal=True, plain=_plain_expand)
def expand(typing: Any, numbers: Any, kinds: Any, working: Any) -> Any:
    """The parameters of a call, a letter each: ``n`` the next of the numbers, ``0`` None, ``T`` and ``F`` switches, ``z`` 0."""
    letters = kinds.literal_value
    known = {"n": working.dtype, "z": working.dtype, "0": types.none}
    result = types.Tuple([known.get(letter, types.boolean) for letter in letters])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = iter(range(len(numbers)))
        values = []
        for letter in letters:
            if letter == "n":
                values.append(builder.extract_value(args[0], next(left)))
            elif letter == "z":
                values.append(context.get_constant(working.dtype, 0.0))
            elif letter == "0":
                values.append(context.get_dummy_value())
            else:
                values.append(context.get_constant(types.boolean, letter == "T"))
        return context.make_tuple(builder, result, values)

    return result(numbers, kinds, working), codegen


@intrinsic(prefer_literal=True, plain=lambda array, index, dtype: np.int64(array[index]))
def integer(typing: Any, pointer: Any, index: Any, dtype: Any) -> Any:
    """An element of an array of integers or bools, as int64."""
    kind = LOADS[dtype.literal_value][0]
    signed = not dtype.literal_value.startswith(("u", "b"))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.load(address(builder, args[0], args[1], kind), align=kind.width // 8)
        return stored if kind.width == 64 else builder.sext(stored, _I64) if signed else builder.zext(stored, _I64)

    return types.int64(types.voidptr, types.intp, dtype), codegen


@intrinsic(plain=lambda value: value)
def opaque(typing: Any, value: Any) -> Any:
    """The number itself, computed here: LLVM would sink a conversion from float64 into the loop that uses it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, letter = args[0].type, "f" if value == types.float32 else "d"
        code = f"mov.{'f32' if value == types.float32 else 'f64'} $0, $1;"
        asm = ir.InlineAsm(ir.FunctionType(kind, [kind]), code, f"={letter},{letter}", side_effect=True)
        return builder.call(asm, [args[0]])

    return value(value), codegen


def _plain_repeated(step: Any, count: int, state: Any, place: int, column: int, rest: Any, places: int, columns: int) -> Any:
    for number in range(count):
        state = step(state, place + number * places, column + number * columns, rest)
    return state


@intrinsic(prefer_literal=True, plain=_plain_repeated)
def repeated(
    typing: Any, step: Any, count: Any, state: Any, place: Any, column: Any, rest: Any, places: Any, columns: Any
) -> Any:
    """The state after ``count`` steps, unrolled: what is indexed by constants stays in registers.

    A step maps ``(state, place, column, rest)`` to the new state; ``places`` and ``columns`` are the increments to the next step.
    """
    wanted = step.get_call_type(typing, (state, types.int64, types.int64, rest), {})
    number, apart = count.literal_value, (places.literal_value, columns.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function, now = context.get_function(step, wanted), args[2]
        for which in range(number):
            place, column = (builder.add(first, _I64(which * one)) for first, one in zip(args[3:5], apart, strict=True))
            now = context.cast(builder, function(builder, [now, place, column, args[5]]), wanted.return_type, state)
        return now

    return state(step, count, state, types.int64, types.int64, rest, places, columns), codegen


for _one in (local, fetch, fetch_row, flush, clear, clear_row, integer, expand, opaque, repeated):
    teach_intrinsic(_one)
