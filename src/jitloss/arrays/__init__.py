"""One small file per array library: how its arrays are read and how results go back."""

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["adapter"]


def adapter(file: str, name: str) -> Callable[..., Any]:
    """A function of an adapter that imports its framework: the file is loaded when the first array of it arrives."""

    def function(*args: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{file}"), name)(*args)

    return function
