"""Watching for NaN and inf: which loss, which item, in which thread; and weights balanced from the labels."""

import asyncio
import threading
import warnings

import numpy as np
import pytest

import jitloss
from cases import CASES, draw, is_binary
from jitloss import errstate, monitoring, mse_loss

NAN, INF = np.nan, np.inf
GOOD, ZEROS = np.arange(4.0), np.zeros(4)
BAD = np.array([1.0, INF, NAN, 2.0])

each_case = pytest.mark.parametrize("case", CASES, ids=repr)


def poisoned(case, dtype="float32"):
    """Inputs with NaN in the sixth item."""
    inputs = draw(case, case.shape, dtype)
    inputs[0][5] = NAN
    return inputs


@each_case
def test_raise_names_the_loss_and_the_first_item(case):
    inputs = poisoned(case)
    inputs[0][9] = NAN
    for name in ("value", "gradient", "value_and_gradient"):
        with errstate(invalid="raise"), pytest.raises(FloatingPointError) as raised:
            getattr(case.loss, name)(*inputs)
        assert str(raised.value) == f"{case.name} is nan: first at item 5, whose value is nan"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            getattr(case.loss, name)(*inputs)  # outside nothing is said


@each_case
def test_warn_gives_the_result_and_says_where(case):
    inputs = poisoned(case)
    plain = case.loss(*inputs)
    forms = (case.loss, case.loss.value, case.loss.gradient, case.loss.value_and_gradient)
    for form in forms:
        with errstate(invalid="warn"), pytest.warns(RuntimeWarning, match=f"{case.name} is nan: first at item 5,") as caught:
            result = form(*inputs)
        assert [one.filename for one in caught] == [__file__]
        assert np.isnan(plain)
        assert result is not None


@each_case
def test_finite_losses_say_nothing(case):
    inputs = draw(case, case.shape, "float32", ignored=True)
    if case.labels:
        inputs[0][1::3] = NAN  # ignored
    with errstate(invalid="raise"):
        want = case.loss.value_and_gradient(*inputs)
        for reduction in () if case.loss.definition.is_penalty else ("sum", "none"):
            case.loss.value_and_gradient(*inputs, reduction=reduction)
        if not case.loss.definition.is_penalty:
            inputs[0][5] = NAN
            weight = np.ones(33)
            weight[5] = 0.0
            case.loss(*inputs, sample_weight=weight)
    assert np.isfinite(want[0])


def test_the_first_item_of_many_axes():
    predictions = np.zeros((3, 4))
    predictions[1, 2] = INF
    with errstate(invalid="raise"):
        with pytest.raises(FloatingPointError, match=r"^mse_loss is inf: first at item \(1, 2\), whose value is inf$"):
            mse_loss(predictions, np.zeros((3, 4)))
        with pytest.raises(FloatingPointError, match=r"^mse_loss is inf: first at item \(1, 2\)"):
            mse_loss(predictions, np.zeros((3, 4)), reduction="none")
        with pytest.raises(FloatingPointError, match=r"cross_entropy_with_logits is nan: first at item \(1, 2\)"):
            jitloss.cross_entropy_with_logits(predictions[:, None, :] * np.ones((3, 5, 4)), np.zeros((3, 4), int), axis=1)
        with pytest.raises(FloatingPointError, match=r"^mse_loss is nan: first at item 0,"):
            mse_loss(NAN, 0.0)


def test_a_sum_that_overflows():
    with errstate(invalid="raise"), pytest.raises(FloatingPointError, match="every item is finite, their sum is not"):
        mse_loss(np.full(4, 1e154), ZEROS)


def test_gradients_are_watched():
    @jitloss.pointwise
    def steep(prediction, target):
        return prediction - target, 1.0 / prediction

    with errstate(invalid="raise"):
        assert steep(ZEROS, ZEROS) == 0.0
        with pytest.raises(FloatingPointError, match=r"^the gradient of steep is not finite: first at element 2$"):
            steep.gradient([1.0, 2.0, 0.0, 0.0], ZEROS)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_half_types_overflow_only_where_their_results_do(dtype):
    """An item too large for float16 does not raise while the value is finite."""
    predictions = np.array([300.0, 1.0], dtype)
    with errstate(invalid="raise"):
        assert mse_loss(predictions, np.zeros(2, dtype)) == 45000.5
        assert mse_loss.value_and_gradient(predictions, np.zeros(2, dtype))[0] == 45000.5
        if dtype == "float16":
            with pytest.raises(FloatingPointError, match=r"^mse_loss is inf: first at item 0, whose value is inf$"):
                mse_loss(predictions, np.zeros(2, dtype), reduction="none")


def test_sums_and_weighted_sums_name_the_loss():
    total = jitloss.weighted_sum(first=(mse_loss + jitloss.l1_loss, 0.5), second=(jitloss.huber_loss, 2.0))
    with errstate(invalid="raise"):
        with pytest.raises(FloatingPointError, match=r"mse_loss \+ l1_loss is inf: first at item 1"):
            total({"first": BAD[:2], "second": GOOD}, {"first": ZEROS[:2], "second": ZEROS})
        with pytest.raises(FloatingPointError, match="huber_loss is nan: first at item 1"):
            total({"first": GOOD, "second": BAD}, {"first": ZEROS, "second": ZEROS})


def test_contexts_are_nested():
    outer, inner = errstate(invalid="raise"), errstate(invalid="ignore")
    with outer:
        with inner:
            mse_loss(BAD, ZEROS)
            with outer, pytest.raises(FloatingPointError):  # the same one again
                mse_loss(BAD, ZEROS)
            mse_loss(BAD, ZEROS)
        with pytest.raises(FloatingPointError):
            mse_loss(BAD, ZEROS)
    mse_loss(BAD, ZEROS)
    with pytest.raises(RuntimeError, match="mine"), errstate(invalid="raise"):
        raise RuntimeError("mine")
    mse_loss(BAD, ZEROS)


def test_decorated_functions():
    @errstate(invalid="raise")
    def step(predictions, *, targets):
        """A step."""
        return mse_loss(predictions, targets)

    assert (step.__name__, step.__doc__) == ("step", "A step.")
    assert step(GOOD, targets=ZEROS) == 3.5
    with pytest.raises(FloatingPointError):
        step(BAD, targets=ZEROS)
    mse_loss(BAD, ZEROS)


def test_decorated_coroutines():
    @errstate(invalid="raise")
    async def step():
        await asyncio.sleep(0)
        return mse_loss(BAD, ZEROS)

    async def main():
        with pytest.raises(FloatingPointError):
            await step()
        mse_loss(BAD, ZEROS)

    assert step.__name__ == "step"
    asyncio.run(main())


def test_contexts_leave_nothing_behind():
    for _ in range(3):
        with errstate(invalid="warn"):
            pass
    assert monitoring.WATCHED == [True]


def test_threads_are_apart():
    """A context is local to its thread, even if several threads share one object and leave it in another order."""
    shared, inside, leave = errstate(invalid="raise"), threading.Barrier(3), threading.Barrier(3)
    found, failures = {}, []

    def work(name):
        try:
            mse_loss(BAD, ZEROS)
            with shared:
                inside.wait(10)
                with pytest.raises(FloatingPointError):
                    mse_loss(BAD, ZEROS)
                leave.wait(10)
            mse_loss(BAD, ZEROS)
            found[name] = True
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    inside.wait(10)
    mse_loss(BAD, ZEROS)  # not here
    leave.wait(10)
    for thread in threads:
        thread.join()
    assert not failures
    assert found == {"a": True, "b": True}


def test_tasks_are_apart():
    shared = errstate(invalid="raise")

    async def watched(started, finish):
        with shared:
            started.set()
            await finish.wait()
            with pytest.raises(FloatingPointError):
                mse_loss(BAD, ZEROS)
        mse_loss(BAD, ZEROS)
        return True

    async def main():
        started, finish = (asyncio.Event(), asyncio.Event()), (asyncio.Event(), asyncio.Event())
        tasks = [asyncio.create_task(watched(*pair)) for pair in zip(started, finish, strict=True)]
        for event in started:
            await event.wait()
        mse_loss(BAD, ZEROS)
        for event in finish:
            event.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [True, True]


@pytest.mark.parametrize("invalid", ["stop", None, True, [], "Raise"], ids=repr)
def test_bad_actions(invalid):
    with pytest.raises(ValueError, match="errstate: invalid must be 'raise', 'warn' or 'ignore', got"):
        errstate(invalid=invalid)
    with pytest.raises(TypeError):
        errstate("raise")


def test_out_is_written_before_the_error():
    """So the numbers that the error is about can be inspected."""
    out = np.zeros(4)
    with errstate(invalid="raise"), pytest.raises(FloatingPointError):
        mse_loss.gradient(BAD, ZEROS, out=out)
    np.testing.assert_array_equal(out, 2.0 * BAD / 4.0)


# Balancing --------------------------------------------------------------------------------------------------------------------


def balanced(labels, classes):
    """scikit-learn's formula, 1 for a class that does not occur."""
    counts = np.bincount(labels, minlength=classes).astype(float)
    weights = np.ones(classes)
    weights[counts > 0] = labels.size / ((counts > 0).sum() * counts[counts > 0])
    return weights


def test_the_formula_is_that_of_scikit_learn():
    utils = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.array([0, 1, 1, 3, 3, 3, 3])
    found = utils.compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(balanced(labels, 4)[[0, 1, 3]], found, rtol=1e-15)


@pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.takes_labels and case.labels], ids=repr)
def test_balanced_classes(case):
    logits, labels = draw(case, case.shape, "float32", ignored=True)
    labels[labels == 4] = 2
    weights = balanced(labels[labels >= 0], 7)
    for options in ({}, {"normalizer": "weights"}, {"reduction": "none"}, {"sample_weight": np.arange(33) % 2}):
        want = case.loss.value_and_gradient(logits, labels, class_weight=weights, **options)
        for kind in (np.int64, np.int8):
            got = case.loss.value_and_gradient(logits, labels.astype(kind), class_weight="balanced", **options)
            np.testing.assert_array_equal(got[0], want[0])
            np.testing.assert_array_equal(got[1], want[1])
    everything_ignored = np.full(33, -100)
    assert case.loss(logits, everything_ignored, class_weight="balanced", normalizer="weights") == 0.0
    one_hot = np.eye(7, dtype=np.float32)[np.maximum(labels, 0)]
    labels[3] = 7
    with pytest.raises(ValueError, match=r"targets\[3\]"):
        case.loss(logits, labels, class_weight="balanced")
    dense = case.loss(logits, one_hot, class_weight="balanced")
    assert dense == pytest.approx(case.loss(logits, one_hot, class_weight=balanced(one_hot.argmax(1), 7)), rel=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if is_binary(case)], ids=repr)
def test_balanced_yes_and_no(case):
    predictions, soft = draw(case, case.shape, "float32")
    for targets in (np.round(soft), np.round(soft).astype(bool), np.ones(33), np.zeros(33, np.int8)):
        ones, zeros = np.count_nonzero(targets), np.count_nonzero(targets == 0)
        weights = balanced(targets.astype(int), 2)
        want = case.loss.value_and_gradient(predictions, targets, class_weight=weights)
        got = case.loss.value_and_gradient(predictions, targets, class_weight="balanced")
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])
        if "pos_weight" in case.loss.__signature__.parameters:
            ratio = zeros / ones if ones and zeros else 1.0
            assert case.loss(predictions, targets, pos_weight="balanced") == case.loss(predictions, targets, pos_weight=ratio)
