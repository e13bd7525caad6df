"""The examples: scripts run, losses fall, and parameter gradients are those of the whole objective."""

import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import jitloss

FOLDER = Path(__file__).resolve().parents[1] / "examples"
SHARED = {"model", "training"}
FACTORS = {"single_output": 10, "two_outputs": 30, "triplet": 10, "contrastive": 5, "regularization": 20, "auxiliary": 3}
"""By how much an objective falls at least. The auxiliary loss cannot reach 0: pixels are grey."""


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    for name in [*SHARED, *FACTORS]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    if request.param == "auxiliary":
        pytest.importorskip("sklearn")
    module = importlib.import_module(request.param)
    for name in [*SHARED, *FACTORS]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return module


each = pytest.mark.parametrize("example", FACTORS, indirect=True)


def given(example: ModuleType) -> tuple[Any, ...]:
    """What the objective takes after the parameters."""
    data = example.data()
    return data if isinstance(data, tuple) else (data,)


def params_of(example: ModuleType) -> dict[str, np.ndarray]:
    """Parameters of which none is 0, away from the kinks of penalties."""
    random = np.random.default_rng(1)
    return {name: one + random.normal(scale=0.1, size=one.shape) for name, one in example.MODEL.randomize_params().items()}


def central_difference(
    function: Any, params: dict[str, np.ndarray], direction: dict[str, np.ndarray], size: float = 1e-6
) -> float:
    ends = [function({name: one + sign * size * direction[name] for name, one in params.items()})[0] for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * size)


def test_every_script_is_tested():
    assert {one.stem for one in FOLDER.glob("*.py")} == SHARED | FACTORS.keys()


@each
def test_the_loss_falls_and_falls_the_same_way_again(example, request):
    history = example.train()
    assert np.isfinite(history).all()
    assert history[-1] < history[0] / FACTORS[request.node.callspec.params["example"]]
    assert example.train() == history


@each
def test_one_number_of_each_parameter(example):
    """Those with the steepest slope, where an error would show."""
    params, function = params_of(example), lambda params: example.objective(params, *given(example))
    _, gradients = function(params)
    assert gradients.keys() == params.keys()
    for name, gradient in gradients.items():
        place = np.unravel_index(np.argmax(abs(gradient)), gradient.shape)
        direction = {key: np.zeros_like(one) for key, one in params.items()}
        direction[name][place] = 1.0
        assert gradient[place] == pytest.approx(central_difference(function, params, direction), rel=1e-6, abs=1e-8), name


@each
@pytest.mark.parametrize("seed", range(3))
def test_all_parameters_in_a_random_direction(example, seed):
    random = np.random.default_rng(seed)
    params, function = params_of(example), lambda params: example.objective(params, *given(example))
    direction = {name: random.normal(size=one.shape) for name, one in params.items()}
    slope = sum(float(np.vdot(gradient, direction[name])) for name, gradient in function(params)[1].items())
    assert slope == pytest.approx(central_difference(function, params, direction), rel=1e-6)


@each
def test_an_objective_changes_nothing_that_it_is_given(example):
    params, data = params_of(example), given(example)
    before = {name: one.copy() for name, one in params.items()}
    first = example.objective(params, *data)
    assert all(np.array_equal(params[name], one) for name, one in before.items())
    again = example.objective(params, *data)
    assert again[0] == first[0]
    assert all(np.array_equal(again[1][name], one) for name, one in first[1].items())


@pytest.mark.parametrize("name", FACTORS)
def test_a_script_prints_its_table(name, tmp_path):
    if name == "auxiliary":
        pytest.importorskip("sklearn")
    run = partial(subprocess.run, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, timeout=300)
    done = run([sys.executable, "-W", "error", str(FOLDER / f"{name}.py")], env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines() if line[:6].strip().isdigit()]
    shown = [float(value) for _, value in rows]
    assert len(shown) == 6
    assert shown == sorted(shown, reverse=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("example", ["two_outputs"], indirect=True)
def test_an_output_that_is_left_out_counts_as_zero(example):
    params, (inputs, targets) = params_of(example), given(example)
    outputs, of_loss = example.MODEL.evaluate(params, inputs), {}
    of_loss["reg_output"] = jitloss.mse_loss.gradient(outputs["reg_output"], targets["reg_output"])
    _, some = example.MODEL.evaluate(params, inputs, output_gradients=of_loss)
    of_loss["class_output"] = np.zeros_like(outputs["class_output"])
    _, whole = example.MODEL.evaluate(params, inputs, output_gradients=of_loss)
    assert all(np.array_equal(some[name], one) for name, one in whole.items())
    assert not some["class_output_weight"].any()


@pytest.mark.parametrize(("example", "outputs"), [
    ("two_outputs", "class_output, reg_output"), ("triplet", "anchor, positive, negative"),
], indirect=["example"])  # fmt: skip
def test_gradients_of_an_unknown_output_are_refused(example, outputs):
    with pytest.raises(ValueError, match=f"^output_gradients must be of the outputs {outputs}, got embeddings$"):
        example.MODEL.evaluate(params_of(example), given(example)[0], output_gradients={"embeddings": np.zeros((1, 1))})


@each
def test_both_kinds_of_evaluation_give_the_same_outputs(example):
    params, inputs = params_of(example), given(example)[0]
    alone, (outputs, _) = example.MODEL.evaluate(params, inputs), example.MODEL.evaluate(params, inputs, output_gradients={})
    assert outputs.keys() == alone.keys()
    assert all(np.array_equal(outputs[name], one) for name, one in alone.items())


# The same dicts, given to frameworks ------------------------------------------------------------------------------------------------


def network(params: Any, x: Any, tanh: Any) -> dict[str, Any]:
    """The network of the examples, in any framework."""
    hidden = tanh(x @ params["hidden_weight"] + params["hidden_bias"])
    heads = [name.removesuffix("_weight") for name in params if name.endswith("output_weight")]
    return {name: hidden @ params[f"{name}_weight"] + params[f"{name}_bias"] for name in heads}


def agree(theirs: Any, example: ModuleType, params: Any, inputs: Any, of_outputs: Any) -> None:
    ours = example.MODEL.evaluate(params, inputs, output_gradients=of_outputs)[1]
    assert theirs.keys() == ours.keys()
    for name, one in ours.items():
        np.testing.assert_allclose(theirs[name], one, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("example", ["two_outputs"], indirect=True)
def test_jax_vjp_takes_them(example):
    jax = pytest.importorskip("jax")
    params, (inputs, targets) = params_of(example), given(example)
    with jax.enable_x64(True):
        outputs, vjp = jax.vjp(lambda params: network(params, inputs["x"], jax.numpy.tanh), params)
        of_outputs = example.LOSS.gradient({name: np.asarray(one) for name, one in outputs.items()}, targets)
        (theirs,) = vjp(jax.tree.map(jax.numpy.asarray, of_outputs))
        agree(theirs, example, params, inputs, of_outputs)


@pytest.mark.parametrize("example", ["two_outputs"], indirect=True)
def test_torch_backward_takes_them(example):
    torch = pytest.importorskip("torch")
    params, (inputs, targets) = params_of(example), given(example)
    leaves = {name: torch.tensor(one, requires_grad=True) for name, one in params.items()}
    outputs = network(leaves, torch.from_numpy(inputs["x"]), torch.tanh)
    of_outputs = example.LOSS.gradient({name: one.detach().numpy() for name, one in outputs.items()}, targets)
    torch.autograd.backward(list(outputs.values()), [torch.from_numpy(of_outputs[name]) for name in outputs])
    agree({name: leaf.grad.numpy() for name, leaf in leaves.items()}, example, params, inputs, of_outputs)
