"""A definition as functions of a tuple: what every loop of this compiler calls, whatever the names and the number of arguments.

A loop holds one tuple of numbers (elements, then parameters, then what the row has given). A :class:`Call` is a function and which
of those numbers it takes; the loop calls ``cast(function(*select(numbers, wanted)), working)`` itself, because each function in
between would cost as much compile time as a loss. A sum of losses is a function of all numbers that calls each of its members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..binding import bind
from ..definition import Definition, Part
from .tuples import add, cast, flat, scaled, select

__all__ = ["Call", "Jitable", "Rows", "point", "rows"]

Function = Callable[..., Any]

Jitable = Callable[[Function], Function]
"""What a compiler does to a small function that its kernels call."""


@dataclass(frozen=True)
class Call:
    """A function, which of a loop's numbers it takes, in its own order, and how many numbers it returns."""

    function: Function
    wanted: tuple[int, ...]
    results: int


def parameter_names(definition: Definition) -> list[str]:
    """The parameters in the order of a call's numbers.

    Behind them stand the weights of a sum's members, and of a loss of classes the share of the target that smoothing leaves and the
    background that it adds to each class.
    """
    weights = [f"*{index}" for index in range(len(definition.sum_of))]
    smoothing = ["*share", "*background"] if definition.form == "rowwise" else []
    return [one.name for one in definition.parameters] + weights + smoothing


def _call(part: Part, names: Sequence[str], working: Any, bound: dict[Function, Function], jitable: Jitable) -> Call:
    """A part bound to the working precision; ``bound`` remembers the helpers that parts share."""
    wanted = tuple(names.index(argument) for argument in part.arguments)
    return Call(bind(part.function, working, jitable, bound), wanted, part.results)


def _sum(calls: Sequence[Call], weights: Sequence[int], count: int, working: Any, jitable: Jitable) -> Call:
    """The sum of what the members return, as far as all return it, each times the number at its position in ``weights``."""
    least = min(call.results for call in calls)
    common = tuple(range(least))

    def weigh(call: Call, weight: int) -> Function:
        function, wanted = call.function, call.wanted
        return jitable(
            lambda *numbers: scaled(select(cast(function(*select(numbers, wanted)), working), common), numbers[weight])
        )

    def plus(first: Function, second: Function) -> Function:
        return jitable(lambda *numbers: add(first(*numbers), second(*numbers)))

    weighed = [weigh(call, weight) for call, weight in zip(calls, weights, strict=True)]
    return Call(_paired(weighed, plus), tuple(range(count)), least)


def _paired(items: Sequence[Any], join: Callable[[Any, Any], Any]) -> Any:
    """All of them joined, neighbours first: functions call each other no deeper than they must, since a compiler goes down to each."""
    while len(items) > 1:
        pairs = [items[at : at + 2] for at in range(0, len(items), 2)]
        items = [join(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return items[0]


def _side_by_side(calls: Sequence[Call], count: int, working: Any, jitable: Jitable) -> Call:
    """What the members return, one behind the other."""
    if len(calls) == 1:
        return calls[0]

    def alone(call: Call) -> Function:
        function, wanted = call.function, call.wanted
        return jitable(lambda *numbers: cast(function(*select(numbers, wanted)), working))

    def beside(first: Function, second: Function) -> Function:
        return jitable(lambda *numbers: first(*numbers) + second(*numbers))

    results = sum(call.results for call in calls)
    return Call(_paired([alone(call) for call in calls], beside), tuple(range(count)), results)


def point(definition: Definition, working: Any, jitable: Jitable) -> Call:
    """A pointwise definition as a call that returns value, gradient and, where it is known, the second derivative."""
    names = [*(one.name for one in definition.inputs), *parameter_names(definition)]
    calls = [_call(member.parts["point"], names, working, {}, jitable) for member in definition.members]
    if not definition.sum_of:
        return calls[0]
    return _sum(calls, [names.index(f"*{index}") for index in range(len(calls))], len(names), working, jitable)


@dataclass(frozen=True)
class Rows:
    """A rowwise definition as calls.

    ``peak``, ``terms`` and ``slope`` take elements and parameters, then peaks (``terms``, ``slope``), then coefficients and, where
    ``slope_takes_terms``, the tuple of the element's terms (``slope``); ``value`` takes the row's own inputs, parameters, peaks and
    then the tuple of sums.
    """

    peak: Call | None
    terms: Call
    value: Call
    slope: Call
    slope_takes_terms: bool

    @property
    def peaks(self) -> int:
        return self.peak.results if self.peak else 0


def rows(definition: Definition, elements: Sequence[str], per_row: Sequence[str], working: Any, jitable: Jitable) -> Rows:
    """A rowwise definition in the form that the loops call."""
    given, members = parameter_names(definition), definition.members
    bound: dict[Function, Function] = {}
    peaks = [f"peak of {index}" for index, member in enumerate(members) if "peak" in member.parts]
    starts = [*elements, *given]
    tops = [_call(member.parts["peak"], starts, working, bound, jitable) for member in members if "peak" in member.parts]
    terms, values, slopes, offset = [], [], [], 0
    coefficients = [member.parts["value"].results - 1 for member in members]
    for index, member in enumerate(members):
        seen = ["peak" if name == f"peak of {index}" else name for name in peaks]
        terms.append(_call(member.parts["terms"], [*starts, *seen], working, bound, jitable))
        before, after = sum(coefficients[:index]), sum(coefficients[index + 1 :])
        own = [name for name in member.parts["slope"].arguments if name not in [*starts, *seen, "terms"]]
        placed = [*starts, *seen, *[_ANOTHERS] * before, *own, *[_ANOTHERS] * after]
        span = tuple(range(offset, offset + terms[-1].results))
        alone = not definition.sum_of
        values.append(_taking(member.parts["value"], [*per_row, *given, *seen], "sums", span, alone, working, bound, jitable))
        slopes.append(_taking(member.parts["slope"], placed, "terms", span, alone, working, bound, jitable))
        offset += len(span)
    widest = len(starts) + len(peaks)
    takes_terms = any("terms" in member.parts["slope"].arguments for member in members)
    top = _side_by_side(tops, len(starts), working, jitable) if tops else None
    if not definition.sum_of:
        return Rows(top, terms[0], values[0], slopes[0], takes_terms)
    weights = [given.index(f"*{index}") for index in range(len(members))]
    value = _add_values(
        values, [len(per_row) + weight for weight in weights], len(per_row) + len(given) + len(peaks) + 1, working, jitable
    )
    slope = _sum(
        slopes, [len(elements) + weight for weight in weights], widest + sum(coefficients) + takes_terms, working, jitable
    )
    return Rows(top, _side_by_side(terms, widest, working, jitable), value, slope, takes_terms)


_ANOTHERS = "another member's coefficient"


def _taking(
    part: Part,
    names: Sequence[str],
    last: str,
    span: tuple[int, ...],
    alone: bool,
    working: Any,
    bound: dict[Function, Function],
    jitable: Jitable,
) -> Call:
    """A part of one member that takes, behind its other numbers, the member's share of a tuple: its sums, or an element's terms.

    The share is a number where the member has one, as its definition is written.
    """
    call = _call(part, [*names, last], working, bound, jitable)
    if last not in part.arguments or (alone and len(span) > 1):
        return call
    function, wanted, before = call.function, call.wanted, tuple(range(len(names)))
    if len(span) == 1:
        taken = tuple(span[0] + one if one == len(names) else one for one in wanted)

        @jitable
        def with_own_share(*numbers):  # type: ignore[no-untyped-def]
            return function(*select(flat(numbers), taken))

    else:

        @jitable
        def with_own_share(*numbers):  # type: ignore[no-untyped-def]
            return function(*select(select(numbers, before) + (select(numbers[-1], span),), wanted))

    return Call(with_own_share, tuple(range(len(names) + 1)), part.results)


def _add_values(calls: Sequence[Call], weights: Sequence[int], width: int, working: Any, jitable: Jitable) -> Call:
    """The weighted sum of the members' values, then everybody's coefficients; a function of ``width`` numbers."""

    def weigh(call: Call, weight: int) -> tuple[Function, int]:
        function, wanted, rest = call.function, call.wanted, tuple(range(1, call.results))

        @jitable
        def weighed(*numbers):  # type: ignore[no-untyped-def]
            results = cast(function(*select(numbers, wanted)), working)
            return (results[0] * numbers[weight],) + select(results, rest)

        return weighed, call.results

    def join(one: tuple[Function, int], other: tuple[Function, int]) -> tuple[Function, int]:
        (first, before), (second, after) = one, other
        head, tail = tuple(range(1, before)), tuple(range(1, after))

        @jitable
        def both(*numbers):  # type: ignore[no-untyped-def]
            one, other = first(*numbers), second(*numbers)
            return (one[0] + other[0],) + select(one, head) + select(other, tail)

        return both, before + after - 1

    joined, count = _paired([weigh(call, weight) for call, weight in zip(calls, weights, strict=True)], join)
    return Call(joined, tuple(range(width)), count)
