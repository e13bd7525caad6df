"""The fast path for calls on a device: what the first call launched is launched again, with other addresses.

A call is determined by the shapes, dtypes and relative positions of its arrays and by its options. The first such call takes the
slow path (:mod:`jitloss.device`) and leaves a recording: which arrays it allocated, and what it launched with which of them.
Later calls allocate such arrays and launch. Whatever differs from the recording takes the slow path.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import monitoring
from .arrays.cuda import Library
from .arrays.devices import library_of
from .device import DeviceEvaluation
from .keys import ON_DEVICES, PLAIN
from .launches import Address, packed

__all__ = ["Replay"]

ALIGNED = 16
"""Alignment in bytes that the widest loads need; a call's own temporaries have it."""

MOST_RECORDINGS = 64
"""Recordings of one form. At the limit all are dropped."""


@dataclass(frozen=True)
class Recording:
    """A call's launches: functions of a stream, of slots (the position of an argument, the number of its array) and of addresses.

    Arrays are numbered: first the arguments, then the results, then the temporaries of the call, which are consecutive in an
    array of their own, each at one of the ``offsets``.
    """

    device: int
    current: Callable[[int], Any]
    is_current: Callable[[int], bool]
    """The launches are for the device that is current in the thread; these make a device current, and say whether it is."""
    made: tuple[Callable[[Any], Any], ...]
    scratch: Callable[[Any], Any] | None
    offsets: tuple[int, ...]
    launches: tuple[tuple[Callable[..., None], tuple[tuple[int, int], ...]], ...]
    results: tuple[tuple[str, int], ...]
    """The name and the number of each result; the value has no name."""
    several: int
    """How many gradients there are."""

    def launch(self, stream: int, addresses: list[int]) -> None:
        for launch, slots in self.launches:
            launch(stream, slots, addresses)

    def given_back(self, arrays: list[Any]) -> list[Any]:
        """The results in the form that the caller gets."""
        if self.several == 1:
            return [arrays[number] for _, number in self.results]
        return packed([(name, arrays[number]) for name, number in self.results], self.several)


class Replay:
    """The recordings of one form of a loss."""

    def __init__(self) -> None:
        self._recordings: dict[Any, Recording] = {}

    def learn(self, values: tuple[Any, ...], options: dict[str, Any], done: DeviceEvaluation) -> None:
        """Record what a call launched, if the next one like it can be replayed."""
        seen = _seen(done.library, values, options)
        if done.cuda.SIMULATED or seen is None or not done.launches:
            return
        key, arrays, _, _ = seen
        views = [view for view in (*done.views.values(), done.sample_view, *(view for _, view in done.returned)) if view]
        numbers = {id(view): number for view in views for number, array in enumerate(arrays) if view.value is array}
        returned = {id(view) for _, view in done.returned}
        made = [one for one in done.made if id(one[0]) in returned]
        own = [one for one in done.made if id(one[0]) not in returned]
        numbers |= {id(view): number for number, (view, _, _) in enumerate([*made, *own], len(arrays))}
        launches = []
        for kernel, blocks, arguments in done.launches:
            parts = list(_parts(arguments))
            if any(isinstance(one, Address) and id(one.view) not in numbers for one in parts):
                return
            slots = tuple((place, numbers[id(one.view)]) for place, one in enumerate(parts) if isinstance(one, Address))
            launches.append((kernel.launch(done.device, blocks, *arguments), slots))
        makers = tuple(done.library.maker(done.first, shape, dtype) for _, shape, dtype in made)
        *offsets, size = np.cumsum([0, *(-(-view.nbytes // ALIGNED) * ALIGNED for view, _, _ in own)]).tolist()
        scratch = done.library.maker(done.first, (size // 8,), np.dtype(np.float64)) if own else None
        results = tuple((name, numbers[id(view)]) for name, view in done.returned)
        if len(self._recordings) >= MOST_RECORDINGS:  # those still in use are soon recorded again
            self._recordings.clear()
        self._recordings[key] = Recording(
            done.device, done.cuda.current, done.cuda.is_current, makers, scratch, tuple(offsets), tuple(launches), results,
            len(done.definition.differentiable),
        )  # fmt: skip

    def __call__(self, library: Library, values: tuple[Any, ...], options: dict[str, Any]) -> list[Any] | None:
        """The results in order; None where no such call has been recorded."""
        seen = _seen(library, values, options)
        if seen is None:
            return None
        key, arrays, addresses, stream = seen
        recording = self._recordings.get(key)
        if recording is None or monitoring.watching():
            return None
        like, given = values[0], len(arrays)
        for make in recording.made:
            one = make(like)
            arrays.append(one)
            addresses.append(library.address(one))
        if recording.scratch is not None:
            scratch = recording.scratch(like)
            first = library.address(scratch)
            addresses += [first + offset for offset in recording.offsets]
        if recording.is_current(recording.device):
            recording.launch(stream, addresses)
        else:
            with recording.current(recording.device):
                recording.launch(stream, addresses)
        arrays[given:] = [library.given_back(one, like, None) for one in arrays[given:]]
        return recording.given_back(arrays)


def _seen(library: Library, values: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, list[Any], list[int], int] | None:
    """The key of a call, its arrays, their addresses, and its stream, on which they are ready.

    None where an option is neither a plain value nor such an array, and where an array cannot be read: the slow path explains.
    """
    arrays, addresses = list(values), []
    key: list[Any] = [library]
    if options and not _with_options(key, arrays, options):
        return None
    try:
        stream = library.stream(values[0], None)
        for one in arrays:
            facts, address = library.facts(one, stream)
            key += (facts, address % ALIGNED)
            addresses.append(address)
        if "out" in options or len(set(addresses)) < len(addresses):
            key += _apart(addresses, arrays)
    except (TypeError, ValueError, RuntimeError):
        return None
    return tuple(key), arrays, addresses, stream


def _with_options(key: list[Any], arrays: list[Any], options: dict[str, Any]) -> bool:
    """Whether all options are plain values, which are added to the key, or arrays like the first one."""
    if any(name in options for name in ON_DEVICES):  # calls with these are not recorded
        return False
    kind = type(arrays[0])
    for name, value in options.items():
        if name in ("out", "sample_weight") and type(value) is kind:
            arrays.append(value)
            key.append(name)
        elif type(value) in PLAIN and value != "balanced" and str(value) != "-0.0":  # equal to 0.0 as a dict key
            key += (name, type(value), value)
        else:
            return False
    return True


def _apart(addresses: list[int], arrays: list[Any]) -> tuple[Any, ...]:
    """Which arrays have the same address, and whether any others overlap."""
    ends = [address + _bytes_of(one) for address, one in zip(addresses, arrays, strict=True)]
    pairs = [(a, b) for a in range(len(arrays)) for b in range(a) if addresses[a] < ends[b] and addresses[b] < ends[a]]
    return tuple((a, b, addresses[a] == addresses[b]) for a, b in pairs)


def _bytes_of(array: Any) -> int:
    """The size of an array in bytes, also where it only has an interface and no ``nbytes``."""
    size: int | None = getattr(array, "nbytes", None)
    if size is None:
        library = library_of(array)
        assert library is not None
        size = library.view(array).nbytes
    return size


def _parts(arguments: Any) -> Iterator[Any]:
    for one in arguments:
        if isinstance(one, tuple):
            yield from _parts(one)
        else:
            yield one
