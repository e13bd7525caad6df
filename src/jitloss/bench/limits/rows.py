"""The table of limits: how close to memory bandwidth each piece of work should come, and how it should compare with others."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

import jitloss
from jitloss.binding import plain
from jitloss.definition import Definition

from ..rounds import Call, race
from ..work import Work
from . import children, contests
from .races import race_row, value_and_gradient, with_peers
from .row import GROUPS, Goal, Row, Setting

__all__ = ["ROWS", "chosen"]

CE = "cross_entropy_with_logits"
LONG = tuple(Work(CE, shape, quick) for shape, quick in {(1024, 32000): (8, 32000), (256, 128256): (2, 128256)}.items())
MIDDLE = Work(CE, (8192, 1000), (256, 1000))
SHORT = {
    Work(CE, (65536, 10), (8192, 10)): 4,
    Work(CE, (1_000_000, 2), (40_000, 2)): 3,
    Work(CE, (65536, 100), (1024, 100)): 3,
}
"""And how many times as fast as JAX."""

_CURVED = tuple(
    jitloss.math.FUNCTIONS[name] for name in ("exp", "log", "log1p", "expm1", "tanh", "log_cosh", "sigmoid", "softplus", "power")
)


def _copy(limit: float) -> Goal:
    return Goal("copy", limit)


def _faster(**times: float) -> list[Goal]:
    return [Goal(name, limit, at_least=True) for name, limit in times.items()]


# Losses -----------------------------------------------------------------------------------------------------------------------


def computes_exp(definition: Definition) -> bool:
    """Whether a definition calls one of the functions that take more than a few instructions, directly or in a helper."""

    def calls(function: object) -> Iterator[object]:
        function = plain(function)
        code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
        for one in (known.get(name) for name in code.co_names) if code else ():
            yield one
            if getattr(one, "__module__", "") != jitloss.math.__name__:
                yield from calls(one)

    return any(one in _CURVED for part in definition.parts.values() for one in calls(part.function) if callable(one))


def _pointwise() -> Iterator[Row]:
    for name, loss in jitloss.LOSSES.items():
        if loss.definition.form == "pointwise":
            work = Work(name, (10_000_000,), (100_000,))
            if computes_exp(loss.definition):
                goals = [_copy(2.0 if name.startswith("focal") else 1.5), *_faster(NumPy=30, PyTorch=15, JAX=9)]
                yield race_row("transcendental", work.title, goals, partial(with_peers, work))
            else:
                yield race_row("pointwise", work.title, [_copy(1.2)], partial(with_peers, work))


def _cross_entropy() -> Iterator[Row]:
    for work in (*LONG, MIDDLE):
        goals = [_copy(2.0 if work is MIDDLE else 1.4), *_faster(JAX=6)]
        yield race_row("long", work.title, goals, partial(with_peers, work))
    for work, times in SHORT.items():
        yield race_row("short", work.title, _faster(JAX=times), partial(with_peers, work))


def _embeddings() -> Iterator[Row]:
    for name in ("triplet_loss", "contrastive_loss"):
        work = Work(name, (100_000, 128), (1000, 128))
        yield race_row("rows", work.title, _faster(NumPy=15, JAX=6), partial(with_peers, work))
    work = Work("kl_divergence", (8192, 1000), (256, 1000))
    yield race_row("rows", work.title, _faster(NumPy=10, JAX=5), partial(with_peers, work))


# Against itself ---------------------------------------------------------------------------------------------------------------


def _options() -> Iterator[Row]:
    for work in (MIDDLE, *LONG, *SHORT):
        for option in contests.OPTIONS:
            limit = 1.15 * (_dense_bytes(work) if option == "dense targets" else 1.0)
            prepare = partial(contests.with_option, option, work)
            yield race_row("options", f"{work.title}, {option}", [Goal("without", round(limit, 2))], prepare)


def _dense_bytes(work: Work) -> float:
    """The ratio of bytes moved with float32 rows as targets to those with int64 labels: logits, targets, gradient."""
    columns = work.shape[-1]
    return 12 * columns / (8 * columns + 8)


def _against_itself() -> Iterator[Row]:
    work = Work(CE, (16, 21, 512, 512), (2, 21, 64, 64))
    yield race_row("axis", f"{work.title}, axis=1", [Goal("last axis", 1.3)], partial(contests.inner_axis, work))
    work = Work(CE, (4096, 32000), (16, 32000))
    for dtype in ("float16", "bfloat16"):
        needs = ("ml_dtypes",) if dtype == "bfloat16" else ()
        yield race_row("half", f"{work.title}, {dtype}", [Goal("float32", 0.75)], partial(contests.half, dtype, work), needs)
    for work in (Work("focal_loss_with_logits", (1_000_000,), (100_000,)), Work(CE, (1024, 1000), (256, 1000))):
        yield race_row("threads", work.title, _faster(**{"one thread": 1.85}), partial(contests.threads, work))


LARGE = (
    Work("mse_loss", (10_000_000,), (100_000,)),
    Work("binary_cross_entropy_with_logits", (10_000_000,), (100_000,)),
    MIDDLE,
    LONG[0],
)


def _places() -> Iterator[Row]:
    for work in LARGE:
        yield race_row("in-place", work.title, [Goal("a separate out", 1.0)], partial(contests.in_place, work))
    for work in LARGE:
        for shift in contests.SHIFTS:
            prepare = partial(contests.misplaced, shift, work)
            yield race_row("alignment", f"{work.title}, {shift}", [Goal("aligned", 1.1)], prepare)


def _forms() -> Iterator[Row]:
    for work in (LARGE[0], Work("huber_loss", (10_000_000,), (100_000,)), LONG[0]):
        for which in contests.FORMS:
            yield race_row("forms", f"{work.title}, {which}", [_copy(1.3)], partial(contests.form, which, work))


# Numbers with a unit ----------------------------------------------------------------------------------------------------------


def _call(work: Work, setting: Setting) -> dict[str, float]:
    """Microseconds of a whole call."""
    inputs = work.inputs()
    calls: dict[str, Call] = {
        "out=": value_and_gradient(work, inputs),
        "new array": partial(jitloss.LOSSES[work.loss].value_and_gradient, *inputs),
    }
    times = race({name: calls[name] for name in setting.wanted}, setting.rounds, setting.step, work.title)
    return {name: 1e6 * float(np.median(one)) for name, one in times.items()}


def _units() -> Iterator[Row]:
    for name in ("mse_loss", CE):
        work = Work(name, (32, 10))
        yield Row("call", work.title, (Goal("out=", 2.5), Goal("new array", 3.0)), partial(_call, work))
    for work in (LARGE[1], MIDDLE):
        yield Row("processes", work.title, (Goal("alone", 2.5),), partial(children.two_processes, work))
    for work in (LARGE[1], MIDDLE, Work(CE, (65536, 10), (4096, 10))):
        yield Row("products", work.title, (Goal("each alone", 2.0),), partial(contests.with_products, work))
    first = (Goal("compiled", 250.0), Goal("from the disk cache", 15.0))
    yield Row("start", "first call, slowest of all losses", first, children.starting)
    yield Row("start", "import jitloss", (Goal("over numba", 15.0),), children.importing)
    goals = (Goal("beyond the gradient", 1.0), Goal("out=predictions", 1.0))
    shapes = {"pointwise": (10_000_000,), "rowwise": (10_000, 1000)}
    works = [(name, shapes[loss.definition.form], -1) for name, loss in jitloss.LOSSES.items()]
    yield Row("memory", "most of all losses", goals, partial(children.extra_memory, works))
    maps = [(CE, (16, 128, 256, 21), 1)]
    yield Row("memory", f"{CE} 16×21×128×256, axis=1", goals, partial(children.extra_memory, maps))


def _all() -> Iterable[Row]:
    for make in (_pointwise, _cross_entropy, _embeddings, _options, _against_itself, _places, _forms, _units):
        yield from make()


ROWS = tuple(sorted(_all(), key=lambda row: list(GROUPS).index(row.group)))


def chosen(words: Iterable[str]) -> tuple[Row, ...]:
    """The rows of each word that is a group, and those whose names contain a word that is not; all rows without words."""
    words = tuple(words)

    def wanted(row: Row, word: str) -> bool:
        return word == row.group if word in GROUPS else word in row.name

    rows = tuple(row for row in ROWS if not words or any(wanted(row, word) for word in words))
    if not rows:
        raise ValueError(f"no row matches {', '.join(words)}; the groups are {', '.join(GROUPS)}")
    return rows
