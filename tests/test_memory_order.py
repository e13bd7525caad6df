"""Large arrays that are not in C order: read in place, with gradients in the same layout."""

from typing import Any

import numpy as np
import pytest

import jitloss
from cases import CASES, Case, agree, draw
from kernel_layouts import axis_option, same_bits
from test_kernels import LITTLE, extra_memory, in_place


def as_it_lies(axes: tuple[int, ...]) -> Any:
    """A function that copies an array to another memory order."""
    return lambda array: np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


POINTWISE = {
    "fortran": ((2**9, 2**9), (1, 0)),
    "images": ((2**3, 2**6, 2**9), (0, 2, 1)),
    "turned": ((2**6, 2**4, 2**8), (1, 2, 0)),
}
ROWWISE = {
    "fortran": ((2**12, 2**6), -1, (1, 0)),
    "few columns": ((2**16, 2**2), -1, (1, 0)),
    "channels first": ((2**3, 2**9, 2**6), -1, (0, 2, 1)),
    "channels last": ((2**3, 2**6, 2**9), 1, (0, 2, 1)),
    "classes before all": ((2**3, 2**9, 2**6), 2, (2, 0, 1)),
}
PAIRS = [
    (case, shape, axis, axes)
    for case in CASES
    for shape, axis, axes in (ROWWISE.values() if case.rowwise else [(shape, -1, axes) for shape, axes in POINTWISE.values()])
]
each = pytest.mark.parametrize(("case", "shape", "axis", "axes"), PAIRS, ids=repr)


def lying(case: Case, inputs: list[Any], axes: tuple[int, ...]) -> list[Any]:
    whole = as_it_lies(axes)
    return [whole(array) if array.ndim == len(axes) else array for array in inputs]


def gradients(result: Any) -> list[Any]:
    return list(result.values()) if isinstance(result, dict) else [result]


@each
def test_nothing_is_copied_and_gradients_lie_like_the_predictions(case, shape, axis, axes):
    inputs, options = draw(case, shape, "float32", axis=axis), axis_option(case, axis)
    mine = lying(case, inputs, axes)
    value, gradient = case.loss.value_and_gradient(*mine, **options)
    wanted = case.loss.value_and_gradient(*inputs, **options)
    agree(value, wanted[0], "float32", looser=4)
    agree(gradient, wanted[1], looser=4)
    assert all(one.strides == mine[0].strides for one in gradients(gradient))
    assert extra_memory(lambda: case.loss(*mine, **options)) < LITTLE
    out = in_place(case, mine)
    assert extra_memory(lambda: case.loss.value_and_gradient(*mine, **options, out=out)) < LITTLE


@pytest.mark.parametrize(
    ("case", "shape", "axis", "axes"), [one for one in PAIRS if not one[0].loss.definition.is_penalty], ids=repr
)
def test_values_of_items_and_gradients_go_where_they_belong(case, shape, axis, axes):
    inputs, options = draw(case, shape, "float16", axis=axis), axis_option(case, axis)
    mine = lying(case, inputs, axes)
    values, gradient = case.loss.value_and_gradient(*mine, **options, reduction="none")
    wanted = case.loss.value_and_gradient(*inputs, **options, reduction="none")
    agree(values, wanted[0], looser=4)
    agree(gradient, wanted[1], looser=4)


@each
def test_out_may_lie_in_any_way(case, shape, axis, axes):
    inputs, options = draw(case, shape, "float32", axis=axis), axis_option(case, axis)
    mine = lying(case, inputs, axes)
    wanted = case.loss.gradient(*mine, **options)
    names = list(wanted) if isinstance(wanted, dict) else [""]
    for make in (
        np.empty_like,
        lambda one: np.empty(one.shape, one.dtype),
        lambda one: np.empty((*one.shape, 2), one.dtype)[..., 0],
    ):
        out = {name: make(mine[0]) for name in names}
        given = out if isinstance(wanted, dict) else out[""]
        got = case.loss.gradient(*mine, **options, out=given)
        assert all(one is another for one, another in zip(gradients(got), out.values(), strict=True))
        assert same_bits(got, wanted)
    copies = [array.copy(order="K") for array in mine]
    got = case.loss.gradient(*copies, **options, out=in_place(case, copies))
    assert same_bits(got, wanted)


N = 200
"""Of a square of more elements than are copied."""


def square(seed: int = 0, **options: Any) -> Any:
    return np.random.default_rng(seed).standard_normal((N, N), **options)


def test_the_predictions_decide_and_the_others_follow():
    p, t = square(0), square(1)
    wanted = jitloss.mse_loss.gradient(p, t)
    for mine, its in [(np.asfortranarray(p), t), (p, np.asfortranarray(t)), (np.asfortranarray(p), t[::-1][::-1])]:
        got = jitloss.mse_loss.gradient(mine, its)
        assert same_bits(got, wanted)
        assert got.strides == mine.strides


@pytest.mark.parametrize("turn", [lambda x: x[:, ::-1].T, lambda x: x.T[::2], lambda x: np.broadcast_to(x[:1], x.shape).T])
def test_what_lies_in_no_order_is_copied(turn):
    p, t = turn(square(0)), turn(square(1))
    got = jitloss.huber_loss.value_and_gradient(p, t)
    want = jitloss.huber_loss.value_and_gradient(p.copy(order="C"), t.copy(order="C"))
    assert got[0] == want[0]
    assert same_bits(got[1], want[1])


@pytest.mark.parametrize(("beside", "stays"), [(1, True), (2, False), (15, False), (16, True), (40, True)])
def test_few_rows_side_by_side_are_copied(beside, stays):
    """Then their gradient is in C order."""
    logits, labels = np.random.default_rng(0).standard_normal((400, 100, beside)).transpose(1, 0, 2), np.zeros((400, beside), int)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, axis=0)
    wanted = jitloss.cross_entropy_with_logits.value_and_gradient(logits.copy(order="C"), labels, axis=0)
    agree(value, wanted[0])
    agree(gradient, wanted[1])
    assert (gradient.strides == logits.strides) is stays
    assert gradient.flags.c_contiguous is not stays


def test_a_call_on_one_order_leaves_nothing_behind_for_another():
    """Plans come only from calls on arrays in C order, and serve only such calls."""
    logits, labels = square(2), np.arange(N) % N
    turned = np.asfortranarray(logits)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits.copy(), labels)
    for one in (turned, logits, turned, logits):
        got = jitloss.cross_entropy_with_logits.value_and_gradient(one, labels)
        assert got[0] == pytest.approx(value, rel=1e-14)
        np.testing.assert_allclose(got[1], gradient, rtol=1e-12)
        assert got[1].strides == one.strides


def test_weights_are_those_of_the_same_elements():
    p, t, weights = square(0), (square(1) > 0).astype(float), abs(square(2))
    turned = [np.asfortranarray(one) for one in (p, t, weights)]
    for options in [
        {"sample_weight": weights},
        {"sample_weight": weights[:, 0]},
        {"class_weight": [1.0, 3.0]},
        {"pos_weight": 2.0},
    ]:
        mine = {name: turned[2] if one is weights else one for name, one in options.items()}
        got = jitloss.binary_cross_entropy_with_logits.gradient(*turned[:2], **mine)
        np.testing.assert_allclose(got, jitloss.binary_cross_entropy_with_logits.gradient(p, t, **options), rtol=1e-14)
        assert got.flags.c_contiguous is ("sample_weight" in options)
    rows = abs(square(3))[0]
    targets = weights / weights.sum(axis=1, keepdims=True)
    options = {"sample_weight": rows, "class_weight": "balanced"}
    got = jitloss.cross_entropy_with_logits.gradient(turned[0], np.asfortranarray(targets), **options)
    assert got.flags.f_contiguous
    np.testing.assert_allclose(got, jitloss.cross_entropy_with_logits.gradient(p, targets, **options), rtol=1e-12, atol=1e-17)


def test_second_derivatives_lie_like_the_predictions_too():
    p, t = square(0), square(1)
    turned = [np.asfortranarray(one) for one in (p, t)]
    want = jitloss.huber_loss.value_gradient_hessian(p, t)
    got = jitloss.huber_loss.value_gradient_hessian(*turned)
    assert [one.strides for one in got[1:]] == [turned[0].strides] * 2
    assert all(same_bits(one, another) for one, another in zip(got[1:], want[1:], strict=True))
    out = (np.empty_like(turned[0]), np.empty_like(p))
    got = jitloss.huber_loss.value_gradient_hessian(*turned, out=out)
    assert got[1] is out[0]
    assert got[2] is out[1]
    assert all(same_bits(one, another) for one, another in zip(got[1:], want[1:], strict=True))


def test_messages_speak_of_the_arrays_as_they_were_given():
    p, t = np.zeros((N, 2 * N), order="F"), np.zeros((N, 2 * N), order="F")
    with pytest.raises(ValueError, match=r"out must have the shape of predictions, \(200, 400\), got \(400, 200\)"):
        jitloss.mse_loss.gradient(p, t, out=np.empty((2 * N, N)))
    with pytest.raises(ValueError, match="this one overlaps targets"):
        jitloss.mse_loss.gradient(p, t, out=t)
    with pytest.raises(ValueError, match="this one overlaps predictions"):
        jitloss.mse_loss.gradient(p, t, out=p.reshape(-1, order="F").reshape(N, 2 * N))
    p[3, 7] = np.nan
    with (
        jitloss.errstate(invalid="raise"),
        pytest.raises(FloatingPointError, match=r"first at item \(3, 7\), whose value is nan"),
    ):
        jitloss.mse_loss(p, t)
    half = t.astype(np.float16)
    half[3, 7] = 4e4
    with jitloss.errstate(invalid="raise"), pytest.raises(FloatingPointError, match=r"first at element \(3, 7\)"):
        jitloss.mse_loss.value_and_gradient(half, t.astype(np.float16), reduction="sum")
    half[3, 7] = 0.25
    for option in ("class_weight", "pos_weight"):
        with pytest.raises(ValueError, match=rf"{option}='balanced' needs targets .* got 0.25 at index \[3, 7\]"):
            jitloss.binary_cross_entropy_with_logits(np.zeros_like(p), half, **{option: "balanced"})
    labels = np.zeros(N, int)
    labels[5] = 400
    with pytest.raises(ValueError, match=r"targets\[5\] \(row 5\) is 400, wanted a class from 0 to 399"):
        jitloss.cross_entropy_with_logits(t, labels)
