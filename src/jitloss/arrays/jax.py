"""JAX arrays: read where they lie, differentiated by ``jax.grad``, and called back from compiled programs.

A call on arrays that are there is evaluated at once. A call on tracers (within ``jax.jit``, ``jax.grad``, ``jax.vmap``) becomes a
callback: the program runs on, and asks for value and gradient on the host when it gets there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..keys import PLAIN
from ..results import flat, packed, with_numbers

__all__ = ["call", "to_numpy"]


def call(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A call with JAX arrays among its arguments."""
    values = (*args, *options.values())
    other = form.adapter_of(one for one in values if not isinstance(one, jax.Array))  # whose arrays are lazy, or want a gradient
    if other is not None:
        return other(form, args, options)
    if any(isinstance(one, jax.core.Tracer) for one in values):
        return _traced(form, _read(form, _named(form, args, options)))
    if any(isinstance(one, jax.Array) and not _on_host(one) for one in values):
        return form.evaluate(args, options)
    return _evaluated(form, _named(form, args, options))


def _on_host(array: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in array.devices())


def _named(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = form.arguments(args, options)
    if arguments.get("out") is not None:
        raise ValueError(f"{form.__name__}: out is not for JAX arrays, which nobody may write to; leave it out")
    return arguments


def _read(form: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with NumPy arrays for inputs of other libraries."""
    others = [name for name in form.inputs if not isinstance(given[name], (jax.Array, Mapping))]
    return given | {name: form.in_numpy(name, given[name]) for name in others}


# Memory -----------------------------------------------------------------------------------------------------------------------


def to_numpy(value: jax.Array) -> np.ndarray:
    """An array in host memory, read-only, without a copy."""
    return np.asarray(value)


def _on_numpy(form: Any, given: Mapping[str, Any]) -> list[np.ndarray]:
    """The results of a form, on arrays of any kind that are in host memory, with the dtypes that JAX knows of."""
    arrays = {name: np.asarray(one) if isinstance(one, jax.Array) else one for name, one in given.items()}
    inputs = [arrays.pop(name) for name in form.inputs]
    results = flat(form(*inputs, **with_numbers(arrays)))
    if form.wants.value and isinstance(results[0], float):
        results[0] = np.asarray(results[0], _working(form, given))
    return [np.asarray(one, _known(one.dtype)) for one in results]


def _known(dtype: Any) -> Any:
    """The dtype itself, or what JAX makes of it where it has no 64 bits."""
    return jax.dtypes.canonicalize_dtype(dtype)


def _working(form: Any, given: Mapping[str, Any]) -> Any:
    """The dtype of a value: that of the arithmetic."""
    arrays = (given[name] for name in form.inputs)
    names = (str(one.dtype) if hasattr(one, "dtype") else np.asarray(one).dtype.name for one in arrays)
    return np.dtype(form.working(names))


def _evaluated(form: Any, given: dict[str, Any]) -> Any:
    """The results as JAX arrays; NumPy's where the first input is NumPy's."""
    first = given[form.inputs[0]]
    if not isinstance(first, jax.Array):
        arrays = {name: np.asarray(one) if isinstance(one, jax.Array) else one for name, one in given.items()}
        return form(*[arrays.pop(name) for name in form.inputs], **with_numbers(arrays))
    with jax.default_device(next(iter(first.devices()))):
        return packed(form, [_to_jax(one) for one in _on_numpy(form, _read(form, given))])


def _to_jax(array: np.ndarray) -> jax.Array:
    """Without a copy where JAX takes memory as it lies; nobody else holds this array."""
    if array.ndim and array.dtype.kind == "f" and array.ctypes.data % 64 == 0 and array.size:
        return jnp.from_dlpack(array)
    return jnp.asarray(array)


# Tracers ----------------------------------------------------------------------------------------------------------------------


def _traced(form: Any, given: dict[str, Any]) -> Any:
    """The results as functions of the arrays of a call, which JAX may compile, batch and differentiate once."""
    names = tuple(name for name, value in given.items() if isinstance(value, (jax.Array, np.ndarray)))
    rest = {name: value for name, value in given.items() if name not in names}
    shapes = _shapes(form, rest, {name: given[name] for name in names})
    arrays = [given[name] for name in names]
    if form.kind == "value":
        return _differentiable(form, names, rest)(*arrays)
    return packed(form, _callback(form, names, rest, shapes, *map(_once(form), arrays)))


def _callback(form: Any, names: Sequence[str], rest: Mapping[str, Any], shapes: Sequence[Any], *arrays: Any) -> Any:
    """The results of a form, asked for when the program runs."""
    key = form, names, tuple([(name, type(value), repr(value)) for name, value in rest.items()])
    plain = all(type(value) in PLAIN for value in rest.values())
    on_host = _on_host_again.get(key) if plain else None
    if on_host is None:

        def on_host(*values: Any) -> tuple[np.ndarray, ...]:
            return tuple(_on_numpy(form, {**rest, **dict(zip(names, map(np.asarray, values), strict=True))}))

        if plain:
            if len(_on_host_again) >= MOST_CALLBACKS:
                _on_host_again.clear()
            _on_host_again[key] = on_host
    return jax.pure_callback(on_host, tuple(shapes), *arrays, vmap_method="sequential")


MOST_CALLBACKS = 256
_on_host_again: dict[Any, Any] = {}
"""The functions that JAX calls back: it compiles a program for each, and keeps it, even where nothing but the function is new."""


def _shapes(form: Any, rest: Mapping[str, Any], arrays: Mapping[str, Any]) -> list[Any]:
    """Shapes and dtypes of the results; whatever of a call can be wrong without its numbers is wrong now."""
    _check(form, rest, arrays)
    first = arrays[form.inputs[0]]
    real = _known(first.dtype if jnp.issubdtype(first.dtype, jnp.floating) else np.float64)
    shapes = []
    if form.wants.value:
        by_items = rest.get("reduction") == "none"
        items = form.items(tuple(first.shape), rest.get("axis", -1)) if by_items else ()
        shapes.append(jax.ShapeDtypeStruct(items, real if by_items else _known(_working(form, arrays))))
    for _ in range(form.wants.gradient + form.wants.hessian):
        shapes += [jax.ShapeDtypeStruct(arrays[name].shape, real) for name in form.differentiable]
    return shapes


def _check(form: Any, rest: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    for name, value in rest.items():
        if _holds_a_tracer(value):
            raise TypeError(
                f"{form.__name__}: {name} holds numbers that are traced, which must stand in an array: jnp.stack them"
            )
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jax.dtypes.extended):
            raise TypeError(f"{form.__name__}: {name} must hold numbers, got the dtype {array.dtype}")
    options = {name: _stand_in(one) for name, one in arrays.items() if name not in form.inputs and not _is_number_to_come(one)}
    parts, given = form.parts(), {**rest, **{name: arrays[name] for name in form.inputs}, **with_numbers(options)}
    parts.trial(given, parts.geometry(given))


def _holds_a_tracer(value: Any) -> bool:
    """Whether one lies in a value, at any depth of it."""
    if isinstance(value, (Mapping, list, tuple)):
        return any(map(_holds_a_tracer, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, jax.core.Tracer)


def _is_number_to_come(one: Any) -> bool:
    return isinstance(one, jax.core.Tracer) and one.ndim == 0


def _stand_in(one: Any) -> np.ndarray:
    """An option as it is, or one like it."""
    return np.ones(one.shape, one.dtype) if isinstance(one, jax.core.Tracer) else np.asarray(one)


def _differentiable(form: Any, names: Sequence[str], rest: Mapping[str, Any]) -> Any:
    """The value as a function of arrays with a derivative of its own, which is computed together with it."""
    with_gradient = form.with_gradient

    @jax.custom_vjp
    def value(*arrays: Any) -> Any:
        return _callback(form, names, rest, _shapes(form, rest, dict(zip(names, arrays, strict=True))), *arrays)[0]

    def forward(*arrays: Any) -> Any:
        for name, array in zip(names, arrays, strict=True):
            if array.perturbed and name not in form.differentiable:
                raise NotImplementedError(
                    f"{form.__name__}: there is no gradient with respect to {name}, only to {', '.join(form.differentiable)}; "
                    f"give jax.lax.stop_gradient({name})"
                )
        values = [jnp.asarray(one.value) for one in arrays]  # a number is one of Python's here
        shapes = _shapes(with_gradient, rest, dict(zip(names, values, strict=True)))
        result, *gradients = _callback(with_gradient, names, rest, shapes, *map(_once(form), values))
        return result, (gradients, values)

    def backward(saved: Any, by: Any) -> Any:
        gradients, values = saved
        of_inputs = dict(zip(form.differentiable, gradients, strict=True))
        if not isinstance(by, jax.Array):  # nobody asked for it
            by = jnp.zeros(by.shape, by.dtype)
        if by.ndim and form.by_rows:
            by = jnp.expand_dims(by, rest.get("axis", -1))
        return tuple(
            (by * of_inputs[name]).astype(value.dtype) if name in of_inputs else _no_cotangent(value)
            for name, value in zip(names, values, strict=True)
        )

    value.defvjp(forward, backward, symbolic_zeros=True)
    return value


def _no_cotangent(value: Any) -> Any:
    """What stands for a derivative that there is not."""
    real = jnp.issubdtype(value.dtype, jnp.floating)
    return jnp.zeros_like(value) if real else np.zeros(value.shape, jax.dtypes.float0)


def _once(form: Any) -> Any:
    """The identity, which says so when somebody differentiates what comes after it."""

    @jax.custom_jvp
    def same(array: Any) -> Any:
        return array

    def refuse(primals: Any, tangents: Any) -> Any:
        raise NotImplementedError(
            f"{form.__name__}: a loss is differentiated once and in reverse; its gradient has no derivative "
            f"(value_gradient_hessian gives the diagonal of the second one)"
        )

    same.defjvp(refuse)
    return same
