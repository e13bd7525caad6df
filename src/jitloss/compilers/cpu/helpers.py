"""Threads that help the one that calls: they take chunks of its work while there are some, and it waits for none that is not there.

Threads of numba's parallel loops begin together and wait awake for the next loop. That is as fast in a row of calls, but between calls
they keep other threads from their processors for milliseconds, those of NumPy's matrix products first of all, and a call that finds
them asleep waits until the last one is awake. Here a call begins at once, helpers join when they come, and while they have nothing to
do they give way to whoever waits.
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

from .atomics import add, give_way, look, number, pause, put, put_number
from .entry import call, entry_point
from .flags import jitable
from .memory import smaller, word
from .objects import Table, address_of

__all__ = ["Helpers", "threads_allowed"]

CALLS = 4
"""Calls from different Python threads that can share the helpers. What comes besides computes alone."""

PATIENCE = 80_000
"""How often a helper looks for work before it sleeps: a millisecond or two."""

GIVE_WAY = 32
"""Of how many looks one is followed by giving way. The others are followed by a pause of the processor's."""

WORTH_WAKING = 24
"""Chunks for each helper that is woken: to wake one takes as long as some chunks, and it finds cold caches."""

SOON = 0.001
"""Seconds after the beginning of a call within which another makes helpers worth waking for any work: more will follow."""

WAKE_AT_ONCE = 4
"""How many helpers a thread wakes. They wake the others."""

LINE = 16
"""Words that threads write to lie this far apart: two lines of the cache, which come together."""

OVER = 0
"""Of all: whether helpers are to leave."""

FIRST = 8 * LINE
"""Bytes before the words of the first call."""

THREADS, WITHIN = 0, LINE
"""Of a call: how many threads may take part, 0 while there is no work; and how many helpers are at it, who may read its words."""
KERNEL, TABLE, COUNT, CHUNK, SCALE, SUMS, SHARES = range(2 * LINE, 2 * LINE + 7)
NEXT = 3 * LINE
"""Of each share of a call: the next chunk that nobody has taken. A thread begins with its own share, whose arrays its cache may hold."""


@jitable
def _compute(place: Any, me: Any) -> Any:
    """Take chunks until there are none: first of the share of this thread's own, then of the others'."""
    kernel, table, count, chunk = word(place, KERNEL), word(place, TABLE), word(place, COUNT), word(place, CHUNK)
    scale, sums, shares = number(place, SCALE), word(place, SUMS), word(place, SHARES)
    chunks = (count + chunk - 1) // chunk
    for step in range(shares):
        share = (me + step) % shares
        stop = (share + 1) * chunks // shares
        index = add(place, NEXT + share * LINE, 1)
        while index < stop:
            put_number(sums, index, call(kernel, table, index * chunk, smaller(count, (index + 1) * chunk), scale))
            index = add(place, NEXT + share * LINE, 1)
    put(place, THREADS, 0)


def _lead(kernel: Any, words: Any, count: Any, chunk: Any, scale: Any, where: Any) -> Any:
    """Offer a call's work, take part in it, and add the sums of the chunks in order."""
    place, sums, shares = word(address_of(where), 0), word(address_of(where), 1), word(address_of(where), 2)
    chunks = (count + chunk - 1) // chunk
    put(place, KERNEL, kernel)
    put(place, TABLE, address_of(words))
    put(place, COUNT, count)
    put(place, CHUNK, chunk)
    put_number(place, SCALE, scale)
    put(place, SUMS, sums)
    put(place, SHARES, shares)
    for share in range(shares):
        put(place, NEXT + share * LINE, share * chunks // shares)
    put(place, THREADS, shares)
    _compute(place, 0)
    waited = 0
    while look(place, WITHIN) > 0:
        waited += 1
        if waited % GIVE_WAY == 0:
            give_way()
        else:
            pause()
    total = 0.0
    for index in range(chunks):
        total += number(sums, index)
    return total


def _help(memory: Any, size: Any, me: Any, patience: Any) -> Any:
    """Take part in calls until there has been no work for a while; whether there was some."""
    quiet, helped = 0, False
    while quiet < patience and not look(memory, OVER):
        quiet += 1
        for position in range(CALLS):
            place = memory + FIRST + position * size
            if look(place, THREADS) > me:
                add(place, WITHIN, 1)
                if look(place, THREADS) > me:  # else it was over before the caller could see that this thread is at it
                    _compute(place, me)
                    quiet, helped = 0, True
                add(place, WITHIN, -1)
        if quiet % GIVE_WAY == 0:
            give_way()
        else:
            pause()
    return helped


def threads_allowed() -> int:
    """What numba's settings allow in this thread, without starting numba's own threads for the question."""
    if getattr(parallel, "_is_initialized", True):
        allowed: int = numba.get_num_threads()
        return allowed
    most: int = config.NUMBA_NUM_THREADS
    return most


def _processor() -> Callable[[], int] | None:
    """What tells on which processor a thread runs, where there is such a thing and threads can be kept from one."""
    return getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


@contextlib.contextmanager
def _usual_stacks() -> Iterator[None]:
    """Threads have the system's usual stacks, on which kernels keep rows, whatever the user has asked for others."""
    asked = threading.stack_size(0)
    try:
        yield
    finally:
        threading.stack_size(asked)


class Helpers:
    """The helpers of this process. They are started as calls want them, and sleep while there are no calls."""

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

    def run(self, kernel: int, words: tuple[Any, ...], count: int, chunk: int, scale: float, threads: int) -> float | None:
        """The sum of what the chunks return, or None where nobody would help."""
        chunks = -(-count // chunk)
        threads = min(threads, self._most, chunks)
        if not self._call_for(threads, chunks):
            return None
        mine: list[int] = []
        try:
            try:
                mine.extend(map(list.pop, (self._free,)))  # one step: an interrupt that came between would lose the place
            except IndexError:
                return None
            total: float = self._lead(kernel, words, count, chunk, scale, (mine[0], np.empty(chunks), threads))
            return total
        finally:
            self._free.extend(mine)

    def _call_for(self, threads: int, chunks: int) -> bool:
        """Start helpers that are missing, and wake those that sleep, as far as the work is worth it; whether any is awake."""
        now = time.perf_counter()
        if now - self._last > SOON:
            threads = min(threads, 1 + chunks // WORTH_WAKING)
        self._last = now
        if len(self._threads) < threads - 1 and not self._over:
            self._start(threads)
        if self._asleep and threads > 1:
            self._wake(threads)
        return len(self._asleep) < len(self._threads)

    def _start(self, threads: int) -> None:
        # RuntimeError: there can be no more threads, and those that are there have to do
        with self._starting, _usual_stacks(), contextlib.suppress(RuntimeError):
            while len(self._threads) < threads - 1:
                me = len(self._threads) + 1
                helper = threading.Thread(target=self._serve, args=(me,), name=f"jitloss-{me}", daemon=True)
                helper.start()
                self._threads.append(helper)
                if me == 1:
                    atexit.register(self.stop)

    def _wake(self, threads: int) -> None:
        """Elsewhere: the system likes to put who wakes up on the processor of who woke them, to wait for it there."""
        self._wanted = threads
        if self._processor:
            self._anywhere = os.sched_getaffinity(0)
            self._elsewhere = self._anywhere - {self._processor()}
            if not self._elsewhere:
                return  # this processor alone is allowed
        self._wake_some()

    def _wake_some(self) -> None:
        woken = 0
        for me in range(1, self._wanted):
            if sleeper := self._asleep.get(me):
                bell, thread = sleeper
                self._keep_to(self._elsewhere, thread)
                try:
                    self._asleep.pop(me, None)
                finally:  # an interrupt may come here: for who is on no list, nobody would ring
                    try:  # noqa: SIM105  # suppress is Python code, which may be interrupted
                        bell.release()
                    except RuntimeError:  # somebody else has rung
                        pass
                woken += 1
                if woken == WAKE_AT_ONCE:
                    return

    def _keep_to(self, processors: set[int], thread: int = 0) -> None:
        if processors:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, processors)

    def _serve(self, me: int) -> None:
        """A helper's life."""
        helped = functools.partial(self._help, self._memory, self._size, me)
        bell = threading.Lock()
        bell.acquire()
        while not self._over:
            helped(PATIENCE)
            self._asleep[me] = bell, threading.get_native_id()
            # A call that began since the last look has not seen that this thread sleeps.
            if (self._over or helped(1)) and self._asleep.pop(me, None):
                continue
            bell.acquire()
            self._asleep.pop(me, None)  # a bell may ring twice
            self._keep_to(self._anywhere)
            self._wake_some()

    def stop(self) -> None:
        """At exit: no helper may be in compiled code when the interpreter goes."""
        self._over = True
        self._words[OVER] = 1
        for me in range(1, len(self._threads) + 1):
            if sleeper := self._asleep.pop(me, None):
                with contextlib.suppress(RuntimeError):  # somebody else has rung
                    sleeper[0].release()
        for helper in self._threads:
            helper.join(1)
