"""Losses that PyTorch has in a form of its own, as maths like any other loss."""

from ..definition import Classes
from ..loss import pointwise, rowwise
from ..losses.regression import log_factorial
from ..math import exp, log, log1p, maximum, times

__all__ = ["bce", "kl_div", "nll", "poisson_nll"]


@pointwise
def bce(prediction, target):
    """Binary cross-entropy whose logarithms are never below -100, and whose gradient divides by no less than 1e-12."""
    value = -target * maximum(log(prediction), -100.0) - (1.0 - target) * maximum(log1p(-prediction), -100.0)
    return value, (prediction - target) / maximum(prediction * (1.0 - prediction), 1e-12)


@pointwise
def kl_div(prediction, target, log_target=False):
    """Kullback-Leibler divergence of log-probabilities, element by element, from probabilities or their logarithms."""
    if log_target:
        probability = exp(target)
        return probability * (target - prediction), -probability
    return times(target, log(target)) - target * prediction, -target


@pointwise
def poisson_nll(prediction, target, full=False, eps=1e-8):
    """Poisson negative log-likelihood of rates, not of their logarithms."""
    rate = prediction + eps
    value = prediction - target * log(rate)
    if full:
        value = value + log_factorial(target)
    return value, 1.0 - target / rate


@rowwise
class nll:
    """Negative log-likelihood of rows of log-probabilities."""

    def terms(prediction, target: Classes):
        return times(target, prediction)

    def value(sums):
        return -sums

    def slope(prediction, target):
        return -target
