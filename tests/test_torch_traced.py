"""PyTorch's graphs: what they return, tracing of calls instead of computing them, and unusual tensors."""

import contextlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

import jitloss

torch = pytest.importorskip("torch")

X = torch.arange(12.0).reshape(3, 4)
T = torch.ones(3, 4)
LABELS = torch.tensor([0, 1, 2])


def leaf():
    return X.clone().requires_grad_()


# Gradients that are handed out ------------------------------------------------------------------------------------------------


def test_a_gradient_needs_no_gradient():
    x = leaf()
    seen = []
    x.register_hook(lambda gradient: seen.append(gradient.requires_grad))
    (gradient,) = torch.autograd.grad(jitloss.mse_loss(x, T), x, retain_graph=True)
    assert not gradient.requires_grad
    np.testing.assert_allclose(gradient.numpy(), (X - T) / 6, rtol=1e-6)
    jitloss.mse_loss(x, T).backward()
    assert seen == [False, False]


def test_a_gradient_may_enter_the_next_step():
    x, layer = leaf(), torch.nn.Linear(4, 4)
    (gradient,) = torch.autograd.grad(jitloss.mse_loss(x, T), x)
    jitloss.mse_loss(layer(x - 0.1 * gradient), T).backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize("way", ["plain", "counted", "compiled"])
def test_a_gradient_of_a_gradient_is_refused_as_ever(way, factor):
    from torch.utils.flop_counter import FlopCounterMode

    x, loss = leaf(), lambda: factor * jitloss.mse_loss(x, T)
    loss = torch.compile(loss, fullgraph=True, backend="eager") if way == "compiled" else loss
    with FlopCounterMode(display=False) if way == "counted" else contextlib.nullcontext():
        (gradient,) = torch.autograd.grad(loss(), x, create_graph=True)
        with pytest.raises(NotImplementedError, match=r"^mse_loss: a loss is differentiated once"):
            gradient.sum().backward()


def test_gradients_in_batches():
    x = leaf()
    loss = jitloss.mse_loss(x, T)
    (each,) = torch.autograd.grad(loss, x, torch.tensor([1.0, 2.0]), is_grads_batched=True, retain_graph=True)
    (one,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(each, torch.stack([one, 2 * one]))
    torch.testing.assert_close(torch.func.jacrev(lambda a: jitloss.mse_loss(a, T))(X), one)
    jacobian = torch.autograd.functional.jacobian(lambda a: jitloss.mse_loss(a, T), X, vectorize=True)
    torch.testing.assert_close(jacobian, one)


@pytest.mark.parametrize("weight", [{0: torch.ones((), requires_grad=True)}, [torch.ones((), requires_grad=True)] * 4])
def test_a_gradient_with_respect_to_what_lies_in_an_option_is_refused(weight):
    with pytest.raises(NotImplementedError, match="class_weight holds a tensor that requires a gradient, and there is none"):
        jitloss.cross_entropy_with_logits(X, LABELS, class_weight=weight)


# Calls that are written down --------------------------------------------------------------------------------------------------


def twice(a):
    return 2.0 * jitloss.mse_loss(a, T)


def test_symbolic_traces_hold_the_call():
    from torch.fx.experimental.proxy_tensor import make_fx

    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(lambda a, b: 2.0 * jitloss.mse_loss(a, b), tracing_mode=mode)(X, T)
        torch.testing.assert_close(graph(3.0 * X, T), twice(3.0 * X))


@pytest.mark.parametrize(
    "call",
    [
        lambda: jitloss.mse_loss(X, T.numpy()),
        lambda: jitloss.mse_loss(X.numpy(), T),
        lambda: jitloss.huber_loss(X, T, delta=np.float32(0.5)),
        lambda: jitloss.cross_entropy_with_logits(X, LABELS, axis=np.int64(1), class_weight={np.int64(0): np.float32(2.0)}),
        lambda: jitloss.cross_entropy_with_logits(X, LABELS, class_weight=[1.0, 2.0, 1.0, np.float64(1.0)]),
        lambda: jitloss.mse_loss(X, np.ma.masked_array(T, mask=False)),
    ],
    ids=range(6),
)
def test_who_counts_operations_changes_nothing(call):
    """For a call that cannot be a single operator as it is."""
    from torch.utils.flop_counter import FlopCounterMode

    def outcome():
        try:
            result = call()
        except TypeError as error:
            return str(error)
        return type(result), float(result)

    with FlopCounterMode(display=False):
        inside = outcome()
    assert inside == outcome()


def test_traces_of_torchscript_hold_the_call():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(twice, (X,), check_trace=False)
    torch.testing.assert_close(traced(3.0 * X), twice(3.0 * X))


def test_tensors_without_numbers_give_shapes():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        x = torch.ones(3, 4)
        values = jitloss.cross_entropy_with_logits(x, torch.zeros(3, dtype=torch.int64), reduction="none")
        assert values.shape == (3,)
    with pytest.raises(TypeError, match="predictions: a tensor must hold numbers that NumPy knows, got FakeTensor"):
        jitloss.mse_loss(x, x)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a: jitloss.mse_loss(a, T, predictions=a), "multiple values for argument 'predictions'"),
        (lambda a: jitloss.mse_loss(a), "missing a required argument: 'targets'"),
        (lambda a: jitloss.mse_loss(targets=a), "missing a required argument: 'predictions'"),
    ],
)
def test_arguments_of_compiled_calls(call, said):
    with pytest.raises(Exception, match=said):
        torch.compile(call, backend="eager")(X)


# Dtypes of values -------------------------------------------------------------------------------------------------------------


def test_a_value_is_of_the_dtype_of_the_arithmetic():
    """Inputs with one number per row do not affect it; differentiated integers do, and so do float64 arrays and lists."""
    same, whole = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64), torch.ones(3, 4, dtype=torch.int64)
    for value, dtype in (
        (jitloss.contrastive_loss(X, T, same), torch.float32),
        (jitloss.triplet_loss(X, whole, T), torch.float64),
        (jitloss.mse_loss(X, whole), torch.float32),
        (jitloss.mse_loss(whole, X), torch.float64),
        (jitloss.mse_loss(X, T.numpy().astype(np.float64)), torch.float64),
        (jitloss.mse_loss(X, T.tolist()), torch.float64),
        (jitloss.mse_loss(X.half(), T), torch.float32),
        (jitloss.cross_entropy_with_logits(X, LABELS), torch.float32),
    ):
        assert value.dtype == dtype
    exact = jitloss.triplet_loss(X.numpy(), whole.numpy(), T.numpy())
    assert jitloss.triplet_loss(X, whole, T).item() == exact


# Odd tensors ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8), "dense and plain, got one that is quantised"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "got one that is nested"),
        (lambda: X.to_sparse(), "got one that is of the layout torch.sparse_coo"),
        (lambda: X.to(torch.float8_e5m2), "numbers that NumPy knows, got Tensor of torch.float8_e5m2"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_no_array_can_be_made_of(make, said):
    with pytest.raises(TypeError, match=f"mse_loss: predictions: .*{said}"):
        jitloss.mse_loss(make(), T)


def test_items_of_half_types_stay_so_without_autocast():
    for dtype in (torch.float16, torch.bfloat16):
        assert jitloss.mse_loss(X.to(dtype), T.to(dtype), reduction="none").dtype is dtype


def test_members_of_lists_that_require_a_gradient():
    with pytest.raises(NotImplementedError, match=r"predictions holds a tensor that requires a gradient.*torch.stack"):
        jitloss.mse_loss([leaf()[0, 0]], torch.zeros(1))


def test_lists_alone_are_read_by_numpy():
    with pytest.raises(ValueError, match=r"mse_loss: predictions cannot be read as an array: .*requires grad"):
        jitloss.mse_loss([leaf()[0, 0]], [1.0])


def test_transforms_within_compiled_functions_are_rejected():
    """There, a tensor that a transform follows seems to need no gradient, and would get one of zeros."""
    for loss in (jitloss.mse_loss, jitloss.torch.mse_loss):
        torch._dynamo.reset()
        with pytest.raises(NotImplementedError, match=r"torch\.func within torch\.compile"):
            torch.compile(torch.func.grad(lambda x, loss=loss: loss(x, T)), backend="eager")(X)
    np.testing.assert_allclose(torch.func.grad(lambda x: jitloss.mse_loss(x, T))(X), (X - T) / 6, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_other_transforms_are_named():
    for call in (
        lambda x: torch.func.vmap(jitloss.mse_loss)(x, T),
        torch.func.grad(lambda x: jitloss.mse_loss.value_and_gradient(x, T)[0]),
    ):
        with pytest.raises(TypeError, match=r"predictions: of torch\.func's transforms only grad, of a value, is supported"):
            call(X)


@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_class_weights_that_change_between_compiled_calls(kind):
    made = {"dict": lambda w: {0: 1.0, 2: w}, "list": lambda w: [1.0, 1.0, w, 1.0], "tuple": lambda w: (1.0, 1.0, w, 1.0)}[kind]
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, weights: jitloss.cross_entropy_with_logits(x, LABELS, class_weight=weights), backend="aot_eager", fullgraph=True
    )
    for w in (2.0, 9.0, 4.0):
        assert compiled(X, made(w)) == jitloss.cross_entropy_with_logits(X, LABELS, class_weight=made(w))


FIRST = """
import torch, jitloss
q = torch.nn.Parameter(torch.ones(3))
for call in (lambda: jitloss.mse_loss(q, torch.zeros(3)), lambda: jitloss.l2_regularization({"q": q}, strength=2.0)):
    value = torch.compile(call, backend="eager", fullgraph=True)()
    value.backward()
    print(float(value), q.grad.tolist())
"""


def test_the_first_call_may_be_compiled_and_on_a_parameter():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FIRST], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    third = float(np.float32(2 / 3))
    assert done.stdout.split("\n")[:2] == [f"1.0 {[third] * 3}", f"3.0 {[float(np.float32(third) + np.float32(2.0))] * 3}"]
