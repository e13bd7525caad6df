"""The public object: a loss that is called, and the forms in which it gives its gradient."""

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import definition as definitions
from .algebra import sum_of
from .arrays.devices import library_of
from .call import Evaluation, Result, Wants
from .definition import Definition
from .inputs import library_of_call, working_dtype
from .keys import ON_DEVICES, new_key
from .large import Large
from .options import DEFAULTS, option_names
from .plans import ABSENT, LONG_WAY
from .quick import Quick
from .registry import adapter_of, array_type, is_supported
from .results import one_or_tuple

if TYPE_CHECKING:
    from .arrays.cuda import Library
    from .device import DeviceEvaluation
    from .parts import Parts

__all__ = ["Form", "Loss", "pointwise", "rowwise"]

_FORMS = {
    "value": Wants(value=True, gradient=False, hessian=False),
    "gradient": Wants(value=False, gradient=True, hessian=False),
    "value_and_gradient": Wants(value=True, gradient=True, hessian=False),
    "value_gradient_hessian": Wants(value=True, gradient=True, hessian=True),
}


class _Documented:
    """A docstring that is put together when somebody reads it: the class's own, or that of a loss or a form."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __get__(self, one: "Form | Loss | None", owner: type) -> str | None:
        return self.text if one is None else one._document()


class _OfInstances(property):
    """A property that the class itself has not, where :mod:`inspect` would take it for one of the class."""

    def __get__(self, one: Any, owner: type | None = None) -> Any:
        if one is None:
            raise AttributeError("a loss has a signature of its own")
        return super().__get__(one, owner)


class Form:
    __doc__ = _Documented(
        """One way to call a loss, a function to all appearances: it has a name, a signature and a docstring, and pickles by name."""
    )

    def __init_subclass__(cls) -> None:
        cls.__doc__ = _Documented(cls.__doc__)  # type: ignore[assignment]

    def __init__(self, loss: "Loss", kind: str) -> None:
        self.loss, self.kind, self.wants = loss, kind, _FORMS[kind]
        self.__name__ = loss.__name__ if kind == "value" else f"{loss.__name__}_{kind}"
        self.__qualname__, self.__module__ = self.__name__, loss.__module__
        self.key = new_key(self)
        definition = loss.definition
        self.inputs = tuple(one.public for one in definition.inputs)
        self.positional = (*self.inputs, *(one.name for one in definition.parameters if not one.keyword_only))
        self.differentiable = {one.public: one.name for one in definition.inputs if one.differentiable}
        self._signature: inspect.Signature | None = None
        self._replay: Any = None
        self._quick: Quick | Large | None = None

    def signature(self) -> inspect.Signature:
        """What the form takes; made when it is first asked for."""
        if self._signature is None:
            self._signature = _signature(self.loss.definition, self.wants)
        return self._signature

    @_OfInstances
    def __signature__(self) -> inspect.Signature:
        return self.signature()

    # What an adapter asks --------------------------------------------------------------------------------------------------------

    @property
    def by_rows(self) -> bool:
        """Whether an item is a row."""
        return self.loss.definition.form == "rowwise"

    @staticmethod
    def reads(value: Any) -> bool:
        """Whether an argument is of a type that is registered."""
        return is_supported(type(value))

    def in_numpy(self, name: str, value: Any) -> np.ndarray:
        """An argument of another library's as a NumPy array."""
        return array_type(value, self.__name__, name).read(value, self.__name__, name)

    adapter_of = staticmethod(adapter_of)

    def working(self, dtypes: Iterable[str]) -> str:
        """The dtype of the arithmetic and of a value, from the names of the dtypes of the inputs."""
        return working_dtype(self.loss.definition, dtypes)

    @property
    def with_gradient(self) -> "Form":
        return self.loss.value_and_gradient

    def items(self, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """The shape of the items of inputs of a shape."""
        place = axis % len(shape) if shape else 0
        return shape[:place] + shape[place + 1 :] if self.by_rows else shape

    # -----------------------------------------------------------------------------------------------------------------------------

    def _document(self) -> str:
        from .documentation import document

        return document(self.loss.definition, self.kind)

    def __repr__(self) -> str:
        return f"<jitloss form {self.__name__}{self.__signature__}>"

    def __reduce__(self) -> Any:
        return (getattr, (self.loss, self.kind))

    def _call(self, /, *args: Any, out: Any = ABSENT, **options: Any) -> Any:
        quick = self._quick
        if quick is not None:
            result = quick(args, options, out)
            if result is not LONG_WAY:
                return result
        if out is not ABSENT:
            options["out"] = out
        adapter = adapter_of((*args, *options.values()))
        return self.evaluate(args, options) if adapter is None else adapter(self, args, options)

    __call__: Callable[..., Any] = _call  # each form has a signature of its own

    def evaluate(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The call on arrays whose memory can be reached, on the host or on a device, whatever framework they are of."""
        if self._replay is not None:
            results = self._replayed(args, options)
            if results is not None:
                return results
        extra = self._device_options(args, options)
        arguments = self.arguments(args, options)
        if self.wants.hessian and not self.loss.definition.hessian:
            raise NotImplementedError(
                f"{self.loss.__name__}: the diagonal of its second derivative is not defined here; "
                f"value_and_gradient is what this loss gives"
            )
        library = library_of_call(self.loss.definition, arguments)
        if library is not None:
            return self._on_device(library, arguments, extra, None if extra else (args, options))
        evaluation = Evaluation(self.loss.definition, self.loss.weights, arguments, self.wants)
        result = self._pack(evaluation.run())
        way = next((one for one in (Quick, Large) if one.serves(self.loss.definition, self.wants)), None)
        if way is not None:
            self._quick = self._quick or way(self.loss.definition, self.wants)
            self._quick.learn(args, options, evaluation)
        return result

    def validate(self, /, *args: Any, **options: Any) -> None:
        """Raise what a call would raise before it writes to ``out``: one of several calls must not fail alone."""
        if adapter_of((*args, *options.values())) is not None:
            return
        extra = self._device_options(args, options)
        arguments = self.arguments(args, options)
        library = library_of_call(self.loss.definition, arguments)
        if library is None:
            Evaluation(self.loss.definition, self.loss.weights, arguments, self.wants).validate()
            return
        with self._evaluation(library, arguments, extra) as evaluation:
            evaluation.validate()

    @property
    def _numba_type_(self) -> Any:
        """What numba asks a value in compiled code."""
        from .jitted import numba_type

        return numba_type(self)

    def parts(self) -> "Parts":
        """The steps of a call on arrays that come in parts, for an adapter that keeps them so."""
        from .parts import Parts

        return Parts(self.loss.definition, self.loss.weights, self.wants, self)

    def _device_options(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """The options that only calls on a device have, taken out of the others."""
        first = args[0] if args else options.get(self.inputs[0])
        return {} if library_of(first) is None else {name: options.pop(name) for name in ON_DEVICES if name in options}

    @contextlib.contextmanager
    def _evaluation(self, library: "Library", arguments: dict[str, Any], extra: dict[str, Any]) -> Iterator["DeviceEvaluation"]:
        """The steps of a call on a device, with its stream as the library's own."""
        from .device import DeviceEvaluation, stream_of

        given, first = extra.get("stream"), arguments[self.inputs[0]]
        stream_of(self.loss.definition.name, library, first, given)
        with library.on(given, first):
            yield DeviceEvaluation(self.loss.definition, self.loss.weights, arguments, self.wants, library, **extra)

    def _on_device(self, library: "Library", arguments: dict[str, Any], extra: dict[str, Any], given: Any) -> Any:
        """A call on a device; one that was ``given`` so, its inputs and its options, is recorded."""
        from .replay import Replay

        with self._evaluation(library, arguments, extra) as evaluation:
            results = evaluation.run_on_device()
        if given is not None and len(given[0]) == len(self.inputs):
            self._replay = self._replay or Replay()
            self._replay.learn(*given, evaluation)
        return one_or_tuple(results)

    @property
    def recorded(self) -> bool:
        """Whether a call on a device has been recorded."""
        return self._replay is not None

    def _replayed(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A call on a device like one that has been recorded, on arrays of one type; None where there is none."""
        library, kind = library_of(args[0]) if args else None, type(args[0]) if args else None
        if library is None or any(type(one) is not kind or library_of(one) is not library for one in args[1:]):
            return None
        return self.replay(library, args, options)

    def replay(self, library: "Library", args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The same for arrays that are known to be of one library."""
        if len(args) != len(self.inputs):
            return None
        results = self._replay(library, args, options)
        return None if results is None else one_or_tuple(results)

    def arguments(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name, as Python binds them, with an error that says what this loss takes."""
        if len(args) == len(self.inputs) and (not options or self._knows(options)):
            return {**dict(zip(self.inputs, args, strict=True)), **options}
        try:
            return self.signature().bind(*args, **options).arguments
        except TypeError as error:
            raise TypeError(f"{self.__name__}{self.__signature__}: {error}") from None

    def _knows(self, options: dict[str, Any]) -> bool:
        """Whether all options are of this loss, and none is an input; binding them takes longer."""
        known, inputs = self.__signature__.parameters, self.inputs
        return all(name in known and name not in inputs for name in options)

    def _pack(self, result: Result) -> Any:
        """The results in the caller's own type."""
        kind, like, parts = result.arrays.kind, result.arrays.like, []
        if self.wants.value:
            items = isinstance(result.value, np.ndarray)
            parts.append((kind.from_numpy if items else kind.from_value)(result.value, like))
        for output in (result.gradient, result.hessian):
            if output is not None:
                done = output.finish()
                parts.append(
                    {name: kind.from_numpy(array, like) for name, array in done.items()}
                    if isinstance(done, dict)
                    else kind.from_numpy(done, like)
                )
        return one_or_tuple(parts)


def _signature(definition: Definition, wants: Wants) -> inspect.Signature:
    """Inputs, the loss's own parameters, then the options that apply, by keyword."""
    parameter = inspect.Parameter
    given = [parameter(one.public, parameter.POSITIONAL_OR_KEYWORD) for one in definition.inputs]
    own = [
        parameter(one.name, parameter.KEYWORD_ONLY if one.keyword_only else parameter.POSITIONAL_OR_KEYWORD, default=one.default)
        for one in definition.parameters
    ]
    options = [parameter(name, parameter.KEYWORD_ONLY, default=DEFAULTS[name]) for name in option_names(definition)]
    if wants.gradient:
        options.append(parameter("out", parameter.KEYWORD_ONLY, default=None))
    own.sort(key=lambda one: one.kind)
    return inspect.Signature([*given, *own, *options])


class Loss:
    form: type[Form] = Form

    __doc__ = _Documented(
        """A loss: call it for its value, or ask one of its forms for the gradient too.

    Attributes
    ----------
    gradient, value_and_gradient, value_gradient_hessian : callable
        The forms, with the same arguments as the loss itself. All of them take one pass over the inputs.
    value : callable
        The loss itself, as a form like the others.
    definition : Definition
        The maths that all of it is made from.
    terms : tuple of (float, Loss)
        What a sum of losses adds up; empty for a loss that is none.
    """
    )

    of_penalties: "type[Loss]"
    """The subclass for penalties on parameters."""

    def __init_subclass__(cls, *, penalties: bool = False) -> None:
        cls.__doc__ = _Documented(cls.__doc__)  # type: ignore[assignment]
        if penalties:
            Loss.of_penalties = cls

    def __init__(
        self, definition: Definition, *, module: str | None = None, terms: "tuple[tuple[float, Loss], ...]" = ()
    ) -> None:
        self.definition, self.terms = definition, terms
        self.weights = tuple(weight for weight, _ in terms)
        self.__module__ = module or definition.module
        self.__name__, self.__qualname__ = definition.name, definition.qualname
        self._origin: tuple[Loss, dict[str, Any]] | None = None
        self._name_forms()

    def _name_forms(self) -> None:
        self.value = self.form(self, "value")
        self.gradient = self.form(self, "gradient")
        self.value_and_gradient = self.form(self, "value_and_gradient")
        self.value_gradient_hessian = self.form(self, "value_gradient_hessian")

    def __call__(self, /, *args: Any, **options: Any) -> Any:
        return self.value(*args, **options)

    @property
    def _numba_type_(self) -> Any:
        return self.value._numba_type_

    @_OfInstances
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
        """By name, as functions are pickled; a sum by its terms, a loss with other defaults by the loss that it was made from."""
        if self._origin is not None:
            return (_with_parameters, self._origin)
        return (_sum, (self.terms,)) if self.terms else self.__qualname__

    def with_parameters(self, **parameters: Any) -> "Loss":
        """Make the same loss with other defaults: ``huber_loss.with_parameters(delta=2.0)``, for sums above all.

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
            For a name that is no parameter, or a value that it may not take.
        """
        if self.terms:
            raise TypeError(f"{self.__name__}: give its terms their parameters before they are added")
        return _with_parameters(self, parameters)

    # Loss algebra: sums of losses, each times a number, are losses. ------------------------------------------------------------

    def _terms(self) -> "tuple[tuple[float, Loss], ...]":
        return self.terms or ((1.0, self),)

    def __add__(self, other: Any) -> "Loss":
        if not isinstance(other, Loss):
            return self if isinstance(other, int) and other == 0 else NotImplemented  # 0 is where Python's sum starts
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


def _sum(terms: "tuple[tuple[float, Loss], ...]") -> Loss:
    """The loss that adds the terms up; one that comes twice is taken once."""
    weights: dict[Loss, float] = {}
    for weight, one in terms:
        weights[one] = weights.get(one, 0.0) + weight
    for one, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"{one.__name__}: a loss is multiplied by a finite number, got {weight!r} in all")
    first = next(iter(weights))
    definition = sum_of(tuple(one.definition for one in weights), _RESERVED) if len(weights) > 1 else first.definition
    loss = (Loss.of_penalties if definition.is_penalty else type(first))(
        definition, terms=tuple((weight, one) for one, weight in weights.items())
    )
    parts = (one.__name__ if weight == 1.0 else f"{weight:g} * {one.__name__}" for one, weight in weights.items())
    loss.__name__ = loss.__qualname__ = " + ".join(parts).replace("+ -", "- ")
    loss._name_forms()
    return loss


def pointwise(function: Callable[..., Any]) -> Loss:
    """Make a loss from what happens to one element.

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
    """The loss of a definition, if every argument of its call can have a name of its own."""
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
