"""The CUDA compiler: definitions become kernels for a device. Imported when the first array on a device arrives."""

import functools

from ..variant import Stage, Variant
from . import compile as sources
from .launch import Kernel, cache_folder, current, device_count, has_clusters, is_current
from .plan import Plan, blocks, choose, counting_blocks, pieces, split
from .toolchain import SIMULATED

__all__ = [
    "SIMULATED",
    "SUMMING_THREADS",
    "Plan",
    "adding_kernel",
    "blocks",
    "cache_folder",
    "choose",
    "counting_blocks",
    "counting_kernel",
    "current",
    "device_count",
    "empty_rows_kernel",
    "has_clusters",
    "is_current",
    "loss_kernel",
    "pieces",
    "pieces_found",
    "split",
    "split_kernel",
    "total_kernel",
]

SUMMING_THREADS = 4 if SIMULATED else 1024


@functools.cache
def loss_kernel(variant: Variant, plan: Plan) -> Kernel:
    return Kernel(sources.loss, variant, plan)


@functools.cache
def split_kernel(variant: Variant, plan: Plan, stage: Stage) -> Kernel:
    return Kernel(sources.split, variant, plan, stage)


pieces_found = functools.cache(sources.pieces_found)


@functools.cache
def total_kernel(output: str, divided: bool) -> Kernel:
    return Kernel(sources.total, SUMMING_THREADS, output, divided)


@functools.cache
def adding_kernel(dtypes: tuple[str, ...], output: str) -> Kernel:
    return Kernel(sources.adding, dtypes, output)


@functools.cache
def empty_rows_kernel(labels: str, items: bool, output: str) -> Kernel:
    return Kernel(sources.empty_rows, SUMMING_THREADS, labels, items, output)


@functools.cache
def counting_kernel(working: str, labels: str, weights: str, classes: bool) -> Kernel:
    return Kernel(sources.counting, SUMMING_THREADS, working, labels, weights, classes)
