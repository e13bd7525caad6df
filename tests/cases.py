"""Inputs for every loss, drawn from the spaces of its definition; tolerances; edge cases as data."""

import zlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import jitloss

__all__ = [
    "ALL",
    "CASES",
    "DTYPES",
    "EDGES",
    "PARAMETERS",
    "PARAMETRISED",
    "ROWS",
    "Case",
    "Edge",
    "agree",
    "draw",
    "flat",
    "is_binary",
    "weights",
]

ALL = list(jitloss.LOSSES.values())
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}

TOLERANCE = {"float16": 6e-4, "bfloat16": 4.5e-3, "float32": 4e-6, "float64": 1e-14}
"""What a result of a dtype may be wrong by, relative to itself and to the largest number in sight: for the half types little more
than their own rounding, for the others some 40 units in the last place."""


class Case(NamedTuple):
    """A loss, and whether its targets are integer labels."""

    loss: Any
    labels: bool = False

    def __repr__(self) -> str:
        return self.loss.__name__ + ("-labels" if self.labels else "")

    @property
    def name(self) -> str:
        return self.loss.__name__

    @property
    def rowwise(self) -> bool:
        return self.loss.definition.form == "rowwise"

    @property
    def shape(self) -> tuple[int, ...]:
        """A small shape that is not a multiple of any vector or block size."""
        return (33, 7) if self.rowwise else (33,)


CASES = [Case(loss, labels) for loss in ALL for labels in ([False, True] if loss.definition.takes_labels else [False])]
ROWS = [case for case in CASES if case.rowwise]


def is_binary(case: Case) -> bool:
    target = case.loss.definition.target
    return target is not None and target.space.name == "binary"


# Numbers that a loss may meet -------------------------------------------------------------------------------------------------


def draw(
    case: Case, shape: tuple[int, ...], dtype: Any = "float64", *, axis: int = -1, seed: int = 0, ignored: bool = False
) -> list[Any]:
    """The inputs of a call, in public order; every third row has the ignored label where ``ignored``."""
    random = np.random.default_rng([zlib.crc32(case.name.encode()), *shape, seed])
    columns = shape[axis] if case.rowwise else 0
    items = tuple(np.delete(shape, axis)) if case.rowwise else shape
    inputs = []
    for one in case.loss.definition.inputs:
        space = one.space.name
        if one.per_row:
            numbers = random.integers(0, 2, items)
        elif space == "classes" and case.labels:
            labels = random.integers(0, columns, items)
            labels.reshape(-1)[1::3] = -100 if ignored else labels.reshape(-1)[1::3]
            inputs.append(labels)
            continue
        else:
            numbers = _numbers(space, random, shape, axis if case.rowwise else None)
        inputs.append(np.asarray(numbers).astype(DTYPES[dtype]))
    return inputs


def _numbers(space: str, random: np.random.Generator, shape: tuple[int, ...], axis: int | None) -> Any:
    normal = 2.0 * random.standard_normal(shape)
    match space:
        case "real" | "logit" | "embedding" | "parameter":
            return normal
        case "log-rate":
            return random.uniform(-2.0, 3.0, shape)
        case "count":
            return random.poisson(2.0, shape)
        case "sign":
            return random.choice([-1.0, 1.0], shape)
        case "binary":
            return np.where(random.random(shape) < 0.8, random.integers(0, 2, shape), random.random(shape))
        case "probability" if axis is None:
            return random.uniform(0.001, 0.999, shape)
        case "probability" | "distribution" | "classes":
            shares = np.exp(normal)
            if space != "probability":
                shares = shares * (random.random(shape) < 0.7)  # some classes without any weight
            mass = 1.25 if space == "classes" else 1.0
            return mass * shares / np.maximum(shares.sum(axis, keepdims=True), 1e-9)
    raise NotImplementedError(f"no numbers for the space {space!r}")


def weights(items: tuple[int, ...], seed: int = 0) -> Any:
    """Sample weights, some of them 0."""
    random = np.random.default_rng([*items, seed])
    return random.uniform(0.0, 2.0, items) * (random.random(items) < 0.8)


PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "huber_loss": [{"delta": 0.3}, {"delta": 2.5}],
    "quantile_loss": [{"quantile": 0.1}, {"quantile": 0.85}],
    "poisson_nll_loss": [{"full": True}],
    "cross_entropy_loss": [{"epsilon": 0.05}],
    "cross_entropy_with_logits": [{"z_loss": 0.01}, {"softcap": 3.0}, {"z_loss": 0.1, "softcap": 1.5}],
    "kl_divergence": [{"epsilon": 0.05}],
    "binary_cross_entropy": [{"epsilon": 0.05}, {"pos_weight": 3.0}, {"epsilon": 0.05, "pos_weight": 0.5}],
    "binary_cross_entropy_with_logits": [{"pos_weight": 3.0}, {"pos_weight": 0.0}],
    "focal_loss": [
        {"gamma": 0.0},
        {"gamma": 0.5, "alpha": 0.9},
        {"gamma": 1.0, "epsilon": 0.05},
        {"alpha": None},
        {"gamma": 5.0, "alpha": None, "epsilon": 0.05},
    ],
    "focal_loss_with_logits": [{"gamma": 0.0}, {"gamma": 0.5, "alpha": 0.9}, {"alpha": None}, {"gamma": 5.0, "alpha": None}],
    "triplet_loss": [{"margin": 0.0}, {"margin": 3.5}, {"squared": True}, {"squared": True, "margin": 0.2}],
    "contrastive_loss": [{"margin": 0.0}, {"margin": 8.0}],
    "l1_regularization": [{"strength": 0.7}, {"strength": 0.0}],
    "l2_regularization": [{"strength": 0.7}, {"strength": 0.0}],
    "elastic_net": [{"strength": 0.7, "l1_ratio": 0.0}, {"strength": 0.7, "l1_ratio": 0.15}, {"l1_ratio": 1.0}],
}
"""Values of the parameters other than their defaults; the tests look that none is left out."""


PARAMETRISED = [(case, given) for case in CASES for given in PARAMETERS.get(case.name, [])]


# Agreement --------------------------------------------------------------------------------------------------------------------


def agree(got: Any, want: Any, dtype: str | None = None, *, size: float = 0.0, looser: float = 1.0, what: str = "") -> None:
    """Assert that a result is as expected, within the tolerance of its own dtype (or of the named one, for plain numbers).

    Errors are relative to a number, to the largest in its array, and to ``size``, that of the numbers it is a difference of.
    """
    if isinstance(want, dict):
        assert set(got) == set(want), what
        for key in want:
            agree(got[key], want[key], dtype, size=size, looser=looser, what=f"{what} {key}")
        return
    got = np.asarray(got)
    own = got.dtype.name if dtype is None or got.ndim else dtype
    limits = ml_dtypes.finfo(DTYPES[own])
    with np.errstate(over="ignore"):
        wanted = np.asarray(want).astype(np.float64).astype(DTYPES[own]).astype(np.float64)  # overflow is right where it is due
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, wanted {wanted.shape}"
    got = got.astype(np.float64)
    tolerance = looser * TOLERANCE[own]
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=size)
    allowed = tolerance * (np.abs(wanted) + min(largest, 1e30)) + float(limits.smallest_subnormal)
    with np.errstate(invalid="ignore"):
        right = (got == wanted) | (np.isnan(got) & np.isnan(wanted)) | (np.abs(got - wanted) <= allowed)
    if not right.all():
        error = np.where(right, 0.0, np.nan_to_num(np.abs(got - wanted), nan=np.inf))
        worst = np.unravel_index(np.argmax(error), error.shape)
        raise AssertionError(
            f"{what}: {np.count_nonzero(~right)} of {right.size} wrong; at {[int(i) for i in worst]} got {got[worst]!r}, "
            f"wanted {wanted[worst]!r}, allowed {np.broadcast_to(allowed, wanted.shape)[worst]:.3g}"
        )


def flat(gradient: Any) -> list[Any]:
    """The gradients of a call as a flat list."""
    return list(gradient.values()) if isinstance(gradient, dict) else [gradient]


# Edges: every number here was worked out by hand --------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
LN2, EPS = float(np.log(2.0)), 1e-7
FAR = -float(np.log(EPS))
BIG = float(np.finfo(np.float32).max)
"""Which masks use, with a minus: what is no class of a row."""


class Edge(NamedTuple):
    """A call with ``reduction="none"`` and its expected results: a value per item, a gradient per element (or a dict of them)."""

    name: str
    inputs: tuple[Any, ...]
    value: Any
    gradient: Any
    options: dict[str, Any] = {}  # noqa: RUF012

    def __repr__(self) -> str:
        return self.name


EDGES = [
    Edge(
        "mse_loss",
        ([1e4, -INF, INF, NAN, 1, 0], [-1e4, 0, 0, 0, 1, NAN]),
        [4e8, INF, INF, NAN, 0, NAN],
        [4e4, -INF, INF, NAN, 0, NAN],
    ),
    Edge("l1_loss", ([1, 1e4, INF, -INF, NAN], [1, -1e4, 0, 0, 0]), [0, 2e4, INF, INF, NAN], [0, 1, 1, -1, NAN]),
    Edge(
        "huber_loss",
        ([1e4, -1e4, INF, -INF, NAN, 3, 1, -1], [0, 0, 0, 0, 0, 3, 0, 0]),
        [1e4 - 0.5, 1e4 - 0.5, INF, INF, NAN, 0, 0.5, 0.5],
        [1, -1, 1, -1, NAN, 0, 1, -1],
    ),
    Edge(
        "log_cosh_loss",
        ([1e4, -1e4, INF, -INF, NAN, 2], [0, 0, 0, 0, 0, 2]),
        [1e4 - LN2, 1e4 - LN2, INF, INF, NAN, 0],
        [1, -1, 1, -1, NAN, 0],
    ),
    Edge(
        "quantile_loss",
        ([2, 1e4, -1e4, INF, -INF, NAN], [2, 0, 0, 0, 0, 0]),
        [0, 7.5e3, 2.5e3, INF, INF, NAN],
        [0, 0.75, -0.25, 0.75, -0.25, NAN],
        {"quantile": 0.25},
    ),
    Edge(
        "poisson_nll_loss",
        ([0, 0, -INF, -INF, -1e4, 1e4, INF, NAN], [0, 3, 0, 2, 2, 1, 0, 0]),
        [1, 1, 0, INF, 2e4, INF, INF, NAN],
        [1, -2, 0, -2, -2, INF, INF, NAN],
    ),
    Edge("poisson_nll_loss", ([0, 0, 0], [0, 1, 2]), [1, 1, 2 * LN2 - 1 + 0.5 * np.log(4 * np.pi)], [1, 0, -1], {"full": True}),
    Edge(
        "cross_entropy_loss",
        ([[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0]], [0, 1, 1]),
        [0, FAR, LN2],
        [[-1, 0, 0], [0, -1 / EPS, 0], [0, -2, 0]],
    ),
    Edge(
        "cross_entropy_loss",
        ([[1, 0], [0, 1], [NAN, 1]], [[1, 0], [0.5, 0], [1, 0]]),
        [0, FAR / 2, NAN],
        [[-1, 0], [-0.5 / EPS, 0], [NAN, 0]],
    ),
    Edge("cross_entropy_loss", ([[NAN, INF], [0.5, 0.5]], [-100, 0]), [0, LN2], [[0, 0], [-2, 0]]),
    Edge("cross_entropy_with_logits", ([[1e4, -1e4, 0], [1e4, -1e4, 0]], [0, 1]), [0, 2e4], [[0, 0, 0], [1, -1, 0]]),
    Edge("cross_entropy_with_logits", ([[-INF, 0, 0], [-INF, 0, 0]], [1, 0]), [LN2, INF], [[0, -0.5, 0.5], [-1, 0.5, 0.5]]),
    Edge(
        "cross_entropy_with_logits",
        ([[INF, 0], [0, NAN], [INF, -INF], [0, 0]], [0, 0, 1, 0]),
        [NAN, NAN, NAN, LN2],
        [[NAN, NAN], [NAN, NAN], [NAN, NAN], [-0.5, 0.5]],
    ),
    Edge(
        "cross_entropy_with_logits",
        ([[-INF, 0, 0], [1e4, 0, -INF], [1e4, 0, -INF]], [[0, 0.5, 0.5], [1, 0, 0], [0, 1, 0]]),
        [LN2, 0, 1e4],
        [[0, 0, 0], [0, 0, 0], [1, -1, 0]],
    ),
    Edge(
        "cross_entropy_with_logits",
        ([[INF, NAN], [0, 0], [-INF, -INF]], [-100, 1, -100]),
        [0, LN2, 0],
        [[0, 0], [0.5, -0.5], [0, 0]],
    ),
    Edge("cross_entropy_with_logits", ([[NAN, INF], [0, 0]], [7, 1]), [0, LN2], [[0, 0], [0.5, -0.5]], {"ignore_index": 7}),
    Edge("cross_entropy_with_logits", ([[5.0], [-1e4]], [0, 0]), [0, 0], [[0], [0]]),
    Edge("cross_entropy_with_logits", ([0, 0], 1), LN2, [0.5, -0.5]),
    Edge("cross_entropy_with_logits", ([0, 0], [0.5, 0.5]), LN2, [0, 0]),
    Edge("cross_entropy_with_logits", ([[1e4, -1e4], [0, 0]], [0, 0]), [0, LN2], [[0, 0], [-0.5, 0.5]], {"softcap": 50.0}),
    Edge(
        "cross_entropy_with_logits", ([[0, NAN], [0, NAN]], [0, 0]), [0, NAN], [[0, 0], [NAN, NAN]], {"sample_weight": [0.0, 1.0]}
    ),
    Edge(
        "kl_divergence",
        ([[0.5, 0.5], [0.25, 0.75], [0, 1], [NAN, 1]], [[1, 0], [0.25, 0.75], [1, 0], [1, 0]]),
        [LN2, 0, FAR, NAN],
        [[-2, 0], [-1, -1], [-1 / EPS, 0], [NAN, 0]],
    ),
    Edge(
        "binary_cross_entropy",
        ([0, 1, 0, 1, 0, 0.5, NAN], [0, 0, 1, 1, 0.5, 1, 1]),
        [0, FAR, FAR, 0, FAR / 2, LN2, NAN],
        [1, 1 / EPS, -1 / EPS, -1, 0.5 - 0.5 / EPS, -2, NAN],
    ),
    Edge(
        "binary_cross_entropy_with_logits",
        ([1e4, -1e4, 1e4, -1e4, -INF, -INF, INF, INF, NAN, 0], [1, 1, 0, 0, 0, 1, 0, 1, 0, 1]),
        [0, 1e4, 1e4, 0, 0, INF, NAN, NAN, NAN, LN2],
        [0, -1, 1, 0, 0, -1, NAN, NAN, NAN, -0.5],
    ),
    Edge(
        "focal_loss",
        ([1, 0, 0.5, NAN], [1, 1, 0, 1]),
        [0, FAR, LN2 / 4, NAN],
        [-(EPS**2), -(2 * FAR + 1 / EPS), LN2 + 0.5, NAN],
        {"alpha": None},
    ),
    Edge("focal_loss", ([0.5, 0.5], [1, 0]), [0.25 * LN2, 0.75 * LN2], [-0.5, 1.5], {"gamma": 0.0}),
    Edge(
        "focal_loss_with_logits",
        ([0, 1e4, -1e4, 1e4, -INF, -INF, INF, INF, NAN], [1, 1, 1, 0, 0, 1, 0, 1, 0]),
        [LN2 / 4, 0, 1e4, 1e4, 0, INF, NAN, NAN, NAN],
        [-(LN2 + 0.5) / 4, 0, -1, 1, 0, -1, NAN, NAN, NAN],
        {"alpha": None},
    ),
    Edge(
        "focal_loss_with_logits",
        ([0, 1e4, -1e4, -INF, -INF], [1, 1, 1, 0, 1]),
        [LN2 / 4, 0, 2500, 0, INF],
        [-0.125, 0, -0.25, 0, -0.25],
        {"gamma": 0.0},
    ),
    Edge(
        "hinge_loss",
        ([1, 0, 2, -1, 1e4, -INF, INF, NAN], [1, 1, 1, -1, -1, 1, 1, 1]),
        [0, 1, 0, 0, 10001, INF, 0, NAN],
        [0, -1, 0, 0, 1, -1, 0, NAN],
    ),
    Edge("hinge_loss", ([0, 0, 3], [True, False, False]), [1, 1, 4], [-1, 1, 1]),
    Edge(
        "triplet_loss",  # all in one place; at the kink; anchor on its positive; far apart; NaN
        (
            [[1, 2], [0, 0], [0, 0], [0, 0], [NAN, 0]],
            [[1, 2], [0, 0], [0, 0], [3e4, 4e4], [0, 0]],
            [[1, 2], [0, 1], [0, 0.5], [0, 1], [1, 0]],
        ),
        [1, 0, 0.5, 5e4, NAN],
        {
            "anchor": [[0, 0], [0, 0], [0, 1], [-0.6, -0.8 + 1], [NAN, NAN]],
            "positive": [[0, 0], [0, 0], [0, 0], [0.6, 0.8], [NAN, NAN]],
            "negative": [[0, 0], [0, 0], [0, -1], [0, -1], [NAN, NAN]],
        },
    ),
    Edge(
        "triplet_loss",
        ([[0, 0]], [[1, 0]], [[0, 2]]),
        [1],
        {"anchor": [[-2, 4]], "positive": [[2, 0]], "negative": [[0, -4]]},
        {"squared": True, "margin": 4.0},
    ),
    Edge("triplet_loss", ([0, 0], [3, 4], [0, 1]), 5, {"anchor": [-0.6, 0.2], "positive": [0.6, 0.8], "negative": [0, -1]}),
    Edge(
        "contrastive_loss",  # both in one place; beyond the margin; at the margin; within it; same and far; NaN
        (
            [[1, 2], [1, 2], [3, 4], [1, 0], [0.5, 0], [3e3, 4e3], [NAN, 0]],
            [[1, 2], [1, 2], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]],
            [1, 0, 0, 0, 0, 1, 0],
        ),
        [0, 1, 0, 0, 0.25, 2.5e7, NAN],
        {
            "embedding1": [[0, 0], [0, 0], [0, 0], [0, 0], [-1, 0], [6e3, 8e3], [NAN, NAN]],
            "embedding2": [[0, 0], [0, 0], [0, 0], [0, 0], [1, 0], [-6e3, -8e3], [NAN, NAN]],
        },
    ),
    Edge("l1_regularization", ([0, 2, -1e4],), 100.02, [0, 0.01, -0.01]),
    Edge("l2_regularization", ([0, 2, -4],), 0.1, [0, 0.02, -0.04]),
    Edge("elastic_net", ([0, 2, -4],), 0.08, [0, 0.015, -0.025]),
    Edge("l1_regularization", ([0, INF, NAN],), NAN, [0, 0.01, NAN]),
    # BIG among the values would widen what the others may be wrong by, so there are two of each
    Edge(
        "cross_entropy_with_logits",
        ([[1, 1, -BIG], [1, -BIG, -BIG], [BIG, 0, -BIG], [-3e38, 0, 0]], [0, 0, 0, 1]),
        [LN2, 0, 0, LN2],
        [[-0.5, 0.5, 0], [0, 0, 0], [0, 0, 0], [0, -0.5, 0.5]],
    ),
    Edge("cross_entropy_with_logits", ([[BIG, 0], [0, 3e38]], [1, 0]), [BIG, 3e38], [[1, -1], [-1, 1]]),
    Edge(
        "cross_entropy_with_logits",
        ([[1, 1, -BIG], [BIG, 0, 0], [0, 0, -3e38]], [[0.5, 0.5, 0], [1, 0, 0], [0, 1, 0]]),
        [LN2, 0, LN2],
        [[0, 0, 0], [0, 0, 0], [0.5, -0.5, 0]],
    ),
    Edge("cross_entropy_with_logits", ([[BIG, 0]], [[0, 1]]), [BIG], [[1, -1]]),
    Edge("binary_cross_entropy_with_logits", ([BIG, 3e38, -BIG, -3e38], [1, 1, 0, 0]), [0, 0, 0, 0], [0, 0, 0, 0]),
    Edge("binary_cross_entropy_with_logits", ([BIG, 3e38, -BIG, -3e38], [0, 0, 1, 1]), [BIG, 3e38, BIG, 3e38], [1, 1, -1, -1]),
    Edge("focal_loss_with_logits", ([BIG, -BIG, 3e38, -3e38], [1, 0, 1, 0]), [0, 0, 0, 0], [0, 0, 0, 0], {"alpha": None}),
    Edge("focal_loss_with_logits", ([BIG, -BIG], [0, 1]), [BIG, BIG], [1, -1], {"alpha": None}),
    Edge("poisson_nll_loss", ([-BIG, -3e38, BIG, 3e38], [0, 0, 1, 1]), [0, 0, INF, INF], [0, 0, INF, INF]),
    Edge("poisson_nll_loss", ([-BIG, -3e38], [1, 1]), [BIG, 3e38], [-1, -1]),
    Edge("log_cosh_loss", ([BIG, -BIG], [0, 0]), [BIG, BIG], [1, -1]),
]
