"""Calls on a CUDA device, against the CPU's results for the same numbers in float64: ``pytest -m cuda tests/cuda``."""

import contextlib
import inspect

import numpy as np
import pytest

import jitloss
from cases import ALL, CASES, Case, agree, draw, weights
from kits import (
    COLUMNS,
    KITS,
    MARKS,
    MSE,
    SOFTMAX,
    bits,
    check,
    each_binary_case,
    each_case,
    each_dtype,
    each_row_case,
    got_back,
    needs,
    options_of,
    sizes,
    widened,
)

pytestmark = MARKS


# Results ----------------------------------------------------------------------------------------------------------------------


@each_dtype
@each_case
def test_every_option(case, dtype, arrays):
    """Weights on the device."""
    if not arrays.takes(dtype):
        pytest.skip(f"{arrays.name} has no {dtype}")
    for options in options_of(case):
        check(case, arrays, draw(case, case.shape, dtype, ignored="ignore_index" not in options), dtype, **options)


@each_case
def test_weights_on_the_host(case, arrays):
    for options in options_of(case):
        if "sample_weight" in options or "class_weight" in options:
            check(
                case,
                arrays,
                draw(case, case.shape, "float32", ignored="ignore_index" not in options),
                "float32",
                on_device=False,
                **options,
            )


@each_binary_case
def test_balanced(case, arrays):
    predictions, targets = draw(case, case.shape, "float32")
    inputs = [predictions, np.round(targets)]
    check(case, arrays, inputs, "float32", class_weight="balanced")
    if "pos_weight" in inspect.signature(case.loss).parameters:
        check(case, arrays, inputs, "float32", pos_weight="balanced")


@each_dtype
@each_case
def test_every_library(case, dtype, kit):
    """The results are the caller's own arrays, on the device that the inputs are on."""
    if not kit.takes(dtype):
        pytest.skip(f"{kit.name} has no {dtype}")
    for reduction in [{}] if case.loss.definition.is_penalty else [{}, {"reduction": "none"}]:
        raw = check(case, kit, draw(case, case.shape, dtype), dtype, **reduction)
        for one in raw:
            for array in one.values() if isinstance(one, dict) else [one]:
                assert kit.is_one(array), type(array)
        if not reduction:
            assert tuple(raw[0].shape) == ()


def test_results_outlive_what_they_were_made_from(kit):
    """No result is a view of memory that has been freed."""
    inputs = draw(MSE, (100_003,), "float32")
    kept = [jitloss.mse_loss.gradient(*map(kit.put, inputs)) for _ in range(20)]
    others = [kit.put(np.full(100_003, np.nan, np.float32)) for _ in range(20)]
    kit.wait()
    want = jitloss.mse_loss.gradient(*widened(inputs))
    for one in kept:
        agree(kit.get(one), want)
    assert len(others) == 20


def test_results_can_be_used_at_once(torch):
    """Torch's own kernels follow ours on the same stream, so no synchronisation is needed."""
    inputs = draw(SOFTMAX, (512, 1000), "float32")
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(*map(KITS["torch"].put, inputs))
    agree(KITS["torch"].get((gradient * 2.0).sum(-1) + value), np.full(512, float(value)), size=1.0)


@pytest.mark.parametrize("labels", ["int8", "int16", "int32", "int64", "uint8"])
def test_labels_of_any_dtype(arrays, labels):
    logits, classes = draw(SOFTMAX, (33, 7), "float32")
    check(SOFTMAX, arrays, [logits, classes.astype(labels)], "float32")


def test_bool_targets_and_integer_predictions(arrays):
    predictions, targets = draw(Case(jitloss.hinge_loss), (33,), "float32")
    want = jitloss.hinge_loss.gradient(predictions, targets)
    agree(arrays.get(jitloss.hinge_loss.gradient(arrays.put(predictions), arrays.put(targets > 0))), want)
    whole = [np.arange(33, dtype=np.int32), np.arange(33, dtype=np.int32)[::-1].copy()]
    gradient = arrays.get(jitloss.mse_loss.gradient(*map(arrays.put, whole)))
    assert gradient.dtype == np.float64
    agree(gradient, jitloss.mse_loss.gradient(*whole))


def test_sums_and_definitions_of_ones_own(arrays):
    @jitloss.pointwise
    def own_loss(prediction, target, alpha=1.0):
        error = prediction - target
        return error * error + alpha * abs(error), 2.0 * error + alpha * sign(error)  # noqa: F821

    inputs = draw(MSE, (1001,), "float32")
    for loss in (own_loss, 0.5 * own_loss, jitloss.mse_loss + 0.5 * jitloss.l1_loss):
        want = loss.value_and_gradient(*widened(inputs))
        got = loss.value_and_gradient(*map(arrays.put, inputs))
        for mine, right in zip(got_back(arrays, got), want, strict=True):
            agree(mine, right, "float32", size=1.0 if mine.ndim == 0 else 1 / 1001)


def test_penalties_of_dicts_and_weighted_sums(arrays):
    """Values are added on the device."""
    params = {"w": np.linspace(-1.0, 1.0, 33, dtype=np.float32), "b": np.linspace(0.0, 2.0, 7, dtype=np.float32)}
    want = jitloss.l2_regularization.value_and_gradient({name: one.astype(np.float64) for name, one in params.items()})
    value, gradient = jitloss.l2_regularization.value_and_gradient({name: arrays.put(one) for name, one in params.items()})
    assert arrays.is_one(value)
    agree(arrays.get(value), want[0], "float32")
    agree(got_back(arrays, gradient), want[1])
    total = jitloss.weighted_sum(first=(jitloss.mse_loss, 1.0), second=(jitloss.l1_loss, 0.5))
    sides = [
        dict(zip(("first", "second"), pair, strict=True))
        for pair in zip(*[draw(MSE, (n,), "float32") for n in (33, 7)], strict=True)
    ]
    want = total.value_and_gradient(*({name: one.astype(np.float64) for name, one in side.items()} for side in sides))
    value, gradient = total.value_and_gradient(*({name: arrays.put(one) for name, one in side.items()} for side in sides))
    agree(arrays.get(value), want[0], "float32", size=1.0)
    agree(got_back(arrays, gradient), want[1], size=0.2)


# Shapes -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 7, 33, 1000, 100_003, 3_000_001])
@pytest.mark.parametrize("case", [case for case in CASES if not case.rowwise], ids=repr)
def test_sizes(case, size, arrays):
    check(case, arrays, draw(case, (size,), "float32"), "float32")


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@each_row_case
def test_columns(case, dtype, columns, arrays):
    """Teams of every size, rows that are kept and rows that are read again, with and without vectors."""
    if not arrays.takes(dtype):
        pytest.skip(f"{arrays.name} has no {dtype}")
    rows = 3 if columns > 1001 else 130
    check(case, arrays, draw(case, (rows, columns), dtype), dtype, looser=4.0)


@pytest.mark.parametrize("columns", [10, 1000])
def test_more_rows_than_blocks(arrays, columns):
    check(SOFTMAX, arrays, draw(SOFTMAX, (70_001, columns), "float32", ignored=True), "float32", looser=4.0)


@pytest.mark.parametrize(
    ("shape", "axis"), [((9, 7), 0), ((4, 3, 5), 1), ((2, 300, 9), -2), ((2, 3, 40, 3), 2), ((1, 19, 128, 128), 1)], ids=str
)
@each_row_case
def test_inner_axis(case, shape, axis, arrays):
    inputs = draw(case, shape, "float32", axis=axis, ignored=True)
    check(case, arrays, inputs, "float32", axis=axis)
    items = tuple(np.delete(shape, axis))
    check(case, arrays, inputs, "float32", axis=axis, reduction="none", sample_weight=weights(items[:1]))


@each_dtype
@each_case
def test_unaligned(case, dtype, torch):
    """Arrays that start one element after a multiple of 16 bytes."""
    kit = KITS["torch"]
    inputs = draw(case, case.shape, dtype)
    views = []
    for one in inputs:
        memory = torch.empty(one.size + 1, dtype=kit.put(one).dtype, device="cuda")
        memory[1:] = kit.put(one).reshape(-1)
        views.append(memory[1:].view(one.shape))
        assert views[-1].data_ptr() % 16
    want = case.loss.value_and_gradient(*widened(inputs))
    got = got_back(kit, case.loss.value_and_gradient(*views))
    for mine, right, size in zip(got, want, sizes(case, inputs), strict=False):
        agree(mine, right, "float64" if dtype == "float64" else "float32", size=size)


@each_case
def test_not_contiguous(case, torch):
    """Every other row, and a reversed array, which torch copies."""
    inputs = draw(case, case.shape, "float32")
    views = [KITS["torch"].put(np.repeat(one, 2, axis=0))[::2] for one in inputs]
    assert not views[0].is_contiguous()
    want = case.loss.value_and_gradient(*widened(inputs))
    for mine, right, size in zip(
        got_back(KITS["torch"], case.loss.value_and_gradient(*views)), want, sizes(case, inputs), strict=False
    ):
        agree(mine, right, "float32", size=size)


def test_more_elements_than_an_int32_counts(torch):
    count = 2**31 + 4099
    needs(torch, 2 * 2 * count)
    predictions, targets = (torch.zeros(count, dtype=torch.float16, device="cuda") for _ in range(2))
    predictions[-5:] = torch.arange(1.0, 6.0, device="cuda")
    value, gradient = jitloss.mse_loss.value_and_gradient(predictions, targets, reduction="sum", out=predictions)
    assert float(value) == 55.0
    assert gradient[-5:].tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert not gradient[:-5].any()


def test_rows_past_an_int32(torch):
    rows, columns = 2**31 // 1000 + 5, 1000
    needs(torch, 2 * rows * columns)
    logits = torch.zeros(rows, columns, dtype=torch.float16, device="cuda")
    logits[-1, 7] = 10.0
    labels = torch.full((rows,), 7, device="cuda")
    last = float(np.log(999.0 + np.exp(10.0)) - 10.0)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, reduction="sum", out=logits)
    assert float(value) == pytest.approx((rows - 1) * np.log(1000.0) + last, rel=1e-6)
    for row, share in ((0, 1e-3), (rows // 2, 1e-3), (rows - 2, 1e-3), (rows - 1, float(np.exp(-last)))):
        assert float(gradient[row, 7]) == pytest.approx(share - 1.0, rel=1e-3)
        assert float(gradient[row, 999]) == pytest.approx(share if row < rows - 1 else float(np.exp(-last - 10.0)), rel=2e-2)


# The same bits each run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "shape"),
    [(case, shape) for case in CASES for shape in ([(70_001, 10), (301, 4099)] if case.rowwise else [(3_000_001,)])],
    ids=lambda one: repr(one) if isinstance(one, Case) else "x".join(map(str, one)),
)
def test_five_runs(case, shape, arrays):
    values = [arrays.put(one) for one in draw(case, shape, "float32")]
    first, *others = (bits(got_back(arrays, case.loss.value_and_gradient(*values))) for _ in range(5))
    assert all(other == first for other in others)


# Devices ----------------------------------------------------------------------------------------------------------------------


def test_two_devices(torch):
    """The work is done where the arrays are, whatever device is the current one, on its default stream and on another."""
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one device only")
    inputs = draw(SOFTMAX, (512, 1000), "float32")
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs))
    logits, labels = (torch.from_numpy(one).to("cuda:1") for one in inputs)
    for stream in (None, torch.cuda.Stream("cuda:1")):
        with torch.cuda.stream(stream) if stream else contextlib.nullcontext(), torch.cuda.device(0):
            value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, stream=stream)
        assert str(gradient.device) == str(value.device) == "cuda:1"
        assert torch.cuda.current_device() == 0
        torch.cuda.synchronize("cuda:1")
        agree(KITS["torch"].get(gradient), want[1], size=2e-3)
    with pytest.raises(ValueError, match="one device"):
        jitloss.cross_entropy_with_logits(logits, labels.to("cuda:0"))


def test_arrays_on_both_sides_are_refused(torch):
    x = torch.ones(8, device="cuda")
    for other in (np.zeros(8, np.float32), KITS["numba"].put(np.zeros(8, np.float32))):
        with pytest.raises(TypeError, match="one library"):
            jitloss.mse_loss(x, other)


def test_machine_code_is_kept(arrays):
    from jitloss.compilers import cuda

    jitloss.mse_loss(*(arrays.put(one) for one in draw(MSE, (33,), "float32")))
    assert list(cuda.cache_folder().glob("*.cubin"))


def test_every_loss_is_here():
    assert {case.name for case in CASES} == {loss.__name__ for loss in ALL}
