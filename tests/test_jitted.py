"""Losses called from users' own compiled code give the numbers of the call in Python: scalars, arrays, and from the disk cache."""

import re
import sys
import textwrap

import numba
import numpy as np
import pytest
from numba import njit, prange
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

import jitloss
from cases import CASES, ROWS, agree, draw
from jitloss.definition import Sign
from jitloss.math import sqrt
from processes import call as in_a_process
from processes import python

ELEMENTS = [case for case in CASES if not case.rowwise]
LABELS = next(case for case in CASES if case.name == "cross_entropy_with_logits" and case.labels)


def arrays_of(result):
    """The arrays of a gradient: compiled code has tuples where Python has dicts."""
    return list(result.values()) if isinstance(result, dict) else list(result) if isinstance(result, tuple) else [result]


def compiled(form, count):
    """A user's function that calls a form with so many arguments."""
    return njit(
        {
            1: lambda a: form(a),
            2: lambda a, b: form(a, b),
            3: lambda a, b, c: form(a, b, c),
            4: lambda a, b, c, d: form(a, b, c, d),
        }[count]
    )


HUBER, DIVERGENCE, TRIPLET = (
    next(case for case in CASES if case.name == name) for name in ("huber_loss", "kl_divergence", "triplet_loss")
)
ARRAYS = [*((case, "float32") for case in [HUBER, *ROWS]), *((case, "float64") for case in [HUBER, LABELS, DIVERGENCE])]


@pytest.mark.parametrize(("case", "dtype"), ARRAYS, ids=str)
def test_arrays(case, dtype):
    inputs = draw(case, (11, 7) if case.rowwise else (11, 3), dtype, ignored=case.labels)
    call = compiled(case.loss.value_and_gradient, len(inputs))
    value, gradient = call(*inputs)
    (llvm,) = call.inspect_llvm().values()
    kind = "float" if dtype == "float32" else "double"
    assert re.search(rf" = f(add|sub|mul) .*<\d+ x {kind}>", llvm), "no loop has become one of vectors"
    want, theirs = case.loss.value_and_gradient(*inputs)
    agree(np.asarray(value, dtype), np.asarray(want, dtype), dtype)
    for mine, other in zip(arrays_of(gradient), arrays_of(theirs), strict=True):
        assert mine.dtype == other.dtype
        agree(mine, other, dtype)


@pytest.mark.parametrize("case", [LABELS, TRIPLET], ids=repr)
def test_one_form_alone(case):
    inputs = draw(case, (11, 7))
    want, theirs = case.loss.value_and_gradient(*inputs)
    agree(np.asarray(compiled(case.loss, len(inputs))(*inputs)), np.asarray(want), "float64")
    for mine, other in zip(arrays_of(compiled(case.loss.gradient, len(inputs))(*inputs)), arrays_of(theirs), strict=True):
        agree(mine, other, "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ELEMENTS, ids=repr)
def test_scalars(case, dtype):
    """Each pointwise loss; with arrays all losses share the same code."""
    inputs = draw(case, (9,), dtype)
    both = compiled(case.loss.value_and_gradient, len(inputs))
    kind = np.dtype(dtype).type
    for at in range(9):
        numbers = [kind(one[at]) for one in inputs]
        want, theirs = case.loss.value_and_gradient(*(np.array([one], dtype) for one in numbers))
        value, gradient = both(*numbers)
        agree(np.asarray([value, gradient], dtype), np.asarray([want, theirs[0]], dtype), dtype)
    assert list(both.nopython_signatures[0].return_type) == [getattr(numba.types, dtype)] * 2


def test_parameters_by_name_and_place():
    huber, focal, poisson, triplet = (
        jitloss.huber_loss,
        jitloss.focal_loss_with_logits,
        jitloss.poisson_nll_loss,
        jitloss.triplet_loss,
    )

    @njit
    def calls(p, t, delta):
        return (
            huber(p, t, delta),
            huber(p, t, delta=0.25),
            focal(p, t, alpha=None),
            focal(p, t, 1.5, 0.5),
            poisson(p, t, full=True),
        )

    p, t = np.array([0.3, -1.0, 2.0]), np.array([1.0, 0.0, 1.0])
    want = [huber(p, t, 0.7), huber(p, t, 0.25), focal(p, t, alpha=None), focal(p, t, 1.5, 0.5), poisson(p, t, full=True)]
    np.testing.assert_allclose(calls(p, t, 0.7), want, rtol=1e-14)

    @njit
    def squared(a, b, c):
        return triplet(a, b, c, margin=2.0, squared=True)

    inputs = np.random.default_rng(0).normal(size=(3, 5, 4))
    assert squared(*inputs) == pytest.approx(triplet(*inputs, margin=2.0, squared=True), rel=1e-14)


def test_names_of_the_module_and_closures():
    @njit
    def call(p, t):
        return jitloss.mse_loss(p, t) + jitloss.mse_loss_gradient(p, t)

    assert call(3.0, 1.0) == 8.0


def first_of_a_process() -> float:
    @njit
    def call(p, t):
        return jitloss.mse_loss.value_and_gradient(p, t)[0] + jitloss.l1_loss.gradient(p, t)

    return call(3.0, 1.0)


def test_attributes_in_the_first_function_that_is_compiled():
    assert in_a_process(first_of_a_process) == 5.0


def test_forms_as_attributes():
    total, p, t = jitloss.mse_loss + 0.5 * jitloss.l1_loss, np.array([3.0, 1.0]), np.array([1.0, 2.0])

    @njit
    def call(p, t):
        value, gradient = total.value_and_gradient(p, t)
        return value, gradient, total.gradient(p, t), jitloss.l2_regularization.value(p), jitloss.mse_loss.gradient(p[0], t[0])

    value, gradient, alone, penalty, slope = call(p, t)
    want, theirs = total.value_and_gradient(p, t)
    assert (value, penalty, slope) == (want, jitloss.l2_regularization(p), 4.0)
    np.testing.assert_array_equal(gradient, theirs)
    np.testing.assert_array_equal(alone, theirs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, t: jitloss.mse_loss.value_gradient_hessian(p, t), "compiled code may call a loss, its gradient and"),
        (lambda p, t: jitloss.mse_loss.slope(p, t), "Unknown attribute 'slope'"),
        (lambda p, t: jitloss.mse_loss_gradient.gradient(p, t), "Unknown attribute 'gradient'"),
    ],
)
def test_other_attributes(call, message):
    with pytest.raises(numba.TypingError, match=message):
        njit(call)(1.0, 2.0)


def test_reciprocal_roots_are_no_estimates():
    @jitloss.pointwise
    def root(prediction, target):
        return target / sqrt(prediction), 1.0 / sqrt(prediction)

    numbers = np.array([np.inf, 0.0, 1e-42, 1e-38, 4.0, 3e38] * 6, np.float32)
    ones = np.ones_like(numbers)

    @njit
    def one_by_one(p, t, out):
        for at in range(p.size):
            out[at] = root(p[at], t[at])

    out = np.empty_like(numbers)
    one_by_one(numbers, ones, out)
    with np.errstate(divide="ignore"):
        want = 1.0 / np.sqrt(numbers.astype(np.float64))
    np.testing.assert_allclose(out, want, rtol=3e-7)


def test_custom_losses_and_sums():
    @jitloss.pointwise
    def quartic(prediction, target, scale=1.0):
        error = prediction - target
        return scale * error**4, 4.0 * scale * error**3

    p, t = np.linspace(-1, 1, 7), np.zeros(7)
    for loss in (quartic, 0.5 * quartic, quartic + 2.0 * jitloss.l1_loss, jitloss.huber_loss.with_parameters(delta=0.2)):
        value, gradient = compiled(loss.value_and_gradient, 2)(p, t)
        want, theirs = loss.value_and_gradient(p, t)
        assert value == pytest.approx(want, rel=1e-14)
        np.testing.assert_allclose(gradient, theirs, rtol=1e-14)
    rows = jitloss.cross_entropy_with_logits + 0.1 * jitloss.cross_entropy_with_logits.with_parameters(z_loss=0.1)
    inputs = draw(LABELS, (9, 5))
    assert compiled(rows, 2)(*inputs) == pytest.approx(rows(*inputs), rel=1e-13)


def test_a_loss_times_a_number():
    """Of rows, and of single numbers."""
    ce, mse = 0.5 * LABELS.loss, -3.0 * jitloss.mse_loss
    inputs = draw(LABELS, (9, 5))
    value, gradient = compiled(ce.value_and_gradient, 2)(*inputs)
    want, theirs = ce.value_and_gradient(*inputs)
    assert value == pytest.approx(want, rel=1e-13)
    np.testing.assert_allclose(gradient, theirs, rtol=1e-12)
    assert compiled(mse.value_and_gradient, 2)(3.0, 1.0) == (-12.0, -12.0)
    assert compiled(mse.gradient, 2)(np.float32(3.0), np.float32(1.0)) == -12.0


def test_penalties_are_summed():
    params = np.random.default_rng(0).normal(size=(3, 4))
    value, gradient = compiled(jitloss.l2_regularization.value_and_gradient, 1)(params)
    want, theirs = jitloss.l2_regularization.value_and_gradient(params)
    assert value == pytest.approx(want, rel=1e-14)
    np.testing.assert_allclose(gradient, theirs, rtol=1e-14)


def test_lists_are_refused_by_name():
    with pytest.raises(TypingError, match="mse_loss: predictions and targets must be arrays, or numbers; got reflected list"):
        njit(lambda p, t: jitloss.mse_loss(p, t))([1.0], [0.0])


@pytest.mark.parametrize(
    "view", [np.asfortranarray, lambda x: x[::2], lambda x: x[:, ::-1], lambda x: np.swapaxes(x, 0, 1)], ids=range(4)
)
def test_layouts(view):
    p, t = (view(one) for one in np.random.default_rng(0).normal(size=(2, 6, 8)))
    value, gradient = compiled(jitloss.mse_loss.value_and_gradient, 2)(p, t)
    want, theirs = jitloss.mse_loss.value_and_gradient(p, t)
    assert value == pytest.approx(want, rel=1e-14)
    np.testing.assert_allclose(gradient, theirs, rtol=1e-14)
    kl, rows = jitloss.kl_divergence, [view(one) for one in np.random.default_rng(0).uniform(0.1, 1.0, (2, 6, 8))]
    assert compiled(kl, 2)(*rows) == pytest.approx(kl(*rows), rel=1e-13)


@pytest.fixture
def held():
    """A function that returns how many arrays compiled code holds references to."""
    _nrt_python.memsys_enable_stats()

    def count() -> int:
        stats = rtsys.get_allocation_stats()
        return stats.alloc - stats.free

    yield count
    _nrt_python.memsys_disable_stats()


@pytest.mark.parametrize("name", ["value", "gradient", "value_and_gradient"])
@pytest.mark.parametrize("case", [HUBER, TRIPLET, LABELS], ids=repr)
def test_no_array_is_left_behind(case, name, held):
    """Unused gradients and temporary copies are freed, and no references to the caller's arrays remain."""
    form = getattr(case.loss, name)
    inputs = [np.asfortranarray(one) for one in draw(case, (11, 7))]
    call = compiled(form, len(inputs))
    before = held(), [sys.getrefcount(one) for one in inputs]
    for _ in range(3):
        call(*inputs)
    assert (held(), [sys.getrefcount(one) for one in inputs]) == before


def test_one_row_integers_bools_and_nothing():
    ce, hinge = jitloss.cross_entropy_with_logits, jitloss.hinge_loss
    assert compiled(ce, 2)(np.array([1.0, 2.0, 0.5]), 1) == pytest.approx(ce([1.0, 2.0, 0.5], 1), rel=1e-14)
    value, gradient = compiled(jitloss.mse_loss.value_and_gradient, 2)(np.array([1, 2]), np.array([0, 0]))
    assert (value, gradient.dtype, gradient.tolist()) == (2.5, np.float64, [1.0, 2.0])
    assert compiled(hinge, 2)(np.array([0.5, 0.5]), np.array([True, False])) == hinge([0.5, 0.5], [True, False])
    assert compiled(jitloss.mse_loss, 2)(np.zeros(0), np.zeros(0)) == 0.0
    value, gradient = compiled(ce.value_and_gradient, 2)(np.zeros((0, 3)), np.zeros(0, np.int64))
    assert (value, gradient.shape) == (0.0, (0, 3))
    assert compiled(ce, 2)(np.zeros((2, 3)), np.array([-100, -100])) == 0.0


def test_parallel_and_without_the_interpreter():
    bce = jitloss.binary_cross_entropy_with_logits

    @njit(parallel=True, nogil=True)
    def rows(z, t):
        out = np.empty(len(z))
        for row in prange(len(z)):
            out[row] = bce(z[row], t[row])
        return out

    z, t = np.random.default_rng(0).normal(size=(50, 9)), np.random.default_rng(1).integers(0, 2, (50, 9)).astype(float)
    np.testing.assert_allclose(rows(z, t), [bce(*one) for one in zip(z, t, strict=True)], rtol=1e-13)


def test_errors_in_compiled_code():
    ce, mse = jitloss.cross_entropy_with_logits, jitloss.mse_loss
    with pytest.raises(ValueError, match="mse_loss: predictions and targets must have the same shape"):
        compiled(mse, 2)(np.zeros(3), np.zeros(4))
    with pytest.raises(
        ValueError, match="cross_entropy_with_logits: targets must be classes, from 0 to the number of columns - 1"
    ):
        compiled(ce, 2)(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match="targets must have one label for each row"):
        compiled(ce, 2)(np.zeros((2, 3)), np.array([0, 1, 2]))
    kl = compiled(jitloss.kl_divergence, 2)
    for shape in ((2, 4), (3, 3), (1, 3)):
        with pytest.raises(ValueError, match="kl_divergence: predictions and targets must have the same shape"):
            kl(np.ones((2, 3)), np.ones(shape))
    with pytest.raises(TypingError, match="predictions and targets must be arrays, or numbers"):
        compiled(mse, 2)(np.zeros(3), 1.0)
    with pytest.raises(TypingError, match="logits and targets must be arrays of rows"):
        compiled(ce, 2)(1.0, 1)
    with pytest.raises(TypingError, match="compiled code may call a loss, its gradient and its value_and_gradient"):
        compiled(mse.value_gradient_hessian, 2)(1.0, 2.0)

    @njit
    def option(p, t):
        return mse(p, t, reduction="sum")

    with pytest.raises(TypingError, match="reduction"):
        option(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("target", [True, False])
def test_a_bool_is_a_sign_of_hinge_loss(target):
    form = jitloss.hinge_loss.value_and_gradient
    assert numba.njit(lambda p, t: form(p, t))(0.3, target) == form(0.3, target)
    np.testing.assert_allclose(numba.njit(lambda p: form(p, target))(np.float32(0.3)), form(np.float32(0.3), target), rtol=1e-6)


@jitloss.pointwise
def of_two_signs(prediction, target: Sign, other: Sign):
    return prediction * target + 2.0 * other, target


def test_several_bools_are_signs():
    compiled_call = numba.njit(lambda p, t, o: of_two_signs(p, t, o))
    for given in ((0.5, True, False), (0.5, False, True), (0.5, -1.0, False), (0.5, True, 1.0)):
        target, other = (one if isinstance(one, float) else 2.0 * one - 1.0 for one in given[1:])
        assert compiled_call(*given) == 0.5 * target + 2.0 * other


def test_the_disk_cache_of_the_caller(tmp_path):
    """It contains nothing specific to this process: another process finds the code there, and runs it."""
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np, jitloss
        from numba import njit
        loss, form = jitloss.cross_entropy_with_logits, jitloss.huber_loss.value_and_gradient

        @njit(cache=True)
        def mine(z, labels, p):
            return loss(z, labels), form(p, p * 2.0)[0]

        print(mine(np.arange(6.0).reshape(2, 3), np.array([0, 2]), 0.5), sum(mine.stats.cache_hits.values()))
    """)
    )
    first, second = (python(str(script), cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2))
    assert first.endswith(" 0\n")
    assert second == first.replace(" 0\n", " 1\n")


def test_the_import_of_jitloss_stays_without_numba():
    assert python("-c", "import sys, jitloss; print('numba' in sys.modules)").strip() == "False"


@numba.njit
def contrast(one, other, same):
    return jitloss.contrastive_loss.value_and_gradient(one, other, same)


@numba.njit
def of_labels(logits, labels):
    return jitloss.cross_entropy_with_logits(logits, labels)


def test_numbers_of_rows_are_there():
    one = np.ones((5, 4), np.float32)
    for shape in ((1,), (5, 1), (6,)):
        with pytest.raises(ValueError, match="contrastive_loss_value_and_gradient: labels must have one number for each row"):
            contrast(one, one, np.ones(shape, np.float32))
    assert contrast(one, 0 * one, np.ones(5, np.float32))[0] == 4.0


def test_large_labels_are_no_ignored_ones():
    logits = np.zeros((3, 5))
    for bad in (2**64 - 100, 2**63, 5):
        with pytest.raises(ValueError, match="targets must be classes"):
            of_labels(logits, np.array([0, 1, bad], np.uint64))
    assert of_labels(logits, np.array([0, 1, -100])) == pytest.approx(np.log(5))


@njit
def of_rows(p, t):
    return jitloss.cross_entropy_with_logits.value_and_gradient(p, t)


@njit
def of_arrays(p, t):
    return jitloss.mse_loss(p, t)


@njit
def of_logits(p, t):
    return jitloss.binary_cross_entropy_with_logits(p, t)


@njit
def of_errors(p, t):
    return jitloss.l1_loss(p, t)


def test_a_label_that_is_a_number_is_for_a_single_row():
    with pytest.raises(TypingError, match="targets must be labels or an array like"):
        of_rows(np.zeros((3, 4)), 1)


def test_bools_are_labels_and_leave_float32():
    logits = np.array([[0.1, 0.3], [0.5, 0.2]], np.float32)
    for got, want in zip(of_rows(logits, np.array([True, False])), of_rows(logits, np.array([1, 0])), strict=True):
        np.testing.assert_array_equal(got, want)
    number = np.float32(0.3)
    assert of_logits(number, True) == of_logits(number, np.float32(1.0)) == np.float32(of_logits(number, True))


def test_rows_of_nothing():
    for shape in ((0, 4), (3, 0), (0, 0)):
        got, gradient = of_rows(np.zeros(shape), np.zeros(shape))
        assert (got, gradient.shape) == (0.0, shape)


def test_sums_are_in_float64():
    p = np.zeros(1024 * 64, np.float32)
    p[::1024], p[0] = 1.0, 2.0**25
    assert of_errors(p, np.zeros_like(p)) == (2.0**25 + 63) / p.size


def test_arrays_and_numbers_are_not_mixed():
    for given in ((np.ones(2), 1.0), (1.0, np.ones(2))):
        with pytest.raises(TypingError, match="predictions and targets must be arrays, or numbers"):
            of_arrays(*given)


@jitloss.pointwise
def of_eight(prediction, target, a=1.0, b=1.0, c=1.0, d=1.0, e=1.0, f=1.0):
    return a * prediction - b * target + c + d + e + f, a


@jitloss.pointwise
def of_nine(prediction, target, a=1.0, b=1.0, c=1.0, d=1.0, e=1.0, f=1.0, g=1.0):
    return a * prediction - b * target + c + d + e + f + g, a


def test_calls_have_up_to_eight_arguments():
    assert njit(lambda: of_eight(1.0, 2.0))() == 3.0
    with pytest.raises(TypingError, match="compiled code calls losses of up to 8 arguments, this one has 9"):
        njit(lambda: of_nine(1.0, 2.0))()


def test_constants_are_checked():
    with pytest.raises(TypeError, match=r"^huber_loss: delta must be a positive number"):
        njit(lambda: jitloss.huber_loss(1.0, 2.0, None))()
