"""Helper threads: every chunk is computed exactly once; calls complete without helpers; idle helpers use no processor time."""

import contextlib
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE, c_double, c_int64, c_void_p, cast
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
from numba.np.ufunc import parallel

import jitloss
import processes
from jitloss.compilers import cpu
from jitloss.compilers.cpu import driver
from jitloss.compilers.cpu import helpers as module
from jitloss.compilers.cpu.atomics import atomic_add
from jitloss.compilers.cpu.entry import range_kernel
from jitloss.compilers.cpu.helpers import CALLS, WORTH_WAKING, Helpers, threads_allowed
from jitloss.compilers.cpu.memory import word
from jitloss.running import CHUNK, SERIAL

LARGE = np.linspace(-1, 1, 1_000_000, dtype=np.float32)


@range_kernel
def counting(table, start, stop, scale):
    """A kernel that adds 1 to each element of its range, and returns the sum of their indices times the scale."""
    for index in range(start, stop):
        atomic_add(word(table, 0), index, 1)
    return scale * (start + stop - 1) * (stop - start) / 2


def count_all(helpers: Helpers, size: int, chunk: int, threads: int) -> bool | None:
    """Whether one call processed each element once and returned the sum; None where the call should compute alone."""
    seen = np.zeros(size, np.int64)
    total = helpers.run(counting.address, (seen,), size, chunk, 0.5, threads, -(-size // chunk))
    return None if total is None else bool((seen == 1).all()) and total == size * (size - 1) / 4


@pytest.fixture
def three_threads(monkeypatch):
    """Threads for two helpers, on any machine."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)


@pytest.fixture
def helpers(monkeypatch):
    """Helpers for one test, which are woken for any amount of work."""
    monkeypatch.setattr(module, "RECENT", float("inf"))
    made = Helpers()
    yield made
    made.stop()
    assert not any(helper.is_alive() for helper in made._threads)


def asleep(helpers: Helpers, seconds: float = 10.0) -> None:
    """Wait until all helpers sleep."""
    deadline = time.monotonic() + seconds
    while len(helpers._asleep) < len(helpers._threads):
        assert time.monotonic() < deadline
        time.sleep(0.001)


# Each chunk once --------------------------------------------------------------------------------------------------------------


def cover(rounds: int) -> dict[str, int]:
    """Make calls of many sizes with all numbers of threads; returns how many there were, and how many missed or repeated an element."""
    module.RECENT = float("inf")
    helpers, numbers = Helpers(), np.random.default_rng(0)
    calls = list(itertools.product((17, 64, 1000, 4001), (1, 3, 16), range(2, numba.config.NUMBA_NUM_THREADS + 1)))
    right = []
    for _ in range(rounds):
        for position in numbers.permutation(len(calls)):
            right.append(count_all(helpers, *calls[position]))
            if numbers.random() < 0.02:
                asleep(helpers)
    return {"calls": len(right), "wrong": len(right) - sum(map(bool, right)), "helpers": len(helpers._threads)}


@pytest.mark.parametrize("threads", [2, 7])
def test_each_element_once(threads):
    result = processes.call(cover, 20, NUMBA_NUM_THREADS=str(threads))
    assert result == {"calls": 20 * 12 * (threads - 1), "wrong": 0, "helpers": threads - 1}


def cover_at_once(threads: int, rounds: int) -> dict[str, int]:
    """The same from more Python threads than calls can share the helpers."""
    module.RECENT = float("inf")
    helpers = Helpers()

    def one(number: int) -> list[bool | None]:
        return [count_all(helpers, size, 5, numba.config.NUMBA_NUM_THREADS) for size in range(number, number + rounds)]

    with ThreadPoolExecutor(threads) as pool:
        results = list(itertools.chain(*pool.map(one, range(1, threads + 1))))
    return {"wrong": results.count(False), "free": len(helpers._free)}


@pytest.mark.parametrize("threads", [2, 5])
def test_calls_from_many_threads(threads):
    assert processes.call(cover_at_once, 2 * CALLS, 300, NUMBA_NUM_THREADS=str(threads)) == {"wrong": 0, "free": CALLS}


def test_a_call_too_many_computes_alone(helpers, monkeypatch):
    monkeypatch.setattr(driver, "_helpers", helpers)
    wanted = jitloss.mse_loss(LARGE, -LARGE)
    places, helpers._free = helpers._free, []
    assert helpers.run(counting.address, (np.zeros(9, np.int64),), 9, 2, 1.0, 2, 5) is None
    assert jitloss.mse_loss(LARGE, -LARGE) == wanted
    helpers._free = places


# Helpers come and go ----------------------------------------------------------------------------------------------------------


def needs_two(function):
    return pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread is all there is")(function)


def in_python(helpers: Helpers, chunk: Callable[[], None], chunks: int, threads: int) -> set[int]:
    """The threads that take part in a call whose kernel is a Python function, called once for each chunk."""
    here: set[int] = set()

    def kernel(table: int, start: int, stop: int, scale: float) -> float:
        here.add(threading.get_ident())
        chunk()
        return 1.0

    made = CFUNCTYPE(c_double, c_int64, c_int64, c_int64, c_double)(kernel)
    assert helpers.run(cast(made, c_void_p).value or 0, (0,), chunks, 1, 1.0, threads, chunks) == chunks
    return here


def rendezvous(helpers: Helpers, threads: int = 2, first: Callable[[], None] = lambda: None) -> int:
    """How many threads are in one call at the same time, if each waits for the others; ``first`` is called in it beforehand."""
    all_here, met = threading.Barrier(threads, timeout=20), threading.local()

    def meet() -> None:
        first()
        if not hasattr(met, "before"):
            met.before = all_here.wait()

    return len(in_python(helpers, meet, 64, threads))


@needs_two
def test_helpers_help_at_first_later_and_after_a_sleep(helpers):
    assert rendezvous(helpers) == 2
    assert rendezvous(helpers) == 2
    asleep(helpers)
    assert rendezvous(helpers) == 2


@needs_two
def test_a_helper_that_was_woken_wakes_others(three_threads, helpers, monkeypatch):
    assert rendezvous(helpers, 3) == 3
    asleep(helpers)
    monkeypatch.setattr(module, "WAKE_AT_ONCE", 1)
    assert rendezvous(helpers, 3) == 3


@needs_two
def test_a_helper_that_is_about_to_sleep_sees_a_call(helpers, monkeypatch):
    """The call begins after the helper's last poll, before the helper is known to be asleep."""
    help_out, began = helpers._help, threading.Event()

    def blind(*words: int) -> bool:
        if words[-1] == module.PATIENCE:
            began.wait(20)
            return False
        return help_out(*words)

    monkeypatch.setattr(helpers, "_help", blind)
    assert rendezvous(helpers, first=began.set) == 2


@needs_two
def test_what_is_worth_waking_a_helper(helpers, monkeypatch):
    """A call with much work, or one soon after another; calls made while a helper is awake get its help anyway."""
    clock = [100.0]
    monkeypatch.setattr(module, "RECENT", 1.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    few, many = WORTH_WAKING - 1, WORTH_WAKING

    def after(seconds: float, chunks: int) -> bool | None:
        clock[0] += seconds
        return count_all(helpers, chunks, 1, 2)

    assert after(2.0, few) is None
    assert helpers._threads == []
    assert after(0.5, few)
    asleep(helpers)
    assert after(2.0, few) is None
    assert after(0.5, few)
    asleep(helpers)
    monkeypatch.setattr(module, "PATIENCE", 10**12)
    assert after(2.0, many)
    assert after(2.0, few)


@pytest.mark.parametrize(("rows", "columns"), [(2 * WORTH_WAKING, CHUNK), (4, WORTH_WAKING * CHUNK), (3, 400)])
def test_the_work_of_a_call_is_its_elements_however_long_rows_are(rows, columns, monkeypatch):
    seen, run = [], cpu.run
    monkeypatch.setattr(cpu, "run", lambda *args: seen.append(args[-1]) or run(*args))
    jitloss.cross_entropy_with_logits.gradient(np.zeros((rows, columns), np.float32), np.zeros(rows, int))
    assert seen[-1] == (rows * columns // CHUNK if rows * columns > SERIAL else 0)


@needs_two
def test_who_sleeps_takes_no_processor(helpers):
    count_all(helpers, 100, 1, 2)
    asleep(helpers)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


@needs_two
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps threads from no processor")
def test_helpers_run_where_the_caller_may(helpers):
    """They wake up on another processor than their waker's; after that they may use all processors that the caller may use."""
    everywhere = os.sched_getaffinity(0)
    rendezvous(helpers)
    asleep(helpers)
    rendezvous(helpers)
    thread = helpers._threads[0].native_id
    assert os.sched_getaffinity(thread) == everywhere
    asleep(helpers)
    try:
        os.sched_setaffinity(0, {min(everywhere)})
        assert count_all(helpers, 1000, 1, 2) is None
        assert helpers._asleep, "woken for a processor that the caller has alone"
    finally:
        os.sched_setaffinity(0, everywhere)


@needs_two
def test_no_thread_can_be_started(helpers, monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert count_all(helpers, 1000, 7, 2) is None
    assert helpers._threads == []
    monkeypatch.undo()
    assert count_all(helpers, 1000, 7, 2)
    assert len(helpers._threads) == 1


@needs_two
@pytest.mark.parametrize("asked", [0, 64 * 1024, 2**22])
def test_helpers_have_usual_stacks(helpers, monkeypatch, asked):
    """Whatever stack size the user sets for other threads: a kernel would overflow a small stack."""
    seen, start = [], threading.Thread.start

    def watched(thread: threading.Thread) -> None:
        seen.append(threading.stack_size(0))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    threading.stack_size(asked)
    try:
        count_all(helpers, 100, 1, 2)
        assert seen == [0]
    finally:
        assert threading.stack_size(0) == asked


# The number of threads --------------------------------------------------------------------------------------------------------


def limited() -> list[int]:
    """How many helpers there are as the allowed number of threads grows, and how many then take part in a call limited to two."""
    large, counts = (LARGE, -LARGE), []
    for number in (1, 2, 3):
        numba.set_num_threads(number)
        jitloss.mse_loss(*large)
        counts.append(len(driver._helpers._threads) if driver._helpers else 0)
    module.PATIENCE = 10**12  # from now on no helper sleeps
    module.RECENT = float("inf")
    helpers = Helpers()
    assert rendezvous(helpers, 4) == 4
    return [*counts, threads_allowed(), len(in_python(helpers, lambda: time.sleep(0.001), 64, 2))]


def test_no_more_threads_than_allowed():
    assert processes.call(limited, NUMBA_NUM_THREADS="4") == [0, 1, 2, 3, 2]


def started() -> list[bool | int]:
    jitloss.mse_loss(LARGE, -LARGE)
    return [threads_allowed(), parallel._is_initialized]


def test_numba_starts_no_threads_of_its_own():
    assert processes.call(started, NUMBA_NUM_THREADS="3") == [3, False]


# Interrupts -------------------------------------------------------------------------------------------------------------------


def interrupted(seconds: float) -> list[Any]:
    """Large calls that a signal handler interrupts anywhere; returns how many slots are free then, and whether helpers still come."""

    armed = [False]

    def handler(number: int, frame: Any) -> None:
        if armed[0]:
            raise InterruptedError

    module.RECENT = float("inf")
    some, delays, rounds = LARGE[:50_000], np.random.default_rng(0), 0
    jitloss.mse_loss(some, some)
    helpers = driver._helpers
    assert helpers is not None
    signal.signal(signal.SIGALRM, handler)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if rounds % 8 == 0:
            asleep(helpers)
        armed[0] = True
        with contextlib.suppress(InterruptedError):
            signal.setitimer(signal.ITIMER_REAL, delays.uniform(1e-5, 3e-4))
            for _ in range(1000):
                jitloss.mse_loss(some, some)
            armed[0] = False
        rounds += 1
    asleep(helpers)
    return [len(helpers._free), rendezvous(helpers)]


@needs_two
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no such timers")
def test_interrupts_lose_neither_places_nor_helpers():
    assert processes.call(interrupted, 4.0, NUMBA_NUM_THREADS="2") == [CALLS, 2]


# The end ----------------------------------------------------------------------------------------------------------------------

ENDING = """
import atexit, json, sys
import numpy as np
sys.stdout.reconfigure(line_buffering=True)
if "late" in sys.argv:
    atexit.register(lambda: print(json.dumps(float(jitloss.mse_loss(x, -x)))))
import jitloss
x = np.ones(300_000, np.float32)
print(json.dumps(float(jitloss.mse_loss(x, -x))))
if "thread" in sys.argv:
    import threading
    def forever():
        while True:
            jitloss.mse_loss(x, -x)
    for _ in range(3):
        threading.Thread(target=forever, daemon=True).start()
"""


@pytest.mark.parametrize(("how", "times"), [("", 1), ("late", 1), ("thread", 5)])
def test_the_end_of_a_process(how, times):
    for _ in range(times):
        process = processes.start("-X", "faulthandler", "-c", ENDING, how, NUMBA_NUM_THREADS="4")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert [json.loads(line) for line in out.splitlines()] == [4.0] * (2 if how == "late" else 1)
