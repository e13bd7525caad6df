"""The forms of a loss: the ways to call it. Each behaves like a function."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .arrays.devices import library_of
from .call import Evaluation, Result, Wants
from .definition import Definition
from .inputs import library_of_call, working_dtype
from .keys import ON_DEVICES, new_key
from .large import Large
from .options import DEFAULTS, option_names
from .plans import ABSENT, SLOW_PATH
from .quick import Quick
from .registry import adapter_of, array_type, is_supported
from .results import one_or_tuple

if TYPE_CHECKING:
    from .arrays.cuda import Library
    from .device import DeviceEvaluation
    from .parts import Parts

__all__ = ["Documented", "Form", "OfInstances"]

_FORMS = {
    "value": Wants(value=True, gradient=False, hessian=False),
    "gradient": Wants(value=False, gradient=True, hessian=False),
    "value_and_gradient": Wants(value=True, gradient=True, hessian=False),
    "value_gradient_hessian": Wants(value=True, gradient=True, hessian=True),
    "gradient_hessian": Wants(value=False, gradient=True, hessian=True),  # for boosters; no loss has it as an attribute
}


class Documented:
    """A docstring that is assembled when it is read: the class's own, or that of a loss or a form."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __get__(self, one: Any, owner: type) -> str | None:
        return self.text if one is None else one._document()


class OfInstances(property):
    """A property of instances only: on the class, :mod:`inspect` would take it for one of the class itself."""

    def __get__(self, one: Any, owner: type | None = None) -> Any:
        if one is None:
            raise AttributeError("a loss has a signature of its own")
        return super().__get__(one, owner)


class Owner(Protocol):
    """What a form needs of its loss."""

    __name__: str
    definition: Definition
    weights: tuple[float, ...]

    @property
    def value_and_gradient(self) -> "Form": ...


class Form:
    __doc__ = Documented(
        """One way to call a loss. It behaves like a function: it has a name, a signature and a docstring, and is pickled by name."""
    )

    def __init_subclass__(cls) -> None:
        cls.__doc__ = Documented(cls.__doc__)  # type: ignore[assignment]

    def __init__(self, loss: Owner, kind: str) -> None:
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
        """The signature of the form; made on first use."""
        if self._signature is None:
            self._signature = _signature(self.loss.definition, self.wants)
        return self._signature

    @OfInstances
    def __signature__(self) -> inspect.Signature:
        return self.signature()

    # For adapters ----------------------------------------------------------------------------------------------------------------

    @property
    def by_rows(self) -> bool:
        """Whether an item is a row."""
        return self.loss.definition.form == "rowwise"

    @staticmethod
    def reads(value: Any) -> bool:
        """Whether an argument is of a registered type."""
        return is_supported(type(value))

    def in_numpy(self, name: str, value: Any) -> np.ndarray:
        """An argument of another library as a NumPy array."""
        return array_type(value, self.__name__, name).read(value, self.__name__, name)

    adapter_of = staticmethod(adapter_of)

    def working(self, dtypes: Iterable[str]) -> str:
        """The dtype of the arithmetic and of a value, from the dtype names of the inputs."""
        return working_dtype(self.loss.definition, dtypes)

    @property
    def with_gradient(self) -> "Form":
        return self.loss.value_and_gradient

    def items(self, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """The shape of the items for inputs of a given shape."""
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
            if result is not SLOW_PATH:
                return result
        if out is not ABSENT:
            options["out"] = out
        adapter = adapter_of((*args, *options.values()))
        return self.evaluate(args, options) if adapter is None else adapter(self, args, options)

    __call__: Callable[..., Any] = _call  # each form has its own signature

    def evaluate(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Evaluate the call on arrays whose memory is accessible, on the host or on a device, whatever framework they come from."""
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
        """Raise what a call would raise before it writes to ``out``: where several calls are made, one must not fail alone."""
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
        """What numba looks up to type a value in compiled code."""
        from .jitted import numba_type

        return numba_type(self)

    def parts(self) -> "Parts":
        """The steps of a call on arrays that come in parts, for an adapter that keeps them in parts."""
        from .parts import Parts

        return Parts(self.loss.definition, self.loss.weights, self.wants, self)

    def _device_options(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """The options that only calls on devices have, removed from the others."""
        first = args[0] if args else options.get(self.inputs[0])
        return {} if library_of(first) is None else {name: options.pop(name) for name in ON_DEVICES if name in options}

    @contextlib.contextmanager
    def _evaluation(self, library: "Library", arguments: dict[str, Any], extra: dict[str, Any]) -> Iterator["DeviceEvaluation"]:
        """The steps of a call on a device, with the library's own current stream set to that of the call."""
        from .device import DeviceEvaluation, stream_of

        given, first = extra.get("stream"), arguments[self.inputs[0]]
        stream_of(self.loss.definition.name, library, first, given)
        with library.on(given, first):
            yield DeviceEvaluation(self.loss.definition, self.loss.weights, arguments, self.wants, library, **extra)

    def _on_device(self, library: "Library", arguments: dict[str, Any], extra: dict[str, Any], given: Any) -> Any:
        """A call on a device; it is recorded where ``given`` holds its inputs and options."""
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
        """Replay a recorded call on a device, on arrays of one type; None where no such call has been recorded."""
        library, kind = library_of(args[0]) if args else None, type(args[0]) if args else None
        if library is None or any(type(one) is not kind or library_of(one) is not library for one in args[1:]):
            return None
        return self.replay(library, args, options)

    def replay(self, library: "Library", args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The same for arrays that are known to belong to one library."""
        if len(args) != len(self.inputs):
            return None
        results = self._replay(library, args, options)
        return None if results is None else one_or_tuple(results)

    def arguments(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name, bound as Python binds them, with an error that says what this loss takes."""
        if len(args) == len(self.inputs) and (not options or self._knows(options)):
            return {**dict(zip(self.inputs, args, strict=True)), **options}
        try:
            return self.signature().bind(*args, **options).arguments
        except TypeError as error:
            raise TypeError(f"{self.__name__}{self.__signature__}: {error}") from None

    def _knows(self, options: dict[str, Any]) -> bool:
        """Whether all options belong to this loss, and none is an input; binding them takes longer."""
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
    """Inputs, the loss's own parameters, then the options that apply, keyword-only."""
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
