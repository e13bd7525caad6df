"""Outputs too large for the caches: both kinds of stores are tried, then the faster one is used."""

from typing import Any

import numpy as np
import pytest

import jitloss
from jitloss import stores
from jitloss.compilers import cpu
from jitloss.compilers.cpu import table as at

TRIED = 2 * stores.TRIES


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    monkeypatch.setattr(stores, "_seconds", {})


@pytest.fixture
def clock(monkeypatch):
    """A clock that only a test advances."""
    now = [0.0]
    monkeypatch.setattr(stores.time, "perf_counter", lambda: now[0])
    return now


def ways(
    clock: list[float], plain: list[float], past: list[float], calls: int, kernel: int = 1, moved: int = 1000, new: bool = False
) -> list[bool]:
    """The kinds of stores that calls use if they take these seconds, one after the other; the last time repeats."""
    taken: list[bool] = []

    def run(streamed: bool) -> float:
        times = past if streamed else plain
        clock[0] += times.pop(0) if len(times) > 1 else times[0]
        taken.append(streamed)
        return 7.0

    assert [stores.faster(kernel, moved, new, run) for _ in range(calls)] == [7.0] * calls
    return taken


def test_one_way_is_tried_then_the_other_then_the_faster_is_taken(clock):
    tries = [False] * stores.TRIES + [True] * stores.TRIES
    assert ways(clock, [2.0], [1.0], len(tries) + 3, kernel=1) == tries + [True] * 3
    assert ways(clock, [1.0], [2.0], len(tries) + 3, kernel=2) == tries + [False] * 3


def test_a_way_is_tried_as_long_as_it_gets_faster(clock):
    falling = [2.0 - 0.1 * call for call in range(stores.TRIES + 3)]
    taken = ways(clock, [*falling, falling[-1]], [1.5], 30)
    assert taken.index(True) == len(falling) + 2
    assert taken[-1] is False
    for_ever = [0.9**call for call in range(40)]
    assert ways(clock, for_ever, [1.0], 40, kernel=2).index(True) == stores.MOST_TRIES


def test_one_slow_call_decides_nothing(clock):
    assert ways(clock, [9.0, 1.0], [2.0], TRIED + 1)[-1] is False
    assert ways(clock, [2.0], [9.0, 1.0], TRIED + 1, kernel=2)[-1] is True


def test_each_kernel_and_size_is_tried(clock):
    ways(clock, [1.0], [2.0], TRIED + 1)
    assert ways(clock, [2.0], [1.0], 5, moved=1001) == [False] * 5
    assert ways(clock, [2.0], [1.0], TRIED + 1, moved=5000)[-1] is True
    assert ways(clock, [2.0], [1.0], TRIED + 1, kernel=2)[-1] is True
    assert ways(clock, [2.0], [1.0], TRIED + 1, new=True)[-1] is True


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        (["48K", "2048K", "36608K"], 36608 * 2**10),
        (["32K", "1M", "12M"], 12 * 2**20),
        (["32K", "", "1024K\n"], 2**20),
        (["512K", "260M"], 2**26),  # of which other processors have their share
        ([], 2**25),
    ],
)
def test_the_size_of_the_last_cache(monkeypatch, tmp_path, sizes, found):
    for number, size in enumerate(sizes):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(size)
    monkeypatch.setattr(stores, "Path", lambda folder: tmp_path)
    assert stores.cache_bytes.__wrapped__() == found


def seen(monkeypatch) -> list[bool]:
    """Whether the kernels that run use streaming stores."""
    taken: list[bool] = []
    original = cpu.run

    def run(kernel: int, words: Any, *rest: Any, **named: Any) -> float:
        taken.append(words[at.STREAM] == at.PAST)
        return original(kernel, words, *rest, **named)

    monkeypatch.setattr(cpu, "run", run)
    return taken


def test_calls_of_large_arrays_try_both(monkeypatch):
    monkeypatch.setattr(stores, "cache_bytes", lambda: 0)
    predictions, targets = np.ones(100_001, np.float32), np.zeros(100_001, np.float32)
    taken = seen(monkeypatch)
    results = [jitloss.huber_loss.value_and_gradient(predictions, targets) for _ in range(2 * stores.MOST_TRIES)]
    assert not any(taken[: stores.TRIES])
    assert sum(taken) >= stores.TRIES
    assert len({(value, gradient.tobytes()) for value, gradient in results}) == 1


def test_what_fits_the_cache_goes_through_it_and_so_does_what_is_in_place(monkeypatch):
    predictions, targets = np.ones(100_001, np.float32), np.zeros(100_001, np.float32)
    taken = seen(monkeypatch)
    for _ in range(4):
        jitloss.huber_loss.value_and_gradient(predictions, targets, reduction="sum")
    monkeypatch.setattr(stores, "cache_bytes", lambda: 0)
    for _ in range(4):
        jitloss.huber_loss.value_and_gradient(predictions, targets, reduction="sum", out=predictions)
        jitloss.huber_loss(predictions, targets)
    assert not any(taken)
    assert not stores._seconds
