"""Keys for calls, forms and types: options that are plain values, a text for each form, a cache by type."""

import itertools
import os
import sys
import weakref
from typing import Any

import numpy as np

__all__ = ["FORMS", "ON_DEVICES", "PLAIN", "new_key", "plain", "remember", "without_parameter"]

PLAIN = frozenset({float, int, bool, str, type(None)})
"""Types of options that are fully described by their value: a plan or a recording of a call may be looked up by them."""

ON_DEVICES = ("stream", "check")
"""Options that only calls on arrays on a device have."""


def plain(value: Any) -> Any:
    """A NumPy number or bool as Python's own; everything else, and what a float cannot hold, as it is."""
    if not isinstance(value, np.generic) or value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
        return value
    return value.item()


FORMS: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()
"""Forms of losses by a text key, for compilers of other frameworks, whose programs can hold little else."""

_PROCESS, _NUMBERS = os.urandom(6).hex(), itertools.count()


def new_key(form: Any) -> str:
    """A text key for a form, unique to this process: a program that a framework has cached on disk must not find another's form."""
    key = f"{_PROCESS}-{next(_NUMBERS)}"
    FORMS[key] = form
    return key


MOST_KEYS = 512
"""How many keys such a cache holds."""


def remember(known: dict[Any, Any], key: Any, what: Any) -> None:
    """Cache something by a type or another key; the limit keeps a program that makes types in a loop from keeping all of them alive."""
    if len(known) >= MOST_KEYS:
        known.clear()
    known[key] = what


def without_parameter(kind: type) -> type:
    """The type itself, but :class:`torch.Tensor` for PyTorch's Parameter: torch.compile cannot trace a loop over its base types."""
    parameter = getattr(sys.modules.get("torch.nn"), "Parameter", None)
    return parameter.__base__ if parameter is not None and issubclass(kind, parameter) else kind
