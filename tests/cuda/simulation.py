"""Calls on numba's simulated device arrays, and the same calls on NumPy arrays to compare them with."""

import importlib.util
import os
from typing import Any

import numpy as np

import jitloss
from cases import agree

__all__ = ["FORMS", "NUMPY_FORMS", "equal_on_both_sides", "missing", "on_device", "on_host", "same_bits", "simulated"]

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
    """Results on a device as NumPy arrays; that they all lie there is asserted."""
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
    **options: Any,
) -> Any:
    """Assert that calls on the device give what the same calls on the host give; the last results, as NumPy arrays.

    ``device`` are options that differ there. Single values are compared in the precision that the device computes in.
    """
    got: Any = None
    for form in forms:
        want = call(loss, form, *inputs, **options)
        got = on_host(call(loss, form, *map(on_device, inputs), **{**options, **(device or {})}))
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            compare(one, other, f"{loss.__name__} {form} {options}", looser)
    return got


def compare(got: Any, want: Any, what: str, looser: float = 1.0) -> None:
    if isinstance(want, dict):
        assert list(got) == list(want), what
        for key in want:
            compare(got[key], want[key], f"{what} {key}", looser)
        return
    if isinstance(want, np.ndarray):
        assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, wanted {want.dtype}"
    else:
        assert got.shape == (), f"{what}: a value of the shape {got.shape}"
        assert got.dtype in (np.float32, np.float64), what
    agree(got, want, looser=looser * TIGHTER[got.dtype.name], what=what)


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


def averaged() -> list[Any]:
    return [loss for loss in jitloss.LOSSES.values() if not loss.definition.is_penalty]
