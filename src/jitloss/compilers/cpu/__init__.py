"""The CPU compiler: definitions become kernels, kernels run over ranges on all cores."""

import os
import threading
from typing import Any

import numpy as np
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from ...definition import Definition
from ...pause import collector_paused
from ..variant import Layout, Variant
from . import elementary  # noqa: F401  # teaches numba the functions of jitloss.math
from .cache import fingerprint
from .driver import run, single_threaded
from .labels import labels_kernel
from .lane_plan import LONGEST_KEPT_LANES
from .lanes import lanes_kernel
from .long_plan import LONGEST_KEPT as LONGEST_KEPT_ROW
from .long_rows import long_rows_kernel
from .pieces import piece_kernel
from .pointwise import pointwise_kernel
from .repeat import vector_bytes
from .short_rows import BLOCKS_UP_TO, LONGEST, SHORTEST_PATCHED, short_rows_kernel
from .small import PLAN, small_driver
from .table import OVER, PAST, THROUGH
from .turning import turned, turns

__all__ = [
    "BLOCKS_UP_TO",
    "LONGEST",
    "LONGEST_KEPT_LANES",
    "LONGEST_KEPT_ROW",
    "OVER",
    "PAST",
    "PLAN",
    "SHORTEST_PATCHED",
    "THROUGH",
    "before_fork",
    "count_labels",
    "kernel",
    "layout",
    "run",
    "single_threaded",
    "small_driver",
    "turned",
    "turns",
    "vector_bytes",
]

if config.DISABLE_JIT:
    raise RuntimeError("NUMBA_DISABLE_JIT is set, with which numba compiles nothing; jitloss has kernels alone: unset it")

_BUILDERS = {
    "flat": pointwise_kernel,
    "rows": long_rows_kernel,
    "long": long_rows_kernel,
    "blocks": short_rows_kernel,
    "patched": short_rows_kernel,
    "lanes": lanes_kernel,
    "long lanes": lanes_kernel,
    "peaks": piece_kernel,
    "sums": piece_kernel,
    "slopes": piece_kernel,
}
_LABELS_CHUNK = 65536

MOST_KEPT_TERMS = 8
"""Terms of a sum of losses that are kept for a row: the stack is limited."""

_lock = threading.RLock()
_forking = threading.local()


def before_fork() -> None:
    """Wait for compilations in other threads: a child would inherit their locks, held by threads that it does not have."""
    held = _forking.__dict__.setdefault("held", [])
    for lock in (_lock, global_compiler_lock._lock):
        if lock.acquire(timeout=10.0):  # one by one: an interrupt while waiting for the second must not lose the first
            held.append(lock)


def _after_fork() -> None:
    held = getattr(_forking, "held", [])
    while held:
        held.pop().release()


def _in_child() -> None:
    """Replace locks that were still held by threads that the child does not have."""
    global _lock
    _after_fork()
    _lock, global_compiler_lock._lock = threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_after_fork, after_in_child=_in_child)

_kernels: dict[Variant, Any] = {}
"""The compiled kernels; their code lives as long as the process."""


def _compile(variant: Variant) -> Any:
    with collector_paused():  # numba creates many objects, and keeps most of them
        return _BUILDERS[variant.layout](variant, fingerprint())


def kernel(variant: Variant) -> int:
    """The address of the compiled kernel.

    A kernel that exists is found without the lock, which a forked child may inherit locked.
    """
    if variant not in _kernels:
        with _lock:  # two threads that want the same kernel compile it once
            if variant not in _kernels:
                _kernels[variant] = _compile(variant)
    return int(_kernels[variant].address)


def layout(
    definition: Definition,
    columns: int,
    inner: int,
    marked: bool = False,
    smoothed: bool = False,
    double: bool = False,
    gradient: bool = True,
) -> Layout:
    """Which loop serves rows of so many elements, ``inner`` elements apart.

    ``marked`` says that targets are labels, so that all other classes have the same target, which is not 0 if they are
    ``smoothed``; ``double`` that the arithmetic is float64; ``gradient`` that gradients are written.
    """
    if definition.form == "pointwise":
        return "flat"
    keeps = any("terms" in member.parts["slope"].arguments for member in definition.members)
    if inner > 1:
        return "long lanes" if keeps and columns > LONGEST_KEPT_LANES else "lanes"
    peaks = any("peak" in member.parts for member in definition.members)
    with_peak, without, several = BLOCKS_UP_TO[vector_bytes()]
    short = (LONGEST if double or smoothed or not gradient else with_peak) if peaks else without
    if columns <= (short if len(definition.differentiable) == 1 else several):
        patched = marked and peaks and columns >= SHORTEST_PATCHED[vector_bytes()][smoothed]
        patched = patched and not (definition.peaks_take_targets or definition.marks_terms)
        return "patched" if patched else "blocks"
    kept = sum(member.parts["terms"].results for member in definition.members)
    return "long" if keeps and (columns > LONGEST_KEPT_ROW or kept > MOST_KEPT_TERMS) else "rows"


def count_labels(labels: np.ndarray, columns: int, ignored: int) -> int | None:
    """How many rows do not have the ignored label; None where a label is neither a class nor the ignored one."""
    words = (None, None, None, 1, columns, 1, 0, labels, ignored)
    chunks = labels.size // _LABELS_CHUNK
    counted = run(labels_kernel(), words, labels.size, _LABELS_CHUNK, 1.0, chunks if chunks > 4 else 0)
    return None if np.isnan(counted) else int(counted)
