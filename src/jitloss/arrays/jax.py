"""JAX arrays: read in place, differentiated by ``jax.grad``, and evaluated by callbacks from compiled programs.

A call on concrete arrays is evaluated at once. A call on tracers (within ``jax.jit``, ``jax.grad``, ``jax.vmap``) becomes a
callback: the compiled program calls the host for value and gradient when it gets there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..keys import PLAIN, remember
from ..results import flat, packed, with_numbers

__all__ = ["call", "to_numpy"]


def call(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A call with JAX arrays among its arguments."""
    values = (*args, *options.values())
    other = form.adapter_of(one for one in values if not isinstance(one, jax.Array))  # arrays that are lazy, or need a gradient
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
    """The arguments, with inputs of other libraries converted to NumPy."""
    others = [name for name in form.inputs if not isinstance(given[name], (jax.Array, Mapping))]
    return given | {name: form.in_numpy(name, given[name]) for name in others}


# Memory -----------------------------------------------------------------------------------------------------------------------


def to_numpy(value: jax.Array) -> np.ndarray:
    """An array in host memory as a read-only NumPy array, without a copy."""
    return np.asarray(value)


def _called(form: Any, given: Mapping[str, Any]) -> Any:
    """What a form returns for arrays in host memory."""
    arrays = {name: np.asarray(one) if isinstance(one, jax.Array) else one for name, one in given.items()}
    return form(*[arrays.pop(name) for name in form.inputs], **with_numbers(arrays))


def _on_numpy(form: Any, given: Mapping[str, Any]) -> list[np.ndarray]:
    """The results of a form on any arrays in host memory, with dtypes that JAX supports."""
    results = flat(_called(form, given))
    if form.wants.value and isinstance(results[0], float):
        results[0] = np.asarray(results[0], _working(form, given))
    return [np.asarray(one, _known(one.dtype)) for one in results]


def _known(dtype: Any) -> Any:
    """The dtype itself, or the narrower one that JAX uses where 64-bit types are disabled."""
    return jax.dtypes.canonicalize_dtype(dtype)


def _working(form: Any, given: Mapping[str, Any]) -> Any:
    """The dtype of a value: that of the arithmetic."""
    arrays = (given[name] for name in form.inputs)
    return np.dtype(form.working(str(one.dtype) for one in arrays))


def _evaluated(form: Any, given: dict[str, Any]) -> Any:
    """The results as JAX arrays, or NumPy arrays where the first input is one."""
    first = given[form.inputs[0]]
    if not isinstance(first, jax.Array):
        return _called(form, given)
    device = next(iter(first.devices()))
    with jax.default_device(device):
        return packed(form, [_to_jax(one, device) for one in _on_numpy(form, _read(form, given))])


def _to_jax(array: np.ndarray, device: jax.Device) -> jax.Array:
    """A JAX array, without a copy where JAX accepts the memory as it is; nobody else holds this array."""
    if array.ndim and array.dtype.kind == "f" and array.ctypes.data % 64 == 0 and array.size:
        return jnp.from_dlpack(array, device=device)  # which does not go by the default device
    return jnp.asarray(array)


# Tracers ----------------------------------------------------------------------------------------------------------------------


def _traced(form: Any, given: dict[str, Any]) -> Any:
    """The results as functions of the array arguments, which JAX may compile, batch and differentiate once."""
    names = tuple(name for name, value in given.items() if isinstance(value, (jax.Array, np.ndarray)))
    rest = {name: value for name, value in given.items() if name not in names}
    shapes = _shapes(form, rest, {name: given[name] for name in names})
    arrays = [given[name] for name in names]
    if form.kind == "value":
        return _differentiable(form, names, rest)(*arrays)
    return packed(form, _callback(form, names, rest, shapes, *map(_once(form), arrays)))


def _callback(form: Any, names: Sequence[str], rest: Mapping[str, Any], shapes: Sequence[Any], *arrays: Any) -> Any:
    """The results of a form, computed when the compiled program runs."""
    key = form, names, tuple([(name, repr(value)) for name, value in rest.items()])
    plain = all(type(value) in PLAIN for value in rest.values())
    on_host = _on_host_again.get(key) if plain else None
    if on_host is None:

        def on_host(*values: Any) -> tuple[np.ndarray, ...]:
            return tuple(_on_numpy(form, {**rest, **dict(zip(names, map(np.asarray, values), strict=True))}))

        if plain:
            remember(_on_host_again, key, on_host)
    return jax.pure_callback(on_host, tuple(shapes), *arrays, vmap_method="sequential")


_on_host_again: dict[Any, Any] = {}
"""The functions that JAX calls back, cached: JAX compiles and keeps a program for each new function, even if all else is equal."""


def _shapes(form: Any, rest: Mapping[str, Any], arrays: Mapping[str, Any]) -> list[Any]:
    """Shapes and dtypes of the results; all errors that do not depend on values are raised here."""
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
            raise TypeError(f"{form.__name__}: {name} holds traced numbers, which must be in one array: use jnp.stack")
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jax.dtypes.extended):
            raise TypeError(f"{form.__name__}: {name} must hold numbers, got the dtype {array.dtype}")
    options = {name: _stand_in(one) for name, one in arrays.items() if name not in form.inputs and not _is_number_to_come(one)}
    parts, given = form.parts(), {**rest, **{name: arrays[name] for name in form.inputs}, **with_numbers(options)}
    parts.trial(given, parts.geometry(given))


def _holds_a_tracer(value: Any) -> bool:
    """Whether a value contains a tracer, at any depth."""
    if isinstance(value, (Mapping, list, tuple)):
        return any(map(_holds_a_tracer, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, jax.core.Tracer)


def _is_number_to_come(one: Any) -> bool:
    return isinstance(one, jax.core.Tracer) and one.ndim == 0


def _stand_in(one: Any) -> np.ndarray:
    """An option as it is, or a concrete stand-in for a traced one."""
    return np.ones(one.shape, one.dtype) if isinstance(one, jax.core.Tracer) else np.asarray(one)


def _differentiable(form: Any, names: Sequence[str], rest: Mapping[str, Any]) -> Any:
    """The value as a function of arrays with a custom derivative, which is computed together with it."""
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
        values = [jnp.asarray(one.value) for one in arrays]  # numbers are Python's own here
        shapes = _shapes(with_gradient, rest, dict(zip(names, values, strict=True)))
        result, *gradients = _callback(with_gradient, names, rest, shapes, *map(_once(form), values))
        return result, (gradients, values)

    def backward(saved: Any, by: Any) -> Any:
        gradients, values = saved
        of_inputs = dict(zip(form.differentiable, gradients, strict=True))
        # NumPy's arrays and Python's numbers are cotangents too
        by = jnp.zeros(by.shape, by.dtype) if isinstance(by, SymbolicZero) else jnp.asarray(by)
        if by.ndim and form.by_rows:
            by = jnp.expand_dims(by, rest.get("axis", -1))
        return tuple(
            (by * of_inputs[name].astype(by.dtype)).astype(value.dtype) if name in of_inputs else _no_cotangent(value)
            for name, value in zip(names, values, strict=True)
        )

    value.defvjp(forward, backward, symbolic_zeros=True)
    return value


def _no_cotangent(value: Any) -> Any:
    """The cotangent of an argument that has none."""
    real = jnp.issubdtype(value.dtype, jnp.floating)
    return jnp.zeros_like(value) if real else np.zeros(value.shape, jax.dtypes.float0)


def _once(form: Any) -> Any:
    """The identity, which raises when someone differentiates what comes after it."""

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
