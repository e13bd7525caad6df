"""The start-up costs of a process: the import, and the first call of a loss, cold and from the disk cache."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

__all__ = ["STARTS", "first_calls", "import_seconds", "process_seconds", "python"]

_SHAPE = (32, 10)

STARTS = 3
"""Processes over which the median of a first call is taken."""


def python(code: str, **environment: str) -> Any:
    """The output of a fresh interpreter, parsed as JSON."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as in use
    done = subprocess.run([sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a measuring subprocess failed:\n{done.stderr}")
    return json.loads(done.stdout)


def first_calls(
    names: Iterable[str], step: Callable[[str], None] = lambda text: None, rounds: int = STARTS
) -> dict[str, dict[str, float]]:
    """Seconds that the first ``value_and_gradient`` of each loss takes: ``cold`` with an empty disk cache, then ``cached``.

    The driver and numba are warmed up: a loss of another dtype has run. All processes run the losses in the same order; the
    figures are medians over ``rounds`` processes.
    """
    code = f"import jitloss.bench.startup as s; s.print_first_calls({list(names)!r})"
    measured: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for kind, results in measured.items():
                step(f"first call, {kind}")
                results.append(python(code, NUMBA_CACHE_DIR=folder))
    return {
        kind: {name: statistics.median(one[name] for one in results) for name in results[0]} for kind, results in measured.items()
    }


def print_first_calls(names: Iterable[str]) -> None:
    """Run in the subprocess."""
    import jitloss

    from .work import inputs_for

    for size in (10, 1_000_000):  # the serial and the parallel driver
        jitloss.mse_loss.value_and_gradient(np.ones(size), np.zeros(size))
    seconds = {}
    for name in names:
        inputs = inputs_for(jitloss.LOSSES[name].definition, _SHAPE)
        begin = time.perf_counter()
        jitloss.LOSSES[name].value_and_gradient(*inputs)
        seconds[name] = time.perf_counter() - begin
    print(json.dumps(seconds))


def import_seconds(rounds: int = 7, step: Callable[[str], None] = lambda text: None) -> float:
    """Seconds that ``import jitloss`` takes where numba is already imported; the median over fresh processes."""
    code = "import time, numba; begin = time.perf_counter(); import jitloss; print(time.perf_counter() - begin)"
    step("import")
    return statistics.median(float(python(code)) for _ in range(rounds))


def process_seconds(rounds: int = 7) -> float:
    """Seconds from ``import jitloss`` to the result of a loss in the disk cache, with NumPy and numba imported; median of processes."""
    code = (
        "import time, numpy, numba; begin = time.perf_counter(); import jitloss; "
        "jitloss.mse_loss(numpy.zeros(3), numpy.ones(3)); print(time.perf_counter() - begin)"
    )
    python(code)
    return statistics.median(float(python(code)) for _ in range(rounds))
