"""Sums of definitions: the maths of ``mse_loss + 0.5 * l1_loss``, which compiles to one kernel like any other definition."""

import dataclasses
import functools
from collections.abc import Sequence

from .definition import Definition, Input, Parameter, Part

__all__ = ["sum_of"]


@functools.lru_cache(maxsize=256)
def sum_of(members: tuple[Definition, ...]) -> Definition:
    """The definition of a sum of weighted members; the weights are numbers of the call, so one kernel serves all of them.

    Inputs are matched by their place and take the first member's names. Parameters of one name and one default are one parameter;
    where defaults differ, each is called by its member's name too.
    """
    first = members[0]
    for other in members[1:]:
        _check(first, other)
    try:
        inputs = tuple(functools.reduce(_merge, column) for column in zip(*(member.inputs for member in members), strict=True))
    except TypeError as error:
        raise TypeError(f"cannot add {' and '.join(dict.fromkeys(member.name for member in members))}: {error}") from None
    parameters, renamed = _parameters(members)
    leaves = tuple(_rename(member, inputs, names) for member, names in zip(members, renamed, strict=True))
    return dataclasses.replace(
        first,
        name=" + ".join(dict.fromkeys(member.name for member in members)),
        docstring="",
        inputs=inputs,
        parameters=tuple(parameters),
        hessian=all(member.hessian for member in members),
        parts={},
        qualname="",
        sum_of=leaves,
    )


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
    """The input that serves both: spaces are equal, or one is any real number, or one is labels where the other wants rows."""
    if one.space.name == other.space.name:
        return one
    if one.space.name in _LOOSE or other.space.name in _LOOSE:
        looser = min((one, other), key=lambda each: _LOOSE.get(each.space.name, 2))
        return dataclasses.replace(one, space=(other if looser is one else one).space)
    raise TypeError(f"{one.public} are of a {one.space.name} for the one and of a {other.space.name} for the other")


def _parameters(members: Sequence[Definition]) -> tuple[list[Parameter], list[dict[str, str]]]:
    """The sum's parameters, and for each member what its own are called there."""
    clashing = set()
    seen: dict[str, Parameter] = {}
    for member in members:
        for one in member.parameters:
            if seen.setdefault(one.name, one) != one:
                clashing.add(one.name)
    parameters: dict[str, Parameter] = {}
    renamed = []
    for index, member in enumerate(members):
        names = {}
        for one in member.parameters:
            name = one.name
            if name in clashing:
                name = f"{member.name}_{one.name}"
                if parameters.get(name, one) != dataclasses.replace(one, name=name):
                    name = f"{name}_{index}" if name in parameters else name
            parameters[name] = dataclasses.replace(one, name=name)
            names[one.name] = name
        renamed.append(names)
    return list(parameters.values()), renamed


def _rename(member: Definition, inputs: Sequence[Input], parameters: dict[str, str]) -> Definition:
    names = {mine.name: theirs.name for mine, theirs in zip(member.inputs, inputs, strict=True)} | parameters
    parts = {
        key: Part(part.function, tuple(names.get(argument, argument) for argument in part.arguments), part.results)
        for key, part in member.parts.items()
    }
    return dataclasses.replace(member, parts=parts)
