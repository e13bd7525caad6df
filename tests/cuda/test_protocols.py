"""Arrays of unknown libraries: streams, the lifetime of memory, and errors that name the argument."""

import contextlib
import ctypes
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

import jitloss
import toolkit

if reason := toolkit.missing():
    pytest.skip(reason, allow_module_level=True)

from numba import cuda
from numba.cuda.cudadrv.driver import Stream

from cases import agree
from exporters import CUDA, MANAGED, Exporter, Named, unknown_arrays
from imagined import MACHINE, _Kernel, _library, imagined_device
from jitloss.arrays import cuda as libraries
from jitloss.arrays import memory as protocols
from jitloss.arrays.devices import library_of
from jitloss.compilers.cuda import launch

driver = pytest.importorskip("cuda.bindings.driver")

ONES, ZEROS = np.array([1, 2, 3, 4], np.float32), np.zeros(4, np.float32)
LOGITS, LABELS = np.ones((3, 4), np.float32), np.array([0, 1, 1])

CALL = jitloss.mse_loss.value_and_gradient

HANDLE = SimpleNamespace(handle=7)


def recorded_devices():
    """The devices that are current, the innermost last, and the context manager that makes one so."""
    within = []

    @contextlib.contextmanager
    def current(device):
        within.append(device)
        yield
        within.pop()

    return within, current


@pytest.fixture
def events():
    with unknown_arrays() as happened:
        yield happened


# Streams ------------------------------------------------------------------------------------------------------------------------


def test_each_stream_that_is_named_is_waited_for(events):
    weight, out = Named(ONES, stream=8), Named(ZEROS, stream=9)
    for options, on, others in (
        ({}, 5, [7]),
        ({}, 5, [7]),  # from a recording
        ({"sample_weight": weight, "out": out}, 5, [7, 8, 9]),
        ({"sample_weight": weight, "out": out}, 5, [7, 8, 9]),
        ({"stream": 3}, 3, [5, 7]),
        ({"stream": 7}, 7, [5]),
    ):
        events.clear()
        CALL(Named(ONES, stream=5), Named(ZEROS, stream=7), **options)
        launch = events.index(("launch on", on))
        assert {one for one in events[:launch] if "waits for" in one} == {(on, "waits for", other) for other in others}
    events.clear()
    CALL(Named(ONES), Named(ZEROS, stream=1))
    assert events == [("launch on", 0)]


def test_values_of_several_streams_are_added(events):
    """The arrays of a dict come from two streams, and the sum is on one of them."""
    jitloss.l2_regularization({"a": Named(ONES, stream=5), "b": Named(ONES, stream=7)})
    assert events == [("launch on", 5), ("launch on", 7), (5, "waits for", 7), ("launch on", 5)]


def streams_of(*results):
    return [one.stream.number for one in results]


@pytest.mark.parametrize(("option", "stream"), [({}, 5), ({"stream": 3}, 3), ({"stream": HANDLE}, 7)], ids=str)
def test_results_name_the_stream_that_fills_them(option, stream, events):
    """In the first call and in those after it, which are recorded if they have no such option."""
    inputs = Named(ONES, stream=5), Named(ZEROS)
    for _ in range(3):
        results = CALL(*inputs, **option)
        assert streams_of(*results) == [stream, stream]
        assert [one.stream.owner for one in results] == [option.get("stream", 5)] * 2  # it lives as long as they do
        assert streams_of(jitloss.mse_loss(*inputs, reduction="none", **option)) == [stream]
    assert not hasattr(CALL(Named(ONES), Named(ZEROS))[0], "stream")


@pytest.mark.parametrize("option", [{}, {"stream": 3}], ids=str)
def test_an_array_that_is_given_for_a_result_is_as_it_was(option, events):
    for _ in range(3):
        predictions, out = Named(ONES, stream=5), Named(ZEROS, stream=9)
        for where in (out, predictions):
            value, gradient = CALL(predictions, Named(ZEROS), out=where, **option)
            assert gradient is where
            assert not hasattr(gradient, "stream")
            assert streams_of(value) == [option.get("stream", 5)]


def test_sums_of_values_name_a_stream(events):
    params = {"a": Named(ONES, stream=5), "b": Named(ONES, stream=7)}
    for _ in range(2):
        value, gradients = jitloss.l2_regularization.value_and_gradient(params)
        assert streams_of(value, gradients["a"], gradients["b"]) == [5, 5, 7]
    assert streams_of(jitloss.l2_regularization({"a": params["b"]})) == [7]
    assert streams_of(jitloss.l2_regularization(params, stream=3)) == [3]


def test_streams_are_made_while_the_device_of_the_arrays_is_current(events, monkeypatch):
    """Numba asks for a current device, and would make that device 0."""
    within, current = recorded_devices()
    seen = []
    stream = cuda.external_stream
    monkeypatch.setattr(libraries, "current", current)
    monkeypatch.setattr(protocols, "device_of", lambda pointer: 1)
    monkeypatch.setattr(cuda, "external_stream", lambda number: seen.append(list(within)) or stream(number))
    for _ in range(2):
        CALL(Named(ONES, stream=5), Named(ZEROS))
    assert seen == [[1]] * 4


def test_a_stream_of_numbas_is_named_itself(monkeypatch):
    """It ends with its object, which the results thus hold."""
    monkeypatch.setattr(cuda, "external_stream", lambda number: pytest.fail("it is there"))
    given, own = (Stream(driver.CUstream(number)) for number in (7, 9))
    for like, option, want in ((own, None, own), (own, given, given), (0, given, given), (0, None, 0), (own, 0, 0)):
        value = SimpleNamespace(stream=0)
        assert libraries.Numba().given_back(value, SimpleNamespace(stream=like), option) is value
        assert value.stream is want


@pytest.mark.parametrize("option", [{}, {"stream": 7}], ids=str)
def test_exporters_are_told_who_reads(option, events):
    for _ in range(2):
        CALL(Exporter(ONES), Exporter(ZEROS), **option)
    assert {one[1] for one in events if "asked by" in one} <= {-1, option.get("stream", 1)}
    assert events.count(("asked by", option.get("stream", 1))) >= 4


READING = {
    "balanced": (lambda: (Named(LOGITS), Named(LABELS)), {"class_weight": "balanced"}),
    "mass": (lambda: (Named(LOGITS), Named(LOGITS)), {"class_weight": [1, 2, 3, 4], "normalizer": "weights"}),
    "check": (lambda: (Named(LOGITS), Named(LABELS)), {"check": True, "sample_weight": Named(np.ones(3))}),
    "exported": (lambda: (Exporter(LOGITS), Exporter(LABELS)), {"class_weight": "balanced"}),
}


@pytest.mark.parametrize("how", READING)
def test_numbers_are_read_and_copied_in_the_order_of_the_stream(how, events):
    inputs, options = READING[how]
    value = jitloss.cross_entropy_with_logits(*inputs(), stream=7, **options)
    places = {"class_weight": options.get("class_weight"), "normalizer": options.get("normalizer", "count")}
    right = [one.array if isinstance(one, Exporter) else one.numpy() for one in inputs()]
    agree(value.numpy(), jitloss.cross_entropy_with_logits(*right, **places), "float32")
    assert ("read on", 7) in events
    assert ("the host waits for", 7) in events
    assert not {("read on", 0), ("read on", 1)} & set(map(tuple, (one for one in events if isinstance(one, tuple))))
    for place, one in enumerate(events):
        if one == "copied to the device":
            assert events[place + 1] == (7, "waits for", 1)


def test_errstate_reads_in_the_order_of_the_stream(events):
    with pytest.raises(FloatingPointError), jitloss.errstate(invalid="raise"):
        jitloss.mse_loss(Named(ONES * np.nan), Named(ZEROS), stream=7)
    assert events[-1] == ("the host waits for", 7)


class OfAnyLibrary:
    def __cuda_stream__(self):
        return 0, 7  # the version of the protocol, and the stream


STREAMS = [(HANDLE, 7), (OfAnyLibrary(), 7), (ctypes.c_void_p(7), 7), (ctypes.c_void_p(), 0), (np.int64(7), 7), (0, 0)]


@pytest.mark.parametrize(("stream", "handle"), STREAMS, ids=lambda one: type(one).__name__)
def test_what_is_a_stream(stream, handle, events):
    CALL(Named(ONES), Named(ZEROS), stream=stream)
    assert [one for one in events if "launch on" in one] == [("launch on", handle)]


def imagined_driver(monkeypatch, failing=None):
    """Record the calls that order streams; one of them may fail."""
    called = []

    def fake(name, result):
        error = driver.CUresult.CUDA_ERROR_INVALID_HANDLE if name == failing else driver.CUresult.CUDA_SUCCESS
        monkeypatch.setattr(driver, name, lambda *given: called.append((name, *given)) or (error, *result))

    fake("cuEventCreate", ["event"])
    for name in ("cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy"):
        fake(name, [])
    monkeypatch.setattr(driver, "cuGetErrorName", lambda error: (None, error.name.encode()))
    _, current = recorded_devices()
    monkeypatch.setattr(protocols, "current", lambda device: called.append(("current", device)) or current(device))
    return called


def test_a_stream_waits_for_another_one(monkeypatch):
    called = imagined_driver(monkeypatch)
    protocols.wait(7, 8, 3)
    assert called == [
        ("current", 3),
        ("cuEventCreate", driver.CUevent_flags.CU_EVENT_DISABLE_TIMING),
        ("cuEventRecord", "event", 7),
        ("cuStreamWaitEvent", 8, "event", 0),
        ("cuEventDestroy", "event"),
    ]
    called.clear()
    for first, then in ((None, 7), (7, 7), (0, 1), (1, 0)):
        protocols.wait(first, then, 3)
    assert not called


@pytest.mark.parametrize(("failing", "count"), [("cuEventCreate", 2), ("cuEventRecord", 4), ("cuStreamWaitEvent", 5)])
def test_streams_that_cannot_be_waited_for(failing, count, monkeypatch):
    called = imagined_driver(monkeypatch, failing)
    with pytest.raises(ValueError, match="names the stream 7, which cannot be waited for: CUDA_ERROR_INVALID_HANDLE"):
        protocols.wait(7, 8, 3)
    assert len(called) == count


BAD_STREAMS = [
    (TypeError, "abc"), (TypeError, object()), (TypeError, 1.5), (TypeError, True), (TypeError, np.bool_(True)),
    (TypeError, Fraction(7)), (ValueError, -1),
]  # fmt: skip


@pytest.mark.parametrize(("error", "stream"), BAD_STREAMS, ids=lambda one: type(one).__name__)
def test_what_is_no_stream(error, stream, events, monkeypatch):
    """Our error comes before the library's own."""
    with pytest.raises(error, match="mse_loss: stream must be a stream, or its handle as an integer"):
        CALL(Named(ONES), Named(ZEROS), stream=stream)
    monkeypatch.setattr(_library, "on", lambda given, like: pytest.fail("asked a library"), raising=False)
    with pytest.raises(error, match="mse_loss: stream must be a stream, or its handle as an integer"):
        CALL(MACHINE.put(ONES), MACHINE.put(ZEROS), stream=stream)


# Devices ------------------------------------------------------------------------------------------------------------------------

NO_CONTEXT = driver.CUresult.CUDA_ERROR_INVALID_CONTEXT, driver.CUdevice(1)


@pytest.mark.parametrize(
    ("found", "entered"), [((driver.CUresult.CUDA_SUCCESS, 1), []), ((driver.CUresult.CUDA_SUCCESS, 0), [1]), (NO_CONTEXT, [1])]
)
def test_the_driver_says_which_device_is_current(found, entered, monkeypatch):
    """Numba would make device 0 the current one of a thread that has none, and keep a context there."""
    asked = []

    class Devices:
        @contextlib.contextmanager
        def __getitem__(self, device):
            asked.append(device)
            yield

    monkeypatch.setattr(driver, "cuCtxGetDevice", lambda: found)
    monkeypatch.setattr("numba.cuda.get_current_device", lambda: pytest.fail("asked numba"))
    monkeypatch.setattr("numba.cuda.gpus", Devices())
    with protocols.current(1):
        assert asked == entered
    assert launch.is_current(1) is (not entered)


def test_kernels_are_loaded_while_the_device_of_the_call_is_current(events, monkeypatch):
    """Numba's compiler asks for the current device."""
    from jitloss.compilers import cuda as compiler

    within, current = recorded_devices()
    seen = []
    load = _Kernel.launch
    monkeypatch.setattr(compiler, "current", current)
    monkeypatch.setattr(_Kernel, "launch", lambda self, *rest: seen.append(list(within)) or load(self, *rest))
    CALL(Named(ONES), Named(ZEROS), stream=3)  # which is not recorded
    assert seen == [[0]]


# Memory -------------------------------------------------------------------------------------------------------------------------


def test_exported_memory_is_held_until_kernels_are_launched(events):
    """In a first call and in a recorded one; the emulator rejects freed memory."""
    for _ in range(3):
        events.clear()
        value, gradient = CALL(Exporter(ONES), Exporter(ZEROS))
        agree(value.numpy(), 7.5, "float32")
        agree(gradient.numpy(), ONES / 2, "float32")
        reader = events.index(("asked by", 1))
        assert "given back" not in events[reader : events.index(("launch on", 0))]


DEVICE_OF = protocols.device_of  # before a fixture puts the imagined device's in its place


def test_the_driver_says_where_memory_lies(monkeypatch):
    found = {7: (driver.CUresult.CUDA_SUCCESS, 3), 8: (driver.CUresult.CUDA_ERROR_INVALID_VALUE, None)}
    monkeypatch.setattr(driver, "cuPointerGetAttribute", lambda asked, pointer: found[pointer])
    assert [DEVICE_OF(pointer) for pointer in found] == [3, 0]


class Somewhere:
    """A type whose arrays may be on the host or on a device, as PaddlePaddle's."""

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        raise AttributeError("it is on the host")

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_where_an_array_lies_is_its_own_to_say():
    assert library_of(Somewhere(ONES)) is None
    assert library_of(Named(ONES)) is not None
    kinds = {kind: library_of(Exporter(ONES, kind)) is not None for kind in (1, CUDA, 3, 10, MANAGED)}
    assert kinds == {1: False, CUDA: True, 3: False, 10: False, MANAGED: True}


# What is refused ------------------------------------------------------------------------------------------------------------------

REFUSED = {
    "mask": (TypeError, lambda: Named(ONES, mask=Named(ONES > 2)), "its mask would be lost"),
    "no data": (TypeError, lambda: Named(ONES, without="data"), "has no 'data'"),
    "typestr": (TypeError, lambda: Named(ONES, typestr="<f3"), "not understood"),
    "unaligned": (ValueError, lambda: Named(ONES, 2), "must lie at a multiple of the 4 bytes of its elements"),
    "lanes": (TypeError, lambda: Exporter(ONES, lanes=4), "lanes=4"),
    "buffer": (ValueError, lambda: Exporter(ONES, refuses=BufferError("it requires a gradient")), "requires a gradient"),
    "value": (ValueError, lambda: Exporter(ONES, refuses=ValueError("it is gone")), "it is gone"),
    "not implemented": (TypeError, lambda: Exporter(ONES, refuses=NotImplementedError("no such thing")), "no such thing"),
}


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("how", REFUSED)
def test_what_cannot_be_read_is_named(how, recorded, events):
    error, bad, words = REFUSED[how]
    if recorded:
        CALL(Named(ONES), Named(ZEROS))
        CALL(Exporter(ONES), Exporter(ZEROS))
    good = type(bad())
    for argument, given, options in (
        ("predictions", (bad(), good(ZEROS)), {}),
        ("targets", (good(ZEROS), bad()), {}),
        ("sample_weight", (good(ZEROS), good(ZEROS)), {"sample_weight": bad()}),
        ("out", (good(ZEROS), good(ZEROS)), {"out": bad()}),
    ):
        with pytest.raises(error, match=words) as raised:
            CALL(*given, **options)
        assert str(raised.value).startswith("mse_loss: ")
        assert argument in str(raised.value)


def test_out_is_as_it_was_where_memory_or_a_kernel_is_missing(monkeypatch):
    """In place: everything that the last step needs is allocated before the first one writes."""
    monkeypatch.setattr("jitloss.device.MOST_SUMMED", 2)
    numbers = np.linspace(0, 1, 700 * 7, dtype=np.float32).reshape(700, 7)

    def failing(name):
        logits, labels = MACHINE.put(numbers), MACHINE.put(np.zeros(700, np.int64))
        with pytest.raises(MemoryError):
            jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, out=logits)
        np.testing.assert_array_equal(logits.numpy(), numbers, err_msg=name)

    def no_more(*arguments):
        raise MemoryError

    with imagined_device():
        from jitloss.compilers import cuda as compiler

        empty = type(_library).empty
        with monkeypatch.context() as patched:
            few = lambda self, like, shape, dtype: no_more() if shape == (128,) else empty(self, like, shape, dtype)
            patched.setattr(type(_library), "empty", few)
            failing("memory")
        with monkeypatch.context() as patched:
            kernel = type(compiler.total_kernel("float32", True))
            launch = kernel.launch
            total = compiler.total_kernel("float32", True)
            patched.setattr(kernel, "launch", lambda self, *rest: no_more() if self is total else launch(self, *rest))
            failing("kernel")
