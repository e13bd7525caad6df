"""Helper threads: they take chunks of a call's work while there are any, and the calling thread never waits for one that is not there.

The threads of numba's parallel loops start together and spin until the next loop. That is as fast in a series of calls, but
between calls they keep other threads from the processors for milliseconds, notably those of NumPy's matrix products, and a call
that finds them asleep waits until the last one has woken up. Here a call begins at once, helpers join when they are ready, and
while they have nothing to do they yield to other threads.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from numba import config, types
from numba.np.ufunc import parallel

from .atomics import atomic_add, atomic_load, atomic_store, load_number, pause, store_number, yield_thread
from .entry import call, entry_point
from .flags import jitable
from .memory import smaller, word
from .objects import Table, address_of

__all__ = ["Helpers", "threads_allowed"]

CALLS = 4
"""Calls from different Python threads that can share the helpers. Any further ones run on their own thread alone."""

PATIENCE = 80_000
"""How often a helper polls for work before it sleeps: for a millisecond or two."""

YIELD_EVERY = 32
"""After every so many polls a helper yields its processor. After the others it executes a pause instruction."""

WORTH_WAKING = 24
"""Work for each helper that is woken, in chunks of short rows: waking one takes as long as some of them, and its caches are cold."""

RECENT = 0.001
"""Seconds since the start of the previous call within which helpers are woken for any amount of work: more calls will follow."""

WAKE_AT_ONCE = 4
"""How many helpers a thread wakes. They wake the others."""

LINE = 16
"""Distance in words between fields that threads write: two cache lines, which are fetched as a pair."""

EXIT = 0
"""Of all calls: whether helpers are to exit."""

FIRST = 8 * LINE
"""Bytes before the words of the first call."""

THREADS, WITHIN = 0, LINE
"""Of a call: how many threads may take part, 0 while there is no work; and how many helpers are inside it and may read its words."""
KERNEL, TABLE, COUNT, CHUNK, SCALE, SUMS, SHARES = range(2 * LINE, 2 * LINE + 7)
NEXT = 3 * LINE
"""Of each thread's share of a call: its next free chunk. A thread starts with its own share, whose data may be in its cache."""


@jitable
def _compute(place: Any, me: Any) -> Any:
    """Take chunks until there are none left: first from this thread's own share, then from the others'."""
    kernel, table, count, chunk = word(place, KERNEL), word(place, TABLE), word(place, COUNT), word(place, CHUNK)
    scale, sums, shares = load_number(place, SCALE), word(place, SUMS), word(place, SHARES)
    chunks = (count + chunk - 1) // chunk
    for step in range(shares):
        share = (me + step) % shares
        stop = (share + 1) * chunks // shares
        index = atomic_add(place, NEXT + share * LINE, 1)
        while index < stop:
            store_number(sums, index, call(kernel, table, index * chunk, smaller(count, (index + 1) * chunk), scale))
            index = atomic_add(place, NEXT + share * LINE, 1)
    atomic_store(place, THREADS, 0)


def _lead(kernel: Any, words: Any, count: Any, chunk: Any, scale: Any, where: Any) -> Any:
    """Publish a call's work, take part in it, and add the sums of the chunks in order."""
    place, sums, shares = word(address_of(where), 0), word(address_of(where), 1), word(address_of(where), 2)
    chunks = (count + chunk - 1) // chunk
    atomic_store(place, KERNEL, kernel)
    atomic_store(place, TABLE, address_of(words))
    atomic_store(place, COUNT, count)
    atomic_store(place, CHUNK, chunk)
    store_number(place, SCALE, scale)
    atomic_store(place, SUMS, sums)
    atomic_store(place, SHARES, shares)
    for share in range(shares):
        atomic_store(place, NEXT + share * LINE, share * chunks // shares)
    atomic_store(place, THREADS, shares)
    _compute(place, 0)
    waited = 0
    while atomic_load(place, WITHIN) > 0:
        waited += 1
        if waited % YIELD_EVERY == 0:
            yield_thread()
        else:
            pause()
    total = 0.0
    for index in range(chunks):
        total += load_number(sums, index)
    return total


def _help(memory: Any, size: Any, me: Any, patience: Any) -> Any:
    """Take part in calls until there has been no work for a while; returns whether there was any."""
    quiet, helped = 0, False
    while quiet < patience and not atomic_load(memory, EXIT):
        quiet += 1
        for position in range(CALLS):
            place = memory + FIRST + position * size
            if atomic_load(place, THREADS) > me:
                atomic_add(place, WITHIN, 1)
                if atomic_load(place, THREADS) > me:  # otherwise the call ended before its thread could see this helper
                    _compute(place, me)
                    quiet, helped = 0, True
                atomic_add(place, WITHIN, -1)
        if quiet % YIELD_EVERY == 0:
            yield_thread()
        else:
            pause()
    return helped


def threads_allowed() -> int:
    """How many threads numba's settings allow in this thread, without starting numba's own threads to find out."""
    if getattr(parallel, "_is_initialized", True):
        allowed: int = numba.get_num_threads()
        return allowed
    most: int = config.NUMBA_NUM_THREADS
    return most


def _processor() -> Callable[[], int] | None:
    """The function that tells which processor a thread runs on, where threads can also be kept off one."""
    return getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


@contextlib.contextmanager
def _usual_stacks() -> Iterator[None]:
    """Give new threads the system's default stack size, since kernels keep rows on the stack, whatever size the user has set."""
    asked = threading.stack_size(0)
    try:
        yield
    finally:
        threading.stack_size(asked)


class Helpers:
    """The helper threads of this process. They are started on demand, and sleep while there are no calls."""

    def __init__(self) -> None:
        self._lead = entry_point(_lead, types.float64(types.intp, Table(), types.intp, types.intp, types.float64, Table()))
        self._help = entry_point(_help, types.boolean(*[types.intp] * 4))
        self._most = config.NUMBA_NUM_THREADS
        self._size = 8 * (NEXT + LINE * self._most)
        words = np.zeros((2 * FIRST + CALLS * self._size) // 8, np.int64)
        self._words = words[-words.ctypes.data % FIRST // 8 :]
        self._memory: int = self._words.ctypes.data
        self._free = [self._memory + FIRST + position * self._size for position in range(CALLS)]
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._asleep: dict[int, tuple[threading.Lock, int]] = {}
        self._processor = _processor()
        self._anywhere: set[int] = set()
        self._elsewhere: set[int] = set()
        self._wanted = 0
        self._last = 0.0
        self._over = False

    def run(
        self, kernel: int, words: tuple[Any, ...], count: int, chunk: int, scale: float, threads: int, work: int
    ) -> float | None:
        """The sum of the chunks' values, or None where no helper would take part."""
        chunks = -(-count // chunk)
        threads = min(threads, self._most, chunks)
        if not self._call_for(threads, work):
            return None
        mine: list[int] = []
        try:
            try:
                mine.extend(map(list.pop, (self._free,)))  # atomic: an interrupt in between would lose the slot
            except IndexError:
                return None
            total: float = self._lead(kernel, words, count, chunk, scale, (mine[0], np.empty(chunks), threads))
            return total
        finally:
            self._free.extend(mine)

    def _call_for(self, threads: int, work: int) -> bool:
        """Start missing helpers, and wake sleeping ones, as far as the work justifies it; returns whether any is awake."""
        now = time.perf_counter()
        if now - self._last > RECENT:
            threads = min(threads, 1 + work // WORTH_WAKING)
        self._last = now
        if len(self._threads) < threads - 1 and not self._over:
            self._start(threads)
        if self._asleep and threads > 1:
            self._wake(threads)
        return len(self._asleep) < len(self._threads)

    def _start(self, threads: int) -> None:
        # RuntimeError: no more threads can be started, so those that exist must do
        with self._starting, _usual_stacks(), contextlib.suppress(RuntimeError):
            while len(self._threads) < threads - 1:
                me = len(self._threads) + 1
                helper = threading.Thread(target=self._serve, args=(me,), name=f"jitloss-{me}", daemon=True)
                helper.start()
                self._threads.append(helper)
                if me == 1:
                    atexit.register(self.stop)

    def _wake(self, threads: int) -> None:
        """Wake from another processor: the scheduler tends to put a woken thread on that of its waker, where it would have to wait."""
        self._wanted = threads
        if self._processor:
            self._anywhere = os.sched_getaffinity(0)
            self._elsewhere = self._anywhere - {self._processor()}
            if not self._elsewhere:
                return  # only this processor is allowed
        self._wake_some()

    def _wake_some(self) -> None:
        woken = 0
        for me in range(1, self._wanted):
            if sleeper := self._asleep.get(me):
                bell, thread = sleeper
                self._keep_to(self._elsewhere, thread)
                try:
                    self._asleep.pop(me, None)
                finally:  # an interrupt may come here: a helper that is on no list would never be woken
                    try:  # noqa: SIM105  # suppress is Python code, which may be interrupted
                        bell.release()
                    except RuntimeError:  # another thread has released it
                        pass
                woken += 1
                if woken == WAKE_AT_ONCE:
                    return

    def _keep_to(self, processors: set[int], thread: int = 0) -> None:
        if processors:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, processors)

    def _serve(self, me: int) -> None:
        """The main loop of a helper."""
        helped = functools.partial(self._help, self._memory, self._size, me)
        bell = threading.Lock()
        bell.acquire()
        while not self._over:
            helped(PATIENCE)
            self._asleep[me] = bell, threading.get_native_id()
            # A call that began since the last poll has not seen that this thread sleeps.
            if (self._over or helped(1)) and self._asleep.pop(me, None):
                continue
            bell.acquire()
            self._asleep.pop(me, None)  # a wake-up may come twice
            self._keep_to(self._anywhere)
            self._wake_some()

    def stop(self) -> None:
        """At exit: no helper may be in compiled code when the interpreter shuts down."""
        self._over = True
        self._words[EXIT] = 1
        for me in range(1, len(self._threads) + 1):
            if sleeper := self._asleep.pop(me, None):
                with contextlib.suppress(RuntimeError):  # another thread has released it
                    sleeper[0].release()
        for helper in self._threads:
            helper.join(1)
