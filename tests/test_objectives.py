"""Objectives of boosters: the real XGBoost and LightGBM grow the same trees as with their own objectives."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

import jitloss
from jitloss import compilers, objectives

xgb = pytest.importorskip("xgboost")
lgb = pytest.importorskip("lightgbm")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the boosters

X, Y = load_diabetes(return_X_y=True)
Y = (Y - Y.mean()) / Y.std()
COUNTS = np.round(np.exp(Y)).astype(np.float64)
XB, YB = load_breast_cancer(return_X_y=True)
XD, YD = (one[:600] for one in load_digits(return_X_y=True))
RANDOM = np.random.default_rng(0)
LOGIT = jitloss.binary_cross_entropy_with_logits
SOFTMAX = jitloss.cross_entropy_with_logits
HALF = 0.5 * jitloss.mse_loss

XGB = {"max_depth": 3, "eta": 0.3, "tree_method": "exact", "nthread": 1, "seed": 0}
LGB = {
    "num_leaves": 7, "learning_rate": 0.2, "min_data_in_leaf": 5, "boost_from_average": False, "deterministic": True,
    "force_row_wise": True, "num_threads": 1, "verbose": -1, "seed": 0,
}  # fmt: skip


@jitloss.pointwise
def pseudo_huber(prediction, target, slope=1.0):
    """XGBoost's smooth Huber loss."""
    error = (prediction - target) / slope
    root = sqrt(1.0 + error * error)  # noqa: F821
    return slope * slope * (root - 1.0), (prediction - target) / root, 1.0 / (root * root * root)


@jitloss.pointwise
def tweedie(prediction, target, power=1.5):
    """Negative log-likelihood of a Tweedie distribution whose log mean is predicted."""
    one, two = exp((1.0 - power) * prediction), exp((2.0 - power) * prediction)  # noqa: F821
    value = two / (2.0 - power) - target * one / (1.0 - power)
    return value, two - target * one, (2.0 - power) * two - (1.0 - power) * target * one


WEIGHTS = {"plain": None, "weighted": "drawn"}


def drawn(weighted, labels):
    return np.random.default_rng(1).uniform(0.5, 2.0, len(labels)) if weighted else None


# XGBoost ----------------------------------------------------------------------------------------------------------------------

CASES_XGB = {
    "squared": (X, Y, {"objective": "reg:squarederror", "base_score": 0.0}, HALF, {}, {}),
    "logistic": (XB, YB, {"objective": "binary:logistic", "base_score": 0.5}, LOGIT, {}, {}),
    "pseudo-huber": (X, Y, {"objective": "reg:pseudohubererror", "base_score": 0.0}, pseudo_huber, {}, {}),
    "poisson": (X, COUNTS, {"objective": "count:poisson", "base_score": 1.0}, jitloss.poisson_nll_loss,
                {"hessian_scale": np.exp(0.7)}, {"max_delta_step": 0.7}),
    "tweedie": (X, COUNTS, {"objective": "reg:tweedie", "base_score": 1.0}, tweedie, {}, {}),
}  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES_XGB)
def test_xgboost_grows_its_own_trees(name, weighted):
    x, y, own, loss, options, more = CASES_XGB[name]
    data = xgb.DMatrix(x, y, weight=drawn(weighted, y))
    theirs = xgb.train({**XGB, **own}, data, 20)
    mine = xgb.train({**XGB, **more, "base_score": 0.0}, data, 20, obj=objectives.xgboost(loss, **options))
    got, want = (one.predict(data, output_margin=True) for one in (mine, theirs))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_xgboost_softmax(weighted):
    data = xgb.DMatrix(XD, YD, weight=drawn(weighted, YD))
    own = {**XGB, "num_class": 10, "base_score": 0.5}
    theirs = xgb.train({**own, "objective": "multi:softprob"}, data, 8)
    mine = xgb.train(own, data, 8, obj=objectives.xgboost(SOFTMAX))
    got, want = (one.predict(data, output_margin=True) for one in (mine, theirs))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_xgboost_metric():
    data, weight = xgb.DMatrix(XB, YB, weight=drawn(True, YB)), drawn(True, YB)
    objective, found = objectives.xgboost(LOGIT), {}
    model = xgb.train(
        {**XGB, "base_score": 0.0, "disable_default_eval_metric": True}, data, 10, obj=objective, custom_metric=objective.metric,
        evals=[(data, "train")], evals_result=found, verbose_eval=False,
    )  # fmt: skip
    history = found["train"]["binary_cross_entropy_with_logits"]
    scores = model.predict(data, output_margin=True)
    assert history[-1] == pytest.approx(LOGIT(scores.astype(float), YB, sample_weight=weight, normalizer="weights"), abs=1e-6)
    assert history == sorted(history, reverse=True)
    theirs: dict = {}
    xgb.train(
        {**XGB, "objective": "binary:logistic", "base_score": 0.5},
        data,
        10,
        evals=[(data, "train")],
        evals_result=theirs,
        verbose_eval=False,
    )
    np.testing.assert_allclose(history, theirs["train"]["logloss"], rtol=0, atol=1e-6)


def test_xgboost_in_scikit_learn():
    weight, options = drawn(True, Y), {"n_estimators": 15, "max_depth": 3, "tree_method": "exact", "n_jobs": 1, "base_score": 0.0}
    objective = objectives.xgboost(HALF)
    mine = clone(xgb.XGBRegressor(objective=objective, eval_metric=objective.metric, **options))
    mine.fit(X, Y, sample_weight=weight, eval_set=[(X, Y)], verbose=False)
    theirs = xgb.XGBRegressor(**options).fit(X, Y, sample_weight=weight)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), atol=2e-6)
    history = mine.evals_result()["validation_0"]["0_5_mse_loss"]
    assert history[-1] == pytest.approx(HALF(mine.predict(X).astype(float), Y), abs=1e-6)


@pytest.mark.parametrize("given", [{}, {"base_score": 0.5}], ids=["as it is", "even"])
def test_the_base_score_of_a_classifier_is_a_probability(given):
    options = {"n_estimators": 10, "max_depth": 3, "tree_method": "exact", "n_jobs": 1}
    mine = xgb.XGBClassifier(objective=objectives.xgboost(LOGIT), **options, **given).fit(XB, YB)
    theirs = xgb.XGBClassifier(base_score=0.5, **options).fit(XB, YB)
    np.testing.assert_allclose(mine.predict(XB, output_margin=True), theirs.predict(XB, output_margin=True), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(mine.predict_proba(XB), theirs.predict_proba(XB), rtol=0, atol=2e-6)
    assert mine.score(XB, YB) == theirs.score(XB, YB)


def test_the_classifier_of_lightgbm_gives_raw_scores():
    model = lgb.LGBMClassifier(objective=objectives.lightgbm(LOGIT), n_estimators=10, num_leaves=7, n_jobs=1, verbose=-1)
    model.fit(XB, YB)
    np.testing.assert_array_equal(model.predict(XB), model.predict(XB, raw_score=True))
    assert ((model.predict(XB) > 0) == YB).mean() > 0.95


@pytest.mark.parametrize(("x", "y", "loss"), [(XB, YB, LOGIT), (XD, YD, SOFTMAX)], ids=["binary", "classes"])
def test_classifiers(x, y, loss):
    for make in (
        lambda: xgb.XGBClassifier(objective=objectives.xgboost(loss), n_estimators=10, max_depth=3, n_jobs=1),
        lambda: lgb.LGBMClassifier(objective=objectives.lightgbm(loss), n_estimators=10, num_leaves=7, n_jobs=1, verbose=-1),
    ):
        model = make().fit(x, y)
        scores = np.asarray(
            model.predict(x, output_margin=True) if isinstance(model, xgb.XGBClassifier) else model.predict(x, raw_score=True)
        )
        found = scores.argmax(-1) if scores.ndim == 2 else (scores > 0).astype(int)
        assert (found == y).mean() > 0.95


# LightGBM ---------------------------------------------------------------------------------------------------------------------

CASES_LGB = {
    "squared": (X, Y, {"objective": "regression"}, HALF, {}),
    "logistic": (XB, YB, {"objective": "binary"}, LOGIT, {}),
    "huber": (X, Y, {"objective": "huber", "alpha": 0.9}, jitloss.huber_loss, {"delta": 0.9}),
    "poisson": (X, COUNTS, {"objective": "poisson"}, jitloss.poisson_nll_loss, {"hessian_scale": np.exp(0.7)}),
    "tweedie": (X, COUNTS, {"objective": "tweedie", "tweedie_variance_power": 1.3}, tweedie, {"power": 1.3}),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES_LGB)
def test_lightgbm_grows_its_own_trees(name, weighted):
    x, y, own, loss, options = CASES_LGB[name]
    theirs, mine = (
        lgb.train({**LGB, **given}, lgb.Dataset(x, y, weight=drawn(weighted, y)), 15)
        for given in (own, {"objective": objectives.lightgbm(loss, **options)})
    )
    np.testing.assert_allclose(mine.predict(x, raw_score=True), theirs.predict(x, raw_score=True), rtol=1e-6, atol=1e-6)


def test_lightgbm_softmax():
    own = {**LGB, "num_class": 10}
    theirs, mine = (
        lgb.train({**own, "objective": one}, lgb.Dataset(XD, YD), 8) for one in ("multiclass", objectives.lightgbm(SOFTMAX))
    )
    np.testing.assert_allclose(mine.predict(XD, raw_score=True), theirs.predict(XD, raw_score=True), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_lightgbm_splits_quantiles_alike(quantile):
    """LightGBM resets the leaves of its own objective to quantiles, which custom ones cannot do; the first tree's splits agree."""
    theirs, mine = (
        lgb.train({**LGB, **given}, lgb.Dataset(X, Y), 1).trees_to_dataframe()
        for given in (
            {"objective": "quantile", "alpha": quantile},
            {"objective": objectives.lightgbm(jitloss.quantile_loss, quantile=quantile)},
        )
    )
    np.testing.assert_array_equal(mine["split_feature"].fillna("").to_numpy(), theirs["split_feature"].fillna("").to_numpy())
    np.testing.assert_allclose(mine["threshold"].dropna(), theirs["threshold"].dropna())
    long = lgb.train({**LGB, "objective": objectives.lightgbm(jitloss.quantile_loss, quantile=quantile)}, lgb.Dataset(X, Y), 200)
    assert (long.predict(X) > Y).mean() == pytest.approx(quantile, abs=0.1)


def test_lightgbm_metric_and_scikit_learn():
    objective, weight = objectives.lightgbm(LOGIT), drawn(True, YB)
    history: dict = {}
    model = lgb.LGBMClassifier(objective=objective, n_estimators=10, num_leaves=7, n_jobs=1, verbose=-1)
    clone(model)
    model.fit(
        XB,
        YB,
        sample_weight=weight,
        eval_set=[(XB, YB)],
        eval_sample_weight=[weight],
        eval_metric=objective.metric,
        callbacks=[lgb.record_evaluation(history)],
    )
    scores = model.predict(XB, raw_score=True)
    last = next(iter(history.values()))["binary_cross_entropy_with_logits"][-1]
    assert last == pytest.approx(LOGIT(scores, YB, sample_weight=weight, normalizer="weights"), rel=1e-6)
    data = lgb.Dataset(XB, YB, weight=weight)
    found: dict = {}
    lgb.train(
        {**LGB, "objective": objective},
        data,
        5,
        valid_sets=[data],
        feval=objective.metric,
        callbacks=[lgb.record_evaluation(found)],
    )
    assert len(found["training"]["binary_cross_entropy_with_logits"]) == 5


# Without a booster ------------------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_the_rows():
    scores, labels, weight = RANDOM.normal(size=50), RANDOM.integers(0, 2, 50).astype(float), RANDOM.uniform(size=50)
    p = 1 / (1 + np.exp(-scores))
    gradient, hessian = objectives.xgboost(LOGIT)(labels, scores, weight)
    np.testing.assert_allclose(gradient, weight * (p - labels))
    np.testing.assert_allclose(hessian, weight * p * (1 - p))
    logits, classes = RANDOM.normal(size=(50, 4)), RANDOM.integers(0, 4, 50)
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for make, factor in ((objectives.xgboost, 2.0), (objectives.lightgbm, 4 / 3)):
        gradient, hessian = make(SOFTMAX)(classes.astype(np.float32), logits, weight)
        np.testing.assert_allclose(gradient, weight[:, None] * (q - np.eye(4)[classes]))
        np.testing.assert_allclose(hessian, weight[:, None] * factor * q * (1 - q))


@jitloss.pointwise
def straight(prediction, target):
    return prediction * (target + 1.0), target + 1.0, 0.0


@jitloss.pointwise
def bent_below(prediction, target):
    error = prediction - target
    far = error < -20.0
    return where(far, -20.0 * error - 200.0, 0.5 * error * error), where(far, -20.0, error), where(far, 0.0, 1.0)  # noqa: F821


@jitloss.pointwise
def bent_above(prediction, target):
    error = prediction - target
    far = error > 20.0
    return where(far, 20.0 * error - 200.0, 0.5 * error * error), where(far, 20.0, error), where(far, 0.0, 1.0)  # noqa: F821


def test_the_floor_and_the_constants():
    far = np.array([800.0, 0.0])
    _, hessian = objectives.xgboost(LOGIT)(np.zeros(2), far)
    np.testing.assert_array_equal(hessian, [1e-16, 0.25])
    _, hessian = objectives.xgboost(LOGIT, min_hessian=0.1, hessian_scale=2.0)(np.zeros(2), far, np.array([3.0, 1.0]))
    np.testing.assert_allclose(hessian, [0.3, 0.5])
    for loss in (jitloss.l1_loss, jitloss.quantile_loss, jitloss.huber_loss, jitloss.hinge_loss):
        np.testing.assert_array_equal(objectives.lightgbm(loss)(np.zeros(2), far, np.array([1.0, 2.0]))[1], [1.0, 2.0])
    for loss in (straight, bent_below, bent_above):
        assert objectives.xgboost(loss).constant == 1.0
    for loss in (jitloss.mse_loss, jitloss.log_cosh_loss, LOGIT, jitloss.poisson_nll_loss, pseudo_huber):
        assert objectives.xgboost(loss).constant is None
    np.testing.assert_array_equal(objectives.xgboost(jitloss.mse_loss, hessian=3.0)(np.zeros(2), far)[1], [3.0, 3.0])
    for given, floor in (({"hessian": 0.0}, 1e-16), ({"hessian": 0.1, "min_hessian": 0.5}, 0.5)):
        weighted = objectives.xgboost(jitloss.mse_loss, **given)(np.zeros(2), far, np.array([1.0, 2.0]))[1]
        np.testing.assert_array_equal(weighted, [floor, 2 * floor])


@jitloss.rowwise
class spread_of_scores:
    def terms(score, target):
        return score * score * score * target

    def value(sums):
        return sums

    def slope(score, target):
        return 3.0 * score * score * target, 6.0 * score * target


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "loss", [LOGIT, -2.0 * LOGIT, LOGIT + 0.5 * jitloss.mse_loss, jitloss.poisson_nll_loss], ids=lambda one: one.__name__
)
def test_the_floor_is_that_of_the_second_derivative_of_each_row(loss, weighted, dtype):
    scores, labels = RANDOM.normal(size=5000).astype(dtype), RANDOM.integers(0, 2, 5000).astype(dtype)
    weight = RANDOM.uniform(0.5, 2.0, 5000).astype(dtype) if weighted else None
    own = weight.astype(np.float64) if weighted else np.ones(5000)
    _, want, curvature = loss.value_gradient_hessian(scores.astype(np.float64), labels, reduction="sum")
    for rows in (7, 5000):
        of_call = [one if one is None else one[:rows] for one in (labels, scores, weight)]
        gradient, hessian = objectives.xgboost(loss, min_hessian=0.2, hessian_scale=1.5)(*of_call)
        assert gradient.dtype == hessian.dtype == dtype
        error = {np.float16: 2e-3, np.float32: 1e-6, np.float64: 1e-14}[dtype]
        np.testing.assert_allclose(gradient, (want * own)[:rows], rtol=error, atol=error)
        np.testing.assert_allclose(hessian, (np.maximum(1.5 * curvature, 0.2) * own)[:rows], rtol=error)
    assert np.isnan(objectives.xgboost(loss)(labels[:1], np.array([np.nan], dtype))[1]).all()


@pytest.mark.parametrize(
    "loss", [SOFTMAX, -1.0 * SOFTMAX, SOFTMAX + spread_of_scores, spread_of_scores], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("shape", [(2, 3), (200, 10), (300, 200), (3, 20000)])
def test_the_floor_is_that_of_each_class(loss, shape):
    scores, labels, weight = RANDOM.normal(size=shape), RANDOM.integers(0, shape[1], shape[0]), RANDOM.uniform(0.5, 2.0, shape[0])
    labels = labels if loss.definition.takes_labels else np.eye(shape[1])[labels]
    _, want, curvature = loss.value_gradient_hessian(scores, labels, reduction="sum")
    for make in (objectives.xgboost, objectives.lightgbm):
        gradient, hessian = make(loss, min_hessian=0.05)(labels, scores, weight)
        factor = 1.0 if not loss.definition.takes_labels else 2.0 if make is objectives.xgboost else shape[1] / (shape[1] - 1)
        np.testing.assert_allclose(gradient, want * weight[:, None], rtol=1e-12)
        np.testing.assert_allclose(hessian, np.maximum(factor * curvature, 0.05) * weight[:, None], rtol=1e-12)


@pytest.mark.parametrize("given", [{"min_hessian": 0.0}, {"hessian": 1.5}], ids=["own", "constant"])
@pytest.mark.parametrize("how", ["array", "dict", "balanced"])
@pytest.mark.parametrize(
    "loss", [LOGIT, jitloss.focal_loss_with_logits.with_parameters(gamma=0.0), SOFTMAX], ids=["logit", "focal", "softmax"]
)
def test_weights_of_classes_are_weights_of_samples(loss, how, given):
    classes = 3 if loss is SOFTMAX else 2
    labels = np.arange(12.0) % 5 % classes
    scores = RANDOM.normal(size=(12, classes)) if loss is SOFTMAX else RANDOM.normal(size=12)
    counts = np.bincount(labels.astype(int))
    weights = 12 / (classes * counts) if how == "balanced" else np.array([2.0, 0.0, 5.0])[:classes]
    option = {"array": weights, "dict": dict(enumerate(weights)), "balanced": "balanced"}[how]
    sample = RANDOM.uniform(0.5, 2.0, 12)
    got = objectives.lightgbm(loss, class_weight=option, **given)(labels, scores, sample)
    want = objectives.lightgbm(loss, **given)(labels, scores, sample * weights[labels.astype(int)])
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-15)


def test_weights_of_classes_where_there_are_several_outputs():
    labels, scores, sample = RANDOM.integers(0, 2, (5, 3)), RANDOM.normal(size=(5, 3)), RANDOM.uniform(0.5, 2.0, 5)
    _, hessian = objectives.xgboost(LOGIT, hessian=1.0, class_weight=[2.0, 3.0])(labels, scores, sample)
    np.testing.assert_allclose(hessian, (2.0 + labels) * sample[:, None])


@pytest.mark.parametrize("given", [{}, {"hessian": 1.0}], ids=["own", "constant"])
def test_ignored_rows_have_no_curvature(given):
    labels, scores = np.array([0.0, -1.0]), np.zeros((2, 3))
    gradient, hessian = objectives.xgboost(SOFTMAX, ignore_index=-1, **given)(labels, scores)
    assert (hessian[0] > 0.0).all()
    assert (gradient[1] == 0.0).all()
    assert (hessian[1] == 0.0).all()


@pytest.mark.parametrize("delta", [0.9, 20.0, 720.0, 5000.0])
def test_a_linear_part_is_found_wherever_it_begins(delta):
    fixed = jitloss.huber_loss.with_parameters(delta=delta)
    assert objectives.lightgbm(jitloss.huber_loss, delta=delta).constant == 1.0
    for loss in (fixed, 0.5 * fixed, fixed + 0.0 * jitloss.l1_loss):
        assert objectives.xgboost(loss).constant == 1.0
    assert objectives.xgboost(fixed + jitloss.mse_loss).constant is None


@jitloss.pointwise
def with_a_dead_zone(prediction, target, zone=1.0):
    error = prediction - target
    outside = abs(error) > zone
    return maximum(abs(error) - zone, 0.0), where(outside, sign(error), 0.0), 0.0  # noqa: F821


@pytest.mark.parametrize("zone", [0.5, 2.0, 300.0])
def test_a_linear_part_may_begin_where_nothing_was(zone):
    assert objectives.xgboost(with_a_dead_zone, zone=zone).constant == 1.0


def test_a_curvature_that_fades_is_no_linear_part():
    for loss, options in (
        (LOGIT, {"pos_weight": 5000.0}),
        (jitloss.focal_loss_with_logits, {"gamma": 5.0}),
        (1e-3 * jitloss.log_cosh_loss, {}),
        (1e6 * jitloss.log_cosh_loss, {}),
        (jitloss.poisson_nll_loss, {}),
    ):
        assert objectives.xgboost(loss, **options).constant is None


def test_integer_scores():
    gradient, _ = objectives.xgboost(HALF)(np.array([0.5]), np.array([1]))
    assert gradient == [0.5]
    assert objectives.xgboost(HALF).metric(np.array([0.5]), np.array([1])) == 0.125


@pytest.mark.parametrize(
    ("loss", "labels", "scores", "error", "said"),
    [
        (
            SOFTMAX,
            np.zeros(3),
            np.zeros(3),
            ValueError,
            r"wants scores of the shape \(rows, classes\), got \(3,\): set num_class",
        ),
        (LOGIT, np.zeros(3), np.zeros((3, 2)), ValueError, r"one score for each label, got labels of the shape \(3,\)"),
        (LOGIT, np.float64(1.0), np.float64(0.0), ValueError, r"must have rows, got the shapes \(\) and \(\)"),
        (LOGIT, np.array(["a"]), np.zeros(1), TypeError, "labels must hold numbers, got <U1"),
        (HALF, np.array(["2020-01-01"], "M8[D]"), np.zeros(1), TypeError, "labels must hold numbers, got datetime64"),
        (HALF, np.zeros(1), np.zeros(1, complex), TypeError, "predictions must hold numbers, got complex128"),
    ],
    ids=range(6),
)
def test_wrong_scores_and_labels(loss, labels, scores, error, said):
    for make in (objectives.xgboost, objectives.lightgbm):
        with pytest.raises(error, match=rf"^objectives\.\w+: .*{said}"):
            make(loss)(labels, scores)


@jitloss.pointwise
def pretty_loss(prediction, target):
    return (prediction - target) * (prediction - target), 2.0 * (prediction - target), 2.0


def test_xgboost_takes_lower_values_for_better_ones_whatever_the_name():
    objective, data = objectives.xgboost(pretty_loss), xgb.DMatrix(X, Y)
    assert objectives.lightgbm(pretty_loss).metric.__name__ == "pretty_loss"
    history: dict = {}
    booster = xgb.train(
        XGB, data, 8, obj=objective, custom_metric=objective.metric, evals=[(data, "train")], evals_result=history,
        early_stopping_rounds=3, verbose_eval=False,
    )  # fmt: skip
    (values,) = history["train"].values() if len(history["train"]) == 1 else [history["train"]["loss_pretty_loss"]]
    assert values[-1] < values[0]
    assert booster.best_iteration == 7


def test_float32_stays_float32_and_hinge_takes_zero_and_one():
    scores = np.array([0.5, -2.0], np.float32)
    assert [one.dtype for one in objectives.xgboost(LOGIT)(np.array([0.0, 1.0], np.float32), scores)] == [np.float32] * 2
    gradient, _ = objectives.xgboost(jitloss.hinge_loss)(np.array([0.0, 1.0]), scores)
    np.testing.assert_array_equal(gradient, [1.0, -1.0])


def test_labels_are_whole_and_all_there():
    pd = pytest.importorskip("pandas")
    objective = objectives.xgboost(SOFTMAX)
    for label in (1.5, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"objectives\.\w+: labels must be whole numbers, got {label} in row 1"):
            objective(np.array([0.0, label, 2.0]), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"objectives\.\w+: labels cannot be read as an array: a column with 1 missing value "):
        objectives.lightgbm(jitloss.mse_loss)(pd.Series([1.0, None], dtype="Float64"), np.zeros(2))


def test_objectives_pickle():
    objective = pickle.loads(pickle.dumps(objectives.xgboost(jitloss.huber_loss, delta=2.0)))
    np.testing.assert_array_equal(objective(np.zeros(1), np.array([5.0]))[0], [2.0])


NO_WEIGHTS = [
    ([1.0, -2.0], ValueError, "class_weight must not be negative, infinite or NaN, got -2.0 at index 1"),
    ([1.0, np.nan], ValueError, "class_weight must not be negative, infinite or NaN, got nan at index 1"),
    ({1: -1.0}, ValueError, "class_weight must not be negative, infinite or NaN, got -1.0 at index 1"),
    ([[1.0, 2.0]], ValueError, "class_weight must hold one weight for each .*class.*, got the shape"),
    (2.0, ValueError, "class_weight must hold one weight for each .*class.*, got the shape"),
    ({"a": 1.0}, ValueError, "class_weight names the class 'a', wanted "),
    ({-1: 1.0}, ValueError, "class_weight names the class -1, wanted "),
    ({0: [1.0]}, ValueError, "class_weight must hold one number for the class 0"),
    ("even", ValueError, "class_weight must be 'balanced', one weight per class, a dict or None, got 'even'"),
    (["a", "b"], TypeError, "class_weight must hold numbers"),
    ({0: None}, TypeError, "class_weight of the class 0 is a builtins.NoneType"),
]


@pytest.mark.parametrize("loss", [SOFTMAX, LOGIT], ids=["classes", "binary"])
@pytest.mark.parametrize(("weight", "error", "said"), NO_WEIGHTS, ids=range(len(NO_WEIGHTS)))
def test_class_weights_are_looked_at_when_an_objective_is_made(loss, weight, error, said):
    for make in (objectives.xgboost, objectives.lightgbm):
        with pytest.raises(error, match=f"^{loss.__name__}: {said}"):
            make(loss, class_weight=weight)


def test_how_many_class_weights_there_are_waits_for_the_scores():
    labels, scores = np.array([0, 2]), np.zeros((2, 3))
    for weight in ([1.0, 2.0, 3.0], {2: 3.0}, "balanced"):
        assert objectives.xgboost(SOFTMAX, class_weight=weight)(labels, scores)[0].shape == (2, 3)
    for weight, said in (([1.0, 2.0], "one weight for each of 3 classes"), ({5: 1.0}, "wanted classes from 0 to 2")):
        objective = objectives.xgboost(SOFTMAX, class_weight=weight)
        with pytest.raises(ValueError, match=said):
            objective(labels, scores)
    with pytest.raises(ValueError, match="class_weight must hold one weight for each of 2 classes"):
        objectives.xgboost(LOGIT, class_weight=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'class_weight'"):
        objectives.xgboost(jitloss.huber_loss, class_weight=[1.0, 2.0])


def test_objectives_of_a_parameter_with_any_name_are_shown():
    @jitloss.pointwise
    def cost(prediction, target, maker=1.0):
        return maker * (prediction - target) ** 2, 2.0 * maker * (prediction - target), 2.0 * maker

    assert repr(objectives.xgboost(cost, maker=2.0)) == "xgboost(cost, maker=2.0)"


def test_objectives_are_shown_as_they_are_made():
    objective = objectives.xgboost(jitloss.huber_loss, delta=30.0)
    assert repr(objective) == "xgboost(huber_loss, delta=30.0)"
    assert repr(objective.metric) == "xgboost(huber_loss, delta=30.0).metric"
    assert repr(pickle.loads(pickle.dumps(objective))) == repr(clone(objective, safe=False)) == repr(objective)
    made = objectives.lightgbm(SOFTMAX, hessian=1, hessian_scale=2.0, min_hessian=1e-3, class_weight={0: 2.0})
    assert repr(made) == (
        "lightgbm(cross_entropy_with_logits, hessian=1, hessian_scale=2.0, min_hessian=0.001, class_weight={0: 2.0})"
    )
    assert repr(objectives.xgboost(SOFTMAX, class_weight=np.ones(3))) == "xgboost(cross_entropy_with_logits, class_weight=...)"
    assert "..." not in repr(objectives.xgboost(jitloss.huber_loss, delta=np.float64(2.0)))  # a number has no axes
    assert repr(objectives.xgboost(HALF)) == "xgboost(0.5 * mse_loss)"
    assert repr(objectives.scipy(HALF, X, Y, l2=0.5)) == "scipy(0.5 * mse_loss, X, y, l2=0.5)"
    weighted = objectives.scipy(jitloss.huber_loss, X, Y, l1=0.1, delta=2.0, sample_weight=np.ones(len(Y)))
    assert repr(weighted) == "scipy(huber_loss, X, y, l1=0.1, delta=2.0, sample_weight=...)"


def test_a_search_shows_which_objective_was_best():
    from sklearn.model_selection import GridSearchCV

    made = [objectives.xgboost(jitloss.huber_loss, delta=delta) for delta in (0.01, 1.0)]
    search = GridSearchCV(xgb.XGBRegressor(n_estimators=3, n_jobs=1), {"objective": made}, cv=2).fit(X, Y)
    assert "xgboost(huber_loss, delta=" in str(search.best_params_)


@jitloss.pointwise
def no_second(prediction, target):
    return abs(prediction - target) ** 3, 3.0 * (prediction - target) * abs(prediction - target)


@pytest.mark.parametrize("make", [objectives.xgboost, objectives.lightgbm])
def test_wrong_objectives(make):
    for loss, options, error, message in [
        ("mse", {}, TypeError, "loss must be a jitloss loss, got 'mse'"),
        (jitloss.triplet_loss, {}, ValueError, "a loss of predictions and targets is wanted, triplet_loss takes anchors"),
        (jitloss.l2_regularization, {}, ValueError, "a loss of predictions and targets is wanted"),
        (jitloss.kl_divergence, {}, ValueError, "a loss of predictions and targets is wanted"),
        (jitloss.binary_cross_entropy, {}, ValueError, "takes probabilities; choose a loss of logits"),
        (no_second, {}, ValueError, "no_second has no second derivative; give hessian=1.0"),
        (LOGIT, {"gamma": 2.0}, TypeError, "unexpected keyword argument 'gamma'"),
        (jitloss.huber_loss, {"delta": -1.0}, ValueError, "delta must be a positive number"),
        (LOGIT, {"reduction": "sum"}, TypeError, "reduction is not an option of an objective"),
        (LOGIT, {"min_hessian": None}, TypeError, "min_hessian must be a number, got None"),
        (LOGIT, {"hessian_scale": None}, TypeError, "hessian_scale must be a number, got None"),
        (LOGIT, {"min_hessian": -1.0}, ValueError, "min_hessian must be finite and not negative"),
        (LOGIT, {"hessian": "auto"}, TypeError, "hessian must be a number"),
        (LOGIT, {"hessian": np.complex64(1.0)}, TypeError, "hessian must be a number"),
        (LOGIT, {"hessian": 10**400}, ValueError, "hessian must be finite"),
    ]:
        with pytest.raises(error, match=message):
            make(loss, **options)
    with pytest.raises(ValueError, match="labels and predictions must have one row for each other, got 2 and 3"):
        make(LOGIT)(np.zeros(2), np.zeros(3))
    assert make(no_second, hessian=1.0)(np.zeros(1), np.ones(1))[1] == 1.0


def test_a_scale_of_a_constant_dense_labels_and_no_rows():
    hessian = objectives.lightgbm(jitloss.quantile_loss, quantile=0.9, hessian_scale=4.0)(np.zeros(2), np.ones(2))[1]
    np.testing.assert_array_equal(hessian, [4.0, 4.0])
    dense = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(objectives.xgboost(SOFTMAX)(dense, np.zeros((2, 3)))[0], 1 / 3 - dense)
    assert [one.size for one in objectives.xgboost(jitloss.hinge_loss)(np.zeros(0), np.zeros(0))] == [0, 0]


@jitloss.pointwise
def mape(prediction, target):
    return abs(prediction - target), (prediction - target) * 1.0, 1.0


@jitloss.pointwise
def mapped(prediction, target):
    return abs(prediction - target), (prediction - target) * 1.0, 1.0


def test_names_of_which_xgboost_takes_lower_values():
    names = [objectives.xgboost(loss).metric.__name__ for loss in (mape, mapped, pretty)]
    assert names == ["mape", "loss_mapped", "loss_pretty"]


@jitloss.pointwise
def pretty(prediction, target):
    return abs(prediction - target), (prediction - target) * 1.0, 1.0


def test_one_class_has_no_curvature_but_the_floor():
    for make in (objectives.xgboost, objectives.lightgbm):
        np.testing.assert_array_equal(make(SOFTMAX)(np.zeros(2), np.zeros((2, 1)))[1], np.full((2, 1), 1e-16))


def test_signs_between_zero_and_minus_one_are_none():
    gradient, _ = objectives.xgboost(jitloss.hinge_loss)(np.array([-0.5, 1.0]), np.array([0.5, -2.0]))
    np.testing.assert_array_equal(gradient, [0.5, -1.0])


@pytest.mark.parametrize(("labels", "scores"), [(np.float64(1.0), np.zeros(1)), (np.zeros(1), np.float64(0.0))])
def test_labels_and_scores_without_rows(labels, scores):
    with pytest.raises(ValueError, match="must have rows, got the shapes"):
        objectives.xgboost(jitloss.mse_loss)(labels, scores)


def test_options_and_numbers_that_are_the_boosters():
    with pytest.raises(ValueError, match="hessian_scale must be finite and not negative, got inf"):
        objectives.xgboost(LOGIT, hessian_scale=np.inf)
    for name in ("normalizer", "sample_weight", "axis", "out"):
        with pytest.raises(TypeError, match=f"objectives.xgboost: {name} is not an option of an objective"):
            objectives.xgboost(LOGIT, **{name: None})


def test_options_of_class_losses_are_looked_at_when_an_objective_is_made():
    with pytest.raises(ValueError, match="cross_entropy_with_logits: label_smoothing"):
        objectives.xgboost(SOFTMAX, label_smoothing=2.0)


def test_numbers_of_numpy():
    objective = objectives.lightgbm(jitloss.mse_loss, hessian=np.float32(2.0), hessian_scale=np.int64(3))
    np.testing.assert_array_equal(objective(np.zeros(2), np.ones(2))[1], [6.0, 6.0])


def test_a_constant_of_several_classes():
    weight, scores = np.array([1.0, 2.0]), np.zeros((2, 3), np.float32)
    gradient, hessian = objectives.xgboost(SOFTMAX, hessian=0.5)(np.array([0, 2]), scores, weight)
    np.testing.assert_allclose(hessian, [[0.5] * 3, [1.0] * 3])
    assert gradient.dtype == hessian.dtype == np.float32


def test_lower_values_of_a_metric_are_better():
    labels, scores = np.zeros(2), np.ones(2)
    assert objectives.lightgbm(jitloss.mse_loss).metric(labels, scores) == ("mse_loss", 1.0, False)
    assert objectives.xgboost(-2.0 * jitloss.mse_loss).metric.__name__ == "2_mse_loss"


def test_objectives_with_other_defaults_need_no_other_kernel(monkeypatch):
    ran, kernel = set(), compilers.cpu.kernel
    monkeypatch.setattr(compilers.cpu, "kernel", lambda variant: ran.add(variant) or kernel(variant))
    labels, scores, focal = np.array([1.0, 0.0]), np.array([0.5, -1.0]), jitloss.focal_loss_with_logits
    for loss in (focal, focal.with_parameters(alpha=0.75)):
        objectives.xgboost(loss)(labels, scores)
    assert len({variant for variant in ran if variant.definition.has_floor}) == 1


def test_bfloat16_labels_and_no_weights():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    objective = objectives.xgboost(jitloss.mse_loss)
    for labels in (np.zeros(2), np.zeros(2, ml_dtypes.bfloat16)):
        np.testing.assert_array_equal(objective(labels, np.ones(2), np.array([]))[0], [2.0, 2.0])
    np.testing.assert_array_equal(objective(np.array([0.5, 0.25]), np.ones(2, np.int64))[0], [1.0, 1.5])


@jitloss.pointwise
def with_a_bound_of_its_own(prediction, target, min_hessian=2.0):
    error = prediction - target
    return min_hessian * error * error, 2.0 * min_hessian * error, 2.0 * min_hessian


def test_numbers_of_the_objective_and_parameters_of_the_loss():
    scores = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="mse_loss: hessian_scale must be a finite number in float32 arithmetic"):
        objectives.xgboost(jitloss.mse_loss, hessian_scale=1e39)(scores, scores)
    gradient, hessian = objectives.xgboost(with_a_bound_of_its_own, min_hessian=5.0)(0.0 * scores, scores)
    np.testing.assert_array_equal(gradient, [4.0, 4.0])
    np.testing.assert_array_equal(hessian, [5.0, 5.0])
