"""The passes of numba's through which a kernel goes: those that it needs, so that a first call is shorter.

The others look for closures, array expressions, literals and the like, which no kernel has; one gives a variable that is assigned twice
two types. So a name in a kernel has one type.
"""

from typing import Any

from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import AnnotateTypes, IRLegalization, NativeLowering, NoPythonBackend, NopythonTypeInference
from numba.core.untyped_passes import DeadBranchPrune, FixupArgs, GenericRewrites, IRProcessing, TranslateByteCode

__all__ = ["KernelCompiler"]

_PASSES = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    DeadBranchPrune,
    GenericRewrites,
    NopythonTypeInference,
    IRLegalization,
    AnnotateTypes,
    NativeLowering,
    NoPythonBackend,
)


class KernelCompiler(CompilerBase):  # type: ignore[misc]
    """What ``pipeline_class`` of numba's decorators takes."""

    def define_pipelines(self) -> list[Any]:
        manager = PassManager("kernel")
        for one in _PASSES:
            manager.add_pass(one, one.name())
        manager.finalize()
        return [manager]
