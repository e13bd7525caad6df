"""Write docs/scaling.md: a model of each loss on 8, 32 and 128 cores, from measurements of one core.

python benchmarks/scaling.py --write                                   measure, and write the page
python benchmarks/scaling.py --socket-cores 96 --socket-bandwidth 500  another machine, shown on the terminal
python benchmarks/scaling.py --quick                                   small arrays: only to see that it runs
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numba

import jitloss
from jitloss.bench.measure import outputs
from jitloss.bench.progress import progress
from jitloss.bench.report import machine
from jitloss.bench.roofline import COLUMNS, LEVELS, WIDTH, Level, Point, inputs_of_size, points
from jitloss.bench.roofs import best, copied_bytes_per_second

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
CORES = (8, 32, 128)


@dataclass(frozen=True)
class Machine:
    """Bandwidths in bytes per second: of one core and of all here, measured; of a socket, assumed, as are its cores."""

    core: float
    everyone: float
    socket: float
    socket_cores: int

    def bandwidth(self, cores: int) -> float:
        """The bandwidth of so many cores, spread over the sockets as they fill up."""
        full, rest = divmod(cores, self.socket_cores)
        return full * min(self.socket, self.core * self.socket_cores) + min(self.socket, self.core * rest)


@dataclass(frozen=True)
class Model:
    """The time of one element: the longer of its arithmetic, divided by the cores, and its bytes, divided by their bandwidth."""

    point: Point
    machine: Machine

    def computing(self, cores: int) -> float:
        return self.point.seconds / cores

    def moving(self, cores: int) -> float:
        return self.point.bytes / self.machine.bandwidth(cores)

    def seconds(self, cores: int) -> float:
        return max(self.computing(cores), self.moving(cores))

    def bound(self, cores: int) -> str:
        return "memory" if self.moving(cores) >= self.computing(cores) else "computing"

    def full_at(self) -> int | None:
        """The number of cores that saturate a socket's bandwidth, if it has that many."""
        cores = math.ceil(self.machine.socket * self.seconds(1) / self.point.bytes)
        return cores if cores <= self.machine.socket_cores else None

    def gain(self, cores: int) -> float:
        return self.seconds(1) / self.seconds(cores)


def check(model: Model, level: Level, threads: int) -> float:
    """The time with all threads here for arrays in memory, relative to the model's."""
    loss = jitloss.LOSSES[model.point.loss]
    inputs = inputs_of_size(loss, level.size)
    call = partial(loss.value_and_gradient, *inputs, out=outputs(loss.definition, inputs))
    here = max(model.computing(threads), model.point.bytes / model.machine.everyone)
    return best(call) / inputs[0].size / here


def lines(models: Sequence[Model], checks: Sequence[float], threads: int) -> Iterator[list[str]]:
    gains = [f"gain, {cores} cores" for cores in CORES]
    yield [
        "loss",
        "ns, one core",
        "bytes",
        "one core waits for",
        "memory full at",
        *gains,
        f"measured / model, {threads} threads",
    ]
    for model, measured in zip(models, checks, strict=True):
        full, point = model.full_at(), model.point
        where = "–" if full is None else f"{full} core{'s' if full > 1 else ''}"
        gains = [f"{model.gain(cores):.1f}× ({model.bound(cores)})" for cores in CORES]
        yield [point.loss, f"{1e9 * point.seconds:.3f}", f"{point.bytes:.1f}", model.bound(1), where, *gains, f"{measured:.2f}"]


TEXT = """# Scaling

This page is written by `python benchmarks/scaling.py --write`. It models machines with more cores than the one it was measured on.
Nothing was run on 8, 32 or 128 cores.

**Measured** here: the time per element of each loss's kernel on one core, with all arrays in its L2 cache ({l2}), so that memory
is not the limit; the bandwidth of a copy ({memory}), {core:.1f} GB/s with one core and {everyone:.1f} GB/s with {threads}; and the
last column.

**Assumed**: a socket has {socket_cores} cores and a total memory bandwidth of {socket:.0f} GB/s, and its cores are as fast as the
one here, however many are busy. Sockets fill up one after the other, and each has its data in its own memory. Work is split evenly,
and starting the threads costs nothing, which holds for large arrays. `--socket-cores` and `--socket-bandwidth` set the figures of
another machine.

**The model**: a call takes the longer of two times: its arithmetic on one core divided by the number of cores, and its bytes divided
by the bandwidth of the cores. That bandwidth grows in proportion to the cores until it reaches the socket's. A loss that is
memory-bound on one core therefore still gains from more cores. Once the socket's memory is *full*, the loss is memory-bound whatever
the cores do: more of them in the same socket gain nothing, and only moving fewer bytes helps: `out=predictions`, float16 and
bfloat16, labels instead of dense targets.

{table}

Times and bytes are per element. Bytes are those that must be moved: inputs and gradients in float32, labels in int64; rows have
{columns} elements, embeddings {width}. *memory full at* is the number of cores that saturate the bandwidth of a socket; – if it has
too few. A gain is relative to one core with arrays in memory, with the limiting factor in parentheses. The last column is the
measured time of a public call on {memory} with all threads, divided by the model's time for it at the measured bandwidth. It shows
how far the model is off, mostly because computing and moving do not overlap as well as it assumes.

Measured here: {about}.
"""


def measured(arguments: argparse.Namespace) -> tuple[list[Model], list[float], Machine, int]:
    threads, shrink = numba.get_num_threads(), 64 if arguments.quick else 1
    near, far = (replace(level, size=level.size // shrink) for level in (LEVELS[0], LEVELS[-1]))
    with progress(2 * len(jitloss.LOSSES)) as step:
        rates = (copied_bytes_per_second(far.size, number) for number in (1, threads))
        there = Machine(*rates, 1e9 * arguments.socket_bandwidth, arguments.socket_cores)
        models = [Model(point, there) for point in points([near], step, count=False)]
        checks = []
        for model in models:
            step(model.point.loss)
            checks.append(check(model, far, threads))
    return models, checks, there, threads


def page(models: Sequence[Model], checks: Sequence[float], there: Machine, threads: int, about: dict[str, str]) -> str:
    head, *body = lines(models, checks, threads)
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *([f"`{name}`", *rest] for name, *rest in body)]
    return TEXT.format(
        l2=f"{LEVELS[0].size // 2**10} KiB",
        memory=f"{LEVELS[-1].size // 2**20} MiB",
        core=there.core / 1e9,
        everyone=there.everyone / 1e9,
        socket=there.socket / 1e9,
        socket_cores=there.socket_cores,
        threads=threads,
        columns=COLUMNS["kl_divergence"],
        width=WIDTH,
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
        about="; ".join(f"{key}: {value}" for key, value in about.items()),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket-cores", type=int, default=64, help="cores of a socket (default: 64)")
    parser.add_argument("--socket-bandwidth", type=float, default=300.0, help="its memory bandwidth in GB/s (default: 300)")
    parser.add_argument("--quick", action="store_true", help="small arrays")
    parser.add_argument("--write", action="store_true", help="write docs/scaling.md")
    arguments = parser.parse_args(argv)
    if arguments.quick and arguments.write:
        parser.error("--write is for the whole page: without --quick")
    if arguments.socket_cores < 1 or not 0.0 < arguments.socket_bandwidth < math.inf:
        parser.error("a socket has cores, and a bandwidth")
    about = machine()
    models, checks, there, threads = measured(arguments)
    if arguments.write:
        PAGE.write_text(page(models, checks, there, threads, about), encoding="utf-8")
    print(f"one core {there.core / 1e9:.1f} GB/s, {threads} threads {there.everyone / 1e9:.1f} GB/s")
    rows = list(lines(models, checks, threads))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *rest in rows:
        print(name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)), sep="  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
