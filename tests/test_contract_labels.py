"""The contract: integer labels, ignored rows, and invalid labels."""

import numpy as np
import pytest

from cases import draw
from contract import FORMS, INF, NAN, each_label_case, forget, refused, results, same
from jitloss.running import SERIAL

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
    """Many labels are checked by a kernel, few by NumPy."""
    logits, good = draw(case, (SERIAL // 7 + 1, 7), "float32")
    bad, out = good.astype(dtype), np.full_like(logits, 5.0)
    bad[-1] = label
    refused(case, ValueError, (logits, bad), f"targets[{SERIAL // 7}]", label, forms=("value_and_gradient",), out=out)
    assert (out == 5.0).all()


@each_label_case
def test_logits_without_classes(case):
    """No label is valid, so all rows are ignored or the first one is rejected."""
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
