"""The spaces of inputs, and the ranges of parameters: the annotations of definitions."""

from typing import Annotated, Any, NamedTuple

import numpy as np

from .binding import NUMBERS

__all__ = [
    "ANY_NUMBER", "Binary", "Classes", "Count", "Distribution", "Embedding", "Epsilon", "Exponent", "Fraction", "LogRate", "Logit",
    "NonNegative", "Positive", "Positives", "Probability", "Range", "Real", "RealTarget", "Same", "Share", "Sign", "Space", "Weight",
    "as_float", "is_number",
]  # fmt: skip


class Space(NamedTuple):
    """What kind of number an input holds. ``target`` spaces are data, which are not differentiated."""

    name: str
    description: str
    target: bool = False
    graded: bool = True
    """Whether a target between 0 and 1 belongs partly to both classes, rather than to the second."""


class Range(NamedTuple):
    """The values that a parameter may take, ends included unless ``open``; in float32 arithmetic never less than ``floor``.

    ``usual`` marks parameters whose value decides how much there is to compute: one kernel has the definition's default compiled
    in, and one more serves all other values.
    """

    low: float
    high: float
    open: bool
    description: str
    floor: float = -np.inf
    usual: bool = False

    def __contains__(self, value: Any) -> bool:
        return bool(self.low < value < self.high if self.open else self.low <= value <= self.high)


Real = Annotated[float, Space("real", "any real number")]
Logit = Annotated[float, Space("logit", "unnormalised log-probability, any real number")]
Probability = Annotated[float, Space("probability", "probability in [0, 1]")]
Embedding = Annotated[float, Space("embedding", "coordinate of an embedding, any real number")]
LogRate = Annotated[float, Space("log-rate", "logarithm of the expected count")]

RealTarget = Annotated[float, Space("real", "any real number", target=True)]
Binary = Annotated[
    float, Space("binary", "1 for the positive class and 0 for the negative; soft values between are allowed", target=True)
]
Positives = Annotated[
    float, Space("binary", "1 for the positive class; any other number is the negative", target=True, graded=False)
]
Sign = Annotated[float, Space("sign", "-1 or 1 (bool: False is -1)", target=True)]
Count = Annotated[float, Space("count", "count, not negative", target=True)]
Classes = Annotated[float, Space("classes", "integer class labels, or one weight per class (dense)", target=True)]
Distribution = Annotated[float, Space("distribution", "probability per class", target=True)]
Weight = Annotated[float, Space("parameter", "trained parameter of a model; its penalty is summed, never averaged")]
Same = Annotated[float, Space("same", "1 where the pair is the same, else 0", target=True)]

Positive = Annotated[float, Range(0.0, np.inf, True, "a positive number")]
NonNegative = Annotated[float, Range(0.0, np.finfo(np.float64).max, False, "a number that is not negative")]
Fraction = Annotated[float, Range(0.0, 1.0, True, "a number strictly between 0 and 1")]
Share = Annotated[float, Range(0.0, 1.0, False, "a number from 0 to 1")]
Exponent = Annotated[float, Range(0.0, np.finfo(np.float64).max, False, "a number that is not negative", usual=True)]
Epsilon = Annotated[float, Range(0.0, 0.5, True, "a number strictly between 0 and 0.5", floor=2.0**-24, usual=True)]

ANY_NUMBER = Range(-np.inf, np.inf, True, "a finite number")


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python's or NumPy's types, and not a bool."""
    return isinstance(value, NUMBERS) and not isinstance(value, bool)


def as_float(value: Any) -> float:
    """A number as a float; infinite for an integer beyond the range of floats."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf
