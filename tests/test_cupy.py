"""Arrays of CuPy's on several devices: which of them is the current one, and which stream, where CuPy is asked for something.

CuPy needs a device; what stands for it here has a current device, and a current stream of each.
"""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jitloss.arrays.cuda import CuPy

LIBRARY = CuPy()


class Machine:
    """Devices with a current stream each; ``seen`` are the current device and its stream, whenever an array was made."""

    def __init__(self):
        self.device, self.streams, self.seen = 0, {0: 0, 1: 0}, []

    def made(self, value, *options):
        self.seen.append((self.device, self.streams[self.device]))
        return value


class Device:
    def __init__(self, machine, number):
        self.machine, self.id, self.before = machine, number, []

    def __enter__(self):
        self.before.append(self.machine.device)
        self.machine.device = self.id

    def __exit__(self, *error):
        self.machine.device = self.before.pop()


def streams_of(machine, external):
    """The type of streams, which are made on the current device."""

    class Stream:
        def __init__(self, ptr, device_id=None):
            self.ptr, self.device_id = ptr, machine.device if device_id is None else device_id

        def __enter__(self):
            if self.device_id != machine.device:
                raise RuntimeError(f"the stream is of device {self.device_id}, the current one is {machine.device}")
            self.before, machine.streams[machine.device] = machine.streams[machine.device], self.ptr

        def __exit__(self, *error):
            assert self.device_id == machine.device
            machine.streams[machine.device] = self.before

    if external:
        Stream.from_external = classmethod(lambda cls, one: cls(one.__cuda_stream__()[1]))
    return Stream


@pytest.fixture(params=[True, False], ids=["14", "13"])
def machine(request, monkeypatch):
    found = Machine()
    stream = streams_of(found, request.param)
    current = lambda device_id=-1: SimpleNamespace(ptr=found.streams[found.device if device_id < 0 else device_id])
    found.stream = stream
    cuda = SimpleNamespace(get_current_stream=current, Stream=stream, ExternalStream=type("ExternalStream", (stream,), {}))
    made = dict.fromkeys(("ascontiguousarray", "asarray", "empty"), found.made)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, **made))
    return found


def array_on(machine, device):
    return SimpleNamespace(device=Device(machine, device), data=SimpleNamespace(device_id=device), dtype=np.dtype(np.float32))


@pytest.mark.parametrize("device", [0, 1])
def test_the_current_stream_is_that_of_the_arrays_device(device, machine):
    machine.streams.update({0: 70, 1: 71})
    assert LIBRARY.stream(array_on(machine, device), None) == 70 + device


@pytest.mark.parametrize("how", ["stream", "integer"])
def test_a_stream_of_another_device_than_the_current_one(how, machine):
    like, other = array_on(machine, 1), array_on(machine, 0)
    with like.device:
        given = machine.stream(9) if how == "stream" else 9
    with LIBRARY.on(given, like):
        LIBRARY.empty(like, (3,), np.dtype(np.float32))
        LIBRARY.empty(other, (3,), np.dtype(np.float32))
    assert machine.seen == [(1, 9), (0, 0)]
    assert (machine.device, machine.streams) == (0, {0: 0, 1: 0})
    with contextlib.suppress(ZeroDivisionError), LIBRARY.on(given, like):
        _ = 1 / 0
    assert (machine.device, machine.streams) == (0, {0: 0, 1: 0})


def test_copies_are_made_on_the_arrays_device(machine):
    like = array_on(machine, 1)
    LIBRARY.contiguous(like)
    LIBRARY.from_host(np.ones(3), like)
    with LIBRARY.on(None, like):
        LIBRARY.empty(like, (3,), np.dtype(np.float32))
    assert machine.seen == [(1, 0)] * 3
