"""``jitloss demo``: train a network to read digits, time the loss against NumPy, and draw the curves."""

import argparse
import importlib.util
import operator
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jitloss import cross_entropy_with_logits, l2_regularization

from ..bench.measure import seconds_per_call
from ..bench.peers import NUMPY
from ..bench.progress import progress
from .common import CommandError
from .files import NewFile, new_files
from .training import BATCH, CLASSES, Data, Epoch, Network, load_data, train

__all__ = ["Race", "add_arguments", "command", "draw", "race", "show"]

HELP = "train a small network on handwritten digits with gradients from jitloss, and draw the curves"
PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}
KINDS = ("jpg", "pdf", "png", "svg")
LARGE = 65536
ROUNDS = 15
SLICE = 0.005
"""Approximate seconds of one round of one contender."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", metavar="PICTURE", default="jitloss-demo.png", help="where the curves are drawn; default: %(default)s"
    )
    parser.add_argument("--epochs", type=int, default=25, metavar="N", help="passes over the digits; default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the shuffling and of the first weights; default: %(default)s"
    )


def command(arguments: argparse.Namespace) -> None:
    kind = _check(arguments)
    with new_files() as files:
        picture = NewFile(arguments.output, "--output")
        files.append(picture)
        picture.create()  # find out that a folder is not writable before the training, not after it
        epochs = _train_and_race(arguments)
        with picture.explained():
            draw(epochs, picture.temporary, kind)
    print(f"The curves are in {arguments.output}.")


def _check(arguments: argparse.Namespace) -> str:
    """Check everything that can go wrong before doing anything; returns the picture's format."""
    missing = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(f"the demo needs {' and '.join(missing)}, not installed here: pip install 'jitloss[demo]'")
    if arguments.epochs < 1:
        raise CommandError(f"--epochs must be at least 1, got {arguments.epochs}")
    if arguments.seed < 0:
        raise CommandError(f"--seed must not be negative, got {arguments.seed}")
    kind = Path(arguments.output).suffix[1:].lower() or "png"
    if kind not in KINDS:
        raise CommandError(f"--output {arguments.output!r} must be an image file: .{', .'.join(KINDS)}")
    return kind


def _train_and_race(arguments: argparse.Namespace) -> list[Epoch]:
    data, random = load_data(arguments.seed), np.random.default_rng(arguments.seed)
    network = Network(data.images.shape[1], random)
    with progress(arguments.epochs + 3) as step:
        step("compiling the losses")
        begin = time.perf_counter()
        warm(data)
        compiled = time.perf_counter()
        epochs = list(train(network, data, arguments.epochs, random, step))
        trained = time.perf_counter()
        logits, races = network.forward(data.images)[1], []
        for rows in (BATCH, LARGE):
            step(f"timing {rows} rows")
            races.append(race(np.resize(logits, (rows, CLASSES)), np.resize(data.digits, rows)))
    show(epochs, races)
    print(
        f"{epochs[-1].accuracy:.1%} of the {len(data.held_out_digits)} held-out digits are read correctly, after "
        f"{trained - compiled:.1f} s of training and {compiled - begin:.1f} s of compiling before it."
    )
    return epochs


def warm(data: Data) -> None:
    """Call every form that the training uses once."""
    images, digits = data.images[:BATCH], data.digits[:BATCH]
    network = Network(images.shape[1], np.random.default_rng(0))
    network.gradients(images, digits)
    cross_entropy_with_logits(network.forward(images)[1], digits)
    l2_regularization.value_and_gradient(network.weights)


# The same loss in NumPy ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Race:
    """Seconds of one value and gradient, and NumPy's time in units of ours: medians over the rounds."""

    rows: int
    ours: float
    theirs: float
    ratio: float


def race(logits: np.ndarray, digits: np.ndarray, rounds: int = ROUNDS) -> Race:
    """Take turns in the same process, on the same logits, with the same result."""
    calls = [partial(cross_entropy_with_logits.value_and_gradient, logits, digits)]
    calls.append(partial(NUMPY["cross_entropy_with_logits"], logits, digits))
    (ours, gradient), (theirs, other) = (call() for call in calls)
    if not (np.isclose(ours, theirs, rtol=1e-4) and np.allclose(gradient, other, rtol=1e-4, atol=1e-8)):
        raise RuntimeError(f"jitloss and NumPy disagree about the loss: {ours} and {theirs}")
    numbers = [max(1, int(SLICE / seconds_per_call(call))) for call in calls]
    times = [[seconds_per_call(call, number) for call, number in zip(calls, numbers, strict=True)] for _ in range(rounds)]
    mine, its = zip(*times, strict=True)
    return Race(len(logits), statistics.median(mine), statistics.median(its), statistics.median(map(operator.truediv, its, mine)))


# Output -------------------------------------------------------------------------------------------------------------------------


def show(epochs: Sequence[Epoch], races: Sequence[Race]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()

    def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        made = Table(*headings, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        for column in made.columns:
            column.justify = "right"
        for row in rows:
            made.add_row(*row)
        console.print(made)

    table(
        "Training",
        ("epoch", "training loss", "held-out loss", "held-out accuracy"),
        [(str(one.number), f"{one.loss:.4f}", f"{one.held_out_loss:.4f}", f"{one.accuracy:.1%}") for one in epochs],
    )
    table(
        "Cross-entropy with logits, value and gradient",
        ("rows × classes", "jitloss", "NumPy", "NumPy / jitloss"),
        [(f"{one.rows} × {CLASSES}", _time(one.ours), _time(one.theirs), f"{one.ratio:.1f}×") for one in races],
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def draw(epochs: Sequence[Epoch], file: Path, kind: str) -> None:
    """Draw the curves, as two panels of one picture."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    numbers = [one.number for one in epochs]
    losses.plot(numbers, [one.loss for one in epochs], "o-", markersize=3, label="training, with L2 penalty")
    losses.plot(numbers, [one.held_out_loss for one in epochs], "o-", markersize=3, label="held out")
    losses.set(title="Loss", ylabel="cross-entropy (log scale)", yscale="log")
    losses.legend(frameon=False)
    accuracies.plot(numbers, [one.accuracy for one in epochs], "o-", markersize=3, color="tab:green")
    accuracies.set(title="Accuracy on held-out digits", ylabel="read correctly")
    accuracies.yaxis.set_major_formatter(PercentFormatter(1.0))
    last = (numbers[-1], epochs[-1].accuracy)
    accuracies.annotate(f"{epochs[-1].accuracy:.1%}", last, (6, 0), textcoords="offset points", va="center")
    for panel in (losses, accuracies):
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, format=kind)
