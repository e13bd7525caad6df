"""Arrays of every kind on a simulated device: inputs, outputs, and those that are rejected."""

import re

import numpy as np
import pytest

import jitloss
import simulation

if reason := simulation.missing():
    pytest.skip(reason, allow_module_level=True)

from numba import cuda
from numpy.lib.array_utils import byte_bounds

from cases import NAN, Case
from jitloss import cross_entropy_with_logits, mse_loss
from jitloss.arrays import cuda as libraries
from simulation import (
    LOGITS,
    compare,
    each_averaged,
    each_case,
    equal_on_both_sides,
    on_both_sides,
    on_device,
    on_host,
    simulated,
    small,
)

pytestmark = simulation.MARKS

# Other dtypes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "float16", "float64"])
@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy_with_logits", "poisson_nll_loss", "hinge_loss"])
def test_target_dtypes(name, dtype):
    predictions = small(Case(jitloss.LOSSES[name]))[0]
    targets = np.random.default_rng(1).integers(0, 2, predictions.shape).astype(dtype)
    equal_on_both_sides(jitloss.LOSSES[name], predictions, targets)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint16"])
@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS, Case(cross_entropy_with_logits)], ids=repr)
def test_integer_predictions(case, dtype):
    inputs = small(case)
    inputs[0] = np.abs(np.round(2.0 * inputs[0])).astype(dtype)
    equal_on_both_sides(case.loss, *inputs)
    value, gradient = (one.dtype for one in on_host(case.loss.value_and_gradient(*map(on_device, inputs))))
    assert value == gradient == np.float64


def test_targets_of_rows_in_another_precision():
    case = Case(cross_entropy_with_logits)
    logits, targets = small(case)
    for dtype in ("float16", "float64", "int32", "bool"):
        equal_on_both_sides(case.loss, logits, (targets > 0.2).astype(dtype))
    equal_on_both_sides(jitloss.contrastive_loss, *small(Case(jitloss.contrastive_loss))[:2], np.array([True, False, True]))


# Outputs ----------------------------------------------------------------------------------------------------------------------


def outs_for(case, inputs, form=np.empty_like):
    """Outputs as a call takes them: an array, or a dict of them."""
    names = [one.name for one in case.loss.definition.differentiable]
    outs = [on_device(form(one)) for one in inputs[: len(names)]]
    return outs[0] if len(names) == 1 else dict(zip(names, outs, strict=True))


@each_case
def test_out(case):
    """In an array of the caller's, and in place."""
    inputs = small(case)
    want = case.loss.value_and_gradient(*inputs)
    out = outs_for(case, inputs)
    value, gradient = case.loss.value_and_gradient(*map(on_device, inputs), out=out)
    assert gradient is out if simulated(out) else all(gradient[name] is out[name] for name in out)
    compare(on_host(value), want[0], "value")
    compare(on_host(out), want[1], "out")
    arrays = [on_device(one) for one in inputs]
    names = [one.name for one in case.loss.definition.differentiable]
    out = arrays[0] if len(names) == 1 else dict(zip(names, arrays, strict=False))
    assert case.loss.gradient(*arrays, out=out) is out or len(names) > 1
    compare(on_host(out), want[1], "in place")


@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS], ids=repr)
def test_out_with_second_derivatives(case):
    inputs = small(case)
    want = case.loss.value_gradient_hessian(*inputs)
    arrays, bend = [on_device(one) for one in inputs], on_device(np.empty_like(inputs[0]))
    got = case.loss.value_gradient_hessian(*arrays, out=(arrays[0], bend))
    assert got[1] is arrays[0]
    assert got[2] is bend
    for one, other in zip(on_host(got), want, strict=True):
        compare(one, other, "in place")
    for bad in (bend, (bend,), [bend, arrays[0]]):
        with pytest.raises(TypeError, match="out must be a pair"):
            case.loss.value_gradient_hessian(*arrays, out=bad)
    with pytest.raises(ValueError, match="overlaps"):
        case.loss.value_gradient_hessian(*arrays, out=(bend, bend))


@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS, Case(jitloss.l2_regularization)], ids=repr)
def test_bad_outs(case):
    inputs = [on_device(one) for one in small(case)]
    shape, like = inputs[0].shape, np.empty(inputs[0].shape, np.float32)
    for error, out, words in (
        (ValueError, on_device(np.empty((*shape, 1), np.float32)), "shape"),
        (ValueError, on_device(np.empty(shape, np.float64)), "float32, got float64"),
        (ValueError, cuda.to_device(np.empty((*shape, 2), np.float32))[(*[slice(None)] * len(shape), 0)], "C-contiguous"),
        (TypeError, like, "numpy.ndarray"),
        (TypeError, "here", "str"),
        (TypeError, {"prediction": on_device(like)}, "dict"),
    ):
        with pytest.raises(error, match=words) as raised:
            case.loss.gradient(*inputs, out=out)
        assert "out" in str(raised.value)
        assert case.name in str(raised.value)
    with pytest.raises(TypeError, match="out"):
        case.loss(*inputs, out=on_device(like))


def test_out_may_overlap_nothing_else():
    memory = cuda.to_device(np.arange(64, dtype=np.float32))
    predictions, targets = memory[:16], memory[16:32]
    for out in (memory[1:17], memory[8:24], targets, memory[31:47]):
        with pytest.raises(ValueError, match="out overlaps another array of the call; it may be predictions itself"):
            mse_loss.gradient(predictions, targets, out=out)
    mse_loss.gradient(predictions, targets, out=memory[32:48])
    with pytest.raises(ValueError, match="overlaps"):
        mse_loss.gradient(predictions, targets, out=memory[32:48], sample_weight=memory[40:56])
    numbers = np.zeros(8)
    narrow, wide = over(numbers.view(np.int32)[:8]), over(numbers)
    with pytest.raises(ValueError, match="overlaps"):  # one place, but elements of another size
        mse_loss.gradient(narrow, on_device(np.zeros(8)), out=wide)


@pytest.fixture
def copying(monkeypatch):
    """A library that copies inputs with gaps: outputs must still not overlap the original arrays."""
    monkeypatch.setattr(libraries.Simulated, "contiguous", lambda self, value: cuda.to_device(np.ascontiguousarray(value._ary)))
    monkeypatch.setattr(libraries.Simulated, "extent", lambda self, value: byte_bounds(value._ary))


@pytest.mark.usefixtures("copying")
def test_out_may_not_overlap_what_has_been_copied():
    memory = np.arange(64, dtype=np.float32)
    predictions, targets = over(memory)[:32:2], on_device(np.zeros(16, np.float32))
    for place in (memory[:16], memory[15:31]):
        with pytest.raises(ValueError, match="out overlaps another array of the call"):
            mse_loss.gradient(predictions, targets, out=over(place))
    mse_loss.gradient(predictions, targets, out=over(memory[31:47]))


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("step", [2, -2])
def test_out_of_one_of_several_may_not_overlap_what_has_been_copied_of_another(step):
    """Neither its gaps nor its end nor, where it is reversed, what lies before its first element."""
    memory, apart = np.arange(64, dtype=np.float32), on_device(np.zeros(16, np.float32))
    total = jitloss.weighted_sum(a=(mse_loss, 1.0), b=(mse_loss, 1.0))
    outputs = {"a": over(memory[:32])[::step], "b": on_device(np.ones(8, np.float32))}
    targets = {"a": apart, "b": on_device(np.zeros(8, np.float32))}
    for place in (memory[2:10], memory[16:24]):
        with pytest.raises(ValueError, match="weighted_sum: out of b overlaps an array of a"):
            total.gradient(outputs, targets, b={"out": over(place)})
        with pytest.raises(ValueError, match="l2_regularization_gradient: out of b overlaps an array of a"):
            jitloss.l2_regularization.gradient(outputs, out={"a": apart, "b": over(place)})
    total.gradient(outputs, targets, b={"out": over(memory[32:40])})


def over(array):
    """An array of the simulator's in the memory of a NumPy array."""
    return type(cuda.to_device(array))(array)


def test_outs_of_several_arrays():
    inputs = [on_device(one) for one in small(Case(jitloss.triplet_loss))]
    right = {name: on_device(np.empty((3, 5), np.float32)) for name in ("anchor", "positive", "negative")}
    for error, bad in (
        (TypeError, right["anchor"]),
        (ValueError, {}),
        (ValueError, {**right, "more": right["anchor"]}),
        (ValueError, dict.fromkeys(right, right["anchor"])),
        (ValueError, {**right, "anchor": inputs[1]}),
        (TypeError, {**right, "anchor": np.empty((3, 5), np.float32)}),
    ):
        with pytest.raises(error, match="out"):
            jitloss.triplet_loss.gradient(*inputs, out=bad)


# Errors -----------------------------------------------------------------------------------------------------------------------


@each_averaged
def test_the_arrays_of_a_call_are_on_one_side(case):
    inputs = small(case)
    names = [one.public for one in case.loss.definition.inputs]
    for place in range(len(inputs)):
        mixed = [one if at == place else on_device(one) for at, one in enumerate(inputs)]
        with pytest.raises(TypeError) as raised:
            case.loss.value_and_gradient(*mixed)
        assert f"{names[place]}: host memory" in str(raised.value)
        assert f"{names[place - 1]}: numba" in str(raised.value)


@pytest.mark.parametrize("view", [lambda one: one[..., ::2], lambda one: one.T], ids=["spaced", "fortran"])
def test_arrays_with_gaps_are_refused(view):
    right, wide = on_device(np.zeros((3, 3))), view(on_device(np.zeros((3, 6)))[:, :6])
    right = on_device(np.zeros(wide.shape))
    for inputs, name in (((wide, right), "predictions"), ((right, wide), "targets")):
        with pytest.raises(ValueError, match=f"mse_loss: {name} must be C-contiguous"):
            mse_loss(*inputs)
    with pytest.raises(ValueError, match="mse_loss: sample_weight must be C-contiguous"):
        mse_loss(right, right, sample_weight=wide)


LOGITS_3_5, LABELS_3 = np.zeros((3, 5), np.float32), np.zeros(3, np.int64)

BAD = [
    (mse_loss, (np.zeros(3), np.zeros(4)), {}),
    (mse_loss, (np.zeros((3, 1)), np.zeros(3)), {}),
    (mse_loss, (np.zeros(3, complex), np.zeros(3)), {}),
    (mse_loss, (np.zeros(3, bool), np.zeros(3)), {}),
    (mse_loss, (np.zeros(3), np.zeros(3, complex)), {}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"reduction": "average"}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"reduction": None}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"normalizer": 0.0}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"normalizer": "rows"}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"sample_weight": [1.0, 2.0]}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"sample_weight": [1.0, -2.0, 1.0]}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"sample_weight": "heavy"}),
    (mse_loss, (np.zeros(3), np.zeros(3)), {"axis": 0}),
    (mse_loss, (np.zeros(3),), {}),
    (jitloss.huber_loss, (np.zeros(3), np.zeros(3)), {"delta": -1.0}),
    (jitloss.binary_cross_entropy_with_logits, (np.zeros(3), np.full(3, 0.5)), {"pos_weight": "balanced"}),
    (jitloss.binary_cross_entropy_with_logits, (np.zeros(3), np.full(3, 0.5)), {"class_weight": "balanced"}),
    (jitloss.contrastive_loss, (np.zeros((3, 5)), np.zeros((3, 5)), np.zeros(4)), {}),
    (cross_entropy_with_logits, (LOGITS_3_5, np.zeros((3, 4))), {}),
    (cross_entropy_with_logits, (LOGITS_3_5, np.zeros(4, int)), {}),
    (cross_entropy_with_logits, (LOGITS_3_5, np.zeros(3)), {}),
    (cross_entropy_with_logits, (LOGITS_3_5, np.zeros((3, 5, 1))), {}),
    (cross_entropy_with_logits, (np.ones(()), np.zeros((), int)), {}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"axis": 2}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"axis": 1.0}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"ignore_index": 1.5}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"label_smoothing": 1.5}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"label_smoothing": "much"}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"class_weight": [1.0, 2.0]}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"class_weight": {7: 2.0}}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"class_weight": "unbalanced"}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"class_weight": [1.0, 1.0, 1.0, 1.0, NAN]}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"softcap": 0.0}),
    (cross_entropy_with_logits, (LOGITS_3_5, LABELS_3), {"nonsense": 0.0}),
]


@pytest.mark.parametrize(("loss", "inputs", "options"), BAD, ids=lambda one: str(one) if isinstance(one, dict) else "")
def test_errors_are_those_of_the_host(loss, inputs, options):
    wanted, got = on_both_sides(loss, *inputs, **options)
    assert wanted is not None
    assert got is not None
    assert (type(got), str(got)) == (type(wanted), str(wanted))


def test_another_byte_order_is_refused():
    """A kernel would read wrong numbers."""
    here, there = np.ones(4, np.float32), np.ones(4, np.dtype(np.float32).newbyteorder())
    for inputs, options, name in (
        ((there, here), {}, "predictions"),
        ((here, there), {}, "targets"),
        ((here, here), {"sample_weight": there}, "sample_weight"),
    ):
        given = {key: on_device(one) for key, one in options.items()}
        with pytest.raises(TypeError, match=f"mse_loss: on a device {name} must have the machine's byte order, got the dtype"):
            mse_loss(*map(on_device, inputs), **given)
    with pytest.raises(ValueError, match="mse_loss: on a device out must have the machine's byte order"):
        mse_loss.gradient(on_device(here), on_device(here), out=on_device(there))


def test_equal_streams_are_one():
    """Handles that are integers need not be one object."""
    given = on_device(np.ones(4, np.float32))
    total = jitloss.weighted_sum(a=(mse_loss, 1.0), b=(mse_loss, 0.5))
    streams = ({"stream": int(text)} for text in ("1000", "1000"))
    value = total(
        {"a": given, "b": given}, {"a": on_device(np.zeros(4, np.float32)), "b": given}, **dict(zip("ab", streams, strict=True))
    )
    assert float(on_host(value)) == 1.0


def test_bad_weights_on_the_device():
    inputs = [on_device(np.zeros((3, 2))) for _ in range(2)]
    for error, weight, words in (
        (ValueError, np.ones(2), "whose shape is (3, 2); got the shape (2,)"),
        (TypeError, np.ones(3, complex), "sample_weight must hold numbers, got complex128"),
    ):
        with pytest.raises(error, match=re.escape(words)):
            mse_loss(*inputs, sample_weight=on_device(weight))


def test_options_of_the_device_are_refused_on_the_host():
    for option in ("check", "stream"):
        with pytest.raises(TypeError, match=option):
            mse_loss([1.0], [2.0], **{option: None})
        with pytest.raises(TypeError, match=option):
            jitloss.l2_regularization({"w": np.ones(3)}, **{option: None})


def test_weights_on_the_device_are_for_arrays_there():
    for option, loss, inputs in (
        ("sample_weight", mse_loss, (np.zeros(3), np.zeros(3))),
        ("class_weight", cross_entropy_with_logits, (LOGITS_3_5, LABELS_3)),
    ):
        with pytest.raises(TypeError) as raised:
            loss(*inputs, **{option: on_device(np.ones(inputs[0].shape[-1]))})
        assert f"{option}: numba" in str(raised.value)
        assert f"{loss.definition.inputs[0].public}: host memory" in str(raised.value)


def test_inputs_of_two_precisions():
    triplet = [
        one.astype(dtype)
        for one, dtype in zip(small(Case(jitloss.triplet_loss)), (np.float32, np.float64, np.float32), strict=True)
    ]
    with pytest.raises(TypeError, match="one dtype, got float32, float64"):
        jitloss.triplet_loss(*map(on_device, triplet))


def test_inputs_by_keyword():
    for case in (Case(mse_loss), LOGITS):
        inputs = small(case)
        names = [one.public for one in case.loss.definition.inputs]
        given = dict(zip(names[::-1], map(on_device, inputs[::-1]), strict=True))
        compare(on_host(case.loss(**given, check=True, stream=cuda.stream())), case.loss(*inputs), "value")


def test_the_same_array_twice():
    predictions = on_device(np.linspace(0.1, 0.9, 9, dtype=np.float32))
    assert on_host(mse_loss(predictions, predictions)) == 0.0
    with pytest.raises(ValueError, match="overlaps"):
        mse_loss.gradient(predictions, predictions, out=predictions)
