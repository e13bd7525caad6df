"""Whether the results of a function are proportional to an argument or independent of it: found by calling it with symbols."""

import itertools
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

__all__ = ["FREE", "proportional_or_free"]

MOST_COMBINATIONS = 64
"""Combinations of options up to which all are tried."""


class Kind(Enum):
    FREE = "the same whatever the argument is"
    PROPORTIONAL = "the argument times a number that is free of it"
    IS_ZERO = "whether something in proportion is 0"
    OTHER = "anything else"


class Symbol(NDArrayOperatorsMixin):
    """Stands for a number, and only knows how it depends on the argument. It has no truth value, so code cannot branch on it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def __bool__(self) -> bool:
        raise TypeError("a symbol is neither true nor false")

    def __getitem__(self, index: Any) -> "Symbol":
        return self  # like a 0-d result of NumPy's where

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> "Symbol":
        return Symbol(_combined(ufunc, [_kind(one) for one in inputs], inputs))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> "Symbol":
        return Symbol(_chosen(*args) if function is np.where and len(args) == 3 else Kind.OTHER)


PROPORTIONAL, FREE = Symbol(Kind.PROPORTIONAL), Symbol(Kind.FREE)


def _kind(value: Any) -> Kind:
    return value.kind if isinstance(value, Symbol) else Kind.FREE


def _is_zero(value: Any) -> bool:
    return not isinstance(value, Symbol) and value == 0.0


def _combined(ufunc: Any, kinds: list[Kind], inputs: Any) -> Kind:
    if all(one is Kind.FREE for one in kinds):
        return Kind.FREE
    first, second = (*kinds, Kind.FREE)[:2]
    alone = {first, second} == {Kind.PROPORTIONAL, Kind.FREE}
    if ufunc is np.multiply or ufunc in (np.negative, np.positive):
        return Kind.PROPORTIONAL if alone else Kind.OTHER
    if ufunc is np.divide:
        return Kind.PROPORTIONAL if alone and second is Kind.FREE else Kind.OTHER
    if ufunc in (np.add, np.subtract):
        return Kind.PROPORTIONAL if first is second is Kind.PROPORTIONAL else Kind.OTHER
    if ufunc is np.equal:
        return Kind.IS_ZERO if first is Kind.PROPORTIONAL and _is_zero(inputs[1]) else Kind.OTHER
    return Kind.OTHER


def _chosen(condition: Any, there: Any, elsewhere: Any) -> Kind:
    """The result of ``where``: 0 is proportional to everything."""
    kinds = [_kind(one) for one in (condition, there, elsewhere)]
    if all(one is Kind.FREE for one in kinds):
        return Kind.FREE
    fit = all(_kind(one) is Kind.PROPORTIONAL or _is_zero(one) for one in (there, elsewhere))
    if kinds[0] is Kind.FREE:
        return Kind.PROPORTIONAL if fit else Kind.OTHER
    return Kind.PROPORTIONAL if kinds[0] is Kind.IS_ZERO and fit and _is_zero(there) else Kind.OTHER


def proportional_or_free(
    function: Callable[..., Any], arguments: tuple[str, ...], name: str, options: Mapping[str, tuple[Any, ...]]
) -> bool:
    """Whether each result is proportional to the argument ``name`` or independent of it, for all combinations of the ``options``.

    A function that needs more than symbols offer, such as one that branches on its numbers, counts as neither.
    """
    choices = [(PROPORTIONAL,) if one == name else options.get(one, (FREE,)) for one in arguments]
    if np.prod([len(one) for one in choices]) > MOST_COMBINATIONS:
        return False
    try:
        for given in itertools.product(*choices):
            found = function(*given)
            results = found if isinstance(found, tuple) else (found,)
            if any(_kind(one) not in (Kind.FREE, Kind.PROPORTIONAL) for one in results):
                return False
    except Exception:  # of any kind: symbols are not numbers
        return False
    return True
