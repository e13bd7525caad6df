"""Losses made of losses: algebra, weighted sums over named outputs, penalties on dicts of parameters."""

import inspect
import itertools
import operator

import numpy as np
import pytest

import jitloss
from cases import ALL, CASES, PARAMETRISED, Case, agree, draw, flat
from jitloss import compilers, huber_loss, l1_loss, l2_regularization, mse_loss
from jitloss.algebra import sum_of
from jitloss.compilers import cpu
from jitloss.definition import Embedding, RealTarget, Weight

EACH = [case for case in CASES if not case.labels]


def add(first: Case, second: Case):
    try:
        return first.loss + second.loss
    except TypeError:
        return None


PAIRS = [(one, other) for one, other in itertools.combinations(EACH, 2) if add(one, other) is not None]
EACH_IN_BOTH_PLACES = dict.fromkeys([*{pair[0]: pair for pair in PAIRS}.values(), *{pair[1]: pair for pair in PAIRS}.values()])
"""Each loss as the first of a sum and as the second, in few pairs: a kernel of two members takes long to compile."""
STRANGERS = [(one, other) for one, other in itertools.combinations(EACH, 2) if add(one, other) is None]


def inputs_for(first: Case, second: Case):
    """Inputs that both losses accept: a loss of any real number takes the other's."""
    spaces = [[one.space.name for one in case.loss.definition.inputs] for case in (first, second)]
    return draw(second if "real" in spaces[0] else first, first.shape, "float64", seed=5)


def check_sum(loss, parts, inputs, dtype="float64", **options) -> None:
    """A sum against its parts, for every output that it gives."""
    value, gradient = loss.value_and_gradient(*inputs, **options)
    each = [(weight, *one.value_and_gradient(*inputs, **options)) for weight, one in parts]
    size = sum(abs(weight) * float(np.max(np.abs(part), initial=0.0)) for weight, part, _ in each)
    agree(value, sum(weight * part for weight, part, _ in each), dtype, size=size)
    if not options:
        agree(loss(*inputs), value, dtype, size=size)
    for place, mine in enumerate(flat(gradient)):
        own = [weight * flat(part)[place].astype(np.float64) for weight, _, part in each]
        agree(mine, sum(own), size=float(max(np.abs(one).max(initial=0.0) for one in own)))


# Algebra ----------------------------------------------------------------------------------------------------------------------


def test_the_list_has_pairs_and_strangers():
    assert len(PAIRS) > 25
    assert len(STRANGERS) > 50
    alone = {loss.__name__ for loss in ALL} - {case.name for pair in PAIRS for case in pair}
    assert alone == {"cross_entropy_with_logits", "triplet_loss", "contrastive_loss"}


@pytest.mark.parametrize(("first", "second"), EACH_IN_BOTH_PLACES, ids=repr)
def test_sums_are_the_sums_of_their_parts(first, second):
    check_sum(first.loss + 0.5 * second.loss, [(1.0, first.loss), (0.5, second.loss)], inputs_for(first, second))


LAST_PARAMETERS = {
    case: given for case, given in PARAMETRISED if case.rowwise or case.name in ("huber_loss", "focal_loss", "l1_regularization")
}
"""The last of the parameters that a loss is tried with, which are the most: each loss of rows, and some of elements and penalties."""


@pytest.mark.parametrize(("case", "given"), LAST_PARAMETERS.items(), ids=str)
def test_a_loss_is_added_to_itself_with_other_parameters(case, given):
    """Each member keeps its own parameters, and its peaks, sums and coefficients, in one kernel."""
    other = case.loss.with_parameters(**given)
    inputs = draw(case, case.shape, "float64", ignored=True)
    check_sum(case.loss + 0.5 * other, [(1.0, case.loss), (0.5, other)], inputs)
    defaults = {name: one.default for name, one in inspect.signature(other).parameters.items()}
    assert all(defaults[name] == value for name, value in given.items())


@pytest.mark.parametrize(("first", "second"), STRANGERS, ids=repr)
def test_losses_of_other_things_are_not_added(first, second):
    for one, other in ((first, second), (second, first)):
        with pytest.raises(TypeError, match="cannot add") as raised:
            one.loss + other.loss
        assert one.name in str(raised.value)
        assert other.name in str(raised.value)


@pytest.mark.parametrize("case", EACH, ids=repr)
def test_arithmetic(case):
    inputs = draw(case, case.shape, "float64")
    loss = case.loss
    for made, weight in (
        (2.0 * loss, 2.0),
        (loss * np.float32(0.5), 0.5),
        (np.float64(3.0) * loss, 3.0),
        (loss / 4, 0.25),
        (-loss, -1.0),
        (+1 * loss, 1.0),
        (loss - 0.25 * loss, 0.75),
        (loss - loss, 0.0),
        (sum([loss, loss]), 2.0),
        (0 + loss, 1.0),
        (np.int8(2) * (loss / 8), 0.25),
    ):
        check_sum(made, [(weight, loss)], inputs)
        assert made.definition is loss.definition  # the weight is a number of the call: no other kernel
    if not loss.definition.is_penalty:
        check_sum(-2.0 * loss, [(-2.0, loss)], inputs, reduction="none")
        check_sum(-2.0 * loss, [(-2.0, loss)], inputs, sample_weight=np.arange(33) % 3, normalizer="weights")


def test_any_depth():
    total = (mse_loss + 0.5 * (l1_loss - 2.0 * (huber_loss + mse_loss))) / 2.0 + sum([l1_loss, -jitloss.log_cosh_loss])
    assert {loss.__name__: weight for weight, loss in total.terms} == {
        "mse_loss": 0.0,
        "l1_loss": 1.25,
        "huber_loss": -0.5,
        "log_cosh_loss": -1.0,
    }
    inputs = draw(EACH[0], (33,), "float64")
    parts = [(weight, loss) for weight, loss in total.terms]
    for options in ({}, {"reduction": "sum"}, {"reduction": "none"}, {"sample_weight": np.arange(33) % 3, "normalizer": 5.0}):
        check_sum(total, parts, inputs, **options)
    check_sum(total, parts, [array.astype(np.float32) for array in inputs], "float32")
    value, gradient, hessian = total.value_gradient_hessian(*inputs)
    assert value == pytest.approx(total(*inputs))
    agree(hessian, sum(weight * loss.value_gradient_hessian(*inputs)[2] for weight, loss in parts))
    out = inputs[0].copy()
    assert total.gradient(out, inputs[1], out=out) is out
    np.testing.assert_array_equal(out, gradient)


def test_a_sum_is_one_kernel(monkeypatch):
    """One call of one kernel, whatever the number of members; other weights are other numbers, not another kernel."""
    ran = []
    cpu = compilers.cpu
    kernel, run = cpu.kernel, cpu.run
    monkeypatch.setattr(cpu, "kernel", lambda variant: ran.append(variant) or kernel(variant))
    monkeypatch.setattr(cpu, "run", lambda *args: ran.append("run") or run(*args))
    inputs = draw(EACH[0], (33,), "float64")
    (mse_loss + 0.5 * l1_loss + 0.1 * huber_loss).value_and_gradient(*inputs, reduction="sum")
    (9.0 * mse_loss - 0.25 * l1_loss + huber_loss / 3).value_and_gradient(*inputs, reduction="sum")
    assert [one for one in ran if one == "run"] == ["run"] * 2
    first, second = (one for one in ran if one != "run")
    assert first == second
    assert sum_of((mse_loss.definition, l1_loss.definition)) is sum_of((mse_loss.definition, l1_loss.definition))


def test_a_sum_that_is_written_in_a_loop_is_one_loss():
    """So its calls take the fast path from the second step on."""
    one, again = (mse_loss + 0.25 * l1_loss for _ in range(2))
    assert one is again
    assert one is not mse_loss + 0.5 * l1_loss
    many = [number * mse_loss for number in range(2, 700)]
    assert [loss.weights for loss in many] == [(number,) for number in range(2, 700)]
    assert (3.0 * mse_loss)([1.0], [0.0]) == 3.0


def test_parameters_of_sums():
    """Parameters with the same name and default are merged; others are prefixed with their loss's name."""
    together = jitloss.cross_entropy_loss + jitloss.kl_divergence
    assert "epsilon" in together.__signature__.parameters
    apart = huber_loss + 0.5 * huber_loss.with_parameters(delta=3.0)
    names = [name for name in apart.__signature__.parameters if "delta" in name]
    assert len(set(names)) == 2
    inputs = draw(EACH[0], (33,), "float64")
    check = huber_loss(*inputs) + 0.5 * huber_loss(*inputs, 3.0)
    assert apart(*inputs) == pytest.approx(check, rel=1e-14)
    changed = apart(*inputs, **dict.fromkeys(names, 0.5))
    assert changed == pytest.approx(1.5 * huber_loss(*inputs, 0.5), rel=1e-14)
    with pytest.raises(TypeError, match="delta"):
        apart(*inputs, delta=1.0)


@pytest.mark.parametrize("shape", [(40, 20), (3, 2000)])
def test_sums_of_more_terms_than_are_kept_for_a_row(shape):
    loss = jitloss.cross_entropy_with_logits
    parts = [(1.0, loss), (0.5, loss.with_parameters(z_loss=0.1)), (2.0, loss.with_parameters(softcap=5.0))]
    assert sum(part.definition.parts["terms"].results for _, part in parts) > cpu.MOST_KEPT_TERMS
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=shape), random.integers(0, shape[1], shape[0])
    value, gradient = sum(weight * part for weight, part in parts).value_and_gradient(logits, labels)
    singles = [(weight, part.value_and_gradient(logits, labels)) for weight, part in parts]
    np.testing.assert_allclose(value, sum(weight * own for weight, (own, _) in singles), rtol=1e-13)
    np.testing.assert_allclose(gradient, sum(weight * own for weight, (_, own) in singles), rtol=1e-12, atol=1e-16)


def test_sums_of_class_losses_take_labels_and_their_options():
    total = jitloss.cross_entropy_loss + 0.25 * jitloss.cross_entropy_loss.with_parameters(epsilon=0.05)
    case = next(case for case in CASES if case.name == "cross_entropy_loss" and case.labels)
    inputs = draw(case, case.shape, "float64", ignored=True)
    parts = list(total.terms)
    names = [name for name in total.__signature__.parameters if "epsilon" in name]
    assert len(names) == 2
    for options in (
        {},
        {"reduction": "none"},
        {"label_smoothing": 0.1},
        {"class_weight": np.arange(7.0), "normalizer": "weights"},
    ):
        check_sum(total, parts, inputs, **options)
    inputs[1][5] = 7
    with pytest.raises(ValueError, match=r"targets\[5\]"):
        total(*inputs)


@pytest.mark.parametrize("other", [1, 1.0, "loss", None, [1.0], np.ones(3), object()], ids=lambda one: type(one).__name__)
def test_only_losses_are_added(other):
    for function in (operator.add, operator.sub):
        for args in ((mse_loss, other), (other, mse_loss)):
            with pytest.raises(TypeError):
                function(*args)


@pytest.mark.parametrize(
    "other", ["2", None, [2.0], np.ones(3), True, 1j, mse_loss, object()], ids=lambda one: type(one).__name__
)
def test_only_numbers_are_factors(other):
    for function, args in (
        (operator.mul, (mse_loss, other)),
        (operator.mul, (other, mse_loss)),
        (operator.truediv, (mse_loss, other)),
    ):
        with pytest.raises(TypeError):
            function(*args)


@pytest.mark.parametrize("factor", [np.nan, np.inf, -np.inf, 10**400], ids=["nan", "inf", "-inf", "huge"])
def test_factors_are_finite(factor):
    with pytest.raises(ValueError, match="mse_loss: a loss is multiplied by a finite number"):
        mse_loss * factor
    if np.isnan(float(min(factor, 1e308))):
        with pytest.raises(ValueError, match="mse_loss"):
            mse_loss / factor


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0.0)], ids=repr)
def test_nothing_is_divided_by_zero(zero):
    with pytest.raises(ValueError, match="mse_loss: a loss is divided by a number other than 0"):
        mse_loss / zero


def test_names_and_formulas_of_sums():
    total = mse_loss - 0.5 * l1_loss
    assert total.__name__ == "mse_loss - 0.5 * l1_loss"
    assert total.gradient.__name__.startswith("mse_loss - 0.5 * l1_loss")
    assert isinstance(total.formula, str)
    assert isinstance(total.__doc__, str)
    with pytest.raises(ValueError, match="mse_loss"):
        total(np.ones(3), np.ones(2))


# Weighted sums ----------------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.standard_normal((6, 4)), RNG.integers(0, 4, 6)
BOXES, TRUTH = RNG.standard_normal((6, 2)), RNG.standard_normal((6, 2))
EMBEDDED = tuple(RNG.standard_normal((3, 6, 5)))
PAIR, ALIKE = tuple(RNG.standard_normal((2, 6, 5))), np.array([0, 1, 1, 0, 1, 0])
WEIGHTS = {"layer": RNG.standard_normal(3), "more": {"bias": RNG.standard_normal(2)}}

TOTAL = jitloss.weighted_sum(
    label=(jitloss.cross_entropy_with_logits, 2.0),
    box=(mse_loss + 0.5 * l1_loss, 0.25, {"reduction": "sum"}),
    triplet=(jitloss.triplet_loss, 0.1),
    pair=(jitloss.contrastive_loss, 3),
    norm=(l2_regularization, 0.5, {"strength": 0.1}),
    plain=huber_loss,
)
OUTPUTS = {"label": LOGITS, "box": BOXES, "triplet": EMBEDDED, "pair": PAIR, "norm": WEIGHTS, "plain": (1.0, 2.0)}
TARGETS = {"label": LABELS, "box": TRUTH, "pair": ALIKE, "plain": [0.5, 0.0]}


def test_weighted_sum():
    value, gradient = TOTAL.value_and_gradient(OUTPUTS, TARGETS)
    parts = {
        "label": (2.0, jitloss.cross_entropy_with_logits.value_and_gradient(LOGITS, LABELS)),
        "box": (0.25, (mse_loss + 0.5 * l1_loss).value_and_gradient(BOXES, TRUTH, reduction="sum")),
        "triplet": (0.1, jitloss.triplet_loss.value_and_gradient(*EMBEDDED)),
        "pair": (3.0, jitloss.contrastive_loss.value_and_gradient(*PAIR, ALIKE)),
        "norm": (0.5, l2_regularization.value_and_gradient(WEIGHTS, strength=0.1)),
        "plain": (1.0, huber_loss.value_and_gradient([1.0, 2.0], [0.5, 0.0])),
    }
    assert type(value) is float
    assert value == pytest.approx(sum(weight * part[0] for weight, part in parts.values()), rel=1e-14)
    assert TOTAL(OUTPUTS, TARGETS) == pytest.approx(value, rel=1e-14)
    assert list(gradient) == list(parts)
    for name, (weight, (_, own)) in parts.items():
        check_nested(gradient[name], own, weight)
        check_nested(TOTAL.gradient(OUTPUTS, TARGETS)[name], own, weight)
    assert "box=" in repr(TOTAL)


def check_nested(mine, own, weight):
    if isinstance(own, dict):
        assert list(mine) == list(own)
        for key in own:
            check_nested(mine[key], own[key], weight)
    else:
        np.testing.assert_allclose(mine, weight * own, rtol=1e-13, atol=1e-300)


def test_weighted_sum_takes_options_by_output():
    outs = {"label": np.empty_like(LOGITS), "box": np.empty_like(BOXES)}
    weight = np.arange(6.0)
    total = jitloss.weighted_sum(label=(jitloss.cross_entropy_with_logits, 2.0), box=(mse_loss, 1.0, {"normalizer": 4.0}))
    options = {"label": {"sample_weight": weight, "label_smoothing": 0.1, "out": outs["label"]}, "box": {"out": outs["box"]}}
    value, gradient = total.value_and_gradient({"label": LOGITS, "box": BOXES}, {"label": LABELS, "box": TRUTH}, **options)
    label = jitloss.cross_entropy_with_logits(LOGITS, LABELS, sample_weight=weight, label_smoothing=0.1)
    assert value == pytest.approx(2.0 * label + mse_loss(BOXES, TRUTH, normalizer=4.0), rel=1e-13)
    assert all(gradient[name] is outs[name] for name in outs)
    again = total({"label": LOGITS, "box": BOXES}, {"label": LABELS, "box": TRUTH}, box={"normalizer": 8.0})
    plain = 2.0 * jitloss.cross_entropy_with_logits(LOGITS, LABELS)
    assert again == pytest.approx(plain + mse_loss(BOXES, TRUTH, normalizer=8.0), rel=1e-13)


FORMS = ("__call__", "gradient", "value_and_gradient")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("outputs", "targets", "options", "error", "message"),
    [
        ({"a": BOXES}, {"a": TRUTH, "b": TRUTH}, {}, ValueError, "outputs must hold the outputs a, b: b missing"),
        ({"a": BOXES, "b": BOXES}, {"a": TRUTH}, {}, ValueError, "targets must hold the outputs a, b: b missing"),
        ({"a": BOXES, "b": BOXES, "c": 1}, {"a": TRUTH, "b": TRUTH}, {}, ValueError, "c not among them"),
        ({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH, 3: 1}, {}, ValueError, "3 not among them"),
        (BOXES, {"a": TRUTH, "b": TRUTH}, {}, TypeError, "outputs must be a dict by output name, got ndarray"),
        ({"a": BOXES, "b": BOXES}, [TRUTH, TRUTH], {}, TypeError, "targets must be a dict by output name, got list"),
        ({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH}, {"c": {}}, TypeError, "by output name, a, b; got 'c'"),
        ({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH}, {"a": 1}, TypeError, "options of a must be a dict, got 1"),
        ({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH}, {"a": {"axis": 1}}, TypeError, "^a: .*axis"),
        ({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH}, {"b": {"reduction": "none"}}, ValueError, "b has reduction='none'"),
        ({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": LABELS}, {}, ValueError, r"^b: .*\(6, 2\).*\(6,\)"),
        ({"a": (BOXES, TRUTH), "b": BOXES}, {"a": TRUTH, "b": TRUTH}, {}, ValueError, "^a: "),
    ],
)
def test_bad_weighted_sums(form, outputs, targets, options, error, message):
    total = jitloss.weighted_sum(a=(mse_loss, 1.0), b=(l1_loss, 2.0))
    with pytest.raises(error, match=message):
        getattr(total, form)(outputs, targets, **options)


def test_a_weighted_sum_that_fails_has_written_nothing():
    """Whichever of its calls fails, for whatever reason."""
    total = jitloss.weighted_sum(
        box=mse_loss, label=jitloss.cross_entropy_with_logits, other=jitloss.cross_entropy_with_logits, same=mse_loss
    )
    labels = np.zeros(len(LOGITS), int)
    good = {"box": TRUTH, "label": labels, "other": labels, "same": TRUTH.copy()}
    outputs = {"box": BOXES, "label": LOGITS, "other": LOGITS, "same": BOXES}
    outs = {name: np.full_like(one, 5.0) for name, one in outputs.items()}
    total.value_and_gradient(outputs, good, **{name: {"out": out.copy()} for name, out in outs.items()})
    bad = labels + LOGITS.shape[1]
    for targets, options in (
        ({"label": bad}, {}),
        ({"other": bad}, {}),
        ({"label": bad}, {"label": {}}),
        ({}, {"other": {"out": outs["other"], "axis": 7}}),
        ({}, {"box": {"out": np.ones(3)}}),
        ({"same": outs["same"]}, {}),
        ({"same": outs["box"]}, {}),
    ):
        given = {name: {"out": out} for name, out in outs.items()} | options
        with pytest.raises((ValueError, TypeError), match=r"(box|label|other|same): |overlaps"):
            total.value_and_gradient(outputs, {**good, **targets}, **given)
        assert all((out == 5.0).all() for out in outs.values())


def test_outputs_of_several_arrays_are_a_tuple():
    total = jitloss.weighted_sum(a=(jitloss.triplet_loss, 1.0))
    for bad in (EMBEDDED[0], list(EMBEDDED), EMBEDDED[:2], dict(enumerate(EMBEDDED))):
        with pytest.raises(TypeError, match=r"output a must be a tuple \(anchors, positives, negatives\)"):
            total({"a": bad}, {})


def test_an_output_is_written_where_nothing_else_lies():
    total = jitloss.weighted_sum(a=(mse_loss, 1.0), b=(l1_loss, 2.0))
    first, second, out = BOXES.copy(), BOXES.copy(), np.full_like(BOXES, 5.0)
    targets = {"a": TRUTH, "b": TRUTH}
    for outs in ((out, out), (second, None), (None, first), (out, out[::-1])):
        options = {name: {"out": one} for name, one in zip("ab", outs, strict=True)}
        with pytest.raises(ValueError, match=r"weighted_sum: out of [ab] overlaps an array of [ab]"):
            total.gradient({"a": first, "b": second}, targets, **options)
    assert (out == 5.0).all()
    want = total.gradient({"a": BOXES, "b": BOXES}, targets)
    got = total.gradient({"a": first, "b": second}, targets, a={"out": first}, b={"out": second})
    assert got["a"] is first
    check_nested(got, want, 1.0)


@pytest.mark.parametrize("option", ["sample_weight", "class_weight"])
def test_an_output_is_written_where_no_weights_of_another_lie(option):
    total = jitloss.weighted_sum(a=(mse_loss, 1.0), b=(jitloss.cross_entropy_with_logits, 1.0))
    logits, labels, numbers = np.zeros((4, 4)), np.arange(4), np.ones(4)
    weights = np.arange(1.0, 5.0)
    with pytest.raises(ValueError, match="weighted_sum: out of a overlaps an array of b"):
        total.gradient({"a": numbers, "b": logits}, {"a": numbers, "b": labels}, a={"out": weights}, b={option: weights})
    assert weights.tolist() == [1.0, 2.0, 3.0, 4.0]
    got = total.gradient(
        {"a": numbers, "b": logits},
        {"a": numbers, "b": labels},
        a={"out": numbers.copy(), "sample_weight": weights},
        b={option: weights},
    )
    want = total.gradient(
        {"a": numbers, "b": logits}, {"a": numbers, "b": labels}, a={"sample_weight": weights}, b={option: weights}
    )
    check_nested(got, want, 1.0)


@pytest.mark.parametrize(
    ("term", "error"),
    [
        (1.0, TypeError),
        ((mse_loss,), TypeError),
        ((mse_loss, 1.0, {}, 1), TypeError),
        ((mse_loss, 1.0, 1), TypeError),
        ([mse_loss, 1.0], TypeError),
        (("mse_loss", 1.0), TypeError),
        ((mse_loss.gradient, 1.0), TypeError),
        ((mse_loss, "1"), TypeError),
        ((mse_loss, None), TypeError),
        ((mse_loss, True), TypeError),
        ((mse_loss, np.ones(2)), TypeError),
        ((mse_loss, np.nan), ValueError),
        ((mse_loss, np.inf), ValueError),
        ((mse_loss, 10**400), ValueError),
        ((TOTAL, 1.0), TypeError),
    ],
)
def test_bad_terms(term, error):
    with pytest.raises(error, match=r"weighted_sum: .*name"):
        jitloss.weighted_sum(name=term)


def test_a_sum_of_nothing():
    with pytest.raises(ValueError, match="at least one output"):
        jitloss.weighted_sum()


def test_what_is_plain_is_not_looked_at_twice(monkeypatch, short_way):
    """NumPy arrays are not on a device, and nothing is written without ``out``."""
    total = jitloss.weighted_sum(a=(mse_loss, 2.0), b=(jitloss.cross_entropy_with_logits, 0.5))
    outputs, targets = {"a": BOXES, "b": LOGITS}, {"a": TRUTH, "b": np.zeros(len(LOGITS), int)}
    outs = {name: {"out": np.empty_like(one)} for name, one in outputs.items()}
    want = total.value_and_gradient(outputs, targets)

    def refuse(*args):
        raise AssertionError("looked at")

    for name in ("library_of", "check_apart"):
        monkeypatch.setattr(f"jitloss.composition.{name}", refuse)
    for options in ({}, outs):
        value, gradient = short_way(total.value_and_gradient, outputs, targets, **options)
        assert value == want[0]
        check_nested(gradient, want[1], 1.0)


# Penalties --------------------------------------------------------------------------------------------------------------------

PENALTIES = [case for case in EACH if case.loss.definition.is_penalty]
each_penalty = pytest.mark.parametrize("case", PENALTIES, ids=repr)


def parameters():
    """A model: arrays of several shapes and dtypes, in nested dicts, one of them empty."""
    random = np.random.default_rng(1)
    return {
        "weight": random.standard_normal((4, 3)),
        3: random.standard_normal(5).astype(np.float32),
        "block": {"bias": random.standard_normal(()), "empty": np.empty((0, 2)), "deeper": {"list": [1.0, -2.0]}},
        "none": {},
    }


def leaves(nested):
    return [leaf for one in nested.values() for leaf in leaves(one)] if isinstance(nested, dict) else [nested]


@each_penalty
def test_penalties_of_nested_dicts(case):
    params = parameters()
    value, gradient = case.loss.value_and_gradient(params, strength=0.3)
    each = [case.loss.value_and_gradient(leaf, strength=0.3) for leaf in leaves(params)]
    assert (type(value), value) == (float, pytest.approx(sum(one for one, _ in each), rel=1e-14))
    assert case.loss(params, strength=0.3) == pytest.approx(value, rel=1e-6)
    for found in (gradient, case.loss.gradient(params, strength=0.3), case.loss.value_gradient_hessian(params, strength=0.3)[1]):
        assert list(found) == list(params)
        assert list(found["block"]["deeper"]) == ["list"]
        for mine, (_, right), given in zip(leaves(found), each, leaves(params), strict=True):
            np.testing.assert_array_equal(mine, right)
            assert mine.shape == np.shape(given)
            assert mine.dtype == (np.float64 if isinstance(given, list) else given.dtype)
    doubled = (2.0 * case.loss).value_and_gradient(params)
    assert doubled[0] == pytest.approx(2.0 * case.loss(params))


@each_penalty
def test_penalties_of_nothing(case):
    assert case.loss({}) == 0.0
    assert case.loss.gradient({}) == {}
    assert case.loss.value_and_gradient({"a": {}}) == (0.0, {"a": {}})
    assert case.loss.value_gradient_hessian({}) == (0.0, {}, {})
    with pytest.raises(ValueError, match="strength"):
        case.loss({}, strength=-1.0)
    with pytest.raises(ValueError, match="out must be a dict with the arrays nothing, got a"):
        case.loss.gradient({}, out={"a": np.ones(2)})


@each_penalty
def test_penalties_into_out(case):
    params = {"a": np.arange(4.0), "b": {"c": np.arange(3.0) - 1.0}}
    want = case.loss.gradient(params)
    outs = {"a": np.empty(4), "b": {"c": np.empty(3)}}
    got = case.loss.gradient(params, out=outs)
    assert got["a"] is outs["a"]
    assert got["b"]["c"] is outs["b"]["c"]
    check_nested(got, want, 1.0)
    bends = {"a": np.empty(4), "b": {"c": np.empty(3)}}
    value, slopes, curvature = case.loss.value_gradient_hessian(params, out=(outs, bends))
    assert curvature["b"]["c"] is bends["b"]["c"]
    assert slopes["a"] is outs["a"]
    assert value == pytest.approx(case.loss(params))
    in_place = {"a": params["a"].copy(), "b": {"c": params["b"]["c"].copy()}}
    check_nested(case.loss.gradient(in_place, out=in_place), want, 1.0)


@each_penalty
def test_penalties_of_small_arrays_take_the_short_way(case, short_way, monkeypatch):
    params = {"a": np.arange(4.0), "b": np.arange(6.0).reshape(2, 3) - 1.0}
    want = case.loss.value_and_gradient(params, strength=0.3)
    each = [case.loss.value_and_gradient(one, strength=0.3) for one in params.values()]
    assert want[0] == sum(one for one, _ in each)
    outs = {name: np.full_like(one, 7.0) for name, one in params.items()}
    in_place = {name: one.copy() for name, one in params.items()}

    def refuse(*args):
        raise AssertionError("looked at")

    for name in ("library_of", "check_apart"):
        monkeypatch.setattr(f"jitloss.composition.{name}", refuse)
    for given, options in ((params, {}), (params, {"out": None}), (params, {"out": outs}), (in_place, {"out": in_place})):
        value, gradient = short_way(case.loss.value_and_gradient, given, strength=0.3, **options)
        assert value == want[0]
        check_nested(gradient, want[1], 1.0)
        if options.get("out") is not None:
            assert all(one is options["out"][name] for name, one in gradient.items())
    with pytest.raises(ValueError, match=r"params\['a'\]: .*strength"):
        case.loss(params, strength=-1.0)


@each_penalty
def test_bad_penalties(case):
    a, b = np.arange(3.0), np.arange(3.0) + 5.0
    params = {"a": a, "b": b}
    spare = np.full(3, 9.0)
    for out, error, message in (
        ({"a": spare}, ValueError, "out must be a dict with the arrays a, b, got a"),
        ({"a": spare, "b": spare.copy(), "c": spare}, ValueError, "got a, b, c"),
        (spare, TypeError, "out must be a dict like params, got ndarray"),
        ({"a": spare, "b": spare}, ValueError, "out of . overlaps an array of ."),
        ({"a": b, "b": a}, ValueError, "out of . overlaps an array of ."),
        ({"a": spare, "b": a}, ValueError, "out of b overlaps an array of a"),
        ({"a": [1.0], "b": spare}, TypeError, r"params\['a'\].*out must be a NumPy array"),
        ({"a": np.ones(2), "b": spare}, ValueError, r"params\['a'\].*shape"),
        ({"a": spare, "b": np.ones(2)}, ValueError, r"params\['b'\].*shape"),
        ({"a": spare, "b": np.ones(3, np.float32)}, ValueError, r"params\['b'\].*dtype"),
        ({"a": spare, "b": b[::-1]}, ValueError, r"params\['b'\].*overlaps"),
    ):
        with pytest.raises(error, match=message):
            case.loss.gradient(params, out=out)
    assert (spare == 9.0).all()
    np.testing.assert_array_equal(a, np.arange(3.0))
    with pytest.raises(TypeError, match="out must be a pair of dicts"):
        case.loss.value_gradient_hessian(params, out=params)
    with pytest.raises(TypeError, match=r"params\['x'\]: params\['y'\]: .*str"):
        case.loss({"x": {"y": "text"}})
    with pytest.raises(TypeError, match="reduction"):
        case.loss(params, reduction="mean")
    with pytest.raises(TypeError, match=r"\(params, strength=0.01"):
        case.loss()
    with pytest.raises(TypeError, match="set"):
        case.loss({1.0, 2.0})


@jitloss.pointwise
def squares(weight: Weight, k=1.0):
    return k * weight * weight, 2.0 * k * weight


@jitloss.rowwise
class rows_of_squares:
    def terms(weight: Weight):
        return weight * weight

    def value(sums):
        return sums

    def slope(weight):
        return 2.0 * weight


@pytest.mark.parametrize("loss", [squares, rows_of_squares], ids=lambda one: one.__name__)
def test_custom_penalties_take_dicts(loss):
    params = {"a": np.ones((1, 2)), "b": {"c": np.full((2, 1), 3.0)}}
    value, gradients = loss.value_and_gradient(params)
    assert value == 20.0
    np.testing.assert_array_equal(gradients["b"]["c"], [[6.0], [6.0]])
    assert (0.5 * loss)(weights=params) == 10.0
    with pytest.raises(TypeError, match=r"weights\['a'\]: .*weights must be"):
        loss({"a": ["text"]})


def test_sums_with_custom_penalties_take_dicts():
    params = {"a": np.array([2.0, -1.0])}
    want = squares(params) + jitloss.l1_regularization(params)
    for loss in (squares + jitloss.l1_regularization, jitloss.l1_regularization + squares):
        assert isinstance(loss, jitloss.Penalty)
        assert loss(params) == pytest.approx(want)


def test_weights_that_overflow():
    large = 1e200 * mse_loss
    with pytest.raises(ValueError, match="mse_loss: a loss is multiplied by a finite number, got inf in all"):
        large * 1e200


def test_what_a_later_call_refuses_is_known_before_anything_is_written():
    total = jitloss.weighted_sum(a=mse_loss, b=mse_loss)
    outs = {name: np.full_like(BOXES, 5.0) for name in "ab"}
    options = {"a": {"out": outs["a"]}, "b": {"out": outs["b"], "sample_weight": -np.ones(len(BOXES))}}
    with pytest.raises(ValueError, match=r"b: .*sample_weight"):
        total.gradient({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH}, **options)
    whole = np.full(3, 7)
    with pytest.raises(ValueError, match=r"params\['b'\].*dtype"):
        jitloss.l2_regularization.gradient({"a": BOXES, "b": np.arange(3)}, out={"a": outs["a"], "b": whole})
    assert (outs["a"] == 5.0).all()


def test_a_penalty_of_a_weighted_sum_has_an_output():
    total = jitloss.weighted_sum(a=mse_loss, w=jitloss.l2_regularization)
    with pytest.raises(ValueError, match="outputs must hold the outputs a, w: w missing"):
        total({"a": BOXES}, {"a": TRUTH})


def test_factors_beyond_float32_are_for_float64():
    assert (1e39 * mse_loss)(np.ones(2), np.zeros(2)) == 1e39


def test_second_derivatives_of_weighted_sums():
    total = jitloss.weighted_sum(a=(mse_loss, 2.0), b=(jitloss.huber_loss, 0.5, {"delta": 2.0}))
    value, gradients, hessians = total.value_gradient_hessian({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH})
    assert (value, gradients.keys()) == (total({"a": BOXES, "b": BOXES}, {"a": TRUTH, "b": TRUTH}), {"a", "b"})
    np.testing.assert_array_equal(hessians["a"], (2.0 * mse_loss).value_gradient_hessian(BOXES, TRUTH)[2])
    np.testing.assert_array_equal(hessians["b"], (0.5 * jitloss.huber_loss).value_gradient_hessian(BOXES, TRUTH, delta=2.0)[2])
    with pytest.raises(NotImplementedError, match="triplet_loss: the diagonal of its second derivative is not defined"):
        jitloss.weighted_sum(a=jitloss.triplet_loss).value_gradient_hessian({"a": (BOXES, BOXES, TRUTH)}, {})


def test_options_of_terms_are_looked_at_when_they_are_given():
    with pytest.raises(TypeError, match="weighted_sum: a: mse_loss has no option 'foo'; it has check, normalizer, out"):
        jitloss.weighted_sum(a=(mse_loss, 1.0, {"foo": 1}))


def test_a_refused_array_of_a_penalty_comes_before_any_is_written():
    x, buffer, closed = np.ones(8, np.float32), np.arange(16, dtype=np.float32), np.empty(8, np.float32)
    closed.flags.writeable = False
    unaligned = np.zeros(33, np.uint8)[1:].view(np.float32)
    for array, out in ((buffer[:8], buffer[4:12]), (np.ones(8, np.float32), closed)):
        first, before = np.full(8, 5.0, np.float32), buffer.copy()
        with pytest.raises(ValueError, match=r"params\['b'\]: .*out "):
            jitloss.l2_regularization.gradient({"a": x, "b": array}, out={"a": first, "b": out})
        assert (first == 5.0).all()
        np.testing.assert_array_equal(buffer, before)
    got = jitloss.l2_regularization.gradient({"a": x, "b": x}, out={"a": np.empty(8, np.float32), "b": unaligned})
    np.testing.assert_array_equal(got["b"], got["a"])


def test_a_number_for_a_row_is_refused_before_anything_is_written():
    total = jitloss.weighted_sum(a=jitloss.mse_loss, b=jitloss.cross_entropy_with_logits)
    first, one = np.full(3, 5.0), np.array(1.0)
    outs = {"a": {"out": first}, "b": {"out": np.array(0.0)}}
    with pytest.raises(ValueError, match="axis"):
        total.gradient({"a": np.ones(3), "b": one}, {"a": np.zeros(3), "b": one.copy()}, **outs)
    assert (first == 5.0).all()


def test_strided_outputs_over_what_another_call_reads():
    total, buffer = jitloss.weighted_sum(a=jitloss.mse_loss, b=jitloss.mse_loss), np.zeros(16)
    outputs, targets = {"a": np.ones(8), "b": buffer[8:]}, {"a": np.zeros(8), "b": np.ones(8)}
    with pytest.raises(ValueError, match="out of a overlaps an array of b"):
        total.gradient(outputs, targets, a={"out": buffer[::2]})
    assert (buffer == 0.0).all()


def test_targets_may_name_an_output_without_one():
    total = jitloss.weighted_sum(a=jitloss.mse_loss, p=jitloss.l2_regularization)
    outputs = {"a": [1.0], "p": [2.0]}
    assert total(outputs, {"a": [0.0], "p": None}) == total(outputs, {"a": [0.0]})


def test_targets_of_an_output_without_one_are_rejected():
    total = jitloss.weighted_sum(a=jitloss.mse_loss, p=jitloss.l2_regularization)
    with pytest.raises(ValueError, match="targets must hold the outputs a: p not among them"):
        total({"a": [1.0], "p": [2.0]}, {"a": [0.0], "p": [0.0]})
    with pytest.raises(ValueError, match="targets must be empty: p not among them"):
        jitloss.weighted_sum(p=jitloss.l2_regularization)({"p": [2.0]}, {"p": [0.0]})


@jitloss.pointwise
def weighted_square(prediction, target, weight):
    error = prediction - target
    return weight * error * error, 2.0 * weight * error


@jitloss.rowwise
class between:
    """A row with dense targets and one number for the row, in that order, and then one more array."""

    def terms(prediction, target, other):
        return target * prediction * other

    def value(sums, label):
        return sums * label, label

    def slope(target, other, label_of_row):
        return target * other * label_of_row


def test_inputs_keep_their_order():
    """Targets need not be the last inputs of a loss."""
    p, t, w = np.array([1.0, 2.0]), np.array([0.5, 0.0]), np.array([1.0, 10.0])
    total = jitloss.weighted_sum(a=weighted_square)
    want = weighted_square.value_and_gradient(p, t, w)
    value, gradient = total.value_and_gradient({"a": (p, w)}, {"a": t})
    assert value == want[0] == 20.125
    np.testing.assert_array_equal(gradient["a"], want[1])


def test_several_targets_are_a_tuple():
    p, t, o, k = np.ones((2, 3)), np.full((2, 3), 2.0), np.full((2, 3), 5.0), np.array([1.0, 3.0])
    names = [one.public for one in between.definition.inputs]
    given = dict(zip(("predictions", "targets", "others", "labels"), (p, t, o, k), strict=True))
    want = between(*(given[name] for name in names))
    total = jitloss.weighted_sum(a=between)
    assert total({"a": (p, o)}, {"a": (t, k)}) == want == 60.0
    for bad, got in (((t,), "a tuple of 1"), (t, "ndarray")):
        with pytest.raises(TypeError, match=rf"the target a must be a tuple \(targets, labels\), got {got}"):
            total({"a": (p, o)}, {"a": bad})


def test_what_is_not_finite_is_named_by_its_output():
    total = jitloss.weighted_sum(box=jitloss.mse_loss, score=jitloss.mse_loss)
    bad = np.array([0.0, np.nan])
    with jitloss.errstate(invalid="raise"):
        with pytest.raises(FloatingPointError, match=r"^score: mse_loss is nan: first at item 1"):
            total({"box": np.zeros(2), "score": bad}, {"box": np.zeros(2), "score": np.zeros(2)})
        with pytest.raises(FloatingPointError, match=r"params\['n'\].*l2_regularization is nan: first at item 1"):
            jitloss.l2_regularization({"w": np.zeros(2), "n": {"b": bad}})


def test_options_of_a_term_are_those_that_were_given():
    options = {"delta": 1.0}
    total = jitloss.weighted_sum(a=(jitloss.huber_loss, 1.0, options))
    before = total({"a": [5.0]}, {"a": [0.0]})
    options["delta"] = 9.0
    assert total({"a": [5.0]}, {"a": [0.0]}) == before


def test_parameters_that_have_places_come_first_in_sums():
    """Whichever loss they belong to."""
    bce, focal = jitloss.binary_cross_entropy_with_logits, jitloss.focal_loss_with_logits
    total, x, t = bce + focal, np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.0, 0.0])
    assert list(inspect.signature(total).parameters)[:5] == ["logits", "targets", "gamma", "alpha", "pos_weight"]
    assert total(x, t, 1.5, 0.5, pos_weight=3.0) == pytest.approx(bce(x, t, pos_weight=3.0) + focal(x, t, 1.5, 0.5), rel=1e-14)
    with pytest.raises(TypeError, match="too many positional"):
        total(x, t, 1.5, 0.5, 3.0)


@pytest.mark.parametrize("plain", [False, True])
def test_an_output_is_no_map_of_what_another_call_reads(plain, tmp_path):
    np.arange(6000.0).tofile(tmp_path / "raw")
    kind = np.asarray if plain else lambda one: one
    read = kind(np.memmap(tmp_path / "raw", np.float64, "r", 0, (4096,)))
    out = kind(np.memmap(tmp_path / "raw", np.float64, "r+", 4096, (4096,)))
    other, zeros = np.ones(4096), np.zeros(4096)
    total = jitloss.weighted_sum(a=jitloss.mse_loss, b=jitloss.mse_loss)
    for _ in range(2):
        for first, second in (("a", "b"), ("b", "a")):
            with pytest.raises(ValueError, match=f"out of {first} overlaps an array of {second}"):
                total.gradient({first: other, second: read}, {"a": zeros, "b": zeros}, **{first: {"out": out}})
        with pytest.raises(ValueError, match="out of a overlaps an array of b"):
            jitloss.l2_regularization.gradient({"a": other, "b": read}, out={"a": out, "b": np.empty(4096)})
    np.testing.assert_array_equal(np.fromfile(tmp_path / "raw"), np.arange(6000.0))


@jitloss.rowwise
class of_any_target:
    """A loss of rows whose targets may be any real numbers."""

    def terms(prediction, target: RealTarget):
        error = prediction - target
        return error * error

    def value(sums):
        return sums, 2.0

    def slope(prediction, target, weight):
        return weight * (prediction - target)


def test_a_sum_takes_what_all_of_its_members_take():
    """Whichever comes first: real numbers leave the choice to the other, labels are taken where both losses take them."""
    p, flags = np.array([0.5, -1.0, 2.0]), np.array([True, False, False])
    for total in (mse_loss + jitloss.hinge_loss, jitloss.hinge_loss + mse_loss):
        assert total(p, flags) == total(p, np.where(flags, 1.0, -1.0))
    case = next(case for case in CASES if case.name == "cross_entropy_loss" and case.labels)
    rows, labels = draw(case, case.shape, "float64")
    for total in (jitloss.cross_entropy_loss + of_any_target, of_any_target + jitloss.cross_entropy_loss):
        assert total(rows, labels) == pytest.approx(total(rows, np.eye(7)[labels]), rel=1e-14)
    kl = jitloss.kl_divergence
    for total in (jitloss.cross_entropy_loss + kl, kl + jitloss.cross_entropy_loss):
        with pytest.raises(ValueError, match="same shape"):
            total(rows, labels)
    bce, focal = jitloss.binary_cross_entropy_with_logits, jitloss.focal_loss_with_logits
    soft, given = np.array([0.3, 1.0, 0.0]), {"class_weight": np.array([1.0, 3.0])}
    assert (bce + focal)(p, soft, **given) == pytest.approx((focal + bce)(p, soft, **given), rel=1e-14)


@jitloss.pointwise
def alone(parameter):
    return parameter * parameter, 2.0 * parameter


@jitloss.rowwise
class third_by_element:
    """Like contrastive loss it takes three arrays, but the last one has a number for each element."""

    def terms(embedding1: Embedding, embedding2: Embedding, target: RealTarget):
        error = embedding1 - embedding2 - target
        return error * error

    def value(sums):
        return sums, 2.0

    def slope(embedding1, embedding2, target, scale):
        return scale * (embedding1 - embedding2 - target), scale * (embedding2 - embedding1 + target)


@pytest.mark.parametrize(
    ("first", "second"), [(jitloss.l1_regularization, alone), (jitloss.contrastive_loss, third_by_element)], ids=repr
)
def test_inputs_that_differ_in_kind_are_not_added(first, second):
    for one, other in ((first, second), (second, first)):
        with pytest.raises(TypeError, match="they take different inputs"):
            one + other


@jitloss.pointwise
def first_of_names(score, label, f_scale=2.0, target=0.5, predictions=0.25, on=True, scale=3.0):
    error = score - label
    extra = 1.0 if on else 0.0
    value = (scale + 10.0 * f_scale + 100.0 * target + 1000.0 * predictions) * error + extra * error
    return value, scale + 10.0 * f_scale + 100.0 * target + 1000.0 * predictions + extra


@jitloss.pointwise
def f(score, label, scale=5.0, on=1.0):
    return scale * on * (score - label), scale * on


def test_names_of_parameters_that_are_taken():
    """By an input, by another parameter, or by one that is merged with nothing because a switch is no number."""
    total = mse_loss + first_of_names + f + f.with_parameters(scale=7.0)
    own = list(inspect.signature(total).parameters)
    assert own[2 : own.index("reduction")] == [
        "f_scale", "first_of_names_target", "first_of_names_predictions", "first_of_names_on", "first_of_names_scale",
        "f_scale_2", "f_on", "f_scale_3",
    ]  # fmt: skip
    x, t = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.0, 0.5])
    check_sum(total, list(total.terms), [x, t])
    given = {"f_scale": 0.1, "first_of_names_target": 0.2, "first_of_names_predictions": 0.3, "f_scale_2": 0.4, "f_scale_3": 0.6}
    want = mse_loss(x, t) + first_of_names(x, t, 0.1, 0.2, 0.3) + f(x, t, 0.4) + f(x, t, 0.6)
    assert total(x, t, **given) == pytest.approx(want, rel=1e-13)
    turned = f + mse_loss + first_of_names
    assert [name for name in inspect.signature(turned).parameters if "scale" in name] == [
        "f_scale_0",
        "f_scale",
        "first_of_names_scale",
    ]
    check_sum(turned, list(turned.terms), [x, t])


@jitloss.rowwise
class weighted_rows:
    weight: float = 3.0

    def terms(prediction, target, weight):
        return weight * prediction * target

    def value(sums):
        return sums

    def slope(target, weight):
        return weight * target


def test_numbers_of_a_row_are_no_parameters_of_others():
    inputs = np.random.default_rng(0).normal(size=(2, 5, 3))
    for parts in ((of_any_target, weighted_rows), (weighted_rows, of_any_target)):
        check_sum(sum(parts), [(1.0, one) for one in parts], inputs)


def test_a_sum_has_a_second_derivative_where_all_its_members_have_one():
    for total in (mse_loss + first_of_names, first_of_names + mse_loss):
        with pytest.raises(NotImplementedError, match="the diagonal of its second derivative is not defined"):
            total.value_gradient_hessian([1.0], [0.0])


def test_messages_name_a_loss_once():
    with pytest.raises(ValueError, match=r"^huber_loss: "):
        (huber_loss + huber_loss.with_parameters(delta=3.0))(np.ones(3), np.ones(2))


def test_sums_with_other_defaults_need_no_other_kernel(monkeypatch):
    ran, kernel = [], compilers.cpu.kernel
    monkeypatch.setattr(compilers.cpu, "kernel", lambda variant: ran.append(variant) or kernel(variant))
    inputs = draw(EACH[0], (33,), "float64")
    for one in (huber_loss, huber_loss.with_parameters(delta=0.3)):
        check_sum(one + 0.4375 * mse_loss, [(1.0, one), (0.4375, mse_loss)], inputs)  # sums that no other test made
    of_sums = [variant for variant in ran if variant.definition.sum_of]
    assert len(of_sums) == 4
    assert len(set(of_sums)) == 2  # with and without the gradient
