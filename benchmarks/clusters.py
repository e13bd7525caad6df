"""The time of a loss on Dask clusters of more and more workers, on more and more data, relative to one call on arrays in memory.

python benchmarks/clusters.py              show the table
python benchmarks/clusters.py --write      and write it into docs/dask.md
python benchmarks/clusters.py --quick      small arrays: only to see that it runs
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster, wait

import jitloss
from jitloss.bench.pages import Measured
from jitloss.bench.progress import progress
from jitloss.bench.report import about

MEASURED = Measured(Path(__file__).resolve().parents[1] / "docs" / "dask.md", "clusters")
COLUMNS, WORKERS, ROUNDS = 8192, (1, 2, 4), 5
CUTS = {"whole rows": (512, COLUMNS), "rows cut in 4": (2048, COLUMNS // 4)}
loss = jitloss.cross_entropy_with_logits


def once(call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def on_workers(client: Client, rows: int, chunks: tuple[int, int]):
    """A call on blocks that are already on the workers, whose results stay there."""
    logits = da.random.default_rng(0).normal(size=(rows, COLUMNS), chunks=chunks).astype(np.float32)
    labels = da.random.default_rng(1).integers(0, COLUMNS, size=rows, chunks=chunks[0])
    logits, labels = client.persist([logits, labels])
    wait([logits, labels])
    turn = iter(range(1000))

    def call() -> None:
        total = float(rows + next(turn))  # another number, or Dask would know the answer
        wait(client.persist(list(loss.value_and_gradient(logits, labels, normalizer=total))))

    return call


def measure(sizes: tuple[int, ...], rounds: int, step) -> Iterator[tuple[int, str, int, int, float, float]]:
    """Rows, whether they are split, workers, blocks, seconds of one call in memory, the cluster's time relative to that."""
    for workers in WORKERS:
        with (
            dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}),
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
            Client(cluster) as client,
        ):
            for rows in sizes:
                logits = np.random.default_rng(0).normal(size=(rows, COLUMNS)).astype(np.float32)
                labels, out = np.random.default_rng(1).integers(0, COLUMNS, rows), np.empty_like(logits)
                for name, chunks in CUTS.items():
                    step(f"{workers} workers, {rows} rows, {name}")
                    call, alone = on_workers(client, rows, chunks), []
                    ratios = []
                    call()
                    for _ in range(rounds):
                        alone.append(once(lambda: loss.value_and_gradient(logits, labels, out=out)))
                        ratios.append(once(call) / alone[-1])
                    blocks = -(-rows // chunks[0]) * (COLUMNS // chunks[1])
                    yield rows, name, workers, blocks, statistics.median(alone), statistics.median(ratios)


def table(found: list[tuple[int, str, int, int, float, float]]) -> str:
    heads = ["logits", "blocks", "one call", *(f"{one} worker{'s' * (one > 1)}" for one in WORKERS)]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for rows, name in dict.fromkeys((one[0], one[1]) for one in found):
        mine = [one for one in found if one[:2] == (rows, name)]
        seconds = statistics.median(one[4] for one in mine)
        ratios = " | ".join(f"{one[5]:.1f}×" for one in sorted(mine, key=lambda one: one[2]))
        lines.append(f"| {rows}×{COLUMNS} | {mine[0][3]}, {name} | {seconds * 1e3:.0f} ms | {ratios} |")
    return "\n".join([*lines, "", f"{about()}, Dask {dask.__version__}."])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/dask.md")
    parser.add_argument("--quick", action="store_true", help="small arrays, one round")
    arguments = parser.parse_args(argv)
    sizes = (512,) if arguments.quick else (2048, 8192, 32768)
    with progress(len(WORKERS) * len(CUTS) * len(sizes)) as step:
        found = list(measure(sizes, 1 if arguments.quick else ROUNDS, step))
    text = table(found)
    print(text)
    if arguments.write:
        MEASURED.fill(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
