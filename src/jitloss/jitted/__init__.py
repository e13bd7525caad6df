"""Losses inside users' own compiled code: to numba a form is a function that is compiled together with its caller.

Scalars give the element's own value and gradient; arrays give what a call in Python gives by default, a mean over the items.
Loops are plain, and inlined into the caller, so that its disk cache holds nothing that another process could not run.
"""

from typing import Any

from numba import extending, njit, types
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.core.target_extension import current_target
from numba.core.typing.templates import AttributeTemplate
from numba.extending import overload

from ..compilers.cpu import elementary  # noqa: F401  # teaches numba the functions of jitloss.math
from ..compilers.cpu.flags import guest_jitable
from .attributes import form_type
from .functions import Function, named, on_scalars
from .loops import OPTIONS, on_elements, on_rows

__all__ = ["numba_type"]


def numba_type(form: Any) -> Any:
    """The type of a compiled function with the form's inputs and parameters."""
    if form.wants.hessian:
        raise TypingError(f"{form.__name__}: compiled code may call a loss, its gradient and its value_and_gradient")
    if current_target() == "cuda":
        from .cuda import device_type

        return device_type(form)
    return _FormType(_function(form), form)


_FormType = form_type(types.Dispatcher, numba_type, extending, extending.models.OpaqueModel, AttributeTemplate)

# this module is loaded during the first compilation that meets a loss, after numba has looked for what is registered
cpu_target.target_context.refresh()

_functions: dict[Any, Any] = {}


def _function(form: Any) -> Any:
    if form not in _functions:
        _functions[form] = njit(**OPTIONS)(named(form, _stub(form)))
    return _functions[form]


def _stub(form: Any) -> Function:
    """The numba function for a form; numba asks for its implementation for the types of each call."""

    def call(*arguments):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    @overload(call, jit_options=OPTIONS, prefer_literal=True)
    def implementation(*arguments):  # type: ignore[no-untyped-def]
        kinds = list(arguments[0] if len(arguments) == 1 and isinstance(arguments[0], (tuple, types.BaseTuple)) else arguments)
        inputs = kinds[: len(form.inputs)]
        arrays = [isinstance(one, types.Array) for one in inputs]
        numbers = all(isinstance(one, (types.Number, types.Boolean)) for one in inputs)
        if arrays[0] and (all(arrays) or form.by_rows):
            return on_rows(form, kinds) if form.by_rows else on_elements(form, kinds)
        if form.by_rows or not numbers:
            wanted = "arrays of rows" if form.by_rows else "arrays, or numbers"
            raise TypingError(f"{form.__name__}: {' and '.join(form.inputs)} must be {wanted}; got {', '.join(map(str, inputs))}")
        return on_scalars(form, kinds, guest_jitable)

    return call
