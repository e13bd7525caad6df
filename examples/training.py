"""What the examples share: gradient descent, and a table of the loss as it falls."""

from collections.abc import Callable

from model import Arrays

__all__ = ["descend", "show"]


def descend(objective: Callable[[Arrays], tuple[float, Arrays]], params: Arrays, steps: int, rate: float) -> list[float]:
    """Change ``params`` step by step against their gradients; returns the objective before each step and after the last."""
    history = []
    for _ in range(steps):
        value, gradients = objective(params)
        history.append(value)
        for name, gradient in gradients.items():
            params[name] -= rate * gradient
    return [*history, objective(params)[0]]


def show(title: str, history: list[float], rows: int = 6) -> None:
    """Print some steps of a training, including the first and the last."""
    last = len(history) - 1
    print(f"{title}\n\n{'step':>6}  {'objective':>10}")
    for row in range(rows):
        step = round(last * row / (rows - 1))
        print(f"{step:6d}  {history[step]:10.5f}")
