"""What launches on a CUDA device need: the compiler, addresses of arrays, and sums and tuples of results."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .arrays.cuda import DeviceArray, Library
from .inputs import dtype_name

__all__ = ["Address", "added", "compiler", "memory", "packed"]


@functools.cache
def compiler() -> Any:
    """The CUDA compiler, loaded when the first array on a device arrives."""
    from .compilers import cuda

    if not cuda.SIMULATED and cuda.device_count() == 0:
        raise RuntimeError("this array is on a CUDA device, but no device or no driver is found here")
    return cuda


class Address(int):
    """An address that remembers its array, so that a launch can be repeated with other arrays."""

    view: DeviceArray


def memory(library: Library, view: DeviceArray | None) -> Any:
    """What a kernel is given for an array: its address, or in the simulator the array itself, flattened."""
    if not compiler().SIMULATED:
        if view is None:
            return 0
        address = Address(view.pointer)
        address.view = view
        return address
    return None if view is None else library.to_host(view.value).reshape(-1)


MOST_ADDED = 256
"""Values that one kernel adds: so many pointers fit among its arguments."""


def added(library: Library, values: Sequence[Any], calls: Iterable[tuple[Any, Any]]) -> Any:
    """The sum of values on a device, added there in float64.

    ``calls`` are the calls that they come from: an array and the ``stream`` option of each.
    """
    views, calls = [library.view(one) for one in values], list(calls)
    stream = calls[0][1]
    on, *others = dict.fromkeys(library.stream(array, given) for array, given in calls)
    for one in others if len(views) > 1 else []:
        library.follow(on, one, views[0].device)
    while len(views) > 1:
        parts, rest = views[:MOST_ADDED], views[MOST_ADDED:]
        with library.on(stream, values[0]):
            total = library.view(library.empty(values[0], (), np.result_type(*(one.dtype for one in parts))))
        kernel = compiler().adding_kernel(tuple(dtype_name(one.dtype) for one in parts), dtype_name(total.dtype))
        pointers = tuple(memory(library, one) for one in parts)
        kernel(total.device, on, 1, pointers, memory(library, total))
        views = [total, *rest]
    return library.given_back(views[0].value, calls[0][0], stream)


def packed(pairs: Sequence[tuple[str, Any]], several: int) -> list[Any]:
    """The value, which has no name, then gradients and second derivatives: arrays, or dicts where there are ``several`` of each."""
    values, arrays = [one for name, one in pairs if not name], [pair for pair in pairs if pair[0]]
    if several == 1:
        return [*values, *(one for _, one in arrays)]
    return [*values, *(dict(arrays[start : start + several]) for start in range(0, len(arrays), several))]
