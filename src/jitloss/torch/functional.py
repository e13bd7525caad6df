"""The losses under the names, with the arguments and with the meaning of :mod:`torch.nn.functional`.

The class axis is axis 1, and a mean under class weights divides by the sum of the weights. The differences: values of half-type
tensors are float32, a mean of nothing is 0 rather than NaN, and shapes must be equal, where PyTorch broadcasts with a warning.
"""

from typing import Any

import torch
from torch import Tensor

import jitloss

from ..definition import is_number
from . import definitions

own: Any = jitloss  # its stubs only know NumPy's types
maths: Any = definitions

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "triplet_margin_loss",
]


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Like :func:`torch.nn.functional.mse_loss`."""
    _check("mse_loss", input=input, target=target)
    _check_like("mse_loss", weight, input)
    return _weighted(own.mse_loss, input, target, _reduction(size_average, reduce, reduction), weight)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Like :func:`torch.nn.functional.l1_loss`."""
    _check("l1_loss", input=input, target=target)
    _check_like("l1_loss", weight, input)
    return _weighted(own.l1_loss, input, target, _reduction(size_average, reduce, reduction), weight)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Like :func:`torch.nn.functional.huber_loss`."""
    _check("huber_loss", input=input, target=target)
    _check_like("huber_loss", weight, input)
    value: Tensor = own.huber_loss(input, target, delta, reduction=reduction, sample_weight=weight)  # a mean over elements
    return value


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Like :func:`torch.nn.functional.smooth_l1_loss`: the Huber loss divided by ``beta``, and for ``beta=0`` the absolute error."""
    _check("smooth_l1_loss", input=input, target=target)
    reduction = _reduction(size_average, reduce, reduction)
    _check_number("smooth_l1_loss", "beta", beta)
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative or NaN, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    return huber_loss(input, target, reduction, beta) / beta


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Like :func:`torch.nn.functional.cross_entropy`; logits have their classes on axis 1, or are a single row."""
    _check("cross_entropy", input=input, target=target, **({} if weight is None else {"weight": weight}))
    options: dict[str, Any] = {"reduction": _reduction(size_average, reduce, reduction), "axis": _class_axis(input)}
    if target.ndim < input.ndim:
        options |= {"normalizer": "weights", "ignore_index": ignore_index}
    value: Tensor = own.cross_entropy_with_logits(input, target, class_weight=weight, label_smoothing=label_smoothing, **options)
    return value


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Like :func:`torch.nn.functional.nll_loss`, of log-probabilities."""
    _check("nll_loss", input=input, target=target, **({} if weight is None else {"weight": weight}))
    value: Tensor = maths.nll_loss(
        input, target, class_weight=weight, ignore_index=ignore_index, reduction=_reduction(size_average, reduce, reduction),
        normalizer="weights", axis=_class_axis(input),
    )  # fmt: skip
    return value


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Like :func:`torch.nn.functional.binary_cross_entropy`: logarithms are clipped at -100."""
    _check("binary_cross_entropy", input=input, target=target)
    value: Tensor = maths.binary_cross_entropy(
        input,
        target,
        sample_weight=_spread("binary_cross_entropy", "weight", weight, input),
        reduction=_reduction(size_average, reduce, reduction),
    )
    return value


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Like :func:`torch.nn.functional.binary_cross_entropy_with_logits`."""
    name = "binary_cross_entropy_with_logits"
    _check(name, input=input, target=target)
    options: dict[str, Any] = {
        "sample_weight": _spread(name, "weight", weight, input),
        "reduction": _reduction(size_average, reduce, reduction),
    }
    positive = _spread(name, "pos_weight", pos_weight, input)
    value: Tensor = (
        own.binary_cross_entropy_with_logits(input, target, **options)
        if positive is None
        else maths.binary_cross_entropy_with_logits(input, target, positive, **options)
    )
    return value


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Like :func:`torch.nn.functional.kl_div`: for log-probabilities, a mean over elements, or over rows with "batchmean"."""
    _check("kl_div", input=input, target=target)
    batch = float(max(1, len(input))) if reduction == "batchmean" and input.ndim else 1.0  # the older arguments allow that
    reduction = _reduction(size_average, reduce, "sum" if reduction == "batchmean" else reduction)
    if reduction == "sum":
        total: Tensor = maths.kl_div(input, target, log_target, normalizer=batch)
        return total
    value: Tensor = maths.kl_div(input, target, log_target, reduction=reduction)
    return value if batch == 1.0 else value / batch


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Like :func:`torch.nn.functional.poisson_nll_loss`."""
    _check("poisson_nll_loss", input=input, target=target)
    reduction = _reduction(size_average, reduce, reduction)
    value: Tensor = (
        own.poisson_nll_loss(input, target, full, reduction=reduction)
        if log_input
        else maths.poisson_nll_loss(input, target, full, eps, reduction=reduction)
    )
    return value


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Like :func:`torch.nn.functional.triplet_margin_loss`."""
    _check("triplet_margin_loss", anchor=anchor, positive=positive, negative=negative)
    _check_number("triplet_margin_loss", "eps", eps)
    reduction = _reduction(size_average, reduce, reduction)
    value: Tensor = (
        own.triplet_loss(anchor, positive - eps, negative - eps, margin, reduction=reduction)
        if p == 2 and not swap
        else maths.triplet_margin_loss(anchor, positive, negative, margin, p=p, eps=eps, swap=swap, reduction=reduction)
    )
    return value


# Shared helpers ---------------------------------------------------------------------------------------------------------------


def _reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction, taken from PyTorch's older arguments where they are given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def _class_axis(input: Tensor) -> int:
    return 1 if input.ndim > 1 else 0


def _weighted(loss: Any, input: Tensor, target: Tensor, reduction: str, weight: Tensor | None) -> Tensor:
    """A mean that divides by the sum of the elements' weights."""
    value: Tensor = loss(input, target, reduction=reduction, sample_weight=weight, normalizer="weights")
    return value


def _spread(owner: str, argument: str, weight: Tensor | None, input: Tensor) -> Tensor | None:
    if weight is None:
        return None
    _check(owner, **{argument: weight})
    try:
        return torch.broadcast_to(weight, input.shape)
    except RuntimeError:
        raise ValueError(
            f"{owner}: {argument} must be broadcastable to input, whose shape is {tuple(input.shape)}; got the shape {tuple(weight.shape)}"
        ) from None


def _check(owner: str, **arguments: Any) -> None:
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{owner}: {name} must be a tensor, got {type(value).__name__}")


def _check_like(owner: str, weight: Any, input: Tensor) -> None:
    """Raise unless a weight has the shape of the input, where PyTorch does not broadcast it."""
    if weight is None:
        return
    _check(owner, weight=weight)
    if weight.shape != input.shape:
        raise ValueError(
            f"{owner}: weight must have the shape of input, {tuple(input.shape)}; got the shape {tuple(weight.shape)}"
        )


def _check_number(owner: str, argument: str, value: Any) -> None:
    """Raise unless a value is a number; as in PyTorch, a tensor without axes counts as one."""
    if not is_number(value) and not (isinstance(value, Tensor) and not value.ndim):
        raise TypeError(f"{owner}: {argument} must be a number, got {value!r}")
