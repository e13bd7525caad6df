"""The arrays of a call: converted to what kernels can read, and checked against each other."""

import dataclasses
import functools
import math
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arrays.devices import library_of
from .definition import Definition, Input
from .order import Order
from .registry import ArrayType, array_type

if TYPE_CHECKING:
    from .arrays.cuda import Library

__all__ = [
    "Arrays",
    "Geometry",
    "check_dtype",
    "dtype_name",
    "geometry",
    "in_order",
    "library_of_call",
    "native",
    "one_library",
    "read",
    "working_dtype",
]

FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


@functools.cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name by which kernels know a dtype; ``float128``, ``object`` and the like keep theirs, and are rejected by it.

    Equal names must be the same object: the disk cache finds a kernel by the pickle of what it holds, which differs between one
    string used twice and two equal strings.
    """
    return sys.intern("bool" if dtype.kind == "b" else dtype.name)


def working_dtype(definition: Definition, dtypes: Iterable[str]) -> str:
    """The dtype of the arithmetic and of a value, from the dtypes of the inputs in order.

    It is float64 where any array of elements is, or where the differentiated input is integers; else float32. Inputs with one
    number per row have no influence.
    """
    for one, name in zip(definition.inputs, dtypes, strict=True):
        if not one.per_row and (name == "float64" or (one.differentiable and name in INTEGERS)):
            return "float64"
    return "float32"


def native(array: np.ndarray) -> np.ndarray:
    """The array itself where kernels can read it, else a copy: C order, native byte order, aligned."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.require(array, requirements=("C", "A"))


class Arrays(NamedTuple):
    """The inputs of a call as numeric arrays, as they were given, and the array type of the call's results."""

    arrays: dict[str, np.ndarray]
    originals: dict[str, np.ndarray]
    kind: ArrayType
    like: Any


def read(definition: Definition, arguments: Mapping[str, Any]) -> Arrays:
    """The inputs by element name, each with a dtype that a kernel can load."""
    arrays, originals, kinds = {}, {}, []
    for one in definition.inputs:
        value = arguments[one.public]
        kind = array_type(value, definition.name, one.public)
        originals[one.name] = array = kind.read(value, definition.name, one.public)
        arrays[one.name] = _readable(array, one, definition)
        kinds.append((kind, value))
    return Arrays(arrays, originals, *kinds[0])


def _readable(array: np.ndarray, one: Input, definition: Definition) -> np.ndarray:
    """The array, with integer predictions as float64 and bools that stand for signs as -1 and 1."""
    name = dtype_name(array.dtype)
    if name in FLOATS:
        return array
    check_dtype(array.dtype, one, definition)
    if name in INTEGERS and not _is_data(one):
        return array.astype(np.float64)
    if name == "bool" and one.space.name == "sign":
        signs = array.view(np.int8) * np.int8(2)
        signs -= np.int8(1)
        return signs
    return array


def check_dtype(dtype: np.dtype[Any], one: Input, definition: Definition) -> None:
    """Raise for a dtype that does not represent real numbers, and for bools that are not data."""
    name = dtype_name(dtype)
    if name in FLOATS or name in INTEGERS or (name == "bool" and _is_data(one)):
        return
    wanted = (
        "hold numbers or bools (float16, bfloat16, float32, float64, integers)"
        if _is_data(one)
        else "be float16, bfloat16, float32, float64 or integers"
    )
    raise TypeError(f"{definition.name}: {one.public} must {wanted}, got the dtype {dtype}")


def _is_data(one: Input) -> bool:
    """Whether an input is not differentiated."""
    return one.space.target or not one.differentiable


@dataclasses.dataclass(frozen=True, eq=False)
class Geometry:
    """The memory layout of the items: ``items`` is their shape; a row has ``columns`` elements along ``axis``, ``inner`` elements apart.

    Without rows there is no axis; otherwise it counts from 0.
    """

    shape: tuple[int, ...]
    items: tuple[int, ...]
    axis: int | None = None
    columns: int = 1
    inner: int = 1
    labels: bool = False

    @cached_property
    def count(self) -> int:
        return int(np.prod(self.items, dtype=np.int64))

    def of_items(self, definition: Definition) -> set[str]:
        """The inputs that have one number for each item, by their public names."""
        return {one.public for one in definition.inputs if one.per_row or (self.labels and one is definition.target)}


def geometry(definition: Definition, arrays: Mapping[str, np.ndarray], axis: Any) -> Geometry:
    """Check the shapes against each other: they must be equal, or the error names both."""
    elements = [one for one in definition.inputs if not one.per_row]
    first = elements[0]
    shape = arrays[first.name].shape
    if definition.form == "pointwise":
        for other in elements[1:]:
            _same(definition, first, shape, other, arrays[other.name].shape)
        return Geometry(shape, shape)
    place = _axis(definition, first, shape, axis)
    items = shape[:place] + shape[place + 1 :]
    labels = False
    for other in elements[1:]:
        given, may_be_labels = arrays[other.name], definition.takes_labels and other is definition.target
        if may_be_labels and given.ndim == len(items):
            labels = True
            _check_labels(definition, first, shape, items, other, given)
        else:
            _same(definition, first, shape, other, given.shape, items if may_be_labels else None)
    for other in definition.inputs:
        if other.per_row and arrays[other.name].shape != items:
            raise ValueError(
                f"{definition.name}: {other.public} must have one number per row, the shape {items} for {first.public} of the shape "
                f"{shape}; got {arrays[other.name].shape}"
            )
    inner = int(np.prod(shape[place + 1 :], dtype=np.int64))
    return Geometry(shape, items, place, shape[place], inner, labels)


def in_order(found: Geometry, order: Order) -> Geometry:
    """The same for arrays whose axes are taken in memory order."""
    shape = tuple(found.shape[one] for one in order.axes)
    if found.axis is None:
        return Geometry(shape, shape)
    return dataclasses.replace(found, shape=shape, axis=order.axis, inner=math.prod(shape[order.axis + 1 :]))


def _same(
    definition: Definition,
    first: Input,
    shape: tuple[int, ...],
    other: Input,
    given: tuple[int, ...],
    labels: tuple[int, ...] | None = None,
) -> None:
    if given != shape:
        wanted = f"{first.public} {shape} and {other.public} {given}"
        also = f", or integer labels of the shape {labels}" if labels is not None else ""
        raise ValueError(f"{definition.name}: {first.public} and {other.public} must have the same shape{also}; got {wanted}")


def _axis(definition: Definition, first: Input, shape: tuple[int, ...], axis: Any) -> int:
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"{definition.name}: axis must be an integer, got {axis!r}")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{definition.name}: axis {axis} is out of range for {first.public} of the shape {shape}")
    return int(axis) % len(shape)


def _check_labels(
    definition: Definition, first: Input, shape: tuple[int, ...], items: tuple[int, ...], other: Input, given: np.ndarray
) -> None:
    if given.shape != items:
        raise ValueError(
            f"{definition.name}: {other.public} must be integer labels of the shape {items} or have the shape of {first.public}, {shape}; "
            f"got {given.shape}"
        )
    if given.size and given.dtype.kind not in "iub":
        raise TypeError(
            f"{definition.name}: {other.public} of the shape {items} are class labels and must be integers or bools, got {given.dtype}; "
            f"a weight per class has the shape of {first.public}, {shape}"
        )


def library_of_call(definition: Definition, arguments: Mapping[str, Any]) -> "Library | None":
    """The device library of the inputs, None where all are on the host; raises where they are mixed."""
    given = [(one.public, arguments[one.public]) for one in definition.inputs if one.public in arguments]
    library = one_library(definition.name, given)
    if library is None:
        _refuse_weights_elsewhere(definition, arguments)
    return library


def one_library(owner: str, arrays: Iterable[tuple[str, Any]]) -> "Library | None":
    """The device library that all the named arrays belong to; None where all are on the host. Raises where they are mixed."""
    found = {name: library_of(one) for name, one in arrays}
    libraries = set(found.values())
    if len(libraries) > 1:
        sides = ", ".join(f"{name}: {'host memory' if one is None else one.name}" for name, one in found.items())
        raise TypeError(
            f"{owner}: the arrays of a call must be from one library, all on the host or all on a device; got {sides}"
        )
    return libraries.pop() if libraries else None


def _refuse_weights_elsewhere(definition: Definition, arguments: Mapping[str, Any]) -> None:
    """Raise for weights on a device with arrays on the host; weights on the host work with both."""
    for name in ("sample_weight", "class_weight"):
        library = library_of(arguments.get(name))
        if library is not None:
            raise TypeError(
                f"{definition.name}: the arrays of a call must be all on the host or all on a device; got {name}: {library.name}, "
                f"{definition.inputs[0].public}: host memory"
            )
