"""The memory of the PTX emulator, which tracks what may be accessed, and by which threads."""

import weakref
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Fault", "Memory", "Place", "Shared", "Words"]

_GAP = 4096
"""Bytes between two arrays, which belong to nobody."""

_NOBODY = -1

Words = tuple[np.ndarray, np.ndarray]
"""Memory as one array of words, and where in it each thread's first word is."""


class Fault(Exception):
    """An error for anything that a kernel must not do."""


class Memory:
    """The arrays of a device, by address."""

    def __init__(self) -> None:
        self._next = 1 << 40
        self._arrays: dict[int, tuple[int, np.ndarray]] = {}

    def place(self, owner: Any, array: np.ndarray, offset: int = 0) -> int:
        """The address of a copy of an array, valid as long as its owner lives; ``offset`` bytes from a multiple of 256."""
        base, end = self._next, offset + array.nbytes
        held = np.zeros(-(-end // 16) * 16, np.uint8)
        held[offset:end] = np.frombuffer(array.tobytes(), np.uint8)
        self._arrays[base] = end, held
        self._next += -(-held.size // 256) * 256 + _GAP
        weakref.finalize(owner, self._arrays.pop, base)
        return base + offset

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        """A view of the bytes at an address."""
        base = max(one for one in self._arrays if one <= address)
        return self._arrays[base][1][address - base : address - base + size]

    def words(self, addresses: np.ndarray, kind: np.dtype[Any], count: int) -> Words:
        """The words at the threads' addresses: ``count`` consecutive ones each, as an array and indices."""
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
    """The shared memory of some blocks, and which threads have accessed each word of it since the last barrier.

    Between the blocks of a cluster there are no such barriers, but a thread says when it arrives and when it waits for all others. It sees
    what another block did before its ``arrived``-th arrival, counted from 0, if it has ``waited`` more often than that.
    """

    def __init__(self, blocks: int, size: int) -> None:
        words = blocks, size // 4
        self._held = np.full((blocks, size), 0xFF, np.uint8)
        self._written = np.zeros(words, bool)
        self._writer, self._first_reader, self._last_reader = np.full((3, *words), _NOBODY)
        self._sent, self._seen_afar = np.full(
            (2, *words), _NOBODY
        )  # before which arrival, of its writer and of readers elsewhere

    def pass_barrier(self, blocks: np.ndarray) -> None:
        for one in (self._writer, self._first_reader, self._last_reader):
            one[blocks] = _NOBODY

    def leave(self, blocks: np.ndarray, waited: np.ndarray) -> None:
        """Called when threads end: the memory of a block is gone with the last of its threads."""
        if (self._seen_afar[blocks].max(1, initial=_NOBODY) >= waited).any():
            raise Fault("a block ends while others may still read its shared memory")

    def words(self, at: "Place", kind: np.dtype[Any], count: int, *, writes: bool) -> Words:
        """The words at an offset in the memory of a block."""
        size, end = kind.itemsize * count, self._held.shape[1]
        if (at.offset + size > end).any() or (at.offset % size).any():
            raise Fault("shared memory beyond its end, or across its own size")
        for first in range(0, size, 4):
            word = at.block, (at.offset + first) // 4
            raced = self._write(word, at) if writes else self._read(word, at)
            if raced.any():
                raise Fault(f"threads touch one word of shared memory and no barrier is between them: word {word[1][raced][0]}")
        return self._held.reshape(-1).view(kind), (at.block * end + at.offset) // kind.itemsize

    def _write(self, word: tuple[np.ndarray, np.ndarray], at: "Place") -> np.ndarray:
        """Record a write; returns which threads race with others."""
        raced = self._is_anothers(word, at) | (self._seen_afar[word] >= at.waited)
        first, last = self._first_reader[word], self._last_reader[word]
        raced |= (first != _NOBODY) & ((first != at.thread) | (last != at.thread))
        self._writer[word], self._sent[word], self._written[word] = at.thread, at.arrived, True
        return raced | (self._writer[word] != at.thread)  # another one in the same moment

    def _read(self, word: tuple[np.ndarray, np.ndarray], at: "Place") -> np.ndarray:
        if not self._written[word].all():
            raise Fault("shared memory that nobody has written")
        fresh = self._first_reader[word] == _NOBODY
        self._first_reader[word[0][fresh], word[1][fresh]] = np.iinfo(np.intp).max
        np.minimum.at(self._first_reader, word, at.thread)
        np.maximum.at(self._last_reader, word, at.thread)
        np.maximum.at(self._seen_afar, word, np.where(at.far, at.arrived, _NOBODY))
        return self._is_anothers(word, at)

    def _is_anothers(self, word: tuple[np.ndarray, np.ndarray], at: "Place") -> np.ndarray:
        """Whether another thread has written a word, without a barrier since."""
        writer = self._writer[word]
        return np.where(at.far, self._sent[word] >= at.waited, (writer != _NOBODY) & (writer != at.thread))


class Place(NamedTuple):
    """Accesses of threads to shared memory, ``far`` where it is that of another block, and their progress at barriers of the cluster."""

    block: np.ndarray
    offset: np.ndarray
    thread: np.ndarray
    far: np.ndarray
    arrived: np.ndarray
    waited: np.ndarray
