"""The results of a call bit by bit, and the call on the slow path."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from cases import Case

__all__ = ["bits", "forgetting", "long_way"]


def bits(result: Any) -> list[Any]:
    """A result as names, types, shapes and bytes."""
    parts = result if isinstance(result, tuple) else (result,)
    named = [one for part in parts for one in (part.items() if isinstance(part, dict) else [("", part)])]
    return [(name, type(one), np.asarray(one).dtype, np.shape(one), np.asarray(one).tobytes()) for name, one in named]


def long_way(form: Any, *args: Any, **options: Any) -> Any:
    """The results of a form on the slow path; its plans stay unchanged."""
    quick, form._quick = form._quick, None
    try:
        return form(*args, **options)
    finally:
        form._quick = quick


def forgetting(cases: Iterable[Case], forms: Iterable[str]) -> Any:
    """A fixture: every test starts without plans for these cases, and leaves none."""
    found = [getattr(case.loss, name) for case in cases for name in forms]

    @pytest.fixture(autouse=True)
    def forgetful():
        for form in found:
            form._quick = None
        yield
        for form in found:
            form._quick = None

    return forgetful
