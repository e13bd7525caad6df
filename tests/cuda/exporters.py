"""Arrays of unknown libraries, in the memory of the emulator: what they export through each protocol."""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from imagined import Array, _Launch, imagined_device
from jitloss.arrays import cuda as libraries
from jitloss.arrays import memory as protocols

__all__ = ["Exporter", "Named", "unknown_arrays"]

EVENTS: list[Any] = []
"""What has happened, in order."""


class Named:
    """An array with the CUDA array interface; entries of ``said`` replace the usual ones, and None removes one."""

    def __init__(self, array: np.ndarray, offset: int = 0, without: str = "", **said: Any) -> None:
        self.held, self.said, self.without = Array(array, offset), said, without

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        held = self.held
        usual = {"shape": held.shape, "typestr": held.dtype.str, "data": (held.address, False), "version": 3}
        return {name: value for name, value in (usual | self.said).items() if name != self.without}

    def numpy(self) -> np.ndarray:
        return self.held.numpy().copy()


# DLPack, as its header has it ---------------------------------------------------------------------------------------------------


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _Type(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    pass


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER)]

_capsule: Callable[..., Any] = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)

CUDA, MANAGED, FLOAT = 2, 13, 2

_HANDED_OUT: dict[int, list[Any]] = {}
"""What descriptions of memory are made of, by where they lie; somebody may read one after its array has gone."""


class Exporter:
    """An array that only has DLPack; its memory lives as long as an exported capsule is held."""

    def __init__(self, array: np.ndarray, kind: int = CUDA, lanes: int = 1, refuses: Exception | None = None) -> None:
        self.array, self.kind, self.lanes, self.refuses = array, kind, lanes, refuses

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, stream: Any = None, **options: Any) -> Any:
        if self.refuses is not None:
            raise self.refuses
        EVENTS.append(("asked by", stream))
        held, dimensions = Array(self.array), self.array.ndim
        shape = (ctypes.c_int64 * dimensions)(*self.array.shape)
        code = {"i": 0, "u": 1, "f": FLOAT}[self.array.dtype.kind]
        dtype = _Type(code, 8 * self.array.dtype.itemsize, self.lanes)
        managed = _Managed(_Tensor(held.address, _Device(self.kind, 0), dimensions, dtype, shape, None, 0))
        place = ctypes.addressof(managed)

        def delete(_: Any) -> None:
            EVENTS.append("given back")
            _HANDED_OUT[place][0] = None  # the array's memory; the rest is still being read

        managed.deleter = _DELETER(delete)
        _HANDED_OUT[place] = [held, managed, shape, delete]
        return _capsule(place, b"dltensor", None)


# Calls on them ----------------------------------------------------------------------------------------------------------------


def _made(self: Any, like: Any, shape: tuple[int, ...], dtype: Any) -> Named:
    return Named(np.full(shape, np.nan, dtype))


def _waits(first: int | None, then: int, device: int) -> None:
    if first is not None and (first or 1) != (then or 1):
        EVENTS.append((then, "waits for", first))


_launch = _Launch.__call__


def _launched(self: Any, stream: int, *rest: Any) -> None:
    EVENTS.append(("launch on", stream))
    _launch(self, stream, *rest)


class _AsNumbas:
    """A stand-in for a numba device array that reads the memory of an interface."""

    def __init__(self, value: Any, sync: bool = True) -> None:
        said = value.__cuda_array_interface__
        strides = said.get("strides")
        assert not sync, "it has been ordered with a stream already"
        assert strides is None or len(strides) == len(said["shape"])
        self._address, self._shape, self._dtype = said["data"][0], said["shape"], np.dtype(said["typestr"])

    def copy_to_host(self, stream: Any) -> np.ndarray:
        from imagined import memory

        EVENTS.append(("read on", stream.number))
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        return memory.bytes_at(self._address, size).view(self._dtype).reshape(self._shape).copy()


class _Stream:
    def __init__(self, number: int) -> None:
        self.number = number

    def synchronize(self) -> None:
        EVENTS.append(("the host waits for", self.number))


def _uploaded(array: np.ndarray) -> Named:
    EVENTS.append("copied to the device")
    return Named(array)


@contextlib.contextmanager
def unknown_arrays() -> Iterator[list[Any]]:
    """Within it, kernels of calls on such arrays run in the emulator; yields a log of events."""
    EVENTS.clear()
    with (
        imagined_device(),
        mock.patch.multiple(libraries, wait=_waits, current=lambda device: contextlib.nullcontext()),
        mock.patch.object(protocols, "device_of", return_value=0),
        mock.patch.object(libraries.Library, "empty", _made),
        mock.patch.object(_Launch, "__call__", _launched),
        mock.patch.multiple("numba.cuda", as_cuda_array=_AsNumbas, external_stream=_Stream, to_device=_uploaded),
    ):
        yield EVENTS
