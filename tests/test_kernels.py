"""The compiled kernels: their memory use, and their writes at the ends of arrays and of tiles."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from cases import CASES, DTYPES, Case, agree, draw
from jitloss import running, stores
from jitloss.compilers import cpu
from jitloss.compilers.cpu import table as at
from jitloss.compilers.cpu.lane_plan import LANES
from jitloss.compilers.cpu.long_plan import BLOCK
from jitloss.compilers.cpu.long_plan import TILE as ROW_TILE
from jitloss.compilers.cpu.pointwise import TILE
from jitloss.compilers.cpu.transpose import lanes_of
from kernel_layouts import axis_option, each_case, each_pair, same_bits

# Memory -----------------------------------------------------------------------------------------------------------------------

LITTLE = 2**18
LARGE = {
    "flat": ((2**18,), -1),
    "blocks": ((2**15, 2**3), -1),
    "patched": ((2**13, 2**5), -1),
    "rows": ((2**9, 2**9), -1),
    "lanes": ((2**4, 2**6, 2**8), 1),
    "long lanes": ((2**3, 2**7, 2**8), 1),
}
"""2**18 elements: a copy of a float16 array as float32 is 1 MiB, four times as much as a call may take."""


def extra_memory(function: Any) -> int:
    """The peak of the extra memory that a call uses; other threads of the process may add to it."""
    function()  # compiled, threads started
    return min(_extra_memory(function) for _ in range(3))


def _extra_memory(function: Any) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = function()
        peak = tracemalloc.get_traced_memory()[1]
        del result
    finally:
        tracemalloc.stop()
    return peak - before


def in_place(case: Case, inputs: list[Any]) -> Any:
    """The ``out`` that is the predictions themselves."""
    pairs = zip(case.loss.definition.inputs, inputs, strict=True)
    mine = {one.name: array for one, array in pairs if one.differentiable}
    return mine if len(mine) > 1 else next(iter(mine.values()))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@each_pair
def test_memory_is_the_gradient_and_little_more(case, layout, dtype):
    shape, axis = LARGE[layout]
    inputs, options = draw(case, shape, dtype, axis=axis), axis_option(case, axis)
    gradients = len(case.loss.definition.differentiable) * inputs[0].nbytes
    used = extra_memory(lambda: case.loss.value_and_gradient(*inputs, **options))
    assert gradients <= used < gradients + LITTLE
    if dtype == "float16":
        assert extra_memory(lambda: case.loss(*inputs, **options)) < LITTLE
    out = in_place(case, inputs)
    assert extra_memory(lambda: case.loss.value_and_gradient(*inputs, **options, out=out)) < LITTLE


# The same bits on every way ---------------------------------------------------------------------------------------------------


@pytest.fixture
def streaming(monkeypatch):
    """Make every call use streaming stores; returns a list of whether the kernels that ran did."""
    streamed: list[bool] = []
    original = cpu.run

    def run(kernel: int, words: Any, *rest: Any, **named: Any) -> float:
        streamed.append(words[at.STREAM] == at.PAST)
        return original(kernel, words, *rest, **named)

    monkeypatch.setattr(cpu, "run", run)
    monkeypatch.setattr(stores, "cache_bytes", lambda: 0)
    monkeypatch.setattr(stores, "faster", lambda kernel, moved, new, run: run(True))
    return streamed


WIDE = {
    "flat": ((40_001,), -1),
    "blocks": ((3001, 13), -1),
    "patched": ((801, 49), -1),
    "rows": ((23, 1777), -1),
    "lanes": ((5, 33, 301), 1),
    "long lanes": ((3, 77, 601), 1),
}
"""Shapes that are no multiple of anything, and take all threads."""


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@each_pair
def test_every_way_gives_the_same_bits(case, layout, dtype, request):
    """Ordinary and streaming stores, in place, and from read-only arrays."""
    shape, axis = WIDE[layout]
    inputs, options = draw(case, shape, dtype, axis=axis), axis_option(case, axis)
    value, gradient = case.loss.value_and_gradient(*inputs, **options)

    def check(result: Any, what: str) -> None:
        assert result[0] == value, what
        assert same_bits(result[1], gradient), what

    copies = [array.copy() for array in inputs]
    out = in_place(case, copies)
    check(case.loss.value_and_gradient(*copies, **options, out=out), "in place")
    assert same_bits(out, gradient)
    frozen = [array.copy() for array in inputs]
    for array in frozen:
        array.flags.writeable = False
    check(case.loss.value_and_gradient(*frozen, **options), "read-only")
    streamed = request.getfixturevalue("streaming")
    check(case.loss.value_and_gradient(*inputs, **options), "streamed")
    assert streamed[-1] is True
    copies = [array.copy() for array in inputs]
    check(case.loss.value_and_gradient(*copies, **options, out=in_place(case, copies)), "in place, where others are streamed")
    assert streamed[-1] is False


# The ends of arrays, tiles and chunks -----------------------------------------------------------------------------------------

SENTINEL = 0xA5
SIZES = sorted({size + more for size in (TILE, running.CHUNK, 2 * running.CHUNK) for more in (-1, 0, 1)} | {1, 2, 15, 17, 65})
BLOCKS_UP_TO = cpu.BLOCKS_UP_TO[cpu.vector_bytes()]
COLUMNS = sorted(
    {size + more for size in (4, *BLOCKS_UP_TO, cpu.LONGEST, 3 * BLOCK, ROW_TILE, 2 * ROW_TILE) for more in (-1, 0, 1)}
    | {1, 2, cpu.SHORTEST_PATCHED[cpu.vector_bytes()][0] - 1, cpu.SHORTEST_PATCHED[cpu.vector_bytes()][0], 33}
)
INNER = sorted({size + more for size in (LANES, 2 * LANES) for more in (-1, 0, 1)} | {2, 3})


def framed(shape: tuple[int, ...], dtype: np.dtype, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """An array that starts ``offset`` bytes after a cache line boundary, and the memory around it, full of sentinels."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(size + 512, SENTINEL, np.uint8)
    start = 128 + -memory.ctypes.data % 64 + offset
    return memory[start : start + size].view(dtype).reshape(shape), memory


def untouched(array: np.ndarray, memory: np.ndarray) -> bool:
    start = array.ctypes.data - memory.ctypes.data
    return bool((memory[:start] == SENTINEL).all() and (memory[start + array.nbytes :] == SENTINEL).all())


def check_frames(case: Case, shape: tuple[int, ...], dtype: str, axis: int = -1) -> tuple[float, Any]:
    """Check outputs at several offsets from a cache line, none of them written beyond its ends; returns the result of a plain call."""
    inputs, options = draw(case, shape, dtype, axis=axis), axis_option(case, axis)
    value, gradient = case.loss.value_and_gradient(*inputs, **options)
    kind = np.dtype(DTYPES[dtype])
    for offset in (0, kind.itemsize, 64 - kind.itemsize, 1):  # the last is not aligned
        names = [one.name for one in case.loss.definition.differentiable]
        frames = {name: framed(shape, kind, offset) for name in names}
        out = {name: array for name, (array, _) in frames.items()}
        assert all(array.ctypes.data % kind.itemsize == offset % kind.itemsize for array in out.values())
        got = case.loss.value_and_gradient(*inputs, **options, out=out if len(out) > 1 else out[names[0]])
        assert got[0] == value
        assert same_bits(out if len(out) > 1 else out[names[0]], gradient), f"{shape}, {offset} bytes behind a line"
        assert all(untouched(*frame) for frame in frames.values()), f"{shape}, {offset} bytes behind a line"
    return value, gradient


def shapes_of(case: Case) -> list[tuple[tuple[int, ...], int]]:
    if not case.rowwise:
        return [((size,), -1) for size in SIZES]
    rows = [
        ((rows, columns), -1) for columns in COLUMNS for rows in (1, 3 if columns > 2 * BLOCK else 2 * lanes_of("float32") + 3)
    ]
    return rows + [((2, columns, inner), 1) for inner in INNER for columns in (1, 3)] + [((1, 300, 2), 1), ((1, 257, 259), 1)]


@pytest.mark.parametrize("streams", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@each_case
def test_nothing_is_written_beyond_the_ends(case, dtype, streams, request):
    if streams:
        request.getfixturevalue("streaming")
    for shape, axis in shapes_of(case):
        check_frames(case, shape, dtype, axis)


@pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=repr)
def test_layouts_agree_where_they_meet(case):
    """Rows around the lengths where layouts change, and inner axes around the number of lanes, against long rows of the same numbers."""
    for shape, axis in shapes_of(case):
        inputs = draw(case, shape, "float32", axis=axis)
        value, gradient = case.loss.value_and_gradient(*inputs, **axis_option(case, axis))
        exact = [array.astype(np.float64) if array.dtype == np.float32 else array for array in inputs]
        wanted, wanted_gradient = case.loss.value_and_gradient(*exact, **axis_option(case, axis))
        agree(value, wanted, "float32", size=shape[axis] ** 0.5, looser=4.0, what=f"value of {shape}")
        agree(gradient, wanted_gradient, size=shape[axis] / inputs[0].size, looser=4.0, what=f"gradient of {shape}")


def test_unaligned_inputs():
    for case in CASES:
        inputs = draw(case, case.shape, "float32")
        moved = []
        for array in inputs:
            place, _ = framed(array.shape, array.dtype, 1)
            place[...] = array
            assert not place.flags.aligned
            moved.append(place)
        value, gradient = case.loss.value_and_gradient(*moved)
        wanted = case.loss.value_and_gradient(*inputs)
        assert value == wanted[0]
        assert same_bits(gradient, wanted[1])


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ("mse_loss", "triplet_loss", "l2_regularization")], ids=repr
)
def test_kernels_have_aligned_memory(case, monkeypatch):
    """Unaligned arrays are copied: processors differ in how they handle them."""
    seen = []

    def total_of(kernel, words, *rest):
        seen.extend(one for one in words(0) if isinstance(one, np.ndarray))
        return running.total_of(kernel, words, *rest)

    for module in ("call", "quick", "large"):
        monkeypatch.setattr(f"jitloss.{module}.total_of", total_of)
    inputs = draw(case, (64, 1024) if case.rowwise else (3 * running.SERIAL,), "float32")
    wanted = case.loss.gradient(*inputs)
    names = [one.name for one in case.loss.definition.differentiable]
    shifted = []
    for array in inputs:
        place, _ = framed(array.shape, array.dtype, 1)
        place[...] = array
        shifted.append(place)
    for given, offset in ((inputs, 0), (inputs, 1), (shifted, 0), (shifted, 1)):
        out = {name: framed(inputs[0].shape, inputs[0].dtype, offset)[0] for name in names}
        got = case.loss.gradient(*given, out=out if len(names) > 1 else out[names[0]])
        assert same_bits(got, wanted)
    assert seen
    assert all(one.flags.aligned for one in seen)
