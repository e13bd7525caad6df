"""Every loss against the libraries that people come from: PyTorch (float64 autograd), optax on JAX, scikit-learn, SciPy.

Each entry is one call of jitloss and what a user of the other library would write for it; a peer that is missing is skipped.
"""

import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import jitloss
from cases import ALL, Case, agree, draw, flat, weights

LOOSER = 200.0  # 2e-12 in float64: peers round too


class Peer(NamedTuple):
    """A loss with options, and its equivalent as a function of ``(library, *inputs)``."""

    loss: str
    function: Callable[..., Any]
    options: dict[str, Any] = {}  # noqa: RUF012
    labels: bool = False
    shape: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        return "-".join(
            [self.loss, *(f"{key}={value}" for key, value in self.options.items()), *(["labels"] if self.labels else [])]
        )

    @property
    def case(self) -> Case:
        return Case(jitloss.LOSSES[self.loss], self.labels)

    def inputs(self, shape: tuple[int, ...] | None = None) -> list[Any]:
        return draw(self.case, shape or self.shape or self.case.shape, axis=self.options.get("axis", -1))


def each(peers: list[Peer]) -> Any:
    return pytest.mark.parametrize("peer", peers, ids=repr)


# PyTorch ----------------------------------------------------------------------------------------------------------------------


def torch_focal_with_logits(torch, z, t, gamma=2.0, alpha=0.25):
    """As in torchvision."""
    t = (t == 1).to(z.dtype)
    p = torch.sigmoid(z)
    nll = torch.nn.functional.binary_cross_entropy_with_logits(z, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    share = 1.0 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    return (share * (1 - p_t) ** gamma * nll).mean()


def torch_focal(torch, p, t, gamma=2.0, alpha=0.25):
    t = (t == 1).to(p.dtype)
    p_t = p * t + (1 - p) * (1 - t)
    share = 1.0 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    return (-share * (1 - p_t) ** gamma * torch.log(p_t)).mean()


def torch_capped(torch, z, t, z_loss, softcap):
    capped = softcap * torch.tanh(z / softcap)
    return torch.nn.functional.cross_entropy(capped, t) + z_loss * (torch.logsumexp(capped, -1) ** 2).mean()


def torch_contrastive(torch, e1, e2, y, margin=1.0):
    d = torch.linalg.vector_norm(e1 - e2, dim=-1)
    return (y * d**2 + (1 - y) * torch.clamp(margin - d, min=0) ** 2).mean()


def torch_triplet_squared(torch, a, p, n, margin=1.0):
    return torch.relu(((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1) + margin).mean()


def torch_quantile(torch, p, t, q):
    return torch.maximum(q * (t - p), (q - 1) * (t - p)).mean()


def torch_log_cosh(torch, p, t):
    return torch.log(torch.cosh(p - t)).mean()


def torch_nll(torch, p, t, **options):
    return torch.nn.functional.nll_loss(torch.log(p), t, **options)


TORCH = [
    Peer("mse_loss", lambda torch, p, t: torch.nn.functional.mse_loss(p, t)),
    Peer("mse_loss", lambda torch, p, t: torch.nn.functional.mse_loss(p, t, reduction="sum"), {"reduction": "sum"}),
    Peer("l1_loss", lambda torch, p, t: torch.nn.functional.l1_loss(p, t)),
    Peer("huber_loss", lambda torch, p, t: torch.nn.functional.huber_loss(p, t)),
    Peer("huber_loss", lambda torch, p, t: torch.nn.functional.huber_loss(p, t, delta=2.5), {"delta": 2.5}),
    Peer("huber_loss", lambda torch, p, t: 0.3 * torch.nn.functional.smooth_l1_loss(p, t, beta=0.3), {"delta": 0.3}),
    Peer("log_cosh_loss", torch_log_cosh),
    Peer("quantile_loss", lambda torch, p, t: torch_quantile(torch, p, t, 0.5)),
    Peer("quantile_loss", lambda torch, p, t: torch_quantile(torch, p, t, 0.85), {"quantile": 0.85}),
    Peer("poisson_nll_loss", lambda torch, p, t: torch.nn.functional.poisson_nll_loss(p, t)),
    Peer("poisson_nll_loss", lambda torch, p, t: torch.nn.functional.poisson_nll_loss(p, t, full=True), {"full": True}),
    Peer("cross_entropy_loss", torch_nll, labels=True),
    Peer("cross_entropy_loss", lambda torch, p, t: -(t * torch.log(p)).sum(-1).mean()),
    Peer("cross_entropy_with_logits", lambda torch, z, t: torch.nn.functional.cross_entropy(z, t), labels=True),
    Peer("cross_entropy_with_logits", lambda torch, z, t: torch.nn.functional.cross_entropy(z, t)),
    Peer("cross_entropy_with_logits", lambda torch, z, t: torch.nn.functional.cross_entropy(z, t), {}, True, (9, 300)),
    Peer("cross_entropy_with_logits", lambda torch, z, t: torch.nn.functional.cross_entropy(z, t), {}, False, (9, 300)),
    Peer(
        "cross_entropy_with_logits",
        lambda torch, z, t: torch_capped(torch, z, t, 0.1, 1.5),
        {"z_loss": 0.1, "softcap": 1.5},
        True,
    ),
    Peer("kl_divergence", lambda torch, p, t: torch.nn.functional.kl_div(torch.log(p), t, reduction="batchmean")),
    Peer("binary_cross_entropy", lambda torch, p, t: torch.nn.functional.binary_cross_entropy(p, t)),
    Peer("binary_cross_entropy_with_logits", lambda torch, z, t: torch.nn.functional.binary_cross_entropy_with_logits(z, t)),
    Peer(
        "binary_cross_entropy_with_logits",
        lambda torch, z, t: torch.nn.functional.binary_cross_entropy_with_logits(z, t, pos_weight=torch.tensor(3.0)),
        {"pos_weight": 3.0},
    ),
    Peer("focal_loss", torch_focal),
    Peer("focal_loss", lambda torch, p, t: torch_focal(torch, p, t, 0.5, None), {"gamma": 0.5, "alpha": None}),
    Peer("focal_loss_with_logits", torch_focal_with_logits),
    Peer(
        "focal_loss_with_logits", lambda torch, z, t: torch_focal_with_logits(torch, z, t, 3.5, 0.9), {"gamma": 3.5, "alpha": 0.9}
    ),
    Peer("hinge_loss", lambda torch, p, t: torch.relu(1 - t * p).mean()),
    Peer("triplet_loss", lambda torch, a, p, n: torch.nn.functional.triplet_margin_loss(a, p, n, eps=0.0)),
    Peer(
        "triplet_loss",
        lambda torch, a, p, n: torch.nn.functional.triplet_margin_loss(a, p, n, margin=4.0, eps=0.0),
        {"margin": 4.0},
    ),
    Peer("triplet_loss", torch_triplet_squared, {"squared": True}),
    Peer("contrastive_loss", torch_contrastive),
    Peer("contrastive_loss", lambda torch, a, b, y: torch_contrastive(torch, a, b, y, 8.0), {"margin": 8.0}),
    Peer("l1_regularization", lambda torch, w: 0.01 * w.abs().sum()),
    Peer("l2_regularization", lambda torch, w: 0.005 * (w**2).sum()),
    Peer("elastic_net", lambda torch, w: 0.7 * (0.15 * w.abs() + 0.425 * w**2).sum(), {"strength": 0.7, "l1_ratio": 0.15}),
]


def test_every_loss_meets_pytorch():
    assert {peer.loss for peer in TORCH} == set(jitloss.LOSSES)


def through_autograd(torch, peer: Peer, inputs) -> tuple[float, list[Any]]:
    """The peer's value, and its gradients with respect to the differentiated inputs."""
    tensors = [torch.tensor(one) for one in inputs]
    differentiated = [tensor for tensor, one in zip(tensors, peer.case.loss.definition.inputs, strict=True) if one.differentiable]
    for tensor in differentiated:
        tensor.requires_grad_()
    value = peer.function(torch, *tensors)
    value.backward()
    return value.item(), [tensor.grad.numpy() for tensor in differentiated]


@each(TORCH)
def test_pytorch(peer):
    torch = pytest.importorskip("torch")
    inputs = peer.inputs()
    want, wanted = through_autograd(torch, peer, inputs)
    value, gradient = peer.case.loss.value_and_gradient(*inputs, **peer.options)
    agree(value, want, "float64", looser=LOOSER, what="value")
    for mine, right in zip(flat(gradient), wanted, strict=True):
        agree(mine, right, looser=LOOSER, what="gradient")


@each([peer for peer in TORCH if jitloss.LOSSES[peer.loss].definition.hessian and peer.shape is None])
def test_second_derivatives_of_pytorch(peer):
    torch = pytest.importorskip("torch")
    shape = (3, 4) if peer.case.rowwise else (11,)
    prediction, *others = (torch.tensor(one) for one in peer.inputs(shape))
    whole = torch.autograd.functional.hessian(lambda x: peer.function(torch, x.reshape(shape), *others), prediction.reshape(-1))
    _, _, hessian = peer.case.loss.value_gradient_hessian(*peer.inputs(shape), **peer.options)
    agree(
        hessian, whole.diagonal().reshape(shape).numpy(), looser=20 * LOOSER, what="hessian"
    )  # torch adds an epsilon of its own


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("weighted", "smoothing", "ignored"), [*itertools.product([False, True], [0.0, 0.1], [False, True])])
@pytest.mark.parametrize("shape", [(33, 7), (4, 7, 3, 5)], ids=str)
def test_options_of_pytorch_cross_entropy(shape, weighted, smoothing, ignored, reduction):
    """torch divides a weighted mean by the weights of the true labels, which is ``normalizer="weights"`` here."""
    torch = pytest.importorskip("torch")
    case = Case(jitloss.cross_entropy_with_logits, labels=True)
    logits, labels = draw(case, shape, axis=1, ignored=ignored)
    weight = np.linspace(0.25, 2.0, 7) if weighted else None
    z = torch.tensor(logits, requires_grad=True)
    want = torch.nn.functional.cross_entropy(
        z,
        torch.tensor(labels),
        weight=None if weight is None else torch.tensor(weight),
        label_smoothing=smoothing,
        reduction=reduction,
    )
    want.sum().backward()
    value, gradient = case.loss.value_and_gradient(
        logits, labels, axis=1, class_weight=weight, label_smoothing=smoothing, reduction=reduction, normalizer="weights"
    )
    agree(value, want.detach().numpy(), "float64", looser=LOOSER, what="value")
    agree(gradient, z.grad.numpy(), looser=LOOSER, what="gradient")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("weighted", "smoothing"), [*itertools.product([False, True], [0.0, 0.1])])
@pytest.mark.parametrize("shape", [(33, 7), (4, 7, 3, 5)], ids=str)
def test_options_of_pytorch_cross_entropy_with_soft_targets(shape, weighted, smoothing, reduction):
    """With soft targets torch divides by their number, weighted or not."""
    torch = pytest.importorskip("torch")
    case = Case(jitloss.cross_entropy_with_logits)
    logits, targets = draw(case, shape, axis=1)
    targets = targets / targets.sum(1, keepdims=True)  # torch smooths towards 1 / C of a whole
    weight = np.linspace(0.25, 2.0, 7) if weighted else None
    z = torch.tensor(logits, requires_grad=True)
    want = torch.nn.functional.cross_entropy(
        z,
        torch.tensor(targets),
        weight=None if weight is None else torch.tensor(weight),
        label_smoothing=smoothing,
        reduction=reduction,
    )
    want.sum().backward()
    value, gradient = case.loss.value_and_gradient(
        logits, targets, axis=1, class_weight=weight, label_smoothing=smoothing, reduction=reduction
    )
    agree(value, want.detach().numpy(), "float64", looser=LOOSER, what="value")
    agree(gradient, z.grad.numpy(), looser=LOOSER, what="gradient")


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_weights_of_pytorch_binary_cross_entropy(name):
    torch = pytest.importorskip("torch")
    case = Case(jitloss.LOSSES[name])
    inputs, weight = draw(case, (6, 5)), weights((6, 5))
    x = torch.tensor(inputs[0], requires_grad=True)
    want = getattr(torch.nn.functional, name)(x, torch.tensor(inputs[1]), weight=torch.tensor(weight))
    want.backward()
    value, gradient = case.loss.value_and_gradient(*inputs, sample_weight=weight)
    agree(value, want.item(), "float64", looser=LOOSER)
    agree(gradient, x.grad.numpy(), looser=LOOSER)


@each([peer for peer in TORCH if not peer.options and not jitloss.LOSSES[peer.loss].definition.is_penalty])
def test_float32_is_as_near_as_pytorch_float64(peer):
    """float32 kernels against float64 autograd, on the same numbers."""
    torch = pytest.importorskip("torch")
    inputs = [one.astype(np.float32) if one.dtype == np.float64 else one for one in peer.inputs()]
    want, wanted = through_autograd(torch, peer, [one.astype(np.float64) if one.dtype == np.float32 else one for one in inputs])
    value, gradient = peer.case.loss.value_and_gradient(*inputs)
    agree(value, want, "float32", what="value")
    for mine, right in zip(flat(gradient), wanted, strict=True):
        agree(mine, right, what="gradient")


# optax ------------------------------------------------------------------------------------------------------------------------

OPTAX = [
    Peer("mse_loss", lambda optax, p, t: optax.squared_error(p, t).mean()),
    Peer("mse_loss", lambda optax, p, t: 2 * optax.l2_loss(p, t).mean()),
    Peer("huber_loss", lambda optax, p, t: optax.huber_loss(p, t).mean()),
    Peer("huber_loss", lambda optax, p, t: optax.huber_loss(p, t, delta=2.5).mean(), {"delta": 2.5}),
    Peer("log_cosh_loss", lambda optax, p, t: optax.log_cosh(p, t).mean()),
    Peer("cross_entropy_with_logits", lambda optax, z, t: optax.softmax_cross_entropy(z, t).mean()),
    Peer(
        "cross_entropy_with_logits", lambda optax, z, t: optax.softmax_cross_entropy_with_integer_labels(z, t).mean(), labels=True
    ),
    Peer(
        "cross_entropy_with_logits",
        lambda optax, z, t: optax.softmax_cross_entropy_with_integer_labels(z, t, axis=1).sum(),
        {"axis": 1, "reduction": "sum"},
        True,
        (4, 7, 3),
    ),
    Peer("kl_divergence", lambda optax, p, t: optax.losses.kl_divergence(_numpy_of(p).log(p), t).mean()),
    Peer("binary_cross_entropy_with_logits", lambda optax, z, t: optax.sigmoid_binary_cross_entropy(z, t).mean()),
    Peer("focal_loss_with_logits", lambda optax, z, t: optax.sigmoid_focal_loss(z, 1.0 * (t == 1), alpha=0.25, gamma=2.0).mean()),
    Peer("hinge_loss", lambda optax, p, t: optax.hinge_loss(p, t).mean()),
    Peer(
        "triplet_loss",
        lambda optax, a, p, n: optax.losses.triplet_margin_loss(a, p, n, margin=4.0, eps=0.0).mean(),
        {"margin": 4.0},
    ),
]


def _numpy_of(_: Any) -> Any:
    import jax.numpy

    return jax.numpy


@each(OPTAX)
def test_optax(peer):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    inputs = peer.inputs()
    places = tuple(place for place, one in enumerate(peer.case.loss.definition.inputs) if one.differentiable)
    with jax.enable_x64(True):
        want, wanted = jax.value_and_grad(lambda *arrays: peer.function(optax, *arrays), places)(*map(jax.numpy.asarray, inputs))
        want, wanted = float(want), [np.asarray(one) for one in wanted]
    value, gradient = peer.case.loss.value_and_gradient(*inputs, **peer.options)
    agree(value, want, "float64", looser=LOOSER, what="value")
    for mine, right in zip(flat(gradient), wanted, strict=True):
        agree(mine, right, looser=LOOSER, what="gradient")


def test_optax_smooths_labels_the_same():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    logits, labels = draw(Case(jitloss.cross_entropy_with_logits, labels=True), (33, 7))
    with jax.enable_x64(True):
        smooth = optax.smooth_labels(jax.numpy.eye(7)[labels], 0.2)
        want, wanted = jax.value_and_grad(lambda z: optax.softmax_cross_entropy(z, smooth).mean())(jax.numpy.asarray(logits))
        want, wanted = float(want), np.asarray(wanted)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, label_smoothing=0.2)
    agree(value, want, "float64", looser=LOOSER)
    agree(gradient, wanted, looser=LOOSER)


# scikit-learn and SciPy -------------------------------------------------------------------------------------------------------

SKLEARN = [
    Peer("mse_loss", lambda metrics, p, t, **given: metrics.mean_squared_error(t, p, **given)),
    Peer("l1_loss", lambda metrics, p, t, **given: metrics.mean_absolute_error(t, p, **given)),
    Peer(
        "quantile_loss", lambda metrics, p, t, **given: metrics.mean_pinball_loss(t, p, alpha=0.85, **given), {"quantile": 0.85}
    ),
    Peer("quantile_loss", lambda metrics, p, t, **given: metrics.mean_pinball_loss(t, p, **given)),
    Peer("hinge_loss", lambda metrics, p, t, **given: metrics.hinge_loss(t, p, **given)),
    Peer("cross_entropy_loss", lambda metrics, p, t, **given: metrics.log_loss(t, p, labels=range(7), **given), labels=True),
    Peer("binary_cross_entropy", lambda metrics, p, t, **given: metrics.log_loss(t, p, **given)),
]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@each(SKLEARN)
def test_sklearn(peer, weighted):
    """scikit-learn divides a weighted mean by the weights: ``normalizer="weights"``."""
    metrics = pytest.importorskip("sklearn.metrics")
    inputs = peer.inputs()
    if peer.loss == "binary_cross_entropy":
        inputs[1] = np.round(inputs[1])
    given = {"sample_weight": weights((33,))} if weighted else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        want = peer.function(metrics, *inputs, **given)
    agree(peer.case.loss(*inputs, **peer.options, normalizer="weights", **given), want, "float64", looser=LOOSER)


def test_balanced_weights_of_sklearn():
    utils = pytest.importorskip("sklearn.utils.class_weight")
    logits, labels = draw(Case(jitloss.cross_entropy_with_logits, labels=True), (33, 7))
    labels[labels == 5] = 4  # a class that does not occur
    sample = utils.compute_sample_weight("balanced", labels)
    for normalizer in ("count", "weights"):
        want = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, sample_weight=sample, normalizer=normalizer)
        got = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, class_weight="balanced", normalizer=normalizer)
        agree(got[0], want[0], "float64", looser=LOOSER)
        agree(got[1], want[1], looser=LOOSER)
    counted = utils.compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    given = dict(zip(np.unique(labels).tolist(), counted.tolist(), strict=True))
    agree(
        jitloss.cross_entropy_with_logits(logits, labels, class_weight=given),
        jitloss.cross_entropy_with_logits(logits, labels, class_weight="balanced"),
        "float64",
    )


@pytest.mark.parametrize(
    "loss", [loss for loss in ALL if "class_weight" in loss.__signature__.parameters and loss.definition.form == "pointwise"]
)
def test_balanced_binary_weights_of_sklearn(loss):
    utils = pytest.importorskip("sklearn.utils.class_weight")
    predictions, targets = draw(Case(loss), (33,))
    targets = np.round(targets)
    no, yes = utils.compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=targets)
    sample = utils.compute_sample_weight("balanced", targets)
    for normalizer in ("count", "weights"):
        want = loss.value_and_gradient(predictions, targets, sample_weight=sample, normalizer=normalizer)
        got = loss.value_and_gradient(predictions, targets, class_weight="balanced", normalizer=normalizer)
        agree(got[0], want[0], "float64", looser=LOOSER)
        agree(got[1], want[1], looser=LOOSER)
    if "pos_weight" in loss.__signature__.parameters:
        agree(
            loss(predictions, targets, pos_weight="balanced"),
            loss(predictions, targets, pos_weight=yes / no),
            "float64",
            looser=LOOSER,
        )


SCIPY = [
    Peer("huber_loss", lambda special, p, t: special.huber(1.5, p - t).mean(), {"delta": 1.5}),
    Peer("kl_divergence", lambda special, p, t: special.rel_entr(t, p).sum(-1).mean()),
    Peer("cross_entropy_with_logits", lambda special, z, t: -(t * special.log_softmax(z, -1)).sum(-1).mean()),
    Peer("cross_entropy_loss", lambda special, p, t: -special.xlogy(t, p).sum(-1).mean()),
    Peer("binary_cross_entropy", lambda special, p, t: -(special.xlogy(t, p) + special.xlog1py(1 - t, -p)).mean()),
    Peer(
        "binary_cross_entropy_with_logits",
        lambda special, z, t: -(t * special.log_expit(z) + (1 - t) * special.log_expit(-z)).mean(),
    ),
]


@each(SCIPY)
def test_scipy(peer):
    special = pytest.importorskip("scipy.special")
    inputs = peer.inputs()
    agree(peer.case.loss(*inputs, **peer.options), peer.function(special, *inputs), "float64", looser=LOOSER)
