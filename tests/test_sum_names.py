"""Names in sums of losses: those of one member do not affect another's."""

import inspect

import numpy as np
import pytest

import jitloss
from cases import flat
from jitloss import cross_entropy_with_logits, huber_loss, triplet_loss
from jitloss.definition import Binary, Probability, RealTarget

ONE, ZERO = np.array([5.0]), np.array([0.0])
ROWS = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 1.0]])


@jitloss.pointwise
def squared(prediction, target):
    error = prediction - target
    return error * error, 2.0 * error


@jitloss.pointwise
def like_an_input(x, t, prediction=3.0):
    return prediction * (x - t), prediction


@jitloss.pointwise
def like_a_public_name(x, t, predictions=3.0):
    return predictions * (x - t), predictions


@jitloss.pointwise
def like_a_new_name(prediction, target, huber_loss_delta=7.0):
    return huber_loss_delta * (prediction - target), huber_loss_delta


@jitloss.pointwise
def a_number(prediction, target, k=1.0):
    return k * (prediction - target), k


@jitloss.pointwise
def a_switch(prediction, target, k=True):
    error = prediction - target
    return (error, 1.0) if k else (error * error, 2.0 * error)


@jitloss.rowwise
class energy:
    scale = 0.1

    def terms(logit, target):
        return logit * logit

    def value(sums, scale):
        return scale * sums

    def slope(logit, scale):
        return 2.0 * scale * logit


@jitloss.rowwise
class pulled:
    pull = 0.5

    def terms(anchor, positive, negative):
        return anchor * anchor + positive - negative

    def value(sums, pull):
        return pull * sums

    def slope(anchor, pull):
        return 2.0 * pull * anchor, pull, -pull


@jitloss.rowwise
class plain_rows:
    def terms(prediction, target: RealTarget):
        error = prediction - target
        return error * error

    def value(sums):
        return sums

    def slope(prediction, target):
        return 2.0 * (prediction - target)


@jitloss.rowwise
class named_coefficient:
    def terms(x, t: RealTarget):
        return x - t

    def value(sums):
        return sums, 1.0

    def slope(x, prediction):
        return prediction


PAIRS = [
    (squared, like_an_input, (ONE, ZERO)),
    (squared, like_a_public_name, (ONE, ZERO)),
    (a_number, a_switch, (ONE, ZERO)),
    (cross_entropy_with_logits, energy, (ROWS, np.eye(3)[:2])),
    (triplet_loss, pulled, (ROWS, ROWS[::-1], ROWS + 0.5)),
    (plain_rows, named_coefficient, (ROWS, 0 * ROWS)),
]


@pytest.mark.parametrize(("first", "second", "inputs"), PAIRS, ids=lambda one: getattr(one, "__name__", ""))
def test_names_of_one_member_are_no_names_of_another(first, second, inputs):
    apart = [one.value_and_gradient(*inputs) for one in (first, second)]
    for together in (first + second, second + first):
        value, gradient = together.value_and_gradient(*inputs)
        assert value == pytest.approx(sum(one for one, _ in apart), rel=1e-12)
        for mine, *parts in zip(flat(gradient), *(flat(one) for _, one in apart), strict=True):
            np.testing.assert_allclose(mine, sum(parts), rtol=1e-12)


def test_a_new_name_is_nobody_elses():
    other = huber_loss.with_parameters(delta=2.0)
    want = huber_loss([5.0], [0.0]) + other([5.0], [0.0]) + like_a_new_name([5.0], [0.0])
    for loss in (huber_loss + other + like_a_new_name, like_a_new_name + huber_loss + other):
        assert loss([5.0], [0.0]) == pytest.approx(want)
        assert loss([5.0], [0.0], huber_loss_delta=0.0) == pytest.approx(want - 35.0)
        assert len({"delta", *inspect.signature(loss).parameters}) == len(inspect.signature(loss).parameters) + 1


def test_a_number_and_a_switch_stay_apart():
    for loss in (a_number + a_switch, a_switch + a_number):
        assert loss([3.0], [0.0], a_number_k=5.0, a_switch_k=False) == 24.0


def test_equal_parameters_are_one():
    assert "delta" in inspect.signature(huber_loss + squared + huber_loss).parameters


@jitloss.pointwise
def binary(prediction: Probability, label: Binary):
    return (prediction - label) * (prediction - label), 2.0 * (prediction - label)


def test_inputs_have_the_first_losses_names():
    for first in (jitloss.focal_loss, jitloss.binary_cross_entropy):
        assert list(inspect.signature(first + binary).parameters)[:2] == ["predictions", "targets"]
        assert list(inspect.signature(binary + first).parameters)[:2] == ["predictions", "labels"]


@jitloss.pointwise
def sample(prediction, target, weight=1.0):
    return weight * (prediction - target), weight


@jitloss.pointwise
def another(prediction, target, weight=2.0):
    return weight * (prediction - target), weight


def test_new_names_are_no_options():
    for loss in (sample + another, another + sample):
        assert loss([1.0, 1.0], [0.0, 0.0], sample_weight=[1.0, 0.5]) == pytest.approx(3.0 * 0.75)
        assert "another_weight" in repr(loss)
