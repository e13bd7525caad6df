"""The same losses as other people write them: one table a library. What a table lacks is shown as a dash.

NumPy's functions return value and gradient; PyTorch and JAX differentiate the value themselves.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

__all__ = ["NUMPY", "PEERS"]

Call = Callable[[], tuple[Any, Any]]
Inputs = tuple[np.ndarray, ...]
EPSILON = 1e-7


def _numpy_mse(predictions: Any, targets: Any) -> tuple[Any, Any]:
    error = predictions - targets
    return np.mean(error * error), error * (2 / error.size)


def _numpy_l1(predictions: Any, targets: Any) -> tuple[Any, Any]:
    error = predictions - targets
    return np.mean(np.abs(error)), np.sign(error) / error.size


def _numpy_huber(predictions: Any, targets: Any) -> tuple[Any, Any]:
    error = predictions - targets
    clipped = np.clip(error, -1, 1)
    return np.mean(clipped * (error - 0.5 * clipped)), clipped / error.size


def _numpy_poisson(predictions: Any, targets: Any) -> tuple[Any, Any]:
    rate = np.exp(predictions)
    return np.mean(rate - targets * predictions), (rate - targets) / rate.size


def _numpy_bce(predictions: Any, targets: Any) -> tuple[Any, Any]:
    yes, no = np.maximum(predictions, EPSILON), np.maximum(1 - predictions, EPSILON)
    value = -np.mean(targets * np.log(yes) + (1 - targets) * np.log(no))
    return value, ((1 - targets) / no - targets / yes) / predictions.size


def _numpy_bce_with_logits(logits: Any, targets: Any) -> tuple[Any, Any]:
    small = np.exp(-np.abs(logits))
    value = np.mean(np.maximum(logits, 0) - logits * targets + np.log1p(small))
    sigmoid = np.where(logits >= 0, 1, small) / (1 + small)
    return value, (sigmoid - targets) / logits.size


def _numpy_cross_entropy(predictions: Any, labels: Any) -> tuple[Any, Any]:
    rows, gradient = np.arange(len(labels)), np.zeros_like(predictions)
    likely = np.maximum(predictions[rows, labels], EPSILON)
    gradient[rows, labels] = -1 / (likely * len(labels))
    return -np.mean(np.log(likely)), gradient


def _numpy_cross_entropy_with_logits(logits: Any, labels: Any) -> tuple[Any, Any]:
    rows, peak = np.arange(len(labels)), logits.max(1, keepdims=True)
    gradient = np.exp(logits - peak)
    total = gradient.sum(1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) + peak[:, 0] - logits[rows, labels])
    gradient /= total * len(labels)
    gradient[rows, labels] -= 1 / len(labels)
    return value, gradient


def _numpy_kl(predictions: Any, targets: Any) -> tuple[Any, Any]:
    clipped = np.maximum(predictions, EPSILON)
    return np.sum(targets * np.log(targets / clipped)) / len(targets), -targets / (clipped * len(targets))


NUMPY: Mapping[str, Callable[..., tuple[Any, Any]]] = {
    "mse_loss": _numpy_mse,
    "l1_loss": _numpy_l1,
    "huber_loss": _numpy_huber,
    "poisson_nll_loss": _numpy_poisson,
    "binary_cross_entropy": _numpy_bce,
    "binary_cross_entropy_with_logits": _numpy_bce_with_logits,
    "cross_entropy_loss": _numpy_cross_entropy,
    "cross_entropy_with_logits": _numpy_cross_entropy_with_logits,
    "kl_divergence": _numpy_kl,
}


def _torch_table(torch: Any) -> dict[str, Callable[..., Any]]:
    f = torch.nn.functional
    return {
        "mse_loss": f.mse_loss,
        "l1_loss": f.l1_loss,
        "huber_loss": f.huber_loss,
        "poisson_nll_loss": f.poisson_nll_loss,
        "binary_cross_entropy": f.binary_cross_entropy,
        "binary_cross_entropy_with_logits": f.binary_cross_entropy_with_logits,
        "cross_entropy_loss": lambda p, labels: f.nll_loss(p.clamp_min(EPSILON).log(), labels),
        "cross_entropy_with_logits": f.cross_entropy,
        "kl_divergence": lambda p, t: f.kl_div(p.clamp_min(EPSILON).log(), t, reduction="batchmean"),
    }


def _jax_table(jax: Any) -> dict[str, Callable[..., Any]]:
    """The forms that ran fastest: those of optax, but softplus, where optax has two log-sigmoids, is twice as fast."""
    np, nn = jax.numpy, jax.nn

    def huber(predictions: Any, targets: Any) -> Any:
        size = np.abs(predictions - targets)
        return np.mean(np.where(size <= 1, 0.5 * size * size, size - 0.5))

    def picked(rows: Any, labels: Any) -> Any:
        return np.take_along_axis(rows, labels[:, None], 1)[:, 0]

    return {
        "mse_loss": lambda p, t: np.mean((p - t) ** 2),
        "l1_loss": lambda p, t: np.mean(np.abs(p - t)),
        "huber_loss": huber,
        "poisson_nll_loss": lambda p, t: np.mean(np.exp(p) - t * p),
        "binary_cross_entropy": lambda p, t: (
            -np.mean(t * np.log(np.maximum(p, EPSILON)) + (1 - t) * np.log(np.maximum(1 - p, EPSILON)))
        ),
        "binary_cross_entropy_with_logits": lambda z, t: np.mean(nn.softplus(z) - z * t),
        "cross_entropy_loss": lambda p, labels: -np.mean(np.log(np.maximum(picked(p, labels), EPSILON))),
        "cross_entropy_with_logits": lambda z, labels: np.mean(nn.logsumexp(z, axis=-1) - picked(z, labels)),
        "kl_divergence": lambda p, t: np.sum(t * np.log(t / np.maximum(p, EPSILON))) / len(t),
    }


def _numpy_call(name: str, inputs: Inputs) -> Call | None:
    return partial(NUMPY[name], *inputs) if name in NUMPY else None


def _torch_call(name: str, inputs: Inputs) -> Call | None:
    """Forward and backward on a leaf, with the threads that jitloss has."""
    torch: Any = importlib.import_module("torch")
    function = _torch_table(torch).get(name)
    if function is None:
        return None
    torch.set_num_threads(importlib.import_module("numba").get_num_threads())
    prediction, *others = (torch.from_numpy(one) for one in inputs)
    prediction.requires_grad_(True)

    def call() -> tuple[Any, Any]:
        prediction.grad = None
        value = function(prediction, *others)
        value.backward()
        return value.detach(), prediction.grad

    return call


def _jax_call(name: str, inputs: Inputs) -> Call | None:
    """The jitted value and gradient on JAX's own arrays, on the CPU; labels as int32, which is what JAX makes of them."""
    jax: Any = importlib.import_module("jax")
    function = _jax_table(jax).get(name)
    if function is None:
        return None
    cpu, compiled = jax.devices("cpu")[0], jax.jit(jax.value_and_grad(function))
    arrays = [jax.device_put(one.astype(np.int32) if one.dtype == np.int64 else one, cpu) for one in inputs]
    return lambda: jax.block_until_ready(compiled(*arrays))


PEERS: Mapping[str, Callable[[str, Inputs], Call | None]] = {"NumPy": _numpy_call, "PyTorch": _torch_call, "JAX": _jax_call}
