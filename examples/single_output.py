"""Single output: a classifier of two interleaved half-moons, its logits' gradient from cross-entropy."""

import numpy as np
from model import Arrays, Network
from training import descend, show

from jitloss import cross_entropy_with_logits

MODEL = Network(features=2, hidden=16, heads={"class_output": 2})


def data() -> tuple[Arrays, Arrays]:
    """Points on two half-circles with noise, and which half-circle each is on."""
    random = np.random.default_rng(0)
    labels, angles = random.integers(0, 2, size=400), random.uniform(0.0, np.pi, size=400)
    moons = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    x = np.where(labels[:, None] == 0, moons, np.array([1.0, 0.5]) - moons)
    return {"x": x + random.normal(scale=0.15, size=x.shape)}, {"class_output": labels}


def objective(params: Arrays, inputs: Arrays, targets: Arrays) -> tuple[float, Arrays]:
    """The loss, and the gradients of the parameters."""
    outputs = MODEL.evaluate(params, inputs)
    loss, gradient = cross_entropy_with_logits.value_and_gradient(outputs["class_output"], targets["class_output"])
    _, gradients = MODEL.evaluate(params, inputs, output_gradients={"class_output": gradient})
    return loss, gradients


def train(steps: int = 500) -> list[float]:
    """Train from scratch; returns the history of the loss."""
    inputs, targets = data()
    return descend(lambda params: objective(params, inputs, targets), MODEL.randomize_params(), steps, rate=1.0)


if __name__ == "__main__":
    show("Single output: cross-entropy of half-moons", train())
