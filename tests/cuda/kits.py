"""What the tests of a device share: the arrays of each library, and a check of one call against the CPU's."""

import contextlib
import importlib.util
import inspect
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import jitloss
from cases import CASES, DTYPES, PARAMETERS, ROWS, Case, agree, is_binary, weights


def missing() -> str | None:
    """Why nothing can run on a device here; None where it can."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return "NUMBA_ENABLE_CUDASIM is set: numba's simulator stands in for the device"
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install '.[cuda]'"
    from jitloss.compilers import cuda

    return None if cuda.device_count() else "there is no CUDA device here, or no driver"


REASON = missing()

MARKS = [pytest.mark.cuda, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
each_row_case = pytest.mark.parametrize("case", ROWS, ids=repr)
each_label_case = pytest.mark.parametrize("case", [case for case in CASES if case.labels], ids=repr)
each_binary_case = pytest.mark.parametrize("case", [case for case in CASES if is_binary(case)], ids=repr)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

SOFTMAX = Case(jitloss.cross_entropy_with_logits, labels=True)
MSE = Case(jitloss.mse_loss)
COLUMNS = (1, 2, 3, 7, 10, 31, 32, 33, 100, 193, 512, 1000, 1001, 4096, 8192, 16384, 32000, 32768, 65537, 128256, 200_000)


# Arrays of each library -------------------------------------------------------------------------------------------------------


class Exposed:
    """An unknown library, whose arrays have only the CUDA array interface."""

    def __init__(self, array: np.ndarray) -> None:
        from numba import cuda

        self.dtype, self.held = array.dtype, cuda.to_device(_as_bits(array))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        kind = "<V2" if self.dtype.name == "bfloat16" else self.dtype.str
        return {**self.held.__cuda_array_interface__, "typestr": kind}


def _as_bits(array: np.ndarray) -> np.ndarray:
    """bfloat16 as the integers that libraries without such a type can hold."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


class Kit:
    """What the tests need of a library: transfers to the device and back, and the type of results."""

    name, halves = "numba", frozenset({"float16"})

    def put(self, array: np.ndarray) -> Any:
        from numba import cuda

        return cuda.to_device(np.ascontiguousarray(array))

    def get(self, value: Any) -> np.ndarray:
        result: np.ndarray = value.copy_to_host()
        return result

    def is_one(self, value: Any) -> bool:
        from numba import cuda

        return bool(cuda.is_cuda_array(value)) and type(value).__name__ == "DeviceNDArray"

    def takes(self, dtype: str) -> bool:
        return dtype in ("float32", "float64") or dtype in self.halves

    def wait(self) -> None:
        from numba import cuda

        cuda.synchronize()


class Interface(Kit):
    name, halves = "interface", frozenset({"float16", "bfloat16"})

    def put(self, array: np.ndarray) -> Any:
        return Exposed(np.ascontiguousarray(array))


class CuPy(Kit):
    name = "cupy"

    def put(self, array: np.ndarray) -> Any:
        import cupy

        return cupy.asarray(np.ascontiguousarray(array))

    def get(self, value: Any) -> np.ndarray:
        result: np.ndarray = value.get()
        return result

    def is_one(self, value: Any) -> bool:
        import cupy

        return type(value) is cupy.ndarray and value.device.id == 0


class Torch(Kit):
    name, halves = "torch", frozenset({"float16", "bfloat16"})

    def put(self, array: np.ndarray) -> Any:
        import torch

        array = np.ascontiguousarray(array)
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).cuda().view(torch.bfloat16)
        return torch.from_numpy(array.copy()).cuda()

    def get(self, value: Any) -> np.ndarray:
        import torch

        if value.dtype is torch.bfloat16:
            return np.asarray(value.view(torch.int16).cpu().numpy()).view(DTYPES["bfloat16"])
        return np.asarray(value.cpu().numpy())

    def is_one(self, value: Any) -> bool:
        import torch

        return type(value) is torch.Tensor and str(value.device) == "cuda:0"


class Jax(Kit):
    name, halves = "jax", frozenset({"float16", "bfloat16"})

    def put(self, array: np.ndarray) -> Any:
        import jax

        return jax.device_put(np.ascontiguousarray(array), jax.devices("gpu")[0]).block_until_ready()

    def get(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def is_one(self, value: Any) -> bool:
        import jax

        return isinstance(value, jax.Array) and value.devices() == {jax.devices("gpu")[0]}


KITS: dict[str, Kit] = {kit.name: kit for kit in (Kit(), Interface(), CuPy(), Torch(), Jax())}


def absent(name: str) -> str | None:
    """Why a library's arrays are not available; None where they are."""
    if name in ("numba", "interface"):
        return None
    if importlib.util.find_spec(name) is None:
        return f"{name} is not installed"
    if name == "torch":
        import torch

        return None if torch.cuda.is_available() else "this torch has no CUDA"
    if name == "jax":
        import jax

        with contextlib.suppress(RuntimeError):
            return None if jax.devices("gpu") else "this jax has no GPU"
        return "this jax has no GPU"
    return None


# One call ---------------------------------------------------------------------------------------------------------------------


def widened(inputs: list[Any]) -> list[Any]:
    """The same numbers in float64, labels as they are."""
    return [one if one.dtype.kind in "iub" else one.astype(np.float64) for one in inputs]


def form_of(case: Case) -> str:
    return "value_gradient_hessian" if case.loss.definition.hessian else "value_and_gradient"


def sizes(case: Case, inputs: list[Any], axis: int = -1) -> list[float]:
    """The magnitudes of the numbers whose differences the value, the gradient and the second derivative are."""
    columns = inputs[0].shape[axis] if case.rowwise else 1
    slope = columns / max(1, inputs[0].size)
    return [1.0 if case.loss.definition.hessian else max(1.0, columns) ** 0.5, slope, slope]


def got_back(kit: Kit, result: Any) -> Any:
    """A result on the host: arrays, dicts of arrays, tuples of both."""
    if isinstance(result, tuple):
        return tuple(got_back(kit, one) for one in result)
    if isinstance(result, dict):
        return {name: kit.get(one) for name, one in result.items()}
    return kit.get(result)


def in_dtype(result: Any, dtype: str) -> Any:
    """Convert the integers of libraries without bfloat16 back to bfloat16."""
    if isinstance(result, dict):
        return {name: in_dtype(one, dtype) for name, one in result.items()}
    return result.view(DTYPES[dtype]) if dtype == "bfloat16" and result.dtype == np.uint16 else result


def check(
    case: Case, kit: Kit, inputs: list[Any], dtype: str, *, on_device: bool = True, looser: float = 1.0, **options: Any
) -> Any:
    """Compare one call, every output of it, with the CPU library's; arrays among the options go to the device too, or stay."""
    want = getattr(case.loss, form_of(case))(*widened(inputs), **options)
    given = {name: kit.put(one) if on_device and isinstance(one, np.ndarray) else one for name, one in options.items()}
    raw = getattr(case.loss, form_of(case))(*map(kit.put, inputs), **given)
    again = getattr(case.loss, form_of(case))(*map(kit.put, inputs), **given)  # launched from a recording, where there is one
    assert bits(got_back(kit, again)) == bits(got_back(kit, raw))
    got = [in_dtype(one, dtype) for one in got_back(kit, raw)]
    working = "float64" if dtype == "float64" else "float32"
    items = inputs[0].ndim and options.get("reduction") == "none"
    assert got[0].dtype == (DTYPES[dtype] if items else np.dtype(working))
    for what, mine, right, size in zip(
        ("value", "gradient", "hessian"), got, want, sizes(case, inputs, options.get("axis", -1)), strict=False
    ):
        agree(mine, right, working, size=size, looser=looser, what=f"{case} {what} {dtype} {list(options.items())}")
        for array in mine.values() if isinstance(mine, dict) else [mine]:
            assert what == "value" or array.dtype == DTYPES[dtype]
    return raw


def options_of(case: Case) -> Iterator[dict[str, Any]]:
    """The options that apply to a loss, each with a non-default value, and combinations of those that interact."""
    yield {}
    yield from PARAMETERS.get(case.name, [])
    if case.loss.definition.is_penalty:
        return
    sample, classes = weights(case.shape[:1]), np.linspace(0.25, 2.0, 7 if case.rowwise else 2)
    yield from ({"reduction": "sum"}, {"reduction": "none"}, {"normalizer": 12.5})
    yield from ({"sample_weight": sample}, {"sample_weight": sample, "normalizer": "weights"})
    yield {"sample_weight": sample, "reduction": "none"}
    if "class_weight" in inspect.signature(case.loss).parameters:
        yield from ({"class_weight": classes}, {"class_weight": classes, "sample_weight": sample, "normalizer": "weights"})
    if case.loss.definition.takes_labels:
        yield from ({"class_weight": "balanced"}, {"label_smoothing": 0.1}, {"label_smoothing": 0.2, "class_weight": classes})
    if case.labels:
        yield from ({"ignore_index": 3}, {"ignore_index": 3, "class_weight": classes, "normalizer": "weights"})


def bits(result: Any) -> list[bytes]:
    flat = itertools.chain.from_iterable(one.values() if isinstance(one, dict) else [one] for one in result)
    return [np.asarray(one).tobytes() for one in flat]


def needs(torch: Any, nbytes: int) -> None:
    """Skip a test that needs more memory than the device has free."""
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    if free < nbytes * 1.1 + 2**28:
        pytest.skip(f"it takes {nbytes / 1e9:.1f} GB on the device, {free / 1e9:.1f} GB are free")
