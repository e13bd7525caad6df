"""Watching values: which loss became NaN or infinite, and at which item first."""

import sys
import warnings
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal

import numpy as np

__all__ = ["WATCHED", "errstate", "report", "watching"]

Action = Literal["raise", "warn", "ignore"]

_actions: ContextVar[tuple[Action, ...]] = ContextVar("jitloss.errstate", default=("ignore",))
"""The actions of nested contexts, the innermost last."""

WATCHED: list[bool] = []
"""Empty until a context is entered for the first time: checking a list is quicker than reading a context variable."""


class errstate:  # noqa: N801  # NumPy's name for the same idea
    """Report at once when a loss becomes NaN or infinite, in the style of :func:`numpy.errstate`.

    Parameters
    ----------
    invalid : {"ignore", "warn", "raise"}
        What happens when the value of a loss is not finite, or its gradient is not: nothing (the default, and free), a
        ``RuntimeWarning``, or a ``FloatingPointError``. The message names the loss and the first item (element or row) whose own
        value is not finite.

    Notes
    -----
    Watching costs a pass over the gradient, and one number per item that is written. An exception is raised when the results are
    complete: ``out`` has been written, even where it is one of the inputs. The setting is local to the thread or task that enters
    the context.

    Examples
    --------
    >>> import jitloss
    >>> with jitloss.errstate(invalid="raise"):
    ...     jitloss.mse_loss([1.0, float("nan")], [0.0, 0.0])
    Traceback (most recent call last):
    FloatingPointError: mse_loss is nan: first at item 1, whose value is nan
    """

    def __init__(self, *, invalid: Action = "ignore") -> None:
        if invalid not in ("raise", "warn", "ignore"):
            raise ValueError(f"errstate: invalid must be 'raise', 'warn' or 'ignore', got {invalid!r}")
        self.invalid: Action = invalid

    def __enter__(self) -> "errstate":
        WATCHED[:] = [True]
        _actions.set((*_actions.get(), self.invalid))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _actions.set(_actions.get()[:-1])

    def __call__(self, function: Any) -> Any:
        """Use as a decorator, like NumPy's."""
        import functools
        import inspect

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with errstate(invalid=self.invalid):
                    return await function(*args, **kwargs)

            return awaited

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with errstate(invalid=self.invalid):
                return function(*args, **kwargs)

        return watched


def watching() -> bool:
    return _actions.get()[-1] != "ignore"


def report(name: str, value: float, items: np.ndarray | None, gradients: tuple[np.ndarray, ...]) -> None:
    """Warn or raise where the value, an item's value or a gradient is not finite."""
    first = None if items is None else _first_that_is_not_finite(items)
    if items is not None and first is not None:
        where = _index(first, items.shape)
        shown = float(items.reshape(-1)[first])
        message = f"{name} is {value if not np.isfinite(value) else shown}: first at item {where}, whose value is {shown}"
    elif not np.isfinite(value):
        message = f"{name} is {value}: every item is finite, their sum is not"
    else:
        for gradient in gradients:
            first = _first_that_is_not_finite(gradient)
            if first is not None:
                where = _index(first, gradient.shape)
                message = f"the gradient of {name} is not finite: first at element {where}"
                break
        else:
            return
    if _actions.get()[-1] == "raise":
        raise FloatingPointError(message)
    warnings.warn(message, RuntimeWarning, stacklevel=_levels_up())


_BLOCK = 65536


def _first_that_is_not_finite(array: np.ndarray) -> int | None:
    """Its position in the flat array, searched block by block so that each block stays in the caches."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        finite = np.isfinite(flat[start : start + _BLOCK])
        if not finite.all():
            return start + int(np.argmin(finite))
    return None


def _levels_up() -> int:
    """The stack level of whoever called the library, for :func:`warnings.warn` in :func:`report`."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    return level


def _index(flat: int, shape: tuple[int, ...]) -> int | tuple[int, ...]:
    """The index of a flat position, as a plain number where there is one axis."""
    place = tuple(int(one) for one in np.unravel_index(flat, shape)) if shape else (flat,)
    return place[0] if len(place) == 1 else place
