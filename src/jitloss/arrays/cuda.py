"""Arrays on CUDA devices: how each library's are read, made and given back.

A library is imported only by its own arrays' arrival. Its arrays are known by the names of their types; of others the CUDA array
interface and DLPack are asked.
"""

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["BFLOAT16", "TORCH", "DeviceArray", "Library", "finder", "widened"]


@dataclass(frozen=True)
class _BFloat16:
    """What NumPy has no dtype for."""

    name: str = "bfloat16"
    kind: str = "V"
    itemsize: int = 2


BFLOAT16 = _BFloat16()


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array of any library as kernels need it."""

    pointer: int
    shape: tuple[int, ...]
    dtype: Any
    device: int
    contiguous: bool
    writable: bool
    value: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * int(self.dtype.itemsize)


class Library:
    """Arrays with the CUDA array interface or DLPack, of a library that is not known: results are numba's device arrays."""

    name = "arrays with __cuda_array_interface__"

    def view(self, value: Any) -> DeviceArray:
        interface = getattr(value, "__cuda_array_interface__", None)
        return _by_dlpack(value) if interface is None else _by_interface(value, interface)

    def facts(self, value: Any) -> tuple[tuple[Any, ...], int]:
        """All that a kernel is chosen by, and the address, found as fast as they can be."""
        view = self.view(value)
        return (view.shape, view.dtype, view.device, view.contiguous, view.writable), view.pointer

    def address(self, value: Any) -> int:
        """Where an array lies, which this library has made."""
        return self.view(value).pointer

    def maker(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Callable[[Any], Any]:
        """A function of an array that makes others on the same device; it does the same as :meth:`empty`, again and again."""
        return lambda other: self.empty(other, shape, dtype)

    def contiguous(self, value: Any) -> Any:
        raise ValueError("must be C-contiguous: this type of array offers no copy")

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        from numba import cuda

        with self._beside(like):
            return cuda.device_array(shape, np.dtype(np.uint16) if dtype is BFLOAT16 else dtype)

    def _beside(self, like: Any) -> AbstractContextManager[Any]:
        """Within it, numba's arrays are made on the device of another array."""
        from numba import cuda

        device = self.view(like).device
        own: AbstractContextManager[Any] = nullcontext() if cuda.get_current_device().id == device else cuda.gpus[device]
        return own

    def stream(self, like: Any, given: Any) -> int:
        """The stream to launch on: the one that is given, else the library's current one, or the one that an interface names."""
        if given is None:
            given = getattr(like, "__cuda_array_interface__", {}).get("stream")
        handle = getattr(given, "handle", given)
        return 0 if handle is None else int(getattr(handle, "value", handle) or 0)

    def on(self, given: Any, like: Any) -> AbstractContextManager[Any]:
        """Within it, the library works on the stream that is given: what it allocates and copies is in the order of that stream."""
        return nullcontext()

    def to_host(self, value: Any) -> np.ndarray:
        from numba import cuda

        array: np.ndarray = cuda.as_cuda_array(value).copy_to_host()
        return widened(array) if array.dtype.kind == "V" and array.dtype.itemsize == 2 else array

    def from_host(self, array: np.ndarray, like: Any) -> Any:
        from numba import cuda

        with self._beside(like):
            return cuda.to_device(array)

    def given_back(self, value: Any, like: Any) -> Any:
        """A result in the caller's own type."""
        return value


class Numba(Library):
    name = "numba device arrays"

    def view(self, value: Any) -> DeviceArray:
        pointer = int(value.device_ctypes_pointer.value or 0)
        return DeviceArray(
            pointer, tuple(value.shape), value.dtype, _device_of(pointer), bool(value.is_c_contiguous()), True, value
        )

    def to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value.copy_to_host()
        return array

    def contiguous(self, value: Any) -> Any:
        raise ValueError("must be C-contiguous: numba's device arrays offer no copy that is")


class Simulated(Numba):
    """Arrays of numba's simulator, which lie on the host."""

    name = "numba's simulated device arrays"

    def _beside(self, like: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    def stream(self, like: Any, given: Any) -> int:
        return 0

    def view(self, value: Any) -> DeviceArray:
        array = value._ary
        pointer = array.__array_interface__["data"][0]
        return DeviceArray(pointer, array.shape, array.dtype, 0, array.flags.c_contiguous, array.flags.writeable, value)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        from numba import cuda

        return cuda.to_device(np.full(shape, np.nan, dtype))  # what nobody writes is seen

    def to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value._ary
        return array


@dataclass(frozen=True)
class _Handle:
    """A stream of somebody's as the protocol of streams wants it."""

    number: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.number


class CuPy(Library):
    name = "CuPy arrays"

    def view(self, value: Any) -> DeviceArray:
        dtype = BFLOAT16 if value.dtype.name == "bfloat16" else value.dtype
        return DeviceArray(value.data.ptr, value.shape, dtype, value.device.id, value.flags.c_contiguous, True, value)

    def facts(self, value: Any) -> tuple[tuple[Any, ...], int]:
        memory = value.data
        return (value.shape, value.dtype, memory.device_id, value.flags.c_contiguous), memory.ptr

    def address(self, value: Any) -> int:
        return int(value.data.ptr)

    def contiguous(self, value: Any) -> Any:
        import cupy

        return cupy.ascontiguousarray(value)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        import cupy

        with like.device:
            return cupy.empty(shape, like.dtype if dtype is BFLOAT16 else dtype)

    def stream(self, like: Any, given: Any) -> int:
        if given is not None:
            return int(getattr(given, "ptr", given))
        import cupy

        return int(cupy.cuda.get_current_stream().ptr)

    def on(self, given: Any, like: Any) -> AbstractContextManager[Any]:
        if given is None:
            return nullcontext()
        import cupy

        stream: AbstractContextManager[Any]
        if isinstance(given, cupy.cuda.Stream):
            stream = given
        elif hasattr(cupy.cuda.Stream, "from_external"):  # of CuPy 14, which warns of the other one
            stream = cupy.cuda.Stream.from_external(_Handle(self.stream(like, given)))
        else:
            stream = cupy.cuda.ExternalStream(self.stream(like, given), like.device.id)
        return stream

    def to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value.get()
        return array

    def from_host(self, array: np.ndarray, like: Any) -> Any:
        import cupy

        with like.device:
            return cupy.asarray(array)


class Torch(Library):
    name = "PyTorch CUDA tensors"

    def view(self, value: Any) -> DeviceArray:
        name = str(value.dtype).removeprefix("torch.")
        dtype = BFLOAT16 if name == "bfloat16" else np.dtype(name)
        return DeviceArray(value.data_ptr(), tuple(value.shape), dtype, value.get_device(), value.is_contiguous(), True, value)

    def facts(self, value: Any) -> tuple[tuple[Any, ...], int]:
        return (value.shape, value.dtype, value.get_device(), value.is_contiguous()), value.data_ptr()

    def address(self, value: Any) -> int:
        return int(value.data_ptr())

    def contiguous(self, value: Any) -> Any:
        return value.contiguous()

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        import torch

        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)

    def maker(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Callable[[Any], Any]:
        import torch

        kind, device, empty = getattr(torch, dtype.name), like.device, torch.empty
        if shape == like.shape and kind is like.dtype and like.is_contiguous():  # as all others that it is called with then are
            alike: Callable[[Any], Any] = torch.empty_like
            return alike
        return lambda other: empty(shape, dtype=kind, device=device)

    def stream(self, like: Any, given: Any) -> int:
        if given is not None:
            return int(getattr(given, "cuda_stream", given))
        return int(_raw_stream()(like.get_device()))

    def on(self, given: Any, like: Any) -> AbstractContextManager[Any]:
        if given is None:
            return nullcontext()
        import torch

        stream = torch.cuda.ExternalStream(self.stream(like, given), device=like.device)
        entered: AbstractContextManager[Any] = torch.cuda.stream(stream)
        return entered

    def to_host(self, value: Any) -> np.ndarray:
        value = value.detach()
        array: np.ndarray = (value.float() if value.dtype.itemsize == 2 and value.is_floating_point() else value).cpu().numpy()
        return array

    def from_host(self, array: np.ndarray, like: Any) -> Any:
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)


class Jax(Library):
    """JAX's arrays belong to streams that nobody sees: a call waits for its inputs, and for its results before they are given back."""

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
            raise ValueError("is not for JAX arrays, whose streams nobody sees")
        return 0

    def given_back(self, value: Any, like: Any) -> Any:
        from cuda.core import LEGACY_DEFAULT_STREAM

        LEGACY_DEFAULT_STREAM.sync()
        return value

    def to_host(self, value: Any) -> np.ndarray:
        from cuda.core import LEGACY_DEFAULT_STREAM

        LEGACY_DEFAULT_STREAM.sync()
        return np.asarray(value)

    def from_host(self, array: np.ndarray, like: Any) -> Any:
        import jax

        with _in_64_bits():
            return jax.device_put(array, next(iter(like.devices()))).block_until_ready()


def _in_64_bits() -> AbstractContextManager[Any]:
    """Within it JAX makes arrays of float64, as kernels want them for sums, whatever its own default is."""
    import jax
    import jax.experimental

    home = jax if hasattr(jax, "enable_x64") else jax.experimental  # where an older JAX has it
    own: AbstractContextManager[Any] = home.enable_x64(True)
    return own


def widened(array: np.ndarray) -> np.ndarray:
    """The numbers of bfloat16 elements, which lie here as words of 16 bits."""
    numbers: np.ndarray = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return numbers


@functools.cache
def _raw_stream() -> Callable[[int], int]:
    """Torch's current stream of a device as a number: what its own compiler's code asks for, and where it is gone the public way."""
    import torch

    quick: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return quick or (lambda device: torch.cuda.current_stream(device).cuda_stream)


def _device_of(pointer: int) -> int:
    """The device on which memory lies."""
    from cuda.bindings import driver

    asked = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, device = driver.cuPointerGetAttribute(asked, pointer)
    return int(device) if error == driver.CUresult.CUDA_SUCCESS else 0


def _by_interface(value: Any, interface: dict[str, Any]) -> DeviceArray:
    shape, dtype, strides = tuple(interface["shape"]), np.dtype(interface["typestr"]), interface.get("strides")
    pointer, read_only = interface["data"]
    if dtype.kind == "V" and dtype.itemsize == 2:
        dtype = BFLOAT16
    contiguous, address = _is_c(shape, strides, dtype.itemsize), int(pointer or 0)
    return DeviceArray(address, shape, dtype, _device_of(address), contiguous, not read_only, value)


def _by_dlpack(value: Any) -> DeviceArray:
    from cuda.core.utils import StridedMemoryView

    view = StridedMemoryView.from_dlpack(value, stream_ptr=-1)
    strides = None if view.strides is None else tuple(step * view.dtype.itemsize for step in view.strides)
    contiguous = _is_c(view.shape, strides, view.dtype.itemsize)
    return DeviceArray(int(view.ptr), tuple(view.shape), view.dtype, int(view.device_id), contiguous, not view.readonly, value)


def _is_c(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> bool:
    if strides is None or 0 in shape:
        return True
    step = itemsize
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != step:
            return False
        step *= length
    return True


_UNKNOWN, _NUMBA, _SIMULATED, _CUPY, TORCH, _JAX = Library(), Numba(), Simulated(), CuPy(), Torch(), Jax()

Find = Callable[[Any], "Library | None"]


def _jax_on_gpu(value: Any) -> Library | None:
    return _JAX if all(device.platform in ("gpu", "cuda") for device in value.devices()) else None


def _on_cuda_by_dlpack(value: Any) -> Library | None:
    try:
        return _UNKNOWN if int(value.__dlpack_device__()[0]) == 2 else None
    except Exception:  # what cannot say where it is, is on no device
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
    """How the library of arrays of a type is told; None where they never lie on a device."""
    for base in kind.__mro__:
        named = _BY_NAME.get(f"{base.__module__.partition('.')[0]}.{base.__name__}")
        if named is not None:
            return named
    if hasattr(kind, "__cuda_array_interface__"):
        return lambda value: _UNKNOWN
    return _on_cuda_by_dlpack if hasattr(kind, "__dlpack_device__") else None
