"""Fast-math flags, and the decorators of the small functions that kernels call."""

from collections.abc import Callable
from typing import Any

from numba.extending import register_jitable

from ..fingerprint import without_filename
from .pipeline import InlinedCompiler

__all__ = ["FLAGS", "GUEST_FLAGS", "guest_jitable", "jitable", "maths_jitable"]

FLAGS = {"reassoc", "contract", "nsz", "arcp"}
"""The fast-math flags that are safe: sums may be reordered, except within a definition; NaN and inf are preserved."""

GUEST_FLAGS = FLAGS - {"arcp"}
"""The flags for code that is inlined into users' functions, which lack the attribute against estimates that kernels have."""

_OPTIONS = {
    "forceinline": True,
    "no_cfunc_wrapper": True,
    "no_cpython_wrapper": True,
    "_nrt": False,
    "pipeline_class": InlinedCompiler,
}


def jitable(function: Any) -> Callable[..., Any]:
    """Compile a small function that kernels call."""
    made: Callable[..., Any] = register_jitable(fastmath=FLAGS, **_OPTIONS)(without_filename(function))
    return made


def maths_jitable(function: Any) -> Callable[..., Any]:
    """Compile a function of a definition: its additions and subtractions are not reordered."""
    made: Callable[..., Any] = register_jitable(fastmath=FLAGS - {"reassoc"}, **_OPTIONS)(without_filename(function))
    return made


def guest_jitable(function: Any) -> Callable[..., Any]:
    """Compile a function of a definition that users' own compiled functions call."""
    made: Callable[..., Any] = register_jitable(fastmath=GUEST_FLAGS - {"reassoc"}, **_OPTIONS)(without_filename(function))
    return made
