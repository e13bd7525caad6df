"""One small module per array library: how its arrays are read and how results are converted back."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["adapter"]


# Import statements rather than importlib, which torch.compile does not trace.


def _torch() -> ModuleType:
    from . import torch

    return torch


def _jax() -> ModuleType:
    from . import jax

    return jax


def _dask() -> ModuleType:
    from . import dask

    return dask


_LOADED = {"torch": _torch, "jax": _jax, "dask": _dask}


def adapter(library: str, name: str) -> Callable[..., Any]:
    """A function of an adapter that imports its framework: the module is loaded when the framework's first array arrives."""
    found: Callable[..., Any] | None = None

    def function(*args: Any) -> Any:
        nonlocal found
        if found is None:
            found = getattr(_LOADED[library](), name)
        return found(*args)

    return function
