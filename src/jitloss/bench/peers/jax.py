"""The losses in JAX: the value, which JAX differentiates and compiles. The argument is the library.

They are the fastest variants: those of optax, except that one softplus is twice as fast as optax's two log-sigmoids.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["functions"]

EPSILON = 1e-7


def functions(jax: Any) -> dict[str, Callable[..., Any]]:
    np, nn = jax.numpy, jax.nn

    def huber(predictions: Any, targets: Any) -> Any:
        size = np.abs(predictions - targets)
        return np.mean(np.where(size <= 1, 0.5 * size * size, size - 0.5))

    def log_cosh(predictions: Any, targets: Any) -> Any:
        size = np.abs(predictions - targets)
        return np.mean(size + np.log1p(np.exp(-2 * size))) - np.log(2)

    def picked(rows: Any, labels: Any) -> Any:
        return np.take_along_axis(rows, labels[:, None], 1)[:, 0]

    def bce(p: Any, t: Any) -> Any:
        return -np.mean(t * np.log(np.maximum(p, EPSILON)) + (1 - t) * np.log(np.maximum(1 - p, EPSILON)))

    def focal(p: Any, t: Any) -> Any:
        right = np.maximum(np.where(t == 1, p, 1 - p), EPSILON)
        return -np.mean(np.where(t == 1, 0.25, 0.75) * (1 - right) ** 2 * np.log(right))

    def focal_with_logits(z: Any, t: Any) -> Any:
        score = np.where(t == 1, z, -z)
        return np.mean(np.where(t == 1, 0.25, 0.75) * nn.sigmoid(-score) ** 2 * nn.softplus(-score))

    def triplet(anchors: Any, positives: Any, negatives: Any) -> Any:
        near, far = (np.linalg.norm(anchors - other, axis=-1) for other in (positives, negatives))
        return np.mean(np.maximum(near - far + 1, 0))

    def contrastive(first: Any, second: Any, labels: Any) -> Any:
        distance = np.linalg.norm(first - second, axis=-1)
        return np.mean(labels * distance**2 + (1 - labels) * np.maximum(1 - distance, 0) ** 2)

    return {
        "mse_loss": lambda p, t: np.mean((p - t) ** 2),
        "l1_loss": lambda p, t: np.mean(np.abs(p - t)),
        "huber_loss": huber,
        "log_cosh_loss": log_cosh,
        "poisson_nll_loss": lambda p, t: np.mean(np.exp(p) - t * p),
        "binary_cross_entropy": bce,
        "binary_cross_entropy_with_logits": lambda z, t: np.mean(nn.softplus(z) - z * t),
        "focal_loss": focal,
        "focal_loss_with_logits": focal_with_logits,
        "cross_entropy_loss": lambda p, labels: -np.mean(np.log(np.maximum(picked(p, labels), EPSILON))),
        "cross_entropy_with_logits": lambda z, labels: np.mean(nn.logsumexp(z, axis=-1) - picked(z, labels)),
        "kl_divergence": lambda p, t: np.sum(t * np.log(t / np.maximum(p, EPSILON))) / len(t),
        "triplet_loss": triplet,
        "contrastive_loss": contrastive,
    }
