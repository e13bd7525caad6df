"""What the tests of the contract share: the cases that they run over, and the check that a call is rejected.

Most checks run twice: a small default call takes the fast path once a first one like it has been made, which must change nothing.
"""

from typing import Any

import numpy as np
import pytest

from cases import CASES, Case, draw, flat

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
each_loss = pytest.mark.parametrize("case", [case for case in CASES if not case.labels], ids=repr)
each_averaged = pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
each_row_case = pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=repr)
each_label_case = pytest.mark.parametrize("case", [case for case in CASES if case.labels], ids=repr)
each_class_case = pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.takes_labels], ids=repr)
each_triple = pytest.mark.parametrize("case", [case for case in CASES if len(case.loss.definition.differentiable) > 1], ids=repr)

FORMS = ("value", "gradient", "value_and_gradient")
NAN, INF = np.nan, np.inf
HUGE = 10**400


def inputs_of(case: Case) -> Any:
    return case.loss.definition.inputs


def forget(case: Case) -> None:
    """Drop all plans, so that the next call of every form is like a first one."""
    for form in FORMS:
        getattr(case.loss, form)._quick = None


def refused(case, error, args, *words, right=None, forms=FORMS, **options) -> None:
    """Assert that a call raises an error with the loss's name and these words, both before and after a similar valid call."""
    for name in forms:
        form = getattr(case.loss, name)
        forget(case)
        for _ in range(2):
            with pytest.raises(error) as raised:
                form(*args, **options)
            assert type(raised.value) is error
            for word in (case.name, *words):
                assert str(word) in str(raised.value), f"{word!r} is not in: {raised.value}"
            for _ in range(2):
                form(*(draw(case, case.shape, "float32") if right is None else right))


def results(case, *args, **options):
    """Value and gradients as a flat list of arrays."""
    value, gradient = case.loss.value_and_gradient(*args, **options)
    return [value, *flat(gradient)]


def same(one, other) -> None:
    for mine, right in zip(one, other, strict=True):
        assert type(mine) is type(right)
        np.testing.assert_array_equal(mine, right)
        assert not isinstance(mine, np.ndarray) or mine.dtype == right.dtype


def out_for(case, arrays):
    """``out`` from one array for each differentiable input."""
    names = [one.name for one in case.loss.definition.differentiable]
    return arrays[0] if len(names) == 1 else dict(zip(names, arrays, strict=True))


def fresh_inputs(case, dtype="float32"):
    return [np.array(array) for array in draw(case, case.shape, dtype)]


def outs_like(case, inputs):
    return [np.full_like(array, 5.0) for array, one in zip(inputs, inputs_of(case), strict=True) if one.differentiable]
