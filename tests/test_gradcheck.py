"""check_gradient: right gradients pass, wrong ones are found and their worst element named, kinks and clips are skipped."""

import numpy as np
import pytest

import jitloss
from cases import CASES, PARAMETRISED, draw
from jitloss import check_gradient
from jitloss.definition import Epsilon, Weight
from jitloss.math import abs, exp, log, maximum, sign, where

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
SMALL = {True: (3, 4), False: (7,)}


@each_case
def test_every_loss_passes(case):
    inputs = draw(case, SMALL[case.rowwise], "float64", seed=2)
    found = check_gradient(case.loss, *inputs)
    assert found, found
    assert found.passed is True
    count = sum(array.size for array, one in zip(inputs, case.loss.definition.inputs, strict=True) if one.differentiable)
    assert found.compared + found.skipped == count
    assert found.compared >= count / 2
    assert "gradient right" in str(found)
    kept = [array.copy() for array in inputs]
    check_gradient(case.loss, *inputs)
    for array, before in zip(inputs, kept, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(("case", "given"), PARAMETRISED, ids=str)
def test_every_parameter_passes(case, given):
    found = check_gradient(case.loss, *draw(case, SMALL[case.rowwise], "float64", seed=2), **given)
    assert found, found
    assert found.compared


@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
def test_options_and_sums(case):
    inputs = draw(case, SMALL[case.rowwise], "float64", seed=2)
    weight = np.linspace(0.0, 2.0, inputs[0].shape[0])
    assert check_gradient(case.loss, *inputs, sample_weight=weight, normalizer="weights")
    assert check_gradient(2.0 * case.loss - 0.25 * case.loss, *inputs)
    if case.loss.definition.takes_labels:
        assert check_gradient(case.loss, *inputs, label_smoothing=0.2, class_weight=np.arange(4.0))


@jitloss.pointwise
def sign_lost(prediction, target):
    """Wrong for negative errors."""
    error = prediction - target
    return error * error, 2.0 * abs(error)


@jitloss.pointwise
def factor_lost(prediction, target):
    error = prediction - target
    return error * error, 2.0 * error if prediction < 2.0 else 2.002 * error


@jitloss.pointwise
def nowhere(prediction, target):
    """A gradient that is NaN where the value is smooth."""
    return prediction * target, log(prediction) / log(prediction) * target


@jitloss.rowwise
class second_wrong:
    def terms(prediction, other):
        difference = prediction - other
        return difference * difference

    def value(sums):
        return sums

    def slope(prediction, other):
        return 2.0 * (prediction - other), 2.0 * (prediction - other)


def test_a_wrong_gradient_is_found():
    found = check_gradient(sign_lost, [1.0, 2.0, 0.5], [0.0, 5.0, 0.0])
    assert not found
    assert found.passed is False
    assert (found.input, found.index) == ("predictions", (1,))
    assert found.analytic == 6.0
    assert found.numeric == pytest.approx(-6.0)
    assert found.error == pytest.approx(2.0)
    assert (found.compared, found.skipped) == (3, 0)
    assert "WRONG" in str(found)
    assert "predictions[1]: gradient 6, central difference -6" in str(found)


def test_a_small_mistake_is_found_in_a_large_batch():
    """The mean of many elements hides nothing."""
    predictions = np.linspace(0.0, 1.0, 501)
    predictions[377] = 3.0
    found = check_gradient(factor_lost, predictions, np.zeros(501))
    assert not found
    assert found.index == (377,)
    assert check_gradient(factor_lost, predictions, np.zeros(501), tolerance=1e-2)


def test_the_worst_input_of_several_is_named():
    found = check_gradient(second_wrong, [[1.0, 2.0]], [[0.5, -4.0]])
    assert not found
    assert (found.input, found.index) == ("others", (0, 1))
    assert (found.analytic, found.numeric) == (12.0, pytest.approx(-12.0))


def test_a_gradient_that_is_no_number_is_wrong():
    found = check_gradient(nowhere, [2.0, -1.0, 3.0], [1.0, 1.0, 1.0])
    assert not found
    assert found.index == (1,)
    assert np.isnan(found.analytic)
    assert "WRONG" in str(found)


def test_what_comes_from_no_numbers_is_skipped():
    found = check_gradient(jitloss.mse_loss, [np.nan, 1.0, np.inf], [0.0, 0.0, 0.0])
    assert found
    assert (found.compared, found.skipped) == (1, 2)
    assert not check_gradient(wrong, [np.nan, 1.0], [0.0, 0.0])  # and hides nothing else
    for loss, inputs in (
        (jitloss.mse_loss, ([1.0, 2.0], [np.nan, 0.0])),
        (jitloss.l1_loss, ([1.0, np.inf], [0.0, 0.0])),  # a gradient, but no difference quotient
        (fading, ([1.0, 2.0], [np.inf, 0.0])),  # the other way round
    ):
        found = check_gradient(loss, *inputs)
        assert (found.passed, found.compared, found.skipped) == (True, 1, 1)


@jitloss.pointwise
def fading(prediction, target):
    return prediction * exp(-target), (1.0 + target) * exp(-target) / (1.0 + target)


@jitloss.pointwise
def wrong(prediction, target):
    error = prediction - target
    return error * error, 77.0 * error


@jitloss.pointwise
def naive_softplus(prediction, target):
    return log(1.0 + exp(prediction)), exp(prediction) / (1.0 + exp(prediction))


@jitloss.pointwise
def overflowing(prediction, target):
    return exp(prediction), 1.0


@jitloss.pointwise
def curved(prediction, target):
    return 1e6 * prediction * prediction, 5.0 + 0.0 * prediction


def test_what_overflows_is_wrong():
    found = check_gradient(naive_softplus, [1.0, 800.0], [0.0, 0.0])
    assert not found
    assert (found.index, found.skipped) == ((1,), 0)
    assert not check_gradient(wrong, [1e200, 1.0], [0.0, 0.0])
    found = check_gradient(overflowing, [0.0, 800.0], [0.0, 0.0])
    assert (found.passed, found.index, found.skipped) == (False, (1,), 0)


def test_a_large_item_hides_no_small_one():
    for loss, inputs in (
        (jitloss.mse_loss, ([1e5, 0.3], [0.0, 0.0])),
        (jitloss.poisson_nll_loss, ([20.0, 0.3], [1.0, 1.0])),
        (jitloss.huber_loss, ([1e10, 0.3], [0.0, 0.0])),
        (jitloss.l2_regularization, ([1e7, 0.3], 1.0)),
    ):
        found = check_gradient(loss, *inputs)
        assert found, found
        assert found.compared == 2
    assert not check_gradient(wrong, [1e9, 1e-3], [0.0, 1.0])


@jitloss.pointwise
def gradient_lost(prediction, target):
    return 100.0 * prediction, 0.5 + 0.0 * target


def test_an_error_is_relative_to_the_larger_of_both():
    assert check_gradient(gradient_lost, [1.0], [0.0]).error == pytest.approx(0.995)


@jitloss.pointwise
def tube(prediction, target, epsilon=0.1):
    size = abs(prediction - target)
    return maximum(size - epsilon, 0.0), where(size > epsilon, sign(prediction - target), 0.0)


def test_a_kink_beyond_the_shorter_step_skips_nothing():
    """Inside the tube, so close to its end that only the first comparison disagrees."""
    found = check_gradient(tube, [0.1 - 5e-6], [0.0])
    assert (found.passed, found.compared, found.skipped) == (True, 1, 0)


def test_a_strong_curvature_is_no_kink():
    found = check_gradient(curved, [0.0], [0.0])
    assert (found.passed, found.compared, found.skipped) == (False, 1, 0)


def test_penalties_of_several_arrays():
    found = check_gradient(jitloss.l2_regularization, {"a": [1.0, 2.0], "b": {"c": [3.0]}})
    assert found
    assert found.compared == 3
    assert found.input.startswith("params[")
    assert check_gradient(jitloss.l1_regularization, {}).compared == 0
    assert check_gradient(jitloss.l2_regularization, {"a": [3.3], "b": [0.0]}).input == "params['a']"  # the worst
    assert check_gradient(jitloss.l2_regularization, {"a": [1.0]}, 2.0).analytic == 2.0


def test_the_step_is_half_the_distance():
    assert check_gradient(cubic, [1.0], [0.0], step=0.25, tolerance=1.0).numeric == pytest.approx(3.0 + 0.25**2)


@jitloss.pointwise
def cubic(prediction, target):
    return prediction * prediction * prediction, 3.0 * prediction * prediction


@jitloss.rowwise
class of_groups:
    """A penalty on the squared size of each row."""

    def terms(parameter: Weight):
        return parameter * parameter

    def value(sums):
        return sums * sums, 4.0 * sums

    def slope(parameter, scale):
        return scale * parameter


def test_penalties_on_rows():
    found = check_gradient(of_groups, {"a": [[1.0, 2.0], [3.0, 4.0]]})
    assert (found.passed, found.compared) == (True, 4)


def test_step_and_tolerance_apply_to_each_of_several_arrays():
    alone = check_gradient(jitloss.l2_regularization, [1.3, 0.4], step=0.25)
    several = check_gradient(jitloss.l2_regularization, {"a": [1.3, 0.4]}, step=0.25)
    assert (several.error, several.numeric) == (alone.error, alone.numeric)
    assert alone.numeric != check_gradient(jitloss.l2_regularization, [1.3, 0.4]).numeric
    assert not check_gradient(jitloss.l2_regularization, {"a": [1.3, 0.4]}, tolerance=1e-18, step=1e-5)


KINKS = [
    (jitloss.l1_loss, [[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]], {}, 0),  # halfway between the slopes is what the gradient is
    (jitloss.hinge_loss, [[1.0, -1.0, 0.5], [1.0, -1.0, 1.0]], {}, 2),
    (jitloss.quantile_loss, [[2.0, 1.0], [2.0, 0.0]], {"quantile": 0.2}, 1),
    (jitloss.triplet_loss, [[[0.0, 0.0]], [[1.0, 0.0]], [[3.0, 4.0]]], {"margin": 4.0}, 5),
    (jitloss.contrastive_loss, [[[0.0, 0.0]], [[0.0, 0.0]], [0.0]], {}, 0),
    (jitloss.binary_cross_entropy, [[0.0, 1.0, 0.5], [1.0, 0.0, 1.0]], {"epsilon": 0.01}, 2),
    (jitloss.cross_entropy_loss, [[[0.001, 0.999]], [0]], {"epsilon": 0.01}, 1),
    (jitloss.focal_loss, [[0.001, 0.5], [1.0, 1.0]], {"epsilon": 0.01, "gamma": 0.0}, 1),
]


@pytest.mark.parametrize(("loss", "inputs", "options", "skipped"), KINKS, ids=lambda one: getattr(one, "__name__", None))
def test_kinks_and_clips_are_skipped_and_counted(loss, inputs, options, skipped):
    found = check_gradient(loss, *inputs, **options)
    assert found, found
    assert found.skipped == skipped
    assert f"{skipped} on a kink or a clip skipped" in str(found)


@pytest.mark.parametrize("distance", [1e-7, 4e-7, 5.5e-7, 1e-6, 5e-6, 1.5e-5])
def test_right_gradients_pass_however_near_a_kink_or_a_clip_is(distance):
    for loss, inputs in (
        (jitloss.l1_loss, ([distance, 1.0], [0.0, 0.0])),
        (jitloss.binary_cross_entropy, ([0.01 - distance, 0.5], [1.0, 1.0])),
        (jitloss.binary_cross_entropy, ([0.01 + distance, 0.5], [1.0, 1.0])),
    ):
        options = {} if loss is jitloss.l1_loss else {"epsilon": 0.01}
        found = check_gradient(loss, *inputs, **options)
        assert found, found


def test_wrong_gradients_near_a_kink_are_found():
    found = check_gradient(wrong_on_both_sides, [1e-6], [0.0])
    assert (found.passed, found.compared, found.skipped) == (False, 1, 0)
    found = check_gradient(far_too_steep, [0.0], [0.0])
    assert (found.passed, found.compared, found.skipped) == (False, 1, 0)


@jitloss.pointwise
def far_too_steep(prediction, target):
    return abs(prediction - target), 1e3


def test_sums_clip_where_a_member_does():
    """Its epsilon has the member's name before it, since the other's default is different."""
    both = jitloss.binary_cross_entropy + clipped_late
    found = check_gradient(both, [-0.1, 0.5], [1.0, 1.0])
    assert (found.passed, found.compared, found.skipped) == (True, 1, 1)


@jitloss.pointwise
def clipped_late(prediction, target, epsilon: Epsilon = 1e-3):
    inside = maximum(prediction, epsilon)
    return -log(inside), -1.0 / inside


def test_a_flat_value_is_an_excuse_for_losses_that_clip_only():
    @jitloss.pointwise
    def flat(prediction, target):
        return 0.0 * prediction, 1.0

    found = check_gradient(flat, [1.0], [0.0])
    assert (found.passed, found.compared, found.skipped) == (False, 1, 0)


@jitloss.pointwise
def clipped(prediction, target, epsilon: Epsilon = 1e-7):
    """A wrong gradient of a loss that clips."""
    return maximum(prediction, epsilon), 2.0


def test_a_clip_is_no_excuse_elsewhere():
    found = check_gradient(clipped, [0.5, -1.0], [0.0, 0.0])
    assert (found.passed, found.compared, found.skipped) == (False, 1, 1)


def test_rows_along_another_axis():
    logits, labels = np.array([[0.3, -1.0, 2.0], [0.1, 0.7, -0.4]]), [0, 1, 1]
    found = check_gradient(jitloss.cross_entropy_with_logits, logits, labels, axis=0)
    assert (found.passed, found.compared) == (True, 6)


def test_inputs_are_left_alone():
    predictions = np.array([0.3, -2.0])
    predictions.flags.writeable = False
    assert check_gradient(jitloss.mse_loss, predictions, [0.0, 1.0])
    mine = predictions.copy()
    assert check_gradient(jitloss.mse_loss, mine, mine[::-1])
    np.testing.assert_array_equal(mine, predictions)


def test_inputs_by_keyword_of_any_kind():
    right = check_gradient(jitloss.huber_loss, [0.3, -2.0], [0.0, 0.5], 1.5)
    assert right
    for found in (
        check_gradient(jitloss.huber_loss, predictions=[0.3, -2.0], targets=[0.0, 0.5], delta=1.5),
        check_gradient(jitloss.huber_loss, (0.3, -2.0), targets=np.array([0.0, 0.5]), delta=1.5),
        check_gradient(jitloss.huber_loss, np.array([0.3, -2.0], np.float32).astype(np.float64), [0.0, 0.5], delta=1.5),
    ):
        assert found
        assert found.compared == right.compared == 2
    assert check_gradient(jitloss.mse_loss, 3, 1)
    assert check_gradient(jitloss.mse_loss, [], []).compared == 0


@pytest.mark.parametrize(
    ("loss", "args", "options", "error", "message"),
    [
        (jitloss.mse_loss.gradient, ([1.0], [2.0]), {}, TypeError, "check_gradient: loss must be a jitloss loss"),
        ("mse_loss", ([1.0], [2.0]), {}, TypeError, "check_gradient: loss must be a jitloss loss"),
        (None, (), {}, TypeError, "check_gradient: loss must be"),
        (jitloss.mse_loss, ([1.0],), {}, TypeError, "mse_loss.*missing a required argument: 'targets'"),
        (jitloss.mse_loss, (), {}, TypeError, "mse_loss.*missing"),
        (jitloss.mse_loss, ([1.0], [2.0], 3.0), {}, TypeError, "too many positional"),
        (jitloss.mse_loss, ([1.0], [2.0, 3.0]), {}, ValueError, "same shape"),
        (jitloss.mse_loss, ("abc", [2.0]), {}, TypeError, "predictions is a builtins.str"),
        (jitloss.mse_loss, (["a"], [2.0]), {}, TypeError, "predictions must be .*dtype <U1"),
        (jitloss.mse_loss, ([1j], [2.0]), {}, TypeError, "predictions must be .*dtype complex128"),
        (jitloss.l2_regularization, ({"a": ["x"]},), {}, TypeError, "params must be"),
        (jitloss.mse_loss, ([1.0], [2.0]), {"out": np.ones(1)}, TypeError, "out"),
        (jitloss.mse_loss, ([1.0], [2.0]), {"axis": 0}, TypeError, "axis"),
        (jitloss.huber_loss, ([1.0], [2.0]), {"delta": -1.0}, ValueError, "delta"),
        (jitloss.mse_loss, ([1.0], [2.0]), {"step": 0.0}, ValueError, "check_gradient: step must be a positive number, got 0.0"),
        (jitloss.mse_loss, ([1.0], [2.0]), {"step": np.nan}, ValueError, "check_gradient: step"),
        (jitloss.mse_loss, ([1.0], [2.0]), {"step": "small"}, TypeError, "check_gradient: step"),
        (jitloss.mse_loss, ([1.0], [2.0]), {"tolerance": -1}, ValueError, "check_gradient: tolerance"),
        (jitloss.mse_loss, ([1.0], [2.0]), {"tolerance": None}, TypeError, "check_gradient: tolerance"),
    ],
)
def test_wrong_calls(loss, args, options, error, message):
    with pytest.raises(error, match=message):
        check_gradient(loss, *args, **options)


def test_what_the_loss_refuses_is_refused():
    with pytest.raises(ValueError, match="reduction must be"):
        check_gradient(jitloss.mse_loss, [1.0], [0.0], reduction="bogus")
    assert check_gradient(jitloss.l2_regularization, params={"a": [1.0]}).compared == 1
    assert check_gradient(jitloss.mse_loss, [1.0], targets=[0.5]).compared == 1


@jitloss.pointwise
def wrong_on_both_sides(prediction, target):
    error = prediction - target
    return abs(error), where(error > 0.0, 2.0, -1.0)


def test_nothing_compared_is_nothing_right():
    check = jitloss.check_gradient(wrong_on_both_sides, [0.0], [0.0])
    assert (bool(check), check.compared, check.skipped) == (False, 0, 1)
    assert str(check) == "gradient NOT CHECKED: 0 elements compared, 1 on a kink or a clip skipped"
    assert not jitloss.check_gradient(wrong_on_both_sides, [0.5], [0.0])
    assert jitloss.check_gradient(jitloss.l1_loss, [], [])


def test_a_number_that_is_none_hides_nothing_beside_it():
    check = check_gradient(factor_lost, [np.nan, 1.0, 3.0], [0.0, 0.0, 0.0])
    assert (bool(check), check.compared, check.skipped) == (False, 2, 1)


@jitloss.pointwise
def entropy(prediction, target):
    return prediction * log(prediction), log(prediction) + 1.0


def test_the_edge_of_a_domain_is_skipped():
    check = check_gradient(entropy, [1e-9, 1.0], [0.0, 0.0])
    assert (bool(check), check.compared, check.skipped) == (True, 1, 1)
    check = check_gradient(wrong_entropy, [9e-6], [0.0])  # so close that only the first comparison leaves the domain
    assert (bool(check), check.compared, check.skipped) == (False, 1, 0)


@jitloss.pointwise
def wrong_entropy(prediction, target):
    return prediction * log(prediction), log(prediction)


def test_an_infinite_step_is_none():
    with pytest.raises(ValueError, match="check_gradient: step"):
        check_gradient(jitloss.mse_loss, [1.0], [2.0], step=np.inf)


@jitloss.pointwise
def steep(prediction, target):
    """A line whose gradient is twice what it should be."""
    return 1e9 * (prediction - target), 2e9


@jitloss.pointwise
def steeper_than_it_says(prediction, target):
    return 1e9 * (prediction - target), 2.0


@jitloss.pointwise
def gentle(prediction, target):
    return 3.0 * (prediction - target), 2.0


@jitloss.pointwise
def high(prediction, target):
    return 1e7 + 3.0 * (prediction - target), 2.0


def test_the_noise_of_a_line_is_no_kink():
    for loss in (steep, steeper_than_it_says, gentle, high):
        found = check_gradient(loss, [0.1, 0.7, 1.3], [0.0, 0.0, 0.0])
        assert (found.passed, found.compared, found.skipped) == (False, 3, 0)


def test_an_array_on_a_kink_beside_one_that_is_right():
    found = check_gradient(jitloss.l1_regularization, {"a": [7e-8], "b": [1.0]})
    assert (found.passed, found.compared, found.skipped) == (True, 1, 1)
    for other in (1.0, 0.0):  # without an error, too
        found = check_gradient(jitloss.l1_regularization, {"a": [7e-8], "b": [other]})
        assert (found.passed, found.compared, found.skipped, found.input) == (True, 1, 1, "params['b']")
    found = check_gradient(jitloss.l1_regularization, {"a": [7e-8], "b": []})
    assert (found.passed, found.compared, found.skipped) == (False, 0, 1)


def test_nothing_has_no_error():
    assert check_gradient(jitloss.l1_loss, [], []).error == 0.0
