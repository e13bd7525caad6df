"""The contract: shapes and dtypes that every loss accepts, and errors that name those that it rejects."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from cases import CASES, DTYPES, agree, draw
from contract import (
    HUGE,
    each_averaged,
    each_case,
    each_loss,
    each_row_case,
    each_triple,
    inputs_of,
    out_for,
    refused,
    results,
    same,
)
from layouts import guarded

# Shapes -----------------------------------------------------------------------------------------------------------------------


def wrong_shapes(case, place):
    """Shapes that would broadcast, that have the same number of elements, or that are just different."""
    shape, one = case.shape, inputs_of(case)[place]
    right = shape[:-1] if one.per_row or (case.labels and one.space.target) else shape
    tried = {(), (1,), (1, *right), (*right, 1), (right[0] + 1, *right[1:]), (right[0] - 1, *right[1:]), right[::-1], (0,)}
    tried |= {right[1:], (1, *right[1:]), (*right[:-1], 1), (int(np.prod(right)), 1), (*shape, 2)}
    return sorted(tried - {right} - ({shape} if one.space.target and case.loss.definition.takes_labels else set()))


@each_averaged
def test_nothing_is_broadcast(case):
    right = draw(case, case.shape, "float32")
    for place, one in enumerate(inputs_of(case)[1:], start=1):
        for shape in wrong_shapes(case, place):
            if case.loss.definition.takes_labels and one.space.target and shape in (case.shape[:-1], case.shape):
                continue  # labels where rows were drawn, or the other way round
            args = list(right)
            args[place] = np.zeros(shape, right[place].dtype)
            refused(case, ValueError, args, one.public, shape, case.shape, right=right, forms=("value", "gradient"))


@each_row_case
def test_rows_need_an_axis(case):
    scalars = [np.zeros((), array.dtype) for array in draw(case, case.shape, "float32")]
    refused(case, ValueError, scalars, "axis", "()")
    for axis in (2, -3, HUGE):
        refused(case, ValueError, draw(case, case.shape, "float32"), "axis", case.shape, axis=axis, forms=("value",))
    for axis in (None, 1.0, True, (0,), "0"):
        refused(case, TypeError, draw(case, case.shape, "float32"), "axis", repr(axis), axis=axis, forms=("value",))


@each_row_case
def test_axis_is_the_same_rows(case):
    """Along any axis, positive or negative, results are those of rows along the last axis."""
    inputs = draw(case, (4, 3, 5), "float32", axis=1)
    moved = [np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim == 3 else array for array in inputs]
    want = results(case, *moved)
    for axis in (1, -2, np.int8(1)):
        got = results(case, *inputs, axis=axis)
        agree(got[0], want[0], "float32", looser=0.25)
        for mine, right in zip(got[1:], want[1:], strict=True):
            agree(np.moveaxis(mine, 1, -1), right, looser=0.25)


@each_loss
def test_scalars_are_arrays_without_axes(case):
    if case.rowwise:
        return
    inputs = draw(case, (1,), "float32")
    want = results(case, *inputs)
    for args in ([array[0] for array in inputs], [array.reshape(()) for array in inputs]):
        for _ in range(2):
            value, gradient = results(case, *args)
            assert value == want[0]
            assert (gradient.shape, gradient.dtype) == ((), np.float32)
            assert gradient == want[1][0]
    out = np.empty((), np.float32)
    assert case.loss.gradient(*[array.reshape(()) for array in inputs], out=out) is out
    assert out == want[1][0]


# Dtypes -----------------------------------------------------------------------------------------------------------------------

NO_NUMBERS = [
    np.complex64(1),
    np.longdouble(1),
    np.array(1, object),
    np.array("1"),
    np.array(b"1"),
    np.array(1, "M8[s]"),
    np.array(1, "m8[s]"),
    np.array((1.0,), [("x", "f4")]),
    np.array(1, ml_dtypes.float8_e5m2),
]


@each_case
def test_dtypes_that_are_no_numbers(case):
    right = draw(case, case.shape, "float32")
    for place, one in enumerate(inputs_of(case)):
        for number in NO_NUMBERS:
            args = list(right)
            args[place] = np.full(right[place].shape, number)
            refused(case, TypeError, args, one.public, args[place].dtype, right=right, forms=("value",))
        if one.differentiable:
            args[place] = right[place] > 0
            refused(case, TypeError, args, one.public, "bool", right=right, forms=("value",))


@pytest.mark.parametrize("kind", ["float32", "float64"])
@each_case
def test_values_are_floats(case, kind):
    inputs = draw(case, case.shape, kind)
    for reduction in () if case.loss.definition.is_penalty else ("mean", "sum"):
        assert type(case.loss(*inputs, reduction=reduction)) is float
    for _ in range(2):
        assert type(case.loss(*inputs)) is float
        assert type(case.loss.value_and_gradient(*inputs)[0]) is float


@each_averaged
def test_mixed_dtypes(case):
    """A gradient has the dtype of its predictions, whatever the other arrays have, and the arithmetic is that of the widest."""
    wide = draw(case, case.shape)
    floats = [place for place, array in enumerate(wide) if array.dtype == np.float64 and not inputs_of(case)[place].per_row]
    exact = results(
        case, *(array.astype(np.float32).astype(np.float64) if array.dtype == np.float64 else array for array in wide)
    )
    for narrow in itertools.product([np.float32, np.float64], repeat=len(floats)):
        args = [guarded(array) for array in wide]
        for place, dtype in zip(floats, narrow, strict=True):
            args[place] = guarded(wide[place].astype(np.float32).astype(dtype))
        working = np.result_type(*narrow).name
        got = results(case, *(one.array for one in args))
        agree(got[0], exact[0], working)
        for array, right, dtype in zip(got[1:], exact[1:], narrow, strict=False):
            assert array.dtype == dtype
            agree(array, right.astype(dtype))
        outs = [guarded(np.zeros(args[place].array.shape, dtype)) for place, dtype in zip(floats, narrow, strict=True)]
        outs = outs[: len(case.loss.definition.differentiable)]
        results(case, *(one.array for one in args), out=out_for(case, [one.array for one in outs]))
        for mine, right in zip(outs, got[1:], strict=True):
            np.testing.assert_array_equal(mine.array, right)
        assert all(one.intact() for one in (*args, *outs))


@pytest.mark.parametrize("case", [case for case in CASES if any(one.per_row for one in inputs_of(case))], ids=repr)
def test_a_number_a_row_has_no_say_in_the_precision(case):
    inputs = draw(case, case.shape, "float32")
    places = [place for place, one in enumerate(inputs_of(case)) if one.per_row]
    want = results(case, *inputs)
    for dtype in (np.float64, np.int64):
        wide = [array.astype(dtype) if place in places else array for place, array in enumerate(inputs)]
        for _ in range(2):
            same(results(case, *wide), want)


@each_triple
@pytest.mark.parametrize("first", ["float16", "bfloat16"])
def test_half_types_beside_others(case, first):
    """Outputs of different dtypes are each right, and none is written past its end."""
    inputs = draw(case, case.shape)
    args = [guarded(array.astype(DTYPES[first] if place == 0 else np.float32)) for place, array in enumerate(inputs)]
    gradient = case.loss.gradient(*(one.array for one in args))
    exact = case.loss.gradient(*(one.array.astype(np.float64) for one in args))
    for (name, array), one in zip(gradient.items(), args, strict=False):
        assert array.dtype == one.array.dtype
        agree(array, exact[name].astype(np.float32))
    assert all(one.intact() for one in args)
