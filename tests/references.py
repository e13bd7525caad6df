"""Slow references of the losses: DESIGN's formulas in long double, and the contract (weights, labels, means) in plain NumPy.

Written from the design's text and not from ``src/``; the only place besides it where formulas stand.

A reference takes long-double arrays, with the classes (or coordinates) along the last axis, and gives the value of each item, the
gradient of that value for each element (a dict by the element's name where a loss has several) and, where the diagonal means
something, the second derivatives. :func:`reference` adds what is the same for every loss.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["REFERENCES", "Result", "balanced", "class_targets", "real", "reference"]

Array = Any
"""A long-double array."""


class Result(NamedTuple):
    """What a loss gives: its value, an array or a dict of gradients, and second derivatives or None."""

    value: Array
    gradient: Array
    hessian: Array


def real(values: Any) -> Array:
    """Numbers as a long-double array; exact for every dtype that losses take."""
    array = np.asarray(values)
    return array.astype(np.float64 if array.dtype.name == "bfloat16" else np.longdouble).astype(np.longdouble)


def weighted(weight: Array, x: Array) -> Array:
    """weight times x, and 0 where the weight is 0, whatever x is."""
    return np.where(weight == 0, 0, weight * x)


# Real-valued predictions ------------------------------------------------------------------------------------------------------


def mse_loss(p: Array, t: Array) -> Result:
    return Result((p - t) ** 2, 2 * (p - t), np.full_like(p, 2))


def l1_loss(p: Array, t: Array) -> Result:
    return Result(np.abs(p - t), np.sign(p - t), np.zeros_like(p))


def huber_loss(p: Array, t: Array, delta: Array) -> Result:
    r = p - t
    value = np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2))
    return Result(value, np.clip(r, -delta, delta), np.where(np.abs(r) <= delta, 1, 0))


def log_cosh_loss(p: Array, t: Array) -> Result:
    e = np.abs(p - t)
    near = np.log1p(2 * np.sinh(np.minimum(e, 2) / 2) ** 2)  # cosh e = 1 + 2 sinh²(e/2)
    far = e + np.log1p(np.exp(-2 * e)) - np.log(np.longdouble(2))
    return Result(np.where(e < 1, near, far), np.tanh(p - t), 1 / np.cosh(np.minimum(e, 5000)) ** 2)


def quantile_loss(p: Array, t: Array, quantile: Array) -> Result:
    e = t - p
    gradient = np.where(e > 0, -quantile, np.where(e < 0, 1 - quantile, 0))
    return Result(np.maximum(quantile * e, (quantile - 1) * e), np.where(np.isnan(e), e, gradient), np.zeros_like(p))


def poisson_nll_loss(p: Array, t: Array, full: bool) -> Result:
    value = np.exp(p) - weighted(t, p)
    if full:  # Stirling's approximation of log t!, for counts above 1
        many = np.maximum(t, 2)
        value = value + np.where(t > 1, many * np.log(many) - many + np.log(2 * PI * many) / 2, 0)
    return Result(value, np.exp(p) - t, np.exp(p))


PI = 4 * np.arctan(np.longdouble(1))


# One class among several ------------------------------------------------------------------------------------------------------


def cross_entropy_loss(p: Array, t: Array, epsilon: Array) -> Result:
    clipped = np.maximum(p, epsilon)
    return Result(-(t * np.log(clipped)).sum(-1), -t / clipped, t / clipped**2)


def kl_divergence(p: Array, t: Array, epsilon: Array) -> Result:
    clipped = np.maximum(p, epsilon)
    return Result(weighted(t, np.log(t) - np.log(clipped)).sum(-1), -t / clipped, t / clipped**2)


def cross_entropy_with_logits(z: Array, t: Array, z_loss: Array = None, softcap: Array = None) -> Result:
    capped = z if softcap is None else softcap * np.tanh(z / softcap)
    peak = capped.max(-1, keepdims=True, initial=-np.inf)
    log_sum = peak + np.log(np.exp(capped - peak).sum(-1, keepdims=True))
    mass, softmax = t.sum(-1, keepdims=True), np.exp(capped - log_sum)
    value = weighted(t, log_sum - capped).sum(-1)
    gradient = mass * softmax - t
    hessian = mass * softmax * (1 - softmax)
    if z_loss is not None:
        value = value + z_loss * log_sum[..., 0] ** 2
        gradient = gradient + 2 * z_loss * log_sum * softmax
        hessian = hessian + 2 * z_loss * softmax * (softmax + log_sum * (1 - softmax))
    if softcap is not None:
        first = 1 / np.cosh(z / softcap) ** 2
        second = -2 * np.tanh(z / softcap) * first / softcap
        gradient, hessian = gradient * first, hessian * first**2 + gradient * second
    return Result(np.where(np.isnan(log_sum[..., 0]), np.nan, value), gradient, hessian)


# Yes or no --------------------------------------------------------------------------------------------------------------------


def binary_cross_entropy(p: Array, t: Array, epsilon: Array, pos_weight: Array = None) -> Result:
    a, b = np.maximum(p, epsilon), np.maximum(1 - p, epsilon)
    yes, no = t * (1 if pos_weight is None else pos_weight), 1 - t
    return Result(-(yes * np.log(a) + no * np.log(b)), -yes / a + no / b, yes / a**2 + no / b**2)


def binary_cross_entropy_with_logits(z: Array, t: Array, pos_weight: Array = None) -> Result:
    """max(z, 0) - z t + log1p(exp(-abs(z))), as t softplus(-z) + (1 - t) softplus(z) so that the positive term can be weighted."""
    z, yes, no = unless_inf(z), t * (1 if pos_weight is None else pos_weight), 1 - t
    value = weighted(yes, softplus(-z)) + weighted(no, softplus(z))
    return Result(value, no * sigmoid(z) - yes * sigmoid(-z), (yes + no) * sigmoid(z) * sigmoid(-z))


def unless_inf(z: Array) -> Array:
    """A logit of +inf gives NaN and nothing else."""
    return np.where(z == np.inf, np.nan, z)


def sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, small) / (1 + small)


def softplus(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def focal_loss(p: Array, t: Array, gamma: Array, alpha: Array, epsilon: Array) -> Result:
    right = np.maximum(np.where(t == 1, p, 1 - p), epsilon)
    wrong = np.maximum(np.where(t == 1, 1 - p, p), epsilon)
    side = np.where(t == 1, 1, -1)
    share = 1 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    nll = -np.log(right)
    # f(right) = (1 - right)^gamma nll, its first and its second derivative
    first = -gamma * wrong ** (gamma - 1) * nll - wrong**gamma / right
    second = gamma * (gamma - 1) * wrong ** (gamma - 2) * nll + 2 * gamma * wrong ** (gamma - 1) / right + wrong**gamma / right**2
    return Result(share * wrong**gamma * nll, share * side * first, share * second)


def focal_loss_with_logits(z: Array, t: Array, gamma: Array, alpha: Array) -> Result:
    z, side = unless_inf(z), np.where(t == 1, 1, -1)
    share = 1 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    right, wrong, nll = sigmoid(side * z), sigmoid(-side * z), softplus(-side * z)
    # by the derivatives of sigmoid (right' = right wrong) and of softplus (nll' = -wrong), along side * z
    focus = wrong**gamma
    first = -focus * (gamma * weighted(right, nll) + wrong)
    bend = gamma * wrong * weighted(right, nll) - gamma * right * wrong - right * wrong
    second = -gamma * right * first - focus * bend
    return Result(share * focus * nll, share * side * first, share * second)


def hinge_loss(p: Array, t: Array) -> Result:
    gap = 1 - t * p
    slope = np.where(np.isnan(gap), gap, np.where(gap > 0, -t, 0))
    return Result(np.maximum(gap, 0), slope, np.zeros_like(p))


# Distances between embeddings -------------------------------------------------------------------------------------------------


def unit(difference: Array) -> tuple[Array, Array]:
    """The Euclidean length of rows, and its gradient, 0 where the length is 0."""
    length = np.sqrt((difference**2).sum(-1))
    return length, difference / np.where(length == 0, 1, length)[..., None]


def triplet_loss(a: Array, p: Array, n: Array, margin: Array, squared: bool) -> Result:
    (near, pull), (far, push) = unit(a - p), unit(a - n)
    if squared:
        near, far, pull, push = near**2, far**2, 2 * (a - p), 2 * (a - n)
    value = np.maximum(near - far + margin, 0)
    active = np.sign(value)[..., None]
    return Result(value, {"anchor": active * (pull - push), "positive": -active * pull, "negative": active * push}, None)


def contrastive_loss(e1: Array, e2: Array, y: Array, margin: Array) -> Result:
    d, direction = unit(e1 - e2)
    gap = np.maximum(margin - d, 0)
    slope = (2 * y * d - 2 * (1 - y) * gap)[..., None] * direction
    return Result(y * d**2 + (1 - y) * gap**2, {"embedding1": slope, "embedding2": -slope}, None)


# Penalties --------------------------------------------------------------------------------------------------------------------


def l1_regularization(w: Array, strength: Array) -> Result:
    return Result(strength * np.abs(w), strength * np.sign(w), np.zeros_like(w))


def l2_regularization(w: Array, strength: Array) -> Result:
    return Result(strength * w**2 / 2, strength * w, strength * np.ones_like(w))


def elastic_net(w: Array, strength: Array, l1_ratio: Array) -> Result:
    parts = zip(l1_regularization(w, strength * l1_ratio), l2_regularization(w, strength * (1 - l1_ratio)), strict=True)
    return Result(*(one + other for one, other in parts))


REFERENCES: dict[str, Callable[..., Result]] = {
    function.__name__: function
    for function in (
        mse_loss,
        l1_loss,
        huber_loss,
        log_cosh_loss,
        quantile_loss,
        poisson_nll_loss,
        cross_entropy_loss,
        cross_entropy_with_logits,
        kl_divergence,
        binary_cross_entropy,
        binary_cross_entropy_with_logits,
        focal_loss,
        focal_loss_with_logits,
        hinge_loss,
        triplet_loss,
        contrastive_loss,
        l1_regularization,
        l2_regularization,
        elastic_net,
    )
}

PENALTIES = {"l1_regularization", "l2_regularization", "elastic_net"}
CLASSES = {"cross_entropy_loss", "cross_entropy_with_logits"}
ROWS = {*CLASSES, "kl_divergence", "triplet_loss", "contrastive_loss"}

DEFAULTS: dict[str, dict[str, Any]] = {
    "huber_loss": {"delta": 1.0},
    "quantile_loss": {"quantile": 0.5},
    "poisson_nll_loss": {"full": False},
    "cross_entropy_loss": {"epsilon": 1e-7},
    "kl_divergence": {"epsilon": 1e-7},
    "binary_cross_entropy": {"epsilon": 1e-7},
    "focal_loss": {"gamma": 2.0, "alpha": 0.25, "epsilon": 1e-7},
    "focal_loss_with_logits": {"gamma": 2.0, "alpha": 0.25},
    "triplet_loss": {"margin": 1.0, "squared": False},
    "contrastive_loss": {"margin": 1.0},
    "l1_regularization": {"strength": 0.01},
    "l2_regularization": {"strength": 0.01},
    "elastic_net": {"strength": 0.01, "l1_ratio": 0.5},
}
"""The parameters' defaults as the design fixes them."""


# The contract -----------------------------------------------------------------------------------------------------------------


def balanced(labels: Any, classes: int) -> Array:
    """scikit-learn's balanced weights: items / (classes that occur * items of the class)."""
    counts = real([np.count_nonzero(np.asarray(labels) == one) for one in range(classes)])
    return np.where(counts > 0, counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1)), 1)


def reference(
    name: str,
    inputs: Sequence[Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    reduction: str = "mean",
    normalizer: str | float = "count",
    sample_weight: Any = None,
    axis: int = -1,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    class_weight: Any = None,
) -> Result:
    """The results of a call by the contract, with the inputs in public order."""
    with np.errstate(all="ignore"):
        given = {**DEFAULTS.get(name, {}), **(parameters or {})}
        given = {key: value if value is None or isinstance(value, bool) else np.longdouble(value) for key, value in given.items()}
        arrays = [real(one) for one in inputs]
        if name == "hinge_loss" and np.asarray(inputs[1]).dtype == bool:
            arrays[1] = 2 * arrays[1] - 1
        shape, counted, class_mass = arrays[0].shape, np.True_, np.longdouble(1)
        if name in ROWS:
            shape = np.moveaxis(arrays[0], axis, -1).shape
        if name in CLASSES:
            arrays[1], counted, class_mass = class_targets(inputs, shape, axis, ignore_index, label_smoothing, class_weight)
            arrays[0] = np.moveaxis(arrays[0], axis, -1)
        elif name in ROWS:
            arrays = [np.moveaxis(one, axis, -1) if one.ndim == len(shape) else one for one in arrays]
        elif class_weight is not None:
            class_mass = _of_two(arrays[1], class_weight, soft=not name.startswith("focal"))

        each = REFERENCES[name](*arrays, **given)
        items = each.value.shape
        weight = np.where(counted, 1, np.zeros(items, np.longdouble))
        if sample_weight is not None:
            leading = real(sample_weight)
            weight = weight * leading.reshape(leading.shape + (1,) * (len(items) - leading.ndim))
        mass = (weight * class_mass).sum()
        if name not in CLASSES:
            weight = weight * class_mass

        divisor = np.longdouble(1)
        if name not in PENALTIES and reduction == "mean":
            divisor = {"count": np.broadcast_to(counted, items).sum(), "weights": mass}.get(normalizer, normalizer)
        scale = np.zeros(items, np.longdouble) if divisor == 0 else weight / divisor
        value = weighted(scale, each.value)
        if reduction != "none" or name in PENALTIES:
            value = value.sum()

        def finished(elements: Array) -> Array:
            if elements is None:
                return None
            if isinstance(elements, dict):
                return {key: finished(one) for key, one in elements.items()}
            return np.moveaxis(weighted(scale[..., None], elements), -1, axis) if name in ROWS else weighted(scale, elements)

        return Result(value, finished(each.gradient), finished(each.hessian))


def class_targets(
    inputs: Sequence[Any], shape: tuple[int, ...], axis: int, ignore_index: int | None, label_smoothing: float, class_weight: Any
) -> tuple[Array, Array, Array]:
    """Targets as weights per class along the last axis, which rows count, and the class weight of each row's true label."""
    classes, targets = shape[-1], np.asarray(inputs[1])
    if targets.ndim < len(shape):
        counted = np.full(targets.shape, True) if ignore_index is None else targets != ignore_index
        dense = real(np.where(counted, targets, -1)[..., None] == np.arange(classes))
    else:
        counted, dense = np.full(shape[:-1], True), np.moveaxis(real(targets), axis, -1)
    weights = np.ones(classes, np.longdouble)
    if isinstance(class_weight, Mapping):
        for label, weight in class_weight.items():
            weights[label] = weight
    elif isinstance(class_weight, str):
        weights = balanced(targets[counted], classes)
    elif class_weight is not None:
        weights = real(class_weight)
    mass = np.where(counted, 1, 0) if class_weight is None else (dense * weights).sum(-1)
    smoothed = dense * (1 - np.longdouble(label_smoothing)) + np.longdouble(label_smoothing) / max(1, classes)
    return smoothed * weights, counted, mass


def _of_two(targets: Array, class_weight: Any, soft: bool) -> Array:
    """The weight of each binary target: that of its class, or between both for a soft one; without soft targets all but 1 count as 0."""
    if isinstance(class_weight, str):
        class_weight = balanced(targets, 2)
    pair = [class_weight.get(0, 1), class_weight.get(1, 1)] if isinstance(class_weight, Mapping) else class_weight
    no, yes = real(pair)
    return yes * targets + no * (1 - targets) if soft else np.where(targets == 1, yes, no)
