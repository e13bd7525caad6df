"""Does a gradient belong to its value? Central differences, aware of kinks and clips."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .definition import as_float, is_number
from .inputs import read
from .loss import Loss

__all__ = ["GradientCheck", "check_gradient"]


@dataclass(frozen=True)
class GradientCheck:
    """What :func:`check_gradient` found; true where the gradient is right.

    Attributes
    ----------
    passed : bool
        Whether every element that was compared agrees within the tolerance, and any was, if there are elements.
    error : float
        The largest difference, divided by the largest of 1, the gradient and the difference quotient.
    input : str
        The input of the worst element.
    index : tuple of int
        Its index.
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
        state = "right" if self.passed else "WRONG" if self.compared else "NOT CHECKED"
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
        Half the distance between the two points, relative for elements larger than 1. Where they disagree with the gradient, the
        comparison is repeated with a sixteenth and with a thirty-second of it.
    tolerance : float, default 1e-5
        The largest error that passes: the difference over the largest of 1, the gradient and the difference quotient.
    **options
        Parameters and options of the loss, except ``out``. Each item's own value is compared, whatever the reduction, so that
        neither a large batch nor a large item hides anything.

    Returns
    -------
    GradientCheck
        True where the gradient is right; printed, it names the worst element. The second derivative is not compared. Elements
        that disagree are skipped and counted where the slopes to the left and to the right differ (a kink such as that of hinge
        loss, the edge of a clip or of a domain), and where the value is flat while the gradient, taken at the clipped point, is
        not, provided that the loss clips at all. If all elements are skipped, nothing was checked, and the result is false. A
        value or a gradient that is not finite is wrong, unless the inputs are not finite either.

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
        if not is_number(number):
            raise TypeError(f"check_gradient: {name} must be a positive number, got {number!r}")
        if not 0.0 < as_float(number) < np.inf:
            raise ValueError(f"check_gradient: {name} must be a positive number, got {number!r}")
    definition = loss.definition
    inputs = (*inputs, *(options.pop(one.public) for one in definition.inputs[len(inputs) :] if one.public in options))
    loss(*inputs, **options)  # raises if the arguments are wrong
    if isinstance(inputs[0], Mapping):
        return _of_each(loss, inputs, {"step": step, "tolerance": tolerance, **options})
    if not definition.is_penalty:
        options = {**options, "reduction": "none"}
    options = loss.value.arguments(inputs, options)
    numbers = read(definition, options).arrays
    given = {one: options.pop(one.public) for one in definition.inputs}
    arrays = [np.array(numbers[one.name], np.float64) if one.differentiable else value for one, value in given.items()]
    gradient = loss.gradient(*arrays, **options)
    clips = any(one.name.endswith("epsilon") for one in definition.parameters)
    finite = all(np.isfinite(numbers[one.name].astype(np.float64)).all() for one in definition.inputs)
    worst, compared, skipped = (-1.0, "", (), 0.0, 0.0), 0, 0
    for position, one in enumerate(definition.inputs):
        if not one.differentiable:
            continue
        own = gradient[one.name] if isinstance(gradient, dict) else gradient
        for index in np.ndindex(own.shape):
            analytic = float(own[index])
            point = _Point(loss, arrays, position, index, options, analytic)
            error, numeric, bend, edge = point.compare(step)
            if error > tolerance:  # a kink stays as sharp with a shorter step, a strong curvature does not
                second, shorter, sharper, _ = point.compare(step / 16.0)
                third, nearer, _, edge = point.compare(step / 32.0)  # a kink may lie just within the end of the second step
                kink = sharper > max(1e-2 * max(1.0, abs(analytic), abs(nearer)), bend / 4.0)
                error, numeric = min((error, numeric), (second, shorter), (third, nearer))
                lost = not finite and not np.isfinite([analytic, nearer]).all()  # NaN may follow from NaN
                if error > tolerance and (edge or lost or kink or (clips and nearer == 0.0)):
                    skipped += 1
                    continue
            compared += 1
            if error > worst[0]:
                worst = (error, one.public, index, analytic, numeric)
    passed = worst[0] <= tolerance and bool(compared or not skipped)
    return GradientCheck(passed, max(worst[0], 0.0), *worst[1:], compared, skipped)


def _of_each(loss: Loss, inputs: tuple[Any, ...], options: dict[str, Any]) -> GradientCheck:
    """A penalty on several arrays: each is checked separately, and the worst counts."""
    found = {name: check_gradient(loss, one, *inputs[1:], **options) for name, one in inputs[0].items()}
    if not found:
        return GradientCheck(True, 0.0, "", (), 0.0, 0.0, 0, 0)
    name, worst = max(found.items(), key=lambda pair: (pair[1].compared > 0, pair[1].error))
    place = worst.input.replace(loss.definition.inputs[0].public, f"{loss.definition.inputs[0].public}[{name!r}]", 1)
    compared, skipped = (sum(getattr(one, count) for one in found.values()) for count in ("compared", "skipped"))
    passed = all(one.error <= options["tolerance"] for one in found.values()) and bool(compared or not skipped)
    return dataclasses.replace(worst, passed=passed, input=place, compared=compared, skipped=skipped)


@dataclass(frozen=True)
class _Point:
    """One element of one input, and the value of its own item: the sum over all items would hide a small one behind a large one."""

    loss: Loss
    arrays: list[Any]
    position: int
    index: tuple[int, ...]
    options: dict[str, Any]
    analytic: float

    def compare(self, step: float) -> tuple[float, float, float, bool]:
        """The error, the central difference, by how much the one-sided slopes differ, and whether this is the edge of a domain."""
        array = self.arrays[self.position]
        here = float(array[self.index])
        wide = step * max(1.0, abs(here))
        before, value, behind = (self._value(there) for there in (here - wide, here, here + wide))
        array[self.index] = here
        left, right = (value - before) / wide, (behind - value) / wide
        numeric = (left + right) / 2.0
        fine = np.isfinite([self.analytic, value]).all()
        error = (
            abs(self.analytic - numeric) / max(1.0, abs(self.analytic), abs(numeric)) if fine and np.isfinite(numeric) else np.inf
        )
        return error, numeric, abs(left - right), bool(fine and not np.isfinite(numeric))

    def _value(self, there: float) -> float:
        self.arrays[self.position][self.index] = there
        if not self.loss.definition.is_penalty:
            values = np.asarray(self.loss(*self.arrays, **self.options))
            axis = self.options.get("axis", -1)
            return float(values[self.index if values.ndim == len(self.index) else _without(self.index, axis)])
        alone = self.loss.definition.form == "pointwise"
        return float(self.loss(np.array([there]) if alone else self.arrays[0], *self.arrays[1:], **self.options))


def _without(index: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The index of a row from that of an element."""
    place = axis % len(index)
    return index[:place] + index[place + 1 :]
