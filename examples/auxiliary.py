"""Main and auxiliary loss with regularisation: a classifier of digits that must also reconstruct its input."""

import numpy as np
from model import Arrays, Network
from sklearn.datasets import load_digits
from training import descend, show

import jitloss

MODEL = Network(features=64, hidden=32, heads={"class_output": 10, "reconstruction": 64})
LOSS = jitloss.weighted_sum(
    class_output=(jitloss.cross_entropy_with_logits, 1.0, {"label_smoothing": 0.05}),
    reconstruction=(jitloss.binary_cross_entropy_with_logits, 0.5),
)
STRENGTH = 1e-4


def data() -> tuple[Arrays, Arrays]:
    """scikit-learn's 1797 digits; the pixels, from 0 to 1, are both input and target."""
    images, digits = load_digits(return_X_y=True)
    pixels = images / 16.0
    return {"x": pixels - pixels.mean(axis=0)}, {"class_output": digits, "reconstruction": pixels}


def objective(params: Arrays, inputs: Arrays, targets: Arrays) -> tuple[float, Arrays]:
    """Main loss, auxiliary loss and penalty in one number, and the gradients of the parameters."""
    outputs = MODEL.evaluate(params, inputs)
    loss, output_gradients = LOSS.value_and_gradient(outputs, targets)
    _, gradients = MODEL.evaluate(params, inputs, output_gradients=output_gradients)

    weights = {name: param for name, param in params.items() if name.endswith("weight")}
    penalty, of_weights = jitloss.l2_regularization.value_and_gradient(weights, STRENGTH)
    return loss + penalty, {name: gradient + of_weights.get(name, 0.0) for name, gradient in gradients.items()}


def accuracy(params: Arrays) -> float:
    """The share of the training digits that the model classifies correctly."""
    inputs, targets = data()
    return float(np.mean(MODEL.evaluate(params, inputs)["class_output"].argmax(axis=1) == targets["class_output"]))


def train(steps: int = 60, params: Arrays | None = None) -> list[float]:
    """Train from scratch, or from ``params``, which are changed in place; returns the history of the objective."""
    inputs, targets = data()
    params = MODEL.randomize_params() if params is None else params
    return descend(lambda params: objective(params, inputs, targets), params, steps, rate=1.0)


if __name__ == "__main__":
    params = MODEL.randomize_params()
    show("Main + 0.5 · auxiliary + L2: digits", train(params=params))
    print(f"\n{accuracy(params):.1%} of the digits are read.")
