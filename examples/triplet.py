"""Triplets: embeddings in which an anchor is nearer to a positive of its class than to a negative of another."""

import numpy as np
from model import Arrays, Network, Siamese
from training import descend, show

from jitloss import triplet_loss

MODEL = Siamese(Network(features=8, hidden=16, heads={"embedding": 2}), output="embedding")


def members(classes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A point of each of the classes 0 to 3. Two features tell the class, as corners of a square; six are noise."""
    x = random.normal(size=(len(classes), 8))
    x[:, :2] = 0.3 * x[:, :2] + np.stack([classes % 2, classes // 2], axis=1)
    return x


def data() -> Arrays:
    """Rows of an anchor, a positive of its class and a negative of another."""
    random = np.random.default_rng(0)
    classes = random.integers(0, 4, size=200)
    others = (classes + random.integers(1, 4, size=200)) % 4
    return {name: members(of, random) for name, of in (("anchor", classes), ("positive", classes), ("negative", others))}


def objective(params: Arrays, inputs: Arrays) -> tuple[float, Arrays]:
    """The triplet loss, and the gradients of the parameters that all three share."""
    outputs = MODEL.evaluate(params, inputs)
    loss, output_gradients = triplet_loss.value_and_gradient(outputs["anchor"], outputs["positive"], outputs["negative"])
    _, gradients = MODEL.evaluate(params, inputs, output_gradients=output_gradients)
    return loss, gradients


def train(steps: int = 300) -> list[float]:
    """Train from scratch; returns the history of the loss."""
    inputs = data()
    return descend(lambda params: objective(params, inputs), MODEL.randomize_params(), steps, rate=0.2)


if __name__ == "__main__":
    show("Triplets: margin loss of embeddings", train())
