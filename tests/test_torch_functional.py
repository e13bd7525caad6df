"""jitloss.torch beside torch.nn.functional and torch.nn: the same arguments, values and gradients."""

import inspect
import re

import numpy as np
import pytest

import jitloss

torch = pytest.importorskip("torch")
functional = torch.nn.functional

torch.manual_seed(0)
REDUCTIONS = [("mean", torch.float32), ("sum", torch.float32), ("none", torch.float32), ("mean", torch.float64)]


def logits(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def probabilities(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def log_softmax(*shape):
    return torch.log_softmax(logits(*shape), -1 if len(shape) == 1 else 1)


def labels(classes, *shape, ignored=False):
    drawn = torch.randint(classes, shape)
    return torch.where(torch.rand(shape) < 0.3, -100, drawn) if ignored else drawn


ISOSCELES = tuple(torch.tensor([corner], dtype=torch.float64) for corner in ([0.0, 0.0], [2.0, 0.0], [1.0, 3.0]))
"""An anchor, a positive and a negative that is as far from one as from the other."""

CALLS = {
    "mse_loss": [((logits(5, 3), logits(5, 3)), {}), ((logits(7), logits(7)), {"weight": probabilities(7)})],
    "l1_loss": [((logits(5, 3), logits(5, 3)), {}), ((logits(7), logits(7)), {"weight": probabilities(7)})],
    "huber_loss": [((logits(9), logits(9)), {}), ((logits(2, 9), logits(2, 9)), {"delta": 0.3, "weight": probabilities(2, 9)})],
    "smooth_l1_loss": [((logits(9), logits(9)), {}), ((logits(9), logits(9)), {"beta": 0.2}), ((logits(9), logits(9)), {"beta": 0.0})],
    "cross_entropy": [
        ((logits(6, 4), labels(4, 6, ignored=True)), {}),
        ((logits(6, 4), labels(4, 6, ignored=True)), {"weight": probabilities(4), "label_smoothing": 0.2}),
        ((logits(6, 4), labels(4, 6)), {"ignore_index": 2}),
        ((logits(2, 4, 3, 5), labels(4, 2, 3, 5, ignored=True)), {"weight": probabilities(4)}),
        ((logits(4), torch.tensor(2)), {}),
        ((logits(6, 4), torch.softmax(logits(6, 4), 1)), {"label_smoothing": 0.1}),
        ((logits(2, 4, 3), torch.softmax(logits(2, 4, 3), 1)), {"weight": probabilities(4)}),
    ],
    "nll_loss": [
        ((log_softmax(6, 4), labels(4, 6, ignored=True)), {}),
        ((log_softmax(2, 4, 5), labels(4, 2, 5)), {"weight": probabilities(4)}),
        ((log_softmax(4), torch.tensor(1)), {}),
        ((torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]), torch.tensor([0, 1])), {}),
    ],
    "binary_cross_entropy": [
        ((probabilities(5, 3), probabilities(5, 3)), {}),
        ((probabilities(5, 3), probabilities(5, 3).round()), {"weight": probabilities(3)}),
        ((torch.tensor([0.0, 1.0, 0.0, 1.0]).double(), torch.tensor([0.0, 1.0, 1.0, 0.0]).double()), {}),
    ],
    "binary_cross_entropy_with_logits": [
        ((logits(5, 3), probabilities(5, 3)), {}),
        ((logits(5, 3), probabilities(5, 3)), {"weight": probabilities(5, 1), "pos_weight": torch.tensor(2.5)}),
        ((logits(5, 3), probabilities(5, 3)), {"pos_weight": 3.0 * probabilities(3)}),
        ((logits(2, 3, 4), probabilities(2, 3, 4)), {"pos_weight": 3.0 * probabilities(3, 1), "weight": probabilities(4)}),
    ],
    "kl_div": [
        ((log_softmax(5, 3), torch.softmax(logits(5, 3), 1)), {}),
        ((log_softmax(5, 3), log_softmax(5, 3)), {"log_target": True}),
        ((log_softmax(1, 3), torch.tensor([[0.0, 0.5, 0.5]]).double()), {}),
    ],
    "poisson_nll_loss": [
        ((logits(9), labels(5, 9).double()), {}),
        ((logits(9), labels(5, 9).double()), {"full": True}),
        ((probabilities(9), labels(5, 9).double()), {"log_input": False, "full": True, "eps": 1e-3}),
    ],
    "triplet_margin_loss": [
        ((logits(5, 3), logits(5, 3), logits(5, 3)), {}),
        ((logits(5, 3), logits(5, 3), logits(5, 3)), {"margin": 0.2}),
        ((logits(5, 3), logits(5, 3), logits(5, 3)), {"swap": True}),
        ((logits(5, 3), logits(5, 3), logits(5, 3)), {"p": 1.0, "eps": 1e-3}),
        ((logits(5, 3), logits(5, 3), logits(5, 3)), {"p": 3.0, "swap": True, "margin": 2.0}),
        ((torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)), {"p": 1.0, "swap": True, "eps": 0.0}),
        ((torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)), {"p": 3.0, "eps": 0.0}),
        (ISOSCELES, {"swap": True, "eps": 0.0, "margin": 5.0}),
        (ISOSCELES, {"p": 0.5, "eps": 0.0, "margin": 9.0}),
    ],
}  # fmt: skip


def cast(value, dtype):
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def outcome(function, inputs, options):
    """The value and the gradients of the first input, or of all three of a triplet."""
    leaves = len(inputs) if len(inputs) == 3 else 1
    inputs = [one.clone().requires_grad_() if at < leaves else one for at, one in enumerate(inputs)]
    value = function(*inputs, **options)
    value.sum().backward()
    return value.detach(), [one.grad for one in inputs[:leaves]]


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize(("reduction", "dtype"), REDUCTIONS, ids=str)
@pytest.mark.parametrize(("name", "number"), [(name, number) for name, calls in CALLS.items() for number in range(len(calls))])
def test_functions(name, number, reduction, dtype):
    inputs, options = CALLS[name][number]
    inputs = [cast(one, dtype) for one in inputs]
    options = {key: cast(one, dtype) for key, one in options.items()} | {"reduction": reduction}
    got, want = (outcome(getattr(module, name), inputs, options) for module in (jitloss.torch, functional))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", CALLS)
def test_signatures(name):
    mine, theirs = (inspect.signature(getattr(module, name)).parameters for module in (jitloss.torch.functional, functional))
    assert [(one.name, one.default) for one in mine.values()] == [(one.name, one.default) for one in theirs.values()]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("older", [{}, {"reduce": False}, {"size_average": False}, {"size_average": True}], ids=repr)
@pytest.mark.parametrize("shape", [(5, 3), (3,), ()], ids=repr)
def test_batchmean(shape, older):
    """A tensor without axes is not a batch, and with the older arguments the result is divided too."""
    inputs, options = (torch.rand(shape).double().log(), torch.rand(shape).double()), {"reduction": "batchmean", **older}
    got, want = (outcome(module.kl_div, inputs, options) for module in (jitloss.torch, functional))
    torch.testing.assert_close(got, want)


def test_batchmean_of_no_rows():
    value, (gradient,) = outcome(jitloss.torch.kl_div, (torch.zeros(0, 3), torch.zeros(0, 3)), {"reduction": "batchmean"})
    assert value == 0.0
    assert gradient.shape == (0, 3)


BAD = {
    "triplet_margin_loss": {"p": -1.0},
    "nll_loss": {"ignore_index": "no"},
    "binary_cross_entropy": {"reduction": "bad"},
    "poisson_nll_loss": {"log_input": False, "reduction": "bad"},
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_function(name):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: "):
        getattr(jitloss.torch, name)(*CALLS[name][0][0], **BAD[name])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "older", [{"reduce": False}, {"size_average": False}, {"size_average": True}, {"reduce": True}], ids=repr
)
def test_older_arguments(older):
    inputs = CALLS["mse_loss"][0][0]
    got, want = (outcome(module.mse_loss, inputs, older) for module in (jitloss.torch, functional))
    torch.testing.assert_close(got, want)


MODULES = {
    "MSELoss": ("mse_loss", {}),
    "L1Loss": ("l1_loss", {"reduction": "sum"}),
    "HuberLoss": ("huber_loss", {"delta": 0.4}),
    "SmoothL1Loss": ("smooth_l1_loss", {"beta": 0.5}),
    "CrossEntropyLoss": ("cross_entropy", {"weight": probabilities(4), "label_smoothing": 0.1}),
    "NLLLoss": ("nll_loss", {"weight": probabilities(4)}),
    "BCELoss": ("binary_cross_entropy", {"weight": probabilities(3)}),
    "BCEWithLogitsLoss": ("binary_cross_entropy_with_logits", {"pos_weight": 2.0 * probabilities(3)}),
    "KLDivLoss": ("kl_div", {"reduction": "batchmean"}),
    "PoissonNLLLoss": ("poisson_nll_loss", {"full": True}),
    "TripletMarginLoss": ("triplet_margin_loss", {"margin": 0.5, "swap": True}),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    function, options = MODULES[name]
    inputs = CALLS[function][0][0]
    mine, theirs = (getattr(module, name)(**options) for module in (jitloss.torch, torch.nn))
    torch.testing.assert_close(outcome(mine, inputs, {}), outcome(theirs, inputs, {}))
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert all(one.dtype is torch.float32 for one in mine.float().state_dict().values())
    assert mine.reduction == theirs.reduction


def test_every_module_and_function_is_tested():
    assert set(jitloss.torch.functional.__all__) == set(CALLS)
    assert set(jitloss.torch.modules.__all__) == set(MODULES)
    assert {*CALLS, *MODULES} <= set(dir(jitloss.torch))


def test_wrong_calls():
    with pytest.raises(ValueError, match="must have the same shape"):
        jitloss.torch.mse_loss(logits(5, 3), logits(3))
    with pytest.raises(ValueError, match="beta must not be negative"):
        jitloss.torch.smooth_l1_loss(logits(3), logits(3), beta=-1.0)
    with pytest.raises(ValueError, match="reduction must be"):
        jitloss.torch.mse_loss(logits(3), logits(3), reduction="average")
    for options in ({}, {"p": 1.0}, {"swap": True}):
        with pytest.raises(ValueError, match="margin must be a number that is not negative"):
            jitloss.torch.triplet_margin_loss(logits(2, 3), logits(2, 3), logits(2, 3), -1.0, **options)


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_are_no_tensors(name):
    function, inputs = getattr(jitloss.torch, name), CALLS[name][0][0]
    for place, argument in enumerate(list(inspect.signature(function).parameters)[: len(inputs)]):
        for one in ([1.0, 0.0], np.ones(2), None):
            given = [*inputs[:place], one, *inputs[place + 1 :]]
            with pytest.raises(TypeError, match=f"^{name}: {argument} must be a tensor, got {type(one).__name__}$"):
                function(*given)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("binary_cross_entropy", "weight"),
        ("binary_cross_entropy_with_logits", "weight"),
        ("binary_cross_entropy_with_logits", "pos_weight"),
    ],
)
def test_weights_that_spread_over_nothing(name, argument):
    function, inputs = getattr(jitloss.torch, name), (probabilities(4, 3), probabilities(4, 3))
    said = rf"^{name}: {argument} must be broadcastable to input, whose shape is \(4, 3\); got the shape \(5,\)$"
    with pytest.raises(ValueError, match=said):
        function(*inputs, **{argument: torch.ones(5)})
    with pytest.raises(TypeError, match=f"^{name}: {argument} must be a tensor, got list$"):
        function(*inputs, **{argument: [1.0, 2.0, 3.0]})


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weights_that_are_not_like_the_input(name):
    """PyTorch does not accept one weight per row."""
    for theirs, said in (
        (functional, "same size"),
        (jitloss.torch, rf"^{name}: weight must have the shape of input, \(4, 3\); got"),
    ):
        for shape in ((4,), (3,), (4, 1), (3, 4)):
            with pytest.raises(ValueError, match=said):
                getattr(theirs, name)(logits(4, 3), logits(4, 3), weight=torch.ones(shape))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "cross_entropy", "nll_loss"])
def test_weights_that_are_no_tensors(name):
    targets = labels(3, 4) if name in ("cross_entropy", "nll_loss") else logits(4, 3)
    with pytest.raises(TypeError, match=f"^{name}: weight must be a tensor, got list$"):
        getattr(jitloss.torch, name)(logits(4, 3), targets, weight=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("wrong", ["a", None, True, torch.ones(1)], ids=repr)
def test_numbers_that_are_none(wrong):
    with pytest.raises(TypeError, match=f"^smooth_l1_loss: beta must be a number, got {re.escape(repr(wrong))}$"):
        jitloss.torch.smooth_l1_loss(logits(3), logits(3), beta=wrong)
    with pytest.raises(TypeError, match=f"^triplet_margin_loss: eps must be a number, got {re.escape(repr(wrong))}$"):
        jitloss.torch.triplet_margin_loss(logits(3), logits(3), logits(3), eps=wrong)


def test_what_is_written_down_without_tensors():
    with pytest.raises(TypeError, match=r"^cross_entropy: input must be a tensor, got Proxy$"):
        torch.fx.symbolic_trace(jitloss.torch.CrossEntropyLoss())


def test_numbers_that_are_tensors():
    inputs = logits(5), logits(5)
    got, want = (outcome(module.smooth_l1_loss, inputs, {"beta": torch.tensor(0.5)}) for module in (jitloss.torch, functional))
    torch.testing.assert_close(got, want)
    with pytest.raises(ValueError, match="beta must not be negative or NaN, got nan"):
        jitloss.torch.smooth_l1_loss(*inputs, beta=float("nan"))


@pytest.mark.filterwarnings("ignore")
def test_modules_compile():
    loss = torch.compile(jitloss.torch.CrossEntropyLoss(torch.ones(4), label_smoothing=0.1), fullgraph=True, backend="aot_eager")
    inputs = [logits(6, 4).float().requires_grad_(), labels(4, 6)]
    value = loss(*inputs)
    value.backward()
    torch.testing.assert_close(value, torch.nn.CrossEntropyLoss(label_smoothing=0.1)(*inputs))
    torch._dynamo.reset()


OLDER = [name for name in CALLS if "reduce" in inspect.signature(getattr(functional, name)).parameters]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("older", [{"reduce": False}, {"size_average": False}], ids=repr)
@pytest.mark.parametrize("name", OLDER)
def test_older_arguments_of_every_function(name, older):
    inputs = CALLS[name][0][0]
    got, want = (outcome(getattr(module, name), inputs, older) for module in (jitloss.torch, functional))
    torch.testing.assert_close(got, want)


MORE = [
    *((name, options | {"reduction": reduction}, 0) for name, (_, options) in MODULES.items() for reduction in ("sum", "none")),
    ("CrossEntropyLoss", {"ignore_index": 2}, 2),
    ("NLLLoss", {"ignore_index": 1}, 1),
    ("BCEWithLogitsLoss", {"weight": probabilities(3)}, 0),
    ("KLDivLoss", {"log_target": True, "reduction": "sum"}, 1),
    ("PoissonNLLLoss", {"log_input": False, "eps": 1e-2}, 2),
    ("TripletMarginLoss", {"p": 1.0, "eps": 1e-2}, 0),
    ("TripletMarginLoss", {"eps": 1e-2}, 0),
]


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize(("name", "options", "number"), MORE, ids=str)
def test_modules_hand_on_all_they_hold(name, options, number):
    inputs = CALLS[MODULES[name][0]][number][0]
    mine, theirs = (getattr(module, name)(**options) for module in (jitloss.torch, torch.nn))
    torch.testing.assert_close(outcome(mine, inputs, {}), outcome(theirs, inputs, {}))
