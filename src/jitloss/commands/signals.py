"""Signals as exceptions, so that a command that is told to stop removes its temporary files."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Stopped", "held", "stoppable"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_held = False
_pending: int | None = None


class Stopped(BaseException):
    """Ctrl-C, or a signal that asks the process to terminate. Like ``KeyboardInterrupt``, ``except Exception`` does not catch it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def _stop(number: int, frame: Any) -> None:
    global _pending
    if _held:
        _pending = number
        return
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the cleanup
    raise Stopped(number)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise :class:`Stopped` on signals that would end the process, except those that somebody else handles or ignores."""
    usual = (signal.SIG_DFL, signal.default_int_handler)
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    mine = [number for number in numbers if before[number] in usual]
    try:
        for number in mine:
            signal.signal(number, _stop)
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Delay signals during steps that must be completed together."""
    global _held, _pending
    _held = True
    try:
        yield
    finally:
        _held = False
        number, _pending = _pending, None
    if number is not None:
        raise Stopped(number)
