"""The asv suite, generated from the list of losses: it tracks over time what ``compare.py`` compares with other libraries."""

import statistics
from collections.abc import Callable
from functools import partial

import jitloss
from jitloss import bench
from jitloss.bench.limits import GROUPS, ROWS

LOSSES = list(jitloss.LOSSES)
SIZES = {  # of pointwise losses, of rowwise ones; the gradient takes 1.3 kB, 260 kB, 40 MB
    "small": ((320,), (32, 10)),
    "cache": ((65_536,), (512, 128)),
    "memory": ((10_000_000,), (10_000, 1000)),
}


def prepare(name, size):
    """The whole public call on arrays of a size, as a user writes it, and its inputs."""
    loss = jitloss.LOSSES[name]
    inputs = bench.inputs_for(loss.definition, SIZES[size][loss.definition.form == "rowwise"])
    call = partial(loss.value_and_gradient, *inputs)
    gradient = call()[1]
    large = size == "memory"
    return (partial(call, out=gradient) if large else call), inputs, gradient


class Time:
    """Value and gradient; at the size beyond the caches, into a preallocated array."""

    params = (LOSSES, list(SIZES))
    param_names = ("loss", "size")

    def setup(self, name, size):
        self.call = prepare(name, size)[0]

    def time_value_and_gradient(self, name, size):
        self.call()


class Throughput:
    """Bytes of inputs and gradients per second, and the time relative to a kernel that only moves as many."""

    params = (LOSSES,)
    param_names = ("loss",)

    def setup(self, name):
        self.call, self.inputs, gradient = prepare(name, "memory")
        gradients = list(gradient.values()) if isinstance(gradient, dict) else [gradient]
        self.gradients = len(gradients)
        self.bytes = sum(array.nbytes for array in (*self.inputs, *gradients))

    def track_gigabytes_per_second(self, name):
        return self.bytes / bench.seconds_per_call(self.call, 5) / 1e9

    track_gigabytes_per_second.unit = "GB/s"

    def track_ratio_to_copy(self, name):
        calls = (self.call, *bench.copy_calls(self.inputs, self.gradients).values())
        ours, plain, streamed = zip(*([bench.seconds_per_call(call, 1) for call in calls] for _ in range(7)), strict=True)
        return statistics.median(a / min(b, c) for a, b, c in zip(ours, plain, streamed, strict=True))

    track_ratio_to_copy.unit = "times a copy"


class Overhead:
    params = (LOSSES,)
    param_names = ("loss",)

    def track_call_at_32x10(self, name):
        """The whole public call on 32×10 numbers."""
        loss = jitloss.LOSSES[name]
        call = partial(loss.value_and_gradient, *bench.inputs_for(loss.definition, (32, 10)))
        return 1e6 * statistics.median(bench.seconds_per_call(call, 1000) for _ in range(5))

    track_call_at_32x10.unit = "µs"


class FirstCall:
    """The first call of a loss in a new process, with the driver already loaded."""

    params = (LOSSES,)
    param_names = ("loss",)
    timeout = 300

    def setup_cache(self):
        return bench.first_calls(LOSSES)

    def track_cold(self, seconds, name):
        return seconds["cold"][name]

    def track_cached(self, seconds, name):
        return seconds["cached"][name]

    track_cold.unit = track_cached.unit = "s"


def track_import_over_numba():
    return bench.import_seconds()


def track_first_result_over_numba():
    """The first call in a process that finds its kernel in the disk cache."""
    return bench.process_seconds()


track_import_over_numba.unit = track_first_result_over_numba.unit = "s"


# The rows of benchmarks/limits.py ---------------------------------------------------------------------------------------------

LIMITS = {group: {} for group in GROUPS}
for _row in ROWS:
    for _goal in _row.goals:
        LIMITS[_row.group][f"{_row.name} / {_goal.against}"] = (_row, _goal.against)


def _tracked(group: str) -> Callable[[str], float]:
    """A benchmark of one group of rows: a figure, usually a ratio, for everything that a row is compared with."""

    def track(work):
        row, against = LIMITS[group][work]
        figures = row.figures(rounds=7, against=[against])
        return figures.get(against, float("nan"))

    def setup(work):
        row, against = LIMITS[group][work]
        if row.missing([against]):
            raise NotImplementedError(f"{row.missing([against])} is not installed")

    unit = GROUPS[group].unit
    track.unit = "times" if unit == "×" else unit
    track.setup, track.params, track.param_names = setup, [list(LIMITS[group])], ["work"]
    track.timeout, track.pretty_name, track.__name__ = 600, GROUPS[group].title, f"track_{group.replace('-', '_')}"
    return track


globals().update({track.__name__: track for track in map(_tracked, GROUPS)})
