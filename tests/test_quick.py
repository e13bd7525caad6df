"""The fast path: bitwise the results of the slow path, its error messages, and no influence of one call on another."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import jitloss
from cases import CASES, PARAMETRISED, Case, draw, is_binary, weights
from jitloss.plans import MOST_PLANS
from jitloss.quick import Quick
from jitloss.running import CHUNK, SERIAL, compiler
from ways import bits, forgetting, long_way

FORMS = ("value", "gradient", "value_and_gradient")


def served(case: Case) -> bool:
    return Quick.serves(case.loss.definition, case.loss.value.wants)


SERVED = [case for case in CASES if served(case)]
LABELS = [case for case in SERVED if case.labels]

each_case = pytest.mark.parametrize("case", SERVED, ids=repr)
each_label_case = pytest.mark.parametrize("case", LABELS, ids=repr)


forgetful = forgetting(SERVED, FORMS)


@pytest.fixture
def agrees(short_way):
    """A function that makes a call on both paths, and asserts that they agree."""

    def check(form: Any, *args: Any, **options: Any) -> None:
        right = bits(long_way(form, *args, **options))
        assert bits(form(*args, **options)) == right, "the first call, which may find the plan of another"
        assert bits(short_way(form, *args, **options)) == right
        if form.kind != "value":
            out = np.full_like(args[0], 7)
            assert bits(short_way(form, *args, **options, out=out)) == right
            first = args[0].copy()
            assert bits(short_way(form, first, *args[1:], **options, out=first)) == right

    return check


def refused_alike(form: Any, *args: Any, out: Any = None, **options: Any) -> str:
    """Assert that a call raises the same error on both paths, and writes nothing; returns its message."""
    messages, before = [], None if out is None else np.asarray(out).tobytes()
    given = options if out is None else {**options, "out": out}
    for way in (long_way, type(form).__call__):
        with pytest.raises((TypeError, ValueError)) as raised:
            way(form, *args, **given)
        messages.append((raised.type, str(raised.value)))
        assert out is None or np.asarray(out).tobytes() == before
    assert messages[0] == messages[1]
    return messages[0][1]


# The same bits ----------------------------------------------------------------------------------------------------------------


def boundaries(case: Case) -> list[int]:
    """The longest rows of each kind of loop except the last."""
    layouts = [compiler().layout(case.loss.definition, columns, 1) for columns in range(1, 20_000)]
    return [columns for columns in range(1, len(layouts)) if layouts[columns - 1] != layouts[columns]]


def shapes(case: Case) -> list[tuple[int, ...]]:
    """Shapes around every boundary: of the loops, of one thread, of the chunks."""
    if not case.rowwise:
        sizes = (1, 33, CHUNK - 1, CHUNK, CHUNK + 1, SERIAL - 1, SERIAL, SERIAL + 1, 3 * CHUNK, 3 * CHUNK + 1, 100_003)
        return [(), *((size,) for size in sizes), (5, 7, 11)]
    found = [(1, 1), (33, 7), (7,), (2, 3, 5), (SERIAL // 8, 8), (SERIAL // 8 + 1, 8), (SERIAL + 1, 1), (9001, 11), (64, 1000)]
    for columns in boundaries(case):
        rows = CHUNK // columns or 1
        found += [(count, columns + more) for more in (0, 1) for count in (3, 2 * rows, 2 * rows + 1, 3 * rows + 1)]
    return found + [(2, CHUNK), (2, CHUNK + 1), (3, SERIAL + 1)]


@each_case
def test_same_bits_around_every_boundary(case, agrees):
    for shape in shapes(case):
        agrees(case.loss.value_and_gradient, *draw(case, shape, "float32"))


@each_case
@pytest.mark.parametrize("name", FORMS)
def test_same_bits_in_every_form(case, name, agrees):
    many = (2 * SERIAL // 7, 7) if case.rowwise else (2 * SERIAL,)
    for shape in (case.shape, many):
        agrees(getattr(case.loss, name), *draw(case, shape, "float32"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("case", [case for case in SERVED if case.name in ("mse_loss", "cross_entropy_with_logits")], ids=repr)
def test_same_bits_in_every_dtype(case, dtype, agrees):
    for shape in (case.shape, (2 * SERIAL // 7, 7)):
        agrees(case.loss.value_and_gradient, *draw(case, shape, dtype))


def test_a_sum_of_losses(agrees):
    loss = 2.0 * jitloss.mse_loss + 0.5 * jitloss.l1_loss
    for size in (33, 2 * SERIAL):
        agrees(loss.value_and_gradient, *draw(CASES[0], (size,), "float32"))


def test_many_elements_take_all_threads_and_few_take_one(monkeypatch):
    case = SERVED[0]
    form = case.loss.value
    form(*draw(case, (33,), "float32"))
    counts: list[int] = []
    run = compiler().run
    monkeypatch.setattr(compiler(), "run", lambda *args: counts.append(args[2]) or run(*args))
    for size in (SERIAL, SERIAL + 1):
        form(*draw(case, (size,), "float32"))
    assert counts == [SERIAL + 1]


@each_case
def test_streamed_outputs(case, agrees, monkeypatch):
    """Both kinds of stores are tried; in place there is only one."""
    monkeypatch.setattr("jitloss.stores.cache_bytes", lambda: 0)
    for way in (False, True):
        monkeypatch.setattr("jitloss.stores.faster", lambda kernel, moved, new, run, way=way: run(way))
        agrees(case.loss.value_and_gradient, *draw(case, (SERIAL // 40, 41) if case.rowwise else (SERIAL + 1,), "float32"))


def test_ways_of_storing_are_tried_by_what_calls_have_in_common(monkeypatch):
    case, seen = SERVED[0], []
    args = draw(case, (SERIAL + 1,), "float32")
    out = np.empty_like(args[0])
    monkeypatch.setattr("jitloss.stores.faster", lambda kernel, moved, new, run: seen.append((kernel, moved, new)) or run(True))
    for cache in (3 * args[0].nbytes, 3 * args[0].nbytes - 1):
        monkeypatch.setattr("jitloss.stores.cache_bytes", lambda cache=cache: cache)
        for way in (long_way, type(case.loss.gradient).__call__):
            way(case.loss.gradient, *args)
            way(case.loss.gradient, *args, out=out)
            way(case.loss.gradient, args[0], args[1], out=args[0].copy())
            way(case.loss.value, *args)
    assert [new for *_, new in seen] == [True, False, False] * 2
    assert seen[:3] == seen[3:]


@each_case
@pytest.mark.parametrize("name", FORMS)
def test_values_that_are_not_reduced(case, name, agrees):
    shape = (SERIAL // 40, 41) if case.rowwise else (SERIAL + 1,)
    for dtype in ("float16", "float32") if name == "value_and_gradient" else ("float32",):
        agrees(getattr(case.loss, name), *draw(case, shape, dtype), reduction="none")
    agrees(getattr(-0.3 * case.loss, name), *draw(case, shape, "float32"), reduction="none")


def test_from_several_threads_at_once():
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    form, args = case.loss.value_and_gradient, draw(case, (64, 1000), "float32")
    right = bits(long_way(form, *args))
    with ThreadPoolExecutor(4) as pool:
        assert all(bits(one) == right for one in pool.map(lambda _: form(*args), range(64)))


# Options ----------------------------------------------------------------------------------------------------------------------


def options_of(case: Case) -> list[dict[str, Any]]:
    given: list[dict[str, Any]] = [{"reduction": "sum"}, {"normalizer": 3}, {"normalizer": "weights"}, {"sample_weight": None}]
    if case.loss.definition.takes_labels:
        given += [{"label_smoothing": 0.1}, {"ignore_index": 1}, {"ignore_index": None, "reduction": "sum"}, {"axis": -1}]
    return given


@each_case
def test_same_bits_with_options(case, agrees):
    for options in options_of(case):
        for shape in (case.shape, (SERIAL // 9 + 1, 9) if case.rowwise else (SERIAL + 1,)):
            agrees(case.loss.value_and_gradient, *draw(case, shape, "float32"), **options)


@pytest.mark.parametrize(
    ("case", "options"), [(case, options) for case, options in PARAMETRISED if served(case)], ids=lambda one: repr(one)
)
def test_same_bits_with_parameters(case, options, agrees):
    args = draw(case, case.shape, "float32")
    agrees(case.loss.value_and_gradient, *args)
    agrees(case.loss.value_and_gradient, *args, **options)
    agrees(case.loss.value_and_gradient, *args, **{name: np.asarray(value).item() for name, value in reversed(options.items())})


def test_parameters_by_place(agrees):
    args = draw(CASES[0], (33,), "float32")
    for delta in (0.5, 2, 2.0):
        agrees(jitloss.huber_loss.value_and_gradient, *args, delta)
        agrees(jitloss.huber_loss.value_and_gradient, *args, delta=delta)
        agrees(jitloss.huber_loss.value_and_gradient, *args, delta, reduction="sum")
        agrees(jitloss.huber_loss.value_and_gradient, *args)


def test_smoothing_depends_on_the_columns(agrees):
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    for columns in (7, 9, 7, 300, 301):
        agrees(case.loss.value_and_gradient, *draw(case, (5, columns), "float32"), label_smoothing=0.25)


def test_numbers_that_a_dict_takes_for_each_other():
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    form, args = case.loss.value_and_gradient, draw(case, case.shape, "float32")
    for zero in (0.0, -0.0, 0):
        form(*args, z_loss=zero)
        assert bits(form(*args, z_loss=zero)) == bits(long_way(form, *args, z_loss=zero))
    for _ in range(2):
        form(*args, normalizer=1, label_smoothing=1.0)
    refused_alike(form, *args, normalizer=True, label_smoothing=1.0)
    refused_alike(form, *args, normalizer=1, label_smoothing=True)
    form(*args, ignore_index=1)
    refused_alike(form, *args, ignore_index=1.0)
    refused_alike(form, *args, ignore_index=True)


def test_the_last_axis_by_its_number():
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    form = case.loss.value_and_gradient
    for shape in ((5, 4), (5, 4, 3), (5, 4), (4, 1, 1), (4, 7, 1), (5, 4)):
        args = draw(case, shape, "float32", axis=1)
        for _ in range(2):
            assert bits(form(*args, axis=1)) == bits(long_way(form, *args, axis=1)), shape


def test_what_depends_on_the_targets_is_not_kept():
    case = next(case for case in SERVED if is_binary(case) and case.name == "binary_cross_entropy_with_logits")
    form, (logits, _) = case.loss.value_and_gradient, draw(case, (40,), "float32")
    for ones in (10, 30):
        targets = (np.arange(40) < ones).astype(np.float32)
        for options in ({"pos_weight": "balanced"}, {"class_weight": "balanced"}):
            for _ in range(2):
                assert bits(form(logits, targets, **options)) == bits(long_way(form, logits, targets, **options))
    assert form._quick is None or not form._quick.plans


def test_weights_and_single_values():
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    form, args = case.loss.value_and_gradient, draw(case, (33, 7), "float32")
    for options in (
        {"sample_weight": np.arange(33.0)},
        {"class_weight": [1.0] * 7},
        {"reduction": "none"},
        {"class_weight": None},
    ):
        for _ in range(2):
            assert bits(form(*args, **options)) == bits(long_way(form, *args, **options))


WEIGHTED = {
    "sample": lambda items, columns: {"sample_weight": weights(items)},
    "zeros": lambda items, columns: {"sample_weight": np.arange(np.prod(items)).reshape(items) % 3},
    "sum": lambda items, columns: {"sample_weight": weights(items), "reduction": "sum"},
    "classes": lambda items, columns: {"class_weight": weights((columns,), seed=1)},
    "both": lambda items, columns: {
        "class_weight": weights((columns,), seed=1),
        "sample_weight": weights(items),
        "label_smoothing": 0.1,
    },
}


@pytest.mark.parametrize("kind", WEIGHTED)
@each_case
def test_arrays_of_weights(case, kind, agrees):
    for shape in ((33, 7), (5, 4, 3)) if case.rowwise else ((33,), (5, 7)):
        items = shape[:-1] if case.rowwise else shape
        options = WEIGHTED[kind](items, shape[-1])
        if case.loss.definition.is_penalty or ("class_weight" in options and not case.loss.definition.takes_labels):
            return
        for dtype in ("float32", "float64"):
            agrees(case.loss.value_and_gradient, *draw(case, shape, dtype, ignored=case.labels), **options)


@each_case
def test_weights_that_leave_no_plan(case):
    """The divisor of a mean, or the weight of an item, changes in each call."""
    form, args = case.loss.value_and_gradient, draw(case, case.shape, "float32", ignored=case.labels)
    items, classes = case.shape[:-1] if case.rowwise else case.shape, case.shape[-1] if case.rowwise else 2
    for name in ("sample_weight", "class_weight") if is_binary(case) or case.loss.definition.takes_labels else ("sample_weight",):
        for seed in range(4):
            mine = {"sample_weight": weights(items, seed=seed)}
            if name == "class_weight":
                mine[name] = weights((classes,), seed=seed)
            for normalizer in ("weights", "count"):
                options = {**mine, "normalizer": normalizer}
                assert bits(form(*args, **options)) == bits(long_way(form, *args, **options))


def test_wrong_weights_are_the_same_errors_after_right_ones():
    logits, labels = draw(LABELS[0], (33, 7))
    form, out = LABELS[0].loss.value_and_gradient, np.empty_like(logits)
    right = np.ones(33)
    for _ in range(2):
        form(logits, labels, sample_weight=right, class_weight=np.ones(7), out=out)
    for options, message in [
        (
            {"sample_weight": np.r_[right[:-1], -1.0], "class_weight": np.ones(7)},
            "sample_weight must not be negative, infinite or NaN",
        ),
        (
            {"sample_weight": np.r_[right[:-1], np.nan], "class_weight": np.ones(7)},
            "sample_weight must not be negative, infinite or NaN",
        ),
        ({"sample_weight": right[:-1], "class_weight": np.ones(7)}, "sample_weight must have the leading axes"),
        ({"sample_weight": right, "class_weight": np.ones(6)}, "class_weight must hold one weight for each of 7 classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            form(logits, labels, **options)
    for options in (
        {"sample_weight": right + 0j, "class_weight": np.ones(7)},
        {"sample_weight": right, "class_weight": right[:7] + 0j},
    ):
        with pytest.raises(TypeError, match="must hold numbers, got complex128"):
            form(logits, labels, **options)
    shared = np.ones(33 * 7 + 7)
    with pytest.raises(ValueError, match="out overlaps another array of the call"):
        form(logits, labels, sample_weight=shared[:33], class_weight=np.ones(7), out=shared[: 33 * 7].reshape(33, 7))
    value, gradient = form(logits, labels, sample_weight=2 * right, class_weight=np.ones(7), normalizer="weights")
    want = LABELS[0].loss.value_and_gradient(logits, labels)
    assert value == pytest.approx(want[0], rel=1e-14)
    np.testing.assert_allclose(gradient, want[1], rtol=1e-13)


# Numbers that change ----------------------------------------------------------------------------------------------------------


def numbers_of(case: Case, name: str) -> list[Any]:
    """Numbers that a parameter may take, including the default and small ones, as Python's and NumPy's types."""
    parameter = next(one for one in case.loss.definition.parameters if one.name == name)
    given = [0.25, 0.3, 1e-3, 1e-12, 2.0, 2, 1, 0.0, 1.0, 0.1 + 0.2, np.float32(0.3), np.float64(0.4), np.int64(1), np.uint8(2)]
    usual = [one for one in (parameter.default, parameter.usual) if isinstance(one, float)]
    return [one for one in (*usual, *given, *usual) if float(one) in parameter.range and np.float32(one) in parameter.range]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", ["few", "many"])
@each_case
def test_parameters_that_are_others_in_each_call(case, shape, dtype, short_way):
    args = draw(case, case.shape if shape == "few" else (SERIAL // 7 + 1, 7) if case.rowwise else (SERIAL + 1,), dtype)
    form = case.loss.value_and_gradient
    for parameter in case.loss.definition.parameters:
        if isinstance(parameter.default, bool):
            continue
        numbers = numbers_of(case, parameter.name)
        first = next(one for one in numbers if one != parameter.usual)
        for one in {
            first,
            *[parameter.usual] * (parameter.usual is not None),
        }:  # one kernel for the usual number, one for all others
            form(*args, **{parameter.name: one})
        for one in numbers:
            options = {parameter.name: one}
            assert bits(short_way(form, *args, **options)) == bits(long_way(form, *args, **options)), options
        if form.positional[2:3] == (parameter.name,):
            assert bits(short_way(form, *args, first)) == bits(long_way(form, *args, first))


USUAL = [(case, one) for case in SERVED for one in case.loss.definition.parameters if isinstance(one.usual, float)]


@pytest.mark.parametrize(("case", "parameter"), USUAL, ids=lambda one: getattr(one, "name", repr(one)))
def test_a_kernel_that_has_the_usual_number_serves_no_other(case, parameter):
    args, form = draw(case, case.shape, "float32"), case.loss.value_and_gradient
    for first in (parameter.usual, parameter.usual * 0.75):
        form._quick = None
        form(*args, **{parameter.name: first})
        for one in numbers_of(case, parameter.name):
            options = {parameter.name: one}
            assert bits(form(*args, **options)) == bits(long_way(form, *args, **options)), options


@pytest.mark.parametrize("case", [case for case in SERVED if case.loss.definition.takes_labels], ids=repr)
def test_a_kernel_without_smoothing_serves_no_other(case):
    args, form = draw(case, case.shape, "float32"), case.loss.value_and_gradient
    for first in (0.0, 1e-60, 0.5):
        form._quick = None
        form(*args, label_smoothing=first)
        for number in (0.1, 1, 0.0, 1e-60):
            assert bits(form(*args, label_smoothing=number)) == bits(long_way(form, *args, label_smoothing=number)), number


@each_case
def test_normalizers_and_smoothing_that_are_others_in_each_call(case, short_way):
    args, form = draw(case, case.shape, "float32"), case.loss.value_and_gradient
    for reduction in ("mean", "sum"):
        form(*args, normalizer=3.0, reduction=reduction)
        for number in (1, 2.5, np.float32(0.1), np.int64(64), 1e30, 5e-324):
            options = {"normalizer": number, "reduction": reduction}
            assert bits(short_way(form, *args, **options)) == bits(long_way(form, *args, **options)), options
    if case.loss.definition.takes_labels:
        form(*args, label_smoothing=0.5)
        form(*args, label_smoothing=0.0)
        for number in (0.1, 1, 1.0, 0, 1e-60, np.float64(0.2)):
            options = {"label_smoothing": number}
            assert bits(short_way(form, *args, **options)) == bits(long_way(form, *args, **options)), options


def test_a_sum_has_parameters_that_are_others_in_each_call(short_way):
    args = draw(CASES[0], (33,), "float32")
    form = (2.0 * jitloss.huber_loss + 0.5 * jitloss.quantile_loss.with_parameters(quantile=0.2)).value_and_gradient
    form(*args, delta=2.0, quantile=0.3)
    for delta, quantile in ((0.5, 0.9), (1.5, 0.1)):
        options = {"quantile": quantile, "delta": delta}
        form(*args, **options)  # named in another order, which is another plan
        for more in (0.0, 0.01):
            options = {"quantile": quantile + more, "delta": delta}
            assert bits(short_way(form, *args, **options)) == bits(long_way(form, *args, **options))


def test_numbers_that_are_refused_are_the_same_errors():
    args = draw(CASES[0], (33,), "float32")
    form, out = jitloss.huber_loss.value_and_gradient, np.full_like(args[0], 3)
    for right in ({"delta": 0.5}, {"delta": 0.5, "normalizer": 3}):
        form(*args, **right)
        for wrong in (-1.0, 0, 0.0, -0.0, np.nan, np.inf, 10**400, "u", "n", "number", True, np.True_, None, [0.5], 1j):
            refused_alike(form, *args, out=out, **{**right, "delta": wrong})
            refused_alike(form, *args, out=out, delta=0.7, normalizer=wrong)
            refused_alike(form, *args, wrong, out=out)
        refused_alike(form, *args, out=out, delta=1e300)  # of float32
        refused_alike(form, *args, 0.5, delta=0.6)
        refused_alike(form, *args, 0.5, 0.6)
        refused_alike(form, *args, 0.6, nonsense=0.5)
        refused_alike(form, *args, delta=np.timedelta64(1, "s"), nonsense=0.5)
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    form, args = case.loss.value_and_gradient, draw(case, case.shape, "float32")
    form(*args, label_smoothing=0.5)
    for wrong in (-0.1, 1.1, np.nan, True, False, np.True_, "number", np.longdouble(1) + np.finfo(np.longdouble).eps):
        refused_alike(form, *args, label_smoothing=wrong)


def test_switches_and_places_of_numpy(short_way):
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    form, args = case.loss.value_and_gradient, draw(case, case.shape, "float32")
    for options in ({"axis": np.int64(1)}, {"axis": np.int8(-1)}, {"ignore_index": np.uint8(1), "reduction": "sum"}):
        form(*args, **options)
        assert bits(short_way(form, *args, **options)) == bits(long_way(form, *args, **options))
    refused_alike(form, *args, axis=np.float64(1))
    refused_alike(form, *args, axis=np.True_)
    form, args = jitloss.poisson_nll_loss.value_and_gradient, draw(Case(jitloss.poisson_nll_loss), (33,), "float32")
    for full in (np.True_, np.False_):
        form(*args, full=full)
        assert bits(short_way(form, *args, full=full)) == bits(long_way(form, *args, full=full))
    refused_alike(form, *args, full=np.int64(1))


def test_numbers_of_several_threads_are_their_own():
    args = draw(CASES[0], (513,), "float32")
    form = jitloss.huber_loss.value_and_gradient
    numbers = [0.5 + number / 1000 for number in range(400)]
    right = [bits(long_way(form, *args, delta=delta, normalizer=delta)) for delta in numbers]
    form(*args, delta=0.4, normalizer=2.0)
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda delta: bits(form(*args, delta=delta, normalizer=delta)), numbers)] == right


def test_a_number_that_changes_leaves_the_plans_of_others(short_way):
    form, args = jitloss.huber_loss.value_and_gradient, draw(CASES[0], (33,), "float32")
    form(*args, reduction="sum")
    form(*args, delta=0.5)
    for number in range(2 * MOST_PLANS):
        short_way(form, *args, delta=2.0 + number)
    assert len(form._quick.plans) < 5
    short_way(form, *args, reduction="sum")
    short_way(form, *args, delta=0.5)


def test_plans_are_bounded(short_way):
    """The oldest one is dropped."""
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    form, args = case.loss.value, draw(case, case.shape, "float32")
    for number in range(MOST_PLANS + 3):
        form(*args, ignore_index=-1 - number)
        assert len(form._quick.plans) <= MOST_PLANS
    for number in (3, MOST_PLANS + 2):
        short_way(form, *args, ignore_index=-1 - number)
    with pytest.raises(AssertionError, match="slow path"):
        short_way(form, *args, ignore_index=-3)
    for columns in range(2, MOST_PLANS + 5):  # whose kernels are few
        form(*draw(case, (2, columns), "float32"), label_smoothing=0.25)
    assert max(map(len, (form._quick.plans, form._quick.kinds, form._quick.workings))) <= MOST_PLANS


# Inputs by name ---------------------------------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("name", FORMS)
def test_inputs_by_name(case, name, short_way):
    form = getattr(case.loss, name)
    first, second = form.inputs
    for shape in (case.shape, (SERIAL // 7 + 1, 7) if case.rowwise else (SERIAL + 1,)):
        args = draw(case, shape, "float32")
        named = {first: args[0], second: args[1]}
        form._quick = None
        right = bits(form(**named))
        assert right == bits(long_way(form, *args))
        for given, options in ((), named), ((), {second: args[1], first: args[0]}), (args[:1], {second: args[1]}), (args, {}):
            assert bits(short_way(form, *given, **options)) == right
            if name != "value":
                out = np.full_like(args[0], 7)
                assert bits(short_way(form, *given, **options, out=out)) == right
        form(*args, reduction="sum")
        want = bits(long_way(form, *args, reduction="sum"))
        assert bits(short_way(form, reduction="sum", **named)) == want
        assert bits(short_way(form, args[0], **{second: args[1], "reduction": "sum"})) == want


def test_inputs_by_name_that_are_wrong():
    first, second = draw(CASES[0], (33,), "float32")
    out = np.full_like(first, 7)
    for form in (jitloss.mse_loss.gradient, jitloss.huber_loss.value_and_gradient):
        form(first, second)
        for args, options in [
            ((), {}),
            ((), {"predictions": first}),
            ((), {"targets": first}),
            ((first,), {}),
            ((first,), {"predictions": second}),
            ((first,), {"predictions": second, "targets": second}),
            ((first, second), {"targets": second}),
            ((first, second), {"predictions": 1}),
            ((), {"predictions": first, "target": second}),
            ((first,), {"targets": second, "nonsense": 1}),
            ((first,), {"targets": second[:-1]}),
            ((first,), {"targets": "text"}),
        ]:
            refused_alike(form, *args, out=out, **options)


def test_wrong_options_are_the_same_errors():
    case = SERVED[0]
    args = draw(case, case.shape, "float32")
    for form in (case.loss.value, case.loss.value_and_gradient):
        form(*args)
        for options in ({"nonsense": 1}, {"reduction": "product"}, {"normalizer": 0}, {"targets": args[1]}, {"predictions": 1}):
            for _ in range(2):
                refused_alike(form, *args, **options)
    for out in (None, args[0].copy()):
        for _ in range(2):
            with pytest.raises(TypeError, match="out"):
                case.loss.value(*args, out=out)


# Labels -----------------------------------------------------------------------------------------------------------------------

MANY = (SERIAL + 3, 2)
"""So many rows that their labels are counted on all threads."""


@each_label_case
@pytest.mark.parametrize("shape", [(33, 7), (200, 300), MANY, (9 * SERIAL, 2)])
def test_ignored_labels(case, shape, agrees):
    agrees(case.loss.value_and_gradient, *draw(case, shape, "float32", ignored=True))
    agrees(case.loss.value_and_gradient, *draw(case, shape, "float32"))
    agrees(case.loss.value_and_gradient, *draw(case, shape, "float32", ignored=True), reduction="sum")


@each_label_case
def test_labels_that_are_all_ignored(case):
    inputs, labels = draw(case, (33, 7), "float32")
    form = case.loss.value_and_gradient
    for reduction in ("mean", "sum"):
        for _ in range(2):
            form(inputs, labels, reduction=reduction)
        value, gradient = form(inputs, np.full_like(labels, -100), reduction=reduction)
        assert value == 0.0
        assert not gradient.any()


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint64", "bool"])
def test_labels_of_every_dtype(dtype, agrees):
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    logits, labels = draw(case, (33, 2), "float32", ignored=dtype.startswith("int"))
    agrees(case.loss.value_and_gradient, logits, labels.astype(dtype))
    agrees(case.loss.value_and_gradient, logits, np.abs(labels % 2).astype(dtype), ignore_index=1)


@each_label_case
@pytest.mark.parametrize("shape", [(33, 7), MANY])
@pytest.mark.parametrize("ignored", [-100, None, 1])
def test_bad_labels(case, shape, ignored):
    inputs, labels = draw(case, shape, "float32")
    form, out = case.loss.value_and_gradient, np.full_like(inputs, 3)
    for options in ({"ignore_index": ignored}, {"ignore_index": ignored, "label_smoothing": 0.1}):
        for wrong in (shape[1], -1, -(2**63), 2**40):
            form(inputs, labels, **options)
            bad = labels.copy()
            bad[5] = wrong
            assert "row 5" in refused_alike(form, inputs, bad, out=out, **options)
            refused_alike(form, inputs, bad, out=inputs, **options)


def test_unsigned_labels_that_wrap_around():
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    logits, labels = draw(case, (33, 7), "float32")
    form, labels = case.loss.value_and_gradient, labels.astype(np.uint64)
    for wrong in (2**64 - 100, 2**63, 2**64 - 1):
        bad = labels.copy()
        bad[5] = wrong
        for options in ({}, {"ignore_index": None}):
            form(logits, labels, **options)
            refused_alike(form, logits, bad, **options)


@each_label_case
def test_labels_and_rows_in_turn(case, agrees):
    dense = Case(case.loss)
    for one in (case, dense, case):
        agrees(case.loss.value_and_gradient, *draw(one, (33, 7), "float32"))
    inputs, labels = draw(case, (7, 7), "float32")
    rows = np.eye(7, dtype=np.int64)[labels]
    for targets in (labels, rows, labels, rows):
        form = case.loss.value_and_gradient
        assert bits(form(inputs, targets)) == bits(long_way(form, inputs, targets))


# Arrays -----------------------------------------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("many", [False, True])
def test_out_that_must_not_be_written(case, many):
    shape = case.shape if not many else (SERIAL // 7 + 1, 7) if case.rowwise else (SERIAL + 1,)
    args = draw(case, shape, "float32")
    form, size = case.loss.gradient, args[0].size
    form(*args)
    buffer = np.resize(args[0], 2 * size + 1)
    first = buffer[:size].reshape(shape)
    form(first, args[1])
    refused_alike(form, first, args[1], out=buffer[1 : size + 1].reshape(shape))
    locked = args[0].copy()
    locked.flags.writeable = False
    refused_alike(form, *args, out=locked)
    refused_alike(form, locked, args[1], out=locked)
    refused_alike(form, *args, out=args[0].astype(np.float64))
    refused_alike(form, *args, out=np.zeros((*shape, 1), np.float32))
    if args[1].dtype == args[0].dtype and args[1].shape == shape:
        refused_alike(form, *args, out=args[1])
        for start in (1, size - 1):
            buffer = np.zeros(2 * size, np.float32)
            second = buffer[start : start + size].reshape(shape)
            second[...] = args[1]
            refused_alike(form, args[0], second, out=buffer[:size].reshape(shape))
            refused_alike(form, args[0], buffer[:size].reshape(shape), out=second)


@each_case
def test_out_beside_an_input_in_one_buffer(case, short_way):
    args = draw(case, case.shape, "float32")
    size, form = args[0].size, case.loss.gradient
    buffer = np.zeros(2 * size, np.float32)
    first, out = (part.reshape(case.shape) for part in (buffer[:size], buffer[size:]))
    first[...] = args[0]
    right = long_way(form, *args)
    form(first, args[1], out=out)
    assert short_way(form, first, args[1], out=out) is out
    np.testing.assert_array_equal(out, right)
    np.testing.assert_array_equal(first, args[0])


@each_case
def test_calls_of_other_arrays_in_turn(case, agrees):
    """The plan of the last call is tried first, whatever the arrays are."""
    shapes = [(5, 4), (5, 7), (20, 7), (2, 5, 7), (7,), (140, 1)] if case.rowwise else [(33,), (3, 11), (), (1,)]
    for shape in (*shapes, *reversed(shapes)):
        for dtype in ("float32", "float64", "float16", "float32"):
            agrees(case.loss.value_and_gradient, *draw(case, shape, dtype))


@each_case
def test_shapes_that_do_not_fit(case):
    args = draw(case, case.shape, "float32")
    for form in (case.loss.value, case.loss.value_and_gradient):
        form(*args)
        more = [np.repeat(one, 2, axis=0) for one in args]
        refused_alike(form, more[0], args[1])
        refused_alike(form, args[0], more[1])
        if form.kind != "value":
            refused_alike(form, *args, out=more[0])
            refused_alike(form, *args, out=args[0][..., None].copy())


@each_case
def test_what_is_no_plain_array(case):
    """The last plan does not serve such a call."""
    args = draw(case, case.shape, "float32")
    form = case.loss.value_and_gradient

    class Other(np.ndarray):
        pass

    right = bits(form(*args))[0]
    for place in (0, 1):
        for other in (args[place].tolist(), args[place].view(Other)):
            value = form(*args[:place], other, *args[place + 1 :])[0]
            assert value == pytest.approx(np.frombuffer(right[-1])[0], rel=1e-6)
    for out in ([0.0], "out", 1, (None,)):
        refused_alike(form, *args, out=out)


def test_dtypes_that_are_equal_and_another_object(agrees):
    """Unpickling makes such dtypes. After they are freed, others may have their addresses."""
    case = next(case for case in LABELS if case.name == "cross_entropy_with_logits")
    for dtype in ("float32", "float64", "float32"):
        logits, labels = pickle.loads(pickle.dumps(draw(case, (33, 7), dtype)))
        copied = np.ndarray(logits.shape, copied_dtype(logits.dtype), logits.copy())
        assert copied.dtype is not logits.dtype
        for one in (logits, copied, logits):
            for two in (labels, labels.view(copied_dtype(labels.dtype))):
                agrees(case.loss.value_and_gradient, one, two)


def copied_dtype(dtype: np.dtype) -> np.dtype:
    return np.dtype(dtype.str, copy=True)


@each_case
def test_arrays_that_lie_otherwise(case, short_way):
    args = draw(case, case.shape, "float32")
    form = case.loss.value_and_gradient
    right = bits(form(*args))
    for place in (0, 1):
        one = args[place]
        views = [np.repeat(one, 2, axis=-1)[..., ::2], one[..., ::-1].copy()[..., ::-1], one.astype(one.dtype.newbyteorder("S"))]
        for view in views:
            assert bits(form(*args[:place], view, *args[place + 1 :])) in (right, bits(long_way(form, view, *args[1:])))
    spaced = np.zeros((*case.shape, 2), np.float32)[..., 0]
    value, gradient = form(*args, out=spaced)
    assert gradient is spaced
    assert bits((value, np.ascontiguousarray(spaced))) == right
    for one in args:
        one.flags.writeable = False
    assert bits(short_way(form, *args)) == right


def test_no_elements():
    for case in SERVED:
        shape = (0, 7) if case.rowwise else (0,)
        form, args = case.loss.value_and_gradient, draw(case, case.shape, "float32")
        form(*args)
        empty = [np.zeros(shape if one.shape == case.shape else shape[:1], one.dtype) for one in args]
        assert bits(form(*empty)) == bits(long_way(form, *empty))
        items = [case.shape, shape] if not case.rowwise else [case.shape[:-1], shape[:-1]]
        some, none = (np.ones(one, np.float32) for one in items)
        form(*args, sample_weight=some)
        assert bits(form(*empty, sample_weight=none)) == bits(long_way(form, *empty, sample_weight=none))


# Watching ---------------------------------------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("many", [False, True])
def test_watched_calls_are_watched(case, many):
    shape = case.shape if not many else (SERIAL // 7 + 1, 7) if case.rowwise else (SERIAL + 1,)
    args = draw(case, shape, "float32")
    options = {} if many else {"reduction": "sum"}
    for _ in range(2):
        case.loss.value(*args, **options)
    args[0][...] = np.nan
    assert np.isnan(case.loss.value(*args, **options))
    with jitloss.errstate(invalid="raise"), pytest.raises(FloatingPointError, match=case.name):
        case.loss.value(*args, **options)
