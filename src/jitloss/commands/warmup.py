"""``jitloss warmup``: compile now, so that later processes do not have to."""

import argparse
import time
from collections.abc import Iterator

import numpy as np

import jitloss

from ..bench.progress import progress
from ..bench.work import inputs_for
from ..definition import Definition
from ..running import SERIAL, compiler
from .common import find_loss
from .info import cache_line

__all__ = ["add_arguments", "command"]

HELP = "compile losses into the disk cache"
FORMS = ("value", "gradient", "value_and_gradient")
DTYPES = (np.float32, np.float64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("losses", nargs="*", metavar="LOSS", help="which losses; default: all of them")


def command(arguments: argparse.Namespace) -> None:
    losses = [find_loss(name) for name in dict.fromkeys(arguments.losses)] or list(jitloss.LOSSES.values())
    begin, calls = time.perf_counter(), [(loss, inputs) for loss in losses for inputs in _inputs(loss.definition)]
    with progress(len(calls) * len(FORMS) + 1) as step:
        step("drivers")
        for size in (1, 1, 2 * SERIAL):  # the slow path, the fast path, all threads
            jitloss.mse_loss(np.zeros(size), np.zeros(size))
        for loss, inputs in calls:
            for form in FORMS:
                step(loss.__name__)
                getattr(loss, form)(*inputs)
    kernels, seconds = len(calls) * len(FORMS), time.perf_counter() - begin
    print(f"{len(losses)} {'loss' if len(losses) == 1 else 'losses'}, {kernels} kernels ready in {seconds:.1f} s")
    print(f"disk cache: {cache_line()}")


def _inputs(definition: Definition) -> Iterator[tuple[np.ndarray, ...]]:
    """Small inputs that need every kernel: float32 and float64, short and long rows, dense targets and labels."""
    cpu = compiler()
    columns = (
        4,
        cpu.SHORTEST_PATCHED[cpu.vector_bytes()][0],
        cpu.LONGEST + 1,
        cpu.LONGEST_KEPT_ROW + 1,
    )
    for labels in (False, True) if definition.takes_labels else (False,):
        shapes = {cpu.layout(definition, one, 1, labels): (1, one) for one in reversed(columns)}
        for shape in reversed(shapes.values()) if definition.form == "rowwise" else [(4,)]:
            for dtype in DTYPES:
                yield inputs_for(definition, shape, dtype, labels=labels)
