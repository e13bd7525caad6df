"""The disk cache: each function has its own files, safe from other processes, and works without a cache directory too."""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import serialize
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

from ..fingerprint import fingerprint_of

__all__ = ["MachineCode", "cached", "fingerprint", "of_this_version", "own_files"]


class MachineCode(FunctionCache):  # type: ignore[misc]
    """A cache of code that depends on nothing but the processor.

    Numba's own first imports all that any cached code may call, which takes longer than the rest of a process's first call.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)  # drivers refer to its functions, where they raise errors
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


@functools.cache
def fingerprint() -> str:
    """The compiler's own source, hashed, as part of every key of the disk cache: numba does not look into what is found by name."""
    return fingerprint_of(Path(__file__).parent)


def of_this_version(function: Any) -> Any:
    """Give a function that has an empty closure, but calls others of this compiler, separate files for each version of them."""
    function.__qualname__ = f"{function.__name__}_{fingerprint()[:16]}"
    return function


def own_files(function: Any) -> Any:
    """Give a kernel a name of its own, and so files of its own in the cache.

    numba keeps everything that is compiled from functions of one name in one index, and two processes that add to an index at the
    same time can leave one's code there under the other's key: a later process would run the kernel of another loss. The name is
    a hash of what the kernel holds in its closure. The compiler's fingerprint is left out, so that new versions overwrite old
    files.
    """
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held = tuple(cell.cell_contents for name, cell in cells if name != "fingerprint")
    function.__qualname__ += f"_{hashlib.sha256(serialize.dumps(held)).hexdigest()[:16]}"
    return function


def cached(build: Callable[[bool], Any]) -> Any:
    """Build with the disk cache, ``build(True)``, or without it where it is unavailable, full or damaged.

    Errors in the code itself are raised again by ``build(False)``.
    """
    with contextlib.suppress(Exception):
        return build(True)
    return build(False)
