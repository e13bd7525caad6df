"""A small network in NumPy whose gradients are passed in by hand, with the interface of Mithril's compiled models.

``model.evaluate(params, inputs)`` gives a dict of outputs. ``model.evaluate(params, inputs, output_gradients=...)`` gives the outputs
and the gradients of the parameters, from the gradients of an objective with respect to the outputs. The model knows no loss.
"""

from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["Arrays", "Network", "Siamese"]

Arrays = dict[str, np.ndarray]


class Network:
    """A hidden layer of tanh units, and one linear head for each named output."""

    def __init__(self, features: int, hidden: int, heads: Mapping[str, int]) -> None:
        self.features, self.hidden, self.heads = features, hidden, dict(heads)

    def randomize_params(self, seed: int = 0) -> Arrays:
        """Draw the weights, as one flat dict: ``hidden_weight``, ``hidden_bias``, and two arrays for each head."""
        random = np.random.default_rng(seed)
        sizes = {"hidden": (self.features, self.hidden)} | {name: (self.hidden, size) for name, size in self.heads.items()}
        params = {}
        for name, (rows, columns) in sizes.items():
            params[f"{name}_weight"] = random.normal(scale=rows**-0.5, size=(rows, columns))
            params[f"{name}_bias"] = np.zeros(columns)
        return params

    def evaluate(self, params: Arrays, inputs: Arrays, output_gradients: Arrays | None = None) -> Arrays | tuple[Arrays, Arrays]:
        """The outputs; with ``output_gradients``, where an output that is left out counts as 0, those of the parameters too."""
        hidden = np.tanh(inputs["x"] @ params["hidden_weight"] + params["hidden_bias"])
        outputs = {name: hidden @ params[f"{name}_weight"] + params[f"{name}_bias"] for name in self.heads}
        if output_gradients is None:
            return outputs
        _check(output_gradients, self.heads)
        gradients = {name: np.zeros_like(param) for name, param in params.items()}
        of_hidden = np.zeros_like(hidden)
        for name, gradient in output_gradients.items():
            gradients[f"{name}_weight"] = hidden.T @ gradient
            gradients[f"{name}_bias"] = gradient.sum(axis=0)
            of_hidden += gradient @ params[f"{name}_weight"].T
        of_sums = of_hidden * (1.0 - hidden * hidden)
        gradients["hidden_weight"] = inputs["x"].T @ of_sums
        gradients["hidden_bias"] = of_sums.sum(axis=0)
        return outputs, gradients


class Siamese:
    """One network for several inputs: the outputs have the names of the inputs, the parameters are shared."""

    def __init__(self, network: Network, output: str) -> None:
        self.network, self.output = network, output

    def randomize_params(self, seed: int = 0) -> Arrays:
        return self.network.randomize_params(seed)

    def evaluate(self, params: Arrays, inputs: Arrays, output_gradients: Arrays | None = None) -> Arrays | tuple[Arrays, Arrays]:
        """Like the network's own; the parameter gradients of all inputs are added up."""
        if output_gradients is None:
            return {name: self.network.evaluate(params, {"x": x})[self.output] for name, x in inputs.items()}
        _check(output_gradients, inputs)
        outputs, gradients = {}, {name: np.zeros_like(param) for name, param in params.items()}
        for branch, x in inputs.items():
            given = {self.output: output_gradients[branch]} if branch in output_gradients else {}
            own_outputs, own_gradients = self.network.evaluate(params, {"x": x}, given)
            outputs[branch] = own_outputs[self.output]
            for name, gradient in own_gradients.items():
                gradients[name] += gradient
        return outputs, gradients


def _check(output_gradients: Arrays, outputs: Iterable[str]) -> None:
    if unknown := output_gradients.keys() - set(outputs):
        raise ValueError(f"output_gradients must be of the outputs {', '.join(outputs)}, got {', '.join(sorted(unknown))}")
