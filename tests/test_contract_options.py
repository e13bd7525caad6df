"""The contract: what options mean, which values they reject, and calls in which no item counts."""

import inspect
import itertools
from typing import get_args

import numpy as np
import pytest

import jitloss
from cases import CASES, DTYPES, agree, draw, flat, is_binary
from contract import (
    HUGE,
    INF,
    NAN,
    each_averaged,
    each_case,
    each_class_case,
    inputs_of,
    out_for,
    refused,
    results,
    same,
)

# Options ----------------------------------------------------------------------------------------------------------------------


@each_averaged
def test_bad_reductions_and_normalizers(case):
    right = draw(case, case.shape, "float32")
    for reduction in ("average", "", None, 1, ["mean"], b"mean", np.array("mean")):
        refused(case, ValueError, right, "reduction", repr(reduction), forms=("value",), reduction=reduction)
    for normalizer in ("mean", 0, 0.0, -1.0, NAN, INF, HUGE, -HUGE, np.float32(0.0)):
        refused(case, ValueError, right, "normalizer", repr(normalizer), forms=("value",), normalizer=normalizer)
    for normalizer in (None, True, [1.0], np.array(2.0), 1j):
        refused(case, TypeError, right, "normalizer", repr(normalizer), forms=("value",), normalizer=normalizer)


@each_averaged
def test_each_item_has_its_value(case):
    for shape, axis in (((5, 4), -1), ((5, 4), 0), ((3, 5, 4), 1)):
        inputs = draw(case, shape, "float32", axis=axis)
        options = {"axis": axis} if case.rowwise else {}
        values, *gradients = results(case, *inputs, reduction="none", **options)
        assert values.shape == (tuple(np.delete(shape, axis)) if case.rowwise else shape)
        assert values.dtype == np.float32
        assert all(array.shape == shape for array in gradients)
        assert float(values.sum(dtype=np.float64)) == pytest.approx(case.loss(*inputs, reduction="sum", **options), rel=2e-6)


@each_averaged
def test_sample_weights_that_are_none(case):
    right = draw(case, case.shape, "float32")
    out = np.full(case.shape, 5.0, np.float32)
    given = {} if len(case.loss.definition.differentiable) > 1 else {"out": out}
    for dtype, bad in itertools.product(["float64", "float32", "float16"], [-1.0, NAN, -1e-3, -INF]):
        weight = np.ones(33, dtype)
        weight[[4, 9]] = bad
        refused(case, ValueError, right, "sample_weight", "index 4", forms=("gradient",), sample_weight=weight, **given)
        refused(case, ValueError, right, "sample_weight", "index 4", forms=("value",), sample_weight=weight.tolist())
    assert (out == 5.0).all()
    refused(case, ValueError, right, "sample_weight", "-1", forms=("value",), sample_weight=-1.0)
    for shape in ((32,), (34,), (1,), (7,), (33, 1), (33, 7, 1), (0,)):
        weight = np.ones(shape)
        refused(case, ValueError, right, "sample_weight", shape, "(33,)", forms=("value",), sample_weight=weight)
    for weight in (np.ones(33, complex), np.ones(33, object), ["a"] * 33, "weights", {0: 1.0}, object(), np.ma.ones(33)):
        refused(case, TypeError, right, "sample_weight", forms=("value",), sample_weight=weight)


@each_averaged
def test_sample_weights_may_be_anything_that_holds_numbers(case):
    right, weight = draw(case, case.shape, "float32"), np.arange(33) % 4
    want = results(case, *right, sample_weight=weight.astype(np.float32))
    for given in (
        weight,
        weight.astype(np.uint8),
        weight.tolist(),
        weight.astype(np.float16),
        weight.astype(">f8"),
        weight[::-1][::-1],
    ):
        same(results(case, *right, sample_weight=given), want)
    everything = results(case, *right, sample_weight=2.0)
    agree(everything[0], 2.0 * case.loss(*right), "float32")


@pytest.mark.parametrize("case", [case for case in CASES if "class_weight" in inspect.signature(case.loss).parameters], ids=repr)
def test_bad_class_weights(case):
    right = draw(case, case.shape, "float32")
    classes = 2 if is_binary(case) else 7
    for weight in ("unbalanced", np.ones(classes + 1), np.ones((classes, 1)), 1.0, {classes: 1.0}, {-1: 1.0}, {0.5: 1.0}, {"a": 1.0},
                   {0: -1.0}, {0: NAN}, {0: [1.0, 2.0]}, np.full(classes, NAN), -np.ones(classes)):  # fmt: skip
        refused(case, ValueError, right, "class_weight", forms=("value", "gradient"), class_weight=weight)
    for weight in (np.ones(classes, complex), ["a"] * classes, object(), {0: "a"}, {0: None}):
        refused(case, TypeError, right, "class_weight", forms=("value",), class_weight=weight)


@pytest.mark.parametrize("case", [case for case in CASES if is_binary(case)], ids=repr)
def test_balancing_needs_targets_that_are_one_or_the_other(case):
    predictions, targets = draw(case, case.shape, "float32")
    options = [name for name in ("class_weight", "pos_weight") if name in inspect.signature(case.loss).parameters]
    assert options
    targets[3] = 0.5
    for option in options:
        refused(case, ValueError, (predictions, targets), option, "balanced", forms=("value",), **{option: "balanced"})
        refused(case, ValueError, (predictions, targets), option, "even", forms=("value",), **{option: "even"})


@each_class_case
def test_bad_smoothing(case):
    right = draw(case, case.shape, "float32")
    for bad in (-0.1, 1.1, NAN, INF, HUGE):
        refused(case, ValueError, right, "label_smoothing", repr(bad), forms=("value",), label_smoothing=bad)
    for bad in (None, True, "a bit", [0.1], np.array(0.1)):
        refused(case, TypeError, right, "label_smoothing", repr(bad), forms=("value",), label_smoothing=bad)


PARAMETERS = [(case, one) for case in CASES if not case.labels for one in case.loss.definition.parameters]


@pytest.mark.parametrize(("case", "parameter"), PARAMETERS, ids=lambda one: getattr(one, "name", repr(one)))
def test_bad_parameters(case, parameter):
    right = draw(case, case.shape, "float32")
    given = {"forms": ("value",)}
    if isinstance(parameter.default, bool):
        for bad in (None, 1, 0.0, "yes", [True], np.array(True)):
            refused(case, TypeError, right, parameter.name, repr(bad), **given, **{parameter.name: bad})
        return
    outside = [NAN, HUGE, -HUGE, *(number for number in (-1.0, -INF, INF, 0.0, 2.0) if number not in parameter.range)]
    for bad in outside:
        refused(case, ValueError, right, parameter.name, repr(bad), **given, **{parameter.name: bad})
    others = [True, [1.0], np.array(1.0), 1j, object(), *([] if parameter.optional else [None])]
    if parameter.name != "pos_weight":
        others.append("1")
    for bad in others:
        refused(case, TypeError, right, parameter.name, repr(bad), **given, **{parameter.name: bad})
    for bad in outside[:1]:
        with pytest.raises(ValueError, match=parameter.name):
            case.loss.with_parameters(**{parameter.name: bad})


LARGEST = float(np.finfo(np.float64).max)
ENDS = {
    "Positive": ((5e-324, LARGEST), (0.0, INF)),
    "NonNegative": ((0.0, LARGEST), (-5e-324, INF)),
    "Exponent": ((0.0, LARGEST), (-5e-324, INF)),
    "Fraction": ((5e-324, np.nextafter(1.0, 0.0)), (0.0, 1.0)),
    "Share": ((0.0, 1.0), (-5e-324, np.nextafter(1.0, 2.0))),
    "Epsilon": ((5e-324, np.nextafter(0.5, 0.0)), (0.0, 0.5)),
}


@pytest.mark.parametrize(("name", "ends"), ENDS.items(), ids=ENDS)
def test_ends_of_ranges(name, ends):
    """Each kind of parameter takes exactly the numbers of its description, up to the ends of the range."""
    values = get_args(getattr(jitloss.definition, name))[1]
    inside, outside = ends
    assert [one in values for one in inside] == [True, True]
    assert [one in values for one in outside] == [False, False]
    assert NAN not in values


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("case", [case for case, one in PARAMETERS if one.name == "epsilon"], ids=repr)
def test_clipping(case, dtype):
    """A saturated mistake has a finite value and a finite gradient that does not vanish; epsilon is never below float32's steps."""
    right = np.eye(2, dtype=dtype) if case.rowwise else np.array([0.0, 1.0], dtype)
    wrong = 1 - right
    plain = {"alpha": None} if "alpha" in inspect.signature(case.loss).parameters else {}
    for epsilon in (1e-7, 1e-3, 1e-30):
        value, gradient = case.loss.value_and_gradient(wrong, right, epsilon=epsilon, reduction="none", **plain)
        floor = epsilon if dtype == "float64" else max(epsilon, 2.0**-24)
        agree(value, np.full(2, -np.log(floor)), looser=3.0)
        if dtype != "float16":  # 1 / epsilon is beyond float16, and comes out as inf there
            assert np.isfinite(gradient).all()
        assert (gradient[right == 1] != 0).all() if case.rowwise else (gradient != 0).all()


# Nothing at all ---------------------------------------------------------------------------------------------------------------


@each_case
def test_empty_arrays(case):
    shapes = [(0, 3), (2, 0, 3)] + ([] if case.labels else [(0,), (3, 0), (0, 0)])
    for shape, dtype in itertools.product(shapes, ["float32", "float16"]):
        inputs = draw(case, shape, dtype)
        for _ in range(2):
            value, *gradients = results(case, *inputs)
            assert (type(value), value) == (float, 0.0)
            assert all((array.shape, array.dtype) == (shape, DTYPES[dtype]) for array in gradients)
            assert case.loss(*inputs) == 0.0
        outs = [np.empty(shape, DTYPES[dtype]) for _ in gradients]
        given = case.loss.gradient(*inputs, out=out_for(case, outs))
        assert all(mine is out for mine, out in zip(flat(given), outs, strict=True))
    if not case.loss.definition.is_penalty:
        inputs = draw(case, (0, 3), "float32")
        for options in ({"normalizer": "weights"}, {"sample_weight": np.empty(0)}, {"reduction": "sum"}, {"normalizer": 4.0}):
            assert case.loss(*inputs, **options) == 0.0
        assert case.loss(*inputs, reduction="none").shape == ((0,) if case.rowwise else (0, 3))


@each_case
def test_empty_lists(case):
    rows = [[]] if case.rowwise and not case.labels else []
    inputs = [[] if one.per_row or (case.labels and one.space.target) else rows for one in inputs_of(case)]
    if case.labels:
        inputs[0] = np.empty((0, 3))
    if any(one.per_row for one in inputs_of(case)):
        inputs = [[1.0] if one.per_row else rows for one in inputs_of(case)]
    value, *gradients = results(case, *inputs)
    assert value == 0.0
    assert all(array.size == 0 and array.dtype == np.float64 for array in gradients)


def test_bools_name_classes_in_a_dict():
    logits, labels = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])
    want = jitloss.cross_entropy_with_logits(logits, labels, class_weight=[1.0, 3.0])
    assert jitloss.cross_entropy_with_logits(logits, labels, class_weight={np.True_: 3.0}) == want


def test_whole_floats_name_classes_in_a_dict():
    """As keys of a dict they are the same anyway, and floating targets are counted by floats."""
    x, t = np.array([0.5, -1.0, 2.0]), np.array([0.0, 1.0, 1.0])
    loss = jitloss.binary_cross_entropy_with_logits
    assert loss(x, t, class_weight={0.0: 2.0, np.float32(1.0): 3.0}) == loss(x, t, class_weight=[2.0, 3.0])
    for bad in (0.5, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"class_weight names the class {bad!r}, wanted classes from 0 to 1"):
            loss(x, t, class_weight={bad: 1.0})
    with pytest.raises(TypeError, match="class_weight of the class 1 "):
        loss(x, t, class_weight={1: "x"})


@pytest.mark.parametrize("positive", [0.0, 1.0])
def test_one_class_alone_is_balanced(positive):
    x, t = np.array([0.5, -1.0]), np.full(2, positive)
    loss = jitloss.binary_cross_entropy_with_logits
    assert loss(x, t, pos_weight="balanced") == loss(x, t)


def test_weights_are_added_in_float64():
    weight = np.ones(4096, np.float32)
    weight[0] = 2.0**28
    value = jitloss.mse_loss(
        np.ones(4096, np.float32), np.zeros(4096, np.float32), sample_weight=weight, normalizer="weights", reduction="mean"
    )
    total = jitloss.mse_loss(np.ones(4096, np.float32), np.zeros(4096, np.float32), sample_weight=weight, reduction="sum")
    assert value == total / (2.0**28 + 4095)


LARGE = 2.0**28
"""Beside which a sum in float32 has no place for a few ones."""


@pytest.mark.parametrize("of", ["rows", "classes"])
def test_weights_of_rows_that_count_are_added_in_float64(of):
    labels = np.ones(4096, np.int64)
    labels[0], labels[-1] = 0, -100
    rows = np.where(np.arange(4096), 1, LARGE).astype(np.float32)
    options = {"sample_weight": rows} if of == "rows" else {"class_weight": np.array([LARGE, 1.0], np.float32)}
    logits = np.zeros((4096, 2), np.float32)
    total = jitloss.cross_entropy_with_logits(logits, labels, reduction="sum", **options)
    assert jitloss.cross_entropy_with_logits(logits, labels, normalizer="weights", **options) == total / (LARGE + 4094)


def test_weights_of_dense_targets_are_added_in_float64():
    logits, targets = np.zeros((3, 4096), np.float32), np.ones((3, 4096), np.float32)
    weights = np.where(np.arange(4096), 1, LARGE).astype(np.float32)
    total = jitloss.cross_entropy_with_logits(logits, targets, reduction="sum", class_weight=weights)
    mean = jitloss.cross_entropy_with_logits(logits, targets, normalizer="weights", class_weight=weights)
    assert mean == total / (3 * (LARGE + 4095))
