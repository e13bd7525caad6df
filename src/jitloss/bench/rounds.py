"""Taking turns: every contender once per round, and the median of the rounds' ratios."""

import itertools
import math
import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Call", "Step", "faster", "quiet", "race", "ratio", "seconds_per_call"]

Call = Callable[[], Any]
Step = Callable[[str], None]

_BATCH = 0.02  # minimum seconds of one measurement
_REST = 0.01  # seconds of sleep in which threads that the last contender left spinning go to sleep
_WARM = 0.03  # seconds of untimed calls after it, until the processor's clock is up again


def quiet(text: str) -> None:
    """A step callback that does nothing."""


def seconds_per_call(call: Call, number: int = 0) -> float:
    """The time of one call, as the mean of a batch; ``number`` 0 chooses the size of the batch by time."""
    call()
    begin = time.perf_counter()
    for _ in itertools.repeat(None, number or 1):
        call()
    seconds = (time.perf_counter() - begin) / (number or 1)
    return seconds if number or seconds > _BATCH else seconds_per_call(call, math.ceil(_BATCH / seconds))


def race(
    calls: Mapping[str, Call], rounds: int, step: Step = quiet, title: str = "", rest: float = _REST
) -> dict[str, list[float]]:
    """Seconds per call of each contender, one figure per round. ``step`` is called for each round."""
    numbers = {name: max(1, math.ceil(_BATCH / seconds_per_call(call))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in _rotated(list(calls), turn):
            time.sleep(rest)
            _warm_up(calls[name])
            times[name].append(seconds_per_call(calls[name], numbers[name]))
        step(title)
    return times


def _warm_up(call: Call) -> None:
    begin = time.perf_counter()
    while time.perf_counter() - begin < _WARM:
        call()


def _rotated(names: list[str], turn: int) -> list[str]:
    turn %= len(names)
    return names[turn:] + names[:turn]


def faster(*times: Sequence[float]) -> Sequence[float]:
    """The fastest of several contenders that do the same."""
    return min(times, key=statistics.median)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios over the rounds."""
    return float(statistics.median(map(operator.truediv, above, below)))
