"""numba's compiler passes for kernels, and for the functions that they call: only those that are needed, so that first calls are short.

The others handle closures, array expressions, literals and the like, and reference counts, none of which occur in kernels; one
would give a variable that is assigned twice two types. So a name in a kernel has one type.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.errors import TypingError
from numba.core.typed_passes import (
    AnnotateTypes,
    InlineOverloads,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonRewrites,
    NopythonTypeInference,
)
from numba.core.types.misc import Optional
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FindLiterallyCalls,
    InlineClosureLikes,
    InlineInlinables,
    LiteralUnroll,
    MakeFunctionToJitFunction,
    RewriteDynamicRaises,
    WithLifting,
)

from .library import InlinedLibrary, KernelLibrary
from .translate import Translate

__all__ = ["InlinedCompiler", "JoinedCompiler", "KernelCompiler"]


@contextlib.contextmanager
def _resolving_once(context: Any) -> Iterator[None]:
    """A call has the type that another call of the same function with the same argument types had.

    Numba resolves it for each statement, in at least two rounds, among all overloads.
    """
    resolve, known = context.resolve_function_type, {}

    def resolved(func: Any, args: Any, kws: Any) -> Any:
        key = func, tuple(args), tuple(dict(kws).items())
        if key not in known:
            known[key] = resolve(func, args, kws)
        return known[key]

    before = vars(context).get("resolve_function_type")  # patched by a compilation that a signal has interrupted
    context.resolve_function_type = resolved
    try:
        yield
    finally:
        if before is None:
            del context.resolve_function_type
        else:
            context.resolve_function_type = before


_sizes: dict[str, int] = {}


def _size_of(context: Any, kind: Any) -> int:
    """The size of a type in bytes, by its text. To find it, llvmlite writes a module with a variable of that type and parses it."""
    text = str(kind)
    if "%" in text:  # a named type, whose name may mean another type in another module
        return int(type(context).get_abi_sizeof(context, kind))
    if text not in _sizes:
        _sizes[text] = type(context).get_abi_sizeof(context, kind)
    return _sizes[text]


@register_pass(mutates_CFG=True, analysis_only=False)
class _Typing(NopythonTypeInference):  # type: ignore[misc]
    def run_pass(self, state: Any) -> bool:
        with _resolving_once(state.typingctx):
            return bool(super().run_pass(state))


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    _library: type = KernelLibrary

    def run_pass(self, state: Any) -> bool:
        state.library = self._library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        state.targetctx.get_abi_sizeof = partial(_size_of, state.targetctx)  # the context of this compilation only
        return bool(super().run_pass(state))


@register_pass(mutates_CFG=True, analysis_only=False)
class _InlinedLowering(_Lowering):
    _library = InlinedLibrary

    def run_pass(self, state: Any) -> bool:
        for name, kind in state.typemap.items():
            if isinstance(kind, Optional):  # None instead of a number would raise, and a kernel cannot
                name = name.partition(".")[0]
                raise TypingError(f"{'a result' if name.startswith('$') else name} is None on one branch and a number on another")
        state.flags.no_compile = True
        super().run_pass(state)
        key: Any = [].append  # numba registers a function under the built-in that runs it, of which this one has none
        state.targetctx.insert_user_function(key, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=key)
        return True


class KernelCompiler(CompilerBase):  # type: ignore[misc]
    """The ``pipeline_class`` of numba's decorators for kernels and drivers."""

    _passes = (
        Translate,
        DeadBranchPrune,
        _Typing,
        _Lowering,
        NoPythonBackend,
    )

    def define_pipelines(self) -> list[Any]:
        manager = PassManager("kernel")
        for one in self._passes:
            manager.add_pass(one, one.name())
        manager.finalize()
        return [manager]


class InlinedCompiler(CompilerBase):  # type: ignore[misc]
    """The same for the functions that they call: definitions and small helpers, in which a variable may have two types."""

    _without: tuple[type, ...] = (
        AnnotateTypes,
        FindLiterallyCalls,
        IRLegalization,
        InlineClosureLikes,
        InlineInlinables,
        InlineOverloads,
        LiteralUnroll,
        MakeFunctionToJitFunction,
        NopythonRewrites,
        RewriteDynamicRaises,
        WithLifting,
    )

    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes = [(one, why) for one, why in manager.passes if one not in self._without]
        manager.passes = [(_InlinedLowering if one is NativeLowering else one, why) for one, why in passes]
        manager.finalize()
        return [manager]


class JoinedCompiler(InlinedCompiler):
    """The same for functions of arrays, which need all of numba's passes; one of them inserts the end of references to arrays."""

    _without = ()
