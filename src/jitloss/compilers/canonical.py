"""A definition as functions of tuples: what every loop of a compiler calls, whatever the names and the number of arguments.

A loop holds one tuple of numbers (elements, then parameters, then numbers of the row). A :class:`Call` is a function and the
positions of the numbers that it takes; the loop itself calls ``cast(function(*select(numbers, wanted)), working)``, because each
function in between would cost as much compile time as a loss. A sum of losses is a function of all numbers that calls each of its
members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..binding import bind
from ..definition import Definition, Part
from .tuples import add, cast, flat, scaled, select, with_floor

__all__ = ["Call", "Jitable", "Rows", "point", "rows"]

Function = Callable[..., Any]

Jitable = Callable[[Function], Function]
"""What a compiler applies to a small function that its kernels call."""


@dataclass(frozen=True)
class Call:
    """A function, the positions of the loop's numbers that it takes, in its own order, and how many numbers it returns."""

    function: Function
    wanted: tuple[int, ...]
    results: int


def parameter_names(definition: Definition) -> list[str]:
    """The parameters in the order of a call's numbers.

    They are followed by the weights of a sum's members, and for a loss of classes by the two numbers of label smoothing: the
    factor on the target and the background that is added to each class.
    """
    weights = [f"*{index}" for index in range(len(definition.sum_of))]
    smoothing = ["*share", "*background"] if definition.form == "rowwise" else []
    return [one.name for one in definition.parameters] + weights + smoothing


def _call(part: Part, names: Sequence[str], working: Any, bound: dict[Function, Function], jitable: Jitable) -> Call:
    """A part bound to the working precision; ``bound`` caches the helpers that parts share."""
    wanted = tuple(names.index(argument) for argument in part.arguments)
    return Call(bind(part.function, working, jitable, bound), wanted, part.results)


def _sum(calls: Sequence[Call], weights: Sequence[int], count: int, working: Any, jitable: Jitable) -> Call:
    """The sum of the members' results, each times the number at its position in ``weights``; results that some members lack are dropped."""
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
    """Reduce pairwise, neighbours first: this keeps calls shallow, since a compiler recurses into each."""
    while len(items) > 1:
        pairs = [items[at : at + 2] for at in range(0, len(items), 2)]
        items = [join(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return items[0]


def _side_by_side(calls: Sequence[Call], count: int, working: Any, jitable: Jitable) -> Call:
    """The results of the members, concatenated."""
    if len(calls) == 1:
        return calls[0]

    def alone(call: Call) -> Function:
        function, wanted = call.function, call.wanted
        return jitable(lambda *numbers: cast(function(*select(numbers, wanted)), working))

    def beside(first: Function, second: Function) -> Function:
        return jitable(lambda *numbers: first(*numbers) + second(*numbers))

    results = sum(call.results for call in calls)
    return Call(_paired([alone(call) for call in calls], beside), tuple(range(count)), results)


def _floored(call: Call, definition: Definition, names: Sequence[str], count: int, working: Any, jitable: Jitable) -> Call:
    """A call of ``count`` numbers whose last result is a second derivative, with the floor of the definition if it has one."""
    if not definition.has_floor:
        return call
    function, wanted = call.function, call.wanted
    factor, floor = (names.index(one.name) for one in definition.parameters[-2:])

    @jitable
    def with_its_floor(*numbers):  # type: ignore[no-untyped-def]
        return with_floor(cast(function(*select(numbers, wanted)), working), numbers[factor], numbers[floor])

    return Call(with_its_floor, tuple(range(count)), call.results)


def point(definition: Definition, working: Any, jitable: Jitable) -> Call:
    """A pointwise definition as a call that returns value, gradient and, where it is defined, the second derivative."""
    names = [*(one.name for one in definition.inputs), *parameter_names(definition)]
    calls = [_call(member.parts["point"], names, working, {}, jitable) for member in definition.members]
    if not definition.sum_of:
        return calls[0]
    total = _sum(calls, [names.index(f"*{index}") for index in range(len(calls))], len(names), working, jitable)
    return _floored(total, definition, names, len(names), working, jitable)


@dataclass(frozen=True)
class Rows:
    """A rowwise definition as calls.

    ``peak``, ``terms`` and ``slope`` take elements and parameters, followed by peaks (``terms``, ``slope``), then by coefficients
    and, where ``slope_takes_terms``, by the tuple of the element's terms (``slope``); ``value`` takes the row's own inputs,
    parameters, peaks and then the tuple of sums.
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
    width = widest + sum(coefficients) + takes_terms
    slope = _sum(slopes, [len(elements) + weight for weight in weights], width, working, jitable)
    slope = _floored(slope, definition, starts, width, working, jitable)
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
    """A part of one member that takes, after its other numbers, the member's slice of a tuple: its sums, or an element's terms.

    The slice is a plain number where the member has only one, as in the text of its definition.
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
    """The weighted sum of the members' values, then the coefficients of all members; a function of ``width`` numbers."""

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
