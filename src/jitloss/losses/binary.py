"""Losses of a yes-or-no target: a probability, a logit or a margin against 1 or 0, or 1 or -1."""

from ..definition import Binary, Epsilon, Logit, NonNegative, Probability, Real, Share, Sign, pointwise
from ..math import abs, exp, log, maximum, power, sign, softplus, times, where


def split(logit):
    """log(1 + exp(-|logit|)) and the sigmoids of |logit| and -|logit|; NaN where the logit is +inf, as in the softmax of (logit, 0)."""
    low = logit - 2.0 * maximum(logit, 0.0)  # -|logit|, but for +inf
    small = exp(-abs(low))  # as softplus has it: computed once
    likely = 1.0 / (1.0 + small)
    return softplus(low), likely, small * likely


@pointwise
def binary_cross_entropy(
    prediction: Probability, target: Binary, epsilon: Epsilon = 1e-7, *, pos_weight: NonNegative | None = None
):
    """Cross-entropy of a probability and a yes-or-no target."""
    yes = maximum(prediction, epsilon)
    no = maximum(1.0 - prediction, epsilon)
    positive = target if pos_weight is None else target * pos_weight
    negative = 1.0 - target
    value = -(positive * log(yes) + negative * log(no))
    return value, negative / no - positive / yes, positive / (yes * yes) + negative / (no * no)


@pointwise
def binary_cross_entropy_with_logits(logit: Logit, target: Binary, *, pos_weight: NonNegative | None = None):
    """Cross-entropy of the sigmoid of a logit and a yes-or-no target."""
    tail, likely, unlikely = split(logit)
    yes = where(logit >= 0.0, likely, unlikely)
    no = where(logit >= 0.0, unlikely, likely)
    positive = target if pos_weight is None else target * pos_weight
    negative = 1.0 - target
    value = times(negative, maximum(logit, 0.0) + tail) + times(positive, maximum(-logit, 0.0) + tail)
    return value, negative * yes - positive * no, (positive + negative) * yes * no


@pointwise
def focal_loss(
    prediction: Probability,
    target: Binary,
    gamma: NonNegative = 2.0,
    alpha: Share | None = 0.25,
    *,
    epsilon: Epsilon = 1e-7,
):
    """Cross-entropy of a probability that fades for well-classified elements."""
    side = where(target == 1.0, 1.0, -1.0)
    right = maximum(where(target == 1.0, prediction, 1.0 - prediction), epsilon)
    wrong = maximum(where(target == 1.0, 1.0 - prediction, prediction), epsilon)
    weight = 1.0 if alpha is None else where(target == 1.0, alpha, 1.0 - alpha)
    loss = -log(right)
    focus = weight * power(wrong, gamma)
    slope = -focus * (gamma * loss / wrong + 1.0 / right)
    bend = focus * (gamma * (gamma - 1.0) * loss / (wrong * wrong) + 2.0 * gamma / (wrong * right) + 1.0 / (right * right))
    return focus * loss, side * slope, bend


@pointwise
def focal_loss_with_logits(logit: Logit, target: Binary, gamma: NonNegative = 2.0, alpha: Share | None = 0.25):
    """Focal loss of the sigmoid of a logit."""
    side = where(target == 1.0, 1.0, -1.0)
    score = side * logit
    tail, likely, unlikely = split(logit)
    right = where(score >= 0.0, likely, unlikely)
    wrong = where(score >= 0.0, unlikely, likely)
    loss = maximum(-score, 0.0) + tail
    weight = 1.0 if alpha is None else where(target == 1.0, alpha, 1.0 - alpha)
    focus = weight * exp(-times(gamma, maximum(score, 0.0) + tail))  # wrong ** gamma, exact in both tails
    slope = wrong + gamma * times(right, loss)
    bend = right * (gamma * slope + wrong * (1.0 + gamma)) - gamma * wrong * times(right, loss)
    return focus * loss, -side * focus * slope, focus * bend


@pointwise
def hinge_loss(prediction: Real, target: Sign):
    """Hinge loss of a margin classifier."""
    value = maximum(1.0 - target * prediction, 0.0)
    return value, -target * sign(value), 0.0
