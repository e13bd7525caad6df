"""Supported array types: one cached lookup from an argument's type to how it is converted to NumPy and back.

Nothing here imports a framework. A type is registered by itself or, while its framework may not be loaded, by its name.
"""

import array
import numbers
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .arrays import adapter, columns
from .arrays import numpy as host
from .keys import remember, without_parameter

__all__ = ["ArrayType", "Call", "adapter_of", "array_type", "is_a", "is_supported", "register_array_type"]

Call = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""An adapter's own way to evaluate a form of a loss, ``call(form, args, options)``: lazily, say, or differentiably."""


class ArrayType(NamedTuple):
    """How arrays of one library are read, and how gradients and values are converted back."""

    name: str
    to_numpy: Callable[[Any], np.ndarray]
    from_numpy: Callable[[np.ndarray, Any], Any] = host.as_it_is
    from_value: Callable[[float, Any], Any] = host.as_it_is
    call: Call | None = None

    def read(self, value: Any, owner: str, argument: str) -> np.ndarray:
        """A value of this type as a NumPy array, with an error that names the argument."""
        try:
            return np.asarray(self.to_numpy(value))
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError where the memory was freed or never allocated
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{owner}: {argument} cannot be read as an array: {_why(value, error)}") from None


_by_type: dict[type, ArrayType] = {}
_by_name: dict[str, ArrayType] = {}
_found: dict[type, ArrayType] = {}
_calls: dict[type, Call | None] = {}


def register_array_type(
    kind: type | str,
    *,
    to_numpy: Callable[[Any], np.ndarray],
    from_numpy: Callable[[np.ndarray, Any], Any] | None = None,
    from_value: Callable[[float, Any], Any] | None = None,
    call: Call | None = None,
    name: str | None = None,
) -> None:
    """Teach every loss a new type of array.

    Parameters
    ----------
    kind : type or str
        The type, subclasses included, or ``"package.Class"`` for a framework that need not be imported: the top-level package
        and the name of the class.
    to_numpy : callable
        ``to_numpy(array)`` gives a NumPy array, without a copy where that is possible.
    from_numpy : callable, optional
        ``from_numpy(result, argument)`` turns a gradient (or the values of ``reduction="none"``) into the caller's own type;
        ``argument`` is the array that was given. By default the NumPy array is returned.
    from_value : callable, optional
        ``from_value(value, argument)`` does the same for a value. By default it is a Python float.
    call : callable, optional
        ``call(form, args, options)`` evaluates a whole call that has such an array among its arguments, where conversion is not
        enough: because results are lazy, or because a framework differentiates them. ``form`` is called with NumPy arrays for the
        numbers. The other functions are then used for arrays of this type that are options in a call on another type.
    name : str, optional
        What error messages call it.

    Raises
    ------
    TypeError
        Where ``kind`` is neither a type nor a dotted name, or a function is not callable.

    Examples
    --------
    >>> import numpy as np, jitloss
    >>> class Column:
    ...     def __init__(self, data):
    ...         self.data = np.asarray(data)
    >>> jitloss.register_array_type(Column, to_numpy=lambda column: column.data, from_numpy=lambda result, like: Column(result))
    >>> jitloss.mse_loss_gradient(Column([1.0, 2.0]), Column([0.0, 4.0])).data
    array([ 1., -2.])
    """
    for argument, function in (("to_numpy", to_numpy), ("from_numpy", from_numpy), ("from_value", from_value), ("call", call)):
        if not callable(function) and (function is not None or argument == "to_numpy"):
            raise TypeError(f"register_array_type: {argument} must be callable, got {function!r}")
    if not isinstance(kind, type) and not (isinstance(kind, str) and re.fullmatch(r"\w+\.\w+", kind)):
        raise TypeError(
            f"register_array_type: kind must be a type or 'package.Class', the top-level package and the name of the class; got {kind!r}"
        )
    label = name or (kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}")
    entry = ArrayType(label, to_numpy, from_numpy or host.as_it_is, from_value or host.as_it_is, call)
    if isinstance(kind, str):
        _by_name[kind] = entry
    else:
        _by_type[kind] = entry
    _found.clear()
    _calls.clear()


def array_type(value: Any, owner: str, argument: str) -> ArrayType:
    """The entry for an argument; raises a ``TypeError`` that lists the supported types where there is none."""
    kind = type(value)
    entry = _found.get(kind)
    if entry is None:
        entry = _look_up(kind)
        if entry is None:
            raise TypeError(
                f"{owner}: {argument} is a {kind.__module__}.{kind.__qualname__}, which is not supported. "
                f"Supported are {supported()}; jitloss.register_array_type adds others"
            )
        remember(_found, kind, entry)
    return entry


def is_supported(kind: type) -> bool:
    return kind in _found or _look_up(kind) is not None


def _why(value: Any, error: Exception) -> Any:
    """Why a value cannot be read, instead of the framework's own message where its arrays are in a sequence."""
    closed = _closed_within([value])
    if closed is None:
        return error
    holds = f"a {type(value).__name__} holds {closed}" if isinstance(value, (list, tuple)) else f"it is one of {closed}"
    return (
        f"{holds}, and one that is traced, lies on a device or requires gradients gives NumPy no numbers; "
        f"stack them into one array, or name parameters in a dict"
    )


def _closed_within(value: Any) -> str | None:
    """Whose arrays, in a sequence at any depth, cannot be converted to NumPy; None where all can."""
    for one in value if isinstance(value, (list, tuple)) else ():
        entry = _look_up(type(one))
        if entry is not None and entry.call is not None and not _is_open(one):
            return entry.name
        within = _closed_within(one)
        if within is not None:
            return within
    return None


def _is_open(value: Any) -> bool:
    try:
        np.asarray(value)
    except Exception:  # whatever the framework raises
        return False
    return True


def _look_up(kind: type) -> ArrayType | None:
    if kind not in _by_type:
        kind = without_parameter(kind)
    for base in kind.__mro__:
        entry = _by_type.get(base) or _by_name.get(_name_of(base))
        if entry is not None:
            return entry
    return None


def _name_of(kind: type) -> str:
    """The name under which a type is registered while its package may not be loaded."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def is_a(value: Any, name: str) -> bool:
    """Whether the type of a value, or one of its base types, is called ``"package.Class"``."""
    return name in map(_name_of, type(value).__mro__)


def adapter_of(values: Iterable[Any]) -> Call | None:
    """The adapter that evaluates a call with these arguments; None where the library itself does."""
    for value in values:
        kind = type(value)
        if kind not in _calls:
            entry = _look_up(kind)
            remember(_calls, kind, None if entry is None else entry.call)
        call = _calls[kind]
        if call is not None:
            return call
    return None


def supported() -> str:
    """The names of the registered types, for messages."""
    return ", ".join(dict.fromkeys(entry.name for entry in [*_by_type.values(), *_by_name.values()]))


register_array_type(np.ndarray, name="NumPy arrays", to_numpy=host.plain)
register_array_type("numpy.MaskedArray", name="NumPy arrays", to_numpy=host.refuse_masked)
_SEQUENCES: tuple[type, ...] = (list, tuple, range, array.array)
_SCALARS: tuple[type, ...] = (numbers.Number, int, float, complex, np.generic)
for _kind in _SEQUENCES:
    register_array_type(_kind, name="sequences of numbers", to_numpy=host.from_sequence)
for _kind in _SCALARS:
    register_array_type(_kind, name="scalars", to_numpy=np.asarray)
for _name in ("Series", "DataFrame", "Index", "ExtensionArray"):
    register_array_type(f"pandas.{_name}", name="pandas objects", to_numpy=columns.from_pandas)
for _name in ("NumpyExtensionArray", "PandasArray"):  # pandas' own wrapper of a NumPy array, in which NaN is a number
    register_array_type(f"pandas.{_name}", name="pandas objects", to_numpy=host.plain)
for _name in ("Series", "DataFrame"):
    register_array_type(f"polars.{_name}", name="Polars columns", to_numpy=columns.from_polars, from_numpy=columns.to_polars)
for _name in ("Array", "ChunkedArray"):
    register_array_type(f"pyarrow.{_name}", name="Arrow arrays", to_numpy=columns.from_arrow, from_numpy=columns.to_arrow)
for _name in ("Series", "DataFrame"):
    register_array_type(f"dask.{_name}", name="Dask arrays", to_numpy=columns.refuse_lazy)
for _name, _file, _label in (
    ("torch.Tensor", "torch", "PyTorch tensors"),
    ("jaxlib.ArrayImpl", "jax", "JAX arrays"),
    ("jax.Tracer", "jax", "JAX arrays"),
    ("dask.Array", "dask", "Dask arrays"),
):
    register_array_type(_name, name=_label, to_numpy=adapter(_file, "to_numpy"), call=adapter(_file, "call"))
