"""Two outputs with weights: one hidden layer predicts a class and a number, with losses added up by ``weighted_sum``."""

import numpy as np
from model import Arrays, Network
from training import descend, show

import jitloss

MODEL = Network(features=6, hidden=16, heads={"class_output": 3, "reg_output": 1})
LOSS = jitloss.weighted_sum(
    class_output=(jitloss.cross_entropy_with_logits, 1.0),
    reg_output=(jitloss.huber_loss, 0.5),
)


def data() -> tuple[Arrays, Arrays]:
    """Points of three groups, and a number that depends on the group and on the position within it."""
    random = np.random.default_rng(0)
    centres, slope = random.normal(scale=1.5, size=(3, 6)), random.normal(size=6)
    labels = random.integers(0, 3, size=300)
    offsets = random.normal(size=(300, 6))
    sizes = labels - 1.0 + 0.3 * offsets @ slope
    return {"x": centres[labels] + offsets}, {"class_output": labels, "reg_output": sizes[:, None]}


def objective(params: Arrays, inputs: Arrays, targets: Arrays) -> tuple[float, Arrays]:
    """The weighted sum of both losses, and the gradients of the parameters."""
    outputs = MODEL.evaluate(params, inputs)
    loss, output_gradients = LOSS.value_and_gradient(outputs, targets)
    _, gradients = MODEL.evaluate(params, inputs, output_gradients=output_gradients)
    return loss, gradients


def train(steps: int = 300) -> list[float]:
    """Train from scratch; returns the history of the objective."""
    inputs, targets = data()
    return descend(lambda params: objective(params, inputs, targets), MODEL.randomize_params(), steps, rate=0.5)


if __name__ == "__main__":
    show("Two outputs: cross-entropy + 0.5 · Huber", train())
