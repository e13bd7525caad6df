"""Does a gradient belong to its value? Central differences, with an eye for kinks and clips."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .inputs import read
from .loss import Loss

__all__ = ["GradientCheck", "check_gradient"]


@dataclass(frozen=True)
class GradientCheck:
    """What :func:`check_gradient` found; true where the gradient is right.

    Attributes
    ----------
    passed : bool
        Whether every element that was compared agrees within the tolerance.
    error : float
        The largest difference, divided by the larger of 1 and the size of the gradient.
    input : str
        The input of the worst element.
    index : tuple of int
        Its place.
    analytic, numeric : float
        The loss's own gradient there, and the difference quotient.
    compared, skipped : int
        Elements that were compared, and those on a kink or a clip, where the gradient is one of several right answers.
    """

    passed: bool
    error: float
    input: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    compared: int
    skipped: int

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        state = "right" if self.passed else "WRONG"
        text = f"gradient {state}: {self.compared} elements compared, {self.skipped} on a kink or a clip skipped"
        if not self.compared:
            return text
        return (
            f"{text}; worst is {self.input}{list(self.index)}: gradient {self.analytic:.9g}, central difference {self.numeric:.9g}, "
            f"error {self.error:.2g}"
        )


def check_gradient(loss: Loss, *inputs: Any, step: float = 1e-5, tolerance: float = 1e-5, **options: Any) -> GradientCheck:
    """Compare a loss's gradient with central differences of its value, in float64.

    Parameters
    ----------
    loss : Loss
        A shipped loss, a custom one or a sum.
    *inputs
        Its inputs, a few elements at points of your choice: two values are computed for each element of each differentiable
        input.
    step : float, default 1e-5
        Half the distance of the two values, relative for elements larger than 1. Where they disagree with the gradient, they are
        taken again a sixteenth of it apart.
    tolerance : float, default 1e-5
        The largest error that passes: the difference over the larger of 1 and the size of the gradient.
    **options
        Parameters and options of the loss; not ``out``. With ``reduction="mean"`` gradients are compared as for the sum, so that a
        large batch hides nothing.

    Returns
    -------
    GradientCheck
        True where the gradient is right; printed, it names the worst element. Elements that disagree are skipped and counted where
        the slopes to the left and to the right differ (a kink such as that of hinge loss, the edge of a clip), and where the value
        is flat while the gradient, taken at the clipped point, is not, provided that the loss clips at all.

    Raises
    ------
    TypeError, ValueError
        As the loss itself does.

    Examples
    --------
    >>> import jitloss
    >>> bool(jitloss.check_gradient(jitloss.huber_loss, [0.3, -2.0, 5.0], [0.0, 0.5, 4.0], delta=1.5))
    True
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"check_gradient: loss must be a jitloss loss, got {loss!r}")
    for name, number in (("step", step), ("tolerance", tolerance)):
        if isinstance(number, bool) or not isinstance(number, (int, float, np.integer, np.floating)):
            raise TypeError(f"check_gradient: {name} must be a positive number, got {number!r}")
        if not 0.0 < number < np.inf:
            raise ValueError(f"check_gradient: {name} must be a positive number, got {number!r}")
    if not loss.definition.is_penalty:
        options = {**options, "reduction": "sum"}
    definition = loss.definition
    options = loss.value.arguments(inputs, options)
    numbers = read(definition, options).arrays
    given = {one: options.pop(one.public) for one in definition.inputs}
    arrays = [np.array(numbers[one.name], np.float64) if one.differentiable else value for one, value in given.items()]
    gradient = loss.gradient(*arrays, **options)
    clips = any(one.name.endswith("epsilon") for one in definition.parameters)
    worst, compared, skipped = (-1.0, "", (), 0.0, 0.0), 0, 0
    for position, one in enumerate(definition.inputs):
        if not one.differentiable:
            continue
        own = gradient[one.name] if isinstance(gradient, dict) else gradient
        for index in np.ndindex(own.shape):
            analytic = float(own[index])
            error, numeric, kink = _compare(loss, arrays, position, index, step, options, analytic)
            if error > tolerance:  # a kink stays one over a shorter step, a strong curvature does not
                again = _compare(loss, arrays, position, index, step / 16.0, options, analytic)
                kink = kink and again[2]
                error, numeric = min((error, numeric), again[:2])
            clipped = clips and numeric == 0.0
            if not np.isfinite(numeric) or (error > tolerance and (kink or clipped)):
                skipped += 1
                continue
            compared += 1
            if error > worst[0]:
                worst = (error, one.public, index, analytic, numeric)
    return GradientCheck(worst[0] <= tolerance, max(worst[0], 0.0), *worst[1:], compared, skipped)


def _compare(
    loss: Loss, arrays: list[Any], position: int, index: tuple[int, ...], step: float, options: dict[str, Any], analytic: float
) -> tuple[float, float, bool]:
    """The error of one element's gradient, the central difference, and whether the slopes to the left and to the right differ."""
    array = arrays[position]
    here = float(array[index])
    wide = step * max(1.0, abs(here))
    values = []
    for there in (here - wide, here, here + wide):
        array[index] = there
        values.append(float(loss(*arrays, **options)))
    array[index] = here
    left, right = (values[1] - values[0]) / wide, (values[2] - values[1]) / wide
    numeric = (left + right) / 2.0
    size = max(1.0, abs(analytic), abs(numeric))
    error = abs(analytic - numeric) / size if np.isfinite(analytic) else np.inf
    return error, numeric, abs(left - right) > 1e-2 * size
