"""Forms of losses by a text: for compilers of other frameworks, whose programs hold little else."""

import itertools
import os
import weakref
from typing import Any

__all__ = ["FORMS", "new_key"]

FORMS: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()

_PROCESS, _NUMBERS = os.urandom(6).hex(), itertools.count()


def new_key(form: Any) -> str:
    """A text for a form. It is of this process alone, because a program that a framework has kept on disk must not find another's."""
    key = f"{_PROCESS}-{next(_NUMBERS)}"
    FORMS[key] = form
    return key
