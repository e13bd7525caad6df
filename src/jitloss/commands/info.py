"""``jitloss info``: what a bug report needs, and where the compiled kernels are stored."""

import argparse
import contextlib
import importlib.metadata
from pathlib import Path

import numba
from numba import config
from numba.core.caching import FunctionCache

from ..bench.report import machine, versions
from ..compilers.cpu import driver

__all__ = ["add_arguments", "cache_folder", "cache_line", "command"]

HELP = "versions, threads, SIMD width, disk cache and devices"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def command(arguments: argparse.Namespace) -> None:
    about = machine()
    lines = [
        *versions().items(),
        ("processor", about["processor"]),
        ("threads", f"{about['threads']}, helpers of jitloss's own; numba's threading layer: {_threading_layer()}"),
        ("SIMD", about["SIMD"]),
        ("disk cache", cache_line()),
        ("devices", f"CPU; CUDA: {_cuda()}"),
    ]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:{width}}  {text}")


def _threading_layer() -> str:
    """The threading layer that numba chooses when its threads start."""
    with contextlib.suppress(Exception):
        from numba.np.ufunc import parallel

        parallel._launch_threads()
        return str(numba.threading_layer())
    return "unknown"


def cache_folder() -> Path | None:
    """The folder of the compiled kernels; None where numba finds no folder that it may write to."""
    with contextlib.suppress(RuntimeError):
        return Path(FunctionCache(driver._serial).cache_path)
    return None


def cache_line() -> str:
    """The folder, how many kernels are in it, and their size."""
    folder = cache_folder()
    if folder is None:
        return "none: no folder can be written to; set NUMBA_CACHE_DIR"
    kernels = [file.stat().st_size for file in folder.glob("*.nbc")] if folder.is_dir() else []
    return f"{folder} ({len(kernels)} kernels, {sum(kernels) / 1e6:.1f} MB)"


def _cuda() -> str:
    """The CUDA devices that numba-cuda sees. numba's own CUDA target, which is deprecated, is not used."""
    try:
        importlib.metadata.version("numba-cuda")
    except importlib.metadata.PackageNotFoundError:
        return "none (numba-cuda is not installed)"
    try:
        from numba import cuda

        if config.ENABLE_CUDASIM:
            return "none (NUMBA_ENABLE_CUDASIM is set: numba's simulator)"
        names = [gpu.name.decode() if isinstance(gpu.name, bytes) else str(gpu.name) for gpu in cuda.gpus]
    except Exception as error:  # a missing or outdated driver raises many kinds of errors
        return f"none ({' '.join(str(error).split())[:100] or type(error).__name__})"
    return f"{len(names)} ({', '.join(names)})" if names else "none"
