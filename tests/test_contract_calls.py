"""The contract: wrong calls, garbage, and later calls, which take the fast path and give the same results as first ones."""

import inspect
import itertools

import numpy as np
import pytest

import jitloss
from cases import ALL, agree, draw, weights
from contract import (
    FORMS,
    HUGE,
    NAN,
    each_averaged,
    each_case,
    each_loss,
    each_triple,
    forget,
    inputs_of,
    out_for,
    outs_like,
    refused,
    results,
    same,
)
from layouts import guarded

# The call itself --------------------------------------------------------------------------------------------------------------


@each_loss
def test_wrong_calls_show_the_signature(case):
    right = draw(case, case.shape, "float32")
    first = inputs_of(case)[0].public
    positional = [one for one in inspect.signature(case.loss).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    for args, options in (
        ([], {}),
        (right[:-1], {}),
        ([*right, *([1.0] * (1 + len(positional) - len(right)))], {}),
        (right, {first: right[0]}),
        (right, {"nonsense": 1}),
        (right, {"outs": right[0]}),
        (right, {"self": 1}),
        (right, {"args": ()}),
    ):
        for name in (*FORMS, "value_gradient_hessian"):
            form = getattr(case.loss, name)
            for _ in range(2):
                with pytest.raises(TypeError) as raised:
                    form(*args, **options)
                assert f"{form.__name__}{inspect.signature(form)}" in str(raised.value)
                form(*right) if name in FORMS else None


@each_loss
def test_options_that_mean_nothing_are_refused(case):
    right = draw(case, case.shape, "float32")
    known = inspect.signature(case.loss.gradient).parameters
    every = set().union(*(inspect.signature(loss.gradient).parameters for loss in ALL)) - {
        one.public for loss in ALL for one in loss.definition.inputs
    }
    assert {"axis", "ignore_index", "label_smoothing", "class_weight", "pos_weight", "z_loss", "margin", "epsilon"} <= every
    for name in every - set(known):
        refused(case, TypeError, right, name, "unexpected", forms=("value", "gradient"), right=right, **{name: None})


@each_case
def test_inputs_by_keyword(case):
    right = draw(case, case.shape, "float32")
    names = [one.public for one in inputs_of(case)]
    for _ in range(2):
        want = results(case, *right)
        same(results(case, **dict(zip(names, right, strict=True))), want)
        same(results(case, **dict(zip(names[::-1], right[::-1], strict=True))), want)
        same(results(case, right[0], **dict(zip(names[1:], right[1:], strict=True))), want)
        defaults = {
            one.name: one.default for one in inspect.signature(case.loss).parameters.values() if one.default is not one.empty
        }
        same(results(case, *right, **defaults), want)


@each_triple
def test_second_derivatives_that_mean_nothing(case):
    with pytest.raises(NotImplementedError, match="value_and_gradient"):
        case.loss.value_gradient_hessian(*draw(case, case.shape))


GARBAGE = [
    None, True, -1, HUGE, 1j, NAN, "abc", b"abc", Ellipsis, slice(1), object(), int, len, {}, {"a": 1}, set(), [], [[]], [1, [2]], [None],
    ["a"], (), range(3), iter([1.0]), np.array("a"), np.array(None), np.array(1, "M8[s]"), np.zeros(3, "V4"), np.ma.ones(33),
    np.zeros((33, 7, 2)), np.float64(NAN), np.zeros(33, complex), np.full(33, 2**64 - 1, np.uint64), memoryview(b"abc"), lambda x: x,
]  # fmt: skip


@each_case
def test_garbage_is_an_error_or_an_answer(case):
    """Whatever any argument is: a result, or a TypeError or ValueError that names the argument."""
    right = draw(case, case.shape, "float32")
    signature = inspect.signature(case.loss)
    names = [one.public for one in inputs_of(case)]
    errors = 0
    for name, garbage in itertools.product(signature.parameters, GARBAGE):
        arguments = {**dict(zip(names, right, strict=True)), name: garbage}
        error = error_of(case.loss, arguments)
        errors += error is not None
        assert error is None or name in str(error), f"{name}={garbage!r}: {error}"
    assert errors > 10 * len(names)


def error_of(function, arguments) -> Exception | None:
    try:
        function(**arguments)
    except (TypeError, ValueError) as error:
        return error
    return None


# The fast path ----------------------------------------------------------------------------------------------------------------


@each_case
def test_later_calls_give_what_the_first_gave(case):
    """Bitwise, whatever the arrays of the calls in between."""
    inputs = draw(case, case.shape, "float32")
    forget(case)
    want = results(case, *inputs)
    subclass = [array.view(type("Mine", (np.ndarray,), {})) for array in inputs]
    spaced = [np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array for array in inputs]
    frozen = [array.copy() for array in inputs]
    for array in frozen:
        array.flags.writeable = False
    swapped = [array.astype(array.dtype.newbyteorder("S")) for array in inputs]
    for args in (inputs, subclass, inputs, spaced, frozen, inputs, swapped, [array.tolist() for array in inputs], inputs):
        got = results(case, *args)
        if not isinstance(args[0], list):
            same(got, want)
            assert type(got[1]) is np.ndarray
    with jitloss.errstate(invalid="raise"):
        agree(case.loss(*inputs), want[0], "float32")
    same(results(case, *inputs), want)
    for place, one in enumerate(inputs_of(case)):
        if one.differentiable:
            args = list(frozen)
            outs = outs_like(case, inputs)
            outs[place] = args[place]
            refused(case, ValueError, args, "read-only", forms=("gradient",), right=inputs, out=out_for(case, outs))


@each_averaged
def test_the_short_way_sees_every_shape(case):
    """Plans are made for dtypes, not for shapes: any small shape is right after any other."""
    forget(case)
    for shape in ((33, 7), (1, 1), (5, 200), (2, 3, 4), (7, 193), (1, 192), (40, 2), (300, 100), (400, 100), (0, 4), (33, 7)):
        inputs = draw(case, shape, "float32", seed=3)
        plain = results(case, *inputs)
        long_way = results(case, *inputs, normalizer=float(max(1, np.prod(shape[:-1] if case.rowwise else shape))))
        same(plain, long_way)


@each_averaged
def test_errstate_is_seen_by_later_calls(case):
    inputs = draw(case, case.shape, "float32")
    results(case, *inputs)
    inputs[0].reshape(-1)[8] = NAN
    for _ in range(2):
        results(case, *inputs)
        with jitloss.errstate(invalid="raise"), pytest.raises(FloatingPointError, match=case.name):
            results(case, *inputs)


@each_case
def test_nothing_outside_the_arrays_is_touched(case):
    for shape in ((33, 7), (5, 200)) if case.rowwise else ((33,), (1100,)):
        args = [guarded(array) for array in draw(case, shape, "float32")]
        outs = [
            guarded(np.zeros_like(one.array)) for one, given in zip(args, inputs_of(case), strict=True) if given.differentiable
        ]
        want = results(case, *(one.array.copy() for one in args))
        arrays = [one.array for one in args]
        for _ in range(2):
            same(results(case, *arrays, out=out_for(case, [one.array for one in outs])), want)
            assert all(one.intact() for one in (*args, *outs))
        if not case.loss.definition.is_penalty:
            weight = guarded(np.asarray(weights(shape[:1]), np.float32))
            each = results(
                case, *arrays, sample_weight=weight.array, reduction="none", out=out_for(case, [one.array for one in outs])
            )
            assert each[0].shape == (shape[:-1] if case.rowwise else shape)
            assert all(one.intact() for one in (*args, *outs, weight))
