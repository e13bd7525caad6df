"""The compiled kernels: their machine code, their memory, and what they write at the ends of arrays and of tiles."""

import re
import tracemalloc
from typing import Any

import llvmlite.binding
import ml_dtypes
import numba
import numpy as np
import pytest

import jitloss
from cases import CASES, DTYPES, Case, agree, draw
from jitloss import call, stores
from jitloss.compilers import cpu
from jitloss.compilers.cpu import entry
from jitloss.compilers.cpu import table as at
from jitloss.compilers.cpu.lane_plan import LANES
from jitloss.compilers.cpu.long_plan import BLOCK
from jitloss.compilers.cpu.long_plan import TILE as ROW_TILE
from jitloss.compilers.cpu.pointwise import TILE
from jitloss.compilers.cpu.transpose import lanes_of
from jitloss.compilers.variant import Variant
from jitloss.definition import Epsilon, Probability
from jitloss.math import exp, log, maximum, sqrt
from loops import foreign_calls, innermost_loops, machine_lanes
from references import REFERENCES, class_targets, real

SHAPES = {
    "flat": ((300,), -1),
    "blocks": ((40, 7), -1),
    "patched": ((40, 30), -1),
    "rows": ((3, 2000), -1),
    "lanes": ((3, 20, 30), 1),
    "long lanes": ((3, cpu.LONGEST_KEPT_BESIDE + 6, 30), 1),
}
"""Shapes and class axes of calls that take each layout of a kernel."""


def layouts_of(case: Case) -> tuple[str, ...]:
    patched = case.labels and "peak" in case.loss.definition.parts
    if not case.rowwise:
        return ("flat",)
    long = "terms" in case.loss.definition.parts["slope"].arguments
    return ("blocks", *(["patched"] if patched else []), "rows", "lanes", *(["long lanes"] if long else []))


PAIRS = [(case, layout) for case in CASES for layout in layouts_of(case)]

each_pair = pytest.mark.parametrize(("case", "layout"), PAIRS, ids=repr)
each_case = pytest.mark.parametrize("case", CASES, ids=repr)


def axis_option(case: Case, axis: int) -> dict[str, int]:
    return {"axis": axis} if case.rowwise else {}


def inputs_of(case: Case, layout: str, dtype: str) -> tuple[list[Any], dict[str, Any]]:
    shape, axis = SHAPES[layout]
    return draw(case, shape, dtype, axis=axis), axis_option(case, axis)


# Machine code -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def code(monkeypatch):
    """A function that makes a call, and gives the kernels that were made or loaded for it and their optimised LLVM IR."""
    compiled: list[tuple[Variant, str]] = []
    original = cpu._compile

    def compile_and_keep(variant: Variant) -> Any:
        made = original(variant)
        compiled.append((variant, str(made._library._get_module_for_linking())))  # the cache's files hold it, beside the code
        return made

    monkeypatch.setattr(cpu, "_compile", compile_and_keep)
    monkeypatch.setattr(cpu, "_kernels", {})

    def of(form: Any, *inputs: Any, **options: Any) -> list[tuple[Variant, str]]:
        monkeypatch.setattr(form, "_quick", None)  # it remembers the addresses of kernels
        compiled.clear()
        form(*inputs, **options)
        return list(compiled)

    return of


MOVES_AND_SUMS = {"phi", "load", "store", "fpext", "fptrunc", "fadd", "select", "freeze", "fcmp"}
"""What may be done with float64 numbers in an innermost loop of a float32 kernel: no multiplication, no division, no call."""

PER_ROW = {"flat": 0, "blocks": 1, "patched": 1, "rows": 1, "lanes": 2, "long lanes": 2}
"""How many innermost loops of a layout add up in float64. They take a step per row, not per element: blocks and rows add the rows'
values, lanes also add each row's sums of a stripe of columns. Flat kernels add float64 outside of their loops, once a tile."""

READ_LABELS = {"flat": 0, "blocks": 2, "patched": 3, "rows": 0, "lanes": 1, "long lanes": 1}
"""How many read the rows' labels, which are int64: a step per row."""


def check_loops(variant: Variant, llvm: str) -> None:
    """Every loop is vectorised to the machine's width, in float32; what is float64 or int64 is done once a row."""
    loops = [loop for loop in innermost_loops(llvm) if loop.has_floats]
    labels = [loop for loop in loops if loop.has_labels and not loop.is_rest]
    assert len(labels) <= (READ_LABELS[variant.layout] if variant.targets == "labels" else 0)
    scalar = [loop.text for loop in loops if not loop.vectorised and not loop.has_vectors and not loop.has_labels]
    assert not scalar, f"not vectorised:\n{scalar[0]}"
    main = [loop for loop in loops if not loop.is_rest and not loop.has_labels]
    assert main, "no loop at all"
    in_double = [loop for loop in main if loop.double_operations]
    assert len(in_double) <= PER_ROW[variant.layout], "\n\n".join(loop.text for loop in in_double)
    for loop in in_double:
        assert loop.double_operations <= MOVES_AND_SUMS, loop.text
        assert loop.lanes in (0, machine_lanes() // 2), loop.text
    for loop in main:
        assert loop.double_operations or loop.lanes >= machine_lanes(), f"only {loop.lanes} lanes:\n{loop.text}"
    assert foreign_calls(llvm) == set(), "a kernel calls nothing outside: no scalar exp, no log"


@each_pair
def test_float32_kernels_are_vectorised_and_hold_no_double(case, layout, code):
    inputs, options = inputs_of(case, layout, "float32")
    for form in (case.loss.gradient, case.loss.value):
        ((variant, llvm),) = code(form, *inputs, **options)
        assert (variant.layout, variant.working) == (layout, "float32")
        check_loops(variant, llvm)


@each_case
def test_a_gradient_alone_comes_from_the_kernel_of_both(case, code):
    """So what is true of one is true of the other."""
    inputs, options = inputs_of(case, "blocks" if case.rowwise else "flat", "float32")
    assert len(code(case.loss.gradient, *inputs, **options)) == 1
    assert code(case.loss.value_and_gradient, *inputs, **options) == []


SOFTMAX, LABELS = (Case(jitloss.cross_entropy_with_logits, labels) for labels in (False, True))
OPTIONS: dict[str, tuple[Case, str, dict[str, Any]]] = {
    "weighted elements": (Case(jitloss.binary_cross_entropy_with_logits), "flat", {"sample_weight": np.linspace(0.0, 1.0, 300)}),
    "values of elements": (Case(jitloss.huber_loss), "flat", {"reduction": "none"}),
    **{f"smoothed, {layout}": (LABELS, layout, {"label_smoothing": 0.1}) for layout in layouts_of(LABELS)},
    **{f"softcap, {layout}": (SOFTMAX, layout, {"softcap": 10.0}) for layout in ("blocks", "rows", "lanes")},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_leave_loops_vectorised(name, code):
    case, layout, options = OPTIONS[name]
    inputs, axis = inputs_of(case, layout, "float32")
    ((variant, llvm),) = code(case.loss.value_and_gradient, *inputs, **axis, **options)
    check_loops(variant, llvm)


def test_second_derivatives_and_sums_of_losses_are_vectorised(code):
    inputs, _ = inputs_of(Case(jitloss.mse_loss), "flat", "float32")
    both = jitloss.mse_loss + 0.5 * jitloss.log_cosh_loss
    for form in (both.value_and_gradient, jitloss.log_cosh_loss.value_gradient_hessian):
        ((variant, llvm),) = code(form, *inputs)
        check_loops(variant, llvm)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("layout", SHAPES)
def test_half_types_are_converted_in_vectors(dtype, layout, code):
    case = Case(jitloss.binary_cross_entropy_with_logits) if layout == "flat" else SOFTMAX
    inputs, options = inputs_of(case, layout, dtype)
    ((variant, llvm),) = code(case.loss.value_and_gradient, *inputs, **options)
    assert (variant.output, variant.working) == (dtype, "float32")
    check_loops(variant, llvm)


PROCESSORS = ["haswell", "skylake-avx512", "znver2"]
"""Processors without instructions for arithmetic in float16."""

for_processors_like_x86 = pytest.mark.skipif(
    not re.match("x86_64|amd64", llvmlite.binding.get_process_triple(), re.I), reason="for processors like x86-64"
)


def assembly_for(processor: str, llvm: str) -> str:
    llvmlite.binding.initialize_native_target()
    llvmlite.binding.initialize_native_asmprinter()
    target = llvmlite.binding.Target.from_default_triple().create_target_machine(cpu=processor, opt=2)
    return target.emit_assembly(llvmlite.binding.parse_assembly(llvm))


@for_processors_like_x86
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("layout", SHAPES)
def test_no_conversion_is_left_to_a_library(dtype, layout, code):
    """LLVM calls functions that are nowhere to be found for what a processor cannot do: the process would end."""
    case = Case(jitloss.mse_loss) if layout == "flat" else Case(jitloss.cross_entropy_with_logits)
    (predictions, targets), options = inputs_of(case, layout, dtype)
    ((variant, llvm),) = code(case.loss.value_and_gradient, predictions, targets.astype(np.float64), **options)
    assert (variant.output, variant.working) == (dtype, "float64")
    for processor in PROCESSORS:
        assert not re.findall(r"\b__\w*(?:hf|bf|gnu)\w*", assembly_for(processor, llvm)), processor


@for_processors_like_x86
@pytest.mark.parametrize("layout", ["blocks", "rows", "lanes"])
def test_peaks_are_stored_whole(layout, code):
    """A peak that stays was once kept by a masked store, on some processors the slowest part of a row."""
    inputs, options = inputs_of(LABELS, layout, "float32")
    ((_, llvm),) = code(LABELS.loss.value_and_gradient, *inputs, **options)
    assert "vmaskmov" not in assembly_for("znver2", llvm)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_doubles_become_halves_by_one_rounding(dtype):
    """By way of float32, what lies a little beside the middle of two neighbours would be taken for the middle."""
    kind = DTYPES[dtype]
    largest = int(np.asarray(ml_dtypes.finfo(kind).max).view(np.uint16))
    bits = np.arange(largest, dtype=np.uint16)
    here, above = bits.view(kind).astype(np.float64), (bits + np.uint16(1)).view(kind).astype(np.float64)
    middle = (here + above) / 2.0
    for numbers, wanted in {
        "the numbers themselves": (here, bits),
        "middles, to even": (middle, bits + bits % 2),
        "below": (np.nextafter(middle, 0.0), bits),
        "above": (np.nextafter(middle, np.inf), bits + 1),
        "special": (np.array([5e-324, 1e300, np.inf]), np.array([0, *[largest + 1] * 2])),
    }.values():
        for sign in (1.0, -1.0):
            got = targets_as_gradient.gradient(np.zeros(numbers.size, kind), sign * numbers, reduction="sum")
            assert np.array_equal(got.view(np.uint16), wanted + (0 if sign > 0.0 else 2**15))
    assert np.isnan(targets_as_gradient.gradient(np.zeros(1, kind), [np.nan])[0])


@jitloss.pointwise
def targets_as_gradient(prediction, target):
    return target, target


def test_the_check_finds_doubles(code):
    inputs, _ = inputs_of(Case(jitloss.mse_loss), "flat", "float64")
    ((variant, llvm),) = code(jitloss.mse_loss.value_and_gradient, *inputs)
    with pytest.raises(AssertionError, match=r"= fmul .* double"):
        check_loops(variant, llvm)


def test_the_check_finds_scalar_loops(code, monkeypatch):
    monkeypatch.setattr(entry, "cached", lambda build: build(False))
    monkeypatch.setattr(numba.config, "LOOP_VECTORIZE", 0)
    inputs, _ = inputs_of(Case(jitloss.mse_loss), "flat", "float32")
    ((variant, llvm),) = code(jitloss.mse_loss.value_and_gradient, *inputs)
    with pytest.raises(AssertionError, match="not vectorised"):
        check_loops(variant, llvm)


# Usual defaults ---------------------------------------------------------------------------------------------------------------

USUAL = [(case, one) for case in CASES for one in case.loss.definition.parameters if one.range.usual]


@pytest.mark.parametrize(("case", "parameter"), USUAL, ids=repr)
def test_usual_defaults_are_constants(case, parameter, code):
    """One kernel for the default, given or not, and one for all other values; both give what they should."""
    inputs, options = inputs_of(case, "blocks" if case.rowwise else "flat", "float32")
    form, name, default = case.loss.value_and_gradient, parameter.name, parameter.default
    ((held, short),) = code(form, *inputs, **options)
    assert not code(form, *inputs, **options, **{name: default})
    ((other, long),) = code(form, *inputs, **options, **{name: 1.5 * default})
    assert not code(form, *inputs, **options, **{name: 1.75 * default})
    at = case.loss.definition.parameters.index(parameter)
    assert (held.statics[at], other.statics[at]) == ("u", "n")
    assert short.count("load double") < long.count("load double"), "a constant is not read"
    ((changed, _),) = code(case.loss.with_parameters(**{name: 1.5 * default}).value_and_gradient, *inputs, **options)
    assert changed._replace(definition=other.definition) == other, "another default is not another kernel"
    near = case.loss.value_and_gradient(*inputs, **options, **{name: np.nextafter(default, 1.0)})
    for got, want in zip(case.loss.value_and_gradient(*inputs, **options), near, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-12)


@jitloss.pointwise
def clipped_log(prediction: Probability, target, epsilon: Epsilon = 1e-12):
    clipped = maximum(prediction, epsilon)
    return -target * log(clipped), -target / clipped


def test_a_usual_default_below_the_floor_of_a_precision(code):
    """Is raised to it in float32, as any value is, and so is no constant there."""
    for dtype, letter, least in (("float32", "n", 2.0**-24), ("float64", "u", 1e-12)):
        zero, one = np.zeros(3, dtype), np.ones(3, dtype)
        ((variant, _),) = code(clipped_log.gradient, zero, one, reduction="sum")
        assert variant.statics == letter
        np.testing.assert_allclose(clipped_log.gradient(zero, one, reduction="sum"), -1.0 / least, rtol=1e-6)


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
    """The most memory that a call takes at any moment, beyond what was there; other threads of the process may take some meanwhile."""
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
    assert extra_memory(lambda: case.loss(*inputs, **options)) < LITTLE
    out = in_place(case, inputs)
    assert extra_memory(lambda: case.loss.value_and_gradient(*inputs, **options, out=out)) < LITTLE


# The same bits on every way ---------------------------------------------------------------------------------------------------


@pytest.fixture
def streaming(monkeypatch):
    """Make every call store its outputs past the caches; a list of whether the kernels that ran did."""
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


def same_bits(got: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return got.keys() == want.keys() and all(same_bits(got[name], want[name]) for name in want)
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@each_pair
def test_every_way_gives_the_same_bits(case, layout, dtype, request):
    """Plain and streamed, in place, from read-only and from Fortran arrays."""
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
    check(case.loss.value_and_gradient(*map(np.asfortranarray, inputs), **options), "Fortran order")
    streamed = request.getfixturevalue("streaming")
    check(case.loss.value_and_gradient(*inputs, **options), "streamed")
    assert streamed[-1] is True
    copies = [array.copy() for array in inputs]
    check(case.loss.value_and_gradient(*copies, **options, out=in_place(case, copies)), "in place, where others are streamed")
    assert streamed[-1] is False


# The ends of arrays, tiles and chunks -----------------------------------------------------------------------------------------

SENTINEL = 0xA5
SIZES = sorted({size + more for size in (TILE, call.CHUNK, 2 * call.CHUNK) for more in (-1, 0, 1)} | {1, 2, 15, 17, 65})
BLOCKS_UP_TO = cpu.BLOCKS_UP_TO[cpu.vector_bytes()]
COLUMNS = sorted(
    {size + more for size in (4, *BLOCKS_UP_TO, 3 * BLOCK, ROW_TILE, 2 * ROW_TILE) for more in (-1, 0, 1)}
    | {1, 2, cpu.SHORTEST_PATCHED[cpu.vector_bytes()][0] - 1, cpu.SHORTEST_PATCHED[cpu.vector_bytes()][0], 33}
)
INNER = sorted({size + more for size in (LANES, 2 * LANES) for more in (-1, 0, 1)} | {2, 3})


def framed(shape: tuple[int, ...], dtype: np.dtype, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """An array that starts ``offset`` bytes behind a cache line, and the memory around it, full of sentinels."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(size + 512, SENTINEL, np.uint8)
    start = 128 + -memory.ctypes.data % 64 + offset
    return memory[start : start + size].view(dtype).reshape(shape), memory


def untouched(array: np.ndarray, memory: np.ndarray) -> bool:
    start = array.ctypes.data - memory.ctypes.data
    return bool((memory[:start] == SENTINEL).all() and (memory[start + array.nbytes :] == SENTINEL).all())


def check_frames(case: Case, shape: tuple[int, ...], dtype: str, axis: int = -1) -> tuple[float, Any]:
    """Outputs at several distances from a cache line, none of them written beyond its ends; the result of a plain call."""
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
    """Rows at the switch of layouts, and inner axes around the number of lanes, against long rows of the same numbers."""
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


@jitloss.rowwise
class keeps_terms:
    def terms(prediction, target):
        return exp(0.125 * prediction), target * prediction

    def value(sums):
        return sums[0] - sums[1], 0.125

    def slope(target, terms, rate):
        return rate * terms[0] - target


@jitloss.rowwise
class keeps_one_term:
    def terms(prediction: jitloss.definition.Real, target):
        return exp(0.25 * prediction)

    def value(sums):
        return sums

    def slope(terms):
        return 0.25 * terms


@jitloss.rowwise
class computes_one_again:
    def terms(prediction: jitloss.definition.Real, target):
        return exp(0.25 * prediction)

    def value(sums):
        return sums

    def slope(prediction):
        return 0.25 * exp(0.25 * prediction)


def two_terms(numbers, targets):
    """What ``keeps_terms`` gives: numbers whose sum is its value, and its gradient."""
    return np.exp(numbers / 8) - targets * numbers, np.exp(numbers / 8) / 8 - targets


def one_term(numbers, targets):
    return np.exp(numbers / 4), np.exp(numbers / 4) / 4


def softmax(numbers, targets):
    row = REFERENCES["cross_entropy_with_logits"](numbers, targets)
    return row.value, row.gradient


TAKING = {
    "alone": (keeps_terms, {two_terms: 1.0}),
    "number": (keeps_one_term, {one_term: 1.0}),
    "sum": (keeps_terms + 0.5 * keeps_one_term, {two_terms: 1.0, one_term: 0.5}),
    "mixed": (0.5 * computes_one_again + keeps_terms, {one_term: 0.5, two_terms: 1.0}),
    "softmax": (jitloss.cross_entropy_with_logits + keeps_terms, {softmax: 1.0, two_terms: 1.0}),
}
"""Losses whose slopes take terms, and what they are sums of, with its weight."""


LAYOUTS = {
    "blocks": (33, 7),
    "patched": (33, 40),
    "rows": (3, 300),
    "long": (2, cpu.LONGEST_KEPT_ROW + 3),
    "lanes": (2, 5, 6),
    "long lanes": (2, cpu.LONGEST_KEPT_BESIDE + 1, 6),
}
TAKEN = [
    *(("alone", layout, labels) for layout in LAYOUTS for labels in (False, True)),
    *((name, layout, True) for name in TAKING if name != "alone" for layout in ("blocks", "patched", "rows")),
    *(("mixed", layout, True) for layout in ("long", "lanes", "long lanes")),
]


@pytest.mark.parametrize(("name", "layout", "labels"), TAKEN)
def test_a_slope_may_take_its_terms(name, layout, labels):
    """In every layout, alone and in sums, the numbers of a slope that computes them again."""
    random, axis, shape = np.random.default_rng(0), 1, LAYOUTS[layout]
    predictions = random.standard_normal(shape).astype(np.float32)
    items = (*shape[:1], *shape[2:])
    targets = random.integers(0, shape[1], items) if labels else random.random(shape).astype(np.float32)
    numbers = np.moveaxis(real(predictions), axis, -1)
    loss, parts = TAKING[name]
    for smoothing, weights in ((0.0, None), (0.1, np.linspace(0.5, 2.0, shape[1]))):
        options = {} if weights is None else {"label_smoothing": smoothing, "class_weight": weights}
        value, gradient = loss.value_and_gradient(predictions, targets, axis=axis, reduction="sum", **options)
        mixed, _, _ = class_targets((predictions, targets), numbers.shape, axis, None, smoothing, weights)
        each = [(weight, *part(numbers, mixed)) for part, weight in parts.items()]
        assert value == pytest.approx(float(sum(weight * one.sum() for weight, one, _ in each)), rel=1e-5)
        wanted = np.moveaxis(sum(weight * one for weight, _, one in each), -1, axis)
        np.testing.assert_allclose(gradient, wanted.astype(np.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_peak_may_take_targets(smoothing):
    """Labels are not put right afterwards then: each element's peak is found with its own target."""

    @jitloss.rowwise
    class highest:
        def peak(logit, target):
            return logit + 3.0 * target

        def terms(logit, target, peak):
            return target * (peak - logit)

        def value(sums):
            return sums

        def slope(target):
            return -target

    random = np.random.default_rng(0)
    for columns in (5, 40, 300):
        logits, labels = random.standard_normal((33, columns)), random.integers(0, columns, 33)
        targets = (1.0 - smoothing) * np.eye(columns)[labels] + smoothing / columns
        want = (targets * ((logits + 3.0 * targets).max(axis=1, keepdims=True) - logits)).sum(axis=1)
        values, gradient = highest.value_and_gradient(logits, labels, reduction="none", label_smoothing=smoothing)
        np.testing.assert_allclose(values, want, rtol=1e-12)
        np.testing.assert_allclose(gradient, -targets, rtol=1e-12)


def test_reciprocal_roots_are_no_estimates():
    """Those that LLVM has, refined by a step of Newton's, are NaN at 0 and inf, and infinite for numbers that are not normal."""

    @jitloss.pointwise
    def root(prediction, target):
        return target / sqrt(prediction), 1.0 / sqrt(prediction)

    numbers = np.array([np.inf, 0.0, 1e-42, 1e-38, 4.0, 3e38] * 6, np.float32)
    with np.errstate(divide="ignore"):
        want = 1.0 / np.sqrt(numbers.astype(np.float64))
    for one in root.value_and_gradient(numbers, np.ones_like(numbers), reduction="none"):
        np.testing.assert_allclose(one, want, rtol=3e-7)


@pytest.mark.parametrize("columns", [7, 40, 64, 300])
def test_distances_whose_squares_overflow(columns):
    far, near = np.zeros((33, columns), np.float32), np.zeros((33, columns), np.float32)
    far[:, 1] = 1e30
    for label, value, slope in ((0.0, 0.0, 0.0), (1.0, np.inf, 2e30)):
        values, gradients = jitloss.contrastive_loss.value_and_gradient(far, near, np.full(33, label), reduction="none")
        np.testing.assert_array_equal(values, np.float32(value))
        np.testing.assert_array_equal(
            gradients["embedding1"][:, :3], np.float32([0.0, slope, 0.0]) * np.ones((33, 1), np.float32)
        )
