"""Numbers at the limits of a precision: factors, weights and parameters that it cannot represent, values lost to rounding."""

import inspect
import warnings

import ml_dtypes
import numpy as np
import pytest

import jitloss
from jitloss import binary_cross_entropy_with_logits as bce
from jitloss import cross_entropy_with_logits as ce
from jitloss import options
from jitloss.running import CHUNK

HALF_TYPES = [np.float16, ml_dtypes.bfloat16]
CALLS = range(3)
"""The first call leaves a plan for the fast path."""


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("size", [5, 50_000])
@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_values_of_half_types_are_rounded_once(dtype, size):
    """A value times its factor may fit where the value does not: 300**2 overflows float16, 1e-4**2 underflows."""
    for number, factor in ((300.0, 0.001), (1e-4, 1024.0), (300.0, -0.001)):
        loss = factor * jitloss.mse_loss
        p, t = np.full(size, number, dtype), np.zeros(size, dtype)
        want = np.full(size, factor * float(p[0]) ** 2).astype(dtype)
        for _ in CALLS:
            values, gradient = loss.value_and_gradient(p, t, reduction="none")
            assert np.array_equal(values, want)
            assert np.array_equal(values, loss(p, t, reduction="none"))
            assert np.array_equal(gradient, np.full(size, 2 * factor * float(p[0])).astype(dtype))
            twice = loss(p, t, reduction="none", sample_weight=np.full(size, 0.5))
            assert np.array_equal(twice, np.full(size, 0.5 * factor * float(p[0]) ** 2).astype(dtype))
        rows = (factor * jitloss.kl_divergence)(np.full((size, 2), 0.5, dtype), np.ones((size, 2), dtype), reduction="none")
        np.testing.assert_allclose(rows.astype(float), 2 * factor * np.log(2), rtol=1e-2)


def test_values_that_are_watched_and_fit_are_no_alarm():
    with jitloss.errstate(invalid="raise"):
        assert (0.001 * jitloss.mse_loss)(np.float16([300]), np.float16([0]), reduction="none") == np.float16(90)


@pytest.mark.parametrize("loss", [jitloss.focal_loss, jitloss.focal_loss_with_logits], ids=lambda one: one.__name__)
def test_class_weights_follow_the_targets_of_focal_losses(loss):
    """Any number but 1 counts as 0."""
    given = np.full(5, 0.3), np.array([-1.0, 2.0, 0.5, 0.0, 1.0])
    plain = loss(*given, alpha=None, reduction="none")
    weighted = loss(*given, alpha=None, reduction="none", class_weight=[1.0, 3.0])
    np.testing.assert_allclose(weighted, plain * [1.0, 1.0, 1.0, 1.0, 3.0])


def test_class_weights_of_targets_that_are_0_or_1_are_exact():
    log2 = np.log(2)
    assert bce([0.0], [1], class_weight=[1e17, 1.0]) == pytest.approx(log2)
    assert bce([0.0], [1], class_weight=[1e6, 1e-6]) == pytest.approx(1e-6 * log2, rel=1e-12)
    np.testing.assert_allclose(bce([0.0, 0.0], [0.25, 0.0], class_weight=[2, 1], reduction="none"), [1.75 * log2, 2 * log2])


def test_weights_are_finite():
    """0 times an infinite weight is not 0, but what is ignored must contribute 0."""
    z = np.zeros((2, 2))
    for call, where in (
        (lambda: ce(z, [0, -100], sample_weight=[1, np.inf]), "sample_weight .* inf at index 1"),
        (lambda: ce(z, [0, 1], class_weight=[1, np.inf]), "class_weight .* inf at index 1"),
        (lambda: bce([0.0, 0.0], [0, 1], class_weight={0: np.inf}), "class_weight .* inf at index 0"),
        (
            lambda: jitloss.mse_loss([[1.0], [2.0]], [[0.0], [0.0]], sample_weight=[np.inf, 1.0]),
            "sample_weight .* inf at index 0",
        ),
    ):
        for _ in range(2):
            with pytest.raises(ValueError, match=f"must not be negative, infinite or NaN, got {where.partition(' .* ')[2]}"):
                call()


@pytest.mark.parametrize("length", [1, 3, 8, 100])
@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 1.2e38), (np.float64, 5e307)])
def test_an_exponential_is_infinite_whatever_is_subtracted(length, dtype, large):
    p, t = np.full(length, large, dtype), np.full(length, 3.0, dtype)
    assert jitloss.poisson_nll_loss(p, t) == np.inf
    assert jitloss.poisson_nll_loss(p / 1.1, t) == np.inf
    value, gradient = jitloss.poisson_nll_loss.value_and_gradient(p, t)
    assert value == np.inf
    assert (gradient == np.inf).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_beyond_float32(dtype):
    p, t, z = np.ones(2, dtype), np.zeros(2, dtype), np.zeros((2, 2), dtype)
    with pytest.raises(
        ValueError, match=r"sample_weight must hold numbers that float32 arithmetic can hold, got 1e\+39 at index 1"
    ):
        jitloss.mse_loss(p, t, sample_weight=[1.0, 1e39])
    with pytest.raises(
        ValueError, match=r"class_weight must hold numbers that float32 arithmetic can hold, got 1e\+39 at index 0"
    ):
        ce(z, [0, 1], class_weight=[1e39, 1.0])
    with pytest.raises(ValueError, match=r"class_weight .*1e\+39"):
        bce(p, t, class_weight={1: 1e39})
    for small in (jitloss.mse_loss.value_and_gradient(p, t, sample_weight=[1e-46] * 2, normalizer="weights"),
                  ce.value_and_gradient(z, [0, 1], class_weight=[1e-46] * 2, normalizer="weights")):  # fmt: skip
        assert small[0] == 0.0
        assert not small[1].any()


def test_large_weights_of_known_calls_are_refused_too():
    p = np.ones(40, np.float32)
    for _ in CALLS:
        assert jitloss.mse_loss(p, 0 * p, sample_weight=np.ones(40)) == 1.0
    with pytest.raises(ValueError, match=r"sample_weight .*index 7"):
        jitloss.mse_loss(p, 0 * p, sample_weight=np.where(np.arange(40) == 7, 1e39, 1.0))


BEYOND = [
    (bce, "pos_weight", 1e39), (jitloss.huber_loss, "delta", 1e-50), (jitloss.quantile_loss, "quantile", 1 - 1e-9),
    (jitloss.focal_loss_with_logits, "gamma", 1e39), (ce, "softcap", 1e39), (ce, "softcap", 1e-46), (ce, "z_loss", 1e39),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "name", "value"), BEYOND)
def test_parameters_beyond_float32(loss, name, value):
    given = (np.ones((2, 2)), [0, 1]) if loss is ce else (np.ones(2), np.zeros(2))
    assert np.isfinite(loss(*given, **{name: value}))
    with pytest.raises(ValueError, match=rf"{name} must be .* in float32 arithmetic, got {value!r}".replace("+", r"\+")):
        loss(given[0].astype(np.float32), np.asarray(given[1], int if loss is ce else np.float32), **{name: value})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_curvature_of_log_cosh_far_out(dtype):
    errors = np.linspace(0, 40, 81, dtype=dtype)
    bend = jitloss.log_cosh_loss.value_gradient_hessian(errors, 0 * errors, reduction="none")[2]
    np.testing.assert_allclose(bend, 1 / np.cosh(errors.astype(np.float64)) ** 2, rtol=20 * np.finfo(dtype).eps)


def test_a_prediction_that_is_nan_is_seen_where_its_target_is_0():
    p, t = np.array([[np.nan, 1.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    values, gradient = jitloss.kl_divergence.value_and_gradient(p, t, reduction="none")
    np.testing.assert_array_equal(values, [np.nan, 0.0])
    np.testing.assert_array_equal(gradient, [[np.nan, -1.0], [0.0, -1.0]])


@pytest.mark.parametrize("shape", [(3, 0), (0, 0)])
@pytest.mark.parametrize("options", [{"class_weight": "balanced"}, {"class_weight": [], "normalizer": "weights"}], ids=repr)
def test_no_classes(shape, options):
    for loss in (ce, jitloss.cross_entropy_loss):
        value, gradient = loss.value_and_gradient(np.zeros(shape), np.zeros(shape), **options)
        assert (value, gradient.shape) == (0.0, shape)


@pytest.mark.parametrize("loss", [ce, jitloss.cross_entropy_loss, jitloss.kl_divergence], ids=lambda one: one.__name__)
def test_values_of_rows_without_classes_are_written(loss, monkeypatch):
    """Although no kernel runs: new memory may hold anything."""
    monkeypatch.setattr("jitloss.call.empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    for _ in CALLS:
        values = loss(np.zeros((3, 0)), np.zeros((3, 0)), reduction="none")
        np.testing.assert_array_equal(values, np.zeros(3))


def test_the_branch_that_does_not_count_is_not_seen():
    first, second = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    assert jitloss.contrastive_loss(first, second, [1], margin=1e20) == 2.0


def test_a_row_alone_may_have_any_stride():
    rows = np.zeros((3, 5))
    assert ce.gradient(rows[::2][:1], [0], out=rows[:1]) is not None
    np.testing.assert_allclose(rows[0], [-0.8, 0.2, 0.2, 0.2, 0.2])


def test_messages_name_the_place_and_what_came():
    with pytest.raises(ValueError, match=r"got -1 at index \[1, 2\]"):
        jitloss.mse_loss(np.ones((2, 3)), np.ones((2, 3)), sample_weight=[[1, 1, 1], [1, 1, -1]])
    with pytest.raises(TypeError, match=r"out must be a pair of arrays.* got ndarray"):
        jitloss.mse_loss.value_gradient_hessian(np.ones(3), np.ones(3), out=np.ones(3))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_small_probabilities_of_what_does_not_happen(dtype):
    """log(1 - p) is accurate for the given p, without first rounding 1 - p."""
    p = np.array([1e-3, 1e-5, 1e-6, 2e-7, 1e-12, 0.0, 0.3], dtype)
    values = jitloss.binary_cross_entropy(p, np.zeros_like(p), reduction="none")
    want = -np.log1p(-p.astype(np.float64)).astype(dtype)
    np.testing.assert_allclose(values.astype(float), want.astype(float), rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("factor", [1e39, -1e39])
def test_factors_beyond_float32(factor):
    p = np.float32([0.3, 0.6])
    for loss in (factor * jitloss.mse_loss, factor * jitloss.mse_loss + jitloss.l1_loss):
        assert np.isfinite(loss(p.astype(np.float64), np.zeros(2)))
        for dtype in (np.float16, np.float32):
            with pytest.raises(ValueError, match=rf"multiplied by a number .*, got {factor!r}".replace("+", r"\+")):
                loss(p.astype(dtype), np.zeros(2, dtype), reduction="none")


def test_products_of_weights_beyond_float32():
    p = np.float32([0.3, 0.6])
    with pytest.raises(ValueError, match=r"sample_weight times class_weight must hold numbers .* at index 1"):
        jitloss.binary_cross_entropy(p, np.float32([0, 1]), class_weight=[1.0, 1e30], sample_weight=[1.0, 1e30])
    many = np.full((3, CHUNK), 0.3, np.float32)
    weight = np.ones(many.shape)
    weight[1, 5] = 1e30
    with pytest.raises(ValueError, match=r"sample_weight times class_weight .* at index \[1, 5\]"):
        jitloss.binary_cross_entropy(many, np.ones_like(many), class_weight=[1.0, 1e30], sample_weight=weight)


def test_classes_may_be_named_by_bools():
    """As labels are."""
    logits, labels = [0.5, -1.0], [True, False]
    want = bce(logits, labels, class_weight={1: 2.0, 0: 3.0})
    assert bce(logits, labels, class_weight={True: 2.0, np.False_: 3.0}) == want


def test_classes_of_losses_have_signatures():
    for kind in (jitloss.Loss, jitloss.Form, jitloss.Penalty):
        assert "self" not in inspect.signature(kind).parameters
    assert list(inspect.signature(jitloss.mse_loss).parameters)[:2] == ["predictions", "targets"]


def test_messages_name_what_is_in_the_way():
    p, t = np.zeros((2, 3)), np.zeros((2, 3))
    with pytest.raises(ValueError, match="nothing else; this one overlaps targets"):
        jitloss.mse_loss_gradient(p, t, out=t)
    both = np.zeros((2, 3))
    with pytest.raises(ValueError, match="this one overlaps out of anchor"):
        jitloss.triplet_loss_gradient(p, t + 1, t + 2, out={"anchor": both, "positive": both, "negative": np.zeros((2, 3))})
    for loss, inputs in ((jitloss.mse_loss, (p, t)), (jitloss.l2_regularization, (p,))):
        with pytest.raises(ValueError, match="this one overlaps out of the gradient"):
            loss.value_gradient_hessian(*inputs, out=(both, both))
    with pytest.raises(ValueError, match="this one overlaps sample_weight"):
        jitloss.mse_loss_gradient(p, t, sample_weight=both, out=both)
    with pytest.raises(ValueError, match="this one overlaps class_weight"):
        jitloss.cross_entropy_with_logits.gradient(p, [0, 1], class_weight=both[0], out=both)
    with pytest.raises(ValueError, match="out must be writable, this array is read-only"):
        jitloss.mse_loss_gradient(p, t, out=np.broadcast_to(0.0, (2, 3)))
    with pytest.raises(ValueError, match=r"pos_weight='balanced' needs targets that are 0 or 1, got 0.25 at index 1"):
        bce([0.0, 0.0], [1.0, 0.25], pos_weight="balanced")


def test_a_branch_of_one_number():
    def one_alone(prediction, target):
        if prediction > 0.0:
            return prediction, 1.0
        return -prediction

    with pytest.raises(jitloss.DefinitionError, match=r"one_alone, line .*always the same number of results: here it returns 1"):
        jitloss.pointwise(one_alone)


def test_values_that_are_not_finite_are_found_in_any_block():
    for place in (0, 65535, 65536, 199_999):
        p = np.zeros(200_000, np.float32)
        p[place] = np.nan
        with jitloss.errstate(invalid="raise"), pytest.raises(FloatingPointError, match=f"first at (item|element) {place}"):
            jitloss.mse_loss.value_and_gradient(p, np.zeros_like(p))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "g", "i4", "?"])
def test_weights_are_told_in_one_pass(dtype):
    """Floats are checked by their bits; -0.0 is a valid weight."""
    assert options.are_weights(np.array([0, 1, 1], dtype))
    assert options.are_weights(np.array(1, dtype))
    assert options.are_weights(np.zeros(9, dtype)[::3])
    if dtype != "?":
        assert not options.are_weights(np.array([1, -1], dtype))
    if np.dtype(dtype).kind == "f":
        assert options.are_weights(np.array([-0.0, 1.0], dtype))
        for bad in (np.nan, -np.nan, np.inf, -np.inf):
            assert not options.are_weights(np.array([1.0, bad], dtype))
