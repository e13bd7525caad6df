"""The functions that the definition of a loss may call.

Here they are NumPy functions: elementwise, for floats, NumPy numbers and arrays, without warnings about overflow or division by
zero. float32 gives float32, float64 and Python floats give float64, NaN gives NaN. Each compiler has its own implementation of
every function, with the same meaning; the error bounds below are those of the CPU's compiled one against the true value, in units
in the last place (ulp), as the tests measure them. In float32 the compiled exp, and what is built on it, gives 0 for results
below 2**-125.5, about 1.7e-38.
"""

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "EQUIVALENT",
    "FUNCTIONS",
    "abs",
    "clip",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log_cosh",
    "maximum",
    "minimum",
    "power",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "tanh",
    "times",
    "where",
]

Real = Any
"""A Python float, a NumPy number or an array."""


def exp(x: Real) -> Real:
    """Exponential, e to the power ``x``: 0 at -inf, inf at inf. Within 1.25 ulp."""
    with np.errstate(all="ignore"):
        return np.exp(x)


def log(x: Real) -> Real:
    """Natural logarithm: -inf at 0, NaN below 0, inf at inf. Within 1 ulp."""
    with np.errstate(all="ignore"):
        return np.log(x)


def log1p(x: Real) -> Real:
    """log(1 + ``x``), accurate for small ``x``: -inf at -1, NaN below -1, inf at inf. Within 1.5 ulp."""
    with np.errstate(all="ignore"):
        return np.log1p(x)


def expm1(x: Real) -> Real:
    """exp(``x``) - 1, accurate for small ``x``: -1 at -inf, inf at inf. Within 2.5 ulp."""
    with np.errstate(all="ignore"):
        return np.expm1(x)


def tanh(x: Real) -> Real:
    """Hyperbolic tangent: -1 at -inf, 1 at inf. Within 3 ulp."""
    with np.errstate(all="ignore"):
        return np.tanh(x)


def log_cosh(x: Real) -> Real:
    """log(cosh(``x``)), accurate near 0 and in both tails: inf at -inf and inf. Within 7.5 ulp."""
    with np.errstate(all="ignore"):
        size, slope = np.abs(x), np.tanh(x)
        far = size + np.log1p(np.expm1(-2 * size) / 2)
        return where(np.less(size, 0.55), np.log1p(-slope * slope) / -2, far)


def sigmoid(x: Real) -> Real:
    """1 / (1 + exp(-``x``)), accurate in both tails: 0 at -inf, 1 at inf. Within 2.5 ulp."""
    with np.errstate(all="ignore"):
        small = np.exp(-np.abs(x))
        return where(np.greater_equal(x, 0), 1.0, small) / (1 + small)


def softplus(x: Real) -> Real:
    """log(1 + exp(``x``)), accurate in both tails: 0 at -inf, inf at inf. Within 2 ulp."""
    with np.errstate(all="ignore"):
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sqrt(x: Real) -> Real:
    """Square root: NaN below 0. Correctly rounded."""
    with np.errstate(all="ignore"):
        return np.sqrt(x)


def abs(x: Real) -> Real:
    """Absolute value. Exact."""
    return np.abs(x)


def sign(x: Real) -> Real:
    """1 above 0, -1 below 0, 0 at 0. Exact."""
    with np.errstate(all="ignore"):
        return np.sign(x)


def where(condition: Any, a: Real, b: Real) -> Real:
    """``a`` where the condition holds, else ``b``; both are computed. Exact."""
    chosen: Any = np.where(condition, a, b)
    return chosen[()]


def maximum(a: Real, b: Real) -> Real:
    """The larger of two numbers; NaN if one of them is NaN. Exact."""
    with np.errstate(all="ignore"):
        return np.maximum(a, b)


def minimum(a: Real, b: Real) -> Real:
    """The smaller of two numbers; NaN if one of them is NaN. Exact."""
    with np.errstate(all="ignore"):
        return np.minimum(a, b)


def clip(x: Real, low: Real, high: Real) -> Real:
    """``x`` clipped to the range from ``low`` to ``high``: minimum(maximum(``x``, ``low``), ``high``). Exact."""
    return minimum(maximum(x, low), high)


def times(a: Real, x: Real) -> Real:
    """``a`` times ``x``, but 0 wherever ``a`` is 0, even if ``x`` is infinite or NaN. Correctly rounded."""
    with np.errstate(all="ignore"):
        return where(np.equal(a, 0), 0.0, np.multiply(a, x))


def power(x: Real, y: Real) -> Real:
    """``x`` to the power ``y`` for ``x`` from 0 up, NaN for ``x`` below 0.

    1 where ``y`` is 0 or ``x`` is 1, whatever the other is. Within 1.5 + abs(``y``) / 8 ulp.
    """
    with np.errstate(all="ignore"):
        return where(np.less(x, 0) & np.not_equal(y, 0), np.nan, np.power(np.abs(x), y))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        exp,
        log,
        log1p,
        expm1,
        tanh,
        log_cosh,
        sigmoid,
        softplus,
        sqrt,
        abs,
        sign,
        where,
        maximum,
        minimum,
        clip,
        times,
        power,
    )
}
"""Every function that a definition may call, by name."""

EQUIVALENT: dict[Callable[..., Any], Callable[..., Any]] = {
    builtins.abs: abs,
    builtins.max: maximum,
    builtins.min: minimum,
    math.exp: exp,
    math.log: log,
    math.log1p: log1p,
    math.expm1: expm1,
    math.tanh: tanh,
    math.sqrt: sqrt,
    math.fabs: abs,
    math.pow: power,
    np.exp: exp,
    np.log: log,
    np.log1p: log1p,
    np.expm1: expm1,
    np.tanh: tanh,
    np.sqrt: sqrt,
    np.abs: abs,
    np.fabs: abs,
    np.sign: sign,
    np.where: where,
    np.maximum: maximum,
    np.minimum: minimum,
    np.clip: clip,
    np.power: power,
}
"""Functions of Python and NumPy that a definition may use as another name for one of ours."""
