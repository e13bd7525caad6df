"""Fixtures for the tests of kernels."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

import simulation
from kits import KITS, Kit, absent


@pytest.fixture(scope="module")
def simulator():
    with simulation.reliable_and_fast():
        yield


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Each library's arrays in turn."""
    reason = absent(request.param)
    if reason is not None:
        pytest.skip(reason)
    with _x64() if request.param == "jax" else contextlib.nullcontext():
        yield KITS[request.param]


def _x64() -> contextlib.AbstractContextManager[Any]:
    import jax

    result: contextlib.AbstractContextManager[Any] = jax.enable_x64(True)
    return result


@pytest.fixture
def arrays() -> Kit:
    """Arrays of the installed library that supports most dtypes."""
    return next(KITS[name] for name in ("torch", "cupy", "numba") if absent(name) is None)


@pytest.fixture
def torch() -> Any:
    reason = absent("torch")
    if reason is not None:
        pytest.skip(reason)
    return importlib.import_module("torch")
