"""A rest for Python's garbage collector where many objects are made and kept."""

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["collector_paused"]


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No automatic collection within; a full one walks over all that numba holds, which takes longer than what it interrupts.

    At the end the youngest objects are collected, or their number would call for a full collection at once.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.collect(0)
            gc.enable()
