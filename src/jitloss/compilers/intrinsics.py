"""numba's ``@intrinsic``, with pickles that are the same in every process and an equivalent in plain Python."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from numba import extending
from numba.core.errors import NumbaError

__all__ = ["intrinsic"]


def intrinsic(*functions: Any, prefer_literal: bool = False, plain: Callable[..., Any] | None = None) -> Any:
    """Like :func:`numba.extending.intrinsic` for functions at module level, which are pickled by name.

    numba pickles an intrinsic with a random number, and the key of its disk cache holds a pickle of every function in a kernel's
    closure: a small function that refers to an intrinsic would never be found again.

    ``plain`` is the equivalent of a call in Python, where pointers are arrays: a simulator of a device runs it. ``typer``, an
    attribute of what is returned, is the decorated function, for another compiler.
    """

    def make(function: Any) -> Any:
        made = extending.intrinsic(prefer_literal=prefer_literal)(_with_first_error(function) if prefer_literal else function)
        own: dict[str, Any] = {"__reduce__": lambda self: self.__qualname__}
        if plain is not None:
            own["__call__"] = lambda self, *args: plain(*args)
        made.__class__ = type("NamedIntrinsic", (type(made),), own)
        made.typer = function
        return made

    return make(functions[0]) if functions else make


def _with_first_error(function: Callable[..., Any]) -> Callable[..., Any]:
    """Numba retries without literals when something in a loop is not typed yet; this makes the retry raise the first error again."""
    errors: list[NumbaError] = []

    @wraps(function)
    def asked(typing: Any, *arguments: Any) -> Any:
        try:
            return function(typing, *arguments)
        except NumbaError as error:
            errors[:] = [error]
            raise
        except AttributeError:
            if errors:
                raise errors.pop() from None
            raise

    return asked
