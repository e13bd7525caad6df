"""The public object: a callable loss, and the algebra of losses."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

from . import definition as definitions
from .algebra import sum_of
from .definition import Definition
from .form import Documented, Form, OfInstances
from .keys import remember
from .options import DEFAULTS

__all__ = ["Loss", "pointwise", "rowwise"]


class Loss:
    form: type[Form] = Form

    __doc__ = Documented(
        """A loss: call it for its value, or call one of its forms for the gradient too.

    Attributes
    ----------
    gradient, value_and_gradient, value_gradient_hessian : callable
        The forms, with the same arguments as the loss itself. All of them take one pass over the inputs.
    value : callable
        The loss itself, as a form like the others.
    definition : Definition
        The maths that everything is compiled from.
    terms : tuple of (float, Loss)
        What a sum of losses adds up; empty for any other loss.
    """
    )

    of_penalties: "type[Loss]"
    """The subclass for penalties on parameters."""

    def __init_subclass__(cls, *, penalties: bool = False) -> None:
        cls.__doc__ = Documented(cls.__doc__)  # type: ignore[assignment]
        if penalties:
            Loss.of_penalties = cls

    def __init__(
        self, definition: Definition, *, module: str | None = None, terms: "tuple[tuple[float, Loss], ...]" = ()
    ) -> None:
        self.definition, self.terms = definition, terms
        self.weights = tuple(weight for weight, _ in terms)
        self.__module__ = module or definition.module
        self.__name__, self.__qualname__ = definition.name, definition.qualname
        if terms:
            self.__name__ = self.__qualname__ = _name_of(terms)
        self._origin: tuple[Loss, dict[str, Any]] | None = None
        self.value = self.form(self, "value")
        self.gradient = self.form(self, "gradient")
        self.value_and_gradient = self.form(self, "value_and_gradient")
        self.value_gradient_hessian = self.form(self, "value_gradient_hessian")

    def __call__(self, /, *args: Any, **options: Any) -> Any:
        return self.value(*args, **options)

    @property
    def _numba_type_(self) -> Any:
        return self.value._numba_type_

    @OfInstances
    def __signature__(self) -> inspect.Signature:
        return self.value.signature()

    def _document(self) -> str:
        return self.value._document()

    @property
    def formula(self) -> str:
        """The value of the loss in LaTeX; for a definition without a formula in its docstring, the definition's own source."""
        from .documentation import formula, formula_of_sum

        return (
            formula_of_sum((weight, loss.definition) for weight, loss in self.terms) if self.terms else formula(self.definition)
        )

    def __repr__(self) -> str:
        return f"<jitloss loss {self.__name__}{self.__signature__}>"

    def __reduce__(self) -> Any:
        """Pickle by name, as functions are; a sum by its terms, a loss with other defaults by the loss that it was made from."""
        if self._origin is not None:
            return (_with_parameters, self._origin)
        return (_sum, (self.terms,)) if self.terms else self.__qualname__

    def with_parameters(self, **parameters: Any) -> "Loss":
        """Make the same loss with other defaults: ``huber_loss.with_parameters(delta=2.0)``, mainly for sums.

        Parameters
        ----------
        **parameters
            New defaults, by the names of the loss's own parameters.

        Returns
        -------
        Loss
            Another loss; this one stays as it is.

        Raises
        ------
        TypeError, ValueError
            For a name that is not a parameter, or a value that it may not take.
        """
        if self.terms:
            raise TypeError(f"{self.__name__}: give its terms their parameters before they are added")
        return _with_parameters(self, parameters)

    # Loss algebra: sums of losses, each times a number, are losses. ------------------------------------------------------------

    def _terms(self) -> "tuple[tuple[float, Loss], ...]":
        return self.terms or ((1.0, self),)

    def __add__(self, other: Any) -> "Loss":
        if not isinstance(other, Loss):
            return self if isinstance(other, int) and other == 0 else NotImplemented  # Python's sum starts with 0
        return _sum((*self._terms(), *other._terms()))

    __radd__ = __add__

    __array_ufunc__ = None  # an array times a loss is an error, not an array of losses

    def __mul__(self, factor: Any) -> "Loss":
        if not definitions.is_number(factor):
            return NotImplemented
        if not math.isfinite(definitions.as_float(factor)):
            raise ValueError(f"{self.__name__}: a loss is multiplied by a finite number, got {factor!r}")
        return _sum(tuple((float(factor) * weight, loss) for weight, loss in self._terms()))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "Loss":
        if not definitions.is_number(divisor):
            return NotImplemented
        if divisor == 0:
            raise ValueError(f"{self.__name__}: a loss is divided by a number other than 0, got {divisor!r}")
        return self * (1.0 / definitions.as_float(divisor))

    def __pos__(self) -> "Loss":
        return self

    def __neg__(self) -> "Loss":
        return self * -1.0

    def __sub__(self, other: Any) -> "Loss":
        return self + -other if isinstance(other, Loss) else NotImplemented


def _with_parameters(loss: Loss, parameters: dict[str, Any]) -> Loss:
    known = [one.name for one in loss.definition.parameters]
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise TypeError(f"{loss.__name__} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    changed = tuple(
        dataclasses.replace(one, default=one.check(parameters.get(one.name, one.default), loss.__name__))
        for one in loss.definition.parameters
    )
    definition = dataclasses.replace(loss.definition, parameters=changed, origin=loss.definition.maths)
    made = type(loss)(definition, module=loss.__module__)
    made._origin = (loss, parameters)
    return made


_sums: "dict[tuple[tuple[float, Loss], ...], Loss]" = {}
"""Sums made lately: one that is written inside a training loop is the same loss in each step, whose calls take the fast paths."""


def _sum(terms: "tuple[tuple[float, Loss], ...]") -> Loss:
    """The loss that adds up the terms."""
    found = _sums.get(terms)  # functools' cache would make torch.compile warn
    if found is None:
        found = _new_sum(terms)
        remember(_sums, terms, found)
    return found


def _new_sum(terms: "tuple[tuple[float, Loss], ...]") -> Loss:
    """The same; a loss that occurs twice is included once, with the sum of its weights."""
    weights: dict[Loss, float] = {}
    for weight, one in terms:
        weights[one] = weights.get(one, 0.0) + weight
    for one, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"{one.__name__}: a loss is multiplied by a finite number, got {weight!r} in all")
    first = next(iter(weights))
    definition = sum_of(tuple(one.definition for one in weights), _RESERVED) if len(weights) > 1 else first.definition
    kind = Loss.of_penalties if definition.is_penalty else type(first)
    return kind(definition, terms=tuple((weight, one) for one, weight in weights.items()))


def _name_of(terms: "tuple[tuple[float, Loss], ...]") -> str:
    parts = (one.__name__ if weight == 1.0 else f"{weight:g} * {one.__name__}" for weight, one in terms)
    return " + ".join(parts).replace("+ -", "- ")


def pointwise(function: Callable[..., Any]) -> Loss:
    """Make a loss from the maths of one element.

    Parameters
    ----------
    function : callable
        ``(prediction, target, *parameters) -> value, gradient[, hessian]``, plain maths on single numbers: float literals, the
        functions of :mod:`jitloss.math` by their plain names (no import is needed), conditional expressions, and calls of other
        such functions; no loops, no arrays. Arguments without a default are the inputs; the first is differentiated. Arguments
        with a default are parameters: numbers, switches (bool), or options (``None`` while they are off).

    Returns
    -------
    Loss
        With the forms, options, devices and adapters of the shipped losses. ``prediction`` is called ``predictions`` there.

    Raises
    ------
    DefinitionError
        Where the definition breaks a rule; the message names the rule.

    Examples
    --------
    >>> import jitloss
    >>> @jitloss.pointwise
    ... def custom_loss(prediction, target, alpha=1.0):
    ...     error = prediction - target
    ...     return error * error + alpha * abs(error), 2.0 * error + alpha * sign(error)
    >>> custom_loss.value_and_gradient([1.0, 2.0], [0.0, 4.0], alpha=0.5)
    (3.25, array([ 1.25, -2.25]))
    """
    return _made(definitions.pointwise(function))


def rowwise(cls: type) -> Loss:
    """Make a loss from sums over a row.

    Parameters
    ----------
    cls : type
        A class of functions of one element's numbers and of parameters with defaults. ``peak`` (optional) is a maximum over the
        row; ``terms`` are summed over the row; ``value(sums, …)`` turns the sums into the row's value and the coefficients that
        ``slope`` needs; ``slope`` is one number per differentiable input, or twice as many with the second derivatives.
        Functions take what they need by name: elements, ``peak``, ``sums``, parameters; ``slope`` takes the coefficients in
        order, and may take ``terms``, what ``terms`` returned for its element, so that nothing is computed twice.
        An element called ``target`` is data, and integer labels may stand for it. Further arguments of ``value`` are inputs with one
        number per row.

    Returns
    -------
    Loss
        With the forms, options, devices and adapters of the shipped losses.

    Raises
    ------
    DefinitionError
        Where the definition breaks a rule; the message names the rule.

    Examples
    --------
    >>> import jitloss
    >>> @jitloss.rowwise
    ... class squared_distance:
    ...     def terms(prediction, target):
    ...         return (prediction - target) * (prediction - target)
    ...     def value(sums):
    ...         return sums
    ...     def slope(prediction, target):
    ...         return 2.0 * (prediction - target)
    >>> squared_distance([[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    2.5
    """
    return _made(definitions.rowwise(cls))


_RESERVED = frozenset({*DEFAULTS, "out"})


def _made(definition: Definition) -> Loss:
    """The loss of a definition, provided that every argument of its call can have a distinct name."""
    names = [*(one.public for one in definition.inputs), *(one.name for one in definition.parameters)]
    for name in names:
        if names.count(name) > 1:
            raise definitions.DefinitionError(
                f"{definition.name}: two arguments of the call would be {name!r}; the input {name[:-1]!r} is called {name!r} there"
            )
        if name in _RESERVED:
            raise definitions.DefinitionError(
                f"{definition.name}: the argument {name!r} has the name of an option. Every loss has {', '.join(DEFAULTS)}, out"
            )
    kind = Loss.of_penalties if definition.is_penalty else Loss
    return kind(definition)
