"""A small network on handwritten digits, with back-propagation by hand: every gradient of a loss comes from jitloss.

This is what the library is for. The network is two matrix products and a ReLU; :func:`gradients` is all there is to training with
NumPy arrays.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from jitloss import cross_entropy_with_logits, l2_regularization

__all__ = ["BATCH", "Data", "Epoch", "Network", "load_data", "train"]

BATCH = 64
HIDDEN = 128
CLASSES = 10
STRENGTH = 1e-4
RATE, MOMENTUM = 0.1, 0.9
HELD_OUT = 360

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Data:
    """Images as rows of float32 from 0 to 1, digits as integer labels."""

    images: np.ndarray
    digits: np.ndarray
    held_out_images: np.ndarray
    held_out_digits: np.ndarray


def load_data(seed: int) -> Data:
    """scikit-learn's 1797 digits of 8×8 pixels, shuffled; a fifth of them is held out."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(digits))
    images, digits = (images[order] / 16.0).astype(np.float32), digits[order]
    return Data(images[HELD_OUT:], digits[HELD_OUT:], images[:HELD_OUT], digits[:HELD_OUT])


class Network:
    """64 pixels, 128 rectified linear units, 10 logits; trained by gradient descent with momentum."""

    def __init__(self, pixels: int, random: np.random.Generator) -> None:
        self.weights = {"hidden": _normal(random, pixels, HIDDEN), "output": _normal(random, HIDDEN, CLASSES)}
        self.biases = {"hidden": np.zeros(HIDDEN, np.float32), "output": np.zeros(CLASSES, np.float32)}
        self.moments = [{name: np.zeros_like(one) for name, one in group.items()} for group in (self.weights, self.biases)]

    def forward(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The hidden units and the logits."""
        hidden = np.maximum(images @ self.weights["hidden"] + self.biases["hidden"], 0.0)
        return hidden, hidden @ self.weights["output"] + self.biases["output"]

    def gradients(self, images: np.ndarray, digits: np.ndarray) -> tuple[float, Parameters, Parameters]:
        """The loss of a batch, and its gradients with respect to weights and biases."""
        hidden, logits = self.forward(images)
        loss, of_logits = cross_entropy_with_logits.value_and_gradient(logits, digits)
        penalty, of_weights = l2_regularization.value_and_gradient(self.weights, STRENGTH)
        of_hidden = (of_logits @ self.weights["output"].T) * (hidden > 0.0)
        of_weights["output"] += hidden.T @ of_logits
        of_weights["hidden"] += images.T @ of_hidden
        return loss + penalty, of_weights, {"hidden": of_hidden.sum(axis=0), "output": of_logits.sum(axis=0)}

    def step(self, images: np.ndarray, digits: np.ndarray) -> float:
        """One gradient step; returns the loss before it."""
        loss, *gradients = self.gradients(images, digits)
        for group, moments, slopes in zip((self.weights, self.biases), self.moments, gradients, strict=True):
            for name, slope in slopes.items():
                moments[name] *= MOMENTUM
                moments[name] -= RATE * slope
                group[name] += moments[name]
        return loss


def _normal(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return random.normal(0.0, np.sqrt(2.0 / rows), (rows, columns)).astype(np.float32)


@dataclass(frozen=True)
class Epoch:
    """The state after an epoch; losses are means over the images, the training loss includes the penalty."""

    number: int
    loss: float
    held_out_loss: float
    accuracy: float


def train(network: Network, data: Data, epochs: int, random: np.random.Generator, step: Callable[[str], None]) -> Iterator[Epoch]:
    """Train, and report after each epoch. ``step`` is called with each epoch's title as it begins."""
    for number in range(1, epochs + 1):
        step(f"epoch {number}")
        order, total = random.permutation(len(data.digits)), 0.0
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            total += network.step(data.images[batch], data.digits[batch]) * len(batch)
        logits = network.forward(data.held_out_images)[1]
        held_out = cross_entropy_with_logits(logits, data.held_out_digits)
        accuracy = float(np.mean(logits.argmax(axis=1) == data.held_out_digits))
        yield Epoch(number, total / len(order), held_out, accuracy)
