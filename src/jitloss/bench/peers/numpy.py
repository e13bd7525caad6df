"""The losses in NumPy expressions that return value and gradients."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["FUNCTIONS"]

EPSILON = 1e-7


def _mse(predictions: Any, targets: Any) -> tuple[Any, Any]:
    error = predictions - targets
    return np.mean(error * error), error * (2 / error.size)


def _l1(predictions: Any, targets: Any) -> tuple[Any, Any]:
    error = predictions - targets
    return np.mean(np.abs(error)), np.sign(error) / error.size


def _huber(predictions: Any, targets: Any) -> tuple[Any, Any]:
    error = predictions - targets
    clipped = np.clip(error, -1, 1)
    return np.mean(clipped * (error - 0.5 * clipped)), clipped / error.size


def _poisson(predictions: Any, targets: Any) -> tuple[Any, Any]:
    rate = np.exp(predictions)
    return np.mean(rate - targets * predictions), (rate - targets) / rate.size


def _bce(predictions: Any, targets: Any) -> tuple[Any, Any]:
    yes, no = np.maximum(predictions, EPSILON), np.maximum(1 - predictions, EPSILON)
    value = -np.mean(targets * np.log(yes) + (1 - targets) * np.log(no))
    return value, ((1 - targets) / no - targets / yes) / predictions.size


def _bce_with_logits(logits: Any, targets: Any) -> tuple[Any, Any]:
    small = np.exp(-np.abs(logits))
    value = np.mean(np.maximum(logits, 0) - logits * targets + np.log1p(small))
    sigmoid = np.where(logits >= 0, 1, small) / (1 + small)
    return value, (sigmoid - targets) / logits.size


def _cross_entropy(predictions: Any, labels: Any) -> tuple[Any, Any]:
    rows, gradient = np.arange(len(labels)), np.zeros_like(predictions)
    likely = np.maximum(predictions[rows, labels], EPSILON)
    gradient[rows, labels] = -1 / (likely * len(labels))
    return -np.mean(np.log(likely)), gradient


def _cross_entropy_with_logits(logits: Any, labels: Any) -> tuple[Any, Any]:
    rows, peak = np.arange(len(labels)), logits.max(1, keepdims=True)
    gradient = np.exp(logits - peak)
    total = gradient.sum(1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) + peak[:, 0] - logits[rows, labels])
    gradient /= total * len(labels)
    gradient[rows, labels] -= 1 / len(labels)
    return value, gradient


def _kl(predictions: Any, targets: Any) -> tuple[Any, Any]:
    clipped = np.maximum(predictions, EPSILON)
    return np.sum(targets * np.log(targets / clipped)) / len(targets), -targets / (clipped * len(targets))


def _log_cosh(predictions: Any, targets: Any) -> tuple[Any, Any]:
    error = predictions - targets
    size = np.abs(error)
    value = np.mean(size + np.log1p(np.exp(-2 * size))) - np.log(2)
    return value, np.tanh(error) / error.size


def _focal(predictions: Any, targets: Any) -> tuple[Any, Any]:
    yes = targets == 1
    right = np.maximum(np.where(yes, predictions, 1 - predictions), EPSILON)
    wrong = np.maximum(1 - right, EPSILON)
    weight, loss = np.where(yes, np.float32(0.25), np.float32(0.75)) * wrong, -np.log(right)
    slope = weight * (2 * loss + wrong / right) / predictions.size
    return np.mean(weight * wrong * loss), np.where(yes, -slope, slope)


def _focal_with_logits(logits: Any, targets: Any) -> tuple[Any, Any]:
    yes = targets == 1
    score = np.where(yes, logits, -logits)
    small = np.exp(-np.abs(score))
    right = np.where(score >= 0, 1, small) / (1 + small)
    wrong = 1 - right
    loss = np.maximum(-score, 0) + np.log1p(small)
    focus = np.where(yes, np.float32(0.25), np.float32(0.75)) * wrong * wrong
    slope = focus * (wrong + 2 * right * loss) / logits.size
    return np.mean(focus * loss), np.where(yes, -slope, slope)


def _triplet(anchors: Any, positives: Any, negatives: Any) -> tuple[Any, Any]:
    near, far = anchors - positives, anchors - negatives
    pull, push = np.linalg.norm(near, axis=1, keepdims=True), np.linalg.norm(far, axis=1, keepdims=True)
    value = np.maximum(pull - push + 1, 0)
    active = (value > 0) / np.float32(len(anchors))
    near, far = near * (active / pull), far * (active / push)
    return np.mean(value), (near - far, -near, far)


def _contrastive(first: Any, second: Any, labels: Any) -> tuple[Any, Any]:
    difference = first - second
    distance = np.linalg.norm(difference, axis=1)
    gap = np.maximum(1 - distance, 0)
    pull = 2 * (labels - (1 - labels) * gap / distance) / np.float32(len(labels))
    slope = difference * pull[:, None]
    return np.mean(labels * distance**2 + (1 - labels) * gap**2), (slope, -slope)


FUNCTIONS: Mapping[str, Callable[..., tuple[Any, Any]]] = {
    "mse_loss": _mse,
    "l1_loss": _l1,
    "huber_loss": _huber,
    "log_cosh_loss": _log_cosh,
    "poisson_nll_loss": _poisson,
    "binary_cross_entropy": _bce,
    "binary_cross_entropy_with_logits": _bce_with_logits,
    "focal_loss": _focal,
    "focal_loss_with_logits": _focal_with_logits,
    "cross_entropy_loss": _cross_entropy,
    "cross_entropy_with_logits": _cross_entropy_with_logits,
    "kl_divergence": _kl,
    "triplet_loss": _triplet,
    "contrastive_loss": _contrastive,
}
