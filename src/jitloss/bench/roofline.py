"""The operations and bytes per element of each loss on one core, at sizes that fit in the caches and at one that does not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import jitloss

from .kernels import BareCall, counted_operations
from .roofs import best
from .rounds import Step, quiet
from .work import inputs_for

__all__ = ["COLUMNS", "LEVELS", "WIDTH", "Level", "Point", "inputs_of_size", "points"]

COLUMNS = {"cross_entropy_loss": 1000, "cross_entropy_with_logits": 1000, "kl_divergence": 1000}
WIDTH = 128
"""Elements of a row; of embeddings, which :data:`COLUMNS` does not name."""


@dataclass(frozen=True)
class Level:
    """Where the arrays of a call are: a name, and how many bytes they take together."""

    name: str
    size: int


LEVELS = (Level("L2 cache", 2**19), Level("last-level cache", 2**24), Level("memory", 3 * 2**27))


@dataclass(frozen=True)
class Point:
    """One element of a loss at a level: operations, bytes that must be moved, seconds on one core."""

    loss: str
    level: Level
    operations: float
    bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        """Operations per byte (arithmetic intensity)."""
        return self.operations / self.bytes


def bytes_of(loss: jitloss.Loss, inputs: Sequence[np.ndarray]) -> int:
    """Bytes that a call must move: its inputs and its gradients."""
    gradients = len(loss.definition.differentiable)
    return sum(one.nbytes for one in inputs) + gradients * inputs[0].nbytes


def inputs_of_size(loss: jitloss.Loss, size: int) -> tuple[np.ndarray, ...]:
    """Inputs of a call that moves about ``size`` bytes, to within a row."""
    row = (COLUMNS.get(loss.__name__, WIDTH),) if loss.definition.form == "rowwise" else ()
    few = bytes_of(loss, inputs_for(loss.definition, (64, *row))) / 64
    return inputs_for(loss.definition, (max(1, round(size / few)), *row))


def points(levels: Sequence[Level] = LEVELS, step: Step = quiet, count: bool = True) -> Iterator[Point]:
    """Every loss at every level; operations are only counted if ``count`` is set."""
    for name, loss in jitloss.LOSSES.items():
        step(name)
        operations = 0.0
        for position, level in enumerate(levels):
            inputs = inputs_of_size(loss, level.size)
            call, size = BareCall(loss, inputs), inputs[0].size
            if count and not position:
                operations = counted_operations(call) / size
            yield Point(name, level, operations, bytes_of(loss, inputs) / size, min(map(best, call.ways())) / size)
