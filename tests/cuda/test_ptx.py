"""Every loss as machine code, compiled and linked without a device: what the loops of its kernels do, and do not do."""

from collections import Counter
from dataclasses import replace
from unittest.mock import Mock

import pytest

import jitloss
import toolkit

if reason := toolkit.missing():
    pytest.skip(reason, allow_module_level=True)

from imagined import launches
from jitloss.compilers.cuda import compile as compiler
from jitloss.compilers.cuda import launch
from jitloss.compilers.cuda.plan import split
from jitloss.compilers.elements import ITEMSIZE
from jitloss.math import exp, sign
from kernels import CAPABILITY, DTYPES, OLDEST, Call, Kernel, assembly_of, compiled, elements_of, link, plans, variant

# What is compiled -------------------------------------------------------------------------------------------------------------


@jitloss.pointwise
def custom(prediction, target, alpha=1.0):
    error = prediction - target
    return error * error + alpha * abs(error), 2.0 * error + alpha * sign(error)


@jitloss.rowwise
class soft_rows:
    strength = 2.0

    def peak(prediction):
        return prediction

    def terms(prediction, target: jitloss.definition.Distribution, peak, strength):
        height = exp(prediction - peak)
        return height, target * height * strength

    def value(sums):
        total, agreement = sums
        return agreement / total, 1.0 / total

    def slope(prediction, target, peak, strength, share):
        return target * exp(prediction - peak) * strength * share


OWN = {
    "custom": custom,
    "soft_rows": soft_rows,
    "mse_loss+l1_loss": jitloss.mse_loss + 0.5 * jitloss.l1_loss,
    "mse_loss+custom": jitloss.mse_loss + custom,
    "cross_entropy_loss+kl_divergence": jitloss.cross_entropy_loss + 0.5 * jitloss.kl_divergence,
}
"""Losses of a user's, and sums of losses."""


def kernels(name, loss, dtype, label="", only=None, call=None, **changes):
    made = variant(loss.definition, dtype, **changes)
    total = "nothing" if made.items else "parts"
    return [
        Kernel("-".join(filter(None, (name, dtype, label, how))), made, replace(plan, total=total), loss, how, call or Call())
        for how, plan in plans(made).items()
        if only is None or how in only
    ]


FEW = ("vectors", "kept-by-block")
"""Plans that stand for all where an option is tried."""

PLANS = {
    "float32": ("vectors", "short", "kept-by-block", "long", "inner-axis"),
    "bfloat16": FEW,
    "float16": FEW,
    "float64": FEW,
}
"""The plans in which every loss is compiled, by dtype."""

EVERY_WAY = ("mse_loss", "cross_entropy_with_logits")
"""Losses that stand for all in the other plans."""

LABELS, DENSE = ("cross_entropy_loss", "cross_entropy_with_logits"), ("mse_loss", "kl_divergence", "triplet_loss")


def options():
    """Kernels of calls with options, in float32 unless the option is about dtypes."""
    for name, loss in jitloss.LOSSES.items():
        if loss.definition.hessian:
            call = Call("value_gradient_hessian")
            yield from kernels(name, loss, "float32", "hessian", FEW, call, hessian=True)
        if name in DENSE or name in LABELS:
            yield from kernels(name, loss, "float32", "value", FEW, Call("value"), gradient=False)
        others = {one.name: one.other for one in loss.definition.parameters if one.has_other}
        if others:
            yield from kernels(name, loss, "float32", "others", FEW, Call(options=others), others=True)
    each_row = Call(options={"sample_weight": True, "reduction": "none"})
    for name in LABELS + DENSE:
        yield from kernels(name, jitloss.LOSSES[name], "float32", "weights-items", FEW, each_row, weights=True, items=True)
    for name in ("mse_loss", "cross_entropy_with_logits"):
        yield from kernels(name, jitloss.LOSSES[name], "bfloat16", "weights-items", FEW, each_row, weights=True, items=True)
    call, changes = Call("value_gradient_hessian", {"sample_weight": True}), {"hessian": True, "weights": True}
    yield from kernels("focal_loss", jitloss.focal_loss, "bfloat16", "hessian-weights", ("vectors",), call, **changes)
    for name in LABELS:
        yield from class_options(name)
    given = {"inputs": ("bfloat16", "float64"), "working": "float64"}
    for name in ("binary_cross_entropy_with_logits", "cross_entropy_with_logits"):
        call = Call(targets="float64")
        yield from kernels(name, jitloss.LOSSES[name], "bfloat16", "target-float64", FEW, call, targets="direct", **given)
    for target in ("bool", "int64", "float16"):
        given, call = {"inputs": ("float32", target)}, Call(targets=target)
        yield from kernels("mse_loss", jitloss.mse_loss, "float32", f"target-{target}", ("vectors",), call, **given)


def class_options(name):
    """Options that only losses with classes have."""
    smooth, weigh = {"label_smoothing": 0.1}, {"class_weight": True}
    for label, given, changes in (
        ("class-weights", weigh, {"class_weights": True}),
        ("smoothed", smooth, {"smoothed": True}),
        ("smoothed-class-weights", smooth | weigh, {"class_weights": True, "smoothed": True}),
        ("dense", {}, {"targets": "direct"}),
        ("dense-smoothed", smooth, {"targets": "mixed", "smoothed": True}),
        ("dense-smoothed-class-weights", smooth | weigh, {"targets": "mixed", "class_weights": True, "smoothed": True}),
    ):
        call = Call(options=given)
        yield from kernels(name, jitloss.LOSSES[name], "float32", label, FEW, call, **changes)


DEFAULTS = [
    kernel
    for name, loss in jitloss.LOSSES.items()
    for dtype, only in PLANS.items()
    for kernel in kernels(name, loss, dtype, only=None if name in EVERY_WAY and dtype in ("float32", "bfloat16") else only)
]
OTHERS = [kernel for name, loss in OWN.items() for kernel in kernels(name, loss, "float32", only=(*FEW, "long"))]
ALL = [*DEFAULTS, *OTHERS, *options()]


def each(found):
    """A test of every kernel; ``--dist loadgroup`` gives all tests of a kernel to one process, which compiles it once."""
    return pytest.mark.parametrize("kernel", [pytest.param(one, id=one.name) for one in found])


def test_every_loss_is_compiled():
    assert {kernel.variant.definition.name for kernel in DEFAULTS} >= set(jitloss.LOSSES)


# What they compute ------------------------------------------------------------------------------------------------------------


@each([kernel for kernel in ALL if kernel.how != "long" or kernel.name == "cross_entropy_with_logits-float32-long"])
def test_calls_that_launch_the_kernel_have_the_results_of_the_cpu(kernel):
    """The kernel runs in the PTX emulator."""
    assert launches(kernel)


# What all kernels keep to -----------------------------------------------------------------------------------------------------


@each(ALL)
def test_the_kernel_links(kernel):
    assert kernel.cubin.code.startswith(b"\x7fELF")


@each(ALL)
def test_no_function_is_called(kernel):
    assert not kernel.assembly.has_calls


PER_THREAD = Counter({"cvt.f64.f32": 1, "add.f64": 9, "sub.f64": 1, "selp.f64": 1, "cvt.f32.f64": 2})
PER_THREAD += Counter({"st.shared.f64": 1, "ld.shared.f64": 4, "st.global.f64": 1})
"""What a thread may do once in float64: the row's value, which is float32, is added up over the block, and two factors are rounded."""


@each([kernel for kernel in ALL if kernel.variant.working == "float32"])
def test_elements_are_never_float64(kernel):
    """There is no float64 in a loop that reads or writes arrays, or anywhere in kernels that keep a row, which have no loop over it."""
    if kernel.plan.kept:
        assert not kernel.assembly.doubles - PER_THREAD
        return
    loops = [loop for loop in kernel.assembly.loops if loop.loads or loop.stores]
    assert loops
    for loop in loops:
        assert not loop.doubles


@each([kernel for kernel in ALL if kernel.variant.working == "float64"])
def test_float64_is_never_rounded(kernel):
    assert kernel.variant.output != "float64" or "cvt.f32.f64" not in kernel.assembly.doubles
    assert kernel.assembly.count(r"ex2\.approx") == 0


# Memory -----------------------------------------------------------------------------------------------------------------------


def once_a_row(kernel):
    """Loads of single numbers: the label, its class weight, the sample weight, and other inputs with one number per row."""
    given = kernel.variant
    labels = given.targets == "labels"
    return sum(
        (
            labels,
            labels and given.class_weights,
            given.weights,
            sum(one.per_row for one in given.definition.inputs),
        )
    )


def one_dtype(kernel):
    return set(elements_of(kernel.variant)) == {kernel.variant.output}


def full_vectors(kernel):
    return one_dtype(kernel) and kernel.plan.width * ITEMSIZE[kernel.variant.output] == 16


@each([kernel for kernel in ALL if full_vectors(kernel)])
def test_vectors_are_128_bits(kernel):
    assert kernel.assembly.vector_loads >= len(elements_of(kernel.variant))
    assert kernel.assembly.vector_stores >= kernel.outputs


def reads_class_weights(kernel):
    """Whether a weight is read for each element."""
    given = kernel.variant
    return given.class_weights and (given.targets == "mixed" or given.statics[-1] == "n")


READ_AGAIN = [kernel for kernel in ALL if kernel.rowwise and not kernel.plan.kept]


@each([kernel for kernel in READ_AGAIN if full_vectors(kernel) and not reads_class_weights(kernel)])
def test_no_element_of_a_row_is_read_alone(kernel):
    loops = [loop for loop in kernel.assembly.loops if loop.loads]
    assert loops
    for loop in loops:
        assert loop.loads == loop.vector_loads


KEPT = [kernel for kernel in ALL if kernel.plan.kept]


@each([kernel for kernel in KEPT if not reads_class_weights(kernel)])
def test_a_row_that_is_kept_is_read_and_written_once(kernel):
    """The only other loads are those of the labelled element, for its sums and its slopes; ignored rows are written by separate code."""
    labels, read = kernel.variant.targets == "labels", len(elements_of(kernel.variant))
    written = kernel.outputs * kernel.plan.kept * (2 if labels or kernel.variant.weights else 1)
    beside = once_a_row(kernel) + 2 * read * labels
    if kernel.plan.width == 1 or full_vectors(kernel):
        assert 0 <= kernel.assembly.loads - read * kernel.plan.kept <= beside
    if full_vectors(kernel):
        assert kernel.assembly.vector_loads == read * kernel.plan.kept
        assert kernel.assembly.vector_stores == written


@each(ALL)
def test_what_a_thread_holds_has_no_addresses(kernel):
    assert not kernel.assembly.has_local_memory


@each(KEPT)
def test_a_row_that_is_kept_stays_in_registers(kernel):
    assert kernel.cubin.spills == 0
    assert kernel.cubin.stack == 0


@pytest.mark.parametrize("how", ["kept-by-block", "kept-by-cluster"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_mean_over_labels_stays_in_registers_too(dtype, how):
    """Its divisor is counted in the kernel, by threads that keep a row in registers."""
    made = variant(jitloss.cross_entropy_with_logits.definition, dtype)
    assert Kernel(how, made, plans(made, divided=True)[how]).cubin.spills == 0


@each([kernel for kernel in ALL if kernel.variant.working == "float32"])
def test_registers_allow_the_block(kernel):
    """A multiprocessor has 65536 registers, which are allocated to warps in units of 8 per thread."""
    registers = -(-kernel.cubin.registers // 8) * 8
    assert registers * kernel.plan.threads <= 65536


# Instructions of the device ---------------------------------------------------------------------------------------------------

SOFTMAX = [kernel for kernel in DEFAULTS if kernel.variant.definition.name == "cross_entropy_with_logits"]


@each([kernel for kernel in SOFTMAX if kernel.variant.working == "float32"])
def test_softmax_takes_the_devices_power_of_two(kernel):
    assert kernel.assembly.count(r"ex2\.approx") >= 1


DIVIDES = r"(div|rem)\.[su]64"
"""An instruction that becomes a hundred of the machine's."""


@pytest.mark.parametrize("how", ["vectors", "unaligned"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sample_weights_are_found_without_dividing_for_each_element(dtype, how):
    made = variant(jitloss.mse_loss.definition, dtype, weights=True)
    assert compiled(made, plans(made)[how]).count(DIVIDES) == 0
    assert compiled(made, plans(made, each=False)[how]).count(DIVIDES) == 1


def test_sample_weights_are_read_as_the_elements_are():
    made = variant(jitloss.mse_loss.definition, "float32", weights=True)
    assert (
        compiled(made, plans(made)["vectors"]).vector_loads == 1 + compiled(made, plans(made, each=False)["vectors"]).vector_loads
    )


# The kernels around a loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_total_links(dtype, divided):
    assembly = assembly_of(compiler.total(1024, dtype, divided))
    assert link(assembly.text).spills == 0
    assert not assembly.has_local_memory


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("weights", ["", "float32"])
@pytest.mark.parametrize("labels", ["", "int64", "uint8"])
@pytest.mark.parametrize("working", ["float32", "float64"])
def test_the_count_links(working, labels, weights, classes):
    assembly = assembly_of(compiler.counting(1024, working, labels, weights, classes))
    assert link(assembly.text).spills == 0
    assert not assembly.has_local_memory


# Other devices ----------------------------------------------------------------------------------------------------------------

FAMILIES = {
    "pointwise": ("huber_loss", "vectors"),
    "one element at a time": ("huber_loss", "unaligned"),
    "a thread": ("cross_entropy_with_logits", "short"),
    "a warp": ("cross_entropy_with_logits", "kept-by-warp"),
    "a block": ("cross_entropy_with_logits", "kept-by-block"),
    "read again": ("cross_entropy_with_logits", "long"),
    "an inner axis": ("cross_entropy_with_logits", "inner-axis"),
    "dense": ("triplet_loss", "kept-by-block"),
}
"""A loss with a largest or a clipped number, and the plan of its kernel."""


def source_of(family, dtype):
    name, how = FAMILIES[family]
    made = variant(jitloss.LOSSES[name].definition, dtype)
    return compiler.loss(made, plans(made, clusters=False)[how])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_link_for_the_oldest_devices(family, dtype):
    assembly = assembly_of(source_of(family, dtype), OLDEST)
    assert ".target sm_75" in assembly.text
    assert link(assembly.text, OLDEST).code.startswith(b"\x7fELF")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stage", ["peaks", "sums", "slopes"])
def test_pieces_of_rows_link_for_the_oldest_devices(stage, dtype):
    made = variant(jitloss.cross_entropy_with_logits.definition, dtype)
    plan = split(plans(made, clusters=False)["long"])
    assert link(assembly_of(compiler.split(made, plan, stage), OLDEST).text, OLDEST)


def test_kernels_around_a_loss_link_for_the_oldest_devices():
    for source in (
        compiler.total(1024, "float32", True),
        compiler.counting(1024, "float32", "int64", "float32", True),
        compiler.adding(("float32", "float64"), "float64"),
    ):
        assert link(assembly_of(source, OLDEST).text, OLDEST)


@pytest.mark.parametrize("first", [OLDEST, CAPABILITY], ids=str)
def test_a_kernel_for_two_kinds_of_devices(first, monkeypatch):
    """Code for the older device has no instructions of the newer one, whichever is compiled first."""
    texts = {}

    def compiled(source, capability):
        texts[capability] = assembly_of(source, capability).text
        return b".text._Zkernel\0"

    monkeypatch.setattr(launch, "_capability", lambda device: device)
    monkeypatch.setattr(launch, "cubin", compiled)
    monkeypatch.setattr("cuda.core.ObjectCode", Mock())
    kernel = launch.Kernel(source_of, "a block", "float32")
    for device in sorted((OLDEST, CAPABILITY), reverse=first == CAPABILITY):
        kernel._load(device)
    assert {capability: "max.NaN.f32" in text for capability, text in texts.items()} == {OLDEST: False, CAPABILITY: True}
