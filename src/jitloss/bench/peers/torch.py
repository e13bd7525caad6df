"""The losses as a user of PyTorch would write them: the value, which PyTorch differentiates. The first argument is the library."""

from collections.abc import Callable
from typing import Any

__all__ = ["functions"]

EPSILON = 1e-7


def functions(torch: Any) -> dict[str, Callable[..., Any]]:
    f = torch.nn.functional
    return {
        "mse_loss": f.mse_loss,
        "l1_loss": f.l1_loss,
        "huber_loss": f.huber_loss,
        "log_cosh_loss": lambda p, t: _log_cosh(torch, p - t),
        "poisson_nll_loss": f.poisson_nll_loss,
        "binary_cross_entropy": f.binary_cross_entropy,
        "binary_cross_entropy_with_logits": f.binary_cross_entropy_with_logits,
        "focal_loss": lambda p, t: _focal(p, t, f.binary_cross_entropy),
        "focal_loss_with_logits": lambda z, t: _focal(torch.sigmoid(z), t, f.binary_cross_entropy_with_logits, z),
        "cross_entropy_loss": lambda p, labels: f.nll_loss(p.clamp_min(EPSILON).log(), labels),
        "cross_entropy_with_logits": f.cross_entropy,
        "kl_divergence": lambda p, t: f.kl_div(p.clamp_min(EPSILON).log(), t, reduction="batchmean"),
        "triplet_loss": f.triplet_margin_loss,
        "contrastive_loss": lambda u, v, y: _contrastive(torch, u, v, y),
    }


def _log_cosh(torch: Any, error: Any) -> Any:
    """As in Keras."""
    return (error + torch.nn.functional.softplus(-2 * error) - 0.6931472).mean()


def _focal(p: Any, t: Any, cross_entropy: Any, z: Any = None) -> Any:
    """As in torchvision."""
    loss = cross_entropy(p if z is None else z, t, reduction="none")
    right = p * t + (1 - p) * (1 - t)
    return ((0.25 * t + 0.75 * (1 - t)) * loss * (1 - right) ** 2).mean()


def _contrastive(torch: Any, first: Any, second: Any, labels: Any) -> Any:
    distance = torch.linalg.vector_norm(first - second, dim=-1)
    return (labels * distance**2 + (1 - labels) * torch.clamp(1 - distance, min=0) ** 2).mean()
