"""Calls that the plan of an earlier one must not serve, and unlimited numbers of inputs, terms and processes."""

import itertools
import os
import subprocess
import sys
import tarfile
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

import jitloss
import processes
from jitloss import outputs
from jitloss.compilers import cpu

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# Plans of earlier calls -------------------------------------------------------------------------------------------------------


def test_strided_targets_of_a_large_call():
    p, t = np.zeros(50_000), np.zeros(100_000)
    t[1::2] = 1.0
    for _ in range(2):
        assert jitloss.mse_loss(p, p) == 0.0
    assert jitloss.mse_loss(p, t[::2]) == 0.0
    assert jitloss.mse_loss(p, t[1::2]) == 1.0


def test_an_output_over_a_part_of_its_own_input():
    size = 50_000
    buffer = np.arange(size + 16, dtype=np.float32)
    x, penalty = buffer[:size], jitloss.l2_regularization.value_and_gradient
    for _ in range(2):
        penalty(x, out=np.empty_like(x))
    before = buffer.copy()
    with pytest.raises(ValueError, match="out overlaps"):
        penalty(x, out=buffer[16:])
    np.testing.assert_array_equal(buffer, before)


def test_outputs_over_each_other():
    rows, names = 700, ("anchor", "positive", "negative")
    inputs = [np.full((rows, 64), number, np.float32) for number in range(3)]
    buffer = np.zeros((2 * rows, 64), np.float32)
    fine = dict(zip(names, (np.empty_like(one) for one in inputs), strict=True))
    for _ in range(2):
        jitloss.triplet_loss.value_and_gradient(*inputs, out=fine)
    with pytest.raises(ValueError, match="out overlaps"):
        jitloss.triplet_loss.value_and_gradient(*inputs, out=fine | {"anchor": buffer[:rows], "negative": buffer[1 : rows + 1]})
    assert (buffer == 0.0).all()


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64, np.float32])
def test_an_output_over_the_targets(dtype):
    """Labels of another dtype are copied, and the copy overlaps nothing."""
    memory = np.zeros(1600, np.uint8)
    logits, out = np.zeros((100, 4), np.float32), memory.view(np.float32).reshape(100, 4)
    labels = memory[: 100 * np.dtype(dtype).itemsize].view(dtype) if dtype != np.float32 else out.copy() * 0 + 0.25
    given = labels if dtype != np.float32 else memory.view(np.float32)[::1].reshape(100, 4)
    for _ in range(3):
        jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels.copy(), out=np.empty_like(logits))
    with pytest.raises(ValueError, match="out overlaps"):
        jitloss.cross_entropy_with_logits.value_and_gradient(logits, given, out=out)
    assert (memory == 0).all()


@pytest.mark.parametrize("shape", [(200, 4), (200, 100), (40, 300), (5000, 70)])
@pytest.mark.parametrize("axis", [-1, 0])
def test_labels_that_somebody_writes_to(shape, axis, monkeypatch):
    """They were valid when they were checked: later writes to them must not make a kernel access memory outside the arrays."""
    logits, labels = np.zeros(shape, np.float32), np.zeros(shape[0] if axis else shape[1], np.int64)
    run = cpu.run

    def run_with_other_labels(kernel, words, *rest):
        if len(words) > 9:  # which is no count of labels
            next(one for one in words if isinstance(one, np.ndarray) and one.dtype == np.int64)[:] = np.resize(
                [2**40, -5, 10**6, 2**62], len(labels)
            )
        return run(kernel, words, *rest)

    monkeypatch.setattr(cpu, "run", run_with_other_labels)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, axis=axis, label_smoothing=0.1)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@jitloss.pointwise
def sign_of_a_zero(prediction, target, alpha=1.0):
    return (1.0 if alpha == 0.0 and 1.0 / alpha < 0.0 else 2.0), alpha


def test_zero_and_minus_zero_are_two_parameters():
    p = np.zeros(3)
    assert [sign_of_a_zero(p, p, alpha=alpha) for alpha in (0.0, 0.0, -0.0, -0.0, 0.0)] == [2.0, 2.0, 1.0, 1.0, 2.0]


def test_an_axis_of_arrays_of_another_rank():
    loss, logits = jitloss.cross_entropy_with_logits, np.arange(12.0).reshape(3, 4) % 5
    for _ in range(2):
        loss(logits, [0, 1, 2], axis=1)
    images, labels = np.arange(32.0).reshape(2, 4, 4) % 7, np.zeros((2, 4), int) + np.arange(4)
    want = loss(np.moveaxis(images, 1, -1).copy(), labels)
    for _ in range(2):
        np.testing.assert_allclose(loss(images, labels, axis=1), want)


def test_a_type_that_is_registered_after_it_was_refused():
    class Late:
        pass

    with pytest.raises(TypeError, match="not supported"):
        jitloss.mse_loss(Late(), Late())
    jitloss.register_array_type(Late, to_numpy=lambda one: np.zeros(2), call=lambda form, args, options: "called")
    assert jitloss.mse_loss(Late(), Late()) == "called"


def test_an_overlap_that_nobody_can_decide_is_one():
    random, buffer = np.random.default_rng(0), np.zeros(3_000_000)
    for _ in range(100):
        one, other = (
            np.lib.stride_tricks.as_strided(buffer[start:], (7,) * 6, tuple(8 * random.integers(20_000, 60_000, 6)))
            for start in (0, int(random.integers(1, 5000)))
        )
        try:
            np.shares_memory(one, other, max_work=10_000)
        except np.exceptions.TooHardError:
            assert outputs._overlap(one, other)
            return
    pytest.fail("no pair was hard enough")


# Sums -------------------------------------------------------------------------------------------------------------------------


@jitloss.pointwise
def without_a_second_derivative(prediction, target):
    return prediction * target, target


@jitloss.pointwise
def of_one_input(prediction):
    return prediction * prediction, 2.0 * prediction


def test_sums_have_what_all_members_have():
    for total in (jitloss.mse_loss + without_a_second_derivative, without_a_second_derivative + jitloss.mse_loss):
        value, gradient = total.value_and_gradient([1.0, 2.0], [3.0, 4.0], reduction="sum")
        assert (value, gradient.tolist()) == (19.0, [-1.0, 0.0])
        with pytest.raises(NotImplementedError, match="second derivative is not defined"):
            total.value_gradient_hessian([1.0, 2.0], [3.0, 4.0])
    with pytest.raises(TypeError, match="they take different inputs"):
        jitloss.l2_regularization + of_one_input


def test_long_sums():
    """Numba recurses into each function that is called, and Python's recursion is limited."""
    huber, terms = jitloss.huber_loss, 40
    total = huber
    for number in range(1, terms):
        total = total + 0.5 * huber.with_parameters(delta=1.0 + number)
    assert total(np.ones(4), np.zeros(4)) == pytest.approx(0.5 + 0.5 * 0.5 * (terms - 1))


def test_kernels_do_not_depend_on_defaults():
    p, t = np.linspace(-3.0, 3.0, 5), np.zeros(5)
    mixed = jitloss.mse_loss + 0.5 * jitloss.huber_loss
    jitloss.huber_loss.value_and_gradient(p, t, delta=0.5)
    mixed.value_and_gradient(p, t, delta=0.5)
    before = len(cpu._kernels)
    for delta in (0.25, 0.75, 2.0):
        other = jitloss.huber_loss.with_parameters(delta=delta)
        want = jitloss.huber_loss.value_and_gradient(p, t, delta=delta)
        for got, wanted in zip(other.value_and_gradient(p, t), want, strict=True):
            np.testing.assert_array_equal(got, wanted)
        total = jitloss.mse_loss + 0.5 * other
        for got, wanted in zip(total.value_and_gradient(p, t), mixed.value_and_gradient(p, t, delta=delta), strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert len(cpu._kernels) == before
    two = jitloss.huber_loss + jitloss.huber_loss.with_parameters(delta=0.5)  # which has two parameters, not one
    assert two(p, t) == pytest.approx(jitloss.huber_loss(p, t) + jitloss.huber_loss(p, t, delta=0.5))


# Inputs -----------------------------------------------------------------------------------------------------------------------

MANY = "def many(prediction, {names}):\n    error = prediction - ({names_added})\n    return error * error, 2.0 * error"


@pytest.mark.parametrize("size", [5, 100_000])
def test_many_inputs(size):
    """A kernel's table has a word for each."""
    names, scope = [f"a{number}" for number in range(70)], {}
    exec(MANY.format(names=", ".join(names), names_added=" + ".join(names)), scope)
    loss, one = jitloss.pointwise(scope["many"]), np.ones(size)
    for _ in range(2):
        value, gradient = loss.value_and_gradient(one * 72.0, *[one] * 70)
        assert value == 4.0
        np.testing.assert_allclose(gradient, 4.0 / size)


# Processes --------------------------------------------------------------------------------------------------------------------


def fork_while_another_thread_compiles() -> list[bool]:
    """The child compiles too: it must not inherit a compiler that is busy."""
    ended = []
    losses = itertools.cycle([jitloss.mse_loss, jitloss.huber_loss, jitloss.l1_loss, jitloss.log_cosh_loss])
    working = threading.Event()

    def compile_one_after_the_other() -> None:
        for number, loss in zip(range(8), losses, strict=False):
            working.set()
            loss.value_gradient_hessian(np.ones(3, "f4f8"[2 * (number // 4) :][:2]), np.ones(3))

    thread = threading.Thread(target=compile_one_after_the_other)
    thread.start()
    working.wait()
    for _ in range(3):
        time.sleep(0.02)
        child = os.fork()
        if not child:
            os._exit(int(jitloss.quantile_loss([1.0], [0.0]) != 0.5))
        deadline, done = time.monotonic() + 60, 0
        while not done and time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.01)
        if not done:
            os.kill(child, 9)
            os.waitpid(child, 0)
        ended.append(bool(done) and os.waitstatus_to_exitcode(status) == 0)
    thread.join()
    return ended


def fork_in_many_threads() -> list[bool]:
    """Each takes the locks before it forks, and lets go of its own ones."""
    jitloss.mse_loss([1.0], [0.0])
    ended = []

    def fork_again_and_again() -> None:
        for _ in range(30):
            child = os.fork()
            if not child:
                os._exit(0)
            ended.append(os.waitpid(child, 0)[1] == 0)

    threads = [threading.Thread(target=fork_again_and_again) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    return [
        len(ended) == 240,
        all(ended),
        not any(thread.is_alive() for thread in threads),
        jitloss.mse_loss([1.0], [0.0]) == 1.0,
    ]


def fork_while_numba_is_busy() -> list[bool]:
    """Numba is compiling something that is not ours: the child does not wait for it."""
    from numba.core.compiler_lock import global_compiler_lock

    jitloss.mse_loss([1.0], [0.0])
    held, done = threading.Event(), threading.Event()

    def compile_for_long() -> None:
        with global_compiler_lock:
            held.set()
            done.wait(1.0)

    thread = threading.Thread(target=compile_for_long)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        os._exit(int(jitloss.quantile_loss([1.0], [0.0]) != 0.5))
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    return [status == 0]


FORKS = [fork_while_another_thread_compiles, fork_in_many_threads, fork_while_numba_is_busy]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("scenario", FORKS, ids=lambda one: one.__name__)
def test_forks(scenario, tmp_path):
    results = processes.call(scenario, NUMBA_CACHE_DIR=str(tmp_path))
    assert results == [True] * len(results)


def test_what_is_published_holds_its_tests(tmp_path):
    assert PROJECT["build-system"]["requires"][0] in PROJECT["project"]["optional-dependencies"]["test"]
    build = "import sys, setuptools.build_meta as meta; print(meta.build_sdist(sys.argv[1]))"
    copy = tmp_path / "copy"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        listed = [str(one.relative_to(ROOT)) for one in ROOT.rglob("*") if one.is_file() and "__pycache__" not in one.parts]
    for name in listed:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    done = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=copy, capture_output=True, text=True, check=True)
    with tarfile.open(tmp_path / done.stdout.split()[-1]) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    wanted = {name for name in listed if name.startswith(("src/", "tests/", "docs/", "benchmarks/", "scripts/", "examples/"))}
    assert wanted - held == set()


@pytest.mark.parametrize("smoothing", [{}, {"label_smoothing": 0.1}])
def test_an_axis_of_arrays_of_another_rank_that_are_read_as_they_are(smoothing):
    loss, logits = jitloss.cross_entropy_with_logits, np.arange(12.0).reshape(3, 4) % 5
    for _ in range(2):
        loss(logits, np.array([0, 1, 2]), axis=1, **smoothing)
    images, labels = np.arange(32.0).reshape(2, 4, 4) % 7, np.zeros((2, 4), int) + np.arange(4)
    other = {name: 2.0 * number for name, number in smoothing.items()}  # a number that no plan has been found by
    for options in (smoothing, other):
        want = loss(np.moveaxis(images, 1, -1).copy(), labels, **options)
        for _ in range(2):
            np.testing.assert_allclose(loss(images, labels, axis=1, **options), want)
