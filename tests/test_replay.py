"""Recorded calls without a device: launches log their arguments, and the tensors are in host memory."""

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import jitloss
from jitloss.arrays.cuda import Torch
from jitloss.device import stream_of
from jitloss.launches import Address
from jitloss.replay import MOST_RECORDINGS, Replay

torch = pytest.importorskip("torch")

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
ROWS, COLUMNS, NUMBER, STREAM = 8, 4, 7, 5


class OnHost(Torch):
    def stream(self, like, given):
        return STREAM


HOST = OnHost()


class Kernel:
    """A kernel that logs the words of each launch."""

    def __init__(self):
        self.launched = []

    def launch(self, device, blocks, *arguments):
        words = [one for group in arguments for one in (group if isinstance(group, tuple) else (group,))]

        def launch(stream, slots, addresses):
            for place, number in slots:
                words[place] = addresses[number]
            self.launched.append((stream, list(words)))

        return launch


def view_of(tensor):
    return HOST.view(tensor)


def address_of(view):
    address = Address(view.pointer)
    address.view = view
    return address


def inputs():
    return torch.randn(ROWS, COLUMNS), torch.randint(COLUMNS, (ROWS,))


def recorded(values, options=None, out=None):
    """A replay with one recorded call, whose kernel takes the inputs, the gradient, a number, the value and a temporary."""
    kernel, replay, options = Kernel(), Replay(), options or {}
    views = {"logit": view_of(values[0]), "target": view_of(values[1])}
    value, scratch = view_of(torch.empty(())), view_of(torch.empty(2, 3, dtype=torch.float64))
    gradient = view_of(torch.empty_like(values[0]) if out is None else out)
    weight = view_of(options["sample_weight"]) if "sample_weight" in options else None
    made = [(value, (), F32), (scratch, (2, 3), F64)] + ([] if out is not None else [(gradient, (ROWS, COLUMNS), F32)])
    arguments = (
        tuple(map(address_of, views.values())), address_of(gradient), NUMBER, address_of(value), address_of(scratch),
        *([address_of(weight)] if weight else []),
    )  # fmt: skip
    done = SimpleNamespace(
        library=HOST, device=0, first=values[0], views=views, sample_view=weight, made=made, launches=[(kernel, 1, arguments)],
        returned=[("", value), ("logit", gradient)], definition=jitloss.cross_entropy_with_logits.definition,
        cuda=SimpleNamespace(SIMULATED=False, current=None, is_current=lambda device: True),
    )  # fmt: skip
    replay.learn(values, options if out is None else {**options, "out": out}, done)
    return replay, kernel


def test_a_call_like_the_first_is_launched_with_its_own_arrays():
    replay, kernel = recorded(inputs())
    logits, labels = inputs()
    value, gradient = replay(HOST, (logits, labels), {})
    assert (value.shape, value.dtype) == ((), torch.float32)
    assert (gradient.shape, gradient.dtype, gradient.is_contiguous()) == (logits.shape, torch.float32, True)
    ((stream, words),) = kernel.launched
    assert stream == STREAM
    assert words[:5] == [logits.data_ptr(), labels.data_ptr(), gradient.data_ptr(), NUMBER, value.data_ptr()]
    assert words[5] % 16 == 0
    assert words[5] not in words[:5]


def test_results_are_new_in_each_call():
    replay, _ = recorded(inputs())
    logits, labels = inputs()
    results = [one for _ in range(3) for one in replay(HOST, (logits, labels), {})]
    assert len({one.data_ptr() for one in results}) == 6


def test_gradients_are_written_where_they_are_wanted():
    logits, labels = inputs()
    replay, kernel = recorded((logits, labels), out=torch.empty_like(logits))
    out = torch.empty_like(logits)
    _, gradient = replay(HOST, (logits, labels), {"out": out})
    assert gradient is out
    assert kernel.launched[0][1][2] == out.data_ptr()
    assert replay(HOST, (logits, labels), {"out": logits}) is None  # in place is another call
    assert replay(HOST, (logits, labels), {}) is None


def test_in_place():
    logits, labels = inputs()
    replay, kernel = recorded((logits, labels), out=logits)
    other, _ = inputs()
    _, gradient = replay(HOST, (other, labels), {"out": other})
    assert gradient is other
    assert kernel.launched[0][1][0] == kernel.launched[0][1][2] == other.data_ptr()
    assert replay(HOST, (other, labels), {"out": logits}) is None


def test_weights_are_arrays_too():
    weight = torch.rand(ROWS)
    replay, kernel = recorded(inputs(), {"sample_weight": torch.rand(ROWS)})
    assert replay(HOST, inputs(), {"sample_weight": weight}) is not None
    assert kernel.launched[0][1][6] == weight.data_ptr()
    assert replay(HOST, inputs(), {"sample_weight": weight.double()}) is None
    assert replay(HOST, inputs(), {"sample_weight": [1.0] * ROWS}) is None


def unaligned(tensor):
    memory = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)
    return memory[1:].view(tensor.shape).copy_(tensor)


OTHERS = {
    "dtype": lambda logits, labels: ((logits.double(), labels), {}),
    "labels": lambda logits, labels: ((logits, labels.int()), {}),
    "shape": lambda logits, labels: ((logits[:-1], labels[:-1]), {}),
    "apart": lambda logits, labels: ((logits.T.contiguous().T, labels), {}),
    "negative bit": lambda logits, labels: ((torch.complex(logits, -logits).conj().imag, labels), {}),
    "sparse": lambda logits, labels: ((logits.to_sparse(), labels), {}),
    "unaligned": lambda logits, labels: ((unaligned(logits), labels), {}),
    "option": lambda logits, labels: ((logits, labels), {"label_smoothing": 0.2}),
    "equal": lambda logits, labels: ((logits, labels), {"label_smoothing": False}),
    "negative": lambda logits, labels: ((logits, labels), {"label_smoothing": -0.0}),
    "balanced": lambda logits, labels: ((logits, labels), {"class_weight": "balanced"}),
    "array": lambda logits, labels: ((logits, labels), {"class_weight": torch.ones(COLUMNS)}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_quite_alike_goes_the_long_way(other):
    options = {"label_smoothing": 0.0} if other in ("equal", "negative") else {}
    replay, kernel = recorded(inputs(), options)
    assert replay(HOST, *OTHERS[other](*inputs())) is None
    assert not kernel.launched
    assert replay(HOST, inputs(), options) is not None


def test_numbers_that_are_negated_where_they_are_read():
    numbers = torch.complex(torch.zeros(4), torch.arange(4.0)).conj().imag
    flat = numbers.clone().as_strided((4,), (1,))
    negated = torch._neg_view(flat)
    assert not HOST.view(negated).contiguous
    assert HOST.view(HOST.contiguous(negated)).contiguous
    assert HOST.to_host(negated).tolist() == HOST.contiguous(negated).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_tensors_that_are_not_dense():
    nested = torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)
    for tensor, what in ((torch.eye(3).to_sparse(), "sparse_coo"), (nested, "nested")):
        for seen in (HOST.view, HOST.extent):
            with pytest.raises(TypeError, match=f"must be dense, got one that is {what}"):
                seen(tensor)


def test_the_memory_of_a_tensor_with_gaps():
    memory = torch.zeros(6, 8)
    first, size = memory.data_ptr(), 4
    assert HOST.extent(memory[:, ::2]) == (first, first + 47 * size)
    assert HOST.extent(memory.T[1:3]) == (first + size, first + 43 * size)
    nothing = HOST.extent(memory[:0])
    assert nothing[0] == nothing[1]


@pytest.mark.parametrize(("error", "stream"), [(TypeError, "abc"), (TypeError, object()), (TypeError, 1.5), (ValueError, -1)])
def test_what_is_no_stream(error, stream):
    with pytest.raises(error, match="mse_loss: stream must be a stream, or its handle as an integer"):
        stream_of("mse_loss", Torch(), torch.ones(3), stream)


def test_what_comes_after_many_others_is_recorded_too():
    """Shapes that change all the time do not disable recording."""
    replay, kernel, values = Replay(), Kernel(), inputs()
    for columns in [*range(1, MOST_RECORDINGS + 9), COLUMNS]:
        given = torch.ones(2, columns), torch.zeros(2, dtype=torch.int64)
        views = {"logit": view_of(given[0]), "target": view_of(given[1])}
        done = SimpleNamespace(
            library=HOST, device=0, first=given[0], views=views, sample_view=None, made=[],
            launches=[(kernel, 1, tuple(map(address_of, views.values())))], returned=[],
            definition=jitloss.cross_entropy_with_logits.definition,
            cuda=SimpleNamespace(SIMULATED=False, current=None, is_current=lambda device: True),
        )  # fmt: skip
        replay.learn(given, {}, done)
        assert replay(HOST, given, {}) is not None
    assert len(replay._recordings) <= MOST_RECORDINGS
    assert replay(HOST, values, {}) is None


def test_watched_calls_are_not_repeated():
    replay, _ = recorded(inputs())
    with jitloss.errstate(invalid="raise"):
        assert replay(HOST, inputs(), {}) is None


def test_launches_of_arrays_that_nobody_gave_are_not_kept():
    values = inputs()
    replay, _ = recorded(values, {"class_weight": 1.0})
    assert replay(HOST, values, {"class_weight": 1.0}) is not None
    strange = address_of(view_of(torch.ones(COLUMNS)))
    done = SimpleNamespace(
        library=HOST, device=0, first=values[0], views={"logit": view_of(values[0])}, sample_view=None, made=[],
        launches=[(Kernel(), 1, (strange,))], returned=[], definition=jitloss.cross_entropy_with_logits.definition,
        cuda=SimpleNamespace(SIMULATED=False, current=None, is_current=None),
    )  # fmt: skip
    replay = Replay()
    replay.learn(values, {}, done)
    assert replay(HOST, values, {}) is None


def overlapping(logits, labels):
    memory = torch.randn(ROWS + 4, COLUMNS)
    return (memory[:ROWS], labels), {"out": memory[4:]}


def test_an_output_that_overlaps_goes_the_long_way():
    """The slow path rejects it; it is aligned like the recorded one, at another address."""
    replay, kernel = recorded(inputs(), out=torch.empty(ROWS, COLUMNS))
    assert replay(HOST, *overlapping(*inputs())) is None
    assert not kernel.launched


@pytest.mark.parametrize("options", [{"class_weight": "balanced"}, {"class_weight": [1.0] * COLUMNS}], ids=repr)
def test_what_is_made_of_options_is_not_kept(options):
    """Balanced weights would be those of the first call's labels."""
    replay, _ = recorded(inputs(), options)
    assert replay(HOST, inputs(), options) is None


def test_one_array_for_two_inputs_is_another_call():
    one, other = torch.randn(ROWS, COLUMNS), torch.randn(ROWS, COLUMNS)
    kernel, replay, gradient = Kernel(), Replay(), view_of(torch.empty_like(one))
    views = {"prediction": view_of(one), "target": view_of(one)}
    done = SimpleNamespace(
        library=HOST, device=0, first=one, views=views, sample_view=None, made=[(gradient, (ROWS, COLUMNS), F32)],
        launches=[(kernel, 1, (tuple(map(address_of, views.values())), address_of(gradient)))], returned=[("prediction", gradient)],
        definition=jitloss.mse_loss.definition,
        cuda=SimpleNamespace(SIMULATED=False, current=None, is_current=lambda device: True),
    )  # fmt: skip
    replay.learn((one, one), {}, done)
    assert replay(HOST, (one, other), {}) is None
    assert replay(HOST, (other, other), {}) is not None
    assert kernel.launched[0][1][:2] == [other.data_ptr()] * 2


def test_launches_are_on_the_device_of_the_call():
    replay, kernel = recorded(inputs())
    ((key, recording),) = replay._recordings.items()
    entered: list[int] = []

    @contextlib.contextmanager
    def current(device):
        entered.append(device)
        yield
        entered.append(len(kernel.launched))

    replay._recordings[key] = dataclasses.replace(recording, current=current, is_current=lambda device: False)
    assert replay(HOST, inputs(), {}) is not None
    assert entered == [0, 1]
