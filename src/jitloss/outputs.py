"""Where gradients go: new arrays, or the caller's ``out`` once it has been checked."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .buffers import empty
from .definition import Definition
from .order import Order
from .registry import array_type

__all__ = ["Outputs", "by_name", "check_apart", "is_map", "leaves", "pair_of", "take"]


class Outputs:
    """The arrays that a kernel writes, and what the caller gets for each: the same array, or the caller's own to copy into.

    A kernel writes in the memory ``order``, if one is given.
    """

    def __init__(self, names: list[str], order: Order | None = None) -> None:
        self.names, self.order = names, order
        self.written: list[np.ndarray] = []
        self.returned: list[np.ndarray] = []
        self.copied: list[bool] = []

    def new(self, like: np.ndarray, dtype: np.dtype[Any]) -> None:
        """Add a new array shaped like an input that the kernel reads; the kernel writes ``dtype``."""
        written = empty(like.shape, dtype)
        copied = like.dtype != dtype
        self._add(written, self._outwards(empty(like.shape, like.dtype) if copied else written), copied)

    def take(self, mine: np.ndarray, dtype: np.dtype[Any]) -> None:
        """Add the caller's array, which is written directly if the kernel can do so."""
        inwards = mine if self.order is None else self.order.inwards(mine)
        direct = inwards.flags.c_contiguous and inwards.flags.aligned and inwards.dtype == dtype
        self._add(inwards if direct else empty(inwards.shape, dtype), mine, not direct)

    def _add(self, written: np.ndarray, returned: np.ndarray, copied: bool) -> None:
        self.written.append(written)
        self.returned.append(returned)
        self.copied.append(copied)

    def _outwards(self, array: np.ndarray) -> np.ndarray:
        return array if self.order is None else self.order.outwards(array)

    def overwrites(self, array: np.ndarray) -> bool:
        """Whether an input is written in place."""
        return any(_is_same(written, array) for written in self.written)

    def finish(self) -> Any:
        """Copy what must be copied; returns an array for one input, a dict for several."""
        for written, returned, copied in zip(self.written, self.returned, self.copied, strict=True):
            if copied:
                with np.errstate(over="ignore"):  # as when a kernel stores
                    returned[...] = self._outwards(written)
        return self.returned[0] if len(self.names) == 1 else dict(zip(self.names, self.returned, strict=True))


def take(
    definition: Definition,
    out: Any,
    dtype: np.dtype[Any],
    arrays: Mapping[str, np.ndarray],
    originals: Mapping[str, np.ndarray],
    others: list[tuple[str, np.ndarray]],
    order: Order | None = None,
) -> Outputs:
    """The outputs for the differentiable inputs, new or the caller's ``out``.

    They have the shapes of ``arrays``, which the kernel reads in the memory ``order``, whatever ``dtype`` it writes. They may
    share no memory with the ``originals``, except an output with its own input, nor with ``others``, which messages name.
    """
    names = [one.name for one in definition.differentiable]
    outputs = Outputs(names, order)
    given = by_name(definition, out, names)
    for name in names:
        like = arrays[name]
        if given is None:
            outputs.new(like, dtype)
            continue
        mine = given[name]
        _check(definition, mine, originals[name].shape, like.dtype, name)
        before = [(f"out of {other}", array) for other, array in zip(names, outputs.returned, strict=False)]
        for other, array in [*originals.items(), *others, *before]:
            if not (other == name and _is_same(mine, array)) and _overlap(mine, array):
                what = _public(definition, other) if other in originals else other
                raise ValueError(
                    f"{definition.name}: out overlaps another array of the call; it may be {_public(definition, name)} itself, "
                    f"and nothing else; this one overlaps {what}"
                )
        outputs.take(mine, dtype)
    return outputs


def pair_of(out: Any, owner: str, of: str = "arrays") -> tuple[Any, Any]:
    """``out`` as a pair, for the gradient and for the second derivative; without ``out``, a pair of None."""
    if out is None:
        return None, None
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(
            f"{owner}: out must be a pair of {of}, for the gradient and the second derivative, got {type(out).__name__}"
        )
    return out


def by_name(definition: Definition, out: Any, names: list[str]) -> Mapping[str, Any] | None:
    """``out`` as a dict with an array for each name; None where there is none."""
    if out is None:
        return None
    if len(names) == 1:
        return {names[0]: out}
    if not isinstance(out, Mapping):
        raise TypeError(f"{definition.name}: out must be a dict with the arrays {', '.join(names)}, got {type(out).__name__}")
    if set(out) != set(names):
        raise ValueError(
            f"{definition.name}: out must hold exactly {', '.join(names)}, got {', '.join(map(str, out)) or 'nothing'}"
        )
    return out


def _public(definition: Definition, name: str) -> str:
    return next(one.public for one in definition.inputs if one.name == name)


def _check(definition: Definition, mine: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    if not isinstance(mine, np.ndarray):
        raise TypeError(f"{definition.name}: out must be a NumPy array, got {type(mine).__module__}.{type(mine).__qualname__}")
    if type(mine) is not np.ndarray:
        array_type(mine, definition.name, "out").read(mine, definition.name, "out")  # not an input, so not an output
    public = _public(definition, name)
    if mine.shape != shape:
        raise ValueError(f"{definition.name}: out must have the shape of {public}, {shape}, got {mine.shape}")
    if mine.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise ValueError(f"{definition.name}: out must have the dtype of the gradient of {public}, {dtype}, got {mine.dtype}")
    if not mine.flags.writeable:
        raise ValueError(f"{definition.name}: out must be writable, this array is read-only")
    if _overlaps_itself(mine):
        raise ValueError(f"{definition.name}: out has elements that overlap each other, with the strides {mine.strides}")


def _overlaps_itself(array: np.ndarray) -> bool:
    """Whether elements may share memory: no slice of an array does that, only strides made by hand."""
    if array.flags.c_contiguous:
        return False
    reach = array.itemsize
    for stride, length in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if length > 1:
            if stride < reach:
                return True
            reach += stride * (length - 1)
    return False


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same elements at the same addresses, or maps of the same part of a file."""
    if one.shape != other.shape:
        return False
    if one.ctypes.data != other.ctypes.data and (_in_file(one) is None or _in_file(one) != _in_file(other)):
        return False
    steps = zip(one.shape, one.strides, other.strides, strict=True)
    return all(size == 1 or mine == its for size, mine, its in steps)  # the stride of an axis of length 1 is arbitrary


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether what is written to an array may show in another one."""
    try:
        shared = np.shares_memory(one, other, max_work=10_000)  # type: ignore[arg-type]  # NumPy's stubs allow two special values only
    except np.exceptions.TooHardError:
        return True
    if shared:
        return True
    mine, its = _in_file(one), _in_file(other, read=True)
    return mine is not None and its is not None and mine[0] == its[0] and mine[1] < its[2] and its[1] < mine[2]


def _in_file(array: np.ndarray, read: bool = False) -> tuple[str, int, int] | None:
    """The file that an array maps, and the byte range; None where it is not a map. Two maps of one file have different addresses.

    Writes to a copy-on-write map stay in it, but what is ``read`` from one may come from the file.
    """
    root: Any = array
    while isinstance(root, np.ndarray) and not (isinstance(root, np.memmap) and type(root.base).__name__ == "mmap"):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or (root.mode == "c" and not read):
        return None
    low, high = np.lib.array_utils.byte_bounds(array)
    start = int(root.offset) - root.ctypes.data
    return os.path.realpath(root.filename), low + start, high + start


def is_map(out: np.ndarray) -> bool:
    """Whether an output is a map of a file: another map of it has another address."""
    root: Any = out
    while type(root) is np.ndarray:
        root = root.base
    return isinstance(root, np.memmap)


def check_apart(owner: str, calls: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise where one call writes what another reads or writes: ``calls`` holds the inputs and ``out`` of each, in any nesting."""
    found = []
    for name, sides in calls.items():
        for is_out, side in enumerate(sides):
            arrays = [one for one in leaves(side) if isinstance(one, np.ndarray) and one.size]
            found += [(*np.lib.array_utils.byte_bounds(array), name, is_out, array) for array in arrays]
    found.sort(key=lambda one: one[:2])
    for place, (_, end, name, is_out, array) in enumerate(found):
        for start, _, other, other_is_out, another in found[place + 1 :]:
            if start >= end:
                break
            if is_out:
                _refuse_overlap(owner, name, array, other, another)
            elif other_is_out:
                _refuse_overlap(owner, other, another, name, array)
    maps = [(name, is_out, array) for _, _, name, is_out, array in found if is_map(array)]
    for name, is_out, array in maps:
        for other, _, another in maps if is_out else ():
            _refuse_overlap(owner, name, array, other, another)


def _refuse_overlap(owner: str, writer: str, out: np.ndarray, victim: str, array: np.ndarray) -> None:
    if writer != victim and _overlap(out, array):
        raise ValueError(f"{owner}: out of {writer} overlaps an array of {victim}; each may be its own input, and nothing else")


def leaves(value: Any) -> list[Any]:
    """The leaves of nested dicts and tuples, except None."""
    if type(value) is np.ndarray:
        return [value]
    nested = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else None
    if nested is None:
        return [] if value is None else [value]
    return [one for each in nested for one in leaves(each)]
