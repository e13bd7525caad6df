"""What calls, forms and types are known by: options that are plain values, a text for each form, what was found of a type."""

import itertools
import os
import weakref
from typing import Any

import numpy as np

__all__ = ["FORMS", "ON_DEVICES", "PLAIN", "new_key", "plain", "remember"]

PLAIN = frozenset({float, int, bool, str, type(None)})
"""Types of options whose values say all: a plan or a recording of a call may be found by them."""

ON_DEVICES = ("stream", "check")
"""Options that only calls on arrays on a device have."""


def plain(value: Any) -> Any:
    """A number or a switch of NumPy's as Python's own; all else, and what a float cannot hold, as it is."""
    if not isinstance(value, np.generic) or value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
        return value
    return value.item()


FORMS: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()
"""Forms of losses by a text: for compilers of other frameworks, whose programs hold little else."""

_PROCESS, _NUMBERS = os.urandom(6).hex(), itertools.count()


def new_key(form: Any) -> str:
    """A text for a form. It is of this process alone, because a program that a framework has kept on disk must not find another's."""
    key = f"{_PROCESS}-{next(_NUMBERS)}"
    FORMS[key] = form
    return key


MOST_TYPES = 512
"""Of how many types it is kept what is known of them."""


def remember(known: dict[type, Any], kind: type, what: Any) -> None:
    """Keep what is known of a type; a program that makes types in a loop keeps few of them alive."""
    if len(known) >= MOST_TYPES:
        known.clear()
    known[kind] = what
