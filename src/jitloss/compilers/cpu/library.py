"""What numba compiles into: modules of LLVM's, of which only those of kernels are optimised as a whole and become machine code."""

from typing import Any

from numba.core.codegen import JITCodeLibrary

__all__ = ["InlinedLibrary", "KernelLibrary"]


class KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Of a kernel. Numba would optimise its functions one by one, and then the module, which finds as much to do either way."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class InlinedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Of a function that becomes part of kernels. It is optimised alone, before it is copied, and needs no machine code of its own."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True
