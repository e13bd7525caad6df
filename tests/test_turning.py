"""Rows along a short inner axis: blocks of them are turned, and the results are bitwise those of the same rows along the last axis."""

from typing import Any

import numpy as np
import pytest

import jitloss
from cases import DTYPES, ROWS, draw
from jitloss import call
from jitloss.compilers import cpu
from jitloss.compilers.cpu.turning import BLOCK_BYTES, SHORTEST_INNER
from kernel_layouts import same_bits

SHAPES = [(3, 4, 2), (41, 7, 10), (5, 40, SHORTEST_INNER - 1), (700, 33, 3), (3, 2000, 7), (2, 3, 2, 5)]
"""With the class axis second; the fourth is work for several threads, with blocks that begin amid an inner axis."""


def along_the_last_axis(arrays: Any, ndim: int) -> Any:
    """The same rows, contiguous; arrays with a number per row as they are."""
    if isinstance(arrays, dict):
        return {name: along_the_last_axis(array, ndim) for name, array in arrays.items()}
    return np.ascontiguousarray(np.moveaxis(arrays, 1, -1)) if arrays.ndim == ndim else arrays


def check(form: Any, inputs: list[np.ndarray], **options: Any) -> None:
    """Assert that a call with ``axis=1`` gives the bits of one with the class axis last."""
    ndim = inputs[0].ndim
    got = form(*inputs, axis=1, **options)
    want = form(*[along_the_last_axis(one, ndim) for one in inputs], **options)
    for one, other in zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]:
        if isinstance(one, float):
            assert abs(one - other) <= 1e-15 * abs(other), "the chunks of the sum differ"
        else:
            assert same_bits(along_the_last_axis(one, ndim), other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ROWS, ids=repr)
def test_results_are_those_of_rows_along_the_last_axis(case, dtype):
    for shape in SHAPES if dtype == "float32" else SHAPES[1:2]:
        check(case.loss.value_and_gradient, draw(case, shape, dtype, axis=1))


@pytest.mark.parametrize("case", ROWS, ids=repr)
def test_other_forms(case):
    inputs = draw(case, SHAPES[1], "float32", axis=1)
    check(case.loss.value, inputs, reduction="none")
    check(case.loss.gradient, inputs)
    if case.loss.definition.hessian:
        check(case.loss.value_gradient_hessian, inputs)


@pytest.mark.parametrize("case", [case for case in ROWS if case.loss.definition.takes_labels], ids=repr)
def test_options(case):
    shape = (60, 33, 9)
    inputs, random = draw(case, shape, "float32", axis=1, ignored=case.labels), np.random.default_rng(0)
    items = (shape[0], *shape[2:])
    for weight in (random.random(items), random.random(shape[:1])):
        options = {"sample_weight": weight, "class_weight": random.random(shape[1]), "label_smoothing": 0.1}
        check(case.loss.value_and_gradient, inputs, **options, **({"ignore_index": -100} if case.labels else {}))


def test_in_place_and_into_other_memory():
    case = next(case for case in ROWS if case.name == "triplet_loss")
    inputs = draw(case, (50, 20, 6), "float32", axis=1)
    value, want = case.loss.value_and_gradient(*inputs, axis=1)
    into = {name: np.full(one.shape, np.nan, one.dtype) for name, one in want.items()}
    assert case.loss.value_and_gradient(*inputs, axis=1, out=into)[0] == value
    assert same_bits(into, want)
    over = dict(zip(want, inputs, strict=True))
    case.loss.gradient(*inputs, axis=1, out=over)
    assert same_bits(over, want)


def test_axis_0():
    logits, labels = np.random.default_rng(0).normal(size=(3000, 9)).astype(np.float32), np.arange(9) * 100
    got = jitloss.cross_entropy_with_logits.gradient(logits, labels, axis=0)
    assert same_bits(
        np.ascontiguousarray(got.T), jitloss.cross_entropy_with_logits.gradient(np.ascontiguousarray(logits.T), labels)
    )


def layout_of(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: type) -> str:
    """The layout of the kernel that a call runs, of whatever length its rows are."""
    seen, kernel = [], cpu.kernel
    with monkeypatch.context() as patch:
        patch.setattr(call.compiler(), "kernel", lambda variant: seen.append(variant.layout) or kernel(variant))
        jitloss.cross_entropy_with_logits.gradient(np.zeros(shape, dtype), np.zeros((shape[0], shape[2]), int), axis=1)
    return str(seen[0]).removeprefix("long ")


def test_what_is_turned(monkeypatch):
    """A block has at least one row, of all its arrays; longer rows, and many of them, are read side by side."""
    longest = BLOCK_BYTES // 8
    assert layout_of(monkeypatch, (2, longest, 3), np.float32) == "rows"
    assert layout_of(monkeypatch, (2, longest + 1, 3), np.float32) == "lanes"
    assert layout_of(monkeypatch, (2, longest, 3), np.float64) == "lanes"
    assert layout_of(monkeypatch, (2, 40, SHORTEST_INNER), np.float32) == "lanes"
    assert layout_of(monkeypatch, (2, 40, 1), np.float32) == "patched"
    assert layout_of(monkeypatch, (2, 40, 2), np.float32) == "patched"


def test_losses_of_many_arrays_are_not_turned():
    """The stack has room for a number of them."""
    names = [f"x{number}" for number in range(17)]
    text = f"""
@jitloss.rowwise
class of_many:
    def terms({", ".join(names)}):
        return {" + ".join(names)}
    def value(sums):
        return sums
    def slope(x0):
        return x0 * 0.0 + 1.0
"""
    spread: dict[str, Any] = {"jitloss": jitloss}
    exec(text, spread)
    assert len(spread["of_many"].definition.inputs) == 17
    inputs = [np.full((3, 40, 5), float(number)) for number in range(17)]
    value, gradient = spread["of_many"].value_and_gradient(*inputs, axis=1)
    assert value == 40.0 * sum(range(17))
    assert np.ptp(gradient) == 0.0


@pytest.mark.parametrize("shape", [(2, BLOCK_BYTES // 8, 3), (9, 5000, 5)], ids=str)
def test_rows_that_fill_a_block(shape):
    random = np.random.default_rng(0)
    check(
        jitloss.cross_entropy_with_logits.value_and_gradient,
        [random.normal(size=shape).astype(np.float32), random.integers(0, shape[1], (shape[0], shape[2]))],
    )
