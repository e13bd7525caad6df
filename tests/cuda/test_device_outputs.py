"""Calls on a CUDA device: outputs, and invalid labels."""

import numpy as np
import pytest

import jitloss
from cases import agree, draw
from kits import KITS, MARKS, MSE, SOFTMAX, absent, each_case, each_dtype, each_label_case, got_back, needs, sizes, widened

pytestmark = MARKS


# out= -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [7, 1024, 128_256])
@each_dtype
def test_in_place(dtype, columns, arrays):
    if not arrays.takes(dtype) or arrays.name not in ("torch", "cupy", "numba"):
        pytest.skip(f"{arrays.name} has no {dtype}")
    inputs = draw(SOFTMAX, (5, columns), dtype)
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs))
    logits, labels = map(arrays.put, inputs)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, out=logits)
    assert gradient is logits
    agree(arrays.get(value), want[0], "float64" if dtype == "float64" else "float32", size=30.0, looser=4.0)
    agree(arrays.get(gradient), want[1], size=0.2, looser=4.0)


@each_case
def test_out(case, arrays):
    """Outputs are filled, also each over its own input; the memory around them stays unchanged."""
    inputs = draw(case, case.shape, "float32")
    names = [one.name for one in case.loss.definition.differentiable]
    want = case.loss.gradient(*widened(inputs))
    for over in (False, True):
        values = [arrays.put(one) for one in inputs]
        outs = [values[place] if over else arrays.put(np.full_like(inputs[place], 7.0)) for place in range(len(names))]
        out = outs[0] if len(names) == 1 else dict(zip(names, outs, strict=True))
        got = case.loss.gradient(*values, out=out)
        assert all(mine is theirs for mine, theirs in zip(got.values() if isinstance(got, dict) else [got], outs, strict=True))
        agree(got_back(arrays, got), want, size=sizes(case, inputs)[1])


def test_out_that_does_not_fit(torch):
    x, y = torch.ones(8, device="cuda"), torch.zeros(8, device="cuda")
    for out in (torch.ones(7, device="cuda"), torch.ones(8, device="cuda").double(), torch.ones(16, device="cuda")[::2], y):
        with pytest.raises(ValueError, match="out"):
            jitloss.mse_loss.gradient(x, y, out=out)
    for out in (np.ones(8, np.float32), torch.ones(8)):
        with pytest.raises(TypeError, match="out"):
            jitloss.mse_loss.gradient(x, y, out=out)
    memory = torch.ones(12, device="cuda")
    with pytest.raises(ValueError, match="overlaps"):
        jitloss.mse_loss.gradient(memory[:8], y, out=memory[4:])


def test_jax_arrays_are_not_written():
    if absent("jax") is not None:
        pytest.skip(absent("jax") or "")
    x = KITS["jax"].put(np.ones(8, np.float32))
    with pytest.raises(ValueError, match="writable"):
        jitloss.mse_loss.gradient(x, x + 1, out=x)


def test_running_out_of_memory_leaves_the_inputs(torch):
    """The call fails before anything is launched, and the next one works."""
    needs(torch, 2**31)
    x, y = torch.ones(2**27, device="cuda"), torch.zeros(2**27, device="cuda")
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**28) / total)
    try:
        for options in ({}, {"out": x, "reduction": "none"}):
            with pytest.raises(torch.cuda.OutOfMemoryError):
                jitloss.mse_loss.value_and_gradient(x, y, **options)
            assert bool((x == 1.0).all())
            assert not y.any()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert float(jitloss.mse_loss(x, y)) == 1.0


# Labels -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [7, 1000, 4096, 200_000])
@pytest.mark.parametrize("label", [-1, "columns", -99, 2**31, 2**62, -(2**62)])
@each_label_case
def test_labels_that_are_no_class(case, label, columns, torch):
    """Rows with invalid labels are NaN, all others are right, and no memory outside the arrays is written."""
    kit, guard = KITS["torch"], 4096
    predictions, labels = draw(case, (9, columns), "float32", ignored=True)
    bad = np.array([2, 6])
    memory = torch.full((2, predictions.size + 2 * guard), 7.0, device="cuda")
    given, out = (one[guard:-guard].view(predictions.shape) for one in memory)
    given[...] = kit.put(predictions)
    want = case.loss.value_and_gradient(predictions.astype(np.float64), labels, reduction="none")
    labels[bad] = columns if label == "columns" else label
    value, gradient = got_back(kit, case.loss.value_and_gradient(given, kit.put(labels), reduction="none", out=out))
    fine = np.delete(np.arange(9), bad)
    assert np.isnan(value[bad]).all()
    assert np.isnan(gradient[bad]).all()
    agree(value[fine], want[0][fine], size=30.0, looser=4.0)
    agree(gradient[fine], want[1][fine], size=1.0, looser=4.0)
    for one in memory:
        assert bool((one[:guard] == 7.0).all())
        assert bool((one[-guard:] == 7.0).all())
    agree(kit.get(given), predictions)
    assert np.isnan(float(case.loss(given, kit.put(labels))))


@each_label_case
def test_check_raises_for_a_label_that_is_no_class(case, arrays):
    predictions, labels = draw(case, case.shape, "float32")
    labels[17] = 7
    out = arrays.put(np.full_like(predictions, 5.0))
    with pytest.raises(ValueError, match=r"targets\[17\].* is 7"):
        case.loss.gradient(arrays.put(predictions), arrays.put(labels), out=out, check=True)
    assert (arrays.get(out) == 5.0).all()
    labels[17] = 0
    want = case.loss(predictions.astype(np.float64), labels)
    agree(arrays.get(case.loss(arrays.put(predictions), arrays.put(labels), check=True)), want, "float32", size=1.0)


def test_check_raises_for_a_negative_weight(arrays):
    inputs, weight = draw(MSE, (33,), "float32"), np.ones(33)
    weight[5] = -1.0
    with pytest.raises(ValueError, match=r"sample_weight .* index 5"):
        jitloss.mse_loss(*map(arrays.put, inputs), sample_weight=arrays.put(weight), check=True)


def test_nothing_counts(arrays):
    logits, labels = draw(SOFTMAX, (33, 7), "float32")
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(
        arrays.put(logits), arrays.put(np.full_like(labels, -100))
    )
    assert arrays.get(value) == 0.0
    assert not arrays.get(gradient).any()


def test_errstate(arrays):
    x = np.ones(33, np.float32)
    x[4] = np.nan
    with jitloss.errstate(invalid="raise"), pytest.raises(FloatingPointError, match="first at item 4"):
        jitloss.mse_loss(arrays.put(x), arrays.put(np.zeros_like(x)))
