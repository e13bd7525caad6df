"""The fast path of calls with one or three inputs: bitwise the results of the slow path, and its errors."""

from typing import Any

import numpy as np
import pytest

import jitloss
from cases import CASES, Case, draw
from jitloss.large import Large
from jitloss.plans import MOST_PLANS
from jitloss.quick import Quick
from jitloss.running import SERIAL
from ways import bits, forgetting, long_way

FORMS = ("value", "gradient", "value_and_gradient")
SERVED = [case for case in CASES if not Quick.serves(case.loss.definition, case.loss.value.wants)]
MANY = [case for case in SERVED if len(case.loss.definition.differentiable) > 1]

each_case = pytest.mark.parametrize("case", SERVED, ids=repr)
each_case_of_many = pytest.mark.parametrize("case", MANY, ids=repr)


def shape_of(case: Case) -> tuple[int, ...]:
    return (3, SERIAL // 100, 41) if case.rowwise else (SERIAL + 1,)


forgetful = forgetting(SERVED, FORMS)


def outputs(case: Case, args: tuple[Any, ...], in_place: bool = False) -> tuple[tuple[Any, ...], Any]:
    """Arguments, and arrays to write to, which may be the arguments themselves."""
    args = tuple(np.array(one) for one in args)
    pairs = [(one.name, array) for one, array in zip(case.loss.definition.inputs, args, strict=False) if one.differentiable]
    arrays = {name: array if in_place else np.full_like(array, 7) for name, array in pairs}
    return args, arrays if len(arrays) > 1 else next(iter(arrays.values()))


@each_case
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_same_bits(case, name, dtype, short_way):
    form, args = getattr(case.loss, name), draw(case, shape_of(case), dtype)
    right = bits(form(*args))
    assert isinstance(form._quick, Large)
    assert bits(short_way(form, *args)) == right
    if name != "value":
        for in_place in (False, True):
            given, out = outputs(case, args, in_place)
            result = short_way(form, *given, out=out)
            assert bits(result) == right
            gradient = result[1] if name == "value_and_gradient" else result
            pairs = zip(gradient.values(), out.values(), strict=True) if isinstance(out, dict) else [(gradient, out)]
            assert all(one is other for one, other in pairs)


@each_case
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_same_bits_of_few_elements(case, name, dtype, short_way):
    """With the plan of a large call, and with its own."""
    form = getattr(case.loss, name)
    for shape in [(3, 41), (41,), (2, 3, 41), (SERIAL // 41, 41)] if case.rowwise else [(33,), (), (3, 11), (1,), (SERIAL,)]:
        args = draw(case, shape, dtype)
        right = bits(long_way(form, *args))
        form._quick = None
        assert bits(form(*args)) == right
        for _ in range(2):
            assert bits(short_way(form, *args)) == right
            form._quick = None
            form(*draw(case, shape_of(case), dtype))
        for in_place in (False, True) if name != "value" else ():
            given, out = outputs(case, args, in_place)
            result = short_way(form, *given, out=out)
            assert bits(result) == right
            gradient = result[1] if name == "value_and_gradient" else result
            assert gradient is out or all(gradient[key] is one for key, one in out.items())


@each_case
def test_few_elements_that_do_not_fit_a_plan(case, short_way):
    form, args = case.loss.value_and_gradient, draw(case, (3, 41) if case.rowwise else (33,), "float32")
    form(*args)
    calls = [
        tuple(one.astype(np.float64) for one in args),
        tuple(np.repeat(one, 2, axis=0)[::2] for one in args),
        tuple(one[:0] for one in args),
        tuple(one.tolist() for one in args),
        tuple(one.astype(one.dtype.newbyteorder("S")) for one in args),
    ]
    for given in calls:
        with pytest.raises(AssertionError, match="slow path"):
            short_way(form, *given)
        assert bits(form(*given)) == bits(long_way(form, *given))
        form(*args)
    with jitloss.errstate(invalid="raise"), pytest.raises(AssertionError, match="slow path"):
        short_way(form, *args)
    if len(form.inputs) == 1:
        locked, other = args[0].copy(), np.empty((2, *args[0].shape), np.float32)
        locked.flags.writeable = False
        shifted = other.reshape(-1)[1 : 1 + args[0].size].reshape(args[0].shape)
        for out in (locked, args[0].astype(np.float64), args[0][:-1], [0.0], args[0][::-1]):
            with pytest.raises((TypeError, ValueError), match="out"):
                form(args[0], out=out)
        with pytest.raises(ValueError, match="overlaps"):
            form(other[0], out=shifted)
    case.loss.value(*args)
    for out in (None, np.zeros_like(args[0])):
        with pytest.raises(TypeError, match="out"):
            case.loss.value(*args, out=out)


@each_case
def test_inputs_by_name(case, short_way):
    form = case.loss.value_and_gradient
    for shape in (shape_of(case), (3, 41) if case.rowwise else (33,)):
        args = draw(case, shape, "float32")
        right = bits(form(*args))
        assert bits(short_way(form, args[0], **dict(zip(form.inputs[1:], args[1:], strict=True)))) == right
        if not case.loss.definition.is_penalty:
            assert bits(short_way(form, **dict(zip(form.inputs, args, strict=True)))) == right


@each_case
def test_parameters_that_are_others_in_each_call(case, short_way):
    form, names = case.loss.value_and_gradient, [one.name for one in case.loss.definition.parameters]
    name = next(one for one in names if one in ("strength", "margin"))
    for shape in (shape_of(case), (3, 41) if case.rowwise else (33,)):
        args = draw(case, shape, "float32")
        form(*args, **{name: 0.5})
        for number in (0.1, 0.7, 2, np.float32(0.3)):
            assert bits(short_way(form, *args, **{name: number})) == bits(long_way(form, *args, **{name: number}))
        for wrong in (-1.0, np.nan, True, "n"):
            with pytest.raises((TypeError, ValueError), match=name):
                form(*args, **{name: wrong})


@each_case_of_many
@pytest.mark.parametrize("options", [{"reduction": "sum"}, {"reduction": "mean"}, {"normalizer": 7.0}], ids=str)
def test_same_bits_with_options(case, options, short_way):
    form, args = case.loss.value_and_gradient, draw(case, shape_of(case), "float32")
    form(*args)
    right = bits(form(*args, **options))
    assert bits(short_way(form, *args, **options)) == right


@each_case
def test_streamed_outputs(case, short_way, monkeypatch):
    monkeypatch.setattr("jitloss.stores.cache_bytes", lambda: 0)
    form, args = case.loss.value_and_gradient, draw(case, shape_of(case), "float32")
    for way in (False, True):
        monkeypatch.setattr("jitloss.stores.faster", lambda kernel, moved, new, run, way=way: run(way))
        right = bits(form(*args))
        assert bits(short_way(form, *args)) == right
        given, out = outputs(case, args)
        assert bits(short_way(form, *given, out=out)) == right


@each_case
def test_what_does_not_fit_a_plan_goes_the_long_way(case, short_way):
    form, args = case.loss.value_and_gradient, draw(case, shape_of(case), "float32")
    form(*args)
    small = draw(case, (3, 40), "float32") if case.rowwise else draw(case, (33,), "float16")
    other = draw(case, shape_of(case), "float64")
    apart = tuple(np.repeat(one, 2, axis=0)[::2] for one in args)
    lists = (*args[:-1], args[-1].tolist())
    calls: list[tuple[Any, dict[str, Any]]] = [(small, {}), (other, {}), (apart, {}), (lists, {})]
    if case.rowwise:
        calls.append((args, {"reduction": "none"}))
    for given, options in calls:
        with pytest.raises(AssertionError, match="slow path"):
            short_way(form, *given, **options)
        for _ in range(2):
            assert bits(form(*given, **options)) == bits(long_way(form, *given, **options))
        form(*args)
    with jitloss.errstate(invalid="raise"), pytest.raises(AssertionError, match="slow path"):
        short_way(form, *args)


@each_case_of_many
@pytest.mark.parametrize("other", ["float16", "float64"])
def test_gradients_of_several_dtypes_are_converted_by_the_long_way(case, other):
    form, args = case.loss.value_and_gradient, draw(case, shape_of(case), "float32")
    args = (args[0].astype(other), *args[1:])
    right = bits(form(*args))
    assert not form._quick.plans
    assert bits(form(*args)) == right
    assert [one.dtype for one in form(*args)[1].values()][:2] == [other, "float32"]


@each_case_of_many
def test_wrong_outputs_are_errors_and_nothing_is_written(case):
    form, args = case.loss.value_and_gradient, draw(case, shape_of(case), "float32")
    form(*args)
    given, out = outputs(case, args)
    first, second, *_ = out
    wrong = [
        out[first],
        {first: out[first]},
        {**out, "another": out[first]},
        {**out, second: out[first]},
        {**out, second: out[second].astype(np.float64)},
        {**out, second: out[second][:-1]},
        {**out, first: given[1]},
        {**out, first: given[0].reshape(-1)[::-1].reshape(given[0].shape)},
    ]
    for one in wrong:
        with pytest.raises((TypeError, ValueError), match="out"):
            form(*given, out=one)
    with pytest.raises(ValueError, match="overlaps"):  # one array twice, of which only one may be written over
        form(given[0], given[0], *given[2:], out={**out, first: given[0]})
    assert all((array == 7).all() for array in out.values())
    assert all(np.array_equal(one, other) for one, other in zip(given, args, strict=True))


def test_plans_have_an_end():
    case = next(case for case in MANY if case.name == "triplet_loss")
    form = case.loss.value
    for columns in range(1, MOST_PLANS + 4):
        form(*draw(case, (1, columns), "float32"), margin=0.5)
    assert len(form._quick.plans) == len(form._quick.kinds) == MOST_PLANS
