"""numba's ``@intrinsic``, with pickles that are the same in every process."""

from typing import Any

from numba import extending

__all__ = ["intrinsic"]


def intrinsic(*functions: Any, prefer_literal: bool = False) -> Any:
    """Like :func:`numba.extending.intrinsic` for functions at the top of a module, which are pickled by their name.

    numba pickles an intrinsic with a random number, and the key of its disk cache holds a pickle of every function in a kernel's
    closure: a small function that names an intrinsic would never be found again.
    """

    def make(function: Any) -> Any:
        made = extending.intrinsic(prefer_literal=prefer_literal)(function)
        by_name = type("NamedIntrinsic", (type(made),), {"__reduce__": lambda self: self.__qualname__})
        made.__class__ = by_name
        return made

    return make(functions[0]) if functions else make
