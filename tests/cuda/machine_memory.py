"""The memory of a device made of NumPy, which knows what may be touched, and by whom."""

import weakref
from typing import Any

import numpy as np

__all__ = ["Fault", "Memory", "Shared", "Words"]

_GAP = 4096
"""Bytes between two arrays, which belong to nobody."""

_NOBODY = -1

Words = tuple[np.ndarray, np.ndarray]
"""Memory as one array of words, and where in it each thread's first word is."""


class Fault(Exception):
    """What no kernel may do."""


class Memory:
    """The arrays of a device, by their addresses."""

    def __init__(self) -> None:
        self._next = 1 << 40
        self._arrays: dict[int, tuple[int, np.ndarray]] = {}

    def place(self, owner: Any, array: np.ndarray, offset: int = 0) -> int:
        """The address of a copy of an array, which is there as long as its owner; ``offset`` bytes from a multiple of 256."""
        base, end = self._next, offset + array.nbytes
        held = np.zeros(-(-end // 16) * 16, np.uint8)
        held[offset:end] = np.frombuffer(array.tobytes(), np.uint8)
        self._arrays[base] = end, held
        self._next += -(-held.size // 256) * 256 + _GAP
        weakref.finalize(owner, self._arrays.pop, base)
        return base + offset

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        """A view of what lies at an address."""
        base = max(one for one in self._arrays if one <= address)
        return self._arrays[base][1][address - base : address - base + size]

    def words(self, addresses: np.ndarray, kind: np.dtype[Any], count: int) -> Words:
        """What threads find at their addresses: ``count`` neighbours each, in one array of all."""
        size, lowest = kind.itemsize * count, int(addresses.min())
        base = max((one for one in self._arrays if one <= lowest), default=0)
        end, held = self._arrays.get(base, (0, np.empty(0, np.uint8)))
        highest = int(addresses.max()) - base
        if highest + size > end:
            raise Fault(f"memory of no array: {size} bytes at {highest} of an array that has {end}")
        if (addresses % np.uint64(size)).any():
            raise Fault(f"{size} bytes that do not lie at a multiple of their number")
        return held.view(kind), (addresses - np.uint64(base)).astype(np.intp) // kind.itemsize


class Shared:
    """The shared memory of some blocks, and who has touched each word of it since the last barrier."""

    def __init__(self, blocks: int, size: int) -> None:
        words = blocks, size // 4
        self._held = np.full((blocks, size), 0xFF, np.uint8)
        self._written = np.zeros(words, bool)
        self._writer, self._first_reader, self._last_reader = np.full((3, *words), _NOBODY)
        self._writer_of_cluster = np.full(words, _NOBODY)  # since the last barrier of the whole cluster

    def pass_barrier(self, blocks: np.ndarray, cluster: bool) -> None:
        for one in (self._writer, self._first_reader, self._last_reader, *([self._writer_of_cluster] if cluster else [])):
            one[blocks] = _NOBODY

    def words(
        self,
        block: np.ndarray,
        offset: np.ndarray,
        kind: np.dtype[Any],
        count: int,
        *,
        thread: np.ndarray,
        writes: bool,
        far: np.ndarray,
    ) -> Words:
        """What threads find at an offset in the memory of a block, which is another's than their own where it is ``far``."""
        size, end = kind.itemsize * count, self._held.shape[1]
        if (offset + size > end).any() or (offset % size).any():
            raise Fault("shared memory beyond its end, or across its own size")
        for first in range(0, size, 4):
            self._touch(block, (offset + first) // 4, thread, writes, far)
        return self._held.reshape(-1).view(kind), (block * end + offset) // kind.itemsize

    def _touch(self, block: np.ndarray, word: np.ndarray, thread: np.ndarray, writes: bool, far: np.ndarray) -> None:
        at = block, word
        before = np.where(far, self._writer_of_cluster[at], self._writer[at])
        raced = (before != _NOBODY) & (before != thread)
        if writes:
            first, last = self._first_reader[at], self._last_reader[at]
            raced |= (first != _NOBODY) & ((first != thread) | (last != thread))
            self._writer[at] = self._writer_of_cluster[at] = thread
            raced |= self._writer[at] != thread  # another one in the same moment
            self._written[at] = True
        else:
            if not self._written[at].all():
                raise Fault("shared memory that nobody has written")
            fresh = self._first_reader[at] == _NOBODY
            self._first_reader[block[fresh], word[fresh]] = np.iinfo(np.intp).max
            np.minimum.at(self._first_reader, at, thread)
            np.maximum.at(self._last_reader, at, thread)
        if raced.any():
            raise Fault(f"threads touch one word of shared memory and no barrier is between them: word {word[raced][0]}")
