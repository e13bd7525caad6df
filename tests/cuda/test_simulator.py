"""Every loss and every option on a device, its kernels run by numba's simulator: the results are those of the CPU."""

import re

import numpy as np
import pytest

import jitloss
import simulation

if reason := simulation.missing():
    pytest.skip(reason, allow_module_level=True)

from numba import cuda

from cases import CASES, EDGES, INF, NAN, PARAMETRISED, Case, agree, draw, is_binary, weights
from jitloss import cross_entropy_with_logits, device, mse_loss
from simulation import (
    FORMS,
    NUMPY_FORMS,
    compare,
    equal_on_both_sides,
    on_both_sides,
    on_device,
    on_host,
    product,
    same_bits,
    simulated,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, in the threads of the simulator


@pytest.fixture(autouse=True, scope="module")
def simulator():
    with simulation.reliable_and_fast():
        yield


DTYPES = ("float16", "float32", "float64")

AVERAGED = [case for case in CASES if not case.loss.definition.is_penalty]
ROWS = [case for case in CASES if case.rowwise]
CLASSES = [case for case in CASES if case.loss.definition.takes_labels]
LABELS = [case for case in CLASSES if case.labels]
BINARY = [case for case in CASES if is_binary(case)]
LOGITS = Case(cross_entropy_with_logits, labels=True)

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
each_averaged = pytest.mark.parametrize("case", AVERAGED, ids=repr)
each_row = pytest.mark.parametrize("case", ROWS, ids=repr)
each_labelled = pytest.mark.parametrize("case", LABELS, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def small(case, dtype="float32", *, ignored=False, seed=0):
    """Inputs of a few elements, more than one block of a simulated kernel takes."""
    return draw(case, (3, 5) if case.rowwise else (19,), dtype, ignored=ignored, seed=seed)


def items_of(case):
    return (3,) if case.rowwise else (19,)


# Every loss -------------------------------------------------------------------------------------------------------------------


@each_dtype
@each_case
def test_every_form(case, dtype):
    forms = FORMS if case.loss.definition.hessian else NUMPY_FORMS
    equal_on_both_sides(case.loss, *small(case, dtype), forms=forms)


@each_case
def test_the_value_is_a_number_on_the_device(case):
    inputs = small(case, "float16")
    value = case.loss(*map(on_device, inputs))
    assert simulated(value)
    assert value.shape == ()
    assert value.dtype == np.float32, "half types are computed in float32"


@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.hessian], ids=repr)
def test_second_derivatives_that_mean_nothing(case):
    with pytest.raises(NotImplementedError, match="value_and_gradient"):
        case.loss.value_gradient_hessian(*map(on_device, small(case)))


@each_case
def test_the_same_bits_again(case):
    inputs = [on_device(one) for one in draw(case, (7, 9) if case.rowwise else (53,), "float32")]
    same_bits(*(on_host(case.loss.value_and_gradient(*inputs)) for _ in range(2)))


@pytest.mark.parametrize(("case", "parameters"), PARAMETRISED, ids=repr)
def test_parameters(case, parameters):
    equal_on_both_sides(case.loss, *small(case), **parameters)


@pytest.mark.parametrize("edge", EDGES, ids=repr)
def test_edges(edge):
    """The exact limits, which were worked out by hand."""
    loss = jitloss.LOSSES[edge.name]
    pairs = zip(edge.inputs, loss.definition.inputs, strict=True)
    inputs = [on_device(np.asarray(numbers, np.float64 if one.differentiable else None)) for numbers, one in pairs]
    options = {} if loss.definition.is_penalty else {"reduction": "none"}
    value, gradient = on_host(loss.value_and_gradient(*inputs, **options, **edge.options))
    agree(value, edge.value, "float64", what="value")
    agree(gradient, edge.gradient, "float64", what="gradient")


# Shapes -----------------------------------------------------------------------------------------------------------------------

ROUND_VECTORS = {"float16": (1, 7, 8, 9, 31, 33), "float32": (1, 3, 4, 5, 15, 16, 17, 33), "float64": (1, 2, 3, 7, 9)}
"""Elements round the width of a vector, and what all threads of a block take at once."""

ROUND_TEAMS = {
    "float16": (1, 8, 9, 31, 32, 40),
    "float32": (1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 33, 128, 132),
    "float64": (1, 2, 6, 9, 64, 66),
}
"""Columns round a vector, a team's, and the longest row that is kept in registers."""


@pytest.mark.parametrize(("dtype", "size"), [(dtype, size) for dtype, sizes in ROUND_VECTORS.items() for size in sizes])
@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy_with_logits"])
def test_elements_round_vectors(name, dtype, size):
    case = Case(jitloss.LOSSES[name])
    equal_on_both_sides(case.loss, *draw(case, (size,), dtype), forms=("value_and_gradient", "value_gradient_hessian"))


@pytest.mark.parametrize(("dtype", "columns"), [(dtype, size) for dtype, sizes in ROUND_TEAMS.items() for size in sizes])
@pytest.mark.parametrize("case", [LOGITS, Case(cross_entropy_with_logits), Case(jitloss.triplet_loss)], ids=repr)
def test_columns_round_teams(case, dtype, columns):
    looser = 16.0 if case.name == "triplet_loss" else 1.0  # the difference of two distances, a hundred times as large, each a sum
    equal_on_both_sides(case.loss, *draw(case, (2, columns), dtype), looser=looser)


@each_dtype
@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS, Case(jitloss.kl_divergence)], ids=repr)
def test_arrays_that_start_between_vectors(case, dtype):
    """Views that begin one element later than memory does."""
    inputs = draw(case, (2, 8) if case.rowwise else (18,), dtype)
    want = case.loss.value_and_gradient(*inputs)
    shifted = [cuda.to_device(np.concatenate([one.reshape(-1)[:1], one.reshape(-1)]))[1:] for one in inputs]
    got = on_host(case.loss.value_and_gradient(*(one.reshape(*like.shape) for one, like in zip(shifted, inputs, strict=True))))
    compare(got[0], want[0], "value")
    compare(got[1], want[1], "gradient")


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@each_row
def test_axis(case, axis):
    equal_on_both_sides(case.loss, *draw(case, (2, 5, 3), "float32", axis=axis), axis=axis)


@pytest.mark.parametrize("axis", [0, 1])
@each_labelled
def test_inner_axis_with_options(case, axis):
    shape = (2, 5, 3)
    inputs = draw(case, shape, "float32", axis=axis, ignored=True)
    options = {"sample_weight": weights((3 if axis == 0 else 2,))[:5], "class_weight": np.arange(1.0, 1 + shape[axis])}
    if axis == 0:
        options["sample_weight"] = weights((5,))
    equal_on_both_sides(case.loss, *inputs, axis=axis, label_smoothing=0.1, normalizer="weights", reduction="mean", **options)
    equal_on_both_sides(case.loss, *inputs, axis=axis, reduction="none", **options)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (2, 3), (2, 1, 3), ()])
@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS, Case(cross_entropy_with_logits), Case(jitloss.triplet_loss)], ids=repr)
def test_shapes(case, shape):
    if case.rowwise and not shape:
        return
    inputs = draw(case, shape, "float32") if 0 not in shape else empty_inputs(case, shape)
    for reduction in ("mean", "sum", "none"):
        equal_on_both_sides(case.loss, *inputs, forms=NUMPY_FORMS, reduction=reduction)


def empty_inputs(case, shape):
    count = len(case.loss.definition.inputs)
    if case.labels and shape[-1] == 0:
        shape, label_shape = shape, shape[:-1]
        return [np.zeros(shape, np.float32), np.full(label_shape, -100)]
    if case.labels:
        return [np.zeros(shape, np.float32), np.zeros(shape[:-1], np.int64)]
    return [np.zeros(shape, np.float32) for _ in range(count)]


@each_case
def test_empty_arrays(case):
    shape = (0, 4) if case.rowwise else (0,)
    inputs = [np.zeros((0,) if one.per_row or (case.labels and one is case.loss.definition.target) else shape, np.float32)
              for one in case.loss.definition.inputs]  # fmt: skip
    if case.labels:
        inputs[1] = inputs[1].astype(np.int64)
    got = equal_on_both_sides(case.loss, *inputs)
    assert got[0] == 0.0


@each_row
def test_a_row_of_one_column(case):
    equal_on_both_sides(case.loss, *draw(case, (3, 1), "float32"))
    equal_on_both_sides(case.loss, *draw(case, (1, 3), "float32", axis=0), axis=0)


# Long rows, which several blocks share ------------------------------------------------------------------------------------------

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
    """Or nothing here is about them."""
    split = []
    run = device.DeviceEvaluation._run_split
    monkeypatch.setattr(device.DeviceEvaluation, "_run_split", lambda self, *args: split.append(args[-1]) or run(self, *args))
    cross_entropy_with_logits(*map(on_device, draw(LOGITS, LONG, "float32")))
    assert split == [2]


@each_dtype
@each_row
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


# Reductions and weights -------------------------------------------------------------------------------------------------------


@each_averaged
def test_reductions_and_normalizers(case):
    inputs, weight = small(case, ignored=True), weights(items_of(case))
    equal_on_both_sides(case.loss, *inputs, forms=NUMPY_FORMS, reduction="none")
    equal_on_both_sides(case.loss, *inputs, reduction="sum")
    equal_on_both_sides(case.loss, *inputs, normalizer=7.5)
    equal_on_both_sides(case.loss, *inputs, normalizer="weights")
    equal_on_both_sides(case.loss, *inputs, normalizer="weights", sample_weight=weight)
    equal_on_both_sides(case.loss, *inputs, reduction="none", sample_weight=weight)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "bool"])
@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS], ids=repr)
def test_weights_on_the_device(case, dtype):
    inputs, weight = small(case), np.asarray([2, 0, 1] if case.rowwise else [2, 0, 1] * 6 + [1]).astype(dtype)
    for options in ({}, {"normalizer": "weights"}, {"reduction": "none"}):
        equal_on_both_sides(case.loss, *inputs, sample_weight=weight, device={"sample_weight": on_device(weight)}, **options)


@pytest.mark.parametrize("on", [on_device, np.asarray])
@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (3, 2, 4)])
@pytest.mark.parametrize("case", [Case(mse_loss), LOGITS], ids=repr)
def test_weights_are_spread_over_trailing_axes(case, shape, on):
    inputs = draw(case, (3, 2, 4, 5) if case.rowwise else (3, 2, 4), "float32")
    weight = np.asarray(weights(shape) + 0.1)
    for options in ({"normalizer": "weights"}, {"reduction": "none"}):
        equal_on_both_sides(case.loss, *inputs, sample_weight=weight, device={"sample_weight": on(weight)}, **options)


def test_a_weight_of_nothing_takes_nothing_in():
    """Not even NaN."""
    logits, labels, weight = np.array([[0, NAN], [0, 1]], np.float32), np.array([0, 1]), np.array([0.0, 1.0])
    for options in ({}, {"normalizer": "weights"}, {"reduction": "none"}):
        got = equal_on_both_sides(cross_entropy_with_logits, logits, labels, sample_weight=weight, **options)
        assert np.isfinite(got[1]).all()
    got = equal_on_both_sides(cross_entropy_with_logits, logits, labels, sample_weight=0 * weight, normalizer="weights")
    assert got[0] == 0.0
    assert (got[1] == 0.0).all()


@pytest.mark.parametrize(
    "weight", [np.array([0.5, 1.0, 2.0, 0.0, 3.0]), {0: 2.0, 3: 0.25}, "balanced"], ids=["array", "dict", "balanced"]
)
@pytest.mark.parametrize("case", CLASSES, ids=repr)
def test_class_weights(case, weight):
    inputs = small(case, ignored=True)
    for options in ({}, {"normalizer": "weights", "sample_weight": weights((3,))}, {"reduction": "none", "label_smoothing": 0.1}):
        equal_on_both_sides(case.loss, *inputs, class_weight=weight, **options)


@pytest.mark.parametrize("weight", [np.array([0.5, 2.0]), {1: 3.0}, "balanced"], ids=["array", "dict", "balanced"])
@pytest.mark.parametrize("case", BINARY, ids=repr)
def test_class_weights_of_two(case, weight):
    inputs = small(case)
    if isinstance(weight, str):
        inputs[1] = np.round(inputs[1])
    for options in ({}, {"normalizer": "weights", "sample_weight": weights((19,))}, {"reduction": "none"}):
        equal_on_both_sides(case.loss, *inputs, class_weight=weight, **options)


def test_class_weights_on_the_device():
    inputs, weight = small(LOGITS), np.array([0.5, 1.0, 2.0, 0.0, 3.0])
    equal_on_both_sides(LOGITS.loss, *inputs, class_weight=weight, device={"class_weight": on_device(weight)})


@pytest.mark.parametrize("weight", [3.0, 0.0, "balanced"])
@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_positive_weights(name, weight):
    predictions, targets = small(Case(jitloss.LOSSES[name]))
    equal_on_both_sides(jitloss.LOSSES[name], predictions, np.round(targets), pos_weight=weight)
    equal_on_both_sides(
        jitloss.LOSSES[name], predictions, np.round(targets), pos_weight=weight, class_weight="balanced", reduction="none"
    )


def test_nothing_has_any_weight():
    """Value and gradient are 0, whatever the arrays hold."""
    zeros, ones, nan = np.zeros(3), np.ones((3, 4), np.float32), np.full((3, 4), NAN, np.float32)
    for loss, inputs, options in (
        (mse_loss, (nan, nan), {"sample_weight": zeros}),
        (cross_entropy_with_logits, (nan, np.array([0, 1, 2])), {"sample_weight": zeros}),
        (cross_entropy_with_logits, (nan, np.full((3, 4), 0.25)), {"sample_weight": zeros}),
        (cross_entropy_with_logits, (ones, np.full((3, 4), 0.25)), {"class_weight": np.zeros(4)}),
        (cross_entropy_with_logits, (ones, np.array([0, 1, 1])), {"class_weight": {0: 0.0, 1: 0.0}}),
        (jitloss.binary_cross_entropy, (nan, np.ones((3, 4))), {"class_weight": [1.0, 0.0]}),
    ):
        value, gradient = equal_on_both_sides(loss, *inputs, normalizer="weights", **options)
        assert value == 0.0
        assert (gradient == 0.0).all()


@pytest.mark.parametrize("normalizer", ["count", "weights"])
def test_many_rows_are_counted(normalizer):
    """By several blocks, whose counts are added."""
    inputs = draw(LOGITS, (41, 2), "float32", ignored=True)
    equal_on_both_sides(
        cross_entropy_with_logits, *inputs, normalizer=normalizer, class_weight=[1.0, 3.0], sample_weight=weights((41,))
    )
    inputs[1][37] = 2
    with pytest.raises(ValueError, match="row 37"):
        cross_entropy_with_logits(*map(on_device, inputs), check=True)
    equal_on_both_sides(mse_loss, *draw(Case(mse_loss), (41,)), normalizer=normalizer, sample_weight=weights((41,)))


@pytest.mark.parametrize("seed", range(60))
def test_options_together(seed):
    """Whatever is drawn."""
    case, inputs, options, given = product(seed)
    loss = case.loss
    forms = ("value", "value_gradient_hessian") if loss.definition.hessian else ("value", "value_and_gradient")
    equal_on_both_sides(loss, *inputs, forms=forms, size=1.0, device=given, **options)


# Labels -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", NUMPY_FORMS)
@each_labelled
def test_ignored_rows(case, form):
    inputs = draw(case, (5, 4), "float32", ignored=True)
    inputs[0][1] = [NAN, INF, -INF, 1e4]
    for options in (
        {},
        {"reduction": "none"},
        {"normalizer": "weights"},
        {"label_smoothing": 0.2, "class_weight": [1.0, 2.0, 3.0, 4.0]},
    ):
        equal_on_both_sides(case.loss, *inputs, forms=(form,), **options)


@each_labelled
def test_all_rows_ignored(case):
    logits, labels = np.full((3, 4), NAN, np.float32), np.full(3, -100)
    for options in ({}, {"normalizer": "weights"}, {"reduction": "sum"}, {"normalizer": "weights", "sample_weight": np.ones(3)}):
        value, gradient = equal_on_both_sides(case.loss, logits, labels, **options)
        assert value == 0.0
        assert (gradient == 0.0).all()


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_another_ignored_label(dtype):
    logits, labels = draw(LOGITS, (4, 5), "float32")
    labels[1:3] = 2
    equal_on_both_sides(cross_entropy_with_logits, logits, labels.astype(dtype), ignore_index=2)
    equal_on_both_sides(cross_entropy_with_logits, logits, labels.astype(dtype), ignore_index=None)
    equal_on_both_sides(cross_entropy_with_logits, logits, labels.astype(dtype), ignore_index=-1, reduction="none")


def test_an_ignored_label_that_the_dtype_cannot_hold():
    """-100 is no uint64, and the uint64 of the same bits is a bad label; 2**63 + 1 is one, and can be ignored."""
    logits, labels = small(LOGITS)
    labels = labels.astype(np.uint64)
    labels[1] = 2**64 - 100
    items = on_host(cross_entropy_with_logits(on_device(logits), on_device(labels), reduction="none"))
    assert np.isnan(items).tolist() == [False, True, False]
    labels[1] = 2**63 + 1
    equal_on_both_sides(cross_entropy_with_logits, logits, labels, ignore_index=2**63 + 1)


@pytest.mark.parametrize("dtype", ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))])
@each_labelled
def test_label_dtypes(case, dtype):
    logits, labels = draw(case, (4, 2), "float32")
    equal_on_both_sides(case.loss, logits, labels.astype(dtype))


@pytest.mark.parametrize("options", [{"z_loss": 0.1}, {"softcap": 2.0}, {"z_loss": 0.1, "softcap": 2.0}], ids=str)
@pytest.mark.parametrize("case", [LOGITS, Case(cross_entropy_with_logits)], ids=repr)
def test_options_of_logits_together(case, options):
    inputs = small(case, ignored=True)
    forms = ("value_and_gradient", "value_gradient_hessian")
    equal_on_both_sides(
        case.loss, *inputs, forms=forms, label_smoothing=0.1, class_weight="balanced", sample_weight=weights((3,)), **options
    )
    equal_on_both_sides(case.loss, *inputs, forms=forms, label_smoothing=1.0, reduction="none", **options)


@pytest.mark.parametrize("label", [5, -1, -(2**62), 2**62])
@each_labelled
def test_a_bad_label_makes_its_row_nan(case, label):
    logits, labels = draw(case, (4, 5), "float32")
    good = case.loss.value_and_gradient(logits, labels, reduction="none")
    labels[2] = label
    arguments = on_device(logits), on_device(labels)
    assert np.isnan(on_host(case.loss(*arguments)))
    items, gradient = on_host(case.loss.value_and_gradient(*arguments, reduction="none"))
    mean = on_host(case.loss.gradient(*arguments))
    for got, want in ((items, good[0]), (gradient, good[1]), (mean, good[1] / np.float32(4))):
        assert np.isnan(got[2]).all()
        compare(np.delete(got, 2, axis=0), np.delete(want, 2, axis=0), "the other rows")


@each_labelled
def test_bad_labels_are_looked_for_where_that_is_wanted(case):
    logits, labels = draw(case, (4, 5), "float32")
    compare(on_host(case.loss(on_device(logits), on_device(labels), check=True)), case.loss(logits, labels), "value")
    labels[1], labels[2] = -100, 9
    with pytest.raises(ValueError, match="row 2") as wanted:
        case.loss(logits, labels)
    out = cuda.to_device(np.full_like(logits, 5.0))
    for form, options in (("value", {}), ("gradient", {"out": out})):
        with pytest.raises(ValueError, match="is 9") as raised:
            getattr(case.loss, form)(on_device(logits), on_device(labels), check=True, **options)
        assert str(raised.value) == str(wanted.value)
    assert (on_host(out) == 5.0).all(), "a call that fails leaves out as it was"


def test_weights_are_looked_at_where_that_is_wanted():
    inputs, weight = small(Case(mse_loss)), np.ones(19)
    weight[7] = -1.0
    for given, options in ((weight, {}), (on_device(weight), {"check": True})):
        with pytest.raises(ValueError, match=r"sample_weight must not be negative or NaN, got -1\.0 at index 7"):
            mse_loss(*map(on_device, inputs), sample_weight=given, **options)


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
    monkeypatch.setattr(device, "MOST_ADDED", 3)
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
