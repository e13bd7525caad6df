"""Long rows on a simulated device, which several blocks share, and calls that a single block handles."""

import numpy as np
import pytest

import simulation

if reason := simulation.missing():
    pytest.skip(reason, allow_module_level=True)

from cases import NAN, Case, draw, weights
from jitloss import cross_entropy_with_logits, device, mse_loss
from simulation import (
    CLASSES,
    FORMS,
    LOGITS,
    NUMPY_FORMS,
    ROWS,
    compare,
    each_row,
    equal_on_both_sides,
    on_device,
    on_host,
    same_bits,
)

pytestmark = simulation.MARKS

LONG = (3, 136)
"""Rows of two pieces in the simulator, the second shorter than the first."""


ALONE = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"sample_weight": np.array([0.5])},
    {"sample_weight": np.array([0.5]), "normalizer": "weights"},
    {"class_weight": np.array([0.5, 2.0, 3.0]), "normalizer": "weights"},
    {"ignore_index": 1},
]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("options", ALONE, ids=lambda one: "-".join(one))
def test_a_row_for_one_block(options, label, monkeypatch):
    """One kernel does it all: it counts what the mean divides by, and writes the value."""
    launched = watched(monkeypatch)
    logits = np.array([[0.5, -1.0, 2.0]], np.float32)
    equal_on_both_sides(cross_entropy_with_logits, logits, np.array([label]), forms=NUMPY_FORMS, **options)
    assert launched == [1] * len(NUMPY_FORMS)


@pytest.mark.parametrize("options", ALONE[:3] + [{"sample_weight": np.arange(3.0)}], ids=lambda one: "-".join(one))
@pytest.mark.parametrize("normalizer", ["count", "weights"])
def test_elements_for_one_block(options, normalizer, monkeypatch):
    launched = watched(monkeypatch)
    equal_on_both_sides(mse_loss, *draw(Case(mse_loss), (3,), "float32"), forms=FORMS, normalizer=normalizer, **options)
    assert launched == [1] * len(FORMS)


def watched(monkeypatch):
    """How many kernels each call launches."""
    numbers = []

    def run(self):
        results = run_on_device(self)
        numbers.append(len(self.launches))
        return results

    run_on_device = device.DeviceEvaluation.run_on_device
    monkeypatch.setattr(device.DeviceEvaluation, "run_on_device", run)
    return numbers


def test_long_rows_are_in_pieces(monkeypatch):
    """Otherwise the tests of this module would not test them."""
    split = []
    run = device.DeviceEvaluation._run_split
    monkeypatch.setattr(device.DeviceEvaluation, "_run_split", lambda self, *args: split.append(args[-1]) or run(self, *args))
    cross_entropy_with_logits(*map(on_device, draw(LOGITS, LONG, "float32")))
    assert split == [2]


@pytest.mark.parametrize(
    ("case", "dtype"), [(case, "float32") for case in ROWS] + [(LOGITS, "float16"), (LOGITS, "float64")], ids=str
)
def test_long_rows(case, dtype):
    inputs = draw(case, LONG if dtype != "float16" else (2, 272), dtype, ignored=True)
    forms = ("value_and_gradient", "value_gradient_hessian") if case.loss.definition.hessian else ("value_and_gradient",)
    equal_on_both_sides(case.loss, *inputs, forms=forms, looser=4.0)
    same_bits(*(on_host(case.loss.value_and_gradient(*map(on_device, inputs))) for _ in range(2)))


@each_row
def test_long_rows_with_options(case):
    inputs, weight = draw(case, LONG, "float32", ignored=True), weights((3,)) + 0.1
    for options in ({"reduction": "none"}, {"normalizer": "weights"}, {"reduction": "sum"}):
        equal_on_both_sides(case.loss, *inputs, sample_weight=weight, looser=4.0, **options)
    want = case.loss.value_and_gradient(*inputs)
    arrays, names = [on_device(one) for one in inputs], [one.name for one in case.loss.definition.differentiable]
    value, _ = case.loss.value_and_gradient(*arrays, out=arrays[0] if len(names) == 1 else dict(zip(names, arrays, strict=False)))
    written = arrays[0] if len(names) == 1 else dict(zip(names, arrays, strict=False))
    compare(on_host(value), want[0], "value", 4.0)
    compare(on_host(written), want[1], "in place", 4.0)


@pytest.mark.parametrize("case", CLASSES, ids=repr)
def test_long_rows_of_classes(case):
    inputs, classes = draw(case, LONG, "float32", ignored=True), np.linspace(0.0, 2.0, LONG[1])
    for options in ({"label_smoothing": 0.1}, {"class_weight": classes}, {"label_smoothing": 0.2, "class_weight": classes}):
        equal_on_both_sides(case.loss, *inputs, normalizer="weights", sample_weight=weights((3,)) + 0.1, looser=4.0, **options)
    if case.name == "cross_entropy_with_logits":
        equal_on_both_sides(case.loss, *inputs, z_loss=0.1, softcap=2.0, reduction="none", looser=4.0)


def test_bad_labels_and_numbers_in_long_rows():
    logits, labels = draw(LOGITS, (5, 136), "float32")
    want = cross_entropy_with_logits.value_and_gradient(logits, labels, reduction="none")
    labels[1], labels[4], logits[3, 100], logits[4, 7] = 136, -100, NAN, NAN
    items, gradient = on_host(
        cross_entropy_with_logits.value_and_gradient(on_device(logits), on_device(labels), reduction="none")
    )
    assert np.isnan(items).tolist() == [False, True, False, True, False]
    assert items[4] == 0.0
    for row, bad in enumerate((False, True, False, True)):
        assert np.isnan(gradient[row]).all() if bad else np.isfinite(gradient[row]).all()
    assert (gradient[4] == 0.0).all()
    compare(gradient[:1], want[1][:1], "the first row", 4.0)
    with pytest.raises(ValueError, match=r"targets\[1\] \(row 1\) is 136"):
        cross_entropy_with_logits(on_device(logits), on_device(labels), check=True)
