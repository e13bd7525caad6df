"""Losses of one class among several: a row of probabilities or logits against a label or a distribution."""

from dataclasses import KW_ONLY

from ..definition import Classes, Distribution, Epsilon, Logit, NonNegative, Positive, Probability, rowwise
from ..math import exp, log, maximum, tanh, times


@rowwise
class cross_entropy_loss:
    """Cross-entropy of a row of probabilities and a label or a distribution."""

    epsilon: Epsilon = 1e-7

    def terms(prediction: Probability, target: Classes, epsilon):
        return target * log(maximum(prediction, epsilon))

    def value(sums):
        return -sums

    def slope(prediction, target, epsilon):
        clipped = maximum(prediction, epsilon)
        gradient = -target / clipped
        return gradient, -gradient / clipped


@rowwise
class kl_divergence:
    """Kullback-Leibler divergence of a row of probabilities from a target distribution."""

    epsilon: Epsilon = 1e-7

    def terms(prediction: Probability, target: Distribution, epsilon):
        return times(target, log(target) - log(maximum(prediction, epsilon)))

    def value(sums):
        return sums

    def slope(prediction, target, epsilon):
        clipped = maximum(prediction, epsilon)
        gradient = -target / clipped
        return gradient, -gradient / clipped


def capped(logit, softcap):
    """The logit squashed into (-softcap, softcap)."""
    return logit if softcap is None else softcap * tanh(logit / softcap)


@rowwise
class cross_entropy_with_logits:
    """Cross-entropy of the softmax of a row of logits and a label or a distribution."""

    _: KW_ONLY
    z_loss: NonNegative | None = None
    softcap: Positive | None = None

    def peak(logit, softcap):
        return capped(logit, softcap)

    def terms(logit: Logit, target: Classes, peak, softcap):
        shifted = capped(logit, softcap) - peak
        return exp(shifted), times(target, shifted), target

    def value(peak, sums, z_loss):
        total, alignment, mass = sums
        log_total = log(total)
        value = mass * log_total - alignment
        if z_loss is None:
            return value, mass / total, 1.0 / total
        log_sum = peak + log_total
        return value + z_loss * log_sum * log_sum, (mass + 2.0 * z_loss * log_sum) / total, 1.0 / total

    def slope(logit, target, peak, scale, share, z_loss, softcap):
        height = exp(capped(logit, softcap) - peak)
        probability = height * share
        gradient = height * scale - target
        hessian = height * scale * (1.0 - probability)
        if z_loss is not None:
            hessian = hessian + 2.0 * z_loss * probability * probability
        if softcap is None:
            return gradient, hessian
        squash = tanh(logit / softcap)
        damping = 1.0 - squash * squash
        return gradient * damping, hessian * damping * damping - 2.0 * squash * damping / softcap * gradient
