"""A device without hardware: arrays in the memory of the PTX emulator, and calls on them whose kernels it runs."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from cases import DTYPES, Case, agree, draw, weights
from jitloss.arrays import cuda as libraries
from jitloss.compilers import cuda as compiler
from jitloss.compilers.cuda import launch
from kernels import CAPABILITY, ROWS, Kernel, assembly_of, compiled
from kits import Kit, got_back, sizes, widened
from machine import Memory, Program
from ptx import Assembly

__all__ = ["MACHINE", "Array", "imagined_device", "launches", "memory"]

memory = Memory()


class Array:
    """An array of the emulated device, ``offset`` bytes from the usual alignment."""

    def __init__(self, array: np.ndarray, offset: int = 0) -> None:
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes
        self.address = memory.place(self, array, offset)

    def numpy(self) -> np.ndarray:
        return memory.bytes_at(self.address, self.nbytes).view(self.dtype).reshape(self.shape)


class _Library(libraries.Library):
    name = "arrays of a machine"

    def view(self, value: Array) -> libraries.DeviceArray:
        dtype: Any = libraries.BFLOAT16 if value.dtype == DTYPES["bfloat16"] else value.dtype
        return libraries.DeviceArray(value.address, value.shape, dtype, 0, True, True, value)

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        return Array(np.full(shape, np.nan, DTYPES.get(dtype.name, dtype)))  # so that elements that are never written show

    def to_host(self, value: Array, stream: int = 0) -> np.ndarray:
        return value.numpy()

    def from_host(self, array: np.ndarray, like: Any, stream: int = 0) -> Array:
        return Array(array)


class _Kit(Kit):
    name, halves = "machine", frozenset({"float16", "bfloat16"})

    def put(self, array: np.ndarray, offset: int = 0) -> Array:
        return Array(np.asarray(array, order="C"), offset)

    def get(self, value: Array) -> np.ndarray:
        return value.numpy().copy()

    def is_one(self, value: Any) -> bool:
        return type(value) is Array

    def wait(self) -> None:
        pass


MACHINE = _Kit()


class _Launch:
    """A stand-in for a launch that can be repeated."""

    def __init__(self, assembly: Assembly, blocks: int, arguments: Sequence[Any]) -> None:
        self._program = Program.read(assembly.text)
        self._blocks, self._words = blocks, [launch._word(one) for one in launch.flat(arguments)]

    def __call__(self, stream: int, slots: Iterable[tuple[int, int]] = (), addresses: Sequence[int] = ()) -> None:
        for place, number in slots:
            self._words[place] = addresses[number]
        self._program.run(memory, self._blocks, self._words)


class _Kernel:
    """A stand-in for a loaded kernel."""

    def __init__(self, assembly: Callable[[], Assembly]) -> None:
        self.assembly = assembly

    def __call__(self, device: int, stream: int, blocks: int, *arguments: Any) -> None:
        self.launch(device, blocks, *arguments)(stream)

    def launch(self, device: int, blocks: int, *arguments: Any) -> _Launch:
        return _Launch(self.assembly(), blocks, arguments)


def _made(make: Callable[..., launch.Kernel], capability: tuple[int, int]) -> Callable[..., _Kernel]:
    return functools.cache(lambda *given: _Kernel(functools.cache(lambda: assembly_of(make(*given).source, capability))))


_of_loss = functools.cache(lambda variant, plan: _Kernel(lambda: compiled(variant, plan)))
_REAL = {name: getattr(compiler, name).__wrapped__ for name in dir(compiler) if name.endswith("_kernel")}


@functools.cache
def _kernels(capability: tuple[int, int]) -> dict[str, Callable[..., _Kernel]]:
    """Stand-ins for the functions that give a call its kernels."""
    made = {name: _made(make, capability) for name, make in _REAL.items()}
    return made | {"loss_kernel": _of_loss} if capability == CAPABILITY else made


@contextlib.contextmanager
def imagined_device(capability: tuple[int, int] = CAPABILITY) -> Iterator[None]:
    """Within it, arrays of the emulator count as arrays on a device."""
    with (
        mock.patch.dict(libraries._BY_NAME, {"imagined.Array": lambda value: _library}),
        mock.patch.multiple(
            compiler,
            **_kernels(capability),
            device_count=lambda: 1,
            has_clusters=lambda device: capability >= (9, 0),
            is_current=lambda device: True,
            current=lambda device: contextlib.nullcontext(),
        ),
    ):
        yield


_library = _Library()


# A call for a kernel ----------------------------------------------------------------------------------------------------------

_HOW_MANY = {"short": 300, "kept-by-warp": 40, "unaligned": 64, "kept-by-block": 64, "long": 64}
"""Rows of each kind, more than a block takes, and so many that several blocks do not share one; 2 of the others."""


def _shape(kernel: Kernel) -> tuple[tuple[int, ...], int]:
    """The shape of the arrays of a call that launches a kernel, and the axis of its rows."""
    if not kernel.rowwise:
        return (5001,), -1
    columns, inner, _ = ROWS[kernel.how]
    return ((3, columns, inner), 1) if inner > 1 else ((_HOW_MANY.get(kernel.how, 2), columns), -1)


def launches(kernel: Kernel) -> bool:
    """Whether a call launches a kernel; first asserts that the call's results are those of the CPU."""
    assert kernel.call is not None
    dtype, call = kernel.variant.inputs[0], kernel.call
    case = Case(kernel.loss, kernel.variant.targets == "labels")
    shape, axis = _shape(kernel)
    inputs, options = draw(case, shape, dtype, axis=axis), dict(call.options)
    if call.targets:
        inputs[1] = inputs[1].astype(call.targets)
    items = tuple(np.delete(shape, axis)) if kernel.rowwise else shape
    if "sample_weight" in options:
        options["sample_weight"] = weights(items).astype(np.float32)
    if "class_weight" in options:
        options["class_weight"] = np.linspace(0.25, 2.0, shape[axis])
    if case.labels:
        options["normalizer"] = 12.5  # a mean of what is not ignored takes another kernel
    if axis != -1:
        options["axis"] = axis
    want = getattr(case.loss, call.form)(*widened(inputs), **options)
    apart = kernel.how == "unaligned"
    given = {name: MACHINE.put(one) if isinstance(one, np.ndarray) else one for name, one in options.items()}
    with imagined_device(), mock.patch.object(compiler, "loss_kernel", wraps=_of_loss) as asked:
        got = getattr(case.loss, call.form)(*(MACHINE.put(one, one.itemsize * apart) for one in inputs), **given)
    got, want = (one if isinstance(one, tuple) else (one,) for one in (got_back(MACHINE, got), want))
    for mine, right, size in zip(got, want, sizes(case, inputs, axis), strict=False):
        agree(mine, right, kernel.variant.working, size=size, what=kernel.name)
    return any(one.args == (kernel.variant, kernel.plan) for one in asked.call_args_list)
