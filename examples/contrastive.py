"""Contrastive pairs: embeddings in which pairs of one class are near each other, and others at least a margin apart."""

import numpy as np
from model import Arrays, Network, Siamese
from training import descend, show
from triplet import members

from jitloss import contrastive_loss

MODEL = Siamese(Network(features=8, hidden=16, heads={"embedding": 2}), output="embedding")
MARGIN = 1.0


def data() -> tuple[Arrays, np.ndarray]:
    """Pairs of points, the classes those of the triplets, and whether both are of the same class."""
    random = np.random.default_rng(0)
    same, classes = random.integers(0, 2, size=300), random.integers(0, 4, size=300)
    others = np.where(same == 1, classes, (classes + random.integers(1, 4, size=300)) % 4)
    return {"embedding1": members(classes, random), "embedding2": members(others, random)}, same


def objective(params: Arrays, inputs: Arrays, same: np.ndarray) -> tuple[float, Arrays]:
    """The contrastive loss, and the gradients of the parameters that both share."""
    outputs = MODEL.evaluate(params, inputs)
    loss, output_gradients = contrastive_loss.value_and_gradient(outputs["embedding1"], outputs["embedding2"], same, MARGIN)
    _, gradients = MODEL.evaluate(params, inputs, output_gradients=output_gradients)
    return loss, gradients


def train(steps: int = 300) -> list[float]:
    """Train from scratch; returns the history of the loss."""
    inputs, same = data()
    return descend(lambda params: objective(params, inputs, same), MODEL.randomize_params(), steps, rate=0.2)


if __name__ == "__main__":
    show("Contrastive: pairs of the same class and of different ones", train())
