"""Figures that need separate processes: two that compute at once, and one whose memory is monitored."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import jitloss
from jitloss import buffers

from ..measure import outputs
from ..rounds import ratio
from ..startup import STARTS, first_calls, import_seconds, python
from ..work import Work
from .row import Setting, Unavailable

__all__ = ["extra_memory", "importing", "starting", "two_processes"]

# Two processes ----------------------------------------------------------------------------------------------------------------

SECONDS = 0.3
"""Duration of one measurement of a worker."""


def work_on_demand(text: str) -> None:
    """A worker: for each line on stdin, a number of seconds, it computes for that long and answers with the time per call."""
    import time

    from .races import value_and_gradient

    work = Work.parse(text)
    call = value_and_gradient(work, work.inputs())
    call()
    print("ready", flush=True)
    for line in sys.stdin:
        begin, number = time.perf_counter(), 0
        while (passed := time.perf_counter() - begin) < float(line):
            call()
            number += 1
        print(passed / number, flush=True)


class _Worker:
    def __init__(self, work: Work) -> None:
        text = f"{work.loss}:{'x'.join(map(str, work.shape))}"
        code = f"import jitloss.bench.limits.children as c; c.work_on_demand({text!r})"
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", code], **pipes)

    def ask(self, seconds: float) -> None:
        print(seconds, file=self.process.stdin, flush=True)

    def answer(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a measuring subprocess ended with {self.process.wait()}")
        return line


@contextmanager
def _workers(work: Work) -> Iterator[tuple[_Worker, _Worker]]:
    pair = _Worker(work), _Worker(work)
    try:
        for one in pair:
            one.answer()  # ready
        yield pair
    finally:
        for one in pair:
            assert one.process.stdin is not None
            one.process.stdin.close()
            one.process.wait(30)


def two_processes(work: Work, setting: Setting) -> dict[str, float]:
    """The time of a call while another process does the same on all cores, relative to the time of one process alone."""
    alone, beside, seconds = [], [], SECONDS / 10 if setting.quick else SECONDS
    with _workers(work.quickly() if setting.quick else work) as (mine, other):
        for _ in range(setting.rounds):
            mine.ask(seconds)
            alone.append(float(mine.answer()))
            other.ask(2 * seconds)
            mine.ask(seconds)
            beside.append(float(mine.answer()))
            other.answer()
            setting.step(work.title)
    return {"alone": ratio(beside, alone)}


# Memory -----------------------------------------------------------------------------------------------------------------------

MIB = 2**20


def _status(key: str) -> int:
    """A number of bytes that the kernel reports for this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"the kernel does not tell {key}")


def _grown(call: Any) -> int:
    """By how much a call raises the peak of resident memory; that of the second call, after compilation."""
    call()
    buffers.release()  # so that a new array needs new memory
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS:")
    result = call()
    grown = _status("VmHWM:") - before
    del result
    return grown


def print_memory(works: list[tuple[str, list[int], int]]) -> None:
    """Run in the monitored process: for each work, MiB beyond the gradient, with a new gradient and over the predictions."""
    shown = []
    for name, shape, axis in works:
        loss = jitloss.LOSSES[name]
        inputs = list(Work(name, tuple(shape)).inputs())
        given = {} if axis == -1 else {"axis": axis}
        if given:
            inputs[0] = np.ascontiguousarray(np.moveaxis(inputs[0], -1, axis))
        mine = outputs(loss.definition, inputs)
        gradient = sum(one.nbytes for one in (mine.values() if isinstance(mine, dict) else (mine,)))
        del mine
        pairs = {one.name: array for one, array in zip(loss.definition.inputs, inputs, strict=True) if one.differentiable}
        out = pairs if len(pairs) > 1 else inputs[0]
        call = partial(loss.value_and_gradient, *inputs, **given)
        shown.append([(_grown(call) - gradient) / MIB, _grown(partial(call, out=out)) / MIB])
    print(json.dumps(shown))


def extra_memory(works: Sequence[tuple[str, Sequence[int], int]], setting: Setting) -> dict[str, float]:
    """The worst of several works (loss, shape with the classes last, class axis), in MiB."""
    if not Path("/proc/self/clear_refs").exists():
        raise Unavailable
    if setting.quick:
        works = works[:1]
    listed = [(name, list(shape), axis) for name, shape, axis in works]
    code = f"import jitloss.bench.limits.children as c; c.print_memory({listed!r})"
    shown = python(code, MALLOC_MMAP_THRESHOLD_="131072")  # so that freed memory is returned
    worst = [max(column) for column in zip(*shown, strict=True)]
    return dict(zip(("beyond the gradient", "out=predictions"), worst, strict=True))


# Start ------------------------------------------------------------------------------------------------------------------------


def starting(setting: Setting) -> dict[str, float]:
    """The slowest first call of all losses, in ms."""
    losses = list(jitloss.LOSSES)[: 1 if setting.quick else None]
    seconds = first_calls(losses, setting.step, 1 if setting.quick else STARTS)
    return {"compiled": 1e3 * max(seconds["cold"].values()), "from the disk cache": 1e3 * max(seconds["cached"].values())}


def importing(setting: Setting) -> dict[str, float]:
    return {"over numba": 1e3 * import_seconds(1 if setting.quick else 7, setting.step)}
