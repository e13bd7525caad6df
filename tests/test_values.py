"""Values, gradients and second derivatives of every loss, against slow references and against themselves."""

import functools
import itertools

import numpy as np
import pytest

import jitloss
from cases import ALL, CASES, DTYPES, EDGES, PARAMETERS, PARAMETRISED, ROWS, Case, agree, draw, is_binary, weights
from references import REFERENCES, reference

SIZES = (1, 7, 33, 1000, 5000, 100_003)
COLUMNS = (1, 2, 3, 10, 100, 193, 1000, 2500)

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
each_averaged = pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
each_row_case = pytest.mark.parametrize("case", ROWS, ids=repr)
each_class_case = pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.takes_labels], ids=repr)
each_binary_case = pytest.mark.parametrize("case", [case for case in CASES if is_binary(case)], ids=repr)


def identify(one) -> str:
    return repr(one) if isinstance(one, Case) else ",".join(f"{key}={value}" for key, value in one.items()) or "defaults"


each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def everything(case: Case, inputs, **given):
    """Value, gradient and, where it is defined, the second derivative, as the public call returns them."""
    if case.loss.definition.hessian:
        return case.loss.value_gradient_hessian(*inputs, **given)
    return (*case.loss.value_and_gradient(*inputs, **given), None)


def check(case: Case, inputs, parameters=None, *, looser: float = 1.0, **options):
    """Compare one call, every output of it, with the reference."""
    want = reference(case.name, inputs, parameters, **options)
    sizes = _sizes(case, inputs, options.get("axis", -1))
    got = everything(case, inputs, **(parameters or {}), **options)
    working = "float64" if any(one.dtype == np.float64 for one in inputs) else "float32"
    for what, mine, right in zip(("value", "gradient", "hessian"), got, want, strict=True):
        if right is not None:
            agree(mine, right, working, size=sizes[what], looser=looser, what=f"{case} {what} {parameters or ''} {list(options)}")
    return got


def _sizes(case: Case, inputs, axis: int) -> dict[str, float]:
    """The magnitude of the numbers whose difference a result is: 1, but distances grow with the row, and a mean divides."""
    columns = inputs[0].shape[axis] if case.rowwise else 1
    slope = columns / max(1, inputs[0].size)
    return {"value": 1.0 if case.loss.definition.hessian else max(1.0, columns) ** 0.5, "gradient": slope, "hessian": slope}


def test_every_loss_has_a_reference():
    assert [loss.__name__ for loss in ALL] == list(jitloss.LOSSES)
    assert set(REFERENCES) == set(jitloss.LOSSES)


def test_every_parameter_is_varied():
    for loss in ALL:
        varied = set().union(*PARAMETERS.get(loss.__name__, [{}]))
        assert varied == {one.name for one in loss.definition.parameters}, loss.__name__


# Dtypes and sizes -------------------------------------------------------------------------------------------------------------


@each_dtype
@each_case
def test_dtypes(case, dtype):
    value, gradient, hessian = check(case, draw(case, case.shape, dtype))
    assert type(value) is float
    for output in (gradient, hessian):
        for array in output.values() if isinstance(output, dict) else [output]:
            assert array is None or array.dtype == DTYPES[dtype]


@each_dtype
@each_row_case
def test_dtypes_of_long_rows(case, dtype):
    check(case, draw(case, (5, 300), dtype))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", [case for case in CASES if not case.rowwise], ids=repr)
def test_sizes(case, size):
    check(case, draw(case, (size,), "float32"))


@pytest.mark.parametrize("columns", COLUMNS)
@each_row_case
def test_columns(case, columns):
    for rows in (1, 33, 257):
        check(case, draw(case, (rows, columns), "float32", seed=rows))


@each_row_case
def test_many_short_rows(case):
    check(case, draw(case, (7001, 10), "float32"))


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 3, 4), (1, 1, 1, 5)], ids=str)
@each_case
def test_shapes(case, shape):
    if shape or not case.rowwise:
        check(case, draw(case, shape, "float32"))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)], ids=str)
@each_case
def test_nothing_at_all(case, shape):
    if case.labels and shape[-1] == 0:
        return  # rows without classes have no labels
    value, gradient, _ = everything(case, draw(case, shape, "float32"))
    assert value == 0.0
    for array in gradient.values() if isinstance(gradient, dict) else [gradient]:
        assert array.shape == shape


@pytest.mark.parametrize(
    ("shape", "axis"), [((9, 7), 0), ((4, 3, 5), 1), ((4, 3, 5), -3), ((2, 300, 9), 1), ((2, 3, 40, 3), -2)], ids=str
)
@each_row_case
def test_axis(case, shape, axis):
    inputs = draw(case, shape, "float32", axis=axis, ignored=True)
    check(case, inputs, axis=axis)
    check(case, inputs, axis=axis, reduction="none", sample_weight=weights(tuple(np.delete(shape, axis))))


@each_dtype
@each_row_case
def test_dtypes_along_an_inner_axis(case, dtype):
    check(case, draw(case, (5, 6, 7), dtype, axis=1, ignored=True), axis=1)


@each_case
def test_targets_of_other_dtypes(case):
    """Labels of any integer dtype; float16 targets beside float32 predictions; integer and bool targets where they mean something."""
    inputs = draw(case, case.shape, "float32")
    target = next((place for place, one in enumerate(case.loss.definition.inputs) if one.space.target), None)
    if target is None:
        return
    numbers = inputs[target]
    space = case.loss.definition.inputs[target].space.name
    dtypes = [np.int8, np.uint8, np.int32, np.uint64] if case.labels else [np.float16]
    if space in ("binary", "same"):
        numbers, dtypes = np.round(numbers), [np.bool_, np.int64]
    elif space == "sign":
        dtypes = [np.int8]
    elif space == "count":
        dtypes = [np.int64, np.uint8]
    for dtype in dtypes:
        inputs[target] = numbers.astype(dtype)
        check(case, inputs)


@each_case
def test_integer_predictions_become_float64(case):
    inputs = [
        np.clip(np.round(numbers), 0, 1).astype(np.int32) if one.differentiable else numbers
        for one, numbers in zip(case.loss.definition.inputs, draw(case, case.shape), strict=True)
    ]
    _, gradient, _ = check(case, inputs)
    assert {array.dtype for array in (gradient.values() if isinstance(gradient, dict) else [gradient])} == {np.dtype(np.float64)}


# Parameters and options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("case", "parameters"), PARAMETRISED, ids=identify)
def test_parameters(case, parameters, dtype):
    check(case, draw(case, case.shape, dtype), parameters)


@pytest.mark.parametrize("sample", [False, True], ids=["plain", "weighted"])
@each_averaged
def test_reductions(case, sample):
    inputs = draw(case, case.shape, "float32", ignored=True)
    given = {"sample_weight": weights(case.shape[:1])} if sample else {}
    for reduction in ("mean", "sum", "none"):
        check(case, inputs, reduction=reduction, **given)
    for normalizer in ("weights", 12.5, 3):
        check(case, inputs, normalizer=normalizer, **given)
        check(case, inputs, normalizer=normalizer, reduction="sum", **given)


@pytest.mark.parametrize("leading", [0, 1, 2, 3])
@each_averaged
def test_sample_weight_over_trailing_axes(case, leading):
    shape = (5, 4, 3, 7) if case.rowwise else (5, 4, 3)
    check(case, draw(case, shape, "float32"), sample_weight=np.asarray(weights(shape[:leading]) + 0.5), normalizer="weights")


@each_averaged
def test_weights_of_zero(case):
    """An item of weight 0 contributes nothing, whatever it holds; where no item counts, nothing is divided by 0."""
    inputs = draw(case, case.shape, "float32")
    sample = np.arange(33) % 2.0
    inputs[0][::2] = np.nan
    check(case, inputs, sample_weight=sample)
    value, gradient, _ = everything(case, inputs, sample_weight=0.0 * sample, normalizer="weights")
    assert value == 0.0
    for array in gradient.values() if isinstance(gradient, dict) else [gradient]:
        assert not array.any()


@pytest.mark.parametrize(("smoothed", "classes", "sample"), [*itertools.product([False, True], repeat=3)])
@each_class_case
def test_class_options(case, smoothed, classes, sample):
    inputs = draw(case, case.shape, "float32", ignored=True)
    options = {"label_smoothing": 0.1} if smoothed else {}
    options |= {"class_weight": np.array([1.0, 0.0, 2.0, 0.5, 1.5, 3.0, 0.25])} if classes else {}
    options |= {"sample_weight": weights((33,))} if sample else {}
    for normalizer in ("count", "weights", 7.0):
        check(case, inputs, normalizer=normalizer, **options)
        if smoothed == (classes == sample):  # with each of the three and without it, alone and beside each other one
            check(case, inputs, normalizer=normalizer, reduction="none", **options)


@pytest.mark.parametrize(("shape", "axis"), [((9, 300), 1), ((33, 40), 1), ((4, 7, 5), 1), ((2, 300, 3), 1)], ids=str)
@each_class_case
def test_class_options_in_other_layouts(case, shape, axis):
    inputs = draw(case, shape, "float32", axis=axis, ignored=True)
    options = {"label_smoothing": 0.2, "class_weight": np.linspace(0.5, 2.0, shape[axis]), "axis": axis}
    check(case, inputs, **options)
    check(case, inputs, axis=axis, label_smoothing=0.2, reduction="none")
    check(case, inputs, axis=axis, class_weight=options["class_weight"], normalizer="weights", sample_weight=weights(shape[:1]))


@each_dtype
@each_class_case
def test_class_options_in_all_dtypes(case, dtype):
    inputs = draw(case, (9, 7), dtype, ignored=True)
    check(case, inputs, label_smoothing=0.2, class_weight=np.linspace(0.5, 2.0, 7), sample_weight=weights((9,)))


@pytest.mark.parametrize("parameters", PARAMETERS["cross_entropy_with_logits"], ids=str)
@pytest.mark.parametrize(("shape", "axis"), [((9, 300), 1), ((4, 7, 5), 1), ((33, 7), 1), ((33, 40), 1)], ids=str)
@pytest.mark.parametrize("case", [case for case in ROWS if case.name == "cross_entropy_with_logits"], ids=repr)
def test_logit_options_with_class_options(case, shape, axis, parameters):
    inputs = draw(case, shape, "float32", axis=axis, ignored=True)
    check(case, inputs, parameters, axis=axis, label_smoothing=0.1, class_weight=np.linspace(0.5, 2.0, shape[axis]))
    if case.labels:  # what stands for all other classes is a number of its own then
        check(case, inputs, parameters, axis=axis, label_smoothing=0.1)


@each_class_case
def test_forms_of_class_weight(case):
    inputs = draw(case, case.shape, "float32", ignored=True)
    check(case, inputs, class_weight={0: 2.0, 5: 0.5})
    check(case, inputs, class_weight=[1, 2, 3, 4, 5, 6, 7])
    if case.labels:
        inputs[1][inputs[1] == 3] = 2  # a class that does not occur
        check(case, inputs, class_weight="balanced")
        check(case, inputs, class_weight="balanced", normalizer="weights")


@each_class_case
def test_all_labels_smoothed_away(case):
    check(case, draw(case, case.shape, "float32"), label_smoothing=1.0)


@pytest.mark.parametrize("ignore_index", [3, -1, None, 255])
@pytest.mark.parametrize("case", [case for case in CASES if case.labels], ids=repr)
def test_ignore_index(case, ignore_index):
    logits, labels = draw(case, case.shape, "float32")
    if ignore_index is not None:
        labels[::4] = ignore_index
        logits[::4][labels[::4] == ignore_index] = np.nan
    for normalizer in ("count", "weights"):
        check(case, [logits, labels], ignore_index=ignore_index, normalizer=normalizer)


@pytest.mark.parametrize("case", [case for case in CASES if case.labels], ids=repr)
def test_all_rows_ignored(case):
    logits, labels = draw(case, case.shape, "float32")
    value, gradient, _ = everything(case, [logits, np.full_like(labels, -100)])
    assert value == 0.0
    assert not gradient.any()


@each_binary_case
def test_binary_class_weight(case):
    soft = draw(case, case.shape, "float32")
    hard = [soft[0], np.round(soft[1])]
    for inputs, class_weight in itertools.product((soft, hard), ({0: 0.5, 1: 3.0}, [2.0, 0.25], {1: 4.0})):
        for normalizer in ("count", "weights"):
            check(case, inputs, class_weight=class_weight, normalizer=normalizer)
            check(case, inputs, class_weight=class_weight, normalizer=normalizer, sample_weight=weights(case.shape))
    check(case, hard, class_weight="balanced", normalizer="weights")
    check(case, [hard[0], hard[1].astype(bool)], class_weight="balanced", reduction="none")


@pytest.mark.parametrize(
    "case", [case for case in CASES if "pos_weight" in {one.name for one in case.loss.definition.parameters}], ids=repr
)
def test_balanced_pos_weight(case):
    inputs = draw(case, case.shape, "float32")
    inputs[1] = np.round(inputs[1])
    ones = np.count_nonzero(inputs[1])
    want = everything(case, inputs, pos_weight=(inputs[1].size - ones) / ones)
    got = everything(case, inputs, pos_weight="balanced")
    assert all(np.array_equal(mine, right) for mine, right in zip(got, want, strict=True))


# Edges ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("edge", EDGES, ids=[f"{one.name}-{place}" for place, one in enumerate(EDGES)])
def test_edges(edge, dtype):
    loss = jitloss.LOSSES[edge.name]
    options = edge.options if loss.definition.is_penalty else {"reduction": "none", **edge.options}
    inputs = _edge_inputs(edge, dtype)
    value, gradient = loss.value_and_gradient(*inputs, **options)
    looser = 4.0 if dtype == "float32" else 1.0
    agree(value, edge.value, dtype, looser=looser, what="value")
    agree(gradient, edge.gradient, looser=looser, what="gradient")


@pytest.mark.parametrize("edge", EDGES, ids=[f"{one.name}-{place}" for place, one in enumerate(EDGES)])
def test_references_know_the_edges(edge):
    reduction = {} if jitloss.LOSSES[edge.name].definition.is_penalty else {"reduction": "none"}
    parameters = {one.name for one in jitloss.LOSSES[edge.name].definition.parameters}
    options = {key: value for key, value in edge.options.items() if key not in parameters}
    parameters = {key: value for key, value in edge.options.items() if key in parameters}
    want = reference(edge.name, _edge_inputs(edge, "float64"), parameters, **reduction, **options)
    gradient = want.gradient if isinstance(want.gradient, dict) else {"": want.gradient}
    with np.errstate(over="ignore"):
        agree(np.asarray(want.value, np.float64), edge.value, what="value")
        agree(
            {key: one.astype(np.float64) for key, one in gradient.items()},
            edge.gradient if isinstance(edge.gradient, dict) else {"": edge.gradient},
            what="gradient",
        )


def _edge_inputs(edge, dtype):
    rowwise = jitloss.LOSSES[edge.name].definition.form == "rowwise"
    inputs = [np.array(one, dtype) for one in edge.inputs]
    if rowwise and inputs[1].ndim < inputs[0].ndim:
        inputs[1] = inputs[1].astype(np.int64)
    if np.asarray(edge.inputs[-1]).dtype == bool:
        inputs[-1] = np.array(edge.inputs[-1])
    return inputs


@pytest.mark.parametrize(
    "edge", [edge for edge in EDGES if edge.name == "cross_entropy_with_logits" and np.ndim(edge.inputs[0]) == 2]
)
@pytest.mark.parametrize("layout", [40, 300, "inner"])
def test_edges_of_rows_in_other_layouts(edge, layout):
    """The same rows padded with impossible classes to some length, or along an inner axis."""
    logits, targets = _edge_inputs(edge, "float32")
    want = np.array(edge.gradient, np.float64)
    options = {"reduction": "none", **edge.options}
    if layout != "inner":
        if edge.options.get("ignore_index", 0) > 0:
            return
        more = layout - logits.shape[1]
        logits = np.pad(logits, ((0, 0), (0, more)), constant_values=-np.inf)
        targets = targets if targets.ndim == 1 else np.pad(targets, ((0, 0), (0, more)))
        added = np.where(np.isnan(want[:, :1]), np.nan, 0.0) * np.ones(more)
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, targets, **options)
        want = np.concatenate([want, added], axis=1)
        if "softcap" in edge.options:
            return  # -inf is capped as well
    else:
        logits, targets = logits.T[None], targets.T[None]
        options |= {"sample_weight": np.array([edge.options["sample_weight"]])} if "sample_weight" in edge.options else {}
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, targets, axis=1, **options)
        value, gradient = value[0], gradient[0].T
    agree(value, edge.value, looser=4.0, what="value")
    agree(gradient, want, looser=4.0, what="gradient")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "focal_loss_with_logits"])
def test_tails_keep_their_digits(name, dtype):
    """However small a value or a gradient is, its relative error is small."""
    logits = np.linspace(-40.0, 40.0, 801).astype(dtype)
    for target in (np.zeros_like(logits), np.ones_like(logits)):
        want = reference(name, (logits, target), reduction="none")
        got = jitloss.LOSSES[name].value_gradient_hessian(logits, target, reduction="none")
        rtol, smallest = (2e-5, 1e-37) if dtype == "float32" else (4e-14, 0.0)
        for mine, right in zip(got, want, strict=True):
            np.testing.assert_allclose(mine, right.astype(np.float64), rtol=rtol, atol=smallest)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["binary_cross_entropy", "focal_loss"])
def test_small_probabilities_keep_their_digits(name, dtype):
    """Those of negatives: 1 - p has rounded them away."""
    smallest = 2e-7 if dtype == "float32" else 1e-6  # references are extended doubles, which round 1 - p too
    predictions = np.geomspace(smallest, 0.9, 500).astype(dtype)
    want = reference(name, (predictions, 0 * predictions), {"epsilon": smallest / 2}, reduction="none")
    got = jitloss.LOSSES[name].value_gradient_hessian(predictions, 0 * predictions, reduction="none", epsilon=smallest / 2)
    for mine, right in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, right.astype(np.float64), rtol=2e-6 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tails_of_softmax_keep_their_digits(dtype):
    logits = np.stack([np.zeros(401), np.linspace(-60.0, 20.0, 401)], axis=1).astype(dtype)
    for labels in (np.zeros(401, np.int64), np.ones(401, np.int64)):
        want = reference("cross_entropy_with_logits", (logits, labels), reduction="none")
        gradient = jitloss.cross_entropy_with_logits_gradient(logits, labels, reduction="none")
        other = np.arange(401), 1 - labels
        np.testing.assert_allclose(
            gradient[other], want.gradient[other].astype(np.float64), rtol=2e-5 if dtype == "float32" else 4e-14
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["mse_loss", "huber_loss", "log_cosh_loss", "l1_loss"])
def test_small_errors_keep_their_digits(name, dtype):
    errors = np.geomspace(1e-12, 100.0, 500).astype(dtype)
    want = reference(name, (errors, 0 * errors), reduction="none")
    got = jitloss.LOSSES[name].value_and_gradient(errors, 0 * errors, reduction="none")
    for mine, right in zip(got, want, strict=False):
        np.testing.assert_allclose(mine, right.astype(np.float64), rtol=2e-6 if dtype == "float32" else 4e-15)


# Forms, sums and difference quotients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "none"])
@each_case
def test_forms_agree(case, reduction):
    """The gradient forms agree bitwise; the others are compiled with other outputs, and agree up to rounding."""
    shapes = [(33, 7), (9, 300)] if case.rowwise else [(1003,)]
    given = {} if case.loss.definition.is_penalty else {"reduction": reduction}
    for shape in shapes:
        inputs = draw(case, shape, "float32")
        value, gradient = case.loss.value_and_gradient(*inputs, **given)
        for form in (case.loss.gradient, getattr(jitloss, f"{case.name}_gradient")):
            alone = form(*inputs, **given)
            for key in gradient if isinstance(gradient, dict) else [...]:
                np.testing.assert_array_equal(alone[key], gradient[key])
        agree(case.loss(*inputs, **given), value, "float32", looser=0.25, what="value")
        whole = everything(case, inputs, **given)
        agree(whole[0], value, "float32", looser=0.25, what="value with the second derivative")
        agree(whole[1], gradient, looser=0.25, what="gradient with the second derivative")


@each_averaged
def test_gradient_of_a_sum_is_that_of_its_items(case):
    inputs = draw(case, case.shape, ignored=True)
    each = everything(case, inputs, reduction="none")
    total = everything(case, inputs, reduction="sum")
    mean = everything(case, inputs, reduction="mean")
    counted = np.count_nonzero(inputs[1] != -100) if case.labels else each[0].size
    assert total[0] == pytest.approx(each[0].sum(), rel=1e-13)
    assert mean[0] == pytest.approx(total[0] / counted, rel=1e-13)
    for one, whole, averaged in zip(each[1:], total[1:], mean[1:], strict=True):
        for key in one if isinstance(one, dict) else [] if one is None else [slice(None)]:
            np.testing.assert_array_equal(one[key], whole[key])
            np.testing.assert_allclose(averaged[key] * counted, whole[key], rtol=1e-14)


@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.hessian], ids=repr)
def test_second_derivatives_that_mean_nothing(case):
    with pytest.raises(NotImplementedError, match=case.name):
        case.loss.value_gradient_hessian(*draw(case, case.shape))


def differences(case: Case, inputs, place: int, given):
    """Central differences of the value, and of the gradient along its own element, for each element of one input."""
    call = functools.partial(everything, case, reduction="none", **given) if case.rowwise or case.loss.definition.target else None
    array = inputs[place]
    key, space = case.loss.definition.inputs[place].name, case.loss.definition.inputs[place].space.name
    step = 1e-4 * np.minimum(array, 1.0 - array) if space == "probability" else np.full_like(array, 1e-5)
    slopes, bends = np.empty_like(array), np.empty_like(array)
    # items do not touch each other: all of them are moved at once, one column of every row at a time
    columns = [(..., column) for column in range(array.shape[-1])] if case.rowwise else [...]
    if call is None:
        call = functools.partial(everything, case, **given)
        columns = [(index,) for index in range(array.size)]
    for where in columns:
        results = []
        for moved in (array.copy(), array.copy()):
            moved[where] += step[where] if not results else -step[where]
            value, gradient, _ = call([*inputs[:place], moved, *inputs[place + 1 :]])
            results.append((value, (gradient[key] if isinstance(gradient, dict) else gradient)[where]))
        (value, gradient), (before, gradient_before) = results
        slopes[where], bends[where] = (
            (one - other) / (2 * step[where]) for one, other in ((value, before), (gradient, gradient_before))
        )
    return slopes, bends


@pytest.mark.parametrize(("case", "parameters"), [*((case, {}) for case in CASES), *PARAMETRISED], ids=identify)
def test_central_differences(case, parameters):
    inputs = draw(case, (9, 5) if case.rowwise else (33,), seed=1)
    reduction = {} if case.loss.definition.is_penalty else {"reduction": "none"}
    _, gradient, hessian = everything(case, inputs, **reduction, **parameters)
    for place, one in enumerate(case.loss.definition.inputs):
        if one.differentiable:
            own = gradient[one.name] if isinstance(gradient, dict) else gradient
            slopes, bends = differences(case, inputs, place, parameters)
            clipped = _clipped(inputs, parameters)
            np.testing.assert_allclose(np.where(clipped, 0.0, own), np.where(clipped, 0.0, slopes), rtol=1e-5, atol=1e-7)
            if hessian is not None:
                np.testing.assert_allclose(np.where(clipped, 0.0, hessian), np.where(clipped, 0.0, bends), rtol=1e-5, atol=1e-7)


def _clipped(inputs, parameters):
    """Where the value is flat but the gradient, taken at the clipped point, is not."""
    epsilon = parameters.get("epsilon", 0.0)
    return (inputs[0] < epsilon) | (inputs[0] > 1.0 - epsilon) if epsilon else np.False_
