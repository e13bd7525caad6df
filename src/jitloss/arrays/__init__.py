"""One small file per array library: how its arrays are read and how results go back."""

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["adapter"]


def adapter(library: str, name: str) -> Callable[..., Any]:
    """A function of an adapter that imports its framework: the file is loaded when the first array of it arrives."""
    found: Callable[..., Any] | None = None

    def function(*args: Any) -> Any:
        nonlocal found
        if found is None:
            found = getattr(importlib.import_module(f"{__name__}.{library}"), name)
        return found(*args)

    return function
