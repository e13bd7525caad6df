"""Calls on a CUDA device: streams, synchronisation and graphs."""

import contextlib
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import jitloss
from cases import agree, draw, weights
from kits import KITS, MARKS, MSE, SOFTMAX, absent, each_case, widened

pytestmark = MARKS


SLEEP = 400_000_000
"""Cycles for which a stream is kept busy: a fifth of a second, far longer than any call."""


def _busy(torch: Any, stream: Any, fill: Callable[[], None]) -> None:
    """Keep a stream busy before it fills the inputs, which are NaN until then."""
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP)
        fill()


@pytest.fixture
def late(torch) -> SimpleNamespace:
    """Inputs that a side stream fills with a delay, and the expected results."""
    inputs = draw(SOFTMAX, (512, 1000), "float32", ignored=True)
    right = [KITS["torch"].put(one) for one in inputs]
    given = [torch.full_like(right[0], np.nan), right[1].clone()]
    weight = KITS["torch"].put(weights((512,)))
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs), sample_weight=weights((512,)))
    jitloss.cross_entropy_with_logits.value_and_gradient(*right, sample_weight=weight)  # compiled and loaded
    torch.cuda.synchronize()
    return SimpleNamespace(given=given, fill=lambda: given[0].copy_(right[0]), weight=weight, want=want)


def test_torch_current_stream(torch, late):
    """The call is ordered after what its stream does, and does not wait for it."""
    side = torch.cuda.Stream()
    _busy(torch, side, late.fill)
    with torch.cuda.stream(side):
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(*late.given, sample_weight=late.weight)
    assert not side.query(), "the call waited for the device"
    side.synchronize()
    agree(KITS["torch"].get(value), late.want[0], "float32", size=1.0)
    agree(KITS["torch"].get(gradient), late.want[1], size=2e-3)


@pytest.mark.parametrize("weights_on", ["device", "host"])
def test_torch_stream_option(torch, late, weights_on):
    """Memory that a call took for itself is not given to others on the current stream while the kernels still use it."""
    side, weight = torch.cuda.Stream(), late.weight if weights_on == "device" else weights((512,))
    jitloss.cross_entropy_with_logits.value_and_gradient(*late.given, sample_weight=weight)
    torch.cuda.synchronize()
    _busy(torch, side, late.fill)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(*late.given, sample_weight=weight, stream=side)
    others = [torch.full((512,), np.nan, device="cuda") for _ in range(32)]
    if weights_on == "device":  # those of the host are copied, and whether that waits is the driver's choice
        assert not side.query(), "the call waited for the stream"
    side.synchronize()
    agree(KITS["torch"].get(value), late.want[0], "float32", size=1.0)
    agree(KITS["torch"].get(gradient), late.want[1], size=2e-3)
    assert len(others) == 32


def test_stream_option_of_numba_arrays(torch, late):
    """Numba has no current stream: ``stream=`` says on which the kernels run. Torch lends a stream that waits for no other."""
    from numba import cuda

    side = torch.cuda.Stream()
    given = [cuda.as_cuda_array(one) for one in late.given]
    with cuda.defer_cleanup():  # numba waits for the device where it gives memory back
        jitloss.cross_entropy_with_logits.value_and_gradient(*given)
        torch.cuda.synchronize()
        _busy(torch, side, late.fill)
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(
            *given, sample_weight=cuda.as_cuda_array(late.weight), stream=cuda.external_stream(side.cuda_stream)
        )
        assert not side.query(), "the call waited for the device"
        side.synchronize()
    agree(value.copy_to_host(), late.want[0], "float32", size=1.0)
    agree(gradient.copy_to_host(), late.want[1], size=2e-3)


@pytest.mark.parametrize("by", ["current", "option", "handle"])
def test_cupy_streams(by):
    if absent("cupy") is not None:
        pytest.skip(absent("cupy") or "")
    import cupy

    inputs = draw(SOFTMAX, (512, 1000), "float32")
    logits, labels = map(cupy.asarray, inputs)
    given = cupy.full_like(logits, np.nan)
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs))
    spin = cupy.RawKernel(
        'extern "C" __global__ void spin(long long n) { long long start = clock64(); while (clock64() - start < n) {} }', "spin"
    )
    jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels)
    spin((1,), (1,), (np.int64(1),))
    cupy.cuda.Device().synchronize()
    side = cupy.cuda.Stream(non_blocking=True)
    with side:
        spin((1,), (1,), (np.int64(SLEEP),))
        given[...] = logits
    with side if by == "current" else contextlib.nullcontext():
        option = {"current": {}, "option": {"stream": side}, "handle": {"stream": side.ptr}}[by]
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(given, labels, **option)
    assert not side.done, "the call waited for the device"
    side.synchronize()
    agree(value.get(), want[0], "float32", size=1.0)
    agree(gradient.get(), want[1], size=2e-3)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@each_case
def test_torch_sees_no_synchronisation(case, torch):
    """With labels, weights on the device, and every form: torch detects no synchronisation."""
    inputs = [KITS["torch"].put(one) for one in draw(case, case.shape, "float32")]
    weight = KITS["torch"].put(weights(case.shape[:1]))
    options: list[dict[str, Any]] = [{}]
    if not case.loss.definition.is_penalty:
        options += [{"reduction": "none"}, {"sample_weight": weight, "normalizer": "weights"}, {"out": None}]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for given in options:
            case.loss.value_and_gradient(*inputs, **given)
            case.loss.gradient(*inputs, **given)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("columns", [10, 1000, 100_000])
def test_captured_in_a_graph(torch, columns):
    """One call recorded, then replayed with other numbers in the same arrays."""
    kit, rows = KITS["torch"], 64
    logits, labels = map(kit.put, draw(SOFTMAX, (rows, columns), "float32"))
    out, weight = torch.empty_like(logits), kit.put(weights((rows,)).astype(np.float32))

    def call() -> Any:
        return jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, sample_weight=weight, out=out)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value, _ = call()
    for seed in (1, 2):
        others = draw(SOFTMAX, (rows, columns), "float32", seed=seed, ignored=True)
        for place, one in zip((logits, labels), others, strict=True):
            place.copy_(kit.put(one))
        graph.replay()
        want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(others), sample_weight=weights((rows,)))
        agree(kit.get(value), want[0], "float32", size=1.0, looser=4.0)
        agree(kit.get(out), want[1], size=2.0 / rows, looser=4.0)


def test_a_thread_of_ones_own(arrays):
    """A thread that has not used the device before."""
    inputs, found = draw(MSE, (1000,), "float32"), []
    values = [arrays.put(one) for one in inputs]
    jitloss.mse_loss(*values)

    def call() -> None:
        found.append(jitloss.mse_loss(*values))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    agree(arrays.get(found[0]), jitloss.mse_loss(*widened(inputs)), "float32")
