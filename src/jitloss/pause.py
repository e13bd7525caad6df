"""Pausing Python's garbage collector while many long-lived objects are created."""

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["collector_paused"]


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Disable automatic collection; a full one traverses all of numba's objects, which takes longer than the work that it interrupts.

    At the end the youngest generation is collected: otherwise its size would trigger a full collection at once.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.collect(0)
            gc.enable()
