"""PyTorch tensors: shared with NumPy on the host, passed to the CUDA compiler on a device, and differentiated by autograd.

The gradient is computed with the value, in the forward pass, and the backward pass scales it. Under ``torch.compile`` a call is
one custom operator, whose output shapes are declared.
"""

import ast
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import increment_version

from ..keys import FORMS, ON_DEVICES, PLAIN, remember
from ..results import flat, packed, with_numbers
from ..spaces import is_number
from .cuda import TORCH

__all__ = ["call", "to_numpy"]

Arguments = dict[str, Any]


def call(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A call with tensors among its arguments."""
    if forward_ad._current_level >= 0:
        _refuse_tangents(form, args, options)
    if torch.compiler.is_compiling() or ((_modes() or _is_traced()) and _is_plain(args, options)):
        return _compiled(form, args, options)
    out = options.get("out")
    if out is None:
        return _called(form, args, options)
    written = _written(form, out)
    results = _called(form, args, options)
    increment_version(written)  # a call that fails writes nothing
    return results


_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_is_traced: Callable[[], bool] = getattr(torch._C, "_is_tracing", lambda: False)
"""Whether operations on tensors are being traced, where tensors may hold no values: then a call is one operator."""


def _is_plain(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether an operator can take the arguments as they are."""
    return options.get("out") is None and all(isinstance(one, Tensor) or type(one) in PLAIN for one in (*args, *options.values()))


def _called(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if form.recorded:
        replayed = _replayed(form, args, options)
        if replayed is not None:
            return _autocast(replayed)
    given = _named(form, args, options)
    if form.kind == "value" and torch.is_grad_enabled() and _trained(form, given):
        return _autocast(_differentiated(form, given))
    return _autocast(_evaluated(form, given))


def _refuse_tangents(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise in forward mode: PyTorch itself raises, but only where a tensor requires a gradient."""
    for one in (*args, *options.values()):
        if isinstance(one, Tensor) and forward_ad.unpack_dual(one).tangent is not None:
            raise NotImplementedError(f"{form.__name__}: a loss has no forward-mode derivative; use backward()")


def _replayed(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Replay a recorded call on a device; None where there is none, or a tensor requires a gradient."""
    for one in args:
        if type(one) is not Tensor or one.requires_grad:
            return None
    for one in options.values():
        if isinstance(one, Tensor) and one.requires_grad:
            return None
    return form.replay(TORCH, args, options)


def _named(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Arguments:
    """Arguments by name, including those that only calls on a device have."""
    extra = options.keys() & {*ON_DEVICES}
    if not extra or not any(isinstance(one, Tensor) and one.is_cuda for one in (*args, *options.values())):
        return form.arguments(args, options)  # type: ignore[no-any-return]
    own = {name: options.pop(name) for name in extra}
    return {**form.arguments(args, options), **own}


def _trained(form: Any, given: Arguments) -> bool:
    """Whether autograd needs a gradient; raises where it needs one that does not exist."""
    wanted = [
        name for name, value in given.items() if (value.requires_grad if isinstance(value, Tensor) else _holds_gradient(value))
    ]
    for name in wanted:
        if not isinstance(given[name], Tensor):
            raise NotImplementedError(
                f"{form.__name__}: {name} holds a tensor that requires a gradient, and there is none with respect to the elements of a "
                f"{type(given[name]).__name__}; give one tensor, by torch.stack, or detached ones"
            )
        if name not in form.differentiable:
            raise NotImplementedError(
                f"{form.__name__}: {name} requires a gradient, and there is none with respect to it, only to "
                f"{', '.join(form.differentiable)}; give {name}.detach()"
            )
    return bool(wanted)


def _holds_gradient(value: Any) -> bool:
    """Whether a dict or a list contains a tensor that requires a gradient."""
    inside = value.values() if isinstance(value, Mapping) else value if type(value) in (list, tuple) else ()
    return not PLAIN.issuperset(map(type, inside)) and any(
        one.requires_grad if isinstance(one, Tensor) else _holds_gradient(one) for one in inside
    )


def _autocast(result: Any) -> Any:
    """Under autocast a value is float32, like those of PyTorch's own losses."""
    half = isinstance(result, Tensor) and result.dtype in (torch.float16, torch.bfloat16)
    return result.float() if half and torch.is_autocast_enabled(result.device.type) else result


# Memory -----------------------------------------------------------------------------------------------------------------------


def to_numpy(value: Tensor) -> np.ndarray:
    """A tensor in host memory as an array that shares its memory."""
    try:
        array: np.ndarray = value.detach().numpy()
        return array
    except (RuntimeError, TypeError):  # not directly representable in NumPy, or not at all
        return _otherwise(value)


def _otherwise(value: Tensor) -> np.ndarray:
    if value.is_nested or value.is_quantized or value.layout is not torch.strided:
        kind = "nested" if value.is_nested else "quantised" if value.is_quantized else f"of the layout {value.layout}"
        raise TypeError(f"a tensor must be dense and plain, got one that is {kind}")
    if value.device.type != "cpu":
        raise TypeError(
            f"a tensor must be on the CPU or on a CUDA device, with all others of the call; got one on {value.device}"
        )
    try:
        plain = value.detach().resolve_conj().resolve_neg()
        array: np.ndarray = plain.view(torch.int16).numpy().view(_bfloat16()) if plain.dtype is torch.bfloat16 else plain.numpy()
    except (RuntimeError, TypeError) as error:
        if isinstance(error, _Missing):
            raise
        if torch._C._functorch.maybe_current_level() is not None:
            kind = type(value).__name__
            raise TypeError(
                f"of torch.func's transforms only grad, of a value, is supported; got a {kind} without memory"
            ) from None
        raise TypeError(
            f"a tensor must hold numbers that NumPy knows, got {type(value).__name__} of {value.dtype}: {error}"
        ) from None
    return array


class _Missing(TypeError):
    """A required package is not installed."""


def _bfloat16() -> Any:
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise _Missing("a bfloat16 tensor on the CPU needs the package ml_dtypes; install it, or give tensor.float()") from None
    return ml_dtypes.bfloat16


def _to_tensor(array: np.ndarray) -> Tensor:
    plain = array.dtype.kind != "V"
    return torch.from_numpy(array) if plain else torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)


def _mapped(value: Any, kind: type | tuple[type, ...], function: Callable[[Any], Any]) -> Any:
    """Apply a function to each value of a type, within dicts and tuples too."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, tuple):
        return tuple([_mapped(one, kind, function) for one in value])
    if isinstance(value, Mapping):
        return {name: _mapped(one, kind, function) for name, one in value.items()}
    return value


def _evaluated(form: Any, given: Arguments) -> Any:
    """The results of a form as tensors without autograd, or NumPy arrays where the first input is one."""
    arrays = {}
    for name, value in given.items():
        if type(value) in PLAIN:
            arrays[name] = value
        elif isinstance(value, Tensor) and value.is_cuda:
            return _on_device(form, given)
        else:
            arrays[name] = _in_numpy(form, name, value)
    outs = _pairs(given["out"], arrays["out"]) if "out" in given else {}
    inputs = [arrays.pop(name) for name in form.inputs]
    results = form(*inputs, **(with_numbers(arrays) if arrays else arrays))
    if not isinstance(given[form.inputs[0]], Tensor):
        return results

    def tensor(one: Any) -> Tensor:
        if type(one) is float:
            return torch.from_numpy(np.asarray(one, np.float64 if _is_double(form, given) else np.float32))
        return outs[id(one)] if id(one) in outs else _to_tensor(one)

    return _mapped(results, (float, np.ndarray), tensor)


def _in_numpy(form: Any, name: str, value: Any) -> Any:
    """An argument with tensors converted to arrays."""
    try:
        return to_numpy(value) if type(value) is Tensor else _mapped(value, Tensor, to_numpy)
    except TypeError as error:
        raise TypeError(f"{form.__name__}: {name}: {error}") from None


def _on_device(form: Any, given: Arguments) -> Any:
    detached = {name: one if name == "out" else _mapped(one, Tensor, Tensor.detach) for name, one in given.items()}
    return form.evaluate(tuple(detached.pop(name) for name in form.inputs), detached)


def _written(form: Any, out: Any) -> list[Tensor]:
    """The tensors that are written to; autograd is told of this, as by PyTorch's own in-place operations."""
    tensors = [one for one in _pairs(out, out).values() if not one.is_inference()]
    for one in tensors:
        if one.requires_grad and one.is_leaf and torch.is_grad_enabled():
            raise ValueError(f"{form.__name__}: out must not be a leaf that requires a gradient; give out.detach()")
    return tensors


def _pairs(tensors: Any, arrays: Any) -> dict[int, Any]:
    """Maps each tensor to the array that was made of it; both are nested in the same way."""
    if isinstance(tensors, Mapping):
        return {key: one for name, value in tensors.items() for key, one in _pairs(value, arrays[name]).items()}
    if isinstance(tensors, tuple):
        return {key: one for pair in zip(tensors, arrays, strict=True) for key, one in _pairs(*pair).items()}
    return {id(arrays): tensors} if isinstance(tensors, Tensor) else {}


def _is_double(form: Any, given: Arguments) -> bool:
    """Whether the arithmetic, and so the value, is in float64."""
    values = [given[name] for name in form.inputs]
    dtypes = [getattr(one, "dtype", None) for one in values]
    key = form.loss.definition.maths, *dtypes
    if any(one is None for one in dtypes) or key not in _doubles:
        names = (str(one.dtype)[6:] if isinstance(one, Tensor) else np.asarray(one).dtype.name for one in values)
        remember(_doubles, key, form.working(names) == "float64")
    return _doubles[key]


_doubles: dict[tuple[Any, ...], bool] = {}
"""Answers by form and dtypes of its inputs: finding one takes longer than a small loss. Definitions are kept alive here."""


# Autograd ---------------------------------------------------------------------------------------------------------------------


def _differentiated(form: Any, given: Arguments) -> Tensor:
    names = [name for name, value in given.items() if isinstance(value, Tensor)]
    rest = {name: value for name, value in given.items() if name not in names}
    lazy = next((name for name, value in rest.items() if type(value).__module__.startswith("dask.")), None)
    if lazy is not None:
        raise TypeError(
            f"{form.__name__}: {lazy} is a Dask array, whose results are lazy: no tensor of the call may require a gradient"
        )
    function = _Transformed if _is_transformed() else _Differentiated
    value: Tensor = function.apply(form, names, rest, *(given[name] for name in names))[0]  # type: ignore[no-untyped-call]
    return value


_is_transformed: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
"""Whether a :mod:`torch.func` transform is active. The machinery for those costs as much as a small call."""


def _scaled(
    form: Any, names: Sequence[str], rest: Arguments, by: Tensor | None, gradients: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients with respect to the tensors of a call, multiplied by that of its value or of its items' values."""
    of_inputs = dict(zip(form.differentiable, gradients, strict=True))
    if by is None:
        return [None] * len(names)
    if _is_one(by):
        hand_out = Tensor.clone if _keeps_graph() else _as_they_are if torch.is_grad_enabled() else Tensor.detach
        return [one if one is None else hand_out(one) for one in map(of_inputs.get, names)]
    if by.ndim and form.by_rows:
        by = by.unsqueeze(rest.get("axis", -1))
    return [_product(by, of_inputs[name]) if name in of_inputs else None for name in names]


def _as_they_are(gradient: Tensor) -> Tensor:
    """The gradient itself, so that differentiating it raises."""
    return gradient


def _product(by: Tensor, gradient: Tensor) -> Tensor:
    """The product in at least float32: the factor of a gradient scaler may exceed the range of float16."""
    half = gradient.dtype in (torch.float16, torch.bfloat16)
    return (by.float() * gradient.float() if half else by * gradient).to(gradient.dtype)


_keeps_graph: Callable[[], bool] = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: False)
"""Whether the graph is retained: then its buffers must not be overwritten."""


def _is_one(by: Tensor) -> bool:
    """Whether a loss is the root of its graph, as it mostly is, so that its gradients need no scaling. Does not wait for a device."""
    try:
        return type(by) is Tensor and not by.ndim and by.device.type == "cpu" and by.item() == 1
    except RuntimeError:  # a batched tensor, under vmap
        return False


def _once(form: Any) -> NotImplementedError:
    return NotImplementedError(
        f"{form.__name__}: a loss is differentiated once; its gradient has no gradient (value_gradient_hessian gives the diagonal "
        f"of the second derivative)"
    )


class _Differentiated(torch.autograd.Function):
    """The gradients are outputs too, so that differentiating them raises."""

    @staticmethod
    def forward(ctx: Any, form: Any, names: list[str], rest: Arguments, *tensors: Tensor) -> Any:
        inputs = form, names, rest, *tensors
        output = _Transformed.forward(*inputs)
        _Transformed.setup_context(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, by: Any, *seconds: Any) -> Any:
        if any(one is not None for one in seconds):
            raise _once(ctx.form)
        return None, None, None, *_scaled(ctx.form, ctx.names, ctx.rest, by, ctx.saved_tensors)


class _Transformed(_Differentiated):
    """The same in the two steps that :mod:`torch.func` needs."""

    @staticmethod
    def forward(form: Any, names: list[str], rest: Arguments, *tensors: Tensor) -> Any:  # type: ignore[override]
        return tuple(flat(_evaluated(form.with_gradient, {**rest, **dict(zip(names, tensors, strict=True))})))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.form, ctx.names, ctx.rest = inputs[:3]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])


# torch.compile ----------------------------------------------------------------------------------------------------------------


def _compiled(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The call as an operator. Arguments other than tensors and numbers are passed as text, since operators take few other types."""
    if torch._C._functorch.maybe_current_level() is not None:  # its tensors would seem to require no gradient
        raise NotImplementedError(
            f"{form.__name__}: torch.func within torch.compile is not supported; call torch.func outside of it"
        )
    given = {**dict(zip(form.positional, args, strict=False)), **options}
    if len(args) > len(form.positional) or "out" in given:
        raise TypeError(f"{form.__name__}: under torch.compile a call takes {', '.join(form.positional)} and options, but no out")
    twice = [name for name in form.positional[: len(args)] if name in options]
    missing = [name for name in form.inputs if name not in given]
    if twice or missing:
        problem = f"multiple values for argument {twice[0]!r}" if twice else f"missing a required argument: {missing[0]!r}"
        raise TypeError(f"{form.__name__}: {problem}")
    trained = form.kind == "value" and torch.is_grad_enabled() and _trained(form, given)
    given = {each: _as_operand(one, trained) for name, value in given.items() for each, one in _entries(form, name, value)}
    kinds: dict[str, list[str]] = {"tensors": [], "numbers": [], "integers": [], "texts": []}
    for name, value in given.items():
        kinds[_kind(value)].append(name)
    used = form.with_gradient if trained else form
    results = torch.ops.jitloss.evaluate(
        used.key,
        ",".join([*kinds["tensors"], *kinds["numbers"], *kinds["integers"]]),
        [given[name] for name in kinds["tensors"]],
        [given[name] for name in kinds["numbers"]],
        [given[name] for name in kinds["integers"]],
        "\n".join([f"{name}={' '.join(repr(given[name]).split())}" for name in kinds["texts"]]),
    )
    return _autocast(results[0] if trained else packed(form, results))


def _entries(form: Any, name: str, value: Any) -> list[tuple[str, Any]]:
    """An argument as one operand, or as one for each class where it has a number for each, which may be symbolic."""
    numbers = list(value.values()) if isinstance(value, dict) else value
    if name in form.inputs or not isinstance(numbers, (list, tuple)) or not numbers or not all(map(is_number, numbers)):
        return [(name, value)]
    if not isinstance(value, dict):
        return [(name, torch.stack([torch.scalar_tensor(one, dtype=torch.float64) for one in numbers]))]
    if not all(type(label) is int for label in value):
        return [(name, value)]
    return [(f"{name}[{label}]", float(one)) for label, one in value.items()]


def _as_operand(value: Any, trained: bool) -> Any:
    if isinstance(value, (list, tuple)) and any(isinstance(one, np.ndarray) for one in value):  # traced NumPy numbers
        return torch.stack([torch.as_tensor(one) for one in value])
    if isinstance(value, np.ndarray):
        return torch.as_tensor(value)
    return value.detach() if isinstance(value, Tensor) and not trained else value


def _kind(value: Any) -> str:
    """How an argument is passed to an operator. Numbers may be symbolic, which text cannot represent."""
    if isinstance(value, Tensor):
        return "tensors"
    if isinstance(value, bool):
        return "texts"
    return "numbers" if isinstance(value, float) else "integers" if isinstance(value, int) else "texts"


def _parsed(key: str, names: str, *operands: Any) -> tuple[Any, Arguments]:
    """The form and its arguments, from the operands of an operator."""
    *named, texts = operands
    pairs = (text.partition("=") for text in texts.splitlines())
    form = FORMS[key]
    rest = {name: _read_again(form, name, value) for name, _, value in pairs}
    for name, value in zip(filter(None, names.split(",")), itertools.chain(*named), strict=True):
        whole, _, label = name.partition("[")
        if label:
            rest.setdefault(whole, {})[int(label[:-1])] = value
        else:
            rest[name] = value
    return form, rest


def _read_again(form: Any, name: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        wanted = "a tensor, a NumPy array, or made of Python's own numbers and words, under torch.compile"
        raise TypeError(f"{form.__name__}: {name} must be {wanted}, got {text}") from None


@torch.library.custom_op("jitloss::evaluate", mutates_args=())
def _evaluate(
    key: str, names: str, tensors: list[torch.Tensor], numbers: list[float], integers: list[int], texts: str
) -> list[torch.Tensor]:
    results = flat(_evaluated(*_parsed(key, names, tensors, numbers, integers, texts)))
    return [one.contiguous() for one in results]  # as declared to the compiler


@_evaluate.register_fake
def _shapes(
    key: str, names: str, tensors: list[torch.Tensor], numbers: list[float], integers: list[int], texts: str
) -> list[torch.Tensor]:
    """What the compiler must know of the results: shapes and dtypes."""
    form, given = _parsed(key, names, tensors, numbers, integers, texts)
    first = given[form.inputs[0]]
    real = first.dtype if first.dtype.is_floating_point else torch.float64
    results = []
    if form.wants.value:
        items = form.items(tuple(first.shape), given.get("axis", -1)) if given.get("reduction") == "none" else None
        results.append(
            first.new_empty((), dtype=torch.float64 if _is_double(form, given) else torch.float32)
            if items is None
            else first.new_empty(items, dtype=real)
        )
    for _ in range(form.wants.gradient + form.wants.hessian):
        results += [
            torch.empty_like(given[name], dtype=real, memory_format=torch.contiguous_format) for name in form.differentiable
        ]
    return results


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.form, given = _parsed(*inputs)
    ctx.names = [name for name, value in given.items() if isinstance(value, Tensor)]
    # PyTorch takes None for a list of numbers, but not for an empty one
    ctx.nothing = [None if one else [] for one in inputs[3:5]]
    ctx.rest = {name: value for name, value in given.items() if name not in ctx.names}
    ctx.save_for_backward(*output[1:])


def _backward(ctx: Any, by: list[Any]) -> Any:
    if any(one is not None for one in by[1:]):
        raise _once(ctx.form.loss.value)
    return None, None, _scaled(ctx.form, ctx.names, ctx.rest, by[0], ctx.saved_tensors), *ctx.nothing, None


_evaluate.register_autograd(_backward, setup_context=_remember)
