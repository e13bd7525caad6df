"""How LLVM may change floating-point maths, and the small functions that kernels call."""

from numba.extending import register_jitable

__all__ = ["FLAGS", "jitable"]

FLAGS = {"reassoc", "contract", "nsz", "arcp"}
"""The fast-math flags that are safe: sums may be reordered, NaN and inf come through."""

jitable = register_jitable(fastmath=FLAGS, forceinline=True, no_cfunc_wrapper=True, no_cpython_wrapper=True, _nrt=False)
