"""The contract that every loss keeps, as its wrong calls see it: what is refused, what the message names, what stays untouched.

Most checks run twice: a small default call takes a short way once a first one like it has been made, and nothing may change by that.
"""

import inspect
import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import jitloss
from cases import ALL, CASES, DTYPES, Case, agree, draw, is_binary, weights
from jitloss.call import SERIAL
from layouts import guarded

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
each_loss = pytest.mark.parametrize("case", [case for case in CASES if not case.labels], ids=repr)
each_averaged = pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
each_row_case = pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=repr)
each_label_case = pytest.mark.parametrize("case", [case for case in CASES if case.labels], ids=repr)
each_class_case = pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.takes_labels], ids=repr)
each_triple = pytest.mark.parametrize("case", [case for case in CASES if len(case.loss.definition.differentiable) > 1], ids=repr)

FORMS = ("value", "gradient", "value_and_gradient")
NAN, INF = np.nan, np.inf
HUGE = 10**400


def inputs_of(case: Case) -> Any:
    return case.loss.definition.inputs


def forget(case: Case) -> None:
    """Make the next call of every form the first of its kind."""
    for form in FORMS:
        quick = getattr(case.loss, form)._quick
        if quick is not None:
            quick.forget()


def refused(case, error, args, *words, right=None, forms=FORMS, **options) -> None:
    """Assert that a call is an error that names the loss and the words, before a right call like it has been made and after."""
    for name in forms:
        form = getattr(case.loss, name)
        forget(case)
        for _ in range(2):
            with pytest.raises(error) as raised:
                form(*args, **options)
            assert type(raised.value) is error
            for word in (case.name, *words):
                assert str(word) in str(raised.value), f"{word!r} is not in: {raised.value}"
            for _ in range(2):
                form(*(draw(case, case.shape, "float32") if right is None else right))


def results(case, *args, **options):
    """Value and gradients as a flat list of arrays."""
    value, gradient = case.loss.value_and_gradient(*args, **options)
    return [value, *(gradient.values() if isinstance(gradient, dict) else [gradient])]


def same(one, other) -> None:
    for mine, right in zip(one, other, strict=True):
        assert type(mine) is type(right)
        np.testing.assert_array_equal(mine, right)
        assert not isinstance(mine, np.ndarray) or mine.dtype == right.dtype


def gradient_list(gradient):
    return list(gradient.values()) if isinstance(gradient, dict) else [gradient]


def out_for(case, arrays):
    """``out`` from one array for each differentiable input."""
    names = [one.name for one in case.loss.definition.differentiable]
    return arrays[0] if len(names) == 1 else dict(zip(names, arrays, strict=True))


# Shapes -----------------------------------------------------------------------------------------------------------------------


def wrong_shapes(case, place):
    """Shapes that broadcast, that hold as many elements, or that are simply others."""
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
    """Along any axis, by either count, the numbers are those of the rows laid out last."""
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
    """A gradient has its prediction's dtype, whatever stands beside it, and the arithmetic is that of the widest."""
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
        case.loss.gradient(*(one.array for one in args), out=out_for(case, [one.array for one in outs]))
        for mine, right in zip(outs, got[1:], strict=True):
            np.testing.assert_array_equal(mine.array, right)
        assert all(one.intact() for one in (*args, *outs))


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


# Labels -----------------------------------------------------------------------------------------------------------------------

LABEL_DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong"]
BAD_LABELS = [
    ("int64", -1), ("int64", 7), ("int64", -99), ("int64", 2**62), ("int64", -(2**63)), ("int64", 2**63 - 1), ("int64", 2**32),
    ("int8", -5), ("int8", 127), ("int16", -(2**15)), ("int32", 7), ("int32", -1), ("int32", 2**31 - 1),
    ("uint8", 156), ("uint8", 255), ("uint16", 2**16 - 100), ("uint32", 2**32 - 100), ("uint32", 2**32 - 1),
    ("uint64", 2**63 + 5), ("uint64", 2**64 - 100), ("uint64", 2**64 - 1), ("uint64", 2**63), ("uint64", 7),
]  # fmt: skip


@each_label_case
@pytest.mark.parametrize("dtype", LABEL_DTYPES)
def test_labels_of_any_dtype(case, dtype):
    logits, _ = draw(case, case.shape, "float32")
    labels = np.where(np.arange(33) % 8, 0, 1 + np.arange(33) // 8)  # labels read at the wrong width would be other classes
    want = results(case, logits, labels)
    forget(case)
    memory = np.zeros(8 * labels.size, dtype)
    memory[: labels.size] = labels
    for _ in range(3):
        same(results(case, logits, memory[: labels.size]), want)
        assert case.loss(logits, memory[: labels.size]) == pytest.approx(want[0], rel=1e-6)


@each_label_case
def test_bool_labels(case):
    logits = draw(case, (9, 2), "float32")[0]
    labels = np.arange(9) % 3 == 0
    for _ in range(2):
        same(results(case, logits, labels), results(case, logits, labels.astype(np.int64)))
    refused(case, ValueError, (logits[:, :1], labels), "targets[0]", "True", right=(logits, labels))


@each_label_case
@pytest.mark.parametrize(("dtype", "label"), BAD_LABELS)
def test_bad_labels(case, dtype, label):
    """The row and the label are named, and nothing has been written, not even where ``out`` is the logits themselves."""
    logits, good = draw(case, case.shape, "float32")
    bad = good.astype(dtype)
    bad[[17, 30]] = label
    kept = logits.copy()
    for out in (None, logits, np.full_like(logits, 5.0)):
        before = None if out is None else out.copy()
        given = {} if out is None else {"out": out}
        forms = FORMS[1:] if given else FORMS
        refused(case, ValueError, (logits, bad), "targets[17]", label, right=(kept, good.astype(dtype)), forms=forms, **given)
        assert out is None or np.array_equal(out, before)
        refused(case, ValueError, (logits, bad), "targets[17]", label, forms=("gradient",), reduction="none", **given)
        assert out is None or np.array_equal(out, before)


@each_label_case
@pytest.mark.parametrize(("dtype", "label"), BAD_LABELS)
def test_bad_labels_of_many_rows(case, dtype, label):
    """Which a kernel looks for; NumPy looks at a few."""
    logits, good = draw(case, (SERIAL // 7 + 1, 7), "float32")
    bad, out = good.astype(dtype), np.full_like(logits, 5.0)
    bad[-1] = label
    refused(case, ValueError, (logits, bad), f"targets[{SERIAL // 7}]", label, forms=("value_and_gradient",), out=out)
    assert (out == 5.0).all()


@each_label_case
def test_logits_without_classes(case):
    """No label names one of them, so all rows are ignored or the first is refused."""
    logits, labels = np.zeros((3, 0), np.float32), np.array([-100, 0, -100])
    refused(case, ValueError, (logits, labels), "targets[1] (row 1) is 0, but there are no classes")
    same(results(case, logits, np.full(3, -100)), (0.0, logits))


@each_label_case
def test_bad_labels_of_many_axes(case):
    logits, labels = draw(case, (4, 7, 5), "float32", axis=1)
    labels[2, 3] = 7
    refused(case, ValueError, (logits, labels), "targets[2, 3] (row 13)", "is 7", axis=1)
    one = np.zeros(7, np.float32)
    for _ in range(2):
        with pytest.raises(ValueError, match="-1"):
            case.loss(one, np.int64(-1))
        case.loss(one, np.array(3))


@each_label_case
def test_ignored_labels_that_their_dtype_cannot_hold(case):
    """A label is ignored where it equals ``ignore_index`` as a number, never by its bits."""
    logits, good = draw(case, case.shape, "float32")
    labels = good.astype(np.uint64)
    want = results(case, logits, labels, ignore_index=None)
    for ignored in (-(2**63), -1, 2**64, 2**70, -(2**70), 255):
        same(results(case, logits, labels, ignore_index=ignored), want)
        same(results(case, logits, good.astype(np.int8), ignore_index=ignored), want)
    for dtype, label, ignored in (
        ("uint64", 2**64 - 1, -1),
        ("uint64", 2**63, None),
        ("uint64", 2**63, -(2**63)),
        ("int64", -(2**63), None),
        ("int64", -(2**63), 2**63),
        ("int64", -100, None),
        ("int8", -1, 255),
        ("uint8", 255, -1),
    ):
        bad = good.astype(dtype)
        bad[3] = label
        refused(case, ValueError, (logits, bad), "targets[3]", label, forms=("value",), ignore_index=ignored)
    for dtype, label in (("uint64", 2**64 - 1), ("uint64", 2**63), ("int64", -(2**63)), ("int64", 2**63 - 1), ("uint8", 255)):
        ignoring = good.astype(dtype)
        ignoring[::4] = label
        same(results(case, logits, ignoring, ignore_index=label), results(case, logits, np.where(np.arange(33) % 4, good, -100)))
    for bad in (1.0, True, "no", NAN, [0]):
        refused(case, TypeError, (logits, good), "ignore_index", repr(bad), forms=("value",), ignore_index=bad)


@each_label_case
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "M8[s]", "object"])
def test_labels_are_integers(case, dtype):
    logits, labels = draw(case, case.shape, "float32")
    refused(case, TypeError, (logits, labels.astype(dtype)), "targets", right=(logits, labels))


@each_label_case
def test_ignored_rows_are_exactly_zero(case):
    logits, labels = draw(case, case.shape, "float32", ignored=True)
    ignored = labels == -100
    want = results(case, logits, labels)
    for poison in (NAN, INF, -INF, 3e38):
        logits[ignored] = poison
        forget(case)
        for _ in range(3):
            same(results(case, logits, labels), want)
            given = logits.copy()
            gradient = case.loss.gradient(given, labels, out=given)
            assert gradient is given
            assert not gradient[ignored].any()
            assert not np.signbit(gradient[ignored]).any()
        each, _ = case.loss.value_and_gradient(logits, labels, reduction="none")
        assert not each[ignored].any()


@each_label_case
def test_nothing_counted(case):
    logits = np.full((33, 7), NAN, np.float32)
    labels = np.full(33, -100)
    for normalizer in ("count", "weights", 5):
        for _ in range(2):
            value, gradient = results(case, logits, labels, normalizer=normalizer)
            assert (type(value), value) == (float, 0.0)
            assert not gradient.any()
    out = np.full_like(logits, 9.0)
    case.loss.gradient(logits, labels, out=out)
    assert not out.any()


# Options ----------------------------------------------------------------------------------------------------------------------


@each_averaged
def test_bad_reductions_and_normalizers(case):
    right = draw(case, case.shape, "float32")
    for reduction in ("average", "", None, 1, ["mean"], b"mean"):
        refused(case, ValueError, right, "reduction", repr(reduction), forms=("value",), reduction=reduction)
    for normalizer in ("mean", 0, 0.0, -1.0, NAN, INF, HUGE, -HUGE, np.float32(0.0)):
        refused(case, ValueError, right, "normalizer", repr(normalizer), forms=("value",), normalizer=normalizer)
    for normalizer in (None, True, [1.0], np.array(2.0), 1j):
        refused(case, TypeError, right, "normalizer", repr(normalizer), forms=("value",), normalizer=normalizer)


@each_averaged
def test_each_item_has_its_value(case):
    for shape, axis in (((5, 4), -1), ((5, 4), 0), ((3, 5, 4), 1)):
        inputs = draw(case, shape, "float32", axis=axis)
        options = {"axis": axis} if case.rowwise else {}
        values, *gradients = results(case, *inputs, reduction="none", **options)
        assert values.shape == (tuple(np.delete(shape, axis)) if case.rowwise else shape)
        assert values.dtype == np.float32
        assert all(array.shape == shape for array in gradients)
        assert float(values.sum(dtype=np.float64)) == pytest.approx(case.loss(*inputs, reduction="sum", **options), rel=2e-6)


@each_averaged
def test_sample_weights_that_are_none(case):
    right = draw(case, case.shape, "float32")
    out = np.full(case.shape, 5.0, np.float32)
    given = {} if len(case.loss.definition.differentiable) > 1 else {"out": out}
    for dtype, bad in itertools.product(["float64", "float32", "float16"], [-1.0, NAN, -1e-3, -INF]):
        weight = np.ones(33, dtype)
        weight[[4, 9]] = bad
        refused(case, ValueError, right, "sample_weight", "index 4", forms=("gradient",), sample_weight=weight, **given)
        refused(case, ValueError, right, "sample_weight", "index 4", forms=("value",), sample_weight=weight.tolist())
    assert (out == 5.0).all()
    refused(case, ValueError, right, "sample_weight", "-1", forms=("value",), sample_weight=-1.0)
    for shape in ((32,), (34,), (1,), (7,), (33, 1), (33, 7, 1), (0,)):
        weight = np.ones(shape)
        refused(case, ValueError, right, "sample_weight", shape, "(33,)", forms=("value",), sample_weight=weight)
    for weight in (np.ones(33, complex), np.ones(33, object), ["a"] * 33, "weights", {0: 1.0}, object(), np.ma.ones(33)):
        refused(case, TypeError, right, "sample_weight", forms=("value",), sample_weight=weight)


@each_averaged
def test_sample_weights_may_be_anything_that_holds_numbers(case):
    right, weight = draw(case, case.shape, "float32"), np.arange(33) % 4
    want = results(case, *right, sample_weight=weight.astype(np.float32))
    for given in (
        weight,
        weight.astype(np.uint8),
        weight.tolist(),
        weight.astype(np.float16),
        weight.astype(">f8"),
        weight[::-1][::-1],
    ):
        same(results(case, *right, sample_weight=given), want)
    everything = results(case, *right, sample_weight=2.0)
    agree(everything[0], 2.0 * case.loss(*right), "float32")


@pytest.mark.parametrize("case", [case for case in CASES if "class_weight" in inspect.signature(case.loss).parameters], ids=repr)
def test_bad_class_weights(case):
    right = draw(case, case.shape, "float32")
    classes = 2 if is_binary(case) else 7
    for weight in ("unbalanced", np.ones(classes + 1), np.ones((classes, 1)), 1.0, {classes: 1.0}, {-1: 1.0}, {0.0: 1.0}, {"a": 1.0},
                   {True: 1.0}, {0: -1.0}, {0: NAN}, {0: [1.0, 2.0]}, np.full(classes, NAN), -np.ones(classes)):  # fmt: skip
        refused(case, ValueError, right, "class_weight", forms=("value", "gradient"), class_weight=weight)
    for weight in (np.ones(classes, complex), ["a"] * classes, object(), {0: "a"}, {0: None}):
        refused(case, TypeError, right, "class_weight", forms=("value",), class_weight=weight)


@pytest.mark.parametrize("case", [case for case in CASES if is_binary(case)], ids=repr)
def test_balancing_needs_targets_that_are_one_or_the_other(case):
    predictions, targets = draw(case, case.shape, "float32")
    options = [name for name in ("class_weight", "pos_weight") if name in inspect.signature(case.loss).parameters]
    assert options
    targets[3] = 0.5
    for option in options:
        refused(case, ValueError, (predictions, targets), option, "balanced", forms=("value",), **{option: "balanced"})
        refused(case, ValueError, (predictions, targets), option, "even", forms=("value",), **{option: "even"})


@each_class_case
def test_bad_smoothing(case):
    right = draw(case, case.shape, "float32")
    for bad in (-0.1, 1.1, NAN, INF, HUGE):
        refused(case, ValueError, right, "label_smoothing", repr(bad), forms=("value",), label_smoothing=bad)
    for bad in (None, True, "a bit", [0.1], np.array(0.1)):
        refused(case, TypeError, right, "label_smoothing", repr(bad), forms=("value",), label_smoothing=bad)


PARAMETERS = [(case, one) for case in CASES if not case.labels for one in case.loss.definition.parameters]


@pytest.mark.parametrize(("case", "parameter"), PARAMETERS, ids=lambda one: getattr(one, "name", repr(one)))
def test_bad_parameters(case, parameter):
    right = draw(case, case.shape, "float32")
    given = {"forms": ("value",)}
    if isinstance(parameter.default, bool):
        for bad in (None, 1, 0.0, "yes", [True], np.array(True)):
            refused(case, TypeError, right, parameter.name, repr(bad), **given, **{parameter.name: bad})
        return
    outside = [NAN, HUGE, -HUGE, *(number for number in (-1.0, -INF, INF, 0.0, 2.0) if number not in parameter.range)]
    for bad in outside:
        refused(case, ValueError, right, parameter.name, repr(bad), **given, **{parameter.name: bad})
    others = [True, [1.0], np.array(1.0), 1j, object(), *([] if parameter.optional else [None])]
    if parameter.name != "pos_weight":
        others.append("1")
    for bad in others:
        refused(case, TypeError, right, parameter.name, repr(bad), **given, **{parameter.name: bad})
    for bad in outside[:1]:
        with pytest.raises(ValueError, match=parameter.name):
            case.loss.with_parameters(**{parameter.name: bad})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("case", [case for case, one in PARAMETERS if one.name == "epsilon"], ids=repr)
def test_clipping(case, dtype):
    """A saturated mistake has a finite value and a finite gradient that does not vanish; epsilon is never below float32's steps."""
    right = np.eye(2, dtype=dtype) if case.rowwise else np.array([0.0, 1.0], dtype)
    wrong = 1 - right
    plain = {"alpha": None} if "alpha" in inspect.signature(case.loss).parameters else {}
    for epsilon in (1e-7, 1e-3, 1e-30):
        value, gradient = case.loss.value_and_gradient(wrong, right, epsilon=epsilon, reduction="none", **plain)
        floor = epsilon if dtype == "float64" else max(epsilon, 2.0**-24)
        agree(value, np.full(2, -np.log(floor)), looser=3.0)
        if dtype != "float16":  # 1 / epsilon is beyond float16, and comes out as inf there
            assert np.isfinite(gradient).all()
        assert (gradient[right == 1] != 0).all() if case.rowwise else (gradient != 0).all()


# Nothing at all ---------------------------------------------------------------------------------------------------------------


@each_case
def test_empty_arrays(case):
    shapes = [(0, 3), (2, 0, 3)] + ([] if case.labels else [(0,), (3, 0), (0, 0)])
    for shape, dtype in itertools.product(shapes, ["float32", "float16"]):
        inputs = draw(case, shape, dtype)
        for _ in range(2):
            value, *gradients = results(case, *inputs)
            assert (type(value), value) == (float, 0.0)
            assert all((array.shape, array.dtype) == (shape, DTYPES[dtype]) for array in gradients)
            assert case.loss(*inputs) == 0.0
        outs = [np.empty(shape, DTYPES[dtype]) for _ in gradients]
        given = case.loss.gradient(*inputs, out=out_for(case, outs))
        assert all(mine is out for mine, out in zip(gradient_list(given), outs, strict=True))
    if not case.loss.definition.is_penalty:
        inputs = draw(case, (0, 3), "float32")
        for options in ({"normalizer": "weights"}, {"sample_weight": np.empty(0)}, {"reduction": "sum"}, {"normalizer": 4.0}):
            assert case.loss(*inputs, **options) == 0.0
        assert case.loss(*inputs, reduction="none").shape == ((0,) if case.rowwise else (0, 3))


@each_case
def test_empty_lists(case):
    rows = [[]] if case.rowwise and not case.labels else []
    inputs = [[] if one.per_row or (case.labels and one.space.target) else rows for one in inputs_of(case)]
    if case.labels:
        inputs[0] = np.empty((0, 3))
    if any(one.per_row for one in inputs_of(case)):
        inputs = [[1.0] if one.per_row else rows for one in inputs_of(case)]
    value, *gradients = results(case, *inputs)
    assert value == 0.0
    assert all(array.size == 0 and array.dtype == np.float64 for array in gradients)


# out --------------------------------------------------------------------------------------------------------------------------


def fresh_inputs(case, dtype="float32"):
    return [np.array(array) for array in draw(case, case.shape, dtype)]


def outs_like(case, inputs):
    return [np.full_like(array, 5.0) for array, one in zip(inputs, inputs_of(case), strict=True) if one.differentiable]


@each_case
def test_out_is_filled_and_returned(case):
    inputs = fresh_inputs(case)
    want = results(case, *inputs)
    for _ in range(3):
        outs = outs_like(case, inputs)
        value, gradient = case.loss.value_and_gradient(*inputs, out=out_for(case, outs))
        assert value == want[0]
        assert all(mine is out for mine, out in zip(gradient_list(gradient), outs, strict=True))
        same(outs, want[1:])
        same(results(case, *inputs, out=None), want)


@each_case
def test_out_that_does_not_fit(case):
    inputs = fresh_inputs(case)
    right = outs_like(case, inputs)
    frozen = right[0].copy()
    frozen.flags.writeable = False
    shape, narrow = case.shape, (*case.shape[:-1], case.shape[-1] - 1)
    for error, bad, words in (
        (ValueError, np.empty((*shape, 1), np.float32), ((*shape, 1), shape)),
        (ValueError, np.empty(narrow, np.float32), (narrow, shape)),
        (ValueError, np.empty((), np.float32), ("()", shape)),
        (ValueError, np.empty(shape, np.float64), ("float64", "float32")),
        (ValueError, np.empty(shape, np.int32), ("int32", "float32")),
        (ValueError, np.empty(shape, object), ("object", "float32")),
        (ValueError, frozen, ("read-only",)),
        (ValueError, np.broadcast_to(np.float32(0), shape), ("read-only",)),
        (ValueError, np.lib.stride_tricks.as_strided(np.empty(99, np.float32), shape, (0,) * len(shape)), ("one place",)),
        (ValueError, np.lib.stride_tricks.as_strided(np.empty(99, np.float32), shape, (2,) * len(shape)), ("one place",)),
        (TypeError, np.ma.zeros(shape, np.float32), ("mask",)),
        (TypeError, right[0].tolist(), ("list",)),
        (TypeError, np.float32(1.0), ("float32",)),
        (TypeError, "here", ("str",)),
    ):
        given = out_for(case, [bad, *right[1:]])
        refused(case, error, inputs, "out", *words, forms=("gradient", "value_and_gradient"), right=inputs, out=given)
    assert all((array == 5.0).all() for array in right)
    if len(right) == 1 and not case.loss.definition.is_penalty:
        refused(
            case, TypeError, inputs, "out", forms=("gradient",), right=inputs, out={case.loss.definition.inputs[0].name: right[0]}
        )
    refused(case, TypeError, inputs, "out", forms=("value",), right=inputs, out=right[0])


@each_triple
def test_out_of_several_arrays(case):
    inputs = fresh_inputs(case)
    names = [one.name for one in case.loss.definition.differentiable]
    right = dict(zip(names, outs_like(case, inputs), strict=True))
    for error, bad in (
        (TypeError, right[names[0]]),
        (TypeError, tuple(right.values())),
        (ValueError, {}),
        (ValueError, {name: right[name] for name in names[1:]}),
        (ValueError, {**right, "more": right[names[0]]}),
        (ValueError, dict.fromkeys(names, right[names[0]])),  # one array for all
        (ValueError, {**right, names[0]: inputs[1]}),  # another input
        (ValueError, dict(zip(names, inputs[1:] + inputs[:1], strict=False))),
    ):
        refused(case, error, inputs, "out", forms=("gradient",), right=inputs, out=bad)
    assert all((array == 5.0).all() for array in right.values())


@each_case
def test_out_may_be_the_input_itself(case):
    """The same array, or another view of the same memory; also where the kernel cannot write there directly."""
    want = results(case, *fresh_inputs(case))
    count = len(case.loss.definition.differentiable)
    for _ in range(2):
        for layout in (
            np.asarray,
            lambda array: array[...],
            lambda array: array.view(),
            lambda array: array.reshape(array.shape),
        ):
            inputs = fresh_inputs(case)
            same(results(case, *inputs, out=out_for(case, [layout(array) for array in inputs[:count]])), want)
            same(inputs[:count], want[1:])
    inputs = fresh_inputs(case)
    wide = [guarded(array, lambda memory, shape, dtype: memory[: 8 * int(np.prod(shape))].view(dtype).reshape(*shape, 2)[..., 0])
            for array in inputs[:count]]  # fmt: skip
    arrays = [one.array for one in wide]
    for _ in range(2):
        for array, numbers in zip(arrays, inputs, strict=False):
            array[...] = numbers
        got = results(case, *arrays, *inputs[count:], out=out_for(case, [array[...] for array in arrays]))
        same([got[0], *map(np.ascontiguousarray, got[1:])], want)
        assert all(one.intact() for one in wide)


@each_case
def test_out_may_overlap_nothing_else(case):
    inputs = fresh_inputs(case)
    size, shape, count = inputs[0].size, inputs[0].shape, len(case.loss.definition.differentiable)
    more = [np.full_like(inputs[0], 5.0) for _ in range(count - 1)]
    first = fresh_inputs(case)[0]
    memory = np.zeros(2 * size + 8, np.float32)
    for shift in (1, size - 1, size // 2):  # the input, moved a little
        args = [memory[:size].reshape(shape), *inputs[1:]]
        args[0][...] = first
        out = memory[shift : shift + size].reshape(shape)
        refused(
            case,
            ValueError,
            args,
            "overlaps",
            forms=("gradient", "value_and_gradient"),
            right=inputs,
            out=out_for(case, [out, *more]),
        )
        np.testing.assert_array_equal(args[0], first)
    for place in range(1, len(inputs)):  # the other inputs: all of them, their beginning, their end
        numbers = inputs[place]
        for start in (0, -1, 1):
            raw = np.zeros(4 * max(size * 8, numbers.nbytes) + 64, np.uint8)
            taken = raw[: numbers.nbytes].view(numbers.dtype).reshape(numbers.shape)
            taken[...] = numbers
            begin = {0: 0, 1: numbers.nbytes - 4, -1: max(0, numbers.nbytes // 2) // 4 * 4}[start]
            out = raw[begin : begin + 4 * size].view(np.float32).reshape(shape)
            args = [taken if one == place else array for one, array in enumerate(inputs)]
            refused(case, ValueError, args, "overlaps", forms=("gradient",), right=inputs, out=out_for(case, [out, *more]))
            np.testing.assert_array_equal(taken, numbers)


@each_averaged
def test_out_may_not_be_the_weights(case):
    inputs = fresh_inputs(case)
    memory = np.ones(inputs[0].size, np.float32)
    outs = outs_like(case, inputs)
    outs[0] = memory.reshape(inputs[0].shape)
    for weight in (memory[:33], memory[:1].reshape(())):
        refused(case, ValueError, inputs, "overlaps", forms=("gradient",), out=out_for(case, outs), sample_weight=weight)
    assert (memory == 1.0).all()


@each_averaged
def test_the_same_array_twice(case):
    """Predictions and targets may be one array; writing there would destroy the targets."""
    definition = case.loss.definition
    if case.labels or (case.rowwise and any(one.per_row for one in definition.inputs)):
        return
    one = np.abs(draw(case, case.shape, "float32")[0]) % 1.0
    args = [one] * len(definition.inputs)
    want = results(case, *(array.copy() for array in args))
    for _ in range(2):
        same(results(case, *args), want)
    out = out_for(case, [one] * len(definition.differentiable))
    refused(case, ValueError, args, "overlaps", forms=("gradient",), right=[array.copy() for array in args], out=out)


@pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.hessian], ids=repr)
def test_out_with_second_derivatives(case):
    inputs = fresh_inputs(case)
    form = case.loss.value_gradient_hessian
    want = form(*inputs)
    slopes, bends = (np.empty_like(inputs[0]) for _ in range(2))
    for out in ((slopes, bends), (slopes, None), (None, bends)):
        got = form(*inputs, out=out)
        same(got, want)
        assert all(given is None or given is mine for given, mine in zip(out, got[1:], strict=True))
    given = inputs[0].copy()
    same(form(given, *inputs[1:], out=(given, bends)), want)
    given[...] = inputs[0]
    same(form(given, *inputs[1:], out=(slopes, given)), want)
    for error, bad in (
        (TypeError, slopes),
        (TypeError, [slopes, bends]),
        (TypeError, (slopes,)),
        (TypeError, (slopes, "b")),
        (ValueError, (slopes, slopes)),
        (ValueError, (slopes, bends[..., :-1])),
        (ValueError, (inputs[0], inputs[0])),
    ):
        with pytest.raises(error, match="out"):
            form(*inputs, out=bad)


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


# The short way ----------------------------------------------------------------------------------------------------------------


@each_case
def test_later_calls_give_what_the_first_gave(case):
    """To the bit, and whatever the arrays of the calls between were."""
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
