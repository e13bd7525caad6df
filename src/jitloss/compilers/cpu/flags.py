"""How LLVM may change floating-point maths, and the small functions that kernels call."""

from numba.extending import register_jitable

__all__ = ["FLAGS", "GUEST_FLAGS", "guest_jitable", "jitable"]

FLAGS = {"reassoc", "contract", "nsz", "arcp"}
"""The fast-math flags that are safe: sums may be reordered, NaN and inf come through."""

GUEST_FLAGS = FLAGS - {"arcp"}
"""Those of code in functions of somebody else, which do not have the attribute against estimates that kernels have."""

_OPTIONS = {"forceinline": True, "no_cfunc_wrapper": True, "no_cpython_wrapper": True, "_nrt": False}
jitable = register_jitable(fastmath=FLAGS, **_OPTIONS)
guest_jitable = register_jitable(fastmath=GUEST_FLAGS, **_OPTIONS)
