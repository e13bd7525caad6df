"""A form as a function that numba compiles, with the form's own arguments, their names and defaults."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError

from ..compilers.canonical import point
from ..compilers.tuples import cast, scaled, select

__all__ = ["Function", "factor_of", "given", "named", "on_scalars", "placed", "working_of"]

Function = Callable[..., Any]


_CALLS: tuple[Callable[[Function], Any], ...] = (
    lambda f: lambda: f(),
    lambda f: lambda a: f(a),
    lambda f: lambda a, b: f(a, b),
    lambda f: lambda a, b, c: f(a, b, c),
    lambda f: lambda a, b, c, d: f(a, b, c, d),
    lambda f: lambda a, b, c, d, e: f(a, b, c, d, e),
    lambda f: lambda a, b, c, d, e, g: f(a, b, c, d, e, g),
    lambda f: lambda a, b, c, d, e, g, h: f(a, b, c, d, e, g, h),
    lambda f: lambda a, b, c, d, e, g, h, i: f(a, b, c, d, e, g, h, i),
)


def named(form: Any, function: Function) -> Function:
    """A function that calls another one, with the arguments of a form: numba needs them in the code for calls by keyword."""
    definition = form.loss.definition
    names = [*form.inputs, *(one.name for one in definition.parameters)]
    if len(names) >= len(_CALLS):
        raise TypingError(
            f"{form.__name__}: compiled code calls losses of up to {len(_CALLS) - 1} arguments, this one has {len(names)}"
        )
    made = _CALLS[len(names)](function)
    code = made.__code__.replace(co_varnames=tuple(names), co_name=form.__name__)
    defaults = tuple(one.default for one in definition.parameters)
    return FunctionType(code, {"__name__": __name__}, form.__name__, defaults, made.__closure__)


@dataclass(frozen=True)
class Given:
    """The parameters of a call: which of its arguments are numbers, and the values of the others."""

    numbers: tuple[int, ...]
    order: tuple[int, ...]
    constants: tuple[Any, ...]


def given(form: Any, arguments: Sequence[Any], working: Any) -> Given:
    """Parameters that are known at compile time (defaults, switches, None) become constants, the others numbers."""
    definition, start = form.loss.definition, len(form.inputs)
    numbers: list[int] = []
    constants: list[Any] = []
    order = []
    for at, (parameter, kind) in enumerate(zip(definition.parameters, arguments[start:], strict=True), start):
        if isinstance(kind, (types.Number, float)) and not isinstance(kind, types.Boolean):
            order.append((0, len(numbers)))
            numbers.append(at)
            continue
        value = _constant(form, parameter, kind)
        order.append((1, len(constants)))
        constants.append(working(value) if isinstance(value, float) else value)
    weights = form.loss.weights if definition.sum_of else ()
    smoothing = (1.0, 0.0) if definition.form == "rowwise" else ()
    for value in (*weights, *smoothing):
        order.append((1, len(constants)))
        constants.append(working(value))
    return Given(tuple(numbers), tuple(at + len(numbers) * later for later, at in order), tuple(constants))


def _constant(form: Any, parameter: Any, kind: Any) -> Any:
    if isinstance(kind, types.Omitted):
        value = kind.value
    elif isinstance(kind, types.Literal):
        value = kind.literal_value
    elif isinstance(kind, types.NoneType):
        value = None
    elif isinstance(kind, (bool, type(None))):
        value = kind
    else:
        raise TypingError(f"{form.__name__}: {parameter.name} must be a number or a constant in compiled code, got {kind}")
    return parameter.check(value, form.__name__)


def factor_of(form: Any) -> float:
    """What the results of a single loss are multiplied by; a sum multiplies those of its members."""
    return form.loss.weights[0] if form.loss.weights and not form.loss.definition.sum_of else 1.0


def working_of(kinds: Sequence[Any]) -> Any:
    """float32 where no input is wider, else float64."""
    dtypes = [getattr(one, "dtype", one) for one in kinds]
    narrow = {types.float32, types.float16}
    labels = [one for one in dtypes[1:] if isinstance(one, (types.Integer, types.Boolean))]
    return np.float32 if dtypes[0] in narrow and all(one in narrow or one in labels for one in dtypes) else np.float64


# Scalars ----------------------------------------------------------------------------------------------------------------------


def on_scalars(form: Any, kinds: Sequence[Any], jit: Any) -> Function:
    """The element's own value or gradient, or both."""
    working = working_of(kinds[: len(form.inputs)])
    parameters = given(form, kinds, working)
    call = point(form.loss.definition, working, jit)
    count = len(form.inputs)
    places, constants = (*range(count), *parameters.numbers), parameters.constants
    wanted = placed(call.wanted, count, parameters)
    factor = working(factor_of(form))
    inputs = enumerate(form.loss.definition.inputs)
    signs = [at for at, one in inputs if one.space.name == "sign" and isinstance(kinds[at], (types.Boolean, bool))]
    function, both, which = call.function, form.kind == "value_and_gradient", int(form.kind == "gradient")

    read = _plain(places, constants, working)
    for sign in signs:
        read = _signed(jit(read), sign, len(places) + len(constants), working)
    read = jit(read)

    def impl(*arguments):  # type: ignore[no-untyped-def]
        numbers = read(*arguments)
        results = scaled(cast(function(*select(numbers, wanted)), working), factor)
        if both:
            return results[0], results[1]
        return results[which]

    return impl


def _plain(places: Sequence[int], constants: tuple[Any, ...], working: Any) -> Function:
    """The numbers of a call: its arguments at some positions, then constants."""
    return lambda *arguments: cast(select(arguments, places), working) + constants


def _signed(read: Function, sign: int, count: int, working: Any) -> Function:
    """The same numbers, with the bool at position ``sign`` converted to 1 or -1."""
    before, after, one = tuple(range(sign)), tuple(range(sign + 1, count)), working(1.0)

    def signed(*arguments):  # type: ignore[no-untyped-def]
        numbers = read(*arguments)
        return select(numbers, before) + (numbers[sign] + numbers[sign] - one,) + select(numbers, after)

    return signed


def placed(names: Sequence[int], elements: int, parameters: Given) -> tuple[int, ...]:
    """The positions of a function's arguments among elements, numbers and constants; those that follow the parameters come last."""
    count = len(parameters.order)
    return tuple(
        one if one < elements or one >= elements + count else elements + parameters.order[one - elements] for one in names
    )
