"""Arrays on CUDA devices: how those of each library are read, allocated and returned.

A library is imported only when one of its own arrays arrives. Known arrays are recognised by the names of their types; others by
the CUDA array interface or DLPack.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..keys import without_parameter
from .memory import (
    BFLOAT16,
    DEFAULT,
    DeviceArray,
    Held,
    by_dlpack,
    by_interface,
    current,
    device_of,
    extent_of,
    handle_of,
    interface_of,
    read,
    wait,
)

__all__ = ["BFLOAT16", "TORCH", "DeviceArray", "Library", "finder", "widened"]


class Library:
    """What the arrays of a library need; unless a subclass says otherwise, results are numba device arrays."""

    name = "arrays"

    def view(self, value: Any) -> DeviceArray:
        raise NotImplementedError

    def ordered(self, value: Any, stream: int) -> DeviceArray:
        """The view of an array for use on a stream, which first waits for the stream that the array names as its producer."""
        return self.view(value)

    def follow(self, stream: int, other: int, device: int) -> None:
        """Make a stream wait for another one on the same device."""
        wait(other, stream, device)

    def facts(self, value: Any, stream: int) -> tuple[tuple[Any, ...], int]:
        """Everything that selects a kernel, and the address, ready for use on the stream and found as fast as possible."""
        view = self.ordered(value, stream)
        return (view.shape, view.dtype, view.device, view.contiguous, view.writable), Held.by(view)

    def address(self, value: Any) -> int:
        """The address of an array that this library has allocated."""
        return self.view(value).pointer

    def extent(self, value: Any) -> tuple[int, int]:
        """The memory from the first element of an array to the end of the last, including any gaps."""
        view = self.view(value)
        return view.pointer, view.pointer + view.nbytes

    def maker(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Callable[[Any], Any]:
        """A function of an array that allocates others on the same device, like :meth:`empty`, but can be called repeatedly."""
        return lambda other: self.empty(other, shape, dtype)

    def contiguous(self, value: Any) -> Any:
        raise ValueError("must be C-contiguous: this type of array offers no copy")

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        from numba import cuda

        with self._beside(like):
            return cuda.device_array(shape, np.dtype(np.uint16) if dtype is BFLOAT16 else dtype)

    def _beside(self, like: Any) -> AbstractContextManager[Any]:
        """Within it, numba allocates arrays on the device of another array."""
        return current(self.view(like).device)

    def stream(self, like: Any, given: Any) -> int:
        """The stream to launch on: the given one, else the library's current one, or the one that the array names."""
        return handle_of(given, "handle")

    def on(self, given: Any, like: Any) -> AbstractContextManager[Any]:
        """Within it, the given stream is the library's current one, on which it allocates and copies."""
        return nullcontext()

    def to_host(self, value: Any, stream: int = 0) -> np.ndarray:
        """The numbers of an array, after all work queued on a stream; for libraries without a current stream."""
        raise NotImplementedError

    def from_host(self, array: np.ndarray, like: Any, stream: int = 0) -> Any:
        """A copy of an array on the device of another one, ready for use on a stream."""
        from numba import cuda

        device = self.view(like).device
        with current(device):
            made = cuda.to_device(array)
        wait(DEFAULT, stream, device)
        return made

    def given_back(self, value: Any, like: Any, given: Any) -> Any:
        """A result as the caller gets it, of a call on the stream that :meth:`stream` finds; never the caller's own ``out``."""
        return value


class _WithStreams(Library):
    """Arrays that name the stream that fills them, of libraries without a current stream; so do results, which are numba's."""

    def named(self, value: Any) -> Any:
        """The stream that an array names."""
        raise NotImplementedError

    def stream(self, like: Any, given: Any) -> int:
        return super().stream(like, self.named(like) if given is None else given)

    def given_back(self, value: Any, like: Any, given: Any) -> Any:
        own = self.named(like) if given is None else given
        handle = handle_of(own, "handle")
        if handle:
            value.stream = own if _is_numba_stream(own) else self._external(handle, own, like)
        return value

    def _external(self, handle: int, owner: Any, like: Any) -> Any:
        """A stream of numba's by its handle, which keeps the owner alive; numba wants a current device, any other would get a context."""
        from numba import cuda

        with self._beside(like):
            stream = cuda.external_stream(handle)
        stream.owner = owner
        return stream


def _is_numba_stream(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ == "Stream" and kind.__module__.partition(".")[0] == "numba"


class Unknown(_WithStreams):
    """Arrays of unknown libraries, with the CUDA array interface or DLPack."""

    name = "arrays with __cuda_array_interface__"

    def named(self, value: Any) -> Any:
        return interface_of(value).get("stream")

    def view(self, value: Any) -> DeviceArray:
        return self._exported(value, None)

    def ordered(self, value: Any, stream: int) -> DeviceArray:
        view = self._exported(value, stream)
        wait(self.named(value), stream, view.device)
        return view

    def _exported(self, value: Any, stream: int | None) -> DeviceArray:
        interface = interface_of(value)
        try:
            return by_interface(value, interface) if interface else by_dlpack(value, stream)
        except NotImplementedError as error:
            raise TypeError(str(error)) from None
        except BufferError as error:
            raise ValueError(str(error)) from None

    def to_host(self, value: Any, stream: int = 0) -> np.ndarray:
        from numba import cuda

        view = self.ordered(value, stream)
        with current(view.device):
            array = read(cuda.as_cuda_array(view.held or value, sync=False), stream)
        return widened(array) if array.dtype.kind == "V" and array.dtype.itemsize == 2 else array


class Numba(_WithStreams):
    name = "numba device arrays"

    def named(self, value: Any) -> Any:
        return value.stream

    def view(self, value: Any) -> DeviceArray:
        pointer = int(value.device_ctypes_pointer.value or 0)
        return DeviceArray(
            pointer, tuple(value.shape), value.dtype, device_of(pointer), bool(value.is_c_contiguous()), True, value
        )

    def ordered(self, value: Any, stream: int) -> DeviceArray:
        view = self.view(value)
        wait(handle_of(self.named(value), "handle") or None, stream, view.device)
        return view

    def to_host(self, value: Any, stream: int = 0) -> np.ndarray:
        with current(self.ordered(value, stream).device):
            return read(value, stream)

    def contiguous(self, value: Any) -> Any:
        raise ValueError("must be C-contiguous: numba's device arrays offer no copy that is")


class Simulated(Numba):
    """Arrays of numba's simulator, which are in host memory."""

    name = "numba's simulated device arrays"

    def stream(self, like: Any, given: Any) -> int:
        return 0

    def given_back(self, value: Any, like: Any, given: Any) -> Any:
        return value

    def ordered(self, value: Any, stream: int) -> DeviceArray:
        return self.view(value)

    def view(self, value: Any) -> DeviceArray:
        array = value._ary
        pointer = array.__array_interface__["data"][0]
        return DeviceArray(pointer, array.shape, array.dtype, 0, array.flags.c_contiguous, array.flags.writeable, value)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        from numba import cuda

        return cuda.to_device(np.full(shape, np.nan, dtype))  # so that elements that are never written show

    def to_host(self, value: Any, stream: int = 0) -> np.ndarray:
        array: np.ndarray = value._ary
        return array

    def from_host(self, array: np.ndarray, like: Any, stream: int = 0) -> Any:
        from numba import cuda

        return cuda.to_device(array)


@dataclass(frozen=True)
class _Handle:
    """A foreign stream in the form of the CUDA stream protocol."""

    number: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.number


class CuPy(Library):
    name = "CuPy arrays"

    def view(self, value: Any) -> DeviceArray:
        dtype = BFLOAT16 if value.dtype.name == "bfloat16" else value.dtype
        return DeviceArray(value.data.ptr, value.shape, dtype, value.device.id, value.flags.c_contiguous, True, value)

    def facts(self, value: Any, stream: int) -> tuple[tuple[Any, ...], int]:
        memory = value.data
        return (value.shape, value.dtype, memory.device_id, value.flags.c_contiguous), memory.ptr

    def address(self, value: Any) -> int:
        return int(value.data.ptr)

    def extent(self, value: Any) -> tuple[int, int]:
        return extent_of(int(value.data.ptr), value.shape, value.strides, value.itemsize)

    def contiguous(self, value: Any) -> Any:
        import cupy

        with value.device:
            return cupy.ascontiguousarray(value)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        import cupy

        with like.device:
            return cupy.empty(shape, like.dtype if dtype is BFLOAT16 else dtype)

    def stream(self, like: Any, given: Any) -> int:
        if given is not None:
            return handle_of(given, "ptr")
        import cupy

        return int(cupy.cuda.get_current_stream(like.data.device_id).ptr)

    def on(self, given: Any, like: Any) -> AbstractContextManager[Any]:
        return nullcontext() if given is None else self._on(given, like)

    @contextmanager
    def _on(self, given: Any, like: Any) -> Iterator[None]:
        """CuPy must enter a stream while its device is current."""
        import cupy

        with like.device:
            stream: AbstractContextManager[Any]
            if isinstance(given, cupy.cuda.Stream):
                stream = given
            elif hasattr(cupy.cuda.Stream, "from_external"):  # of CuPy 14, where the older way is deprecated
                stream = cupy.cuda.Stream.from_external(_Handle(self.stream(like, given)))
            else:
                stream = cupy.cuda.ExternalStream(self.stream(like, given), like.device.id)
            with stream:
                yield

    def to_host(self, value: Any, stream: int = 0) -> np.ndarray:
        array: np.ndarray = value.get()
        return array

    def from_host(self, array: np.ndarray, like: Any, stream: int = 0) -> Any:
        import cupy

        with like.device:
            return cupy.asarray(array)


class Torch(Library):
    name = "PyTorch CUDA tensors"

    def view(self, value: Any) -> DeviceArray:
        layout = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        if layout != "strided":
            raise TypeError(f"a tensor must be dense, got one that is {layout}")
        name = str(value.dtype).removeprefix("torch.")
        dtype = BFLOAT16 if name == "bfloat16" else np.dtype(name)
        as_it_lies = value.is_contiguous() and not value.is_neg()
        return DeviceArray(value.data_ptr(), tuple(value.shape), dtype, value.get_device(), as_it_lies, True, value)

    def facts(self, value: Any, stream: int) -> tuple[tuple[Any, ...], int]:
        as_it_lies = value.is_contiguous() and not value.is_neg()
        return (value.shape, value.dtype, value.get_device(), as_it_lies), value.data_ptr()

    def address(self, value: Any) -> int:
        return int(value.data_ptr())

    def extent(self, value: Any) -> tuple[int, int]:
        view, size = self.view(value), value.element_size()
        return extent_of(view.pointer, view.shape, [step * size for step in value.stride()], size)

    def contiguous(self, value: Any) -> Any:
        return value.resolve_neg().contiguous()  # a lazily negated tensor

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        import torch

        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)

    def maker(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Callable[[Any], Any]:
        import torch

        kind, device, empty = getattr(torch, dtype.name), like.device, torch.empty
        if shape == like.shape and kind is like.dtype and like.is_contiguous():  # then all later ones are too
            alike: Callable[[Any], Any] = torch.empty_like
            return alike
        return lambda other: empty(shape, dtype=kind, device=device)

    def stream(self, like: Any, given: Any) -> int:
        if given is not None:
            return handle_of(given, "cuda_stream")
        return int(_raw_stream()(like.get_device()))

    def on(self, given: Any, like: Any) -> AbstractContextManager[Any]:
        if given is None:
            return nullcontext()
        import torch

        stream = torch.cuda.ExternalStream(self.stream(like, given), device=like.device)
        entered: AbstractContextManager[Any] = torch.cuda.stream(stream)
        return entered

    def to_host(self, value: Any, stream: int = 0) -> np.ndarray:
        value = value.detach().resolve_neg()
        array: np.ndarray = (value.float() if value.dtype.itemsize == 2 and value.is_floating_point() else value).cpu().numpy()
        return array

    def from_host(self, array: np.ndarray, like: Any, stream: int = 0) -> Any:
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)


class Jax(Library):
    """JAX does not expose its streams: a call waits for its inputs, and for its results before they are returned."""

    name = "JAX GPU arrays"

    def view(self, value: Any) -> DeviceArray:
        dtype = BFLOAT16 if value.dtype.name == "bfloat16" else value.dtype
        device = next(iter(value.block_until_ready().devices()))
        pointer = int(value.unsafe_buffer_pointer())
        return DeviceArray(pointer, value.shape, dtype, int(device.local_hardware_id or 0), True, False, value)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        import jax.numpy as jnp

        with _in_64_bits():
            return jnp.empty(shape, dtype.name, device=next(iter(like.devices()))).block_until_ready()

    def stream(self, like: Any, given: Any) -> int:
        if given is not None:
            raise ValueError("is not for JAX arrays, whose streams are not exposed")
        return 0

    def given_back(self, value: Any, like: Any, given: Any) -> Any:
        self._finish(value)
        return value

    def _finish(self, value: Any) -> None:
        """Wait for launches on the device of an array: each device has a default stream of its own."""
        from cuda.core import LEGACY_DEFAULT_STREAM

        with self._beside(value):
            LEGACY_DEFAULT_STREAM.sync()

    def to_host(self, value: Any, stream: int = 0) -> np.ndarray:
        self._finish(value)
        return np.asarray(value)

    def from_host(self, array: np.ndarray, like: Any, stream: int = 0) -> Any:
        import jax

        with _in_64_bits():
            return jax.device_put(array, next(iter(like.devices()))).block_until_ready()


def _in_64_bits() -> AbstractContextManager[Any]:
    """Within it JAX allocates float64 arrays, which kernels need for sums, whatever its own default is."""
    import jax
    import jax.experimental

    home = jax if hasattr(jax, "enable_x64") else jax.experimental  # its place in older versions of JAX
    own: AbstractContextManager[Any] = home.enable_x64(True)
    return own


def widened(array: np.ndarray) -> np.ndarray:
    """bfloat16 elements, stored as 16-bit words, as float32 numbers."""
    numbers: np.ndarray = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return numbers


@functools.cache
def _raw_stream() -> Callable[[int], int]:
    """Torch's current stream of a device as a number: by the function that its own compiler's code uses, else by the public API."""
    import torch

    quick: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return quick or (lambda device: torch.cuda.current_stream(device).cuda_stream)


_UNKNOWN, _NUMBA, _SIMULATED, _CUPY, TORCH, _JAX = Unknown(), Numba(), Simulated(), CuPy(), Torch(), Jax()

Find = Callable[[Any], "Library | None"]


def _jax_on_gpu(value: Any) -> Library | None:
    return _JAX if all(device.platform in ("gpu", "cuda") for device in value.devices()) else None


_CUDA, _CUDA_MANAGED = 2, 13
"""DLPack's device types for memory that kernels can access."""


def _by_protocol(value: Any) -> Library | None:
    """The library by the array itself: arrays of one type may be on the host or on a device."""
    try:
        if getattr(value, "__cuda_array_interface__", None) is not None:
            return _UNKNOWN
    except Exception:  # on a device, but not exported; reading it raises the reason
        return _UNKNOWN
    try:
        return _UNKNOWN if int(value.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED) else None
    except Exception:  # what cannot tell its device is on the host
        return None


_BY_NAME: dict[str, Find] = {
    "numba.DeviceNDArray": lambda value: _NUMBA,
    "numba.FakeCUDAArray": lambda value: _SIMULATED,
    "cupy.ndarray": lambda value: _CUPY,
    "torch.Tensor": lambda value: TORCH if value.is_cuda else None,
    "jaxlib.ArrayImpl": _jax_on_gpu,
    "jaxlib.Array": _jax_on_gpu,
}


def finder(kind: type) -> Find | None:
    """How the library of arrays of a type is found; None where they are never on a device."""
    kind = without_parameter(kind)
    for base in kind.__mro__:
        named = _BY_NAME.get(f"{base.__module__.partition('.')[0]}.{base.__name__}")
        if named is not None:
            return named
    return _by_protocol if hasattr(kind, "__cuda_array_interface__") or hasattr(kind, "__dlpack_device__") else None
