"""How outputs too large for the caches are stored: through the caches, or past them.

Some processors are faster past the caches, others slower, and nothing tells which kind this one is. So the first calls of a
kernel on arrays of some size try one way, the next ones the other, and later calls use the faster. The ways do not alternate:
what a call leaves in the caches affects the next one. The results are the same.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["MOST_TRIES", "TRIES", "cache_bytes", "faster", "streams"]

TRIES = 4
"""How often each way is tried at least. The best time counts: the first calls write to new memory, and other load may slow a call."""

MOST_TRIES = 12
"""How often each way is tried at most. While one of the last two calls was the fastest so far, the next may be faster still:
caches warm up, clocks rise."""

_seconds: dict[tuple[int, int, bool], tuple[list[float], list[float]]] = {}
"""The times of calls with ordinary stores, and with streaming stores, by what the calls have in common."""


@functools.cache
def cache_bytes() -> int:
    """The size of the last-level cache; 32 MiB where the machine does not tell, at most 64 MiB of a shared one."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}.get(text[-1], 1) if text else 0)
    return min(max(sizes, default=2**25), 2**26)


def streams(moved: int) -> bool:
    """Whether a call that moves so many bytes may use streaming stores."""
    return moved > cache_bytes()


def faster(kernel: int, moved: int, new: bool, run: Callable[[bool], float]) -> float:
    """Call ``run``, telling it whether to use streaming stores, and return its result.

    The faster way is used, once it is known, for this kernel, about so many bytes, and outputs that are ``new`` arrays or not.
    """
    plain, past = seconds = _seconds.setdefault((kernel, moved.bit_length(), new), ([], []))
    if _settled(past):
        return run(min(past) < min(plain))
    streamed = _settled(plain)
    begin = time.perf_counter()
    result = run(streamed)
    seconds[streamed].append(time.perf_counter() - begin)
    return result


def _settled(times: list[float]) -> bool:
    """Whether another try would not tell anything new."""
    if len(times) < TRIES:
        return False
    return len(times) >= MOST_TRIES or min(times[-2:]) > 0.98 * min(times[:-2])
