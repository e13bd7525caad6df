"""Side-by-side measurements in one process: this library, its peers and a copy on one piece of work."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import jitloss

from .copying import aligned_like, copy
from .peers import PEERS
from .rounds import Call, faster, quiet, race, ratio, seconds_per_call
from .work import Work

__all__ = ["NEW", "OUT", "Row", "agree", "copy_calls", "measure", "merge_copies", "outputs", "seconds_per_call"]

NEW, OUT = "new array", "out="
_PLAIN, _STREAMED = "copy, plain stores", "copy, streamed"
_LARGE = 1 << 20  # bytes of gradient below which neither a copy nor a second array is informative


@dataclass(frozen=True)
class Row:
    """Seconds per call, ours under :data:`NEW` and :data:`OUT`, and for each of these two the ratios with all others.

    :data:`NEW` allocates its gradient in every call, as NumPy, PyTorch and JAX do; :data:`OUT` writes into a preallocated array,
    as ``copy`` and ``np.copyto`` do. Ratios with a library are its time relative to ours, with a copy our time relative to its.
    """

    work: Work
    seconds: dict[str, float]
    ratios: dict[str, dict[str, float]]


def copy_calls(inputs: Sequence[np.ndarray], gradients: int = 1) -> dict[str, Call]:
    """The baseline with ordinary and with streaming stores; the faster one counts. It only reads where there are no gradients."""
    to = [aligned_like(inputs[0]) for _ in range(gradients)]
    return {_PLAIN: copy(to, inputs, streamed=False), _STREAMED: copy(to, inputs, streamed=True)}


def merge_copies(times: dict[str, list[float]]) -> None:
    """Replace the two baselines by the faster one, as ``copy``."""
    if _PLAIN in times:
        times["copy"] = list(faster(times.pop(_PLAIN), times.pop(_STREAMED)))


def outputs(definition: jitloss.definition.Definition, inputs: Sequence[np.ndarray]) -> Any:
    """Arrays for ``out=``, aligned to cache lines: one, or a dict of them where several inputs are differentiated."""
    pairs = zip(definition.inputs, inputs, strict=True)
    arrays = {one.name: aligned_like(array) for one, array in pairs if one.differentiable}
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def measure(work: Work, rounds: int, step: Callable[[str], None] = quiet) -> Row:
    """One row of the table. ``step`` is called for each round."""
    inputs = work.inputs()
    step(work.title)
    times = race(_contenders(work, inputs), rounds, step, work.title)
    merge_copies(times)
    seconds = {name: statistics.median(one) for name, one in times.items()}
    return Row(work, seconds, {ours: _ratios(times, times[ours]) for ours in (NEW, OUT) if ours in times})


def _ratios(times: dict[str, list[float]], ours: list[float]) -> dict[str, float]:
    others = {name: theirs for name, theirs in times.items() if name not in (NEW, OUT)}
    return {name: ratio(theirs, ours) if name in PEERS else ratio(ours, theirs) for name, theirs in others.items()}


def _contenders(work: Work, inputs: tuple[np.ndarray, ...]) -> dict[str, Call]:
    """All contenders that can do the work, by name; each has been called once, and agreed with our result."""
    form = jitloss.LOSSES[work.loss].value_and_gradient
    calls: dict[str, Call] = {NEW: partial(form, *inputs)}
    result = calls[NEW]()
    large = inputs[0].nbytes >= _LARGE
    if large:
        calls[OUT] = partial(form, *inputs, out=outputs(work.definition, inputs))
    for name, prepare in PEERS.items():
        try:
            call = prepare(work.loss, inputs)
        except ImportError:
            continue
        if call is not None:
            calls[name] = call
    for name, call in calls.items():
        agree(f"{name}, {work.title}", call(), result)
    if large:
        calls |= copy_calls(inputs, len(work.definition.differentiable))
        if work.definition.form == "rowwise":
            calls["np.copyto"] = partial(np.copyto, aligned_like(inputs[0]), inputs[0])
    return calls


def _gradients(result: Any) -> list[np.ndarray]:
    """The gradients as a list, one for each differentiable input, in order."""
    if isinstance(result, Mapping):
        result = tuple(result.values())
    return [np.asarray(one) for one in (result if isinstance(result, tuple) else (result,))]


def agree(who: str, theirs: tuple[Any, Any], ours: tuple[Any, Any]) -> None:
    """Check that a contender computes the same."""
    value = float(theirs[0])
    if not math.isclose(value, ours[0], rel_tol=1e-4):
        raise RuntimeError(f"{who}: the value is {value}, jitloss has {ours[0]}")
    for gradient, mine in zip(_gradients(theirs[1]), _gradients(ours[1]), strict=True):
        worst = float(np.abs(gradient - mine).max())
        if not np.allclose(gradient, mine, rtol=1e-4, atol=1e-6 * float(np.abs(mine).max())):
            raise RuntimeError(f"{who}: the gradient differs from that of jitloss by up to {worst:.3g}")
