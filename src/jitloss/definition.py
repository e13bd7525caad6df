"""What a loss is: the pointwise and the rowwise definition, their inputs and their parameters. Plain maths, no compiler.

A **pointwise** definition is one function of one element's numbers, ``(prediction, target, *parameters) -> (value, gradient[,
hessian])``. A **rowwise** definition is what softmax, KL, triplet and contrastive losses share, sums over a row, then a value, then
one slope per element; it is a class of up to four functions: ``peak``, ``terms``, ``value``, ``slope``.

Arguments are recognised by their names: ``prediction`` becomes the public argument ``predictions``. Annotations say which space a
number belongs to (:data:`Logit`, :data:`Probability` …) and which values a parameter may take (:data:`Positive` …).
"""

import ctypes
import dataclasses
import functools
import inspect
import keyword
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .binding import DefinitionError, argument_names, bind, check, check_results, frozen, plain
from .branches import check_branches
from .proportional import FREE, proportional_or_free
from .spaces import (
    ANY_NUMBER,
    Binary,
    Classes,
    Count,
    Distribution,
    Embedding,
    Epsilon,
    Exponent,
    Fraction,
    Logit,
    LogRate,
    NonNegative,
    Positive,
    Positives,
    Probability,
    Range,
    Real,
    RealTarget,
    Same,
    Share,
    Sign,
    Space,
    Weight,
    as_float,
    is_number,
)

__all__ = [
    "Binary", "Classes", "Count", "Definition", "DefinitionError", "Distribution", "Embedding", "Epsilon", "Exponent", "Fraction", "Input",
    "LogRate", "Logit", "NonNegative", "Parameter", "Part", "Positive", "Positives", "Probability", "Range", "Real", "RealTarget", "Same",
    "Share", "Sign", "Space", "Weight", "as_float", "is_number", "pointwise", "rowwise",
]  # fmt: skip

Function = Callable[..., Any]


# The parts of a definition ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """One array input of a loss: its element's name, its public name and its space; ``per_row`` if it has one number per row."""

    name: str
    space: Space
    differentiable: bool
    per_row: bool = False

    @functools.cached_property
    def public(self) -> str:
        """The argument of the public call: ``logit`` is ``logits``, ``embedding1`` is ``embeddings1``; ``a`` stays, "as" is a keyword."""
        stem, digits = re.fullmatch(r"(.*?)(\d*)", self.name).groups()  # type: ignore[union-attr]
        several = f"{stem}s{digits}"
        return self.name if keyword.iskeyword(several) else several


@dataclass(frozen=True)
class Parameter:
    """A number, a switch (bool) or an option that is off while it is ``None``, and the values that it may take."""

    name: str
    default: float | bool | None
    range: Range = ANY_NUMBER
    optional: bool = False
    keyword_only: bool = False
    usual: float | None = None
    """The number that kernels may have as a constant: the default that the definition was written with."""

    @property
    def has_other(self) -> bool:
        """Whether it is a switch or an option, on which a definition may branch."""
        return self.optional or isinstance(self.default, bool)

    @property
    def other(self) -> float | bool | None:
        """The value that a switch or an option has when it does not have its default."""
        if isinstance(self.default, bool):
            return not self.default
        return 0.5 if self.default is None else None

    def check(self, value: Any, owner: str) -> float | bool | None:
        """The value as a float, bool or None; raises an error that names the parameter where it is something else."""
        if isinstance(self.default, bool):
            if isinstance(value, (bool, np.bool_)):
                return bool(value)
            raise TypeError(f"{owner}: {self.name} must be True or False, got {value!r}")
        wanted = self.range.description + (" or None" if self.optional else "")
        if value is None and self.optional:
            return None
        if not is_number(value):
            raise TypeError(f"{owner}: {self.name} must be {wanted}, got {value!r}")
        number = as_float(value)
        if number not in self.range:
            raise ValueError(f"{owner}: {self.name} must be {wanted}, got {value!r}")
        return number

    def in_float32(self, value: float, owner: str) -> float:
        """The value for float32 arithmetic, not below the floor; raises where the rounded value is out of range."""
        value = max(value, self.range.floor)
        rounded = ctypes.c_float(value).value  # NumPy would warn
        if rounded not in self.range:
            raise ValueError(
                f"{owner}: {self.name} must be {self.range.description} in float32 arithmetic, got {value!r}, there {rounded}"
            )
        return value


class Part(NamedTuple):
    """One function of a definition, the names of its arguments in order, and how many numbers it returns."""

    function: Function
    arguments: tuple[str, ...]
    results: int


@dataclass(frozen=True, eq=False)
class Definition:
    """A loss as maths: everything that a compiler, a test or a page of the documentation needs to know of it.

    ``members`` are the definitions that a sum of losses adds up, each times a weight that is given at run time; any other
    definition is its own only member. ``maths`` is the definition whose kernels serve this one: itself, unless only its defaults
    differ. Where it ``has_floor``, its last two parameters are a factor on the second derivative and the least that it then is.
    """

    name: str
    form: typing.Literal["pointwise", "rowwise"]
    docstring: str
    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    hessian: bool
    parts: Mapping[str, Part] = field(repr=False)
    module: str = ""
    qualname: str = ""
    sum_of: "tuple[Definition, ...]" = ()
    origin: "Definition | None" = None
    has_floor: bool = False

    @property
    def members(self) -> "tuple[Definition, ...]":
        return self.sum_of or (self,)

    @property
    def maths(self) -> "Definition":
        return self.origin or self

    @cached_property
    def doc(self) -> str:
        """The docstring without its indentation."""
        return inspect.cleandoc(self.docstring)

    @cached_property
    def differentiable(self) -> tuple[Input, ...]:
        return tuple(one for one in self.inputs if one.differentiable)

    @cached_property
    def target(self) -> Input | None:
        """The per-element target, where there is one."""
        return next((one for one in self.inputs if one.space.target and not one.per_row), None)

    @cached_property
    def is_penalty(self) -> bool:
        """A penalty on parameters: no targets, and a sum instead of a mean."""
        return self.inputs[0].space.name == "parameter"

    @cached_property
    def takes_labels(self) -> bool:
        """Whether integer class labels may stand for the target."""
        return self.form == "rowwise" and self.target is not None and self.target.space.name == "classes"

    @cached_property
    def peaks_take_targets(self) -> bool:
        """Whether an element's peak depends on its target."""
        peaks = [member.parts["peak"] for member in self.members if "peak" in member.parts]
        return self.target is not None and any(self.target.name in peak.arguments for peak in peaks)

    @cached_property
    def marks_terms(self) -> bool:
        """Whether the labelled element must be known before a row's terms are added.

        Otherwise each term is its target times a number, or the same for all targets. Then the sums can be corrected afterwards:
        what is subtracted from them is never so large that the rest of the row would be lost to rounding. Kernels belong to
        ``maths``, so only that is examined.
        """
        if self.origin is not None:
            return self.origin.marks_terms
        return self.takes_labels and not all(_fades(member.maths) for member in self.members)


# From a function or a class to a definition -----------------------------------------------------------------------------------


def pointwise(function: Function) -> Definition:
    """Define a loss by the maths of one element: ``(prediction, target, *parameters) -> value, gradient[, hessian]``."""
    if not inspect.isfunction(plain(function)):
        raise TypeError(f"pointwise: a definition must be a function, got {function!r}")
    name = function.__name__
    check(function, name)
    inputs: list[Input] = []
    parameters: list[Parameter] = []
    hints = _hints(function, name)
    arguments = inspect.signature(plain(function), follow_wrapped=False).parameters
    if "self" in arguments:
        raise DefinitionError(
            f"{name}: a definition takes no self: there is no object, only numbers; write it outside of the class"
        )
    for argument in arguments.values():
        if argument.default is argument.empty:
            space = _space(hints.get(argument.name), argument.name, name)
            inputs.append(Input(argument.name, space, differentiable=not inputs))
        else:
            keyword_only = argument.kind is argument.KEYWORD_ONLY
            parameters.append(_parameter(argument.name, argument.default, hints.get(argument.name), keyword_only, name))
    if not inputs:
        raise DefinitionError(f"{name}: a pointwise definition takes at least a prediction")
    part = _part(frozen(function), name, {one.name: 0.5 for one in inputs}, parameters)
    if part.results not in (2, 3):
        raise DefinitionError(
            f"{name}: a pointwise definition returns 2 or 3 numbers (value, gradient and, where it is known, the second derivative), "
            f"this one returns {part.results}"
        )
    return Definition(
        name=name,
        form="pointwise",
        docstring=function.__doc__ or "",
        inputs=tuple(inputs),
        parameters=tuple(parameters),
        hessian=part.results == 3,
        parts={"point": part},
        module=function.__module__,
        qualname=function.__qualname__,
    )


_PARTS = ("peak", "terms", "value", "slope")


def rowwise(cls: type) -> Definition:
    """Define a loss by sums over a row: a class of functions ``[peak,] terms, value, slope`` and of parameters with defaults."""
    if not isinstance(cls, type):
        raise TypeError(f"rowwise: a definition must be a class of functions, got {cls!r}")
    name = cls.__name__
    functions = {key: _unwrapped(value) for key, value in vars(cls).items() if inspect.isfunction(_unwrapped(value))}
    _check_parts(name, functions)
    parameters = _class_parameters(cls, name)
    known = {one.name for one in parameters} | {"peak", "sums", "terms"}
    elements = [argument for argument in argument_names(functions["terms"]) if argument not in known]
    per_row = [argument for argument in argument_names(functions["value"]) if argument not in known]
    for argument in set(elements).intersection(per_row):
        raise DefinitionError(
            f"{name}.value: takes sums and one number per row; {argument} has a number per element: sum it in terms"
        )
    hints = {**_hints(functions["value"], f"{name}.value"), **_hints(functions["terms"], f"{name}.terms")}
    spaces = {argument: _space(hints.get(argument), argument, name, rowwise=True) for argument in elements + per_row}
    helpers: dict[Any, Any] = {}  # shared by all parts
    held = {key: frozen(function, helpers) for key, function in functions.items()}
    parts = _row_parts(name, held, elements, per_row, parameters)
    candidates = [argument for argument in elements if not spaces[argument].target]
    slopes = parts["slope"].results
    if not candidates:
        raise DefinitionError(
            f"{name}: terms takes no differentiable input: {', '.join(elements) or 'none'} given, all of them targets"
        )
    if slopes not in (len(candidates), 2 * len(candidates)) and slopes > len(candidates):
        raise DefinitionError(
            f"{name}: slope returns one number per differentiable input ({', '.join(candidates)}), or twice as many with the second "
            f"derivatives; this one returns {slopes}"
        )
    hessian = slopes == 2 * len(candidates)
    differentiable = candidates if hessian else candidates[:slopes]
    return Definition(
        name=name,
        form="rowwise",
        docstring=cls.__doc__ or "",
        inputs=(
            *(Input(argument, spaces[argument], argument in differentiable) for argument in elements),
            *(Input(argument, spaces[argument], False, per_row=True) for argument in per_row),
        ),
        parameters=parameters,
        hessian=hessian,
        parts=parts,
        module=cls.__module__,
        qualname=cls.__qualname__,
    )


def _unwrapped(value: Any) -> Any:
    """A function of a class without the ``staticmethod`` that tells linters that it takes no self."""
    return value.__func__ if isinstance(value, staticmethod) else value


def _check_parts(name: str, functions: Mapping[str, Function]) -> None:
    missing = [part for part in _PARTS[1:] if part not in functions]
    extra = [part for part in functions if part not in _PARTS]
    if missing or extra:
        problem = (
            f"{', '.join(missing)} missing" if missing else f"{', '.join(extra)} not among them (write helpers beside the class)"
        )
        raise DefinitionError(
            f"{name}: a rowwise definition has the functions terms, value, slope and, if it needs one, peak: {problem}"
        )
    for part, function in functions.items():
        if "self" in argument_names(function):
            raise DefinitionError(f"{name}.{part}: the functions of a definition take no self: there is no object, only numbers")
        check(function, f"{name}.{part}")
        if not (function.__defaults__ or function.__kwdefaults__):  # building a signature takes longer
            continue
        for argument in inspect.signature(plain(function), follow_wrapped=False).parameters.values():
            if argument.default is not argument.empty:
                raise DefinitionError(
                    f"{name}.{part}: the argument {argument.name!r} has a default. A parameter is an attribute of the class, "
                    f"{argument.name} = {argument.default!r}"
                )


def _class_parameters(cls: type, name: str) -> tuple[Parameter, ...]:
    hints = _hints(cls, name)
    names = [*hints, *(key for key in vars(cls) if key not in hints)]
    parameters, keyword_only = [], False
    for key in names:
        if hints.get(key) is dataclasses.KW_ONLY:
            keyword_only = True
        elif key not in vars(cls):
            raise DefinitionError(f"{name}: the parameter {key} has no default: write {key} = ..., a number, a switch or None")
        elif not key.startswith("__") and not inspect.isfunction(_unwrapped(vars(cls)[key])):
            parameters.append(_parameter(key, vars(cls)[key], hints.get(key), keyword_only, name))
    return tuple(parameters)


def _row_parts(
    name: str, functions: Mapping[str, Function], elements: list[str], per_row: list[str], parameters: tuple[Parameter, ...]
) -> dict[str, Part]:
    """The parts, with their arguments checked and their results counted by running them on plain numbers."""
    numbers: dict[str, Any] = dict.fromkeys(elements + per_row, 0.5)
    parts = {}
    if "peak" in functions:
        parts["peak"] = _part(functions["peak"], f"{name}.peak", dict.fromkeys(elements, 0.5), parameters)
        if parts["peak"].results != 1:
            raise DefinitionError(f"{name}: peak returns 1 number, this one returns {parts['peak'].results}")
        numbers["peak"] = 1.0
    parts["terms"] = _part(functions["terms"], f"{name}.terms", numbers, parameters)
    sums = np.float64(1.5) if parts["terms"].results == 1 else tuple(np.float64(1.5) for _ in range(parts["terms"].results))
    parts["value"] = _part(functions["value"], f"{name}.value", {**numbers, "sums": sums}, parameters)
    numbers["terms"] = sums
    known = {*numbers, *(one.name for one in parameters)}.difference(per_row)  # slope is given what value returns of those
    coefficients = [argument for argument in argument_names(functions["slope"]) if argument not in known]
    if len(coefficients) != parts["value"].results - 1:
        raise DefinitionError(
            f"{name}: value returns the value and then the coefficients that slope takes by position: it returns "
            f"{parts['value'].results - 1}, slope takes {len(coefficients)} ({', '.join(coefficients) or 'none'})"
        )
    parts["slope"] = _part(functions["slope"], f"{name}.slope", {**numbers, **dict.fromkeys(coefficients, 0.5)}, parameters)
    return parts


def _part(function: Function, owner: str, numbers: Mapping[str, Any], parameters: Sequence[Parameter]) -> Part:
    """A function with its results counted, once with all defaults, then with each switch and option toggled."""
    arguments, defaults = argument_names(function), {one.name: one.default for one in parameters}
    unknown = [argument for argument in arguments if argument not in numbers and argument not in defaults]
    if unknown:
        raise DefinitionError(f"{owner}: unknown argument {unknown[0]!r}; it may take {', '.join([*numbers, *defaults])}")
    copies: dict[Any, Any] = {}
    bound = bind(function, np.float64, _done=copies)
    counts = {}
    for changed in ({}, *({one.name: one.other} for one in parameters if one.name in arguments and one.has_other)):
        given = {**numbers, **defaults, **changed}
        label = "".join(f" with {name}={value}" for name, value in changed.items())
        values = [given[argument] for argument in arguments]
        counts[label] = _count(bound, values, owner, label)
        check_branches(bound, copies, values, owner, label)
    for label, count in counts.items():
        if count != counts[""]:
            raise DefinitionError(f"{owner}: always the same number of results: it returns {counts['']}, but {count}{label}")
    check_results(function, counts[""], owner)
    return Part(function, arguments, counts[""])


def _fades(definition: Definition) -> bool:
    """Whether each term is its target times a number, or the same for all targets: such terms fade with the target."""
    part, target = definition.parts["terms"], definition.target
    switches = [one for one in definition.parameters if one.has_other]
    options = {one.name: (False, True) if isinstance(one.default, bool) else (None, FREE) for one in switches}
    return proportional_or_free(bind(part.function, np.float64), part.arguments, target.name if target else "", options)


def _count(bound: Function, values: Sequence[Any], owner: str, label: str) -> int:
    """How many numbers a function returns."""
    try:
        with np.errstate(all="ignore"):
            results = bound(*(np.float64(value) if type(value) in (float, int) else value for value in values))
    except Exception as error:
        raise DefinitionError(f"{owner}: run once on plain numbers{label} it raised {type(error).__name__}: {error}") from error
    if not isinstance(results, tuple):
        results = (results,)
    if not results:
        raise DefinitionError(f"{owner}: returns no number{label}")
    for one in results:
        if not isinstance(one, (float, bool, np.floating, np.bool_)):
            raise DefinitionError(f"{owner}: a definition returns numbers, this one returns {one!r}{label}")
    return len(results)


def _hints(function: Any, owner: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise DefinitionError(f"{owner}: its annotations cannot be read: {error}") from error


def _space(hint: Any, argument: str, owner: str, rowwise: bool = False) -> Space:
    """The annotated space, or else the usual one for an argument of that name."""
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Space):
            return extra
        if isinstance(extra, Range):
            raise DefinitionError(
                f"{owner}: the input {argument} is annotated as {extra.description}, which is for parameters: an input has a space "
                f"(Real, Logit, Probability …), and no value of it is refused"
            )
    usual = {"target": Classes if rowwise else RealTarget, "logit": Logit, "label": Same}.get(argument, Real)
    return typing.cast(Space, usual.__metadata__[0])  # type: ignore[attr-defined]


def _parameter(name: str, default: Any, hint: Any, keyword_only: bool, owner: str) -> Parameter:
    if any(isinstance(extra, Space) for extra in getattr(hint, "__metadata__", ())):
        raise DefinitionError(
            f"{owner}: the parameter {name} is annotated with the space of an input; a parameter has a range (Positive, Share …)"
        )
    choices = typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)
    ranges = [extra for choice in choices for extra in getattr(choice, "__metadata__", ()) if isinstance(extra, Range)]
    if is_number(default):
        default = as_float(default)
    elif default is not None and not isinstance(default, bool):
        raise DefinitionError(f"{owner}: the default of {name} must be a number, True, False or None, got {default!r}")
    parameter = Parameter(
        name,
        default,
        ranges[0] if ranges else ANY_NUMBER,
        optional=default is None or len(choices) > 1,
        keyword_only=keyword_only,
        usual=default if ranges and ranges[0].usual else None,
    )
    try:
        parameter.check(default, owner)
    except ValueError as error:
        raise DefinitionError(f"{error} as its default") from None
    return parameter
