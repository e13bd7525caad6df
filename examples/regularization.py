"""Regularisation: gradients of an L1 and an L2 penalty go straight to the parameters, not through the model."""

import numpy as np
from model import Arrays, Network
from training import descend, show

from jitloss import l1_regularization, l2_regularization, mse_loss

MODEL = Network(features=10, hidden=16, heads={"output": 1})
L1, L2 = 2e-3, 5e-3


def data() -> tuple[Arrays, Arrays]:
    """A smooth function of two features, with noise; eight more features say nothing about it."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 10))
    return {"x": x}, {"output": np.sin(x[:, :1]) + 0.5 * x[:, 1:2] + 0.1 * random.normal(size=(200, 1))}


def objective(params: Arrays, inputs: Arrays, targets: Arrays) -> tuple[float, Arrays]:
    """The loss and both penalties, and the gradients of the parameters."""
    outputs = MODEL.evaluate(params, inputs)
    loss, gradient = mse_loss.value_and_gradient(outputs["output"], targets["output"])
    _, gradients = MODEL.evaluate(params, inputs, output_gradients={"output": gradient})

    first = {"hidden_weight": params["hidden_weight"]}
    l1, of_first = l1_regularization.value_and_gradient(first, L1)  # on what chooses among the features
    l2, of_all = l2_regularization.value_and_gradient(params, L2)  # on everything
    for penalty in (of_first, of_all):
        for name, gradient in penalty.items():
            gradients[name] += gradient
    return loss + l1 + l2, gradients


def train(steps: int = 400) -> list[float]:
    """Train from scratch; returns the history of the objective."""
    inputs, targets = data()
    return descend(lambda params: objective(params, inputs, targets), MODEL.randomize_params(), steps, rate=0.2)


if __name__ == "__main__":
    show("Regularisation: mean squared error + L1 + L2", train())
