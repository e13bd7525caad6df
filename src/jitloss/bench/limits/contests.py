"""The contenders in the rows where this library is measured against itself, or against the bytes that a form must move."""

from functools import partial
from typing import Any

import numba
import numpy as np

import jitloss

from .. import roofs
from ..copying import aligned_like
from ..measure import copy_calls, outputs
from ..rounds import Call, race, ratio
from ..work import Work
from .races import Race, gradients, value_and_gradient
from .row import Setting, Unavailable

__all__ = [
    "FORMS",
    "OPTIONS",
    "SHIFTS",
    "form",
    "half",
    "in_place",
    "inner_axis",
    "misplaced",
    "threads",
    "with_option",
    "with_products",
]


def _sized(work: Work, quick: bool) -> tuple[Work, tuple[np.ndarray, ...]]:
    work = work.quickly() if quick else work
    return work, work.inputs()


# Options ----------------------------------------------------------------------------------------------------------------------

OPTIONS = ("dense targets", "class_weight", "label_smoothing", "ignore_index")


def with_option(option: str, work: Work, quick: bool) -> Race:
    """The same logits with and without an option; for ``ignore_index`` a tenth of the labels is ignored."""
    work, (logits, labels) = _sized(work, quick)
    call, targets = partial(jitloss.LOSSES[work.loss].value_and_gradient, out=aligned_like(logits)), labels
    given: dict[str, Any] = {}
    if option == "dense targets":
        targets = np.random.default_rng(1).random(logits.shape, np.float32)
        targets /= targets.sum(-1, keepdims=True)
    elif option == "class_weight":
        given["class_weight"] = np.linspace(0.5, 1.5, logits.shape[-1])
    elif option == "label_smoothing":
        given["label_smoothing"] = 0.1
    else:
        given["ignore_index"] = -1
        targets = np.where(np.random.default_rng(1).random(labels.shape) < 0.1, -1, labels)
    return Race.of_two(partial(call, logits, targets, **given), "without", partial(call, logits, labels))


# Axis, dtype, threads ---------------------------------------------------------------------------------------------------------


def inner_axis(work: Work, quick: bool) -> Race:
    """Classes along axis 1 of maps, and the same numbers with the classes last."""
    work = work.quickly() if quick else work
    count, classes, *area = work.shape
    last = Work(work.loss, (count, *area, classes))
    logits, labels = last.inputs()
    first = np.ascontiguousarray(np.moveaxis(logits, -1, 1))
    return Race.of_two(value_and_gradient(work, (first, labels), axis=1), "last axis", value_and_gradient(last, (logits, labels)))


def half(dtype: str, work: Work, quick: bool) -> Race:
    work, (logits, labels) = _sized(work, quick)
    if dtype == "bfloat16":
        import ml_dtypes

        kind = np.dtype(ml_dtypes.bfloat16)
    else:
        kind = np.dtype(dtype)
    ours = value_and_gradient(work, (logits.astype(kind), labels))
    return Race.of_two(ours, "float32", value_and_gradient(work, (logits, labels)))


def threads(work: Work, quick: bool) -> Race:
    if numba.config.NUMBA_NUM_THREADS < 2:
        raise Unavailable
    work, inputs = _sized(work, quick)
    call = value_and_gradient(work, inputs)

    def with_threads(number: int) -> None:
        with roofs.threads(number):
            call()

    return Race.of_two(partial(with_threads, 2), "one thread", partial(with_threads, 1))


BLAS_REST = 0.3
"""Seconds until the threads of BLAS, which spin waiting for the next product, sleep."""


def with_products(work: Work, setting: Setting) -> dict[str, float]:
    """A loop of a loss and a matrix product, as in training with NumPy, compared with the times of both in separate loops."""
    work, inputs = _sized(work, setting.quick)
    matrix = np.random.default_rng(1).random((512, 512), np.float32)
    call, product = value_and_gradient(work, inputs), partial(np.matmul, matrix, matrix, out=np.empty_like(matrix))

    def in_turn() -> None:
        call()
        product()

    contenders: dict[str, Call] = {"in turn": in_turn, "loss": call, "product": product}
    times = race(contenders, setting.rounds, setting.step, work.title, BLAS_REST)
    return {"each alone": ratio(times["in turn"], [*map(sum, zip(times["loss"], times["product"], strict=True))])}


# Where the gradient goes ------------------------------------------------------------------------------------------------------


def in_place(work: Work, quick: bool) -> Race:
    """The gradient written over the predictions, which are then the gradient in the next call: the work does not depend on values."""
    work, inputs = _sized(work, quick)
    mine = tuple(one.copy() for one in inputs)
    ours = partial(jitloss.LOSSES[work.loss].value_and_gradient, *mine, out=mine[0])
    return Race.of_two(ours, "a separate out", value_and_gradient(work, inputs))


SHIFTS = ("gradient off a line", "all arrays off a line", "odd size")


def _shifted(array: np.ndarray) -> np.ndarray:
    """A copy of an array that starts one element after a cache line boundary."""
    place = aligned_like(np.empty(array.size + 1, array.dtype))[1:].reshape(array.shape)
    place[...] = array
    return place


def misplaced(shift: str, work: Work, quick: bool) -> Race:
    work, inputs = _sized(work, quick)
    aligned = tuple(aligned_like(one) for one in inputs)
    for place, one in zip(aligned, inputs, strict=True):
        place[...] = one
    mine, shifted = aligned, work
    if shift == "odd size":
        shifted = Work(work.loss, (*work.shape[:-1], work.shape[-1] + 7))
        mine = shifted.inputs()
    elif shift == "all arrays off a line":
        mine = tuple(map(_shifted, aligned))
    out = aligned_like(mine[0]) if shift == "odd size" else _shifted(mine[0])
    return Race.of_two(value_and_gradient(shifted, mine, out=out), "aligned", value_and_gradient(work, aligned))


# Forms ------------------------------------------------------------------------------------------------------------------------

FORMS = ("value only", "gradient only", 'reduction="none"')


def form(which: str, work: Work, quick: bool) -> Race:
    """A form of a loss; the copy reads the inputs and writes as many arrays of their size as the form does."""
    work, inputs = _sized(work, quick)
    loss, written = jitloss.LOSSES[work.loss], gradients(work)
    call: Call
    if which == "value only":
        call, written = partial(loss, *inputs), 0
    elif which == "gradient only":
        call = partial(loss.gradient, *inputs, out=outputs(work.definition, inputs))
    else:
        call = value_and_gradient(work, inputs, reduction="none")
        written += work.definition.form == "pointwise"
    return Race(call, {"copy": lambda: copy_calls(inputs, written)})
