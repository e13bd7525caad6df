"""The gradient and Hessian that a booster requests, compared with the same objective in NumPy.

python benchmarks/objectives.py            show the table
python benchmarks/objectives.py --write    and write it into docs/boosting.md
python benchmarks/objectives.py --quick    small arrays: only to see that it runs
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import jitloss
from jitloss.bench.pages import Measured
from jitloss.bench.progress import progress
from jitloss.bench.report import about, times
from jitloss.bench.rounds import race, ratio

MEASURED = Measured(Path(__file__).resolve().parents[1] / "docs" / "boosting.md", "objectives")


def logistic(labels: Any, scores: Any) -> tuple[Any, Any]:
    p = 1 / (1 + np.exp(-scores))
    return p - labels, np.maximum(p * (1 - p), 1e-16)


def poisson(labels: Any, scores: Any) -> tuple[Any, Any]:
    rate = np.exp(scores)
    return rate - labels, rate


def softmax(labels: Any, scores: Any) -> tuple[Any, Any]:
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    hessian = np.maximum(2 * p * (1 - p), 1e-16)
    p[np.arange(len(p)), labels.astype(int)] -= 1
    return p, hessian


WORKS: dict[str, tuple[jitloss.Loss, Callable[..., Any], int]] = {
    "logistic": (jitloss.binary_cross_entropy_with_logits, logistic, 0),
    "Poisson": (jitloss.poisson_nll_loss, poisson, 0),
    "softmax, 10 classes": (jitloss.cross_entropy_with_logits, softmax, 10),
}


def measure(rows: int, rounds: int, step: Callable[[str], None]) -> str:
    random = np.random.default_rng(0)
    lines = ["| objective, float32 | rows | jitloss | NumPy, in units of it |", "| --- | --- | --- | --- |"]
    for name, (loss, other, classes) in WORKS.items():
        count = rows // max(1, classes // 2)
        scores = random.normal(size=(count, classes) if classes else count).astype(np.float32)
        labels = random.integers(0, classes or 2, count).astype(np.float32)
        objective = jitloss.objectives.xgboost(loss)
        for got, want in zip(objective(labels, scores), other(labels, scores), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
        found = race({"jitloss": partial(objective, labels, scores), "NumPy": partial(other, labels, scores)}, rounds, step, name)
        mine = sorted(found["jitloss"])[rounds // 2]
        lines.append(f"| {name} | {count:,} | {mine * 1e3:.2f} ms | {times(ratio(found['NumPy'], found['jitloss']))} |")
    return "\n".join([*lines, "", f"{about()}."])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/boosting.md")
    parser.add_argument("--quick", action="store_true", help="small arrays, one round")
    arguments = parser.parse_args(argv)
    rounds = 1 if arguments.quick else 15
    with progress(len(WORKS) * rounds) as step:
        text = measure(1000 if arguments.quick else 1_000_000, rounds, step)
    print(text)
    if arguments.write:
        MEASURED.fill(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
