"""The machine code of kernels: vectors of the machine's width, no float64 where it should not be, nothing from other libraries."""

import re
from typing import Any

import llvmlite.binding
import ml_dtypes
import numba
import numpy as np
import pytest

import jitloss
from cases import CASES, DTYPES, Case
from jitloss.compilers import cpu
from jitloss.compilers.cpu import entry
from jitloss.compilers.variant import Variant
from jitloss.definition import Epsilon, Probability
from jitloss.math import log, maximum
from kernel_layouts import SHAPES, each_case, each_pair, inputs_of, layouts_of
from loops import foreign_calls, innermost_loops, machine_lanes

# Loops ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def code(monkeypatch):
    """A function that makes a call, and returns the kernels that were compiled or loaded for it, with their optimised LLVM IR."""
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
    """Assert that every loop is vectorised to the machine's width, in float32; float64 and int64 occur only once per row."""
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
    for form in (case.loss.gradient, case.loss.value, *[case.loss.value_and_gradient] * (not case.rowwise)):
        ((variant, llvm),) = code(form, *inputs, **options)
        assert (variant.layout, variant.working) == (layout, "float32")
        check_loops(variant, llvm)


@each_case
def test_only_a_gradient_of_elements_has_a_kernel_of_its_own(case, code):
    """Of rows, checks of one kernel hold for both forms."""
    inputs, options = inputs_of(case, "blocks" if case.rowwise else "flat", "float32")
    assert len(code(case.loss.gradient, *inputs, **options)) == 1
    assert len(code(case.loss.value_and_gradient, *inputs, **options)) == (not case.rowwise)


def test_a_gradient_of_elements_computes_no_value(code):
    inputs, _ = inputs_of(Case(jitloss.mse_loss), "flat", "float32")
    additions = []
    for form in (jitloss.mse_loss.gradient, jitloss.mse_loss.value_and_gradient):
        ((variant, llvm),) = code(form, *inputs)
        check_loops(variant, llvm)
        additions.append("fadd" in "".join(loop.text for loop in innermost_loops(llvm)))
    assert additions == [False, True]


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
    """For conversions that a processor lacks LLVM calls library functions that are not available, and the process would crash."""
    case = Case(jitloss.mse_loss) if layout == "flat" else Case(jitloss.cross_entropy_with_logits)
    (predictions, targets), options = inputs_of(case, layout, dtype)
    ((variant, llvm),) = code(case.loss.value_and_gradient, predictions, targets.astype(np.float64), **options)
    assert (variant.output, variant.working) == (dtype, "float64")
    for processor in PROCESSORS:
        assert not re.findall(r"\b__\w*(?:hf|bf|gnu)\w*", assembly_for(processor, llvm)), processor


@for_processors_like_x86
@pytest.mark.parametrize("layout", ["blocks", "rows", "lanes"])
def test_peaks_are_stored_whole(layout, code):
    """An unchanged peak was once handled by a masked store, on some processors the slowest part of a row."""
    inputs, options = inputs_of(LABELS, layout, "float32")
    ((_, llvm),) = code(LABELS.loss.value_and_gradient, *inputs, **options)
    assert "vmaskmov" not in assembly_for("znver2", llvm)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_doubles_become_halves_by_one_rounding(dtype):
    """By way of float32, a number slightly off the midpoint of two neighbours would be rounded to the midpoint first."""
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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_is_no_number_stays_so_whatever_its_bits(dtype):
    """Rounding adds to the bits of a number, and would carry those of a NaN into the sign."""
    numbers = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF] * 20, np.uint32).view(np.float32)
    assert np.isnan(targets_as_gradient.gradient(np.zeros(numbers.size, DTYPES[dtype]), numbers).astype(np.float32)).all()


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
    """One kernel for the default, whether passed or not, and one for all other values; both give correct results."""
    inputs, options = inputs_of(case, "blocks" if case.rowwise else "flat", "float32")
    form, name, default = case.loss.value_and_gradient, parameter.name, parameter.default
    ((held, short),) = code(form, *inputs, **options)
    assert not code(form, *inputs, **options, **{name: default})
    ((other, long),) = code(form, *inputs, **options, **{name: 1.5 * default})
    assert not code(form, *inputs, **options, **{name: 1.75 * default})
    at = case.loss.definition.parameters.index(parameter)
    assert (held.statics[at], other.statics[at]) == ("u", "n")
    assert short.count("load double") < long.count("load double"), "a constant is not read"
    assert not code(case.loss.with_parameters(**{name: 1.5 * default}).value_and_gradient, *inputs, **options)
    near = case.loss.value_and_gradient(*inputs, **options, **{name: np.nextafter(default, 1.0)})
    for got, want in zip(case.loss.value_and_gradient(*inputs, **options), near, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-12)


@jitloss.pointwise
def clipped_log(prediction: Probability, target, epsilon: Epsilon = 1e-12):
    clipped = maximum(prediction, epsilon)
    return -target * log(clipped), -target / clipped


def test_a_usual_default_below_the_floor_of_a_precision(code):
    """It is raised to the floor in float32, like any value, and so is not a constant there."""
    for dtype, letter, least in (("float32", "n", 2.0**-24), ("float64", "u", 1e-12)):
        zero, one = np.zeros(3, dtype), np.ones(3, dtype)
        ((variant, _),) = code(clipped_log.gradient, zero, one, reduction="sum")
        assert variant.statics == letter
        np.testing.assert_allclose(clipped_log.gradient(zero, one, reduction="sum"), -1.0 / least, rtol=1e-6)
