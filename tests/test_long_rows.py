"""Rows too long for the stack, whose only term for the slope is kept in the output; and rows processed side by side."""

import numpy as np
import pytest

import jitloss
from cases import ROWS, agree, draw
from jitloss import cross_entropy_with_logits
from jitloss.compilers import cpu
from jitloss.compilers.cpu.beside import ROWS_AT_ONCE
from jitloss.compilers.cpu.long_plan import BLOCK
from jitloss.compilers.usage import only_term
from jitloss.definition import Positive, Real
from jitloss.math import exp
from layouts import LAYOUTS, guarded

# Which term a slope takes -----------------------------------------------------------------------------------------------------


def total(one, other):
    return one + other


def loss_with(slope, terms=None, cap=None):
    """A loss with that slope, whose value of a row is a sum."""

    def two_terms(prediction: Real, target):
        return exp(prediction), target * prediction

    def value(sums):
        first, second = sums
        return first + second, 0.5

    parts = {
        "terms": terms or two_terms,
        "value": value,
        "slope": slope,
        "cap": cap,
        "flag": False,
        "__annotations__": {"cap": Positive | None},
    }
    return jitloss.rowwise(type("made", (), parts)).definition


def unpacked(target, terms, rate):
    height, _ = terms
    return height * rate - target


def by_number(terms, rate):
    return rate * terms[1]


def both(terms, rate):
    first, second = terms
    return rate * (first + second)


def handed_on(terms, rate):
    first, second = terms
    return rate * total(first, second)


def with_the_input(prediction, terms, rate):
    height, _ = terms
    return rate * height * prediction


def with_an_option(prediction, terms, rate, cap):
    height, _ = terms
    if cap is None:
        return rate * height
    return rate * height * prediction


def one_or_the_other(terms, rate, flag):
    if flag:
        height = terms[0]
    else:
        height = terms[1]
    return rate * height


def twice_named(terms, rate):
    same = terms
    _, second = same
    other = second
    return rate * other


@pytest.mark.parametrize(
    ("slope", "statics", "term"),
    [
        (unpacked, "0", 0),
        (by_number, "0", 1),
        (twice_named, "0", 1),
        (both, "0", None),
        (handed_on, "0", None),
        (one_or_the_other, "0F", None),
        (one_or_the_other, "0T", None),
        (with_the_input, "0", None),
        (with_an_option, "0", 0),
        (with_an_option, "n", None),
    ],
)
def test_the_only_term(slope, statics, term):
    assert only_term(loss_with(slope), statics) == term


def test_the_only_term_of_the_losses():
    def takes(loss, statics=""):
        return only_term(loss.definition, statics or "0" * len(loss.definition.parameters))

    assert [takes(cross_entropy_with_logits, statics) for statics in ("00", "n0", "0n", "nn")] == [0, 0, None, None]
    assert takes(jitloss.kl_divergence) is None
    assert takes(jitloss.triplet_loss) is None
    assert takes(cross_entropy_with_logits + 0.5 * cross_entropy_with_logits.with_parameters(z_loss=0.1)) is None
    assert takes(jitloss.mse_loss) is None


# What comes out ---------------------------------------------------------------------------------------------------------------

FIRST = cpu.LONGEST_KEPT_ROW + 1
LENGTHS = (FIRST, FIRST - 1 + BLOCK, FIRST + BLOCK + 6)

OPTIONS = {
    "labels": {},
    "dense": {},
    "smoothed": {"label_smoothing": 0.1},
    "weighted": {"class_weight": np.linspace(0.5, 2.0, max(LENGTHS))},
    "z loss": {"z_loss": 0.01},
    "capped": {"softcap": 5.0},
    "ignored": {"ignore_index": 3, "sample_weight": np.array([1.0, 0.0, 2.0])},
}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, "float32") for kind in OPTIONS), ("labels", "float64"), ("dense", "float64"), ("z loss", "float64")],
)
def test_rows_in_every_place(kind, dtype):
    """In new arrays, in given ones and in place, against the same numbers along an inner axis, which use another loop."""
    random, options = np.random.default_rng(0), dict(OPTIONS[kind])
    for columns in LENGTHS if kind == "labels" else LENGTHS[-1:]:
        logits = (3 * random.standard_normal((3, columns))).astype(dtype)
        targets = random.dirichlet(np.ones(columns), 3).astype(dtype) if kind == "dense" else np.array([3, columns - 1, 0])
        if kind == "weighted":
            options["class_weight"] = OPTIONS[kind]["class_weight"][:columns]
        turned = [np.ascontiguousarray(one.T) if one.ndim == 2 else one for one in (logits, targets)]
        value, gradient = cross_entropy_with_logits.value_and_gradient(*turned, axis=0, **options)
        for layout in ("contiguous", "unaligned"):
            place = guarded(np.zeros_like(logits), LAYOUTS[layout])
            for out in (None, place.array, logits.copy()):
                given = out if out is not None and out is not place.array else logits
                got = cross_entropy_with_logits.value_and_gradient(given, targets, out=out, **options)
                agree(got[0], value, dtype, size=columns**0.5, looser=4.0, what="value")
                agree(got[1], gradient.T, size=1.0 / 3, looser=4.0, what="gradient")
            assert place.intact()


def test_rows_past_the_caches(monkeypatch):
    """With streaming stores the term is recomputed, and the numbers are the same up to rounding."""
    logits, labels = np.random.default_rng(0).standard_normal((3, LENGTHS[-1])).astype(np.float32), np.array([0, 3, 7])
    within = cross_entropy_with_logits.value_and_gradient(logits, labels)
    monkeypatch.setattr("jitloss.stores.streams", lambda moved: True)
    monkeypatch.setattr("jitloss.stores.faster", lambda kernel, moved, new, total_of: total_of(True))
    past = cross_entropy_with_logits.value_and_gradient(logits, labels, reduction="sum", normalizer=1)
    assert past[0] / 3 == pytest.approx(within[0], rel=1e-6)
    np.testing.assert_allclose(past[1] / 3, within[1], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("way", ["rows", "inner axis", "pieces"])
@pytest.mark.parametrize("case", ROWS, ids=repr)
def test_sums_of_long_rows_keep_their_digits(case, way):
    """They are added in float64 at the latest after some thousand elements."""
    columns = 500_003
    inputs = [np.resize(one, (1, columns)) if one.ndim == 2 else one for one in draw(case, (1, 8), "float32")]
    want = case.loss(*[one.astype(np.float64) if one.dtype == np.float32 else one for one in inputs])
    if way == "pieces":
        da = pytest.importorskip("dask.array")
        arrays = [da.from_array(one, chunks=(1, columns // 2) if one.ndim == 2 else 1) for one in inputs]
        got = case.loss(*arrays).compute(scheduler="sync")
    elif way == "rows":
        got = case.loss(*inputs)
    else:
        got = case.loss(*[one.repeat(2, 0).T.copy() if one.ndim == 2 else one.repeat(2) for one in inputs], axis=0)
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)


# Rows side by side --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [113, 130, 300])
@pytest.mark.parametrize("over", [False, True])
def test_rows_side_by_side_are_those_that_come_alone(columns, over):
    """Whatever the number of rows, and with rows of weight 0 among them, which may hold anything."""
    random = np.random.default_rng(columns)
    for count in (1, 2, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 3):
        logits = random.normal(size=(count, columns)).astype(np.float32)
        labels, weights = random.integers(columns, size=count), random.random(count).astype(np.float32)
        labels[1::3], weights[2::4] = -100, 0.0
        counts = (labels != -100) & (weights > 0)
        logits[~counts] = np.nan
        options = {"sample_weight": weights, "ignore_index": -100, "reduction": "none"}
        given = logits.copy()
        out = given if over else np.empty_like(given)
        values, slopes = cross_entropy_with_logits.value_and_gradient(given, labels, **options, out=out)
        assert not values[~counts].any()
        assert not slopes[~counts].any()
        for row in np.flatnonzero(counts):
            mine = {**options, "sample_weight": weights[row : row + 1]}
            value, slope = cross_entropy_with_logits.value_and_gradient(logits[row : row + 1], labels[row : row + 1], **mine)
            assert (value[0], slope.tobytes()) == (values[row], slopes[row : row + 1].tobytes())
