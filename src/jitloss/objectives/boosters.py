"""Objectives of gradient boosting: gradient and Hessian of every row in one pass, in the booster's own layout.

Nothing here imports a booster: an objective is called with arrays, or with the booster's data set, from which it reads labels.
"""

import functools
import re
from typing import Any

import numpy as np

from ..algebra import with_floor
from ..definition import as_float, is_number
from ..form import Form
from ..loss import Loss
from ..options import DEFAULTS, binary_counts, binary_weights, checked_class_weights, class_weights, numbers_of
from .shown import shown

__all__ = ["Metric", "Objective", "lightgbm", "xgboost"]


def xgboost(
    loss: Loss, *, hessian: float | None = None, hessian_scale: float = 1.0, min_hessian: float = 1e-16, **options: Any
) -> "Objective":
    """Make a loss the objective of XGBoost.

    Parameters
    ----------
    loss : Loss
        A loss of raw scores: of real predictions, logits or log rates, pointwise or with class labels. Custom losses and sums work too.
    hessian : float, optional
        A constant to use as the second derivative of every row, before its weight; that of ignored rows is 0. By default it is the
        loss's own; for a loss that is linear somewhere (absolute error, quantile, Huber, hinge), whose own would be 0 there, it is
        1, as in the boosters' own objectives.
    hessian_scale : float, default 1.0
        What the second derivative is multiplied by, for instance ``exp(0.7)`` for the Poisson objective of both boosters.
    min_hessian : float, default 1e-16
        The smallest second derivative of a row, before its weight; that of ignored rows is 0.
    **options
        Parameters of the loss, and its ``class_weight``, ``ignore_index``, ``label_smoothing``.

    Returns
    -------
    Objective
        For ``xgboost.train(obj=objective)`` and ``XGBRegressor(objective=objective)``. Gradients are those of each row, times its
        weight, never divided by the number of rows. The Hessian of several classes is ``2 p (1 - p)``, as in ``multi:softprob``.
        ``objective.metric`` is the weighted mean of the loss, for ``custom_metric=`` or ``eval_metric=``.

    Raises
    ------
    TypeError, ValueError
        For anything but a loss of raw scores, and for options that the loss does not have.

    Examples
    --------
    >>> import numpy as np, jitloss
    >>> objective = jitloss.objectives.xgboost(jitloss.binary_cross_entropy_with_logits)
    >>> gradient, hessian = objective(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    >>> gradient, hessian
    (array([ 0.5, -0.5]), array([0.25, 0.25]))
    """
    return Objective("xgboost", loss, hessian, hessian_scale, min_hessian, options)


def lightgbm(
    loss: Loss, *, hessian: float | None = None, hessian_scale: float = 1.0, min_hessian: float = 1e-16, **options: Any
) -> "Objective":
    """Make a loss the objective of LightGBM.

    Parameters
    ----------
    loss, hessian, hessian_scale, min_hessian, **options
        As for :func:`xgboost`.

    Returns
    -------
    Objective
        For ``lightgbm.train({"objective": objective})`` and ``LGBMRegressor(objective=objective)``. Gradients are those of each row,
        times its weight. The Hessian of K classes is ``K / (K - 1) p (1 - p)``, as in LightGBM's ``multiclass``.
        ``objective.metric`` is the weighted mean of the loss, for ``feval=`` or ``eval_metric=``.

    Raises
    ------
    TypeError, ValueError
        For anything but a loss of raw scores, and for options that the loss does not have.

    Examples
    --------
    >>> import numpy as np, jitloss
    >>> objective = jitloss.objectives.lightgbm(jitloss.quantile_loss, quantile=0.9)
    >>> objective(np.array([1.0, 2.0]), np.array([0.0, 3.0]))
    (array([-0.9,  0.1]), array([1., 1.]))
    """
    return Objective("lightgbm", loss, hessian, hessian_scale, min_hessian, options)


_DEFAULTS = {"hessian": None, "hessian_scale": 1.0, "min_hessian": 1e-16}


class Objective:
    """A loss as a booster calls it; made by :func:`xgboost` and :func:`lightgbm`."""

    def __init__(
        self, booster: str, loss: Loss, hessian: float | None, hessian_scale: float, min_hessian: float, options: dict[str, Any]
    ) -> None:
        given = {"hessian": hessian, "hessian_scale": hessian_scale, "min_hessian": min_hessian}
        _check(booster, loss, given, options)
        self.booster, self.loss, self.options, self.owner = booster, loss, options, f"objectives.{booster}"
        self.__name__ = self.__qualname__ = re.sub(r"\W+", "_", loss.__name__).strip("_")  # boosters split texts at spaces
        self.constant = hessian if hessian is not None else 1.0 if _is_linear_somewhere(loss, options) else None
        if self.constant is None and not loss.definition.hessian:
            raise ValueError(f"{self.owner}: {loss.__name__} has no second derivative; give hessian=1.0, or another number")
        self.scale, self.least = hessian_scale, min_hessian
        self.own = {name: number for name, number in given.items() if number != _DEFAULTS[name]}
        self.metric = Metric(self)

    def __repr__(self) -> str:
        return shown(self.booster, self.loss.__name__, **self.own, **self.options)

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and Hessian, of ``(predictions, data set)`` or of ``(labels, predictions, sample_weight)``."""
        scores, labels, weight = _arguments(self.owner, first, second, sample_weight)
        targets = self._targets(scores, labels)
        given = {"reduction": "sum", **self.options, "sample_weight": weight}
        if self.constant is None:
            form = _with_floor(self.loss)
            factor, floor = (one.name for one in form.loss.definition.parameters[-2:])
            numbers = {factor: self._factor(scores) * self.scale, floor: self.least}
            slopes: tuple[np.ndarray, np.ndarray] = form(scores, targets, **given, **numbers)
            return slopes
        gradient = self.loss.gradient(scores, targets, **given)
        hessian = np.full_like(gradient, max(self.constant * self.scale, self.least))
        for one in (weight, self._weights(scores, targets)):
            if one is not None:
                hessian *= one if one.shape == hessian.shape else _by_row(one, scores)
        return gradient, hessian

    def _weights(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """What classes weigh: an element's, or a row's, 0 where it is ignored, as in the gradient; None where all of that is 1."""
        definition, given, owner = self.loss.definition, self.options.get("class_weight"), self.owner
        if definition.form == "pointwise":
            if given is None or definition.target is None:
                return None
            pair = class_weights(given, lambda: binary_counts(targets, owner, "class_weight"), 2, np.float64, owner)
            return None if pair is None else binary_weights(targets, pair[0], pair[1], definition.target.space.graded)
        classes = scores.shape[1]
        if targets.ndim > 1:
            counts = targets.astype(np.float64)
            by_class = class_weights(given, lambda: counts.sum(axis=0), classes, np.float64, owner)
            return None if by_class is None else np.dot(counts, by_class)
        counted = targets != self.options.get("ignore_index", DEFAULTS["ignore_index"])
        weights = counted.astype(np.float64)
        by_class = class_weights(given, lambda: np.bincount(targets[counted], minlength=classes), classes, np.float64, owner)
        if by_class is not None:
            weights[counted] = by_class[targets[counted]]
        return None if by_class is None and counted.all() else weights

    def _factor(self, scores: np.ndarray) -> float:
        """The factor that the booster's own multiclass objective applies to the second derivative."""
        if not self.loss.definition.takes_labels:
            return 1.0
        classes = scores.shape[-1]
        return 2.0 if self.booster == "xgboost" else classes / max(1, classes - 1)

    def _targets(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Labels, which boosters store as floats, in the form that the loss needs."""
        definition = self.loss.definition
        if definition.takes_labels:
            if scores.ndim != 2:
                raise ValueError(
                    f"{self.owner}: {self.loss.__name__} wants scores of the shape (rows, classes), got {scores.shape}: set num_class, or "
                    f"choose binary_cross_entropy_with_logits"
                )
            if labels.ndim < 2:
                return _whole(labels, self.owner)
        if labels.size != scores.size:
            raise ValueError(
                f"{self.owner}: {self.loss.__name__} wants one score for each label, got labels of the shape {labels.shape} and scores of "
                f"the shape {scores.shape}"
            )
        if definition.target is not None and definition.target.space.name == "sign" and labels.size and labels.min() >= 0:
            return labels > 0
        return labels.reshape(scores.shape).astype(scores.dtype if scores.dtype.kind == "f" else np.float64, copy=False)

    def value(self, scores: np.ndarray, labels: np.ndarray, weight: Any) -> float:
        """The weighted mean of the loss."""
        given = {**self.options, "sample_weight": weight, "normalizer": "weights"}
        return float(self.loss(scores, self._targets(scores, labels), **given))


@functools.lru_cache(maxsize=256)
def _with_floor(loss: Loss) -> Form:
    """The form of a loss that gives its gradient and its second derivative, multiplied by a number and not below another."""
    return Form(Loss(with_floor(loss.definition), terms=loss.terms or ((1.0, loss),)), "gradient_hessian")


_UPWARD = ("auc", "aucpr", "pre", "map", "ndcg")
"""Beginnings of metric names for which XGBoost takes higher values as better."""


class Metric:
    """The weighted mean of a loss as a booster calls it; lower is better."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        name = objective.__name__
        up = objective.booster == "xgboost" and name.startswith(_UPWARD) and name != "mape"
        self.__name__ = self.__qualname__ = f"loss_{name}" if up else name

    def __repr__(self) -> str:
        return f"{self.objective!r}.metric"

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        """The value for ``(predictions, data set)`` or for ``(labels, predictions, sample_weight)``, in the form the booster expects."""
        value = self.objective.value(*_arguments(self.objective.owner, first, second, sample_weight))
        if self.objective.booster == "lightgbm":
            return self.__name__, value, False
        return (self.__name__, value) if hasattr(second, "get_label") else value


def _arguments(owner: str, first: Any, second: Any, weight: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Scores, labels and weights: a booster's own interface passes its data set, scikit-learn's passes labels first."""
    if hasattr(second, "get_label"):
        scores, labels, weight = first, second.get_label(), second.get_weight()
    else:
        labels, scores = first, second
    scores, labels = numbers_of(scores, owner, "predictions"), numbers_of(labels, owner, "labels")
    if scores.ndim == 0 or labels.ndim == 0:
        raise ValueError(f"{owner}: labels and predictions must have rows, got the shapes {labels.shape} and {scores.shape}")
    if len(scores) != len(labels):
        raise ValueError(f"{owner}: labels and predictions must have one row for each other, got {len(labels)} and {len(scores)}")
    return scores, labels, None if weight is None or np.size(weight) == 0 else numbers_of(weight, owner, "sample_weight")


def _whole(labels: np.ndarray, owner: str) -> np.ndarray:
    """Classes as integers; other numbers are errors, not rounded."""
    if labels.dtype.kind == "f":
        wrong = ~(np.isfinite(labels) & (labels == np.trunc(labels)))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"{owner}: labels must be whole numbers, got {labels.reshape(-1)[row]} in row {row}")
    return labels.astype(np.int64)


def _by_row(weight: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.reshape(weight, (-1, *[1] * (scores.ndim - 1)))


def _check(booster: str, loss: Any, numbers: dict[str, Any], options: dict[str, Any]) -> None:
    owner = f"objectives.{booster}"
    if not isinstance(loss, Loss):
        raise TypeError(f"{owner}: loss must be a jitloss loss, got {loss!r}")
    definition, (first, *rest) = loss.definition, loss.definition.inputs
    if len(rest) != 1 or not rest[0].space.target or (definition.form == "rowwise" and not definition.takes_labels):
        names = ", ".join(one.public for one in definition.inputs)
        raise ValueError(f"{owner}: a loss of predictions and targets is wanted, {loss.__name__} takes {names}")
    if first.space.name == "probability":
        raise ValueError(
            f"{owner}: boosters predict raw scores, and {loss.__name__} takes probabilities; choose a loss of logits, "
            f"such as cross_entropy_with_logits, binary_cross_entropy_with_logits or focal_loss_with_logits"
        )
    for name, number in numbers.items():
        if number is None and name == "hessian":
            continue
        if not is_number(number):
            raise TypeError(f"{owner}: {name} must be a number, got {number!r}")
        if not 0.0 <= as_float(number) < np.inf:
            raise ValueError(f"{owner}: {name} must be finite and not negative, got {number!r}")
    for name in ("reduction", "normalizer", "sample_weight", "axis", "out"):
        if name in options:
            raise TypeError(f"{owner}: {name} is not an option of an objective: the booster decides it")
    _try(loss, options)


def _try(loss: Loss, options: dict[str, Any]) -> None:
    """Call the loss on no rows, which checks the options; for weights per class everything but their number."""
    if loss.definition.form == "rowwise":
        loss(np.empty((0, 2)), np.empty(0, np.int64), **_without_weights(options))
        checked_class_weights(options.get("class_weight"), loss.__name__)
    else:
        loss(np.empty(0), np.empty(0), **options)


def _without_weights(options: dict[str, Any]) -> dict[str, Any]:
    """Options that do not depend on the number of classes."""
    return {name: value for name, value in options.items() if name != "class_weight"}


_GRID = np.concatenate((np.linspace(0.0, 12.0, 49), np.geomspace(12.5, 1e12, 200)))


def _is_linear_somewhere(loss: Loss, options: dict[str, Any]) -> bool:
    """Whether a loss is linear somewhere, so that with its own second derivative, 0, a booster would grow no leaf there."""
    if loss.definition.form == "rowwise" or not loss.definition.hessian:
        return False

    def is_linear(scores: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray]:
        """Where it has a slope but no curvature, and where it has neither, or a curvature that is not fading."""
        given = {"reduction": "sum", **_without_weights(options)}
        _, gradient, hessian = loss.value_gradient_hessian(scores, np.full_like(scores, target), **given)
        return (hessian == 0.0) & (gradient != 0.0), (gradient == 0.0) | (np.abs(hessian) > _FADED)

    return any(_has_an_edge(is_linear, sign * _GRID, target) for target in (0.0, 1.0) for sign in (1.0, -1.0))


def _has_an_edge(is_linear: Any, scores: np.ndarray, target: float) -> bool:
    """Whether a linear part begins abruptly, or is all there is.

    The curvature of a smooth loss fades, and is 0 only where it underflows in float64.
    """
    found = is_linear(scores, target)[0]
    if not found.any():
        return False
    first = int(np.argmax(found))
    if first == 0:
        return True
    inside, outside = scores[first - 1], scores[first]
    for _ in range(100):
        middle = 0.5 * (inside + outside)
        if is_linear(np.array([middle]), target)[0][0]:
            outside = middle
        else:
            inside = middle
    return bool(is_linear(np.array([inside]), target)[1][0])


_FADED = 1e-200
"""A fading curvature falls below this before it becomes 0."""
