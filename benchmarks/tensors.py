"""Losses of PyTorch tensors in host memory, compared with PyTorch's own.

python benchmarks/tensors.py            show the table
python benchmarks/tensors.py --write    and write it into docs/pytorch.md
python benchmarks/tensors.py --quick    one round of small tensors: only to see that it runs
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import jitloss
from jitloss.bench.pages import Measured
from jitloss.bench.progress import progress
from jitloss.bench.report import about, duration, times
from jitloss.bench.rounds import race, ratio

MEASURED = Measured(Path(__file__).resolve().parents[1] / "docs" / "pytorch.md", "tensors")

own: Any = jitloss  # whose stubs know NumPy's types

WORKS: list[tuple[str, Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...]]] = [
    ("cross_entropy_with_logits", own.cross_entropy_with_logits, functional.cross_entropy, (32, 10)),
    ("cross_entropy_with_logits", own.cross_entropy_with_logits, functional.cross_entropy, (1024, 1000)),
    ("cross_entropy_with_logits", own.cross_entropy_with_logits, functional.cross_entropy, (1024, 32000)),
    ("mse_loss", own.mse_loss, functional.mse_loss, (320,)),
    ("mse_loss", own.mse_loss, functional.mse_loss, (1_000_000,)),
    (
        "binary_cross_entropy_with_logits",
        own.binary_cross_entropy_with_logits,
        functional.binary_cross_entropy_with_logits,
        (1_000_000,),
    ),
]
"""A loss, ours and theirs, and the shape of its predictions."""


def value(loss: Callable[..., Tensor], predictions: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return loss(predictions, targets)


def forward_and_backward(loss: Callable[..., Tensor], predictions: Tensor, targets: Tensor) -> Tensor | None:
    predictions.grad = None
    loss(predictions, targets).backward()
    return predictions.grad


CALLS = {"value": value, "forward and backward": forward_and_backward}


def measure(works: Any, rounds: int, step: Callable[[str], None]) -> str:
    torch.manual_seed(0)
    lines = ["| call | shape, float32 | | jitloss | PyTorch, in units of it |", "| --- | --- | --- | --- | --- |"]
    for name, ours, theirs, shape in works:
        predictions = torch.randn(shape, requires_grad=True)
        targets = torch.randint(shape[1], shape[:1]) if len(shape) > 1 else torch.rand(shape)
        for title, call in CALLS.items():
            torch.testing.assert_close(call(ours, predictions, targets), call(theirs, predictions, targets))
            contenders = {
                "ours": partial(call, ours, predictions, targets),
                "theirs": partial(call, theirs, predictions, targets),
            }
            found = race(contenders, rounds, step, f"{name} {shape}")
            shown = duration(median(found["ours"]))
            size = "×".join(map(str, shape))
            lines.append(f"| `{name}` | {size} | {title} | {shown} | {times(ratio(found['theirs'], found['ours']))} |")
    return "\n".join([*lines, "", f"{about()}."])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/pytorch.md")
    parser.add_argument("--quick", action="store_true", help="small tensors, one round")
    arguments = parser.parse_args(argv)
    works = [(*rest, tuple(min(one, 32) for one in shape)) for *rest, shape in WORKS] if arguments.quick else WORKS
    rounds = 1 if arguments.quick else 15
    with progress(len(works) * len(CALLS) * rounds) as step:
        text = measure(works, rounds, step)
    print(text)
    if arguments.write:
        MEASURED.fill(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
