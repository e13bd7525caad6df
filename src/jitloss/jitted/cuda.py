"""Losses inside users' own CUDA kernels, compiled by numba-cuda: the scalar form only."""

import functools
from typing import Any

from numba import cuda
from numba.cuda import extending
from numba.cuda.typing.templates import AttributeTemplate

from ..compilers.cuda.toolchain import jitable
from .attributes import form_type
from .functions import Function, named, on_scalars

__all__ = ["device_type"]

_functions: dict[Any, Any] = {}


def device_type(form: Any) -> Any:
    """The numba-cuda type of a form."""
    function = _function(form)
    function_type: Any = type(function._numba_type_)
    return _form_type(function_type)(function, form)


@functools.cache
def _form_type(function_type: Any) -> Any:
    return form_type(function_type, device_type, extending, extending.core_models.OpaqueModel, AttributeTemplate)


def _function(form: Any) -> Any:
    """The form as a device function."""
    if form not in _functions:
        _functions[form] = cuda.jit(device=True, inline="always")(named(form, _stub(form)))
    return _functions[form]


def _stub(form: Any) -> Function:
    def call(*arguments):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    @extending.overload(call, prefer_literal=True)
    def implementation(*arguments):  # type: ignore[no-untyped-def]
        kinds = list(arguments[0] if len(arguments) == 1 and hasattr(arguments[0], "__len__") else arguments)
        return on_scalars(form, kinds, jitable)

    return call
