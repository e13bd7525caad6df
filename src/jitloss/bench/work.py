"""What is measured: a loss at a shape, with inputs drawn from the spaces of its definition."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import jitloss

from ..definition import Definition

__all__ = ["WORKS", "Work", "inputs_for"]

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape, Any], np.ndarray]


@dataclass(frozen=True)
class Work:
    """Value and gradient of a loss on float32 arrays of a shape; ``quick`` is the shape for a quick run."""

    loss: str
    shape: Shape
    quick: Shape | None = None

    @classmethod
    def parse(cls, text: str) -> "Work":
        """``l1_loss``, ``l1_loss:1000000`` or ``kl_divergence:4096x100``."""
        name, _, sizes = text.partition(":")
        if name not in jitloss.LOSSES:
            raise ValueError(f"no loss is called {name!r}; there are {', '.join(jitloss.LOSSES)}")
        rowwise = jitloss.LOSSES[name].definition.form == "rowwise"
        try:
            shape = tuple(int(size) for size in sizes.split("x")) if sizes else ((8192, 1000) if rowwise else (10_000_000,))
        except ValueError:
            shape = ()
        if len(shape) < 1 + rowwise or min(shape) < 1:
            raise ValueError(f"{text!r}: the shape after the colon is written like {'8192x1000' if rowwise else '1000000'}")
        return cls(name, shape)

    @property
    def title(self) -> str:
        return f"{self.loss} {'×'.join(_short(size) for size in self.shape)}"

    @property
    def definition(self) -> Definition:
        return jitloss.LOSSES[self.loss].definition

    def quickly(self) -> "Work":
        return Work(self.loss, self.quick or self.shape)

    def inputs(self) -> tuple[np.ndarray, ...]:
        return inputs_for(self.definition, self.shape)


def _short(size: int) -> str:
    return f"{size // 1_000_000}M" if size and size % 1_000_000 == 0 else str(size)


WORKS = (
    Work("mse_loss", (10_000_000,), (1_000_000,)),
    Work("huber_loss", (10_000_000,), (1_000_000,)),
    Work("binary_cross_entropy_with_logits", (10_000_000,), (1_000_000,)),
    Work("cross_entropy_with_logits", (8192, 1000), (1024, 1000)),
    Work("cross_entropy_with_logits", (1024, 32000), (64, 32000)),
    Work("cross_entropy_with_logits", (256, 128256), (16, 128256)),
    Work("cross_entropy_with_logits", (65536, 10), (8192, 10)),
    Work("cross_entropy_with_logits", (32, 10)),
)
"""The rows of the table in the README. To add one, add a line here, or use ``jitloss bench LOSS:SHAPE``."""


def _normal(scale: float) -> Draw:
    def draw(rng: np.random.Generator, shape: Shape, dtype: Any) -> np.ndarray:
        numbers: np.ndarray = scale * rng.standard_normal(shape, np.float32)
        return numbers.astype(dtype, copy=False)

    return draw


def _distribution(rng: np.random.Generator, shape: Shape, dtype: Any) -> np.ndarray:
    weights: np.ndarray = rng.random(shape, np.float32) + np.float32(0.01)
    weights /= weights.sum(-1, keepdims=True)
    return weights.astype(dtype, copy=False)


def _coin(rng: np.random.Generator, shape: Shape, dtype: Any) -> np.ndarray:
    return (rng.random(shape, np.float32) < 0.5).astype(dtype)


_SPACES: dict[str, Draw] = {
    "real": _normal(1.0),
    "logit": _normal(3.0),
    "embedding": _normal(1.0),
    "log-rate": _normal(1.0),
    "parameter": _normal(0.1),
    "probability": lambda rng, shape, dtype: (0.98 * rng.random(shape, np.float32) + 0.01).astype(dtype, copy=False),
    "distribution": _distribution,
    "classes": _distribution,
    "binary": _coin,
    "same": _coin,
    "sign": lambda rng, shape, dtype: 2 * _coin(rng, shape, dtype) - dtype(1),
    "count": lambda rng, shape, dtype: rng.poisson(2.0, shape).astype(dtype),
}


def inputs_for(
    definition: Definition,
    shape: Shape,
    dtype: Any = np.float32,
    rng: np.random.Generator | None = None,
    labels: bool = True,
) -> tuple[np.ndarray, ...]:
    """Arrays for a loss, in the order of its arguments; int64 ``labels`` where the loss takes them."""
    rng, rowwise, arrays = rng or np.random.default_rng(0), definition.form == "rowwise", []
    for one in definition.inputs:
        if labels and definition.takes_labels and one is definition.target:
            arrays.append(rng.integers(shape[-1], size=shape[:-1]))
            continue
        space = "distribution" if rowwise and one.space.name == "probability" else one.space.name
        arrays.append(_SPACES[space](rng, shape[:-1] if one.per_row else shape, np.dtype(dtype).type))
    return tuple(arrays)
