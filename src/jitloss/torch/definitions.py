"""Losses that PyTorch defines differently, as maths like any other loss, with the names that error messages use."""

from dataclasses import KW_ONLY

from ..definition import Binary, Classes, Embedding, Logit, NonNegative, Positive, RealTarget
from ..loss import pointwise, rowwise
from ..losses.binary import binary_cross_entropy_with_logits as with_one_weight
from ..losses.regression import log_factorial
from ..math import abs, exp, log, log1p, maximum, power, sign, times, where

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "nll_loss",
    "poisson_nll_loss",
    "triplet_margin_loss",
]

_of_one_weight = with_one_weight.parts["point"].function


@pointwise
def binary_cross_entropy(prediction, target):
    """Binary cross-entropy whose logarithms are never below -100, and whose gradient divides by no less than 1e-12."""
    value = -target * maximum(log(prediction), -100.0) - (1.0 - target) * maximum(log1p(-prediction), -100.0)
    return value, (prediction - target) / maximum(prediction * (1.0 - prediction), 1e-12)


@pointwise
def binary_cross_entropy_with_logits(logit: Logit, target: Binary, pos_weight: RealTarget):
    """Binary cross-entropy with a weight of the positive class for each element."""
    return _of_one_weight(logit, target, pos_weight)


@pointwise
def kl_div(prediction, target, log_target=False):
    """Kullback-Leibler divergence of log-probabilities, element by element, from probabilities or their logarithms."""
    if log_target:
        probability = exp(target)
        return probability * (target - prediction), -probability
    return times(target, log(target)) - target * prediction, -target


@pointwise
def poisson_nll_loss(prediction, target, full=False, eps=1e-8):
    """Poisson negative log-likelihood of rates, not of their logarithms."""
    rate = prediction + eps
    value = prediction - target * log(rate)
    if full:
        value = value + log_factorial(target)
    return value, 1.0 - target / rate


@rowwise
class nll_loss:
    """Negative log-likelihood of rows of log-probabilities."""

    def terms(prediction, target: Classes):
        return times(target, prediction)

    def value(sums):
        return -sums

    def slope(prediction, target):
        return -target


def per_length(distance, p):
    """The divisor in the gradient of a norm; that of distance 0 is taken as 0."""
    return where(distance > 0.0, power(distance, 1.0 - p), 0.0)


def along(difference, p):
    return where(difference == 0.0, 0.0, sign(difference) * power(abs(difference), p - 1.0))


@rowwise
class triplet_margin_loss:
    """Triplet margin loss of distances in any norm, with ``eps`` added to each difference, and with ``swap`` the nearer negative."""

    margin: NonNegative = 1.0
    _: KW_ONLY
    p: Positive = 2.0
    eps: float = 1e-6
    swap: bool = False

    def terms(anchor: Embedding, positive: Embedding, negative: Embedding, p, eps):
        near, far, between = anchor - positive + eps, anchor - negative + eps, positive - negative + eps
        return power(abs(near), p), power(abs(far), p), power(abs(between), p)

    def value(sums, margin, p, swap):
        near, far, between = power(sums[0], 1.0 / p), power(sums[1], 1.0 / p), power(sums[2], 1.0 / p)
        other = 0.0
        if swap:
            other = where(between < far, 1.0, where(between == far, 0.5, 0.0))
        value = maximum(near - where(other > 0.0, between, far) + margin, 0.0)
        active = sign(value)
        push = active * (1.0 - other) * per_length(far, p)
        return value, active * per_length(near, p), push, active * other * per_length(between, p)

    def slope(anchor, positive, negative, p, eps, pull, push, part):
        near = pull * along(anchor - positive + eps, p)
        far = push * along(anchor - negative + eps, p)
        between = part * along(positive - negative + eps, p)
        return near - far, -near - between, far + between
