"""The same losses in other libraries: one table per library. What a table lacks is shown as a dash.

NumPy's functions return value and gradients; PyTorch and JAX differentiate the value themselves.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

import jitloss

from . import jax as in_jax
from . import torch as in_torch
from .numpy import FUNCTIONS as NUMPY

__all__ = ["MODULES", "NUMPY", "PEERS"]

Call = Callable[[], tuple[Any, Any]]
Inputs = tuple[np.ndarray, ...]


def _differentiated(name: str) -> tuple[int, ...]:
    """The positions of the inputs that have a gradient."""
    return tuple(position for position, one in enumerate(jitloss.LOSSES[name].definition.inputs) if one.differentiable)


def _numpy_call(name: str, inputs: Inputs) -> Call | None:
    return partial(NUMPY[name], *inputs) if name in NUMPY else None


def _torch_call(name: str, inputs: Inputs) -> Call | None:
    """Forward and backward on leaf tensors, with as many threads as jitloss uses."""
    torch: Any = importlib.import_module("torch")
    function = in_torch.functions(torch).get(name)
    if function is None:
        return None
    torch.set_num_threads(importlib.import_module("numba").get_num_threads())
    tensors = [torch.from_numpy(one) for one in inputs]
    leaves = [tensors[position].requires_grad_(True) for position in _differentiated(name)]

    def call() -> tuple[Any, Any]:
        for leaf in leaves:
            leaf.grad = None
        value = function(*tensors)
        value.backward()
        return value.detach(), tuple(leaf.grad for leaf in leaves)

    return call


def _jax_call(name: str, inputs: Inputs) -> Call | None:
    """The jitted value and gradient on JAX's own arrays, on the CPU; labels as int32, to which JAX converts them."""
    jax: Any = importlib.import_module("jax")
    function = in_jax.functions(jax).get(name)
    if function is None:
        return None
    cpu, compiled = jax.devices("cpu")[0], jax.jit(jax.value_and_grad(function, _differentiated(name)))
    arrays = [jax.device_put(one.astype(np.int32) if one.dtype == np.int64 else one, cpu) for one in inputs]
    return lambda: jax.block_until_ready(compiled(*arrays))


PEERS: Mapping[str, Callable[[str, Inputs], Call | None]] = {"NumPy": _numpy_call, "PyTorch": _torch_call, "JAX": _jax_call}

MODULES = {"PyTorch": "torch", "JAX": "jax"}
"""The module that must be installed for a peer."""
