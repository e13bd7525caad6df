"""PyTorch tensors: autograd, shared memory, torch.compile, and every loss with the numbers that NumPy arrays give."""

import functools
import sys
import textwrap

import numpy as np
import pytest

import jitloss
from cases import CASES, Case, agree, draw, flat, weights
from jitloss import keys
from processes import python

torch = pytest.importorskip("torch")

LABELS = next(case for case in CASES if case.name == "cross_entropy_with_logits" and case.labels)
MSE = next(case for case in CASES if case.name == "mse_loss")
BACKENDS = ["eager", "aot_eager"]


def tensors(inputs):
    return [torch.from_numpy(np.ascontiguousarray(one)) for one in inputs]


def trained(case: Case, inputs):
    """The inputs as tensors, those that the loss differentiates as leaves."""
    pairs = zip(case.loss.definition.inputs, tensors(inputs), strict=True)
    return [tensor.requires_grad_() if one.differentiable else tensor for one, tensor in pairs]


def gradients_of(case: Case, made):
    return [tensor.grad for one, tensor in zip(case.loss.definition.inputs, made, strict=True) if one.differentiable]


def same(got, want, dtype="float64"):
    agree(got.detach().numpy() if isinstance(got, torch.Tensor) else got, np.asarray(want), dtype)


# Autograd ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_backward(case, dtype):
    inputs = draw(case, case.shape, dtype, ignored=case.labels)
    made = trained(case, inputs)
    value = case.loss(*made)
    assert (type(value), value.shape, value.requires_grad) == (torch.Tensor, (), True)
    (3.0 * value + value).backward()
    want, gradient = case.loss.value_and_gradient(*inputs)
    same(value, want, dtype)
    for got, theirs in zip(gradients_of(case, made), flat(gradient), strict=True):
        assert got.dtype == getattr(torch, dtype)
        same(got, 4.0 * theirs, dtype)


@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
def test_items_carry_their_own_gradients(case):
    inputs = draw(case, case.shape, ignored=case.labels)
    made, by = trained(case, inputs), weights(case.shape[:1]).astype(np.float64)
    items = case.loss(*made, reduction="none")
    items.backward(torch.from_numpy(by))
    values, gradient = case.loss.value_and_gradient(*inputs, reduction="none")
    same(items, values)
    for got, theirs in zip(gradients_of(case, made), flat(gradient), strict=True):
        same(got, theirs * by.reshape(-1, *[1] * (theirs.ndim - 1)))


def test_items_along_an_inner_axis():
    inputs = draw(LABELS, (3, 5, 4), axis=1)
    logits, labels = trained(LABELS, inputs)
    items = LABELS.loss(logits, labels, axis=1, reduction="none")
    by = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
    (items * by).sum().backward()
    want = LABELS.loss.gradient(*inputs, axis=1, reduction="none")
    same(logits.grad, want * by.numpy()[:, None])


def test_only_what_is_trained_gets_a_gradient():
    case = next(case for case in CASES if case.name == "triplet_loss")
    anchors, positives, negatives = tensors(draw(case, case.shape))
    positives.requires_grad_()
    case.loss(anchors, positives, negatives).backward()
    assert anchors.grad is None
    assert negatives.grad is None
    same(positives.grad, case.loss.gradient(anchors, positives.detach(), negatives)["positive"])


def test_no_gradient_work_when_nothing_is_trained(monkeypatch):
    predictions, targets = tensors(draw(MSE, (33,)))
    kinds = []
    monkeypatch.setattr(
        jitloss.Form, "evaluate", lambda self, *a, run=jitloss.Form.evaluate: (kinds.append(self.kind), run(self, *a))[1]
    )
    monkeypatch.setattr(MSE.loss.value, "_quick", None)
    monkeypatch.setattr(MSE.loss.value_and_gradient, "_quick", None)
    MSE.loss(predictions, targets)
    with torch.no_grad():
        assert not MSE.loss(predictions.requires_grad_(), targets).requires_grad
    with torch.inference_mode():
        MSE.loss(predictions, targets)
    assert set(kinds) == {"value"}
    monkeypatch.setattr(MSE.loss.value_and_gradient, "_quick", None)
    MSE.loss(predictions, targets)
    assert kinds[-1] == "value_and_gradient"


def test_the_graph_may_be_gone_through_twice():
    predictions, targets = trained(MSE, draw(MSE, (33,)))
    value = MSE.loss(predictions, targets)
    value.backward(retain_graph=True)
    first = predictions.grad.clone()
    value.backward(torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(predictions.grad, 3.0 * first)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_a_second_derivative_is_refused(case):
    made = trained(case, draw(case, case.shape))
    leaf = next(one for one in made if one.requires_grad)
    (gradient,) = torch.autograd.grad(case.loss(*made), leaf, create_graph=True)
    same(gradient, flat(case.loss.gradient(*[one.detach() for one in made]))[0])
    with pytest.raises(NotImplementedError, match=f"{case.name}.*differentiated once"):
        (gradient * gradient).sum().backward()


def test_targets_and_weights_have_no_gradient():
    predictions, targets = tensors(draw(MSE, (33,)))
    trained_too = {"targets": targets.clone().requires_grad_(), "sample_weight": torch.ones(33, requires_grad=True)}
    for name, one in trained_too.items():
        with pytest.raises(NotImplementedError, match=f"mse_loss: {name} requires a gradient.*{name}.detach"):
            jitloss.mse_loss(**{"predictions": predictions, "targets": targets, name: one})
    with torch.no_grad():
        jitloss.mse_loss(predictions, targets.requires_grad_())


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name not in ("l1_loss", "hinge_loss", "quantile_loss", "l1_regularization", "elastic_net")],
    ids=repr,
)
def test_gradcheck(case):
    shape = (4, 5) if case.rowwise else (7,)
    made = trained(case, draw(case, shape, seed=3))
    leaves = [one for one in made if one.requires_grad]

    def function(*given):
        rest = iter(given)
        return case.loss(*(next(rest) if one.requires_grad else one for one in made))

    assert torch.autograd.gradcheck(function, leaves, eps=1e-6, atol=1e-6)


def test_functorch_takes_gradients():
    predictions, targets = tensors(draw(MSE, (33,)))
    same(torch.func.grad(MSE.loss)(predictions, targets), MSE.loss.gradient(predictions.numpy(), targets.numpy()))


def test_functorch_is_told_of_second_derivatives():
    predictions, targets = tensors(draw(MSE, (33,)))
    with pytest.raises(NotImplementedError, match="a loss is differentiated once"):
        torch.func.grad(lambda one: torch.func.grad(MSE.loss)(one, targets).sum())(predictions)


def test_values_are_where_the_inputs_are():
    """Whatever the default device of new tensors is."""
    predictions, targets = tensors(draw(MSE, (33,)))
    with torch.device("meta"):
        results = [MSE.loss(predictions, targets), *MSE.loss.value_and_gradient(predictions, targets)]
        results.append(MSE.loss(predictions.clone().requires_grad_(), targets))
    assert all(one.device.type == "cpu" for one in results)


def test_training():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    x = torch.randn(256, 4)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = jitloss.cross_entropy_with_logits(model(x), labels) + jitloss.l2_regularization(
            dict(model.named_parameters()), 1e-4
        )
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(1) == labels).float().mean() > 0.95


# Forms, memory, dtypes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["gradient", "value_and_gradient", "value_gradient_hessian"])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_forms(case, form):
    if form == "value_gradient_hessian" and not case.loss.definition.hessian:
        pytest.xfail("not defined")
    inputs = draw(case, case.shape)
    got, want = (getattr(case.loss, form)(*given) for given in (trained(case, inputs), inputs))
    parts = zip(got if isinstance(got, tuple) else [got], want if isinstance(want, tuple) else [want], strict=True)
    for mine, theirs in parts:
        if isinstance(theirs, dict):
            assert list(mine) == list(theirs)
        for one, other in zip(flat(mine), flat(theirs), strict=True):
            assert not one.requires_grad
            same(one, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_dtypes(dtype):
    predictions, targets = torch.tensor([1, 2, 5]).to(dtype), torch.tensor([0, 4, 4]).to(dtype)
    value, gradient = jitloss.mse_loss.value_and_gradient(predictions, targets)
    real = torch.float64 if dtype is torch.int32 else dtype
    assert (value.dtype, gradient.dtype) == (torch.float64 if real is torch.float64 else torch.float32, real)
    assert value.item() == pytest.approx(2.0)
    assert gradient.tolist() == pytest.approx([2 / 3, -4 / 3, 2 / 3], rel=1e-2)


def test_memory_is_shared():
    predictions, targets = torch.randn(1000, dtype=torch.float64), torch.zeros(1000, dtype=torch.float64)
    out = torch.empty_like(predictions)
    _, gradient = jitloss.mse_loss.value_and_gradient(predictions, targets, out=out)
    assert gradient is out
    want = 2 * predictions / 1000
    jitloss.mse_loss.value_and_gradient(predictions, targets, out=predictions)
    torch.testing.assert_close(predictions, want)
    torch.testing.assert_close(out, want)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[:, ::2],
        lambda x: x[3],
        lambda x: x[0, 0],
        lambda x: x[:0],
        lambda x: x.real if x.is_complex() else x.expand(2, *x.shape),
    ],
    ids=range(6),
)
def test_views(view):
    torch.manual_seed(1)
    predictions, targets = view(torch.randn(6, 8)), view(torch.randn(6, 8))
    value, gradient = jitloss.l1_loss.value_and_gradient(predictions, targets)
    assert gradient.shape == predictions.shape
    torch.testing.assert_close(
        value, torch.nn.functional.l1_loss(predictions, targets) if predictions.numel() else torch.tensor(0.0)
    )


def test_mixed_with_arrays():
    predictions, targets = draw(MSE, (33,))
    tensor = torch.from_numpy(predictions)
    assert isinstance(jitloss.mse_loss(tensor, targets), torch.Tensor)
    assert isinstance(jitloss.mse_loss(tensor, targets.tolist()), torch.Tensor)
    value, gradient = jitloss.mse_loss.value_and_gradient(predictions, torch.from_numpy(targets), sample_weight=torch.ones(33))
    assert (type(value), type(gradient)) == (float, np.ndarray)


def test_parameters_and_dicts():
    layer = torch.nn.Linear(3, 2)
    params = dict(layer.named_parameters())
    value = jitloss.elastic_net({"layer": params, "other": torch.ones(2)})
    value.backward()
    want = jitloss.elastic_net.gradient({name: one.detach().numpy() for name, one in params.items()})
    for name, one in params.items():
        same(one.grad, want[name], "float32")


def test_several_outputs():
    outputs = {"a": torch.randn(5, requires_grad=True), "b": torch.randn(5, 3, requires_grad=True)}
    targets = {"a": torch.randn(5), "b": torch.tensor([0, 2, 1, 1, 0])}
    total = jitloss.weighted_sum(a=(jitloss.mse_loss, 2.0), b=(jitloss.cross_entropy_with_logits, 0.5))
    total(outputs, targets).backward()
    value, gradients = total.value_and_gradient(
        *({name: one.detach().numpy() for name, one in each.items()} for each in (outputs, targets))
    )
    same(total(outputs, targets), np.float32(value), "float32")
    for name, one in outputs.items():
        same(one.grad, gradients[name], "float32")


def test_options_are_tensors():
    inputs = draw(LABELS, LABELS.shape, ignored=True)
    plain = {
        "sample_weight": weights((33,)),
        "class_weight": weights((7,), seed=1),
        "normalizer": "weights",
        "label_smoothing": 0.1,
    }
    given = {name: torch.from_numpy(one) if isinstance(one, np.ndarray) else one for name, one in plain.items()}
    made = trained(LABELS, inputs)
    LABELS.loss(*made, **given).backward()
    same(made[0].grad, LABELS.loss.gradient(*inputs, **plain))


@pytest.mark.filterwarnings("ignore")
def test_parameters_are_tensors():
    predictions, targets = draw(CASES[0], (9,), "float32")
    want, gradient = jitloss.huber_loss.value_and_gradient(predictions, targets, 0.3)
    for loss in (jitloss.huber_loss, torch.compile(jitloss.huber_loss, backend="eager", fullgraph=True)):
        made = torch.from_numpy(predictions).requires_grad_()
        value = loss(made, torch.from_numpy(targets), torch.tensor(0.3))
        value.backward()
        same(value, np.float32(want), "float32")
        same(made.grad, gradient, "float32")


@pytest.mark.parametrize("made", [
    lambda: torch.zeros(3, 3).to_sparse(), lambda: torch.zeros(3, device="meta"),
    lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
], ids=["sparse", "meta", "quantized"])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_memory(made):
    with pytest.raises(TypeError, match="mse_loss: predictions: a tensor must be"):
        jitloss.mse_loss(made(), torch.zeros(3))


def test_errors_are_those_of_the_loss():
    with pytest.raises(ValueError, match="predictions and targets must have the same shape"):
        jitloss.mse_loss(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="wanted a class from 0 to 2"):
        jitloss.cross_entropy_with_logits(torch.zeros(2, 3), torch.tensor([0, 3]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    model, x, t = torch.nn.Linear(8, 4), torch.randn(16, 8), torch.randn(16, 4)
    with torch.autocast("cpu", dtype=dtype):
        output = model(x)
        assert output.dtype is dtype
        assert jitloss.mse_loss(output, t).dtype is torch.float32
        assert jitloss.mse_loss(output, t, reduction="none").dtype is torch.float32
        assert jitloss.mse_loss(t.double(), t.double(), reduction="none").dtype is torch.float64
        jitloss.mse_loss(output, t).backward()
    assert model.weight.grad.dtype is torch.float32


# torch.compile ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fresh():
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_compile(case, backend):
    inputs = draw(case, case.shape, "float32", ignored=case.labels)
    with jitloss.errstate(invalid="ignore"):  # plans and recordings of calls on arrays must not disturb a compiler
        for _ in range(3):
            case.loss(*inputs)

    @torch.compile(fullgraph=True, backend=backend)
    def compiled(*given):
        return 2.0 * case.loss(*given)

    made = trained(case, inputs)
    value = compiled(*made)
    value.backward()
    want, gradient = case.loss.value_and_gradient(*inputs)
    same(value, np.float32(2.0 * want), "float32")
    for got, theirs in zip(gradients_of(case, made), flat(gradient), strict=True):
        same(got, 2.0 * theirs, "float32")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "none"},
        {"label_smoothing": 0.1, "reduction": "sum"},
        {"class_weight": {0: 2.0}},
        {"sample_weight": "tensor"},
    ],
    ids=repr,
)
def test_compile_options(options):
    inputs = draw(LABELS, LABELS.shape, "float32")
    given = {name: torch.from_numpy(weights((33,))) if value == "tensor" else value for name, value in options.items()}
    plain = {name: weights((33,)) if value == "tensor" else value for name, value in options.items()}

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(logits, labels):
        return LABELS.loss(logits, labels, **given)

    made = trained(LABELS, inputs)
    value = compiled(*made)
    value.sum().backward()
    want, gradient = LABELS.loss.value_and_gradient(*inputs, **plain)
    same(value, np.asarray(want, np.float32), "float32")
    same(made[0].grad, gradient, "float32")


@pytest.mark.filterwarnings("ignore")
def test_compile_other_forms_and_custom_losses():
    @jitloss.pointwise
    def cubic(prediction, target, scale=1.0):
        error = abs(prediction - target)
        return scale * error**3, 3.0 * scale * error * (prediction - target)

    total = 0.5 * cubic + jitloss.mse_loss
    predictions, targets = torch.randn(20), torch.randn(20)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(predictions, targets):
        return *total.value_and_gradient(predictions, targets), cubic.value_and_gradient(predictions, targets, scale=2.0)

    got, want = (
        compiled(predictions, targets),
        (*total.value_and_gradient(predictions, targets), cubic.value_and_gradient(predictions, targets, scale=2.0)),
    )
    torch.testing.assert_close(got, want)


@pytest.mark.filterwarnings("ignore")
def test_compile_needs_no_call_before():
    """In a new process, whose first call of jitloss is compiled."""
    script = """
        import torch, jitloss
        p = torch.ones(3, requires_grad=True)
        value = torch.compile(lambda p: jitloss.mse_loss(p, torch.zeros(3)), fullgraph=True, backend="aot_eager")(p)
        value.backward()
        print(value.item(), p.grad.tolist())
    """
    assert python("-c", textwrap.dedent(script)).split() == [
        "1.0",
        "[0.6666666865348816,",
        "0.6666666865348816,",
        "0.6666666865348816]",
    ]


@pytest.mark.filterwarnings("ignore")
def test_opcheck():
    case = LABELS
    made = trained(case, draw(case, case.shape, "float32"))
    case.loss(*made)  # the operator is there from the first tensor on
    integers = [torch.tensor([[3, 1], [0, 2]]), torch.tensor([1, 0])]
    utils = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    for inputs, used in (
        (made, utils[:2]),  # the third would differentiate the gradient too
        ([one.detach() for one in made], utils),
        (integers, utils),
    ):
        for form in (case.loss.value_and_gradient, case.loss.value_gradient_hessian):
            torch.library.opcheck(
                torch.ops.jitloss.evaluate.default,
                (form.key, "logits,targets,label_smoothing,axis", inputs, [0.1], [-1], "reduction='none'"),
                test_utils=used,
            )


# What is asked of a loss as of PyTorch's own -------------------------------------------------------------------------------------


def some():
    torch.manual_seed(0)
    return torch.randn(6, 4), torch.randn(6, 4), torch.randint(0, 4, (6,))


def test_a_scale_beyond_float16():
    """A gradient scaler begins at 65536."""
    x = torch.full((10,), 0.01, dtype=torch.float16, requires_grad=True)
    (jitloss.mse_loss(x, torch.zeros(10, dtype=torch.float16)) * 65536.0).backward()
    assert torch.allclose(x.grad.float(), torch.full((10,), 65536 * 0.002), rtol=1e-2)
    x = torch.zeros(10, dtype=torch.float16, requires_grad=True)
    (jitloss.mse_loss(x, torch.zeros(10, dtype=torch.float16)) * 65536.0).backward()
    assert not x.grad.any()


def test_a_gradient_is_its_owners():
    """Writing to it does not change what a retained graph holds."""
    x, t, _ = some()
    x.requires_grad_()
    value = jitloss.mse_loss(x, t)
    value.backward(retain_graph=True)
    first = x.grad.clone()
    x.grad.zero_()
    value.backward()
    assert torch.equal(x.grad, first)


def test_what_is_written_to_is_known_to_autograd():
    x, t, _ = some()
    x.requires_grad_()
    p = torch.tanh(x)
    gradient = jitloss.mse_loss.gradient(p, t, out=p)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        p.backward(gradient)
    with pytest.raises(ValueError, match=r"out must not be a leaf .* give out.detach"):
        jitloss.mse_loss.gradient(x, t, out=x)
    with torch.no_grad():
        assert jitloss.mse_loss.gradient(x, t, out=x) is x
    with torch.inference_mode():
        made = torch.zeros(6, 4)
        assert jitloss.mse_loss.gradient(made, t, out=made) is made


def test_a_refused_call_has_written_nothing():
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    made = (2 * leaf).exp()
    with pytest.raises(ValueError, match="same shape"):
        jitloss.mse_loss.gradient(torch.ones(2), torch.ones(3), out=made.detach())
    made.sum().backward()
    assert torch.equal(leaf.grad, 2 * made.detach())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of PyTorch's own
def test_forward_mode_is_refused():
    from torch.utils.flop_counter import FlopCounterMode

    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.ones(3), torch.ones(3))
        with pytest.raises(NotImplementedError, match=r"mse_loss: .*forward-mode"):
            jitloss.mse_loss(dual, torch.zeros(3))
        with pytest.raises(NotImplementedError, match=r"mse_loss: .*forward-mode"):
            jitloss.mse_loss(torch.ones(3), torch.zeros(3), sample_weight=dual)
        with FlopCounterMode(display=False), pytest.raises(NotImplementedError, match=r"mse_loss: .*forward-mode"):
            jitloss.mse_loss(dual, torch.zeros(3))
    ones = torch.ones(3)
    for loss in (jitloss.mse_loss, torch.compile(jitloss.mse_loss, backend="eager")):
        with pytest.raises(NotImplementedError, match=r"mse_loss: .*forward-mode"):
            torch.func.jvp(lambda x, loss=loss: loss(x, ones), (ones,), (ones,))
    compiled = torch.compile(lambda x: torch.func.jvp(lambda x: jitloss.mse_loss(x, ones), (x,), (ones,)), backend="eager")
    with pytest.raises(NotImplementedError, match=r"mse_loss: .*forward-mode"):
        compiled(ones)


def whole(function, **options):
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


def test_compiled_forms_of_tensors_that_require_a_gradient():
    x, t, _ = some()
    want = jitloss.mse_loss.value_gradient_hessian(x, t)
    leaf = x.clone().requires_grad_()
    got = whole(lambda one: jitloss.mse_loss.value_gradient_hessian(one, t))(leaf)
    assert all(torch.equal(mine, right) and not mine.requires_grad for mine, right in zip(got, want, strict=True))
    assert torch.equal(whole(lambda one: jitloss.mse_loss.gradient(one, t))(leaf), want[1])


def test_compiled_options_that_change():
    """Numbers that the compiler makes symbolic."""
    x, t, labels = some()
    delta = whole(lambda one, by: jitloss.huber_loss(one, t, delta=by))
    index = whole(lambda one, ignored: jitloss.cross_entropy_with_logits(one, labels, ignore_index=ignored))
    count = whole(lambda one: jitloss.mse_loss(one, 2 * one, normalizer=one.shape[0]))
    for step in range(1, 13):
        if step < 5:  # of floats PyTorch compiles one after the other, for its own losses too
            assert torch.allclose(delta(x, 0.1 * step), torch.nn.functional.huber_loss(x, t, delta=0.1 * step))
        assert torch.allclose(index(x, step % 4), torch.nn.functional.cross_entropy(x, labels, ignore_index=step % 4))
        rows = torch.randn(step + 1, 4)
        assert torch.allclose(count(rows), rows.square().sum() / (step + 1))
    assert torch.allclose(whole(lambda one: jitloss.cross_entropy_with_logits(one, labels), dynamic=True)(x),
                          torch.nn.functional.cross_entropy(x, labels))  # fmt: skip


def test_compiled_penalties_and_numpy_arguments():
    x, t, labels = some()
    x.requires_grad_()
    penalty = whole(lambda one: jitloss.elastic_net({"w": one}, strength=0.3, l1_ratio=0.2))(x)
    penalty.backward()
    want = jitloss.elastic_net.value_and_gradient({"w": x.detach()}, strength=0.3, l1_ratio=0.2)
    assert torch.allclose(penalty, want[0])
    assert torch.allclose(x.grad, want[1]["w"])
    plain = x.detach()
    assert torch.allclose(whole(lambda one: jitloss.mse_loss(one, t.numpy()))(plain), jitloss.mse_loss(plain, t))
    weights = np.arange(1.0, 5.0)
    weighted = whole(lambda one: jitloss.cross_entropy_with_logits(one, labels, class_weight=weights))(plain)
    assert torch.allclose(weighted, jitloss.cross_entropy_with_logits(plain, labels, class_weight=weights))


def test_compiled_under_autocast():
    x, _, labels = some()

    def values(one):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return jitloss.cross_entropy_with_logits(one @ torch.eye(4), labels, reduction="none")

    assert whole(values)(x).dtype == values(x).dtype == torch.float32


def test_tensors_with_a_sign_that_waits():
    z = torch.complex(torch.zeros(3), torch.tensor([1.0, -2.0, 4.0]))
    assert z.conj().imag.is_neg()
    assert float(jitloss.mse_loss(z.conj().imag, torch.zeros(3))) == 7.0


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    x = torch.ones(3, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"^mse_loss: predictions: a bfloat16 tensor on the CPU needs the package ml_dtypes"):
        jitloss.mse_loss(x, x)


def test_the_dtype_of_a_value_beside_lists():
    x = torch.ones(1)
    assert [jitloss.mse_loss(x, [kind(0.0)]).dtype for kind in (float, np.float32, float)] == [
        torch.float64,
        torch.float32,
        torch.float64,
    ]


def test_compiled_calls_of_too_many_arguments():
    x = torch.ones(3)
    call = torch.compile(lambda p: jitloss.mse_loss(p, p, *[3.0] * 9), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match=r"under torch.compile a call takes predictions, targets"):
        call(x)


def test_a_compiled_gradient_is_contiguous():
    x = torch.arange(6.0).reshape(2, 3).t()
    found = torch.compile(lambda p: jitloss.mse_loss.gradient(p, p * 0).stride(), backend="eager", fullgraph=True)(x)
    assert tuple(found) == (2, 1) == jitloss.mse_loss.gradient(x, x * 0).stride()


CHANNELS_LAST = torch.linspace(-3, 3, 4 * 8 * 32 * 40).reshape(4, 8, 32, 40).to(memory_format=torch.channels_last)
"""More elements than are copied."""


def test_gradients_keep_the_memory_format():
    labels = torch.arange(4 * 32 * 40).reshape(4, 32, 40) % 8
    wanted = torch.nn.functional.cross_entropy
    for logits in (CHANNELS_LAST, CHANNELS_LAST.contiguous()):
        mine, its = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        jitloss.cross_entropy_with_logits(mine, labels, axis=1).backward()
        wanted(its, labels).backward()
        assert mine.grad.stride() == its.grad.stride() == logits.stride()
        torch.testing.assert_close(mine.grad, its.grad)


def test_compiled_gradients_of_another_memory_format():
    """The compiler is promised contiguous results, and relies on it."""
    labels = torch.arange(4 * 32 * 40).reshape(4, 32, 40) % 8

    gradient = functools.partial(jitloss.cross_entropy_with_logits.gradient, targets=labels, axis=1)
    got = torch.compile(lambda logits: gradient(logits), backend="eager", fullgraph=True)(CHANNELS_LAST)
    assert got.is_contiguous()
    torch.testing.assert_close(got, gradient(CHANNELS_LAST.contiguous()))


def test_an_output_where_operations_are_counted():
    pytest.importorskip("torch.utils.flop_counter")
    x, out = torch.ones(3), torch.empty(3)
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        assert jitloss.mse_loss.gradient(x, x * 0, out=out) is out
    assert float(out.sum()) == 2.0


def test_outputs_of_inference_and_leaves_without_a_graph():
    with torch.inference_mode():
        x, out = torch.ones(3), torch.empty(3)
        assert jitloss.mse_loss.gradient(x, x * 0, out=out) is out
    leaf = torch.empty(3, requires_grad=True)
    with torch.no_grad():
        assert jitloss.mse_loss.gradient(torch.ones(3), torch.zeros(3), out=leaf) is leaf


def test_compiled_class_weights():
    logits, labels = torch.linspace(-1, 1, 12).reshape(4, 3), torch.tensor([0, 1, 2, 1])

    def compiled(given):
        torch._dynamo.reset()
        call = torch.compile(lambda x: jitloss.cross_entropy_with_logits(x, labels, class_weight=given), backend="eager")
        return float(call(logits))

    want = float(jitloss.cross_entropy_with_logits(logits, labels, class_weight=[1.0, 2.0, 3.0]))
    for given in ([1.0, 2.0, 3.0], np.arange(1.0, 4.0), list(np.arange(1.0, 4.0)), {0: 1.0, 1: 2.0, 2: 3.0}):
        assert compiled(given) == pytest.approx(want, rel=1e-6)
    with pytest.raises(
        RuntimeError, match=r"class_weight must be a tensor, a NumPy array, or made of Python's own numbers.* got \{0: np"
    ):
        compiled({0: np.float64(2.0)})


def test_compiled_switches():
    x = torch.arange(6.0).reshape(2, 3)
    for full in (True, False):
        got = torch.compile(lambda p: jitloss.triplet_loss(p, p + 1.0, p * 2.0, squared=full), backend="eager", fullgraph=True)(x)
        assert float(got) == float(jitloss.triplet_loss(x, x + 1.0, x * 2.0, squared=full))


def test_what_is_known_of_dtypes_has_an_end(monkeypatch):
    from jitloss.arrays import torch as adapter

    monkeypatch.setattr(keys, "MOST_KEYS", 2)
    monkeypatch.setattr(adapter, "_doubles", {})
    for loss in (jitloss.mse_loss, jitloss.l1_loss, jitloss.log_cosh_loss):
        for dtype in (torch.float32, torch.float64):
            assert loss(torch.ones(3, dtype=dtype), torch.zeros(3, dtype=dtype)).dtype is dtype
            assert 1 <= len(adapter._doubles) <= 2
