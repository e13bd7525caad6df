"""Losses called from users' own CUDA kernels, which run in numba's simulator and, compiled, in the PTX emulator."""

import os

import numpy as np
import pytest

import jitloss
import toolkit
from cases import CASES, agree, draw

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
def test_kernels_compile_and_run_on_the_machine(case, dtype):
    from numba import types

    from imagined import Array, memory
    from kernels import CAPABILITY, imagined_compilation
    from machine import Program

    array = getattr(types, dtype)[::1]
    with imagined_compilation():
        ptx, _ = cuda.compile_ptx(kernel_of(case), (array,) * 4, cc=CAPABILITY)
    if dtype == "float32":
        assert ".f64" not in ptx
    predictions, targets = draw(case, (41,), dtype)
    held = [Array(one) for one in (predictions, targets, *np.full((2, 41), np.nan, dtype))]
    words = [word for one in held for word in (0, 0, 41, one.dtype.itemsize, one.address, 41, one.dtype.itemsize)]
    Program.read(ptx).run(memory, 2, words)
    value, gradient = case.loss.value_and_gradient(predictions, targets, reduction="none")
    for got, want in zip(held[2:], (value, gradient), strict=True):
        agree(got.numpy(), want, size=1.0)


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
