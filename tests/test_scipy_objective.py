"""The objective of linear models: scikit-learn's estimators find the same minimum."""

import pickle

import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.preprocessing import scale

import jitloss
from jitloss.objectives import scipy as objective

XB, YB = load_breast_cancer(return_X_y=True)
XB = scale(XB)
XI, YI = load_iris(return_X_y=True)
XI = np.column_stack([scale(XI), np.ones(len(XI))])
X, Y = load_diabetes(return_X_y=True)
X = scale(X)
COUNTS = np.round(Y / 20)
SOFTMAX, LOGIT = jitloss.cross_entropy_with_logits, jitloss.binary_cross_entropy_with_logits


def minimum(fun, size):
    found = optimize.minimize(
        fun, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10}
    )
    return found.x


@pytest.mark.parametrize(
    "matrix", [np.asarray, sparse.csr_matrix, sparse.csc_array, np.asfortranarray], ids=["dense", "csr", "csc", "fortran"]
)
def test_logistic_regression(matrix):
    c = 0.3
    want = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(XB, YB).coef_[0]
    fun = objective(LOGIT, matrix(XB), YB, l2=1 / (len(YB) * c))
    np.testing.assert_allclose(minimum(fun, XB.shape[1]), want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_multinomial_regression(weighted):
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(YI)) if weighted else None
    c, total = 2.0, len(YI) if weight is None else weight.sum()
    want = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(XI, YI, sample_weight=weight).coef_.T
    fun = objective(SOFTMAX, XI, YI, l2=1 / (total * c), sample_weight=weight, normalizer="weights")
    np.testing.assert_allclose(minimum(fun, want.size).reshape(want.shape), want, rtol=2e-4, atol=2e-5)


def test_poisson_regression():
    want = PoissonRegressor(alpha=0.1, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(X, COUNTS).coef_
    fun = objective(jitloss.poisson_nll_loss, X, COUNTS, l2=0.1)
    np.testing.assert_allclose(minimum(fun, X.shape[1]), want, rtol=2e-4, atol=2e-5)


def test_ridge():
    want = Ridge(alpha=1.5 * len(Y) / 2, fit_intercept=False, tol=1e-12).fit(X, Y).coef_
    np.testing.assert_allclose(minimum(objective(jitloss.mse_loss, X, Y, l2=1.5), X.shape[1]), want, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [LOGIT, SOFTMAX, jitloss.huber_loss], ids=lambda one: one.__name__)
def test_values_and_gradients(loss, dtype):
    random = np.random.default_rng(0)
    labels = YB if loss is not jitloss.huber_loss else random.normal(size=len(YB))
    fun = objective(loss, XB.astype(dtype), labels, l1=0.02, l2=0.3)
    w = random.normal(size=XB.shape[1] * (2 if loss is SOFTMAX else 1))
    value, gradient = fun(w)
    shaped = w.reshape(XB.shape[1], -1) if loss is SOFTMAX else w
    assert (type(value), gradient.dtype) == (float, np.float64)
    assert value == pytest.approx(loss(XB @ shaped, labels) + 0.02 * np.abs(w).sum() + 0.15 * (w @ w), rel=1e-5)
    if dtype is np.float64:
        assert optimize.check_grad(lambda w: fun(w)[0], lambda w: fun(w)[1], w) < 1e-5
    kept = gradient.copy()
    fun(w + 1.0)
    np.testing.assert_array_equal(gradient, kept)  # SciPy keeps what it has been given


def test_integers_and_lists():
    value, gradient = objective(jitloss.mse_loss, [[1, 0], [0, 2]], [1, 3])([1.0, 1.0])
    assert value == 0.5
    np.testing.assert_array_equal(gradient, [0.0, -2.0])


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    (("mse", X, Y), {}, TypeError, "loss must be a jitloss loss"),
    ((jitloss.triplet_loss, X, Y), {}, ValueError, "a loss of predictions and targets is wanted"),
    ((jitloss.mse_loss, X[0], Y), {}, ValueError, r"X must have a row of features for each item, got the shape \(10,\)"),
    ((jitloss.mse_loss, X + 1j, Y), {}, TypeError, "X must hold numbers, got complex128"),
    ((jitloss.mse_loss, X.astype(str), Y), {}, TypeError, "X must hold numbers, got <U"),
    ((jitloss.mse_loss, X[:, :0], Y), {}, ValueError, r"X must have at least one feature, got the shape \(442, 0\)"),
    ((jitloss.mse_loss, X, Y[:-1]), {}, ValueError, r"y must have a target for each of the 442 rows of X, got the shape \(441,\)"),
    ((jitloss.mse_loss, X[None], Y), {}, ValueError, r"X must have a row of features for each item, got the shape \(1, 442, 10\)"),
    ((jitloss.mse_loss, X, Y), {"l1": np.inf}, ValueError, "l1 must be finite and not negative, got inf"),
    ((jitloss.mse_loss, X, Y), {"l2": -1.0}, ValueError, "l2 must be finite and not negative"),
    ((jitloss.mse_loss, X, Y), {"l1": "0"}, TypeError, "l1 must be a number"),
    ((jitloss.mse_loss, X, Y), {"l2": 10**400}, ValueError, "l2 must be finite"),
    ((jitloss.mse_loss, X, Y), {"l2": np.complex64(1.0)}, TypeError, "l2 must be a number"),
    ((jitloss.mse_loss, X, Y), {"reduction": "none"}, ValueError, "reduction='none'"),
], ids=range(14))  # fmt: skip
def test_wrong_objectives(arguments, options, error, message):
    with pytest.raises(error, match=message):
        objective(*arguments, **options)


def test_wrong_weights():
    with pytest.raises(ValueError, match=r"w must have 10 numbers, got the shape \(9,\)"):
        objective(jitloss.mse_loss, X, Y)(np.zeros(9))
    with pytest.raises(ValueError, match=r"w must have 10 numbers, got the shape \(20,\)"):
        objective(jitloss.mse_loss, X, Y)(np.zeros(20))
    with pytest.raises(ValueError, match=r"w must have a multiple of 5 numbers, \(features, classes\) ravelled"):
        objective(SOFTMAX, XI, YI)(np.zeros(14))

    with pytest.raises(TypeError, match="w must hold numbers, got complex128"):
        objective(jitloss.mse_loss, X, Y)(np.zeros(10, complex))


@pytest.mark.parametrize("w", [np.zeros((10, 1)), np.zeros((1, 10)), np.zeros(())])
def test_weights_are_a_vector(w):
    for loss, y in ((jitloss.mse_loss, Y), (SOFTMAX, Y > 100)):
        with pytest.raises(ValueError, match="w must have "):
            objective(loss, X, y)(w)


def test_whole_weights_are_added_as_they_are():
    """Integer weights must not overflow in the sum of their squares."""
    value, gradient = objective(jitloss.mse_loss, [[0.0, 0.0]], [0.0], l1=1.0, l2=1.0)(np.array([100, -100], np.int8))
    assert value == 10200.0
    np.testing.assert_array_equal(gradient, [101.0, -101.0])


def test_penalties_stand_alone():
    for options, value, slope in (({"l1": 2.0}, 6.0, 2.0), ({"l2": 2.0}, 9.0, 6.0)):
        assert objective(jitloss.mse_loss, [[0.0]], [0.0], **options)([3.0]) == (value, [slope])


def test_an_absolute_value_has_no_slope_at_zero():
    fun = jitloss.objectives.scipy(jitloss.mse_loss, np.eye(3), np.zeros(3), l1=np.float32(0.5))
    value, gradient = fun(np.array([0.0, 3.0, -3.0]))
    assert value == pytest.approx(9.0)
    np.testing.assert_allclose(gradient, [0.0, 2.5, -2.5])


def test_products_have_the_dtype_of_the_features():
    assert objective(jitloss.mse_loss, np.ones((1, 1), np.float32), [1.0])([1.0 + 1e-9])[0] == 0.0
    assert objective(jitloss.mse_loss, np.ones((1, 1)), [1.0])([1.0 + 1e-9])[0] > 0.0


@jitloss.pointwise
def between(prediction, other):
    return prediction - other, 1.0


@jitloss.pointwise
def scaled(prediction, target, scale):
    return scale * (prediction - target), scale


@pytest.mark.parametrize("loss", [between, scaled], ids=lambda one: one.__name__)
def test_losses_of_other_things(loss):
    with pytest.raises(ValueError, match=f"a loss of predictions and targets is wanted, {loss.__name__} takes predictions, "):
        objective(loss, X, Y)


def test_features_may_be_bools():
    for dtype in (bool, np.uint8):
        assert objective(jitloss.mse_loss, np.ones((2, 1), dtype), [0.0, 1.0])([1.0]) == (0.5, [1.0])


def test_one_class_is_certain():
    value, gradient = objective(SOFTMAX, np.ones((2, 3)), [0, 0], l2=2.0, z_loss=1.0)(np.ones(3))
    assert value == 12.0
    np.testing.assert_array_equal(gradient, [8.0, 8.0, 8.0])


def test_penalties_that_are_off_are_not_shown():
    assert repr(objective(jitloss.mse_loss, X, Y)) == "scipy(mse_loss, X, y)"


def test_objectives_are_compared_as_they_are():
    one, other = objective(jitloss.mse_loss, X, Y), objective(jitloss.mse_loss, X, Y)
    assert {one, other, one} == {other, one}
    assert one != other


def test_missing_values():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"objectives.scipy: y cannot be read as an array: a column with 1 missing value "):
        objective(jitloss.mse_loss, np.ones((2, 1)), pd.Series([1.0, None], dtype="Float64"))


def test_it_pickles():
    made = objective(jitloss.huber_loss, X, Y, l2=0.1, delta=2.0)
    again = pickle.loads(pickle.dumps(made))
    (value, gradient), (other, same) = made(np.ones(10)), again(np.ones(10))
    assert value == other
    np.testing.assert_array_equal(gradient, same)


def test_gradients_are_float64_without_penalties_too():
    value, gradient = objective(jitloss.mse_loss, np.ones((2, 1), np.float32), [0.0, 1.0])(np.ones(1))
    assert (type(value), gradient.dtype) == (float, np.float64)


def test_half_types_are_multiplied_as_numpy_can():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype, kept in ((np.float16, np.float16), (ml_dtypes.bfloat16, np.float32)):
        fun = objective(jitloss.mse_loss, np.array([[1.0], [3.0]], dtype), [0.0, 1.0])
        assert fun.matrix.dtype == kept
        np.testing.assert_array_equal(fun(np.ones(1))[1], [7.0])


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (1.0, {}, r"y must have a target for each of the 2 rows of X, got the shape \(\)"),
        ([[0.0, 1.0]], {}, r"y must have a target for each of the 2 rows of X, got the shape \(1, 2\)"),
        ([0.0, 1.0], {"out": np.empty(2)}, "reduction='none' and out are not for an objective"),
    ],
)
def test_more_wrong_objectives(y, options, message):
    with pytest.raises(ValueError, match=message):
        objective(jitloss.mse_loss, np.ones((2, 1)), y, **options)
