"""Side by side in one process: every contender once a round, round after round; the medians of the rounds' ratios."""

import itertools
import math
import operator
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import jitloss

from .copying import aligned_like, copy
from .peers import PEERS
from .work import Work

__all__ = ["NEW", "OUT", "Row", "copy_calls", "measure", "seconds_per_call"]

Call = Callable[[], Any]

NEW, OUT = "new array", "out="
_PLAIN, _STREAMED = "copy, plain stores", "copy, streamed"
_BATCH = 0.02  # seconds that one measurement takes at least
_REST = 0.01  # seconds of sleep in which the threads that the last contender left spinning go to sleep
_LARGE = 1 << 20  # bytes of gradient below which neither a copy nor a second array says anything


@dataclass(frozen=True)
class Row:
    """Seconds a call, ours under :data:`NEW` and :data:`OUT`, and for each of these two the ratios with everybody else.

    :data:`NEW` allocates its gradient in every call, as NumPy, PyTorch and JAX do; :data:`OUT` writes into an array that is there,
    as ``copy`` and ``np.copyto`` do. Ratios with a library are its time in units of ours, with a copy our time in units of its.
    """

    work: Work
    seconds: dict[str, float]
    ratios: dict[str, dict[str, float]]


def copy_calls(inputs: Sequence[np.ndarray], gradients: int = 1) -> dict[str, Call]:
    """The yardstick with plain and with streamed stores; the faster one counts."""
    to = [aligned_like(inputs[0]) for _ in range(gradients)]
    return {_PLAIN: copy(to, inputs, streamed=False), _STREAMED: copy(to, inputs, streamed=True)}


def seconds_per_call(call: Call, number: int = 0) -> float:
    """The time of one call, as the mean of a batch; ``number`` 0 means as many as a batch is worth."""
    call()
    begin = time.perf_counter()
    for _ in itertools.repeat(None, number or 1):
        call()
    seconds = (time.perf_counter() - begin) / (number or 1)
    return seconds if number or seconds > _BATCH else seconds_per_call(call, math.ceil(_BATCH / seconds))


def measure(work: Work, rounds: int, step: Callable[[str], None] = lambda text: None) -> Row:
    """One row of the table. ``step`` is told of each round."""
    inputs = work.inputs()
    step(work.title)
    calls = _contenders(work, inputs)
    numbers = {name: max(1, math.ceil(_BATCH / seconds_per_call(call))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in _rotated(list(calls), turn):
            time.sleep(_REST)
            times[name].append(seconds_per_call(calls[name], numbers[name]))
        step(work.title)
    if _PLAIN in times:
        plain, streamed = times.pop(_PLAIN), times.pop(_STREAMED)
        times["copy"] = min(plain, streamed, key=statistics.median)
    seconds = {name: statistics.median(one) for name, one in times.items()}
    return Row(work, seconds, {ours: _ratios(times, times[ours]) for ours in (NEW, OUT) if ours in times})


def _rotated(names: list[str], turn: int) -> list[str]:
    turn %= len(names)
    return names[turn:] + names[:turn]


def _ratios(times: dict[str, list[float]], ours: list[float]) -> dict[str, float]:
    ratios = {}
    for name, theirs in times.items():
        if name not in (NEW, OUT):
            above, below = (theirs, ours) if name in PEERS else (ours, theirs)
            ratios[name] = statistics.median(map(operator.truediv, above, below))
    return ratios


def _contenders(work: Work, inputs: tuple[np.ndarray, ...]) -> dict[str, Call]:
    """Everybody who can do the work, by name; each has done it once, with the result that we have."""
    form = jitloss.LOSSES[work.loss].value_and_gradient
    calls: dict[str, Call] = {NEW: partial(form, *inputs)}
    result = calls[NEW]()
    if not isinstance(result[1], np.ndarray):
        return calls
    large = inputs[0].nbytes >= _LARGE
    if large:
        calls[OUT] = partial(form, *inputs, out=aligned_like(inputs[0]))
    for name, prepare in PEERS.items():
        try:
            call = prepare(work.loss, inputs)
        except ImportError:
            continue
        if call is not None:
            calls[name] = call
    for name, call in calls.items():
        _check(f"{name}, {work.title}", call(), result)
    if large:
        calls |= copy_calls(inputs)
        if work.definition.form == "rowwise":
            calls["np.copyto"] = partial(np.copyto, aligned_like(inputs[0]), inputs[0])
    return calls


def _check(who: str, theirs: tuple[Any, Any], ours: tuple[Any, Any]) -> None:
    """Nobody is measured at something else."""
    value, gradient = float(theirs[0]), np.asarray(theirs[1])
    if not math.isclose(value, ours[0], rel_tol=1e-4):
        raise RuntimeError(f"{who}: the value is {value}, jitloss has {ours[0]}")
    worst = float(np.abs(gradient - ours[1]).max())
    if not np.allclose(gradient, ours[1], rtol=1e-4, atol=1e-6 * float(np.abs(ours[1]).max())):
        raise RuntimeError(f"{who}: the gradient differs from that of jitloss by up to {worst:.3g}")
