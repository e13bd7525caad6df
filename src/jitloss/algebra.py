"""Definitions made from others: sums, such as ``mse_loss + 0.5 * l1_loss``, and losses whose second derivative has a floor.

They compile to one kernel like any other definition.
"""

import dataclasses
import functools
import itertools
from collections.abc import Collection, Mapping, Sequence

from .definition import Definition, Input, Parameter, Part

__all__ = ["sum_of", "with_floor"]


@functools.lru_cache(maxsize=256)
def sum_of(members: tuple[Definition, ...], reserved: frozenset[str] = frozenset()) -> Definition:
    """Return the definition of a weighted sum of members; weights are run-time numbers, so one kernel serves all of them.

    Inputs are matched by position and take the first member's names. Parameters with the same name and default become one
    parameter; where defaults differ, each is prefixed with its member's name. Names of options are ``reserved``.
    """
    first = members[0]
    for other in members[1:]:
        _check(first, other)
    try:
        inputs = tuple(functools.reduce(_merge, column) for column in zip(*(member.inputs for member in members), strict=True))
    except TypeError as error:
        raise TypeError(f"cannot add {' and '.join(dict.fromkeys(member.name for member in members))}: {error}") from None
    parameters, renamed = _parameters(members, inputs, reserved)
    leaves = tuple(_rename(member, inputs, names) for member, names in zip(members, renamed, strict=True))
    made = dataclasses.replace(
        first,
        name=" + ".join(dict.fromkeys(member.name for member in members)),
        docstring="",
        inputs=inputs,
        parameters=tuple(parameters),
        hessian=all(member.hessian for member in members),
        parts={},
        qualname="",
        sum_of=leaves,
        origin=None,
    )
    if all(member.origin is None for member in members):
        return made
    plain = sum_of(tuple(member.maths for member in members), reserved)
    return dataclasses.replace(made, origin=plain if _is_alike(made, plain) else None)


@functools.lru_cache(maxsize=256)
def with_floor(definition: Definition) -> Definition:
    """Return the definition of the same loss whose second derivative is multiplied by a number, and then is not below another.

    It is a sum, of a single member where the loss is none: the floor applies to what the weights of the members give, and comes
    before the weights of samples. Both numbers are given at run time: they are its last two parameters.
    """
    whole = definition if definition.sum_of else sum_of((definition,))
    taken = {*(one.name for one in whole.parameters), *(one.public for one in whole.inputs)}
    names = (name if name not in taken else f"{name}_of_all" for name in ("hessian_scale", "min_hessian"))
    numbers = tuple(Parameter(name, 1.0, keyword_only=True) for name in names)
    origin = with_floor(definition.maths) if definition.origin is not None else None
    return dataclasses.replace(whole, parameters=(*whole.parameters, *numbers), origin=origin, has_floor=True)


def _is_alike(one: Definition, other: Definition) -> bool:
    """Whether two sums have the same maths: different defaults may have merged or split their parameters."""
    names = [[each.name for each in definition.parameters] for definition in (one, other)]
    arguments = [[part.arguments for leaf in definition.sum_of for part in leaf.parts.values()] for definition in (one, other)]
    return names[0] == names[1] and arguments[0] == arguments[1]


def _check(first: Definition, other: Definition) -> None:
    if first.form != other.form:
        raise TypeError(
            f"cannot add {first.name} ({first.form}) and {other.name} ({other.form}): one averages over elements, the other over rows; "
            f"jitloss.weighted_sum adds their values"
        )
    roles = [[(one.differentiable, one.per_row) for one in definition.inputs] for definition in (first, other)]
    if roles[0] != roles[1] or first.is_penalty != other.is_penalty:
        names = [", ".join(one.public for one in definition.inputs) for definition in (first, other)]
        raise TypeError(f"cannot add {first.name}({names[0]}) and {other.name}({names[1]}): they take different inputs")


_LOOSE = {"real": 0, "classes": 1}


def _merge(one: Input, other: Input) -> Input:
    """The input that serves both: spaces are equal, or one is any real number, or one is labels where the other is dense targets."""
    if one.space.name == other.space.name:
        return dataclasses.replace(one, space=one.space if one.space.graded else other.space)
    if one.space.name in _LOOSE or other.space.name in _LOOSE:
        looser = min((one, other), key=lambda each: _LOOSE.get(each.space.name, 2))
        return dataclasses.replace(one, space=(other if looser is one else one).space)
    raise TypeError(f"{one.public} are {one.space.name!r} inputs of one loss and {other.space.name!r} inputs of the other")


def _parameters(
    members: Sequence[Definition], inputs: Sequence[Input], reserved: Collection[str]
) -> tuple[list[Parameter], list[dict[str, str]]]:
    """The sum's parameters, and for each member the names that its own parameters have in the sum."""
    taken = {*reserved, *(name for one in inputs for name in (one.name, one.public))}
    seen: dict[str, Parameter] = {}
    clashing = set()
    for one in itertools.chain.from_iterable(member.parameters for member in members):
        if one.name in taken or not _equal(seen.setdefault(one.name, one), one):
            clashing.add(one.name)
    kept = seen.keys() - clashing
    parameters: dict[str, Parameter] = {}
    renamed = []
    for index, member in enumerate(members):
        names = {}
        for one in member.parameters:
            mine = one if one.name in kept else _renamed(one, member.name, index, taken | kept, parameters)
            names[one.name] = mine.name
            parameters[mine.name] = mine
        renamed.append(names)
    return list(parameters.values()), renamed


def _equal(one: Parameter, other: Parameter) -> bool:
    """Whether two parameters with the same name are interchangeable: 1.0 is not the switch True."""
    return one == other and isinstance(one.default, bool) == isinstance(other.default, bool)


def _renamed(one: Parameter, owner: str, index: int, taken: Collection[str], others: Mapping[str, Parameter]) -> Parameter:
    """The parameter prefixed with the name of its loss, and numbered where that name is taken by a different one."""
    name = f"{owner}_{one.name}"
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(index)))
    named = (dataclasses.replace(one, name=candidate) for candidate in candidates)
    return next(mine for mine in named if mine.name not in taken and _equal(others.get(mine.name, mine), mine))


_OF_A_ROW = ("peak", "sums", "terms")


def _rename(member: Definition, inputs: Sequence[Input], parameters: dict[str, str]) -> Definition:
    """A member whose parts take the sum's inputs and parameters; its coefficients get names that no other member uses."""
    names = {mine.name: theirs.name for mine, theirs in zip(member.inputs, inputs, strict=True)} | parameters

    def renamed(argument: str) -> str:
        return names.get(argument) or (argument if argument in _OF_A_ROW else f"{argument} of a row")

    parts = {key: Part(part.function, tuple(map(renamed, part.arguments)), part.results) for key, part in member.parts.items()}
    return dataclasses.replace(member, parts=parts)
