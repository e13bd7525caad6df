"""Calls on numba's simulated device arrays, and the same calls on NumPy arrays to compare them with."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest

from cases import CASES, PARAMETERS, Case, agree, draw, is_binary, weights
from jitloss import cross_entropy_with_logits

__all__ = [
    "AVERAGED",
    "BINARY",
    "CLASSES",
    "DTYPES",
    "FORMS",
    "LABELS",
    "LOGITS",
    "MARKS",
    "NUMPY_FORMS",
    "ROWS",
    "compare",
    "each_averaged",
    "each_case",
    "each_dtype",
    "each_labelled",
    "each_row",
    "equal_on_both_sides",
    "items_of",
    "missing",
    "on_both_sides",
    "on_device",
    "on_host",
    "product",
    "reliable_and_fast",
    "same_bits",
    "simulated",
    "small",
]

MARKS = [
    pytest.mark.usefixtures("simulator"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of NumPy, in the threads of the simulator
]
"""What the tests of simulated kernels need."""

DTYPES = ("float16", "float32", "float64")

AVERAGED = [case for case in CASES if not case.loss.definition.is_penalty]
ROWS = [case for case in CASES if case.rowwise]
CLASSES = [case for case in CASES if case.loss.definition.takes_labels]
LABELS = [case for case in CLASSES if case.labels]
BINARY = [case for case in CASES if is_binary(case)]
LOGITS = Case(cross_entropy_with_logits, labels=True)

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
each_averaged = pytest.mark.parametrize("case", AVERAGED, ids=repr)
each_row = pytest.mark.parametrize("case", ROWS, ids=repr)
each_labelled = pytest.mark.parametrize("case", LABELS, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

FORMS = ("value", "gradient", "value_and_gradient", "value_gradient_hessian")

NUMPY_FORMS = FORMS[:3]
"""Those that every loss has."""

TIGHTER = {"float16": 1.0, "float32": 0.25, "float64": 0.25}
"""Of the tolerance of a result: both sides round the same numbers in the same precision, only their sums and functions differ."""


def missing() -> str | None:
    """Why nothing can be simulated; None where it can."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") in ("", "0"):
        return "numba's simulator runs with NUMBA_ENABLE_CUDASIM=1"
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install '.[cuda]'"
    return None


@contextlib.contextmanager
def reliable_and_fast() -> Iterator[None]:
    """Fix a race in the simulator, and let threads switch often, because they wait for each other in loops.

    Two threads of a block that ask for the shared array at the same time may get two arrays (numba-cuda 0.30.4).
    """
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    def array(self: Any, shape: Any, dtype: Any) -> Any:
        caller = sys._getframe(1)
        return self._allocations.setdefault((caller.f_code, caller.f_lineno), np.empty(shape, str(dtype)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    with mock.patch.object(FakeCUDAShared, "array", array):
        yield
    sys.setswitchinterval(before)


def small(case: Case, dtype: str = "float32", *, ignored: bool = False, seed: int = 0) -> list[np.ndarray]:
    """Inputs of a few elements, but more than one block of a simulated kernel takes."""
    return draw(case, (3, 5) if case.rowwise else (19,), dtype, ignored=ignored, seed=seed)


def items_of(case: Case) -> tuple[int, ...]:
    return (3,) if case.rowwise else (19,)


def simulated(value: Any) -> bool:
    return type(value).__name__ == "FakeCUDAArray"


def on_device(value: Any) -> Any:
    """NumPy arrays, also those in dicts and tuples, as copies on the simulated device; everything else as it is."""
    from numba import cuda

    if isinstance(value, dict):
        return {key: on_device(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(on_device, value))
    return cuda.to_device(value) if isinstance(value, np.ndarray) else value


def on_host(value: Any) -> Any:
    """Results on a device as NumPy arrays; asserts that all of them are on the device."""
    if isinstance(value, dict):
        return {key: on_host(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(on_host, value))
    assert simulated(value), f"not on the device: {value!r}"
    return np.array(value.copy_to_host())


def call(loss: Any, form: str, *inputs: Any, **options: Any) -> Any:
    """The results of a form, always as a tuple."""
    got = getattr(loss, form)(*inputs, **options) if form != "value" else loss(*inputs, **options)
    return got if isinstance(got, tuple) else (got,)


def equal_on_both_sides(
    loss: Any,
    *inputs: Any,
    forms: tuple[str, ...] = ("value_and_gradient",),
    device: Any = None,
    looser: float = 1.0,
    size: float = 0.0,
    **options: Any,
) -> Any:
    """Assert that calls on the device agree with the same calls on the host; returns the last results, as NumPy arrays.

    ``device`` are options that differ there; ``looser`` and ``size`` are those of ``agree``. Single values are compared in the
    precision that the device computes in.
    """
    got: Any = None
    for form in forms:
        want = call(loss, form, *inputs, **options)
        got = on_host(call(loss, form, *map(on_device, inputs), **{**options, **(device or {})}))
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            compare(one, other, f"{loss.__name__} {form} {options}", looser, size)
    return got


def compare(got: Any, want: Any, what: str, looser: float = 1.0, size: float = 0.0) -> None:
    if isinstance(want, dict):
        assert list(got) == list(want), what
        for key in want:
            compare(got[key], want[key], f"{what} {key}", looser, size)
        return
    if isinstance(want, np.ndarray):
        assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, wanted {want.dtype}"
    else:
        assert got.shape == (), f"{what}: a value of the shape {got.shape}"
        assert got.dtype in (np.float32, np.float64), what
    agree(got, want, size=size, looser=looser * TIGHTER[got.dtype.name], what=what)


def same_bits(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        one, other = tuple(one.values()), tuple(other.values())
    if isinstance(one, tuple):
        for mine, yours in zip(one, other, strict=True):
            same_bits(mine, yours)
        return
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


def on_both_sides(loss: Any, *inputs: Any, **options: Any) -> tuple[Exception | None, Exception | None]:
    """The errors of a call's value and gradient on the host and on the device."""
    return error_of(loss, inputs, options), error_of(loss, tuple(map(on_device, inputs)), options)


def error_of(loss: Any, inputs: Any, options: Any) -> Exception | None:
    try:
        loss.value_and_gradient(*inputs, **options)
    except (TypeError, ValueError) as error:
        return error
    return None


class Product(NamedTuple):
    """A call with many options at once."""

    case: Case
    inputs: list[Any]
    options: dict[str, Any]
    device: dict[str, Any]


def product(seed: int) -> Product:
    """Options drawn together: dtype, shape, axis, reduction, normalizer, weights, labels, parameters."""
    random = np.random.default_rng(seed)

    def one_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    case = one_of(*(case for case in CASES if not case.loss.definition.is_penalty))
    shape, axis = tuple(random.integers(1, 6, random.integers(1 + case.rowwise, 4)).tolist()), -1
    options: dict[str, Any] = {"reduction": one_of("mean", "mean", "sum", "none"), "normalizer": one_of("count", "weights", 3.0)}
    options |= one_of({}, *PARAMETERS.get(case.name, []))
    if case.rowwise:
        options["axis"] = axis = int(random.integers(-len(shape), len(shape)))
    items = tuple(np.delete(shape, axis).tolist()) if case.rowwise else shape
    inputs = draw(case, shape, one_of("float16", "float32", "float64"), axis=axis, seed=seed, ignored=bool(one_of(0, 1)))
    device = {}
    if one_of(0, 1, 1):
        weight = np.asarray(weights(items[: random.integers(0, len(items) + 1)], seed), one_of("float32", "float64"))
        options["sample_weight"] = weight
        device["sample_weight"] = one_of(weight, on_device(weight))
    if case.loss.definition.takes_labels:
        options["class_weight"] = one_of(None, random.random(shape[axis]), {0: 2.5}, *["balanced"] * case.labels)
        options["label_smoothing"] = one_of(0.0, 0.1, 1.0)
        if case.labels:
            inputs[1] = inputs[1].astype(one_of("int8", "int32", "int64"))
    elif is_binary(case):
        options["class_weight"] = one_of(None, [0.5, 2.0], {1: 3.0})
    return Product(case, inputs, options, device)
