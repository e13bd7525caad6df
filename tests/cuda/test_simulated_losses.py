"""Every loss and many shapes on a simulated device: the results are those of the CPU."""

import numpy as np
import pytest

import jitloss
import simulation

if reason := simulation.missing():
    pytest.skip(reason, allow_module_level=True)

from numba import cuda

from cases import CASES, EDGES, PARAMETRISED, Case, agree, draw, weights
from jitloss import cross_entropy_with_logits, mse_loss
from simulation import (
    FORMS,
    LOGITS,
    NUMPY_FORMS,
    compare,
    each_case,
    each_dtype,
    each_labelled,
    each_row,
    equal_on_both_sides,
    on_device,
    on_host,
    same_bits,
    simulated,
    small,
)

pytestmark = simulation.MARKS

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
    """The exact limits, derived by hand."""
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
    """Views that begin one element after the start of aligned memory."""
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


@each_dtype
def test_rows_without_columns(dtype):
    """There are no classes, so that a label that is not ignored is bad."""
    logits, labels = on_device(np.zeros((4, 0), dtype)), on_device(np.array([-100, 0, -1, -100]))
    value, gradient = on_host(cross_entropy_with_logits.value_and_gradient(logits, labels))
    assert np.isnan(value)
    assert gradient.shape == (4, 0)
    values = on_host(cross_entropy_with_logits(logits, labels, reduction="none"))
    np.testing.assert_array_equal(values, [0.0, np.nan, np.nan, 0.0])
    assert values.dtype == dtype
    with pytest.raises(ValueError, match="there are no classes"):
        cross_entropy_with_logits(logits, labels, check=True)


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
