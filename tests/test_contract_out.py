"""The contract: where gradients go, and what ``out`` may share memory with."""

import warnings

import numpy as np
import pytest

import jitloss
from cases import CASES, draw, flat
from contract import (
    each_averaged,
    each_case,
    each_triple,
    fresh_inputs,
    out_for,
    outs_like,
    refused,
    results,
    same,
)
from layouts import guarded


@each_case
def test_out_is_filled_and_returned(case):
    inputs = fresh_inputs(case)
    want = results(case, *inputs)
    for _ in range(3):
        outs = outs_like(case, inputs)
        value, gradient = case.loss.value_and_gradient(*inputs, out=out_for(case, outs))
        assert value == want[0]
        assert all(mine is out for mine, out in zip(flat(gradient), outs, strict=True))
        same(outs, want[1:])
        same(results(case, *inputs, out=None), want)


@each_case
def test_out_that_does_not_fit(case):
    inputs = fresh_inputs(case)
    right = outs_like(case, inputs)
    frozen = right[0].copy()
    frozen.flags.writeable = False
    shape, narrow = case.shape, (*case.shape[:-1], case.shape[-1] - 1)
    for error, bad, words in (
        (ValueError, np.empty((*shape, 1), np.float32), ((*shape, 1), shape)),
        (ValueError, np.empty(narrow, np.float32), (narrow, shape)),
        (ValueError, np.empty((), np.float32), ("()", shape)),
        (ValueError, np.empty(shape, np.float64), ("float64", "float32")),
        (ValueError, np.empty(shape, np.int32), ("int32", "float32")),
        (ValueError, np.empty(shape, object), ("object", "float32")),
        (ValueError, frozen, ("read-only",)),
        (ValueError, np.broadcast_to(np.float32(0), shape), ("read-only",)),
        (
            ValueError,
            np.lib.stride_tricks.as_strided(np.empty(99, np.float32), shape, (0,) * len(shape)),
            ("overlap each other",),
        ),
        (
            ValueError,
            np.lib.stride_tricks.as_strided(np.empty(99, np.float32), shape, (2,) * len(shape)),
            ("overlap each other",),
        ),
        (TypeError, np.ma.zeros(shape, np.float32), ("mask",)),
        (TypeError, right[0].tolist(), ("list",)),
        (TypeError, np.float32(1.0), ("float32",)),
        (TypeError, "here", ("str",)),
    ):
        given = out_for(case, [bad, *right[1:]])
        refused(case, error, inputs, "out", *words, forms=("gradient", "value_and_gradient"), right=inputs, out=given)
    assert all((array == 5.0).all() for array in right)
    if len(right) == 1 and not case.loss.definition.is_penalty:
        refused(
            case, TypeError, inputs, "out", forms=("gradient",), right=inputs, out={case.loss.definition.inputs[0].name: right[0]}
        )
    refused(case, TypeError, inputs, "out", forms=("value",), right=inputs, out=right[0])


@each_triple
def test_out_of_several_arrays(case):
    inputs = fresh_inputs(case)
    names = [one.name for one in case.loss.definition.differentiable]
    right = dict(zip(names, outs_like(case, inputs), strict=True))
    for error, bad in (
        (TypeError, right[names[0]]),
        (TypeError, tuple(right.values())),
        (ValueError, {}),
        (ValueError, {name: right[name] for name in names[1:]}),
        (ValueError, {**right, "more": right[names[0]]}),
        (ValueError, dict.fromkeys(names, right[names[0]])),  # one array for all
        (ValueError, {**right, names[0]: inputs[1]}),  # another input
        (ValueError, dict(zip(names, inputs[1:] + inputs[:1], strict=False))),
    ):
        refused(case, error, inputs, "out", forms=("gradient",), right=inputs, out=bad)
    assert all((array == 5.0).all() for array in right.values())
    with pytest.raises(ValueError, match=f"out must hold exactly {', '.join(names)}, got nothing$"):
        case.loss.gradient(*inputs, out={})


@each_case
def test_out_may_be_the_input_itself(case):
    """The same array, or another view of the same memory; also where the kernel cannot write there directly."""
    want = results(case, *fresh_inputs(case))
    count = len(case.loss.definition.differentiable)
    for _ in range(2):
        for layout in (
            np.asarray,
            lambda array: array[...],
            lambda array: array.view(),
            lambda array: array.reshape(array.shape),
        ):
            inputs = fresh_inputs(case)
            same(results(case, *inputs, out=out_for(case, [layout(array) for array in inputs[:count]])), want)
            same(inputs[:count], want[1:])
    inputs = fresh_inputs(case)
    wide = [guarded(array, lambda memory, shape, dtype: memory[: 8 * int(np.prod(shape))].view(dtype).reshape(*shape, 2)[..., 0])
            for array in inputs[:count]]  # fmt: skip
    arrays = [one.array for one in wide]
    for _ in range(2):
        for array, numbers in zip(arrays, inputs, strict=False):
            array[...] = numbers
        got = results(case, *arrays, *inputs[count:], out=out_for(case, [array[...] for array in arrays]))
        same([got[0], *map(np.ascontiguousarray, got[1:])], want)
        assert all(one.intact() for one in wide)


@each_case
def test_out_may_overlap_nothing_else(case):
    inputs = fresh_inputs(case)
    size, shape, count = inputs[0].size, inputs[0].shape, len(case.loss.definition.differentiable)
    more = [np.full_like(inputs[0], 5.0) for _ in range(count - 1)]
    first = fresh_inputs(case)[0]
    memory = np.zeros(2 * size + 8, np.float32)
    for shift in (1, size - 1, size // 2):  # the input, moved a little
        args = [memory[:size].reshape(shape), *inputs[1:]]
        args[0][...] = first
        out = memory[shift : shift + size].reshape(shape)
        refused(
            case,
            ValueError,
            args,
            "overlaps",
            forms=("gradient", "value_and_gradient"),
            right=inputs,
            out=out_for(case, [out, *more]),
        )
        np.testing.assert_array_equal(args[0], first)
    for place in range(1, len(inputs)):  # the other inputs: all of them, their beginning, their end
        numbers = inputs[place]
        for start in (0, -1, 1):
            raw = np.zeros(4 * max(size * 8, numbers.nbytes) + 64, np.uint8)
            taken = raw[: numbers.nbytes].view(numbers.dtype).reshape(numbers.shape)
            taken[...] = numbers
            begin = {0: 0, 1: numbers.nbytes - 4, -1: max(0, numbers.nbytes // 2) // 4 * 4}[start]
            out = raw[begin : begin + 4 * size].view(np.float32).reshape(shape)
            args = [taken if one == place else array for one, array in enumerate(inputs)]
            refused(case, ValueError, args, "overlaps", forms=("gradient",), right=inputs, out=out_for(case, [out, *more]))
            np.testing.assert_array_equal(taken, numbers)


@each_averaged
def test_out_may_not_be_the_weights(case):
    inputs = fresh_inputs(case)
    memory = np.ones(inputs[0].size, np.float32)
    outs = outs_like(case, inputs)
    outs[0] = memory.reshape(inputs[0].shape)
    for weight in (memory[:33], memory[:1].reshape(())):
        refused(case, ValueError, inputs, "overlaps", forms=("gradient",), out=out_for(case, outs), sample_weight=weight)
    assert (memory == 1.0).all()


@each_averaged
def test_the_same_array_twice(case):
    """Predictions and targets may be one array; writing there would destroy the targets."""
    definition = case.loss.definition
    if case.labels or (case.rowwise and any(one.per_row for one in definition.inputs)):
        return
    one = np.abs(draw(case, case.shape, "float32")[0]) % 1.0
    args = [one] * len(definition.inputs)
    want = results(case, *(array.copy() for array in args))
    for _ in range(2):
        same(results(case, *args), want)
    out = out_for(case, [one] * len(definition.differentiable))
    refused(case, ValueError, args, "overlaps", forms=("gradient",), right=[array.copy() for array in args], out=out)


@pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.hessian], ids=repr)
def test_out_with_second_derivatives(case):
    inputs = fresh_inputs(case)
    form = case.loss.value_gradient_hessian
    want = form(*inputs)
    slopes, bends = (np.empty_like(inputs[0]) for _ in range(2))
    for out in ((slopes, bends), (slopes, None), (None, bends)):
        got = form(*inputs, out=out)
        same(got, want)
        assert all(given is None or given is mine for given, mine in zip(out, got[1:], strict=True))
    given = inputs[0].copy()
    same(form(given, *inputs[1:], out=(given, bends)), want)
    given[...] = inputs[0]
    same(form(given, *inputs[1:], out=(slopes, given)), want)
    for error, bad in (
        (TypeError, slopes),
        (TypeError, [slopes, bends]),
        (TypeError, (slopes,)),
        (TypeError, (slopes, "b")),
        (ValueError, (slopes, slopes)),
        (ValueError, (slopes, bends[..., :-1])),
        (ValueError, (inputs[0], inputs[0])),
    ):
        with pytest.raises(error, match="out"):
            form(*inputs, out=bad)


def test_outputs_of_several_numbers_at_one_place():
    memory = np.zeros(32)
    for strides in ((16, 8), (8, 8), (0, 8)):
        out = np.lib.stride_tricks.as_strided(memory, (2, 3), strides)
        with pytest.raises(ValueError, match="elements that overlap each other"):
            jitloss.mse_loss.gradient(np.ones((2, 3)), np.zeros((2, 3)), out=out)
    for out in (
        memory[:6].reshape(2, 3)[::-1],
        memory[:6].reshape(2, 3)[:, ::-1],
        memory[:6].reshape(3, 2).T,
        memory[:12].reshape(2, 6)[:, ::-2],
    ):
        got = jitloss.mse_loss.gradient(np.arange(6.0).reshape(2, 3), np.zeros((2, 3)), out=out)
        assert got is out
        np.testing.assert_allclose(got, np.arange(6.0).reshape(2, 3) / 3)


def test_an_axis_of_one_element_may_have_any_stride():
    numbers = np.arange(6.0)
    for out in (np.empty(12)[::2][:, None], np.empty(12)[::2][None].T):
        got = jitloss.mse_loss.gradient(numbers[:, None], np.zeros((6, 1)), out=out)
        assert got is out
        np.testing.assert_allclose(got[:, 0], numbers / 3)
    one, other = (copy := numbers.copy())[:, None], copy.reshape(6, 1)
    assert one.strides != other.strides
    assert jitloss.mse_loss.gradient(one, np.zeros((6, 1)), out=other) is other  # its own input
    np.testing.assert_allclose(copy, numbers / 3)


def test_what_a_half_type_cannot_hold_is_infinite_without_a_word():
    inputs = [np.array([numbers], np.float32) for numbers in ([3.0, 3.0], [1.0, 3.0], [3.0, 0.0])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = jitloss.mse_loss.gradient(np.full(4, 6e4, np.float16)[::2], np.zeros(2), normalizer=1e-3)
        assert got.dtype == np.float16
        assert np.isinf(got).all()
        anchors = inputs[0].astype(np.float16)
        for out in (
            None,
            {
                "anchor": np.empty((1, 4), np.float16)[:, ::2],
                "positive": np.empty((1, 2), np.float32),
                "negative": np.empty((1, 2), np.float32),
            },
        ):
            got = jitloss.triplet_loss.gradient(anchors, *inputs[1:], margin=9.0, normalizer=1e-6, out=out)
            assert got["anchor"].dtype == np.float16
            assert np.isinf(got["anchor"]).all()


def test_maps_of_a_file_by_another_name(tmp_path):
    file, link = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(file, np.arange(5000.0))
    link.symlink_to(file)
    read, written = (np.memmap(str(one), np.float64, mode, 128, (5000,)) for one, mode in ((file, "r"), (link, "r+")))
    with pytest.raises(ValueError, match="out overlaps"):
        jitloss.mse_loss.gradient(np.zeros(5000), read, out=written)


def test_maps_of_parts_of_a_file_by_their_offsets(tmp_path):
    np.arange(6000.0).tofile(tmp_path / "raw")
    size = 8 * 2048
    one = np.memmap(tmp_path / "raw", np.float64, "r", 0, (2048,))
    two = np.memmap(tmp_path / "raw", np.float64, "r+", size, (2048,))
    again = np.memmap(tmp_path / "raw", np.float64, "r+", 512 * 8, (2048,))
    front = np.memmap(tmp_path / "raw", np.float64, "r+", 0, (2048,))
    for read, out in ((one, two), (two, front)):
        jitloss.mse_loss.gradient(np.zeros(2048), read, out=out)
    with pytest.raises(ValueError, match="out overlaps"):
        jitloss.mse_loss.gradient(np.zeros(2048), one, out=again)
    with pytest.raises(ValueError, match="out overlaps"):
        jitloss.mse_loss.gradient(np.zeros(2048), two, out=again)


@pytest.mark.parametrize("loss", [jitloss.mse_loss, jitloss.kl_divergence], ids=lambda one: one.__name__)
def test_two_maps_of_one_part_of_a_file_are_one_array(loss, tmp_path):
    numbers = np.random.default_rng(0).uniform(0.1, 1.0, (64, 1024))
    numbers.tofile(tmp_path / "raw")
    one, other = (np.memmap(tmp_path / "raw", np.float64, "r+", 0, (64, 1024)) for _ in range(2))
    want = loss.value_and_gradient(numbers, np.ones_like(numbers))
    got = loss.value_and_gradient(one, np.ones_like(numbers), out=other)
    assert got[0] == want[0]
    assert got[1] is other
    np.testing.assert_array_equal(other, want[1])


def test_what_is_written_to_a_private_map_stays_there(tmp_path):
    """A copy-on-write map; but what is written to the file shows in it."""
    numbers = np.arange(6000.0)
    numbers.tofile(tmp_path / "raw")
    for size, start in ((5000, 0), (2048, 4096)):
        shared = np.memmap(tmp_path / "raw", np.float64, "r+", start, (size,))
        private = np.memmap(tmp_path / "raw", np.float64, "c", 0, (size,))
        for predictions in (private, np.zeros(size)):
            targets = np.zeros(size) if predictions is private else private
            with pytest.raises(ValueError, match="out overlaps"):
                jitloss.mse_loss.gradient(predictions, targets, out=shared)
        got = jitloss.mse_loss.gradient(shared, np.zeros(size), out=private)
        np.testing.assert_allclose(got, shared * 2 / size)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "raw"), numbers)


@pytest.mark.parametrize("size", [2048, 40_000])
@pytest.mark.parametrize("case", [case for case in CASES if not case.labels], ids=repr)
def test_plain_arrays_may_be_maps_too(case, size, tmp_path):
    """Plain arrays may be views of a map: then addresses say nothing about overlap, on the fast path either."""
    shape, start = (size // 64, 64) if case.rowwise else (size,), 4096
    inputs = draw(case, shape, "float64")
    inputs[0].tofile(tmp_path / "raw")
    with (tmp_path / "raw").open("ab") as file:
        file.write(bytes(start))
    case.loss.gradient(*inputs)
    case.loss.gradient(*inputs, out=out_for(case, outs_like(case, inputs)))
    read = np.asarray(np.memmap(tmp_path / "raw", np.float64, "r", 0, shape))
    written = np.asarray(np.memmap(tmp_path / "raw", np.float64, "r+", start, shape))
    outs = [written, *outs_like(case, inputs)[1:]]
    for _ in range(2):
        with pytest.raises(ValueError, match="out overlaps"):
            case.loss.gradient(read, *inputs[1:], out=out_for(case, outs))
    np.testing.assert_array_equal(read, inputs[0])


def test_swapped_bytes_of_an_output():
    swapped = np.arange(3.0).astype(">f8")
    native = np.empty(3)
    np.testing.assert_allclose(jitloss.mse_loss.gradient(swapped, np.zeros(3), out=native), np.arange(3.0) * 2 / 3)
    np.testing.assert_allclose(jitloss.mse_loss.gradient(np.arange(3.0), np.zeros(3), out=swapped), np.arange(3.0) * 2 / 3)
