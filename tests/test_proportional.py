"""Terms that are proportional to their target or independent of it: then sums may be corrected for labels afterwards."""

import itertools

import pytest

import jitloss
from jitloss.math import exp, log, maximum, power, softplus, times, where
from jitloss.proportional import FREE, MOST_COMBINATIONS, proportional_or_free

YES = [
    lambda x, t: t,
    lambda x, t: x * t,
    lambda x, t: -t * log(maximum(x, 1e-7)),
    lambda x, t: t / x,
    lambda x, t: 2.0 * t * (x - 1.0) ** 2 + t * exp(x),
    lambda x, t: (times(t, x), times(x, t), t - t * x),
    lambda x, t: (exp(x), softplus(-x) * t, 1.0, t * power(abs(x), 1.5)),
    lambda x, t: where(x > 0.0, t * x, 0.0),
    lambda x, t: where(t == 0.0, 0.0, t * log(x)),
    lambda x, t: exp(x) if x is None else x,
]
NO = [
    lambda x, t: x - t,
    lambda x, t: (1.0 - t) * exp(x),
    lambda x, t: t + 1.0,
    lambda x, t: t * t * x,
    lambda x, t: x / t,
    lambda x, t: abs(t) * x,
    lambda x, t: exp(t),
    lambda x, t: (t * x, exp(x - 2.0 * t * x)),
    lambda x, t: where(t < 0.5, t * x, 0.0),
    lambda x, t: where(t == 0.0, x, t * x),
    lambda x, t: where(t == 0.5, 0.0, t * x),
    lambda x, t: where(x > 0.0, t * x, x),
    lambda x, t: where(t + 1.0 == 0.0, 0.0, t * x),
    lambda x, t: where(t == 0.0, 0.0, exp(t)),
    lambda x, t: t == 0.0,
    lambda x, t: t * x if x > 0.0 else 0.0,  # which a symbol cannot tell
    lambda x, t: t * x + 0.5 * None,
    lambda x, t: t * x * (1.0 / (x is None)),  # which divides by zero
]


@pytest.mark.parametrize(("function", "want"), [*((one, True) for one in YES), *((one, False) for one in NO)])
def test_what_is_in_proportion(function, want):
    assert proportional_or_free(function, ("x", "t"), "t", {}) is want


def test_all_ways_of_options_are_looked_at():
    def both(x, t, a, b):
        return x - t if a is not None and b else t * x

    options = {"a": (None, FREE), "b": (False, True)}
    assert not proportional_or_free(both, ("x", "t", "a", "b"), "t", options)
    for name in options:
        assert proportional_or_free(both, ("x", "t", "a", "b"), "t", {**options, name: options[name][:1]})
    many = tuple(f"o{number}" for number in itertools.takewhile(lambda number: 2**number <= MOST_COMBINATIONS, itertools.count()))
    assert proportional_or_free(lambda t, *rest: t, ("t", *many[:-1]), "t", dict.fromkeys(many, (False, True)))
    assert not proportional_or_free(lambda t, *rest: t, ("t", *many, "more"), "t", dict.fromkeys((*many, "more"), (False, True)))


def test_a_loss_and_the_same_with_other_defaults_are_judged_alike():
    """Their kernels are the same."""

    @jitloss.rowwise
    class contrast:
        push = 0.0

        def terms(logit, target, push):
            return push * (1.0 - target) * exp(logit), target * logit

        def value(sums):
            others, own = sums
            return others - own

        def slope(logit, target, push):
            return push * (1.0 - target) * exp(logit) - target

    logits, labels = [[40.0, 1.0, 2.0]], [0]
    want = contrast([[40.0, 1.0, 2.0]], [[1.0, 0.0, 0.0]], push=1.0)
    for loss in (contrast, contrast.with_parameters(push=1.0), 1.0 * contrast.with_parameters(push=1.0)):
        assert loss.definition.marks_terms
        assert loss(logits, labels, **({} if loss is not contrast else {"push": 1.0})) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("default", [None, 1.0])
def test_options_that_are_on_by_default(default):
    """Their behaviour when they are None is examined too."""

    class sided:
        scale: float | None = default

        def terms(logit, target, scale):
            return exp(logit) * (1.0 - target) + target if scale is None else target * logit * scale

        def value(sums):
            return sums, 1.0

        def slope(target, c):
            return target * c

    loss = jitloss.rowwise(sided)
    assert loss.definition.marks_terms
    assert loss([[45.0, *[0.0] * 39]], [0], scale=None) == 40.0


def test_options_that_belong_together():
    """One option without the other would raise, but not before somebody uses it so."""

    @jitloss.rowwise
    class capped:
        cap: float | None = None
        leak: float | None = None

        def terms(logit, target, cap, leak):
            if cap is not None:  # noqa: SIM102  # an option is asked for by itself
                if logit > cap:
                    return target * (cap + leak * (logit - cap))
            return target * logit

        def value(sums):
            return -sums, -1.0

        def slope(target, c):
            return target * c

    assert capped([[2.0, 3.0]], [1]) == -3.0
    assert capped([[2.0, 3.0]], [1], cap=1.0, leak=0.5) == -2.0
