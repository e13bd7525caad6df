"""Losses of a real-valued prediction."""

from ..definition import Count, Fraction, LogRate, Positive, Real, RealTarget, pointwise
from ..math import abs, clip, exp, log, log1p, maximum, sign, tanh, times, where

LOG_2 = 0.6931471805599453
HALF_LOG_TWO_PI = 0.9189385332046727


@pointwise
def mse_loss(prediction: Real, target: RealTarget):
    """Mean squared error."""
    error = prediction - target
    return error * error, 2.0 * error, 2.0


@pointwise
def l1_loss(prediction: Real, target: RealTarget):
    """Mean absolute error."""
    error = prediction - target
    return abs(error), sign(error), 0.0


@pointwise
def huber_loss(prediction: Real, target: RealTarget, delta: Positive = 1.0):
    """Huber loss: squared error near zero, absolute error beyond ``delta``."""
    error = prediction - target
    size = abs(error)
    value = where(size <= delta, 0.5 * error * error, delta * (size - 0.5 * delta))
    return value, clip(error, -delta, delta), where(size <= delta, 1.0, 0.0)


@pointwise
def log_cosh_loss(prediction: Real, target: RealTarget):
    """Logarithm of the hyperbolic cosine of the error: a smooth absolute error."""
    error = prediction - target
    size, slope = abs(error), tanh(error)
    # log cosh is -log(1 - tanh^2) / 2, exact near 0, and |e| + log(1 + exp(-2|e|)) - log 2, exact far from it
    near = size < 0.75
    correction = log1p(where(near, -slope * slope, exp(-2.0 * size)))
    return where(near, -0.5 * correction, size + correction - LOG_2), slope, 1.0 - slope * slope


@pointwise
def quantile_loss(prediction: Real, target: RealTarget, quantile: Fraction = 0.5):
    """Pinball loss, minimised by a quantile of the target."""
    error = target - prediction
    side = sign(error)
    return maximum(quantile * error, (quantile - 1.0) * error), (0.5 - quantile) * abs(side) - 0.5 * side, 0.0


def log_factorial(count):
    """Stirling's approximation of log(count!), 0 up to 1."""
    return where(count > 1.0, count * log(count) - count + HALF_LOG_TWO_PI + 0.5 * log(count), 0.0)


@pointwise
def poisson_nll_loss(prediction: LogRate, target: Count, full=False):
    """Negative log-likelihood of a Poisson count whose log rate is predicted."""
    rate = exp(prediction)
    value = rate - times(target, prediction)
    if full:
        value = value + log_factorial(target)
    return value, rate - target, rate
