"""Objectives of linear models for SciPy's minimisers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..definition import as_float, is_number
from ..loss import Loss
from ..options import numbers_of
from ..registry import array_type
from .shown import shown

__all__ = ["scipy"]

Function = Callable[[Any], tuple[float, np.ndarray]]


def scipy(loss: Loss, X: Any, y: Any, *, l1: float = 0.0, l2: float = 0.0, **options: Any) -> Function:
    r"""Make the objective of a linear model for ``scipy.optimize.minimize(fun, w0, jac=True)``.

    .. math::

        \operatorname{mean} \ell(X w, y) + l_1 \sum |w| + \frac{l_2}{2} \sum w^2

    Parameters
    ----------
    loss : Loss
        A loss of predictions and targets, such as ``mse_loss``, ``binary_cross_entropy_with_logits`` or ``poisson_nll_loss``; or of
        logits and class labels, such as ``cross_entropy_with_logits``.
    X : array_like or sparse matrix
        One row of features per item. There is no intercept: add a column of ones for one.
    y : array_like
        A target, or a class label, for each row.
    l1, l2 : float, default 0.0
        Strengths of the penalties. The slope of the absolute value at 0 is taken as 0.
    **options
        Parameters and options of the loss, including ``sample_weight``.

    Returns
    -------
    callable
        ``fun(w) -> (value, gradient)``. For several classes ``w`` is the ravelled array of shape (features, classes), and the
        number of classes follows from its length. Both results are float64; products are computed in the dtype of ``X``.

    Raises
    ------
    TypeError, ValueError
        Where ``X`` and ``y`` do not match, ``w`` does not match ``X``, or the loss or an option is invalid.

    Notes
    -----
    In scikit-learn's terms, ``LogisticRegression(C=C, fit_intercept=False)`` on n rows has ``l2 = 1 / (n * C)``, and
    ``PoissonRegressor(alpha=alpha, fit_intercept=False)`` has ``l2 = alpha``.

    Examples
    --------
    >>> import numpy as np, jitloss
    >>> X, y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, 3.0])
    >>> fun = jitloss.objectives.scipy(jitloss.mse_loss, X, y, l2=0.5)
    >>> fun(np.array([1.0, 1.0]))
    (1.0, array([ 0.5, -1.5]))
    """
    _check(loss, l1, l2, options)
    matrix = X if hasattr(X, "tocsr") else _read(X, "X")
    if matrix.ndim != 2:
        raise ValueError(f"objectives.scipy: X must have a row of features for each item, got the shape {matrix.shape}")
    if matrix.shape[1] == 0:
        raise ValueError(f"objectives.scipy: X must have at least one feature, got the shape {matrix.shape}")
    kind = matrix.dtype.name
    if matrix.dtype.kind not in "fiub" and kind != "bfloat16":
        raise TypeError(f"objectives.scipy: X must hold numbers, got {matrix.dtype}")
    if kind not in ("float16", "float32", "float64"):
        matrix = matrix.astype(np.float32 if kind == "bfloat16" else np.float64)
    targets, rows = _read(y, "y"), matrix.shape[0]
    if targets.ndim == 0 or len(targets) != rows:
        raise ValueError(
            f"objectives.scipy: y must have a target for each of the {rows} rows of X, got the shape {targets.shape}"
        )
    return _Linear(loss, matrix, targets, l1, l2, options)


@dataclass(frozen=True, eq=False)
class _Linear:
    """The objective: a function of weights that is pickled with its data."""

    loss: Loss
    matrix: Any
    targets: np.ndarray
    l1: float
    l2: float
    options: dict[str, Any]

    def __repr__(self) -> str:
        penalties = {name: strength for name, strength in (("l1", self.l1), ("l2", self.l2)) if strength}
        return shown("scipy", self.loss.__name__, "X", "y", **penalties, **self.options)

    def __call__(self, w: Any) -> tuple[float, np.ndarray]:
        weights, matrix = self._weights(w), self.matrix
        by_rows = self.loss.definition.form == "rowwise"
        shaped = weights.reshape(matrix.shape[1], -1) if by_rows else weights
        scores = np.ascontiguousarray(matrix @ shaped.astype(matrix.dtype, copy=False))
        value, slopes = self.loss.value_and_gradient(scores, self.targets, **self.options, out=scores)
        gradient = np.asarray(matrix.T @ slopes, np.float64).reshape(-1)
        if self.l1:
            value, gradient = value + self.l1 * float(np.abs(weights).sum()), gradient + self.l1 * np.sign(weights)
        if self.l2:
            value, gradient = value + 0.5 * self.l2 * float(weights @ weights), gradient + self.l2 * weights
        return value, gradient

    def _weights(self, w: Any) -> np.ndarray:
        weights, features = numbers_of(w, "objectives.scipy", "w"), self.matrix.shape[1]
        weights = weights.astype(np.float64, copy=False)
        by_rows = self.loss.definition.form == "rowwise"
        if weights.ndim != 1 or weights.size % features or (not by_rows and weights.size != features):
            wanted = f"a multiple of {features} numbers, (features, classes) ravelled" if by_rows else f"{features} numbers"
            raise ValueError(f"objectives.scipy: w must have {wanted}, got the shape {weights.shape}")
        return weights


def _read(value: Any, name: str) -> np.ndarray:
    return array_type(value, "objectives.scipy", name).read(value, "objectives.scipy", name)


def _check(loss: Any, l1: Any, l2: Any, options: dict[str, Any]) -> None:
    if not isinstance(loss, Loss):
        raise TypeError(f"objectives.scipy: loss must be a jitloss loss, got {loss!r}")
    inputs = loss.definition.inputs
    if len(inputs) != 2 or not inputs[1].space.target:
        names = ", ".join(one.public for one in inputs)
        raise ValueError(f"objectives.scipy: a loss of predictions and targets is wanted, {loss.__name__} takes {names}")
    for name, strength in (("l1", l1), ("l2", l2)):
        if not is_number(strength):
            raise TypeError(f"objectives.scipy: {name} must be a number, got {strength!r}")
        if not 0.0 <= as_float(strength) < np.inf:
            raise ValueError(f"objectives.scipy: {name} must be finite and not negative, got {strength!r}")
    if options.get("reduction") == "none" or "out" in options:
        raise ValueError("objectives.scipy: reduction='none' and out are not for an objective, which is one number")
