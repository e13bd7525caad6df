"""The shipped losses: one page of maths each, and the list that publishes them.

Tests, benchmarks, documentation, stubs and the command line read :data:`LOSSES`; a new loss is a page in one of these modules and
a name in this list.
"""

from typing import Any

from .binary import binary_cross_entropy, binary_cross_entropy_with_logits, focal_loss, focal_loss_with_logits, hinge_loss
from .classification import cross_entropy_loss, cross_entropy_with_logits, kl_divergence
from .embedding import contrastive_loss, triplet_loss
from .regression import huber_loss, l1_loss, log_cosh_loss, mse_loss, poisson_nll_loss, quantile_loss
from .regularization import elastic_net, l1_regularization, l2_regularization

__all__ = ["LOSSES"]

LOSSES: tuple[Any, ...] = (
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
