"""Reductions, weights and labels on a simulated device: the results are those of the CPU."""

import numpy as np
import pytest

import jitloss
import simulation

if reason := simulation.missing():
    pytest.skip(reason, allow_module_level=True)

from numba import cuda

from cases import INF, NAN, Case, draw, weights
from jitloss import cross_entropy_with_logits, mse_loss
from simulation import (
    BINARY,
    CLASSES,
    LOGITS,
    NUMPY_FORMS,
    compare,
    each_averaged,
    each_labelled,
    equal_on_both_sides,
    items_of,
    on_device,
    on_host,
    product,
    small,
)

pytestmark = simulation.MARKS

# Reductions and weights -------------------------------------------------------------------------------------------------------


@each_averaged
def test_reductions_and_normalizers(case):
    inputs, weight = small(case, ignored=True), weights(items_of(case))
    equal_on_both_sides(case.loss, *inputs, forms=NUMPY_FORMS, reduction="none")
    equal_on_both_sides(case.loss, *inputs, reduction="sum")
    equal_on_both_sides(case.loss, *inputs, normalizer=7.5)
    equal_on_both_sides(case.loss, *inputs, normalizer="weights")
    equal_on_both_sides(case.loss, *inputs, normalizer="weights", sample_weight=weight)
    equal_on_both_sides(case.loss, *inputs, reduction="none", sample_weight=weight)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "bool"])
@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS], ids=repr)
def test_weights_on_the_device(case, dtype):
    inputs, weight = small(case), np.asarray([2, 0, 1] if case.rowwise else [2, 0, 1] * 6 + [1]).astype(dtype)
    for options in ({}, {"normalizer": "weights"}, {"reduction": "none"}):
        equal_on_both_sides(case.loss, *inputs, sample_weight=weight, device={"sample_weight": on_device(weight)}, **options)


@pytest.mark.parametrize("on", [on_device, np.asarray])
@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (3, 2, 4)])
@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS], ids=repr)
def test_weights_are_spread_over_trailing_axes(case, shape, on):
    inputs = draw(case, (3, 2, 4, 5) if case.rowwise else (3, 2, 4), "float32")
    weight = np.asarray(weights(shape) + 0.1)
    for options in ({"normalizer": "weights"}, {"reduction": "none"}):
        equal_on_both_sides(case.loss, *inputs, sample_weight=weight, device={"sample_weight": on(weight)}, **options)


def test_a_weight_of_nothing_takes_nothing_in():
    """Items of weight 0 contribute nothing, not even NaN."""
    logits, labels, weight = np.array([[0, NAN], [0, 1]], np.float32), np.array([0, 1]), np.array([0.0, 1.0])
    for options in ({}, {"normalizer": "weights"}, {"reduction": "none"}):
        got = equal_on_both_sides(cross_entropy_with_logits, logits, labels, sample_weight=weight, **options)
        assert np.isfinite(got[1]).all()
    got = equal_on_both_sides(cross_entropy_with_logits, logits, labels, sample_weight=0 * weight, normalizer="weights")
    assert got[0] == 0.0
    assert (got[1] == 0.0).all()


@pytest.mark.parametrize(
    "weight", [np.array([0.5, 1.0, 2.0, 0.0, 3.0]), {0: 2.0, 3: 0.25}, "balanced"], ids=["array", "dict", "balanced"]
)
@pytest.mark.parametrize("case", CLASSES, ids=repr)
def test_class_weights(case, weight):
    inputs = small(case, ignored=True)
    for options in ({}, {"normalizer": "weights", "sample_weight": weights((3,))}, {"reduction": "none", "label_smoothing": 0.1}):
        equal_on_both_sides(case.loss, *inputs, class_weight=weight, **options)


@pytest.mark.parametrize("weight", [np.array([0.5, 2.0]), {1: 3.0}, "balanced"], ids=["array", "dict", "balanced"])
@pytest.mark.parametrize("case", BINARY, ids=repr)
def test_class_weights_of_two(case, weight):
    inputs = small(case)
    if isinstance(weight, str):
        inputs[1] = np.round(inputs[1])
    for options in ({}, {"normalizer": "weights", "sample_weight": weights((19,))}, {"reduction": "none"}):
        equal_on_both_sides(case.loss, *inputs, class_weight=weight, **options)


def test_class_weights_on_the_device():
    inputs, weight = small(LOGITS), np.array([0.5, 1.0, 2.0, 0.0, 3.0])
    equal_on_both_sides(LOGITS.loss, *inputs, class_weight=weight, device={"class_weight": on_device(weight)})


@pytest.mark.parametrize("weight", [3.0, 0.0, "balanced"])
@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_positive_weights(name, weight):
    predictions, targets = small(Case(jitloss.LOSSES[name]))
    equal_on_both_sides(jitloss.LOSSES[name], predictions, np.round(targets), pos_weight=weight)
    equal_on_both_sides(
        jitloss.LOSSES[name], predictions, np.round(targets), pos_weight=weight, class_weight="balanced", reduction="none"
    )


def test_nothing_has_any_weight():
    """Value and gradient are 0, whatever the arrays hold."""
    zeros, ones, nan = np.zeros(3), np.ones((3, 4), np.float32), np.full((3, 4), NAN, np.float32)
    for loss, inputs, options in (
        (mse_loss, (nan, nan), {"sample_weight": zeros}),
        (cross_entropy_with_logits, (nan, np.array([0, 1, 2])), {"sample_weight": zeros}),
        (cross_entropy_with_logits, (nan, np.full((3, 4), 0.25)), {"sample_weight": zeros}),
        (cross_entropy_with_logits, (ones, np.full((3, 4), 0.25)), {"class_weight": np.zeros(4)}),
        (cross_entropy_with_logits, (ones, np.array([0, 1, 1])), {"class_weight": {0: 0.0, 1: 0.0}}),
        (jitloss.binary_cross_entropy, (nan, np.ones((3, 4))), {"class_weight": [1.0, 0.0]}),
    ):
        value, gradient = equal_on_both_sides(loss, *inputs, normalizer="weights", **options)
        assert value == 0.0
        assert (gradient == 0.0).all()


@pytest.mark.parametrize("normalizer", ["count", "weights"])
def test_many_rows_are_counted(normalizer):
    """By several blocks, whose counts are added."""
    inputs = draw(LOGITS, (41, 2), "float32", ignored=True)
    equal_on_both_sides(
        cross_entropy_with_logits, *inputs, normalizer=normalizer, class_weight=[1.0, 3.0], sample_weight=weights((41,))
    )
    inputs[1][37] = 2
    with pytest.raises(ValueError, match="row 37"):
        cross_entropy_with_logits(*map(on_device, inputs), check=True)
    equal_on_both_sides(mse_loss, *draw(Case(mse_loss), (41,)), normalizer=normalizer, sample_weight=weights((41,)))


@pytest.mark.parametrize("seed", range(30))
def test_options_together(seed):
    """Random combinations of options."""
    case, inputs, options, given = product(seed)
    loss = case.loss
    forms = ("value", "value_gradient_hessian") if loss.definition.hessian else ("value", "value_and_gradient")
    equal_on_both_sides(loss, *inputs, forms=forms, size=1.0, device=given, **options)


# Labels -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", NUMPY_FORMS)
@each_labelled
def test_ignored_rows(case, form):
    inputs = draw(case, (5, 4), "float32", ignored=True)
    inputs[0][1] = [NAN, INF, -INF, 1e4]
    for options in (
        {},
        {"reduction": "none"},
        {"normalizer": "weights"},
        {"label_smoothing": 0.2, "class_weight": [1.0, 2.0, 3.0, 4.0]},
    ):
        equal_on_both_sides(case.loss, *inputs, forms=(form,), **options)


@each_labelled
def test_all_rows_ignored(case):
    logits, labels = np.full((3, 4), NAN, np.float32), np.full(3, -100)
    for options in ({}, {"normalizer": "weights"}, {"reduction": "sum"}, {"normalizer": "weights", "sample_weight": np.ones(3)}):
        value, gradient = equal_on_both_sides(case.loss, logits, labels, **options)
        assert value == 0.0
        assert (gradient == 0.0).all()


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_another_ignored_label(dtype):
    logits, labels = draw(LOGITS, (4, 5), "float32")
    labels[1:3] = 2
    equal_on_both_sides(cross_entropy_with_logits, logits, labels.astype(dtype), ignore_index=2)
    equal_on_both_sides(cross_entropy_with_logits, logits, labels.astype(dtype), ignore_index=None)
    equal_on_both_sides(cross_entropy_with_logits, logits, labels.astype(dtype), ignore_index=-1, reduction="none")


def test_an_ignored_label_that_the_dtype_cannot_hold():
    """-100 is not a uint64, and the uint64 with the same bits is an invalid label; 2**63 + 1 is a uint64, and can be ignored."""
    logits, labels = small(LOGITS)
    labels = labels.astype(np.uint64)
    labels[1] = 2**64 - 100
    items = on_host(cross_entropy_with_logits(on_device(logits), on_device(labels), reduction="none"))
    assert np.isnan(items).tolist() == [False, True, False]
    labels[1] = 2**63
    assert np.isnan(on_host(cross_entropy_with_logits(on_device(logits), on_device(labels), reduction="none")))[1]
    labels[1] = 2**63 + 1
    equal_on_both_sides(cross_entropy_with_logits, logits, labels, ignore_index=2**63 + 1)


def test_the_least_label_is_ignored_only_where_it_is_said():
    """NaN cast to int64 is -2**63: not a class, but a label that may be ignored like any other."""
    logits, labels = small(LOGITS)
    labels = labels.astype(np.int64)
    labels[1] = -(2**63)
    items = on_host(cross_entropy_with_logits(on_device(logits), on_device(labels), ignore_index=None, reduction="none"))
    assert np.isnan(items).tolist() == [False, True, False]
    equal_on_both_sides(cross_entropy_with_logits, logits, labels, ignore_index=-(2**63))


@pytest.mark.parametrize("dtype", ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))])
@each_labelled
def test_label_dtypes(case, dtype):
    logits, labels = draw(case, (4, 2), "float32")
    equal_on_both_sides(case.loss, logits, labels.astype(dtype))


@pytest.mark.parametrize("options", [{"z_loss": 0.1}, {"softcap": 2.0}, {"z_loss": 0.1, "softcap": 2.0}], ids=str)
@pytest.mark.parametrize("case", [LOGITS, Case(cross_entropy_with_logits)], ids=repr)
def test_options_of_logits_together(case, options):
    inputs = small(case, ignored=True)
    forms = ("value_and_gradient", "value_gradient_hessian")
    equal_on_both_sides(
        case.loss, *inputs, forms=forms, label_smoothing=0.1, class_weight="balanced", sample_weight=weights((3,)), **options
    )
    equal_on_both_sides(case.loss, *inputs, forms=forms, label_smoothing=1.0, reduction="none", **options)


@pytest.mark.parametrize("label", [5, -1, -(2**62), 2**62])
@each_labelled
def test_a_bad_label_makes_its_row_nan(case, label):
    logits, labels = draw(case, (4, 5), "float32")
    good = case.loss.value_and_gradient(logits, labels, reduction="none")
    labels[2] = label
    arguments = on_device(logits), on_device(labels)
    assert np.isnan(on_host(case.loss(*arguments)))
    items, gradient = on_host(case.loss.value_and_gradient(*arguments, reduction="none"))
    mean = on_host(case.loss.gradient(*arguments))
    for got, want in ((items, good[0]), (gradient, good[1]), (mean, good[1] / np.float32(4))):
        assert np.isnan(got[2]).all()
        compare(np.delete(got, 2, axis=0), np.delete(want, 2, axis=0), "the other rows")


@each_labelled
def test_bad_labels_are_looked_for_where_that_is_wanted(case):
    logits, labels = draw(case, (4, 5), "float32")
    compare(on_host(case.loss(on_device(logits), on_device(labels), check=True)), case.loss(logits, labels), "value")
    labels[1], labels[2] = -100, 9
    with pytest.raises(ValueError, match="row 2") as wanted:
        case.loss(logits, labels)
    out = cuda.to_device(np.full_like(logits, 5.0))
    for form, options in (("value", {}), ("gradient", {"out": out})):
        with pytest.raises(ValueError, match="is 9") as raised:
            getattr(case.loss, form)(on_device(logits), on_device(labels), check=True, **options)
        assert str(raised.value) == str(wanted.value)
    assert (on_host(out) == 5.0).all(), "a call that fails leaves out as it was"


def test_weights_are_looked_at_where_that_is_wanted():
    inputs, weight = small(Case(mse_loss)), np.ones(19)
    weight[7] = -1.0
    for given, options in ((weight, {}), (on_device(weight), {"check": True})):
        with pytest.raises(ValueError, match=r"sample_weight must not be negative, infinite or NaN, got -1\.0 at index 7"):
            mse_loss(*map(on_device, inputs), sample_weight=given, **options)
