"""Properties for any shape, layout and numbers: results do not depend on memory layout, and gradients are finite where they must be."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cases import CASES, DTYPES, agree, draw
from contract import out_for, results
from layouts import LAYOUTS, guarded

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
some = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
few = settings(some, max_examples=12)

INF, NAN = np.inf, np.nan


def same(one, other, signs: bool = True) -> None:
    """Assert that results are bitwise identical, in the same dtype, the ``signs`` of zeros included."""
    for mine, right in zip(one, other, strict=True):
        wide, wanted = np.asarray(mine).astype(np.float64), np.asarray(right).astype(np.float64)
        np.testing.assert_array_equal(wide, wanted)
        assert not signs or np.array_equal(np.signbit(wide)[wide == 0.0], np.signbit(wanted)[wide == 0.0])
        assert np.asarray(mine).dtype.newbyteorder("=") == np.asarray(right).dtype


@st.composite
def shapes(draws, case, least=0):
    """Small shapes; rows with labels have at least one element, and some rows are too long for a block."""
    items = draws(st.lists(st.sampled_from([least, 1, 2, 3, 5, 9]), max_size=3))
    if not case.rowwise:
        return tuple(items)
    return (*items, draws(st.sampled_from([1, 2, 7, 10, 200] if case.labels or least else [0, 1, 2, 7, 10, 200])))


dtypes = st.sampled_from(["float32", "float64", "float16"])
layouts = st.sampled_from(sorted(LAYOUTS))
seeds = st.integers(0, 2**16)

EXTREME = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 6e-5, 1e4, -1e4, 65504.0, 3e38, -3e38, INF, -INF, NAN]


def scatter(random, array):
    """Put extreme numbers at random positions of a float array."""
    if array.dtype.kind == "f" and array.size:
        places = random.random(array.shape) < 0.3
        with np.errstate(over="ignore"):
            array[places] = random.choice(EXTREME, int(places.sum())).astype(array.dtype)
    return array


# Layouts ----------------------------------------------------------------------------------------------------------------------


@each_case
@some
@given(data=st.data())
def test_no_layout_changes_a_bit(case, data):
    """Inputs and outputs of any strides, alignment and byte order; extreme numbers; memory around the arrays stays unchanged."""
    shape, dtype, seed = data.draw(shapes(case)), data.draw(dtypes), data.draw(seeds)
    random = np.random.default_rng(seed)
    inputs = draw(case, shape, dtype, seed=seed, ignored=True)
    if data.draw(st.booleans()):
        inputs = [scatter(random, array) for array in inputs]
    want = results(case, *(array.copy() for array in inputs))
    args = [guarded(array, LAYOUTS[data.draw(layouts)]) for array in inputs]
    for one in args:
        one.array.flags.writeable = data.draw(st.booleans())
    same(results(case, *(one.array for one in args)), want)
    outs = [guarded(np.zeros(array.shape, array.dtype), LAYOUTS[data.draw(layouts)]) for array in want[1:]]
    got = results(case, *(one.array for one in args), out=out_for(case, [one.array for one in outs]))
    same(got, want)
    assert all(mine is one.array for mine, one in zip(got[1:], outs, strict=True))
    assert all(one.intact() for one in (*args, *outs))
    for one, array in zip(args, inputs, strict=True):
        np.testing.assert_array_equal(one.array, array)


@each_case
@some
@given(data=st.data())
def test_in_place_in_any_layout(case, data):
    shape, dtype, seed = data.draw(shapes(case)), data.draw(dtypes), data.draw(seeds)
    inputs = draw(case, shape, dtype, seed=seed)
    want = results(case, *inputs)
    count = len(case.loss.definition.differentiable)
    args = [guarded(array, LAYOUTS[data.draw(layouts)]) for array in inputs]
    got = results(case, *(one.array for one in args), out=out_for(case, [one.array for one in args[:count]]))
    same(got, want)
    assert all(one.intact() for one in args)


@each_case
@few
@given(data=st.data())
def test_views_that_repeat_elements(case, data):
    """Strides of 0 and overlapping windows are read like their copies, and never written."""
    shape, dtype, seed = data.draw(shapes(case, least=1)), data.draw(dtypes), data.draw(seeds)
    inputs = draw(case, shape, dtype, seed=seed)
    axes = data.draw(st.sets(st.integers(0, max(0, len(shape) - 1 - case.rowwise))))
    views = []
    for array in inputs:
        cut = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(array.ndim))
        views.append(np.broadcast_to(array[cut], array.shape))
    same(results(case, *views), results(case, *(view.copy() for view in views)))
    first = inputs[0]
    if first.ndim and first.shape[0] > 1 and not np.array_equal(axes, set()):
        base = np.zeros(first.size + first.shape[0], first.dtype)
        windows = np.lib.stride_tricks.as_strided(base, first.shape, (first.itemsize,) * first.ndim)
        kept = base.copy()
        same(results(case, windows, *inputs[1:]), results(case, windows.copy(), *inputs[1:]))
        np.testing.assert_array_equal(base, kept)
        if not windows.flags.c_contiguous:
            outs = [windows, *(np.empty_like(array) for array in results(case, *inputs)[2:])]
            with pytest.raises(ValueError, match="out has elements that overlap each other"):
                results(case, *inputs, out=out_for(case, outs))
            np.testing.assert_array_equal(base, kept)


@each_case
@some
@given(data=st.data())
def test_leading_axes_are_items(case, data):
    """Any number of axes before a row, or of elements, is one list of them."""
    shape, dtype, seed = data.draw(shapes(case, least=1)), data.draw(dtypes), data.draw(seeds)
    inputs = draw(case, shape, dtype, seed=seed)
    row = shape[-1:] if case.rowwise else ()
    flat = [array.reshape((-1, *row) if array.shape == shape else (-1,)) for array in inputs]
    want, got = results(case, *flat), results(case, *inputs)
    same([got[0], *(array.reshape(flat[0].shape) for array in got[1:])], want)
    assert all(array.shape == shape for array in got[1:])


@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
@few
@given(data=st.data())
def test_items_do_not_see_each_other(case, data):
    """NaN in one item affects that item alone; the results of the others do not change."""
    seed = data.draw(seeds)
    shape = (17, data.draw(st.sampled_from([2, 7, 200]))) if case.rowwise else (17,)
    inputs = draw(case, shape, "float32", seed=seed)
    place = data.draw(st.integers(0, 16))
    want = results(case, *inputs, reduction="none")
    inputs[0][place] = data.draw(st.sampled_from([NAN, INF, -INF, 3e38]))
    got = results(case, *inputs, reduction="none")
    same([np.delete(array, place, 0) for array in got], [np.delete(array, place, 0) for array in want])


@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
@few
@given(data=st.data())
def test_weights_are_factors(case, data):
    """A weight of 1 changes nothing, a weight of 0 gives 0, and others multiply; in any layout."""
    seed = data.draw(seeds)
    shape = (17, 7) if case.rowwise else (17,)
    inputs = draw(case, shape, "float64", seed=seed, ignored=True)
    weight = np.round(np.random.default_rng(seed).uniform(0.0, 3.0, 17))
    each = results(case, *inputs, reduction="none")
    laid = guarded(weight, LAYOUTS[data.draw(layouts)])
    got = results(case, *inputs, reduction="none", sample_weight=laid.array)
    factors = [weight, *([weight[:, None] if case.rowwise else weight] * (len(got) - 1))]
    for mine, right, factor in zip(got, each, factors, strict=True):
        agree(mine, right * factor)
        assert not mine[weight == 0.0].any()
    assert laid.intact()
    total = case.loss(*inputs, reduction="sum", sample_weight=laid.array)
    agree(total, got[0].sum(), "float64", size=float(np.abs(got[0]).sum()))


# Numbers ----------------------------------------------------------------------------------------------------------------------


def allowed(space, precision):
    """Numbers of a space for which the contract promises finite gradients, its ends included."""
    width = 32 if precision == "float32" else 64

    def within(low, high):
        return st.floats(low, high, width=width)

    match space:
        case "real" | "embedding" | "parameter":
            return st.one_of(within(-1e4, 1e4), st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30]))
        case "logit":
            return st.one_of(within(-1e4, 1e4), st.sampled_from([0.0, -INF, 1e4, -1e4]))
        case "log-rate":
            return st.one_of(within(-1e4, 50.0), st.just(-INF))
        case "probability" | "binary" | "distribution" | "classes" | "same":
            return st.one_of(within(0.0, 1.0), st.sampled_from([0.0, 1.0, 0.5, 1e-30]))
        case "sign":
            return st.sampled_from([-1.0, 1.0])
        case "count":
            return st.integers(0, 10**6).map(float)
    raise NotImplementedError(space)


@st.composite
def rows_of(draws, space, precision, shape):
    numbers = draws(st.lists(allowed(space, precision), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    array = np.array(numbers, precision).reshape(shape)
    if space == "logit" and array.ndim > 1:
        array[np.isneginf(array).all(-1), 0] = 0.0  # a row of nothing but -inf has no softmax
    return array


@pytest.mark.parametrize("precision", ["float32", "float64"])
@each_case
@some
@given(data=st.data())
def test_gradients_are_finite(case, precision, data):
    """Ends of the spaces, saturated mistakes, coincident embeddings: gradients are finite, and no warning is raised."""
    shape = (3, 4) if case.rowwise else (5,)
    args = []
    for one in case.loss.definition.inputs:
        if case.labels and one.space.target:
            args.append(np.array(data.draw(st.lists(st.sampled_from([0, 1, 2, 3, -100]), min_size=3, max_size=3))))
        else:
            args.append(data.draw(rows_of(one.space.name, precision, shape[:1] if one.per_row else shape)))
    if data.draw(st.booleans()) and case.loss.definition.inputs[0].space.name == "embedding":
        args[1][0] = args[0][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, *gradients = results(case, *args)
    assert not np.isnan(value)
    assert value > -INF
    for array in gradients:
        assert np.isfinite(array).all()
    if case.loss.definition.hessian:
        bends = case.loss.value_gradient_hessian(*args)[2]
        assert not np.isnan(bends).any()


@pytest.mark.parametrize("dtype", DTYPES)
@each_case
@few
@given(data=st.data())
def test_any_number_is_an_answer(case, dtype, data):
    """No number, however strange, causes an error, a warning or a write outside the arrays, and all forms agree on it."""
    seed = data.draw(seeds)
    shape = (data.draw(st.sampled_from([1, 5, 33])), 7) if case.rowwise else (data.draw(st.sampled_from([1, 7, 33, 1030])),)
    random = np.random.default_rng(seed)
    inputs = draw(case, shape, "float32", seed=seed, ignored=True)
    with np.errstate(over="ignore"):
        inputs = [scatter(random, array).astype(DTYPES[dtype]) if array.dtype == np.float32 else array for array in inputs]
    args = [guarded(array) for array in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, *gradients = results(case, *(one.array for one in args))
        alone = case.loss.gradient(*(one.array for one in args))
    # another kernel, and kernels may give a zero either sign
    same(alone.values() if isinstance(alone, dict) else [alone], gradients, signs=False)
    assert type(value) is float
    assert all(one.intact() for one in args)
