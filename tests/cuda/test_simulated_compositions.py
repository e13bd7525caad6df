"""Users' own losses, sums, penalties and weighted sums on a simulated device, and calls under ``errstate``."""

import numpy as np
import pytest

import jitloss
import simulation

if reason := simulation.missing():
    pytest.skip(reason, allow_module_level=True)

from cases import INF, NAN, Case, draw, weights
from jitloss import cross_entropy_with_logits, launches, mse_loss
from simulation import (
    FORMS,
    LOGITS,
    NUMPY_FORMS,
    compare,
    each_averaged,
    each_dtype,
    equal_on_both_sides,
    items_of,
    on_device,
    on_host,
    small,
)

pytestmark = simulation.MARKS

# A user's own losses ----------------------------------------------------------------------------------------------------------


@jitloss.pointwise
def custom(prediction, target, alpha=1.0, squared=True):
    error = prediction - target
    value = error * error + alpha * abs(error) if squared else abs(error)
    return value, 2.0 * error + alpha * sign(error)  # noqa: F821


@jitloss.rowwise
class soft_rows:
    strength = 2.0

    def peak(prediction):
        return prediction

    def terms(prediction, target: jitloss.definition.Distribution, peak, strength):
        height = exp(prediction - peak)  # noqa: F821
        return height, target * height * strength

    def value(sums):
        total, agreement = sums
        return agreement / total, 1.0 / total

    def slope(prediction, target, peak, strength, share):
        return target * exp(prediction - peak) * strength * share  # noqa: F821


@each_dtype
def test_custom_losses(dtype):
    inputs = small(Case(mse_loss), dtype)
    equal_on_both_sides(custom, *inputs, forms=NUMPY_FORMS)
    equal_on_both_sides(custom, *inputs, alpha=0.25, squared=False, reduction="none", sample_weight=weights((19,)))
    rows = draw(Case(jitloss.kl_divergence), (3, 5), dtype)
    equal_on_both_sides(soft_rows, *rows, forms=NUMPY_FORMS)
    equal_on_both_sides(soft_rows, *rows, strength=3.0, reduction="sum", sample_weight=weights((3,)))


SUMS = {
    "mse + l1": (mse_loss + 0.5 * jitloss.l1_loss, "mse_loss"),
    "bce + focal": (
        2.0 * jitloss.binary_cross_entropy_with_logits - 0.5 * jitloss.focal_loss_with_logits,
        "binary_cross_entropy_with_logits",
    ),
    "huber": (jitloss.huber_loss.with_parameters(delta=0.3) + mse_loss, "mse_loss"),
    "custom": (custom + mse_loss, "mse_loss"),
    "kl + cross entropy": (0.5 * jitloss.kl_divergence + jitloss.cross_entropy_loss, "kl_divergence"),
    "times": (-3.0 * mse_loss, "mse_loss"),
    "times rows": (jitloss.kl_divergence / 4.0, "kl_divergence"),
}


@pytest.mark.parametrize(("loss", "like"), SUMS.values(), ids=list(SUMS))
def test_sums_of_losses(loss, like):
    case = Case(jitloss.LOSSES[like])
    inputs = small(case)
    equal_on_both_sides(loss, *inputs, forms=NUMPY_FORMS)
    equal_on_both_sides(loss, *inputs, reduction="none")
    equal_on_both_sides(loss, *inputs, normalizer="weights", sample_weight=weights(items_of(case)))


def test_a_loss_times_a_number():
    loss, inputs = cross_entropy_with_logits * 2.5, small(LOGITS, ignored=True)
    for options in ({}, {"reduction": "none"}, {"reduction": "sum"}, {"normalizer": "weights", "class_weight": "balanced"}):
        equal_on_both_sides(loss, *inputs, forms=FORMS, label_smoothing=0.1, **options)


# Several values as one --------------------------------------------------------------------------------------------------------

PARAMS = {
    "w": np.linspace(-2, 2, 9, dtype=np.float32),
    "layers": {"b": np.ones((2, 3), np.float32), "none": {}},
    "e": np.zeros(0, np.float32),
}
PENALTIES = [
    jitloss.l1_regularization,
    jitloss.l2_regularization,
    jitloss.elastic_net,
    jitloss.l1_regularization + jitloss.l2_regularization,
]

each_penalty = pytest.mark.parametrize("loss", PENALTIES, ids=lambda loss: loss.__name__)


def flat(value):
    return {"".join(map(str, key)): one for key, one in _flat(value)}


def _flat(value, path=()):
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(one, (*path, key))
    else:
        yield path, value


@each_penalty
def test_penalties(loss):
    """Of an array, of nested dicts; their value is added on the device."""
    equal_on_both_sides(loss, PARAMS["w"], forms=FORMS)
    for form in FORMS:
        got, want = (simulation.call(loss, form, params) for params in (on_device(PARAMS), PARAMS))
        for one, other in zip(got, want, strict=True):
            compare(flat(on_host_nested(one)), flat(other), form) if isinstance(other, dict) else compare(
                on_host(one), other, form
            )


def on_host_nested(value):
    return {key: on_host_nested(one) if isinstance(one, dict) else on_host(one) for key, one in value.items()}


@each_penalty
def test_penalties_with_out(loss):
    params = on_device({"w": PARAMS["w"], "b": PARAMS["layers"]["b"]})
    want = loss.value_and_gradient({name: one.copy_to_host().copy() for name, one in params.items()})
    value, gradient = loss.value_and_gradient(params, out=params)
    compare(on_host(value), want[0], "value")
    assert all(gradient[name] is params[name] for name in params)
    compare(on_host(gradient), want[1], "gradient")


def test_penalties_on_both_sides_are_refused():
    mixed = {"w": on_device(PARAMS["w"]), "layers": {"b": PARAMS["w"]}}
    for form in NUMPY_FORMS:
        with pytest.raises(TypeError, match=r"l2_regularization.*: .*w: numba.*, layers\['b'\]: host memory"):
            getattr(jitloss.l2_regularization, form)(mixed)


def test_outs_of_penalties_are_their_own_or_new():
    params = on_device({"w": PARAMS["w"], "b": PARAMS["w"], "e": PARAMS["e"]})
    for out in ({**params, "w": params["b"], "b": params["w"]}, {**params, "w": params["b"]}):
        with pytest.raises(ValueError, match=r"l2_regularization_gradient: out of [wb] overlaps an array of [wb]"):
            jitloss.l2_regularization.gradient(params, out=out)
    with pytest.raises(TypeError, match=r"params\['w'\]: l2_regularization: out must be"):
        jitloss.l2_regularization.gradient(params, out={name: np.zeros(9, np.float32) for name in params})


def test_a_stream_for_penalties():
    for params in (PARAMS["w"], PARAMS):
        compare(on_host(jitloss.l2_regularization(on_device(params), stream=0)), jitloss.l2_regularization(params), "value")
    with pytest.raises(TypeError, match="strength"):
        jitloss.l2_regularization(on_device(PARAMS), strength="much", stream=0)


def test_many_values_are_added(monkeypatch):
    """In several kernels, because a kernel's arguments are limited."""
    monkeypatch.setattr(launches, "MOST_ADDED", 3)
    params = {f"w{index}": np.full(2, index / 10, np.float32) for index in range(9)}
    compare(on_host(jitloss.l1_regularization(on_device(params))), jitloss.l1_regularization(params), "value")


TOTAL = jitloss.weighted_sum(
    label=(cross_entropy_with_logits, 1.0, {"label_smoothing": 0.1}),
    box=(mse_loss, 0.5),
    near=(jitloss.triplet_loss, 2.0),
    size=(jitloss.l2_regularization, 1.0),
)


def total_inputs():
    logits, labels = small(LOGITS, ignored=True)
    boxes, wanted = small(Case(mse_loss))
    triplet = tuple(small(Case(jitloss.triplet_loss)))
    outputs = {"label": logits, "box": boxes, "near": triplet, "size": {"w": PARAMS["w"], "b": boxes}}
    return outputs, {"label": labels, "box": wanted}


def test_weighted_sums():
    outputs, targets = total_inputs()
    options = {"label": {"class_weight": "balanced"}, "box": {"sample_weight": weights((19,))}}
    want = TOTAL.value_and_gradient(outputs, targets, **options)
    got = TOTAL.value_and_gradient(on_device(outputs), on_device(targets), **options)
    compare(on_host(got[0]), want[0], "value")
    compare(on_host(got[1]), want[1], "gradient")
    compare(on_host(TOTAL(on_device(outputs), on_device(targets))), TOTAL(outputs, targets), "value")
    compare(on_host(TOTAL.gradient(on_device(outputs), on_device(targets))), TOTAL.gradient(outputs, targets), "gradient")


def test_outs_of_weighted_sums():
    outputs, targets = map(on_device, total_inputs())
    want = TOTAL.gradient(*total_inputs())
    with pytest.raises(ValueError, match="weighted_sum: out of label overlaps an array of box"):
        TOTAL.gradient(outputs, targets, label={"out": outputs["box"]})
    names = ("anchor", "positive", "negative")
    own = {"near": {"out": dict(zip(names, outputs["near"], strict=True))}, "label": {"out": outputs["label"]}}
    got = TOTAL.gradient(outputs, targets, **own)
    assert got["label"] is outputs["label"]
    compare(on_host(got), want, "gradient")


def test_nothing_is_written_where_one_of_several_is_refused():
    outputs, targets = map(on_device, total_inputs())
    names = ("anchor", "positive", "negative")
    own = {"label": {"out": outputs["label"]}, "near": {"out": dict(zip(names, outputs["near"], strict=True))}}
    wrong = on_device(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"size: .*'b'.*out must have the shape of params"):
        TOTAL.gradient(outputs, targets, **own, size={"out": {"w": outputs["size"]["w"], "b": wrong}})
    with pytest.raises(ValueError, match=r"box: .*sample_weight"):
        TOTAL.gradient(outputs, targets, **own, box={"out": outputs["box"], "sample_weight": np.ones(3)})
    with pytest.raises(ValueError, match="one stream"):
        TOTAL.value_and_gradient(outputs, targets, **own | {"label": own["label"] | {"stream": 1}})
    params = on_device(PARAMS)
    with pytest.raises(ValueError, match="out must have the shape of params"):
        jitloss.l2_regularization.gradient(params, out=params | {"e": wrong})
    for name, output in total_inputs()[0].items():
        if name in ("label", "size"):
            compare(on_host(outputs[name]), output, "outputs")
    for mine, array in zip(outputs["near"], total_inputs()[0]["near"], strict=True):
        compare(on_host(mine), array, "outputs")
    compare(on_host(params), PARAMS, "params")


def test_weighted_sums_in_one_dtype_and_place():
    outputs, targets = total_inputs()
    outputs["box"] = outputs["box"].astype(np.float64)
    value = TOTAL(on_device(outputs), on_device(targets))
    assert on_host(value).dtype == np.float64
    with pytest.raises(TypeError, match=r"weighted_sum: .*label: numba.*, box: host memory"):
        TOTAL(on_device(outputs) | {"box": outputs["box"]}, on_device(targets) | {"box": targets["box"]})
    streams = {"label": {"stream": 1}, "box": {"stream": 2}}
    with pytest.raises(ValueError, match="weighted_sum: values that are added must be on one stream"):
        TOTAL(on_device(outputs), on_device(targets), **streams)


# Watching ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "reduction", "bad"), [("value_and_gradient", "mean", NAN), ("gradient", "none", INF)])
@each_averaged
def test_errstate(case, reduction, bad, form):
    inputs = small(case)
    inputs[0].reshape(-1)[7] = bad
    messages = []
    for args in (inputs, [on_device(one) for one in inputs]):
        try:
            with jitloss.errstate(invalid="raise"):
                getattr(case.loss, form)(*args, reduction=reduction)
            messages.append("")
        except FloatingPointError as error:
            messages.append(str(error))
    assert messages[0] == messages[1]
    assert messages[0] or not np.isnan(bad)


def test_errstate_of_gradients_and_sums():
    overflow = np.full(3, 3e38, np.float32), np.zeros(3, np.float32)
    for args in (overflow, [on_device(one) for one in overflow]):
        with jitloss.errstate(invalid="raise"), pytest.raises(FloatingPointError, match="mse_loss is inf: first at item 0"):
            mse_loss(*args)
    with jitloss.errstate(invalid="warn"), pytest.warns(RuntimeWarning, match="mse_loss is inf"):
        mse_loss(*map(on_device, overflow))
    with jitloss.errstate(invalid="raise"):
        equal_on_both_sides(mse_loss, *small(Case(mse_loss)), forms=FORMS)
