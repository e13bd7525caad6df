"""JAX arrays: eager calls, and calls that JAX compiles, batches and differentiates, with the numbers that NumPy arrays give."""

import contextlib
import os
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

import jitloss
from cases import CASES, Case, agree, draw, weights
from jitloss import keys
from jitloss.arrays import cuda
from jitloss.definition import Weight

jax = pytest.importorskip("jax")
jnp = jax.numpy

LABELS = next(case for case in CASES if case.name == "cross_entropy_with_logits" and case.labels)
MSE = next(case for case in CASES if case.name == "mse_loss")
TRIPLET = next(case for case in CASES if case.name == "triplet_loss")


def arrays(inputs):
    return [jnp.asarray(one) for one in inputs]


def places(case: Case):
    """Which arguments are differentiated."""
    return tuple(at for at, one in enumerate(case.loss.definition.inputs) if one.differentiable)


def flat(gradient):
    return (
        list(gradient.values()) if isinstance(gradient, dict) else list(gradient) if isinstance(gradient, tuple) else [gradient]
    )


def same(got, want, dtype="float32"):
    agree(np.asarray(got), np.asarray(want), dtype)


@pytest.fixture
def _x64():
    with jax.enable_x64(True):
        yield


# Eager ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["value", "gradient", "value_and_gradient", "value_gradient_hessian"])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_eager(case, form):
    if form == "value_gradient_hessian" and not case.loss.definition.hessian:
        pytest.xfail("not defined")
    inputs = draw(case, case.shape, "float32", ignored=case.labels)
    got, want = (getattr(case.loss, form)(*given) for given in (arrays(inputs), inputs))
    for mine, theirs in zip(got if isinstance(got, tuple) else [got], want if isinstance(want, tuple) else [want], strict=True):
        if isinstance(theirs, dict):
            assert list(mine) == list(theirs)
        for one, other in zip(flat(mine), flat(theirs), strict=True):
            assert isinstance(one, jax.Array)
            assert one.dtype == np.float32
            same(one, np.asarray(other, np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32"])
def test_dtypes(dtype):
    value, gradient = jitloss.mse_loss.value_and_gradient(jnp.array([1, 2, 5], dtype), jnp.array([0, 4, 4], dtype))
    assert (value.shape, value.dtype, gradient.dtype) == ((), np.float32, np.float32 if dtype == "int32" else jnp.dtype(dtype))
    assert float(value) == pytest.approx(2.0)


@pytest.mark.usefixtures("_x64")
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_double(case):
    inputs = draw(case, case.shape)
    value, gradient = jax.jit(case.loss.value_and_gradient)(*arrays(inputs))
    want, theirs = case.loss.value_and_gradient(*inputs)
    assert value.dtype == np.float64
    same(value, want, "float64")
    if isinstance(gradient, dict):
        gradient = {name: gradient[name] for name in theirs}  # compiled functions give dicts by the order of their keys
    for one, other in zip(flat(gradient), flat(theirs), strict=True):
        same(one, other, "float64")
    value = case.loss(*arrays(inputs))
    assert value.dtype == np.float64


def test_memory_is_not_copied():
    from jitloss.arrays import jax as adapter

    array = jnp.arange(1000.0)
    assert adapter.to_numpy(array).__array_interface__["data"][0] == array.unsafe_buffer_pointer()


def test_mixed_with_arrays():
    predictions, targets = draw(MSE, (33,), "float32")
    assert isinstance(jitloss.mse_loss(jnp.asarray(predictions), targets), jax.Array)
    value, gradient = jitloss.mse_loss.value_and_gradient(predictions, jnp.asarray(targets), sample_weight=jnp.ones(33))
    assert (type(value), type(gradient)) == (float, np.ndarray)


def test_out_is_refused():
    with pytest.raises(ValueError, match="mse_loss_gradient: out is not for JAX arrays"):
        jitloss.mse_loss_gradient(jnp.ones(3), jnp.ones(3), out=np.ones(3, np.float32))


# Transformations --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_gradients(case, compiled):
    inputs = draw(case, case.shape, "float32", ignored=case.labels)
    function = jax.value_and_grad(lambda *given: 3.0 * case.loss(*given), argnums=places(case))
    value, gradients = (jax.jit(function) if compiled else function)(*arrays(inputs))
    want, theirs = case.loss.value_and_gradient(*inputs)
    same(value, np.float32(3.0 * want))
    for one, other in zip(gradients, flat(theirs), strict=True):
        same(one, 3.0 * other)


@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
def test_items_carry_their_own_gradients(case):
    inputs, by = draw(case, case.shape, "float32"), weights(case.shape[:1]).astype(np.float32)
    function = jax.jit(jax.grad(lambda *given: (by * case.loss(*given, reduction="none")).sum(), argnums=places(case)))
    for one, other in zip(function(*arrays(inputs)), flat(case.loss.gradient(*inputs, reduction="none")), strict=True):
        same(one, other * by.reshape(-1, *[1] * (other.ndim - 1)))


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_vmap(case):
    batches = [draw(case, case.shape, "float32", seed=seed) for seed in range(3)]
    stacked = [jnp.stack([jnp.asarray(one) for one in column]) for column in zip(*batches, strict=True)]
    got = jax.vmap(case.loss)(*stacked)
    same(got, np.array([case.loss(*one) for one in batches], np.float32))
    gradients = jax.jit(jax.vmap(jax.grad(case.loss, argnums=places(case))))(*stacked)
    for at, batch in enumerate(batches):
        for one, other in zip(gradients, flat(case.loss.gradient(*batch)), strict=True):
            same(one[at], other)


def test_options_are_traced():
    inputs = draw(LABELS, LABELS.shape, "float32", ignored=True)
    plain = {"sample_weight": weights((33,)), "class_weight": weights((7,), seed=1)}

    @jax.jit
    @jax.grad
    def gradient(logits, labels, sample_weight, class_weight):
        return LABELS.loss(
            logits, labels, sample_weight=sample_weight, class_weight=class_weight, normalizer="weights", label_smoothing=0.1
        )

    want = LABELS.loss.gradient(*inputs, **plain, normalizer="weights", label_smoothing=0.1)
    same(gradient(*arrays(inputs), *plain.values()), want)


def test_parameters_are_traced():
    inputs = draw(CASES[0], (9,), "float32")
    for delta in (0.3, 2.0):
        want = jitloss.huber_loss.gradient(*inputs, delta)
        same(jax.jit(jax.grad(jitloss.huber_loss))(*arrays(inputs), delta), want)
        same(jitloss.huber_loss.gradient(*arrays(inputs), jax.numpy.asarray(delta)), want)


def test_targets_that_are_lists():
    predictions, targets = jax.numpy.asarray([1.0, 2.0]), [0.0, 1.5]
    same(jax.grad(lambda one: jitloss.mse_loss(one, targets))(predictions), np.array([1.0, 0.5], np.float32))


def test_an_inner_class_axis():
    inputs = draw(LABELS, (3, 5, 4), "float32", axis=1)
    function = jax.jit(jax.grad(lambda logits, labels: LABELS.loss(logits, labels, axis=1, reduction="none").sum()))
    same(function(*arrays(inputs)), LABELS.loss.gradient(*inputs, axis=1, reduction="sum"))
    function = jax.grad(lambda logits, labels: LABELS.loss(logits, labels, axis=1))
    same(function(*arrays(inputs)), LABELS.loss.gradient(*inputs, axis=1))


@jitloss.rowwise
class size_of_rows:
    """A penalty on the squared size of each row."""

    def terms(parameter: Weight):
        return parameter * parameter

    def value(sums):
        return sums * sums, 4.0 * sums

    def slope(parameter, scale):
        return scale * parameter


def test_penalties_on_rows():
    params = {"a": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)}
    value, gradient = jax.jit(jax.value_and_grad(size_of_rows))(params)
    want, theirs = size_of_rows.value_and_gradient(params)
    same(value, np.float32(want))
    same(gradient["a"], theirs["a"])


def test_custom_losses_sums_outputs_and_penalties():
    @jitloss.pointwise
    def quartic(prediction, target):
        error = prediction - target
        return error**4, 4.0 * error**3

    total = jitloss.weighted_sum(a=(quartic + 0.5 * jitloss.mse_loss, 2.0), b=(jitloss.cross_entropy_with_logits, 0.5))
    outputs = {"a": draw(MSE, (33,), "float32")[0], "b": draw(LABELS, LABELS.shape, "float32")[0]}
    targets = {"a": draw(MSE, (33,), "float32")[1], "b": draw(LABELS, LABELS.shape, "float32")[1]}

    def function(outputs):
        return total(outputs, targets) + jitloss.l2_regularization({"nested": outputs})

    value, gradients = jax.jit(jax.value_and_grad(function))(outputs)
    penalty, slopes = jitloss.l2_regularization.value_and_gradient(outputs)
    want, theirs = total.value_and_gradient(outputs, targets)
    same(value, np.float32(want + penalty))
    for name in outputs:
        same(gradients[name], theirs[name] + slopes[name])


def test_training():
    x = jax.random.normal(jax.random.key(0), (256, 4))
    labels = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)

    @jax.jit
    def step(w):
        return w - 0.5 * jax.grad(lambda w: jitloss.cross_entropy_with_logits(x @ w, labels))(w)

    w, before = jnp.zeros((4, 3)), np.log(3.0)
    for _ in range(100):
        w = step(w)
    assert jitloss.cross_entropy_with_logits(x @ w, labels) < 0.75 * before


def test_large_arrays_from_two_threads():
    """Callbacks run in JAX's threads, and kernels in numba's."""
    function = jax.jit(jax.value_and_grad(jitloss.mse_loss))
    predictions, results = jnp.linspace(-1.0, 1.0, 1_000_000), []

    def work():
        results.extend(float(function(predictions, jnp.zeros(1_000_000))[0]) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(results) == 10
    assert set(results) == {results[0]}


# Errors -----------------------------------------------------------------------------------------------------------------------


def test_targets_and_weights_have_no_gradient():
    predictions, targets = arrays(draw(MSE, (33,), "float32"))
    with pytest.raises(NotImplementedError, match="mse_loss: there is no gradient with respect to targets, only to predictions"):
        jax.grad(jitloss.mse_loss, argnums=1)(predictions, targets)
    with pytest.raises(NotImplementedError, match="with respect to sample_weight"):
        jax.grad(lambda w: jitloss.mse_loss(predictions, targets, sample_weight=w))(jnp.ones(33))
    jax.grad(lambda p: jitloss.mse_loss(p, jax.lax.stop_gradient(p)))(predictions)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_a_second_derivative_is_refused(case):
    inputs = arrays(draw(case, case.shape, "float32"))
    first = places(case)[0]
    with pytest.raises(NotImplementedError, match=f"{case.name}: a loss is differentiated once"):
        jax.grad(lambda *given: jax.grad(case.loss, argnums=first)(*given).sum(), argnums=first)(*inputs)


def test_wrong_calls_are_refused_when_they_are_traced():
    for options, error, message in [
        ({"axis": 3}, ValueError, "axis 3 is out of range"),
        ({"sample_weight": jnp.ones(3)}, ValueError, "sample_weight must have the leading axes"),
    ]:
        with pytest.raises(error, match=message):
            jax.jit(lambda p, t, options=options: LABELS.loss(p, t, **options))(jnp.ones((33, 7)), jnp.zeros(33, int))
    with pytest.raises(ValueError, match=r"must have the same shape; got predictions \(3,\) and targets \(4,\)"):
        jax.jit(jitloss.mse_loss)(jnp.ones(3), jnp.ones(4))


LOGITS = jnp.ones((3, 6))
CLASSES = jnp.array([0, 1, 2])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"reduction": "median"}, ValueError, "reduction must be"),
        ({"normalizer": -2.0}, ValueError, "normalizer must be"),
        ({"label_smoothing": 7.0}, ValueError, "label_smoothing must be"),
        ({"softcap": -1.0}, ValueError, "softcap must be"),
        ({"class_weight": [1.0, 2.0]}, ValueError, "class_weight must hold one weight for each of 6 classes"),
        ({"class_weight": jnp.ones(5)}, ValueError, "class_weight must hold one weight for each of 6 classes"),
        ({"class_weight": {9: 1.0}}, ValueError, "class_weight names the class 9"),
        ({"sample_weight": jnp.ones(4)}, ValueError, "sample_weight must have the leading axes"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_options_are_refused_when_they_are_traced(options, error, said):
    with pytest.raises(error, match=f"^cross_entropy_with_logits: {said}"):
        jax.eval_shape(lambda z: jitloss.cross_entropy_with_logits(z, CLASSES, **options), LOGITS)


def test_traced_options():
    given = jax.eval_shape(lambda z, w: jitloss.cross_entropy_with_logits(z, CLASSES, class_weight=w), LOGITS, jnp.ones(6))
    assert given.shape == ()
    with pytest.raises(ValueError, match="class_weight must hold one weight for each of 6 classes"):
        jax.eval_shape(lambda z, w: jitloss.cross_entropy_with_logits(z, CLASSES, class_weight=w), LOGITS, jnp.ones(5))
    with pytest.raises(TypeError, match="class_weight holds traced numbers, which must be in one array"):
        jax.eval_shape(lambda z, w: jitloss.cross_entropy_with_logits(z, CLASSES, class_weight={0: w}), LOGITS, 1.0)


@pytest.mark.parametrize("dtype", ["complex64", "bool"])
def test_dtypes_are_refused_when_they_are_traced(dtype):
    with pytest.raises(TypeError, match=f"mse_loss: predictions must be float16.*got the dtype {dtype}"):
        jax.eval_shape(jitloss.mse_loss, jnp.ones(3).astype(dtype), jnp.ones(3))
    with pytest.raises(TypeError, match="mse_loss: predictions must hold numbers, got the dtype key"):
        jax.eval_shape(jitloss.mse_loss, jax.random.key(0), jnp.ones(3))


def test_numbers_of_python():
    assert jax.grad(jitloss.mse_loss)(1.0, 3.0) == -4.0
    found = jax.grad(jitloss.l2_regularization)({"w": np.ones(3, np.float32), "b": 1.0})
    np.testing.assert_allclose(found["b"], 0.01, rtol=1e-6)


def test_a_derivative_of_a_gradient_is_refused():
    with pytest.raises(NotImplementedError, match="mse_loss_gradient: a loss is differentiated once"):
        jax.grad(lambda a: jitloss.mse_loss.gradient(a, a).sum())(jnp.ones(3))


def test_a_bad_label_is_an_error_of_the_program():
    with pytest.raises(Exception, match="wanted a class from 0 to 2"):
        jax.block_until_ready(jax.jit(LABELS.loss)(jnp.zeros((2, 3)), jnp.array([0, 3])))


def test_memory_on_a_device_has_the_bytes_that_kernels_write():
    """Sums are in float64 even where JAX has 64-bit types disabled; here the host acts as the device."""
    library = cuda.Jax()
    made = library.empty(jnp.ones(3), (2, 64), np.dtype(np.float64))
    assert (made.dtype, made.nbytes) == (np.float64, 1024)
    assert library.from_host(np.ones(3), jnp.ones(3)).dtype == np.float64
    with pytest.raises(ValueError, match="is not for JAX arrays"):
        library.stream(jnp.ones(3), 7)


def test_calls_again_compile_nothing_again():
    from jitloss.arrays import jax as adapter

    gradient, x = jax.grad(jitloss.mse_loss), jnp.linspace(0.1, 0.9, 5)
    gradient(x, x)
    known = dict(adapter._on_host_again)
    for _ in range(3):
        gradient(x, x)
    assert adapter._on_host_again == known
    zeros = [jax.grad(lambda p, d=d: jitloss.huber_loss(p, x, delta=d))(x) for d in (0.5, 1.0, 0.5)]
    assert len(zeros) == 3
    assert len(adapter._on_host_again) == len(known) + 2


def test_a_device_is_waited_for_while_it_is_the_current_one(monkeypatch):
    """Each device has its own default stream, and its handle refers to that of the current device."""
    events = []

    @contextlib.contextmanager
    def current(device):
        events.append(("current", device))
        yield
        events.append("no more")

    default = types.SimpleNamespace(sync=lambda: events.append("wait"))
    monkeypatch.setattr(cuda, "current", current)
    monkeypatch.setattr(cuda.Jax, "view", lambda self, value: types.SimpleNamespace(device=3))
    monkeypatch.setitem(sys.modules, "cuda.core", types.SimpleNamespace(LEGACY_DEFAULT_STREAM=default))
    monkeypatch.setitem(sys.modules, "cuda", types.SimpleNamespace())
    library, value = cuda.Jax(), jnp.ones(3)
    assert library.given_back(value, value, None) is value
    assert library.to_host(value).tolist() == [1.0, 1.0, 1.0]
    assert events == [("current", 3), "wait", "no more"] * 2


def test_functions_that_are_called_back_have_an_end(monkeypatch):
    from jitloss.arrays import jax as adapter

    monkeypatch.setattr(keys, "MOST_KEYS", 2)
    monkeypatch.setattr(adapter, "_on_host_again", {})
    x = jnp.linspace(0.1, 0.9, 5)
    for number in range(5):
        jax.eval_shape(lambda p, d=number + 1.0: jitloss.huber_loss.gradient(p, x, delta=d), x)
        assert len(adapter._on_host_again) <= 2


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_traced_numbers(kind):
    with pytest.raises(
        TypeError, match="cross_entropy_with_logits: class_weight holds traced numbers, which must be in one array"
    ):
        jax.eval_shape(lambda z, w: jitloss.cross_entropy_with_logits(z, CLASSES, class_weight=kind([w] * 6)), LOGITS, 1.0)


def test_what_is_beside_jax_arrays_is_read_once(monkeypatch):
    from jitloss.loss import Form

    read, in_numpy = [], Form.in_numpy
    monkeypatch.setattr(Form, "in_numpy", lambda form, name, value: (read.append(name), in_numpy(form, name, value))[1])

    def call(p):
        return jitloss.mse_loss(p, [0.0, 1.0, 2.0])

    for one in (call, jax.jit(call)):
        read.clear()
        assert float(one(jnp.ones(3))) == pytest.approx(2 / 3)
        assert read == ["targets"]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cotangents_of_numpy_and_python(reduction):
    value, pull = jax.vjp(lambda z: jitloss.cross_entropy_with_logits(z, CLASSES, reduction=reduction), LOGITS)
    (want,) = pull(2.0 * jnp.ones_like(value))
    assert np.any(want)
    for by in (np.full(value.shape, 2.0, np.float32), *((2.0, np.float32(2.0)) if not value.ndim else ())):
        np.testing.assert_array_equal(pull(by)[0], want)


def test_traced_integers_have_gradients_of_floats():
    predictions, targets = jnp.array([3, 1, -2]), jnp.array([0, 2, 2])
    for form in (jitloss.mse_loss.value_and_gradient, jitloss.mse_loss.value_gradient_hessian):
        for got, want in zip(jax.jit(form)(predictions, targets), form(predictions, targets), strict=True):
            assert got.dtype == want.dtype == jnp.float32
            np.testing.assert_array_equal(got, want)
    items = jax.jit(lambda p: jitloss.mse_loss(p, targets, reduction="none"))(predictions)
    assert (items.dtype, items.tolist()) == (jnp.float32, [9.0, 1.0, 16.0])


def test_large_integers_have_gradients_of_floats():
    """Of the width that JAX uses, also where the memory of a gradient is taken as it is."""
    predictions = jnp.arange(2**18)
    value, gradient = jitloss.mse_loss.value_and_gradient(predictions, predictions - 1, reduction="sum")
    assert (value.dtype, gradient.dtype) == (jnp.float32, jnp.float32)
    assert np.all(np.asarray(gradient) == 2.0)


def test_traced_numbers_at_any_depth():
    with pytest.raises(TypeError, match="cross_entropy_with_logits: class_weight holds traced numbers"):
        jax.eval_shape(lambda z, w: jitloss.cross_entropy_with_logits(z, CLASSES, class_weight=[1.0, [[w]]]), LOGITS, 1.0)


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"a": {"b": np.ones(3)}, "c": [np.ones(3), np.ones(3)]}, r"params\['c'\]: l2_regularization: params"),
        ({"a": {"b": [1.0, 2.0]}}, r"params\['a'\]: params\['b'\]: l2_regularization: params"),
        ([[np.ones(3)], [np.ones(3)]], "l2_regularization: params"),
    ],
    ids=range(3),
)
def test_traced_arrays_in_lists(params, place):
    for call in (jax.grad(jitloss.l2_regularization), jax.jit(jitloss.l2_regularization.value_and_gradient)):
        with pytest.raises(
            TypeError,
            match=rf"^{place} cannot be read as an array: a list holds JAX arrays, .*; stack them into one array, or name",
        ):
            call(jax.tree.map(jnp.asarray, params))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_half_types(dtype):
    x = jnp.array([1.0, 2.0, 4.0], dtype)
    for by in (1.0, 3.0):
        gradient = jax.grad(lambda p, by=by: by * jitloss.mse_loss(p, x * 0))(x)
        assert gradient.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(gradient, float), by * np.array([2.0, 4.0, 8.0]) / 3, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_values_of_half_types(dtype):
    x = jnp.array([1.0, 2.0, 4.0], dtype)
    for call in (jitloss.mse_loss, jax.jit(jitloss.mse_loss, static_argnames="reduction")):
        values = call(x, x * 0, reduction="none")
        assert values.dtype == dtype
        np.testing.assert_array_equal(np.asarray(values, float), [1.0, 4.0, 16.0])


def test_large_arrays_of_bfloat16():
    x = jnp.ones(100_000, jnp.bfloat16)
    gradient = jitloss.mse_loss.gradient(x, x * 0, reduction="sum")
    assert gradient.dtype == jnp.bfloat16
    assert (gradient == 2.0).all()


@pytest.mark.usefixtures("_x64")
def test_values_of_float32_beside_64_bits():
    x = jnp.ones(3, jnp.float32)
    for call in (jitloss.mse_loss, jax.jit(jitloss.mse_loss)):
        assert call(x, x).dtype == np.float32


def test_a_cotangent_that_is_nothing():
    @jax.custom_vjp
    def forgotten(value):
        return value

    forgotten.defvjp(lambda value: (value, None), lambda saved, by: (None,))
    for reduction in ("mean", "none"):
        gradient = jax.grad(lambda p: forgotten(jitloss.mse_loss(p, jnp.zeros(3), reduction=reduction)).sum())(jnp.ones(3))
        np.testing.assert_array_equal(gradient, np.zeros(3))


def test_options_that_are_known_are_looked_at_when_a_call_is_traced():
    with pytest.raises(ValueError, match="class_weight"):
        jax.eval_shape(lambda z: jitloss.cross_entropy_with_logits(z, CLASSES, class_weight=np.full(6, -1.0)), LOGITS)


DEVICES = """
import jax, jitloss
first, second = jax.devices()
x = jax.device_put(jax.numpy.ones(1000), second)
for _ in range(10):  # some of them in memory that JAX takes as it is
    value, gradient = jitloss.mse_loss.value_and_gradient(x, x)
    assert value.devices() == gradient.devices() == {second}
"""


def test_results_are_on_the_device_of_the_first_input():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", DEVICES], check=True, env=environment, timeout=300)


def test_a_parameter_to_come_may_be_less_than_one():
    x = jnp.linspace(0.0, 1.0, 5)
    want = jitloss.quantile_loss(x, x * 0, quantile=0.25)
    np.testing.assert_allclose(jax.jit(lambda q: jitloss.quantile_loss(x, x * 0, quantile=q))(0.25), want)


def test_strict_promotion_of_dtypes():
    x = jnp.array([1.0, 2.0, 4.0], "bfloat16")
    want = jax.grad(jitloss.mse_loss)(x, 2 * x)
    with jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(jax.grad(jitloss.mse_loss)(x, 2 * x), want)
