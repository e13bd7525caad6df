"""Threads: bitwise identical results for any number, concurrent Python threads, forks and spawns, the user's settings left unchanged."""

import hashlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import processes
from cases import CASES, Case, draw
from jitloss.running import SERIAL

LAYOUTS = {"flat": ((100_003,), -1), "blocks": ((9001, 11), -1), "rows": ((40, 2500), -1), "lanes": ((3, 50, 700), 1)}
"""Shapes and class axes of calls that take all threads, one for every layout of a kernel."""

LAYERS = ["workqueue"]
for _layer, _module in (("omp", "omppool"), ("tbb", "tbbpool")):
    try:
        __import__(f"numba.np.ufunc.{_module}")
        LAYERS.append(_layer)
    except ImportError:
        pass  # this layer is not installed

each_layer = pytest.mark.parametrize("layer", LAYERS)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def layouts_of(case: Case) -> list[str]:
    return ["blocks", "rows", "lanes"] if case.rowwise else ["flat"]


def evaluate(case: Case, layout: str, dtype: str = "float32"):
    shape, axis = LAYOUTS[layout]
    inputs = draw(case, shape, dtype, axis=axis)
    return case.loss.value_and_gradient(*inputs, **({"axis": axis} if case.rowwise else {}))


def digest(value, gradient) -> str:
    """Every bit of a result."""
    arrays = gradient.values() if isinstance(gradient, dict) else [gradient]
    return hashlib.sha256(b"".join([np.float64(value).tobytes(), *(array.tobytes() for array in arrays)])).hexdigest()


def test_these_calls_take_all_threads():
    assert all(np.prod(shape) > 2 * SERIAL for shape, _ in LAYOUTS.values())


# The same bits ----------------------------------------------------------------------------------------------------------------


def digests() -> dict[str, list[str]]:
    """For every loss and layout the distinct results over all allowed numbers of threads, twice each."""
    counts = 2 * list(range(1, numba.config.NUMBA_NUM_THREADS + 1))
    return {f"{case} {layout}": sorted(_digests(case, layout, counts)) for case in CASES for layout in layouts_of(case)}


def _digests(case: Case, layout: str, counts: list[int]) -> set[str]:
    seen = set()
    for count in counts:
        numba.set_num_threads(count)
        seen.add(digest(*evaluate(case, layout)))
    return seen


def test_same_bits_with_any_number_of_threads():
    by_count = {count: processes.call(digests, NUMBA_NUM_THREADS=count) for count in ("1", "2", "4")}
    assert len(by_count["1"]) >= len(CASES)
    for name, seen in by_count["1"].items():
        assert len(seen) == 1, f"{name}: differs from run to run"
        assert by_count["2"][name] == seen, f"{name}: differs with 2 threads"
        assert by_count["4"][name] == seen, f"{name}: differs with up to 4 threads"


def settings() -> list[int]:
    """The user's thread settings before and after calls, in the main thread and in another one."""
    numba.set_num_threads(2)
    read = [numba.get_num_threads()]
    evaluate(CASES[0], "flat")
    read.append(numba.get_num_threads())
    numba.set_num_threads(1)
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(numba.get_num_threads).result()
        pool.submit(evaluate, CASES[0], "flat").result()
        read.append(pool.submit(numba.get_num_threads).result() - before)
    evaluate(CASES[0], "flat")
    return [*read, numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS, int(os.environ["NUMBA_NUM_THREADS"])]


@each_layer
def test_thread_settings_are_the_users(layer):
    assert processes.call(settings, NUMBA_NUM_THREADS="3", NUMBA_THREADING_LAYER=layer) == [2, 2, 0, 1, 3, 3]


# Several Python threads at once -----------------------------------------------------------------------------------------------

HAMMERED = [case for case in CASES if case.name in ("mse_loss", "binary_cross_entropy_with_logits", "cross_entropy_with_logits")]


def jobs():
    """Calls large and small, of several losses, that can run in any order; each gives the digest of its result."""
    for case in HAMMERED:
        for layout in layouts_of(case):
            yield lambda case=case, layout=layout: digest(*evaluate(case, layout))
        small = draw(case, case.shape, "float32")
        yield lambda case=case, small=small: digest(*case.loss.value_and_gradient(*small))


def hammer(threads: int, rounds: int) -> dict[str, int]:
    """Run all jobs in many threads; returns how many calls were made, and how many were wrong."""
    work = list(jobs())
    start = threading.Barrier(threads)

    def one(number: int) -> list[tuple[int, str]]:
        order = np.random.default_rng(number)
        start.wait()  # the first calls of all threads, compilation included, come at the same time
        return [(int(job), work[job]()) for _ in range(rounds) for job in order.permutation(len(work))]

    with ThreadPoolExecutor(threads) as pool:
        results = list(itertools.chain(*pool.map(one, range(threads))))
    wanted = [job() for job in work]
    return {"calls": len(results), "wrong": sum(wanted[job] != got for job, got in results)}


def test_many_python_threads():
    result = processes.call(hammer, 4, 4, NUMBA_NUM_THREADS="2")
    assert result == {"calls": 4 * 4 * len(list(jobs())), "wrong": 0}


def compile_at_once(threads: int) -> dict[str, int]:
    """The same first call from several threads, small and large; returns the numbers of compiled kernels and of distinct results."""
    compiled = processes.watch()
    start = threading.Barrier(threads)
    rows = draw(HAMMERED[-1], (40, 300), "float32")

    def one(number: int) -> str:
        start.wait()
        return digest(*evaluate(HAMMERED[0], "flat")) + digest(*HAMMERED[-1].loss.value_and_gradient(*rows))

    with ThreadPoolExecutor(threads) as pool:
        results = set(pool.map(one, range(threads)))
    kernels = [name for name in compiled if "pointwise_kernel" in name or "rows_kernel" in name]
    return {"compiled": len(kernels), "results": len(results)}


def test_two_threads_compile_a_kernel_once(tmp_path):
    assert processes.call(compile_at_once, 4, NUMBA_CACHE_DIR=str(tmp_path)) == {"compiled": 2, "results": 1}


# Forks ------------------------------------------------------------------------------------------------------------------------


def child_is_right(wanted: list[str], seconds: float = 20.0) -> bool:
    """Fork, and let the child compute the jobs again; False if it is killed, hangs or is wrong."""
    child = os.fork()
    if child == 0:
        os._exit(0 if [job() for job in jobs()] == wanted else 1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            print(f"the child ended with {os.waitstatus_to_exitcode(status)}", file=sys.stderr)
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("the child hung", file=sys.stderr)
    return False


def fork_after_a_parallel_call() -> list[bool]:
    wanted = [job() for job in jobs()]
    return [child_is_right(wanted), [job() for job in jobs()] == wanted, child_is_right(wanted)]


def fork_during_a_parallel_call() -> list[bool]:
    """Fork again and again while other threads are in parallel calls."""
    wanted, done = [job() for job in jobs()], threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            evaluate(HAMMERED[0], "flat")

    busy = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        return [child_is_right(wanted) for _ in range(5)]
    finally:
        done.set()
        for thread in busy:
            thread.join()


@forks
@pytest.mark.parametrize("scenario", [fork_after_a_parallel_call, fork_during_a_parallel_call], ids=lambda one: one.__name__)
def test_fork(scenario):
    result = processes.call(scenario, NUMBA_NUM_THREADS="2")
    assert result == [True] * len(result)


# multiprocessing --------------------------------------------------------------------------------------------------------------


def one_job(number: int) -> str:
    return list(jobs())[number]()


def in_workers(method: str) -> list[bool]:
    """Whether workers of ``multiprocessing`` compute what this process does: first workers that it starts before any call of its
    own, which may use threads, then some that it starts afterwards.
    """
    jobs_count = len(list(jobs()))
    early = _in_a_pool(method, jobs_count)
    wanted = [job() for job in jobs()]
    return [early == wanted, _in_a_pool(method, jobs_count) == wanted]


def _in_a_pool(method: str, count: int) -> list[str]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map_async(one_job, range(count)).get(timeout=60)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method):
    result = processes.call(in_workers, method, NUMBA_NUM_THREADS="2")
    assert result == [True, True]


LOADING = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import numpy as np, jitloss
x = np.ones(3)
first = threading.Thread(target=lambda: [loss(x, x) for loss in (jitloss.mse_loss, jitloss.l1_loss)])
first.start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if child == 0:
    signal.alarm(20)  # ends it where it hangs
    os._exit(0 if jitloss.huber_loss(x, x) == 0.0 else 1)
first.join()
print(os.waitpid(child, 0)[1])
"""


@forks
@pytest.mark.parametrize("wait", ["0.05", "0.1", "0.3"])
def test_a_fork_while_another_thread_loads_the_compiler(wait, tmp_path):
    """It neither deadlocks on a lock that numba needs meanwhile, nor leaves the child with a locked one."""
    assert processes.python("-c", LOADING, wait, NUMBA_CACHE_DIR=str(tmp_path), timeout=60.0).strip() == "0"


COMPILING = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import numpy as np, jitloss, many_losses
x = np.ones(3)
jitloss.mse_loss(x, x)
done = threading.Event()
def compile():
    for number in range(200):
        if not done.is_set():
            many_losses.LOSSES[number].value_and_gradient(x, x)
thread = threading.Thread(target=compile)
thread.start()
for number in range(16):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends it where it hangs
        os._exit(0 if many_losses.LOSSES[200 + number](x, x) == 0.0 else 1)
    assert os.waitpid(child, 0)[1] == 0
done.set()
thread.join()
"""

ONE_OF_MANY = """
@jitloss.pointwise
def loss_{number}(prediction, target):
    error = prediction - target
    return {number}.0 * error * error, {number}.0 * 2.0 * error
"""


@forks
def test_forks_while_another_thread_compiles(tmp_path):
    losses = range(1, 217)
    lines = [ONE_OF_MANY.format(number=number) for number in losses]
    lines = ["import jitloss", *lines, f"LOSSES = [{', '.join(f'loss_{number}' for number in losses)}]"]
    (tmp_path / "many_losses.py").write_text("\n".join(lines))
    processes.python("-c", COMPILING, cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path), timeout=90.0)


BEFORE_LOADING = """
import os, threading, time, warnings
warnings.simplefilter("ignore")
import numpy as np, jitloss
from jitloss import running

def hold():
    with running._loading:
        holding.set()
        time.sleep(1.0)

holding, done = threading.Event(), []
if {stuck}:  # a thread that loads for longer than a fork waits, and is not in the child
    running.LONGEST_WAIT = 0.01
    threading.Thread(target=hold).start()
    holding.wait()
child = os.fork()
threading.Thread(target=time.sleep, args=(30.0,), daemon=True).start()  # takes the number of a thread that the child does not have
thread = threading.Thread(target=lambda: done.append(jitloss.mse_loss(np.ones(3), np.ones(3))), daemon=True)
thread.start()
thread.join(30.0)
if child == 0:
    os._exit(done != [0.0])
print(done, os.waitpid(child, 0)[1])
"""


@forks
@pytest.mark.parametrize("stuck", [False, True])
def test_after_a_fork_any_thread_may_load_the_compiler(stuck):
    """In the parent and in the child."""
    assert processes.python("-c", BEFORE_LOADING.format(stuck=stuck)).strip() == "[0.0] 0"


def test_nothing_is_computed_where_numba_compiles_nothing():
    code = "import jitloss\ntry: jitloss.mse_loss([1.0], [0.0])\nexcept RuntimeError as error: print(error)"
    assert "NUMBA_DISABLE_JIT is set" in processes.python("-c", code, NUMBA_DISABLE_JIT="1")
