"""The CPU compiler: definitions become kernels, kernels run over ranges on all cores."""

import functools
import hashlib
import threading
from pathlib import Path
from typing import Any


from ..variant import Variant
from . import elementary  # noqa: F401  # teaches numba the functions of jitloss.math

__all__ = ["kernel"]

_lock = threading.RLock()


@functools.cache
def fingerprint() -> str:
    """The compiler's own text, as part of every key of the disk cache: what numba finds by name it does not look into."""
    package = Path(__file__).parent
    files = [package.parents[1] / "math.py", package.parents[1] / "binding.py", *sorted(package.glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@functools.cache
def _compile(variant: Variant) -> Any:
    from .lanes import lanes_kernel
    from .long_rows import long_rows_kernel
    from .pointwise import pointwise_kernel
    from .short_rows import short_rows_kernel

    build = {"flat": pointwise_kernel, "rows": long_rows_kernel, "blocks": short_rows_kernel, "lanes": lanes_kernel}[variant.layout]
    return build(variant, fingerprint())


def kernel(variant: Variant) -> int:
    """The address of the compiled kernel; the compiled code lives as long as the process."""
    with _lock:  # numba's compiler is not meant to be entered twice for one function
        return int(_compile(variant).address)
