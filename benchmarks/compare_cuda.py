"""Measure jitloss on a CUDA device against PyTorch, torch.compile, Liger and a copy; with ``--write``, bring docs/cuda.md up to date.

python benchmarks/compare_cuda.py --quick    a look: few rounds, the smaller arrays
python benchmarks/compare_cuda.py --write    the whole table, some minutes

Everybody takes turns in one process, round after round. A time is the device's own, from an event before the first kernel of a call
to one after its last: the stream is kept busy while the host prepares the call, and the level-2 cache holds nothing of the inputs.
"""

import argparse
import collections
import contextlib
import datetime
import importlib
import importlib.util
import operator
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jitloss
from jitloss.bench.pages import Measured
from jitloss.bench.progress import progress
from jitloss.bench.report import times, versions

MEASURED = Measured(Path(__file__).resolve().parents[1] / "docs" / "cuda.md", "compare-cuda")

NOTHING_MEASURED = "No device could be had, so nothing has been measured: there are no figures here."
OURS, COPY, EAGER, COMPILED, LIGER = "jitloss", "copy", "PyTorch", "torch.compile", "Liger"
PEERS = (EAGER, COMPILED, LIGER)
HEADINGS = ("value and gradient", "dtype", OURS, "GB/s", "of a copy", *PEERS)
CAPTION = (
    "PyTorch, torch.compile, Liger: their time (forward and backward) in units of ours. GB/s: the bytes that the inputs and the "
    "gradient have, over our time. of a copy: that, as a share of what a copy of the logits or predictions on the device reaches, "
    "measured in the same rounds. All allocate a new gradient in every call, but Liger, which writes over the logits. Times are the "
    "device's own, without what the host takes to prepare a call; the last row is the host's time of a public call."
)
HOST = "host time of a call, 32×10"
MOST_ON_HOST = 20e-6
"""Seconds of the host that a public call of cross_entropy_with_logits on 32×10 may take."""

_SLEEP = 2_000_000  # cycles, about a millisecond: the host has prepared the call by then
_FLUSHED = 1 << 28  # bytes, more than a level-2 cache holds


@dataclass(frozen=True)
class Size:
    """A loss at a shape and a dtype."""

    loss: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def title(self) -> str:
        return f"{self.loss} {'×'.join(f'{size >> 20}M' if size % 2**20 == 0 else str(size) for size in self.shape)}"

    @property
    def rowwise(self) -> bool:
        return len(self.shape) > 1

    @property
    def array(self) -> int:
        """Bytes of the logits or predictions."""
        count = 1
        for length in self.shape:
            count *= length
        return count * (2 if self.dtype == "bfloat16" else 4)

    @property
    def moved(self) -> int:
        """Bytes that must be read and written: the logits and their gradient; predictions, targets and the gradient."""
        return self.array * (2 if self.rowwise else 3)

    def goals(self) -> dict[str, float]:
        """The targets: at least this percentage of a copy's speed, at least so many times as fast as a library."""
        if not self.rowwise:
            return {COPY: 92}
        columns = self.shape[1]
        if columns < 4096:
            return {EAGER: 5} if self.shape == (65536, 10) else {}
        return {COPY: 90 if columns <= 32000 else 70, COMPILED: 1.7, EAGER: 3}


_SHAPES = (
    (65536, 10), (65536, 100), (16384, 1000), (8192, 4096), (8192, 8192), (4096, 16384), (4096, 32000), (4096, 128256),
)  # fmt: skip
SIZES = tuple(
    [Size("cross_entropy_with_logits", shape, dtype) for shape in _SHAPES for dtype in ("bfloat16", "float32")]
    + [Size("mse_loss", (2**28,), dtype) for dtype in ("bfloat16", "float32")]
)
QUICK = tuple(size for size in SIZES if size.array < 2**28)


@dataclass(frozen=True)
class Row:
    """Seconds per call by contender, for each round."""

    size: Size
    rounds: Mapping[str, Sequence[float]]

    @property
    def seconds(self) -> float:
        return statistics.median(self.rounds[OURS])

    @property
    def speed(self) -> float:
        """Bytes per second."""
        return self.size.moved / self.seconds

    @property
    def figures(self) -> dict[str, float]:
        """The percentage of a copy's speed, and each library's time relative to ours: medians of the rounds' ratios."""
        ours, bytes_ratio = self.rounds[OURS], self.size.moved / (2 * self.size.array)
        found = {COPY: 100 * bytes_ratio * statistics.median(map(operator.truediv, self.rounds[COPY], ours))}
        for name in PEERS:
            if name in self.rounds:
                found[name] = statistics.median(map(operator.truediv, self.rounds[name], ours))
        return found


@dataclass(frozen=True)
class Report:
    rows: Sequence[Row]
    host: float
    device: Mapping[str, str]


# Measuring ----------------------------------------------------------------------------------------------------------------------


def obstacle() -> str | None:
    """Why nothing can be measured here; None if there is a device. ``ImportError`` if only a library is missing."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    from jitloss.compilers import cuda

    if cuda.SIMULATED:
        return "NUMBA_ENABLE_CUDASIM is set"
    if not cuda.device_count():
        return "there is no CUDA device or no driver"
    if importlib.util.find_spec("torch") is None or not importlib.import_module("torch").cuda.is_available():
        raise ImportError("there is a device, but no torch with CUDA, which the table is measured beside")
    return None


Call = Callable[[], tuple[Any, Any]]


def inputs_of(torch: Any, size: Size) -> tuple[Any, Any]:
    """Logits and labels, or predictions and targets, drawn on the device."""
    torch.manual_seed(0)
    dtype = getattr(torch, size.dtype)
    first = torch.randn(size.shape, device="cuda", dtype=dtype)
    if size.rowwise:
        return first, torch.randint(size.shape[1], size.shape[:1], device="cuda")
    return first, torch.randn(size.shape, device="cuda", dtype=dtype)


def contenders(torch: Any, size: Size, inputs: tuple[Any, Any]) -> dict[str, Call]:
    """All contenders that can do the work, by name."""
    calls: dict[str, Call] = {OURS: partial(jitloss.LOSSES[size.loss].value_and_gradient, *inputs)}
    functional = torch.nn.functional
    function = functional.cross_entropy if size.rowwise else functional.mse_loss
    calls[EAGER] = _differentiated(torch, function, inputs)
    torch._dynamo.reset()  # or the shapes of other rows would make it compile for any shape
    calls[COMPILED] = _differentiated(torch, torch.compile(function, dynamic=False), inputs)
    if size.rowwise and importlib.util.find_spec("liger_kernel") is not None:
        liger = importlib.import_module("liger_kernel.transformers.functional").liger_cross_entropy
        calls[LIGER] = _differentiated(torch, liger, (inputs[0].clone(), inputs[1]))  # it writes over its logits
    return calls


def _differentiated(torch: Any, function: Callable[..., Any], inputs: tuple[Any, Any]) -> Call:
    first = inputs[0].detach().requires_grad_(True)

    def call() -> tuple[Any, Any]:
        value = function(first, inputs[1])
        return value.detach(), torch.autograd.grad(value, first)[0]

    return call


def check(torch: Any, who: str, size: Size, theirs: tuple[Any, Any], ours: tuple[Any, Any]) -> None:
    """Check that all contenders compute the same."""
    near = 1e-4 if size.dtype == "float32" else 2e-2
    for name, one, other in zip(("value", "gradient"), theirs, ours, strict=True):
        largest = float(other.abs().max())
        if not torch.allclose(one.to(other.dtype), other, rtol=near, atol=near * largest):
            raise RuntimeError(f"{who}, {size.title} {size.dtype}: the {name} is not that of jitloss")


def device_seconds(torch: Any, call: Callable[[], Any], flushed: Any, number: int) -> float:
    """The device time of a call, the median over several."""
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(number)]
    for begin, end in pairs:
        flushed.zero_()
        torch.cuda._sleep(_SLEEP)
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in pairs) / 1e3


def measure(torch: Any, size: Size, rounds: int, number: int, step: Callable[[str], None]) -> Row:
    inputs, flushed = inputs_of(torch, size), torch.empty(_FLUSHED, dtype=torch.int8, device="cuda")
    calls: dict[str, Callable[[], Any]] = {}
    ours: Any = None
    for name, call in contenders(torch, size, inputs).items():
        result = call()
        ours = ours or result
        check(torch, name, size, result, ours)
        calls[name] = call
    del ours, result
    calls[COPY] = partial(torch.empty_like(inputs[0]).copy_, inputs[0])
    for call in calls.values():
        device_seconds(torch, call, flushed, 3)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = collections.deque(calls)
    for _ in range(rounds):
        step(f"{size.title} {size.dtype}")
        for name in order:
            seconds[name].append(device_seconds(torch, calls[name], flushed, number))
        order.rotate(-1)
    return Row(size, seconds)


def host_seconds(torch: Any, number: int = 2000) -> float:
    """The host time of a public call whose kernels take less than that."""
    logits, labels = inputs_of(torch, Size("cross_entropy_with_logits", (32, 10), "float32"))
    call = partial(jitloss.LOSSES["cross_entropy_with_logits"].value_and_gradient, logits, labels)
    call()
    spent = []
    for _ in range(7):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(number):
            call()
        spent.append((time.perf_counter() - begin) / number)
    torch.cuda.synchronize()
    return statistics.median(spent)


def device(torch: Any) -> dict[str, str]:
    """The environment that the figures depend on."""
    installed = versions(("numba", "numba-cuda", "cuda-core", "torch", "triton", "liger_kernel"))
    return {
        "device": torch.cuda.get_device_name(0),
        "driver": _driver(),
        "CUDA": str(torch.version.cuda),
        "versions": ", ".join(map(" ".join, installed.items())),
        "date": datetime.date.today().isoformat(),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    return "unknown"


def run(quick: bool = False, rounds: int = 0) -> Report:
    torch: Any = importlib.import_module("torch")
    sizes, rounds, number = (QUICK, rounds or 3, 5) if quick else (SIZES, rounds or 15, 9)
    rows = []
    with progress(len(sizes) * rounds) as step:
        for size in sizes:
            rows.append(measure(torch, size, rounds, number, step))
            torch.cuda.empty_cache()
    return Report(rows, host_seconds(torch), device(torch))


# Showing ------------------------------------------------------------------------------------------------------------------------


def _mark(text: str, reached: bool, goal: str) -> str:
    return f"{text} {'✓' if reached else '✗'} {goal}"


def line(row: Row) -> list[str]:
    goals, figures, seconds = row.size.goals(), row.figures, row.seconds
    cells = []
    for name in (COPY, *PEERS):
        if name not in figures:
            cells.append("–")
            continue
        figure, goal = figures[name], goals.get(name)
        text, unit = (f"{figure:.0f} %", " %") if name == COPY else (times(figure), "")
        cells.append(text if goal is None else _mark(text, figure >= goal, f"≥ {goal:g}{unit}"))
    time_text = f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
    return [row.size.title, row.size.dtype, time_text, f"{row.speed / 1e9:.0f}", *cells]


def lines(report: Report) -> Iterator[list[str]]:
    yield from map(line, report.rows)
    text, goal = f"{report.host * 1e6:.3g} µs", f"≤ {MOST_ON_HOST * 1e6:g} µs"
    yield [HOST, "float32", _mark(text, report.host <= MOST_ON_HOST, goal), *["–"] * (len(HEADINGS) - 3)]


def markdown(report: Report) -> str:
    rule = ["---", "---", *["---:"] * (len(HEADINGS) - 2)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADINGS, rule, *lines(report)))
    about = "; ".join(f"{name}: {value}" for name, value in report.device.items())
    return f"{table}\n\n{CAPTION}\n\nMeasured here: {about}.\n"


def show(report: Report) -> None:
    body = [list(HEADINGS), *lines(report)]
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    for first, *others in body:
        print(first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)), sep="  ")
    print("", CAPTION, *(f"{name}: {value}" for name, value in report.device.items()), sep="\n")


def fill(table: str) -> None:
    """A table, or a sentence that says why there is none, which never replaces a table."""
    if "Measured here" in MEASURED.parts()[1] and "Measured here" not in table:
        raise ValueError(
            f"{MEASURED.page.name} holds what was measured elsewhere, and there is no device here: it stays as it is"
        )
    MEASURED.fill(table)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, and the smaller arrays only")
    parser.add_argument("--rounds", type=int, default=0, help="rounds per row (default: 15, quick: 3)")
    parser.add_argument("--write", action="store_true", help=f"rewrite the measured part of docs/{MEASURED.page.name}")
    arguments = parser.parse_args(argv)
    try:
        if arguments.rounds < 0:
            raise ValueError(f"--rounds must be positive, got {arguments.rounds}")
        if arguments.write:
            MEASURED.parts()  # said now, not after minutes of measuring
        if arguments.write and arguments.quick:
            raise ValueError("--write is for the whole table: without --quick")
        reason = obstacle()
        if reason is None:
            report = run(arguments.quick, arguments.rounds)
            show(report)
            table = markdown(report)
        else:
            print(f"{reason}: nothing is measured", file=sys.stderr)
            table = NOTHING_MEASURED
        if arguments.write:
            fill(table)
    except (ImportError, ValueError) as error:
        print(f"compare_cuda.py: {error}", file=sys.stderr)
        return 2
    return 0 if arguments.write or reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
