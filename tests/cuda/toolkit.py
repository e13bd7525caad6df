"""Whether CUDA kernels can be compiled and linked here: that needs parts of NVIDIA's toolkit, but no device."""

import importlib
import importlib.util
import os

__all__ = ["missing"]


def missing() -> str | None:
    """Why they cannot; None where they can."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return "NUMBA_ENABLE_CUDASIM is set, and numba's simulator compiles nothing"
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install '.[cuda]'"
    pathfinder = importlib.import_module("cuda.pathfinder")
    for library in ("nvvm", "nvJitLink"):
        try:
            pathfinder.load_nvidia_dynamic_lib(library)
        except pathfinder.DynamicLibNotFoundError:
            return f"the library {library} of the CUDA toolkit is not here: pip install '.[cuda]'"
    return None
