"""The type of a form in compiled code: a function, with the other forms of the loss as attributes, as in Python."""

from collections.abc import Callable
from typing import Any

__all__ = ["form_type"]


def form_type(function_type: Any, typed: Callable[[Any], Any], extending: Any, model: type, template: type) -> Any:
    """A type of functions that know their form, for numba or for numba-cuda: each has its own ``extending``, ``model`` and ``template``.

    ``typed`` gives the numba type of another form.
    """

    class FormType(function_type):  # type: ignore[misc]
        def __init__(self, function: Any, form: Any) -> None:
            self.form = form
            super().__init__(function)

    class Forms(template):  # type: ignore[misc]
        key = FormType

        def generic_resolve(self, kind: Any, name: str) -> Any:
            form = getattr(kind.form.loss, name, None) if kind.form.kind == "value" else None
            return typed(form) if isinstance(form, type(kind.form)) else None

    def nothing(context: Any, builder: Any, kind: Any, value: Any, name: str) -> Any:
        """A function is fully described by its type."""
        return context.get_dummy_value()

    extending.register_model(FormType)(model)
    extending.infer_getattr(Forms)
    extending.lower_getattr_generic(FormType)(nothing)
    return FormType
