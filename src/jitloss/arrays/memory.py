"""Memory on CUDA devices, as the CUDA array interface and DLPack describe it, and the streams that produce it."""

import math
import numbers
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contexts import is_current

__all__ = [
    "BFLOAT16",
    "DEFAULT",
    "DeviceArray",
    "Held",
    "by_dlpack",
    "by_interface",
    "current",
    "device_of",
    "extent_of",
    "handle_of",
    "interface_of",
    "read",
    "wait",
]


@dataclass(frozen=True)
class _BFloat16:
    """A dtype that NumPy does not have."""

    name: str = "bfloat16"
    kind: str = "V"
    itemsize: int = 2


BFLOAT16 = _BFloat16()


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array of any library, described for kernels."""

    pointer: int
    shape: tuple[int, ...]
    dtype: Any
    device: int
    contiguous: bool
    writable: bool
    value: Any
    held: Any = None
    """What owns the memory, where that is not the array itself."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * int(self.dtype.itemsize)


def device_of(pointer: int) -> int:
    """The device that memory belongs to."""
    from cuda.bindings import driver

    asked = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, device = driver.cuPointerGetAttribute(asked, pointer)
    return int(device) if error == driver.CUresult.CUDA_SUCCESS else 0


def current(device: int) -> AbstractContextManager[Any]:
    """Within it, a device is current in the thread.

    Numba is not asked which one is: in a thread without a current device, it would make that device 0.
    """
    from numba import cuda

    own: AbstractContextManager[Any] = nullcontext() if is_current(device) else cuda.gpus[device]
    return own


DEFAULT = 1
"""The (legacy) default stream of a device, by its number in the protocols."""


def handle_of(given: Any, attribute: str) -> int:
    """A stream as a number: given as one, or found by a library's own attribute or the CUDA stream protocol."""
    if hasattr(given, attribute):
        given = getattr(given, attribute)
    elif hasattr(given, "__cuda_stream__"):
        given = given.__cuda_stream__()[1]
    given = getattr(given, "value", given)  # ctypes, where it is None for the default stream
    if given is None:
        return 0
    if isinstance(given, (bool, np.bool_, str)) or (
        isinstance(given, numbers.Number) and not isinstance(given, numbers.Integral)
    ):
        raise TypeError("no stream")
    handle = int(given)
    if handle < 0:
        raise ValueError("must be a stream, or its handle as an integer that is not negative")
    return handle


def wait(first: int | None, then: int, device: int) -> None:
    """Make a stream of a device wait for the work queued so far on another one, if there is another one."""
    if first is None or (first or DEFAULT) == (then or DEFAULT):
        return
    from cuda.bindings import driver

    with current(device):
        error, event = driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        if not error:
            (error,) = driver.cuEventRecord(event, first)
            if not error:
                (error,) = driver.cuStreamWaitEvent(then, event, 0)
            driver.cuEventDestroy(event)
    if error:
        raise ValueError(f"names the stream {first}, which cannot be waited for: {driver.cuGetErrorName(error)[1].decode()}")


def read(array: Any, stream: int) -> np.ndarray:
    """The values of a numba device array on the host, ordered on a stream of the current device."""
    from numba import cuda

    own = cuda.external_stream(stream or DEFAULT)
    copied: np.ndarray = array.copy_to_host(stream=own)
    own.synchronize()
    return copied


class Held(int):
    """The address of an array, which keeps the memory alive."""

    view: DeviceArray

    @classmethod
    def by(cls, view: DeviceArray) -> "Held":
        address = cls(view.pointer)
        address.view = view
        return address


def extent_of(pointer: int, shape: Iterable[int], strides: Iterable[int], itemsize: int) -> tuple[int, int]:
    steps = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    if any(length == 0 for length in shape):
        return pointer, pointer
    return pointer + sum(step for step in steps if step < 0), pointer + sum(step for step in steps if step > 0) + itemsize


def interface_of(value: Any) -> dict[str, Any]:
    """The CUDA array interface of an array; empty where it has none."""
    return getattr(value, "__cuda_array_interface__", None) or {}


def by_interface(value: Any, interface: dict[str, Any]) -> DeviceArray:
    missing = [name for name in ("shape", "typestr", "data") if name not in interface]
    if missing:
        raise TypeError(f"its __cuda_array_interface__ has no {missing[0]!r}")
    if interface.get("mask") is not None:
        raise TypeError("a masked array: its mask would be lost. Give sample_weight=~mask instead")
    shape, dtype, strides = tuple(interface["shape"]), np.dtype(interface["typestr"]), interface.get("strides")
    pointer, read_only = interface["data"]
    if dtype.kind == "V" and dtype.itemsize == 2:
        dtype = BFLOAT16
    contiguous, address = _is_c(shape, strides, dtype.itemsize), int(pointer or 0)
    return DeviceArray(address, shape, dtype, device_of(address), contiguous, not read_only, value)


class _Export:
    """Keeps a DLPack export alive, and describes it by the CUDA array interface."""

    def __init__(self, view: Any) -> None:
        self.view = view  # its lifetime is that of the memory
        strides = None if view.strides is None else tuple(step * view.dtype.itemsize for step in view.strides)
        self.__cuda_array_interface__ = {
            "shape": tuple(view.shape),
            "typestr": view.dtype.str,
            "strides": strides,
            "data": (int(view.ptr), bool(view.readonly)),
            "version": 3,
        }


_NO_SYNC = -1
"""The stream argument of DLPack for a consumer that needs no synchronisation."""


def by_dlpack(value: Any, stream: int | None) -> DeviceArray:
    """The view of an array for use on a stream, or only for inspection."""
    from cuda.core.utils import StridedMemoryView

    view = StridedMemoryView.from_dlpack(value, stream_ptr=_NO_SYNC if stream is None else stream or DEFAULT)
    export = _Export(view)
    strides = export.__cuda_array_interface__["strides"]
    contiguous = _is_c(view.shape, strides, view.dtype.itemsize)
    return DeviceArray(
        int(view.ptr), tuple(view.shape), view.dtype, int(view.device_id), contiguous, not view.readonly, value, export
    )


def _is_c(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> bool:
    if strides is None or 0 in shape:
        return True
    step = itemsize
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != step:
            return False
        step *= length
    return True
