"""Penalties on the parameters of a model. They are sums, never means."""

from ..definition import NonNegative, Share, Weight, pointwise
from ..math import abs, sign


@pointwise
def l1_regularization(param: Weight, strength: NonNegative = 0.01):
    """L1 penalty: strength times the sum of absolute values."""
    return strength * abs(param), strength * sign(param), 0.0


@pointwise
def l2_regularization(param: Weight, strength: NonNegative = 0.01):
    """L2 penalty: half of strength times the sum of squares."""
    return 0.5 * strength * param * param, strength * param, strength


@pointwise
def elastic_net(param: Weight, strength: NonNegative = 0.01, l1_ratio: Share = 0.5):
    """Elastic net: an L1 and an L2 penalty that share one strength."""
    lasso, ridge = strength * l1_ratio, strength * (1.0 - l1_ratio)
    return lasso * abs(param) + 0.5 * ridge * param * param, lasso * sign(param) + ridge * param, ridge
