"""The LLVM modules that numba compiles into: only those of kernels are optimised as a whole and become machine code."""

from typing import Any

from numba.core.codegen import JITCodeLibrary

__all__ = ["InlinedLibrary", "KernelLibrary"]


class KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The module of a kernel. Numba would also optimise its functions one by one first, which makes the pass over the module no shorter."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class InlinedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The module of a function that is inlined into kernels. It is optimised alone before it is copied, and needs no machine code."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True
