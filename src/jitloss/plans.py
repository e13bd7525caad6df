"""What calls on the slow path leave for the fast path: the kernel for their dtypes and options, and the contents of its table.

A plan is looked up by the options as they are. A number that changes from call to call, such as an annealed parameter or a
normalizer, does not choose a kernel by itself: all that matters is whether it is the usual number, which may be compiled in. So
plans are also looked up by that, and the call gets one with its own numbers: calls from several threads share nothing that is
written.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from .call import Evaluation, Wants, checked, is_smoothed, letter
from .definition import Definition, Parameter
from .keys import PLAIN, plain
from .options import DEFAULTS, NO_LABEL, normalizer_of, smoothing
from .running import SERIAL, chunk_rows, compiler

__all__ = ["ABSENT", "MOST_PLANS", "SLOW_PATH", "Plan", "Plans", "key_of", "readable", "taken_as_they_are"]

ABSENT: Any = object()
"""Marks an ``out`` that was not given, not even as None."""

SLOW_PATH: Any = object()
"""Returned by a fast path that cannot serve a call."""

MOST_PLANS = 256
"""Plans of one form. Beyond that the oldest is dropped."""

_WEIGHTS = ("sample_weight", "class_weight")
_INT64 = np.dtype(np.int64)


class Plan(NamedTuple):
    """What calls with certain dtypes, columns and options have in common; a ``divisor`` of 0 means the number of items that count.

    Where a plan is ``labelled``, rows count by their labels; ``every`` says that all rows must count, since no label is ignored.
    Values that are not reduced have the dtype ``items``. ``known`` is the record that the compiled step reads, followed by the
    ``parameters``; its addresses point to the ``dtypes`` and to these parameters.
    """

    kernel: int
    known: np.ndarray
    parameters: np.ndarray
    divisor: float
    factor: float
    labelled: bool
    every: bool
    ignored: int
    working: Any
    output: np.dtype[Any]
    sample: bool
    classes: bool
    dtypes: tuple[Any, ...]
    items: np.dtype[Any] | None

    def with_numbers(self, numbers: list[tuple[int, float]], divisor: float | None) -> "Plan":
        """The same plan with other numbers, by their positions among the parameters."""
        words, address, place = _places()
        known = self.known.copy()
        parameters = known[words:]
        for index, number in numbers:
            parameters[index] = number
        known.view(np.int64)[address] = parameters.ctypes.data
        if divisor is None:
            divisor = self.divisor
        known[place] = divisor
        return Plan(self.kernel, known, parameters, divisor, *self[4:])


@functools.cache
def _places() -> tuple[int, int, int]:
    """How many words the compiled step reads of a plan, and the positions of the parameters' address and of the divisor among them."""
    kind = compiler().PLAN
    return kind.itemsize // 8, kind.fields["table"][1] // 8, kind.fields["divisor"][1] // 8


def taken_as_they_are(inputs: tuple[Any, ...], done: Evaluation) -> bool:
    """Whether a completed call read these arrays without a copy, with rows along their last axis."""
    for one, array in zip(done.definition.inputs, inputs, strict=True):
        if done.arrays[one.name] is not array:
            return False
    return done.definition.form == "pointwise" or done.arguments.get("axis", DEFAULTS["axis"]) in (-1, inputs[0].ndim - 1)


def readable(array: np.ndarray) -> bool:
    """Whether a kernel can read it as it is."""
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned)


def _fixed_divisor(done: Evaluation) -> float:
    """The divisor of all calls like a completed one; 0 where they divide by the number of their items."""
    counts = done.reduction == "mean" and isinstance(done.normalizer, str)
    return 0.0 if counts else done.divisor()


def key_of(key: tuple[Any, ...], first: np.ndarray, rest: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The key of a plan; None where there can be none. How options are interpreted may depend on the number of axes too."""
    if options:
        key += (first.ndim,)
    for name, value in (*enumerate(rest), *options.items()):
        kind = type(value)  # True == 1.0 and 0.0 == -0.0 as dict keys
        if kind is np.ndarray and name in _WEIGHTS:
            key += (name, kind)
            continue
        if kind not in PLAIN:
            value = plain(value)
            kind = type(value)
            if kind not in PLAIN:
                return None
        if not value and str(value) == "-0.0":
            return None
        key += (name, kind, value)
    return key


class Plans:
    """The plans of one form of a loss."""

    def __init__(self, definition: Definition, wants: Wants) -> None:
        self.rowwise, self.value, self.gradient = definition.form == "rowwise", wants.value, wants.gradient
        self.definition = definition
        self.inputs = tuple(one.public for one in definition.inputs)
        self.count = len(self.inputs)
        self.plans: dict[Any, Plan] = {}
        self.kinds: dict[Any, Plan] = {}
        self.workings: dict[Any, str] = {}
        self.missed: Any = None
        self.small: Any = self._compile

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[int, Parameter]]:
        return {one.name: (place, one) for place, one in enumerate(self.definition.parameters)}

    @functools.cached_property
    def by_place(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.definition.parameters if not one.keyword_only)

    def _compile(self, *call: Any) -> float | None:
        """Compile the step on the first small call it could serve: a process that makes a single call does not wait for it."""
        self.small = compiler().small_driver()
        value: float | None = self.small(*call)
        return value

    def in_order(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Arguments with the inputs that were given by keyword in position; None where one is missing."""
        named = self.inputs[len(args) :]
        if not named:
            return args, options
        if any(name not in options for name in named):
            return None
        rest = {name: value for name, value in options.items() if name not in named}
        return (*args, *[options[name] for name in named]), rest

    # Storing plans -----------------------------------------------------------------------------------------------------------

    def keep(self, key: tuple[Any, ...], args: tuple[Any, ...], options: dict[str, Any], done: Evaluation) -> Plan | None:
        """Store the plan of a completed call, with these arguments in order and options besides ``out``; None where it cannot leave one."""
        rest = args[self.count :]
        exact = key_of(key, args[0], rest, options)
        if exact is None or "balanced" in exact[len(key) :]:  # it depends on the targets
            return None
        plan = self._plan(args, done)
        _put(self.plans, exact, plan)
        _put(self.workings, key, done.working)
        kind = self._kind(key, args[0].ndim, rest, options) if rest or options else None
        if kind is not None and "number" in kind[0][len(key) :]:
            _put(self.kinds, kind[0], plan)
        return plan

    def _plan(self, args: tuple[Any, ...], done: Evaluation) -> Plan:
        labels, columns = done.geometry.labels, done.geometry.columns
        every, divisor = done.ignored == NO_LABEL, _fixed_divisor(done)
        dtypes = tuple(one.dtype for one in args[: self.count])
        pair = (dtypes * 2)[:2]
        words = _places()[0]
        memory = np.zeros(words + len(done.parameters))
        known, parameters = memory[:words].view(compiler().PLAN).reshape(()), memory[words:]
        parameters[:] = done.parameters
        for name, value in {
            "kernel": done.kernel,
            "labelled": labels,
            "every": every,
            "chunk": chunk_rows(columns),
            "most": SERIAL // columns,
            "columns": columns,
            "factor": done.factor,
            "divisor": divisor,
            "rowwise": self.rowwise,
            "writes": self.gradient and len(dtypes) > 1,
            "dtypes": [0 if labels and one is not _INT64 and place else id(one) for place, one in enumerate(pair)],
            "itemsizes": [one.itemsize for one in pair],
            "table": [parameters.ctypes.data, 0, 0, 1, columns, 1, 0, 0, done.ignored, 0],
        }.items():
            known[name] = value
        return Plan(
            done.kernel, memory, parameters, divisor, done.factor, labels, every, done.ignored, np.dtype(done.working), done.output,
            done.sample is not None, done.classes is not None, dtypes, None if done.items is None else done.items.dtype,
        )  # fmt: skip

    # Looking up plans --------------------------------------------------------------------------------------------------------

    def of_kind(self, exact: Any, key: tuple[Any, ...], args: tuple[Any, ...], options: dict[str, Any]) -> Plan | None:
        """A plan for a call that has none of its own under the ``exact`` key; None where there is none for similar calls either."""
        if exact is None or not self.kinds:
            return None
        kind = self._kind(key, args[0].ndim, args[self.count :], options)
        like = None if kind is None else self.kinds.get(kind[0])
        if kind is None or like is None:
            return None
        plan = like.with_numbers(*kind[1:])
        if self.missed == exact:  # these numbers are repeated
            _put(self.plans, exact, plan)
        self.missed = exact
        return plan

    def _kind(
        self, key: tuple[Any, ...], axes: int, rest: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Any, list[tuple[int, float]], float | None] | None:
        """What of a call selects its kernel, its parameters by position, and its divisor; None where a number is rejected.

        Options other than numbers must be usable as keys of a plan.
        """
        working = self.workings.get(key)
        if rest:
            named = dict(zip(self.by_place, rest, strict=False))
            if len(named) < len(rest) or not named.keys().isdisjoint(options):
                return None
            options = {**named, **options}
        if working is None:
            return None
        numbers: list[tuple[int, float]] = []
        divisor, columns, owner = None, key[-1], self.definition.name
        key += (axes,)
        try:
            for name, value in options.items():
                kind = type(value)
                if kind not in PLAIN:
                    value = plain(value)
                    kind = type(value)
                if kind is ndarray:  # an array of weights
                    key += (name, kind)
                elif kind is not float and kind is not int:
                    key += (name, kind, value)
                elif name in self.parameters:
                    place, parameter = self.parameters[name]
                    number: Any = checked(parameter, value, working, owner)
                    numbers.append((place, number))
                    key += (name, "number", letter(parameter, number))
                elif name == "normalizer":
                    number = normalizer_of(value, owner)
                    divisor = number if options.get("reduction", DEFAULTS["reduction"]) == "mean" else None
                    key += (name, "number")
                elif name == "label_smoothing":
                    share, background = smoothing(value, columns, owner)
                    numbers += [(-3, share), (-2, background)]
                    key += (name, "number", is_smoothed(background, working))
                else:
                    key += (name, kind, value)
        except (TypeError, ValueError):  # the slow path raises the error
            return None
        return key, numbers, divisor


def _put(plans: dict[Any, Any], key: Any, plan: Any) -> None:
    """Store a plan; drops the oldest one where there are too many."""
    if len(plans) >= MOST_PLANS and key not in plans:
        for oldest in list(plans)[:1]:  # a single step: another thread may be here too
            plans.pop(oldest, None)
    plans[key] = plan
