"""The results of a call bit by bit, and the call without its short way."""

from typing import Any

import numpy as np

__all__ = ["bits", "long_way"]


def bits(result: Any) -> list[Any]:
    """A result as names, types, shapes and bytes."""
    parts = result if isinstance(result, tuple) else (result,)
    named = [one for part in parts for one in (part.items() if isinstance(part, dict) else [("", part)])]
    return [(name, type(one), np.asarray(one).dtype, np.shape(one), np.asarray(one).tobytes()) for name, one in named]


def long_way(form: Any, *args: Any, **options: Any) -> Any:
    """What a form gives the long way; its plans stay as they were."""
    quick, form._quick = form._quick, None
    try:
        return form(*args, **options)
    finally:
        form._quick = quick
