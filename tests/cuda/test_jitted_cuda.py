"""Losses called from users' own CUDA kernels: they compile for a device that is not here, and run in the simulator."""

import os
from unittest import mock

import numpy as np
import pytest

import jitloss
import toolkit
from cases import CASES, draw

ELEMENTS = [case for case in CASES if not case.rowwise and len(case.loss.definition.inputs) == 2]
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")

if SIMULATED or toolkit.missing() is None:
    from numba import cuda  # the simulator wants it among the globals of a kernel's file


def kernel_of(case):
    """A user's kernel, which names a form, and others as attributes of the loss."""
    loss, gradient = case.loss, case.loss.gradient

    def kernel(predictions, targets, values, gradients):
        at = cuda.grid(1)
        if at < predictions.size:
            values[at] = loss(predictions[at], targets[at])
            _, slope = loss.value_and_gradient(predictions[at], targets[at])
            gradients[at] = (gradient(predictions[at], targets[at]) + slope) / 2  # which are the same

    return kernel


@pytest.mark.skipif(toolkit.missing() is not None, reason=str(toolkit.missing()))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ELEMENTS, ids=repr)
def test_kernels_compile(case, dtype):
    import numba.cuda.compiler
    import numba.cuda.dispatcher
    from numba import types

    device = mock.Mock(compute_capability=(9, 0))
    array = getattr(types, dtype)[::1]
    with (
        mock.patch.object(numba.cuda.dispatcher, "get_current_device", return_value=device),
        mock.patch.object(numba.cuda.compiler, "get_current_device", return_value=device),
    ):
        ptx, _ = cuda.compile_ptx(kernel_of(case), (array,) * 4, cc=(9, 0))
    assert ".entry" in ptx
    if dtype == "float32":
        assert ".f64" not in ptx


@pytest.mark.skipif(not SIMULATED, reason="numba's simulator runs with NUMBA_ENABLE_CUDASIM=1")
@pytest.mark.parametrize("case", ELEMENTS, ids=repr)
def test_kernels_run_in_the_simulator(case):
    predictions, targets = draw(case, (5,))
    values, gradients = np.zeros(5), np.zeros(5)
    cuda.jit(kernel_of(case))[1, 8](predictions, targets, values, gradients)
    for at in range(5):
        value, gradient = case.loss.value_and_gradient(predictions[at : at + 1], targets[at : at + 1])
        assert (values[at], gradients[at]) == pytest.approx((value, gradient[0]), rel=1e-12)


def test_the_list_is_not_empty():
    assert len(ELEMENTS) >= 9
    assert all(isinstance(case.loss, jitloss.Loss) for case in ELEMENTS)
