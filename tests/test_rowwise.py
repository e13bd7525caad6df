"""What the parts of a definition may take, and extreme numbers, in every layout."""

import numpy as np
import pytest

import jitloss
from jitloss.compilers import cpu
from jitloss.math import exp, log, sqrt
from references import REFERENCES, class_targets, real


@jitloss.rowwise
class keeps_terms:
    def terms(prediction, target):
        return exp(0.125 * prediction), target * prediction

    def value(sums):
        return sums[0] - sums[1], 0.125

    def slope(target, terms, rate):
        return rate * terms[0] - target


@jitloss.rowwise
class keeps_one_term:
    def terms(prediction: jitloss.definition.Real, target):
        return exp(0.25 * prediction)

    def value(sums):
        return sums

    def slope(terms):
        return 0.25 * terms


@jitloss.rowwise
class computes_one_again:
    def terms(prediction: jitloss.definition.Real, target):
        return exp(0.25 * prediction)

    def value(sums):
        return sums

    def slope(prediction):
        return 0.25 * exp(0.25 * prediction)


def two_terms(numbers, targets):
    """The reference for ``keeps_terms``: numbers whose sum is its value, and its gradient."""
    return np.exp(numbers / 8) - targets * numbers, np.exp(numbers / 8) / 8 - targets


def one_term(numbers, targets):
    return np.exp(numbers / 4), np.exp(numbers / 4) / 4


def softmax(numbers, targets):
    row = REFERENCES["cross_entropy_with_logits"](numbers, targets)
    return row.value, row.gradient


TAKING = {
    "alone": (keeps_terms, {two_terms: 1.0}),
    "number": (keeps_one_term, {one_term: 1.0}),
    "sum": (keeps_terms + 0.5 * keeps_one_term, {two_terms: 1.0, one_term: 0.5}),
    "mixed": (0.5 * computes_one_again + keeps_terms, {one_term: 0.5, two_terms: 1.0}),
    "softmax": (jitloss.cross_entropy_with_logits + keeps_terms, {softmax: 1.0, two_terms: 1.0}),
}
"""Losses whose slopes take terms, and what they are sums of, with its weight."""


LAYOUTS = {
    "blocks": (33, 7),
    "patched": (33, 40),
    "rows": (3, 300),
    "long": (2, cpu.LONGEST_KEPT_ROW + 3),
    "lanes": (2, 5, 20),
    "long lanes": (2, cpu.LONGEST_KEPT_LANES + 1, 20),
}


@jitloss.rowwise
class exponential_loss:
    def terms(prediction, target):
        return exp(prediction - 2.0 * target * prediction)

    def value(sums):
        return sums

    def slope(prediction, target):
        return (1.0 - 2.0 * target) * exp(prediction - 2.0 * target * prediction)


@jitloss.rowwise
class exponential_loss_with_peak:
    def peak(prediction):
        return prediction

    def terms(prediction, target, peak):
        return exp(prediction - peak), exp(prediction - 2.0 * target * prediction)

    def value(sums):
        total, misses = sums
        return log(total) + misses, 1.0 / total

    def slope(target, terms, share):
        height, miss = terms
        return height * share + (1.0 - 2.0 * target) * miss


DWARFED = [exponential_loss, exponential_loss_with_peak]


TAKEN = [
    *(("alone", layout, labels) for layout in LAYOUTS for labels in (False, True)),
    *((name, layout, True) for name in TAKING if name != "alone" for layout in ("blocks", "patched", "rows")),
    *(("mixed", layout, True) for layout in ("long", "lanes", "long lanes")),
]


@pytest.mark.parametrize(("name", "layout", "labels"), TAKEN)
def test_a_slope_may_take_its_terms(name, layout, labels):
    """In every layout, alone and in sums, results are those of a slope that recomputes them."""
    random, axis, shape = np.random.default_rng(0), 1, LAYOUTS[layout]
    predictions = random.standard_normal(shape).astype(np.float32)
    items = (*shape[:1], *shape[2:])
    targets = random.integers(0, shape[1], items) if labels else random.random(shape).astype(np.float32)
    numbers = np.moveaxis(real(predictions), axis, -1)
    loss, parts = TAKING[name]
    for smoothing, weights in ((0.0, None), (0.1, np.linspace(0.5, 2.0, shape[1]))):
        options = {} if weights is None else {"label_smoothing": smoothing, "class_weight": weights}
        value, gradient = loss.value_and_gradient(predictions, targets, axis=axis, reduction="sum", **options)
        mixed, _, _ = class_targets((predictions, targets), numbers.shape, axis, None, smoothing, weights)
        each = [(weight, *part(numbers, mixed)) for part, weight in parts.items()]
        assert value == pytest.approx(float(sum(weight * one.sum() for weight, one, _ in each)), rel=1e-5)
        wanted = np.moveaxis(sum(weight * one for weight, _, one in each), -1, axis)
        np.testing.assert_allclose(gradient, wanted.astype(np.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_peak_may_take_targets(smoothing):
    """Then labels are not corrected for afterwards: each element's peak is computed with its own target."""

    @jitloss.rowwise
    class highest:
        def peak(logit, target):
            return logit + 3.0 * target

        def terms(logit, target, peak):
            return target * (peak - logit)

        def value(sums):
            return sums

        def slope(target):
            return -target

    random = np.random.default_rng(0)
    for columns in (5, 40, 300):
        logits, labels = random.standard_normal((33, columns)), random.integers(0, columns, 33)
        targets = (1.0 - smoothing) * np.eye(columns)[labels] + smoothing / columns
        want = (targets * ((logits + 3.0 * targets).max(axis=1, keepdims=True) - logits)).sum(axis=1)
        values, gradient = highest.value_and_gradient(logits, labels, reduction="none", label_smoothing=smoothing)
        np.testing.assert_allclose(values, want, rtol=1e-12)
        np.testing.assert_allclose(gradient, -targets, rtol=1e-12)


@pytest.mark.parametrize("loss", DWARFED, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weight": "balanced"}], ids=str)
@pytest.mark.parametrize("columns", [3, 12, 40, 300, 5000])
def test_an_element_that_a_label_makes_small(loss, options, columns):
    """Treated as unlabelled, its term would be large enough to swamp the rest of the row."""
    labels = np.arange(columns, columns + 5) * 7 % columns
    logits = np.full((5, columns), -5.0, np.float32)
    logits[np.arange(5), labels] = 40.0
    dense = np.eye(columns)[labels]
    value, gradient = loss.value_and_gradient(logits.astype(np.float64), dense, **options)
    for axis, mine, its in ((1, logits, labels), (0, np.ascontiguousarray(logits.T), labels)):
        got = loss.value_and_gradient(mine, its, axis=axis, **options)
        assert got[0] == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(np.moveaxis(got[1], axis, 1), gradient, rtol=1e-5, atol=1e-5 * abs(gradient).max())


def test_terms_that_are_put_right_afterwards():
    """In shipped losses terms can be corrected afterwards; marking the labelled element would take longer."""
    shipped = [loss.definition.marks_terms for loss in jitloss.LOSSES.values()]
    assert not any(shipped)
    assert all(loss.definition.marks_terms for loss in DWARFED)
    assert (jitloss.cross_entropy_with_logits + DWARFED[0]).definition.marks_terms


def test_reciprocal_roots_are_no_estimates():
    """LLVM's estimates, refined by a Newton step, are NaN at 0 and inf, and infinite for subnormal numbers."""

    @jitloss.pointwise
    def root(prediction, target):
        return target / sqrt(prediction), 1.0 / sqrt(prediction)

    numbers = np.array([np.inf, 0.0, 1e-42, 1e-38, 4.0, 3e38] * 6, np.float32)
    with np.errstate(divide="ignore"):
        want = 1.0 / np.sqrt(numbers.astype(np.float64))
    for one in root.value_and_gradient(numbers, np.ones_like(numbers), reduction="none"):
        np.testing.assert_allclose(one, want, rtol=3e-7)


@pytest.mark.parametrize("columns", [7, 40, 64, 300])
def test_distances_whose_squares_overflow(columns):
    far, near = np.zeros((33, columns), np.float32), np.zeros((33, columns), np.float32)
    far[:, 1] = 1e30
    for label, value, slope in ((0.0, 0.0, 0.0), (1.0, np.inf, 2e30)):
        values, gradients = jitloss.contrastive_loss.value_and_gradient(far, near, np.full(33, label), reduction="none")
        np.testing.assert_array_equal(values, np.float32(value))
        np.testing.assert_array_equal(
            gradients["embedding1"][:, :3], np.float32([0.0, slope, 0.0]) * np.ones((33, 1), np.float32)
        )
