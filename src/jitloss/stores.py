"""How outputs that no cache holds are stored: through the caches, or past them.

Some processors move more bytes past the caches, others fewer, and nothing tells which kind this one is. So the first calls of a kernel
on arrays of some size try one way, the next ones the other, and later calls go the way that was faster. Not in turns: what one way
leaves in the caches is what its next call finds. The numbers are the same.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["MOST_TRIES", "TRIES", "cache_bytes", "faster", "streams"]

TRIES = 4
"""How often each way is tried at least. The best time counts: the first calls write to new memory, and others may slow a call down."""

MOST_TRIES = 12
"""How often at most. As long as one of the last two calls was the fastest so far, the next may be faster: caches fill, a clock rises."""

_seconds: dict[tuple[int, int, bool], tuple[list[float], list[float]]] = {}
"""What calls took with plain stores, and with stores past the caches, by what they have in common."""


@functools.cache
def cache_bytes() -> int:
    """The size of the last-level cache; 32 MiB where the machine does not tell, at most 64 MiB of what many share."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}.get(text[-1], 1) if text else 0)
    return min(max(sizes, default=2**25), 2**26)


def streams(moved: int) -> bool:
    """Whether a call that moves so many bytes may store its outputs past the caches."""
    return moved > cache_bytes()


def faster(kernel: int, moved: int, new: bool, run: Callable[[bool], float]) -> float:
    """What ``run`` returns, told whether to store past the caches.

    That is the faster way, once it is known, for this kernel, about so many bytes, and outputs that are ``new`` arrays or not.
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
    """Whether another try would say nothing new."""
    if len(times) < TRIES:
        return False
    return len(times) >= MOST_TRIES or min(times[-2:]) > 0.98 * min(times[:-2])
