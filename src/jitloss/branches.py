"""Whether a definition assigns its names on every branch: found by calling it with values for which each condition goes both ways."""

import dis
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import Any

from numpy.lib.mixins import NDArrayOperatorsMixin

from .binding import DefinitionError

__all__ = ["check_branches"]

MOST_WAYS = 256
"""Ways through the branches up to which all are tried."""

_CONDITIONS = {code for name, code in dis.opmap.items() if "JUMP" in name and "IF" in name and "NONE" not in name}
"""Jumps that depend on a number or a switch. Whether an option is None is tried both ways with the results counted."""


class _Coin(NDArrayOperatorsMixin):
    """Stands for a number. The conditions on it go as ``way`` says, one after the other; those after its end are true."""

    def __init__(self, way: tuple[bool, ...]) -> None:
        self.way, self.taken = way, list[bool]()

    def __bool__(self) -> bool:
        place = len(self.taken)
        self.taken.append(self.way[place] if place < len(self.way) else True)
        return self.taken[-1]

    def __getitem__(self, index: Any) -> "_Coin":
        return self  # like a 0-d result of NumPy's where

    def __array_ufunc__(self, *args: Any, **options: Any) -> "_Coin":
        return self

    def __array_function__(self, *args: Any) -> "_Coin":
        return self


def check_branches(
    bound: Callable[..., Any], functions: Iterable[FunctionType], values: Sequence[Any], owner: str, label: str
) -> None:
    """Reject a definition that leaves a name unassigned on some branch: compiled code would find 0 there.

    ``functions`` are the definition and its helpers; ``values`` are its arguments, of which switches and None stay as they are.
    """
    if not any(map(_branches, functions)):
        return
    ways: list[tuple[bool, ...]] = [()]
    for _ in range(MOST_WAYS):
        if not ways:
            return
        coin = _Coin(ways.pop())
        try:
            bound(*(_with_coins(one, coin) for one in values))
        except UnboundLocalError as error:
            raise DefinitionError(f"{owner}: a name is assigned on every branch{label}: {error}") from None
        except Exception:  # not everything that takes numbers takes a coin
            return
        ways += [(*coin.taken[:place], False) for place in range(len(coin.way), len(coin.taken))]


def _branches(function: FunctionType) -> bool:
    """Whether a function has both conditions and names of its own."""
    code = function.__code__
    return code.co_nlocals > code.co_argcount + code.co_kwonlyargcount and not _CONDITIONS.isdisjoint(code.co_code[::2])


def _with_coins(value: Any, coin: _Coin) -> Any:
    if isinstance(value, tuple):
        return tuple(coin for _ in value)
    return value if value is None or isinstance(value, bool) else coin
