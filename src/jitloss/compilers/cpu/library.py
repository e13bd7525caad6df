"""What numba compiles into: modules of LLVM's that are optimised once, as a whole, when all that a kernel calls is in them."""

from typing import Any

from numba.core.codegen import JITCodeLibrary

__all__ = ["InlinedLibrary", "KernelLibrary"]


class KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Of a kernel. Numba would optimise its functions one by one, and then the module: the second finds nothing undone."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class InlinedLibrary(KernelLibrary):
    """Of a function that becomes part of a kernel: it needs no machine code of its own."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True
