"""Calls of losses whose kernels run in the PTX emulator, and what that rejects."""

from fractions import Fraction

import numpy as np
import pytest

import jitloss
import toolkit

if reason := toolkit.missing():
    pytest.skip(reason, allow_module_level=True)

from cases import DTYPES, EDGES, Case, agree, draw, weights
from imagined import MACHINE, Array, _library, imagined_device, memory
from kernels import CAPABILITY, OLDEST
from kits import MSE, SOFTMAX, bits, check, got_back
from machine import Fault, Program
from test_rowwise import DWARFED


@pytest.fixture
def device():
    with imagined_device():
        yield


# Several kernels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"normalizer": "weights"}, {"reduction": "none"}], ids=str)
@pytest.mark.parametrize("shape", [(33, 7), (300, 7)], ids=["one block", "several"])
def test_means_of_what_is_counted(shape, options, device):
    inputs = draw(SOFTMAX, shape, "float32", ignored=True)
    weight, classes = weights(shape[:1]).astype(np.float32), np.linspace(0.25, 2.0, 7)
    check(SOFTMAX, MACHINE, inputs, "float32", sample_weight=weight, class_weight=classes, **options)


SPREAD = {
    "threads": (SOFTMAX, (300, 7), {}, 3),
    "inner axis": (SOFTMAX, (7, 300), {"axis": 0}, 3),
    "parts of a warp": (SOFTMAX, (40, 100), {}, 2),
    "blocks": (SOFTMAX, (3, 1500), {}, 3),
    "clusters": (SOFTMAX, (2, 32_000), {}, 8),
    "pieces": (SOFTMAX, (2, 140_000), {}, 28),
    "elements": (MSE, (5001,), {}, 3),
}
"""Calls whose divisor is counted before, by what shares a row; and how many blocks divide by it."""


@pytest.mark.parametrize("how", SPREAD)
def test_divisors_of_any_sign(how, device):
    """The value and the gradient are 0 where nothing counts."""
    case, shape, options, _ = SPREAD[how]
    inputs = draw(case, shape, "float32", **options)
    exact = inputs[0].astype(np.float64), inputs[1]
    values, slopes = case.loss.value_and_gradient(*exact, reduction="none", **options)
    count = len(values)
    for weight in (np.linspace(-1.0, 0.25, count), np.append([1.0, -1.0], np.zeros(count - 2))):
        weight, total = weight.astype(np.float32), weight.astype(np.float32).sum(dtype=np.float64)
        got = case.loss.value_and_gradient(
            *map(MACHINE.put, inputs), sample_weight=MACHINE.put(weight), normalizer="weights", **options
        )
        share = weight.astype(np.float64) * (1.0 / total if total else 0.0)
        weights_of_slopes = share if slopes.ndim == 1 or options else share[:, None]
        value, gradient = got_back(MACHINE, got)
        agree(value, (share * values).sum(), "float32", size=max(1.0, abs(share * values).sum()))
        agree(gradient, weights_of_slopes * slopes, "float32", size=max(abs(share).max(), 1e-3))
        assert total or not (value or gradient.any())


@pytest.mark.parametrize("how", SPREAD)
def test_one_warp_of_a_block_reads_what_was_counted(how, device, monkeypatch):
    case, shape, options, blocks = SPREAD[how]
    counted, seen, empty, words = [], [], type(_library).empty, type(memory).words

    def made(self, like, shape, dtype):
        one = empty(self, like, shape, dtype)
        counted.extend([one] * (len(shape) == 2 and shape[0] == 2 and dtype == np.float64))
        return one

    def noted(self, addresses, kind, count):
        seen.extend(int(one) for one in addresses)
        return words(self, addresses, kind, count)

    monkeypatch.setattr(type(_library), "empty", made)
    monkeypatch.setattr(type(memory), "words", noted)
    inputs = [*map(MACHINE.put, draw(case, shape, "float32", **options))]
    weight = MACHINE.put(np.ones(shape[-1 if options else 0], np.float32))
    case.loss.value_and_gradient(*inputs, sample_weight=weight, normalizer="weights", stream=0, **options)  # not a recorded call
    (parts,) = counted
    numbers = parts.shape[1]
    found = sum(parts.address <= one < parts.address + 8 * numbers for one in seen)
    assert found == numbers * (1 + blocks + 1)  # written, read by those blocks, and by the one that adds values


@pytest.mark.parametrize("case", [SOFTMAX, Case(jitloss.kl_divergence)], ids=repr)
def test_few_and_long_rows_are_shared(case, device):
    check(case, MACHINE, draw(case, (2, 140_000), "float32"), "float32")


@pytest.mark.parametrize("columns", [65_536, 16_384])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_devices_without_clusters(dtype, columns):
    with imagined_device((8, 0)):
        check(SOFTMAX, MACHINE, draw(SOFTMAX, (3, columns), dtype), dtype)


@pytest.mark.parametrize("columns", [10, 512, 4100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_oldest_devices(dtype, columns):
    with imagined_device(OLDEST):
        check(SOFTMAX, MACHINE, draw(SOFTMAX, (3, columns), dtype), dtype)


@pytest.mark.parametrize("columns", [193, 2050, 4100, 8192, 32_000, 131_072])
def test_rows_of_bfloat16_that_are_packed(columns, device):
    """By vectors of 1, 2, 4 and 8; by a part of a warp, by blocks and by clusters of them."""
    check(SOFTMAX, MACHINE, draw(SOFTMAX, (3, columns), "bfloat16"), "bfloat16")


@pytest.mark.parametrize("columns", [3, 40, 1000, 140_000])
def test_an_element_that_a_label_makes_small(columns, device):
    """Treated as unlabelled, its term would be large enough to swamp the rest of the row."""
    labels = np.arange(3) * 7 % columns
    logits = np.full((3, columns), -5.0, np.float32)
    logits[np.arange(3), labels] = 40.0
    for loss in DWARFED:
        value, gradient = loss.value_and_gradient(logits.astype(np.float64), labels)
        got = loss.value_and_gradient(MACHINE.put(logits), MACHINE.put(labels))
        assert float(got[0].numpy()) == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(got[1].numpy(), gradient, rtol=1e-5, atol=1e-5 * abs(gradient).max())


def test_sums_of_very_many_blocks(device, monkeypatch):
    """With very many blocks, several blocks add the partial sums first."""
    monkeypatch.setattr("jitloss.device.MOST_SUMMED", 2)
    check(SOFTMAX, MACHINE, draw(SOFTMAX, (700, 7), "float32"), "float32")


def test_a_thread_alone_adds_a_long_row(device):
    """Along an axis that is not the last, one thread adds thousands of terms; compensation keeps their rounding errors."""
    case = Case(jitloss.cross_entropy_loss, labels=True)
    inputs = draw(case, (3000, 3), "float32", axis=0)
    check(case, MACHINE, inputs, "float32", axis=0, label_smoothing=1.0, epsilon=0.05)


def test_values_are_added(device):
    params = {"w": np.linspace(-1.0, 1.0, 33, dtype=np.float32), "b": np.linspace(0.0, 2.0, 7, dtype=np.float32)}
    want = jitloss.l2_regularization.value_and_gradient(params)
    got = jitloss.l2_regularization.value_and_gradient({name: MACHINE.put(one) for name, one in params.items()})
    for mine, right in zip(got_back(MACHINE, got), want, strict=True):
        agree(mine, right, "float32")


# Bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [7, 65_536, 140_000])
def test_bad_labels_touch_no_other_memory(columns, device):
    logits, labels = draw(SOFTMAX, (3, columns), "float32")
    for bad in (columns, -1, 2**40, -(2**62), 2**63 - 1):
        got = jitloss.cross_entropy_with_logits.value_and_gradient(
            MACHINE.put(logits), MACHINE.put(np.array([labels[0], bad, labels[2]])), reduction="none"
        )
        value, gradient = got_back(MACHINE, got)
        assert np.isnan(value).tolist() == [False, True, False]
        assert np.isnan(gradient).all(1).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [3, 9000])
def test_rows_without_columns(rows, dtype, device):
    """There are no classes, so that a label that is not ignored is bad; no memory is read but the labels."""
    loss, logits = jitloss.cross_entropy_with_logits, MACHINE.put(np.zeros((rows, 0), DTYPES[dtype]))
    ignored, bad = np.full(rows, -100), np.full(rows, -100)
    bad[[0, rows - 1]] = 0, -1
    for labels in (ignored, bad):
        for _ in range(2):
            value, gradient = got_back(MACHINE, loss.value_and_gradient(logits, MACHINE.put(labels)))
            np.testing.assert_array_equal(value, np.nan if labels is bad else 0.0)
            assert gradient.shape == (rows, 0)
            values = got_back(MACHINE, loss(logits, MACHINE.put(labels), reduction="none"))
            np.testing.assert_array_equal(values.astype(float), np.where(labels == -100, 0.0, np.nan))
            assert values.dtype == logits.dtype
    weight = MACHINE.put(np.zeros(rows))
    for options in ({"reduction": "sum"}, {"normalizer": "weights", "sample_weight": weight}, {"ignore_index": 0}):
        assert np.isnan(got_back(MACHINE, loss(logits, MACHINE.put(bad), **options)))
    with pytest.raises(ValueError, match=r"targets\[0\].*is 0, but there are no classes"):
        loss(logits, MACHINE.put(bad), check=True)
    assert got_back(MACHINE, loss(logits, logits)) == 0.0
    np.testing.assert_array_equal(got_back(MACHINE, loss(logits, logits, reduction="none")).astype(float), np.zeros(rows))


@pytest.mark.parametrize("shape", [(0, 4), (0, 0), (0,)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_batches(shape, dtype, device):
    loss = jitloss.cross_entropy_with_logits if len(shape) == 2 else jitloss.binary_cross_entropy
    inputs = MACHINE.put(np.zeros(shape, DTYPES[dtype])), MACHINE.put(np.zeros(0, np.int64))
    for options in ({}, {"normalizer": "weights", "sample_weight": MACHINE.put(np.zeros(0))}, {"check": True}):
        assert got_back(MACHINE, loss(*inputs, **options)) == 0.0
    assert got_back(MACHINE, loss(*inputs, reduction="none")).size == 0


def test_errstate_names_a_row_without_columns(device):
    logits, labels = MACHINE.put(np.zeros((3, 0), np.float32)), MACHINE.put(np.array([-100, 0, -100]))
    for reduction in ("mean", "none"):
        with pytest.raises(FloatingPointError, match="item 1"), jitloss.errstate(invalid="raise"):
            jitloss.cross_entropy_with_logits(logits, labels, reduction=reduction)


@pytest.mark.parametrize("shape", [(2500,), (50, 50), (700, 3), (9, 641), (3, 2500), (300, 7, 1)], ids=str)
@pytest.mark.parametrize(("dtype", "weight"), [("float32", "float32"), ("bfloat16", "float64"), ("float64", "int8")])
def test_weights_of_one_element_and_of_several(shape, dtype, weight, device):
    """One weight for as many elements as a vector has, for fewer and for more; the last vectors are incomplete."""
    for axes in range(1, len(shape) + 1):
        given = (4.0 * weights(shape[:axes])).astype(weight)
        for options in ({}, {"reduction": "none"}, {"normalizer": "weights"}):
            check(MSE, MACHINE, draw(MSE, shape, dtype), dtype, sample_weight=given, **options)


def test_weights_that_start_between_vectors(device):
    predictions, targets = draw(MSE, (2501,), "float32")
    given = weights((2501,)).astype(np.float32)
    want = jitloss.mse_loss.value_and_gradient(predictions, targets, sample_weight=given)
    inputs = MACHINE.put(predictions), MACHINE.put(targets)
    got = jitloss.mse_loss.value_and_gradient(*inputs, sample_weight=MACHINE.put(given, 4))
    for mine, right in zip(got_back(MACHINE, got), want, strict=True):
        agree(mine, right, "float32")


@pytest.mark.parametrize("capability", [CAPABILITY, OLDEST], ids=str)
@pytest.mark.parametrize("name", sorted({edge.name for edge in EDGES}))
def test_edges(name, capability):
    """The exact limits, by the device's own exponential."""
    loss = jitloss.LOSSES[name]
    for edge in [edge for edge in EDGES if edge.name == name]:
        pairs = zip(edge.inputs, loss.definition.inputs, strict=True)
        inputs = [MACHINE.put(np.asarray(numbers, np.float32 if one.differentiable else None)) for numbers, one in pairs]
        options = {} if loss.definition.is_penalty else {"reduction": "none"}
        with imagined_device(capability):
            value, gradient = got_back(MACHINE, loss.value_and_gradient(*inputs, **options, **edge.options))
        agree(value, edge.value, "float32", what=f"{edge} value")
        agree(gradient, edge.gradient, "float32", what=f"{edge} gradient")


@pytest.mark.parametrize("columns", [512, 65_536])
@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_in_place(dtype, columns, device):
    inputs = draw(SOFTMAX, (3, columns), dtype)
    logits, labels = map(MACHINE.put, inputs)
    want = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, out=logits)
    assert gradient is logits
    assert bits(got_back(MACHINE, (value, gradient))) == bits(got_back(MACHINE, want))


# The machine ------------------------------------------------------------------------------------------------------------------

HEAD = """.version 9.0
.target sm_90
.shared .align 8 .b8 common[256];
.visible .entry kernel(.param .u64 array, .param .u64 other)
.maxntid 64, 1, 1
{
ld.param.u64 %rd1, [array];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
mov.u64 %rd4, common;
add.s64 %rd5, %rd4, %rd2;
"""


def run(body, array, other=0):
    """Run PTX text in a block of 64 threads, each with the address of its word of an array and of shared memory."""
    held = array if isinstance(array, Array) else Array(array)
    Program.read(HEAD + body + "\nret;\n}").run(memory, 1, [held.address, other])
    return held.numpy()


WORDS = np.arange(64, dtype=np.uint32)

FAULTS = {
    "memory of no array": "ld.global.u32 %r2, [%rd3+4];",
    "at a multiple": "ld.global.u32 %r2, [%rd1+2];",
    "nobody has written": "ld.shared.u32 %r2, [%rd5];",
    "no barrier": "st.shared.u32 [%rd5], %r1; xor.b32 %r2, %r1, 32; mul.wide.u32 %rd6, %r2, 4; add.s64 %rd7, %rd4, %rd6;"
    " ld.shared.u32 %r3, [%rd7];",
    "touch one word": "st.shared.u32 [common], %r1;",
    "do not come": "setp.eq.s32 %p1, %r1, 0; @%p1 bra $END; shfl.sync.bfly.b32 %r2|%p2, %r1, 1, 31, -1; $END:",
    "does not name itself": "shfl.sync.bfly.b32 %r2|%p2, %r1, 1, 31, 1;",
    "does not know": "prefetch.global.L2 [%rd1];",
    "beyond its end": "ld.shared.u32 %r2, [%rd5+256];",
}
"""What no kernel may do, by the words of the refusal."""


@pytest.mark.parametrize("words", FAULTS)
def test_faults(words):
    with pytest.raises(Fault, match=words):
        run(FAULTS[words].replace("; ", ";\n"), WORDS)


def test_a_barrier_and_an_exchange():
    """Each thread adds a number from the other warp, through shared memory, to that of its neighbour, by a shuffle."""
    body = FAULTS["no barrier"].replace("; ", ";\n").replace("%r1;\n", "%r1;\nbar.sync 0;\n", 1)
    body += "\nshfl.sync.bfly.b32 %r4|%p1, %r1, 1, 31, -1;\nadd.s32 %r5, %r3, %r4;\nst.global.u32 [%rd3], %r5;"
    np.testing.assert_array_equal(run(body, WORDS), (WORDS ^ 32) + (WORDS ^ 1))


def test_threads_that_part_come_together():
    """Odd threads loop three times first, and the others wait for them."""
    body = """mov.u32 %r2, 0;
and.b32 %r3, %r1, 1;
setp.eq.s32 %p1, %r3, 0;
@%p1 bra $DONE;
$AGAIN:
add.s32 %r2, %r2, 1;
setp.lt.s32 %p2, %r2, 3;
@%p2 bra $AGAIN;
$DONE:
shfl.sync.bfly.b32 %r4|%p3, %r2, 1, 31, -1;
st.global.u32 [%rd3], %r4;"""
    np.testing.assert_array_equal(run(body, WORDS), np.where(WORDS % 2, 0, 3))


WRITE, READ = "st.shared.u32 [%rd5], %r1;", "ld.u32 %r2, [%rd8];"
ARRIVE, WAIT = "barrier.cluster.arrive.release.aligned;", "barrier.cluster.wait.acquire.aligned;"


def run_cluster(*body):
    """Run two blocks of a cluster; each thread has the address of its word in the other block's shared memory."""
    head = HEAD.replace(".maxntid", ".reqnctapercluster 2, 1, 1\n.maxntid")
    other = ["mov.u32 %r3, %cluster_ctarank;", "xor.b32 %r4, %r3, 1;", "cvta.shared.u64 %rd6, %rd5;", "mapa.u64 %rd8, %rd6, %r4;"]
    Program.read(head + "\n".join([*other, *body]) + "\nret;\n}").run(memory, 2, [Array(WORDS).address, 0])


def test_a_cluster_reads_what_its_blocks_have_written():
    run_cluster(WRITE, ARRIVE, WAIT, READ, ARRIVE, WAIT)
    run_cluster(WRITE, ARRIVE, WAIT, READ, ARRIVE, WAIT, WRITE, ARRIVE, WAIT, READ, ARRIVE, WAIT)


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("no barrier", (WRITE, READ, ARRIVE, WAIT)),
        ("no barrier", (WRITE, ARRIVE, READ, WAIT)),
        ("no barrier", (WRITE, ARRIVE, "bar.sync 0;", WRITE, WAIT, READ, ARRIVE, WAIT)),
        ("no barrier", (WRITE, ARRIVE, WAIT, READ, "bar.sync 0;", WRITE, ARRIVE, WAIT)),
        ("may still read", (WRITE, ARRIVE, WAIT, READ)),
        ("may still read", (WRITE, ARRIVE, WAIT, READ, ARRIVE)),
        ("not said", (WRITE, WAIT)),
    ],
)
def test_faults_of_clusters(words, body):
    with pytest.raises(Fault, match=words):
        run_cluster(*body)


INTEGERS = [
    ("div.s64 %rd8, -7, 2;", -3),
    ("rem.s64 %rd8, -7, 2;", -1),
    ("div.s64 %rd8, 7, -2;", -3),
    ("shr.s64 %rd8, -8, 70;", -1),
    ("shr.u64 %rd8, -8, 60;", 15),
    ("shl.b64 %rd8, 1, 64;", 0),
    ("bfi.b64 %rd8, 5, 255, 4, 8;", 0x5F),
    ("mul.wide.s32 %rd8, -3, 5;", -15),
    ("mul.wide.u32 %rd8, -1, 2;", 2**33 - 2),
    ("cvt.s64.s32 %rd8, -5;", -5),
    ("cvt.u64.u32 %rd8, -5;", 2**32 - 5),
    ("max.u64 %rd8, -1, 1;", -1),
    ("min.s64 %rd8, -1, 1;", -1),
    ("setp.lt.u64 %p1, -1, 1;\nselp.b64 %rd8, 3, 4, %p1;", 4),
    ("setp.ne.f32 %p1, 0f7FC00000, 0f3F800000;\nselp.b64 %rd8, 3, 4, %p1;", 4),
    ("setp.neu.f32 %p1, 0f7FC00000, 0f3F800000;\nselp.b64 %rd8, 3, 4, %p1;", 3),
    ("mov.b64 %rd8, {%r1, %r1};\nmov.b64 {%r2, %r3}, %rd8;\nsub.s32 %r4, %r2, %r3;\ncvt.u64.u32 %rd8, %r4;", 0),
]


@pytest.mark.parametrize(("body", "want"), INTEGERS)
def test_integers(body, want):
    held = Array(np.zeros(1, np.int64))
    run(body + "\nld.param.u64 %rd9, [other];\nst.global.u64 [%rd9], %rd8;", WORDS, held.address)
    assert held.numpy() == [want]


def test_floats():
    """Packed halves, the maximum of a number and NaN, and a fused multiply-add."""
    a, b, c = 1.0 + 2.0**-52, 1.0 - 2.0**-52, -1.0
    numbers, held = Array(np.array([a, b, c])), Array(np.zeros(4))
    body = f"""mov.u64 %rd8, {numbers.address};
ld.param.u64 %rd9, [other];
ld.global.v2.f64 {{%fd1, %fd2}}, [%rd8];
ld.global.f64 %fd3, [%rd8+16];
fma.rn.f64 %fd4, %fd1, %fd2, %fd3;
cvt.rn.bf16x2.f32 %r2, 0f3F800000, 0f40000000;
cvt.u64.u32 %rd10, %r2;
max.f64 %fd5, %fd1, 0d7FF8000000000000;
max.NaN.f32 %f1, 0f3F800000, 0f7FC00000;
cvt.f64.f32 %fd6, %f1;
st.global.f64 [%rd9], %fd4;
st.global.u64 [%rd9+8], %rd10;
st.global.f64 [%rd9+16], %fd5;
st.global.f64 [%rd9+24], %fd6;"""
    run(body, WORDS, held.address)
    got = held.numpy()
    assert got[0] == float(Fraction(a) * Fraction(b) + Fraction(c)) != 0.0
    assert got[1:2].view(np.uint64) == [0x3F804000]
    assert got[2] == a
    assert np.isnan(got[3])


def test_arrays_are_gone_with_their_owners():
    array = Array(WORDS)
    address = array.address
    del array
    with pytest.raises(Fault, match="memory of no array"):
        run("ld.param.u64 %rd8, [other];\nld.global.u32 %r2, [%rd8];", WORDS, address)
