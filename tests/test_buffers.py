"""Memory for large new arrays: reused once it is no longer referenced, never before, and its old contents never show."""

import mmap
import threading
from typing import Any

import numpy as np
import pytest

import processes
from cases import CASES, Case, draw, weights
from jitloss import buffers, mse_loss
from ways import bits

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_FREE"), reason="this system cannot take memory back")

SIZE = buffers.LARGE // 4
SMALL = 2**14


@pytest.fixture(autouse=True)
def nothing_waits():
    buffers.release()
    yield
    buffers.release()


@pytest.fixture
def all_is_large(monkeypatch):
    """Arrays of any size get memory of this kind."""
    monkeypatch.setattr(buffers, "LARGE", 1)
    monkeypatch.setattr(buffers, "LINED", 1)


def numbers(size: int = SMALL) -> np.ndarray:
    return buffers.empty((size,), np.dtype(np.float32))


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def kept() -> list[mmap.mmap]:
    return [*buffers._ready, *buffers._waiting]


# Whose memory it is -------------------------------------------------------------------------------------------------------------


def test_memory_of_a_gradient_that_is_gone_serves_the_next():
    predictions = np.ones(SIZE, np.float32)
    first = mse_loss.gradient(predictions, np.zeros_like(predictions))
    place = address(first)
    second = mse_loss.gradient(predictions, predictions)
    assert not np.shares_memory(first, second)
    assert (first[0], second[0]) == (np.float32(2.0 / SIZE), 0.0)
    del first
    assert address(mse_loss.gradient(predictions, predictions)) == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array[5:9],
        lambda array: array.reshape(2, -1).T[::2],
        lambda array: array.view(np.uint8),
        lambda array: memoryview(array),
        lambda array: np.asarray(array.base),
        lambda array: memoryview(array[3:])[1:],
        lambda array: array.ctypes,
        lambda array: np.frombuffer(array),
        lambda array: [array],
    ],
)
def test_memory_waits_for_its_last_view(all_is_large, hold):
    array = numbers()
    place, held = address(array), hold(array)
    del array
    assert address(numbers()) != place
    del held
    assert place in {address(one) for one in [numbers(), numbers()]}


def test_an_array_may_be_smaller_than_the_memory_but_not_by_half(all_is_large):
    place = address(numbers())
    assert address(numbers(SMALL // 2 - 1)) != place
    array = numbers(SMALL // 2)
    assert address(array) == place
    assert array.nbytes == 2 * SMALL


def test_an_array_takes_the_smallest_memory_that_suits(all_is_large):
    arrays = [numbers(size) for size in (2 * SMALL - 64, SMALL, SMALL + 64)]
    places = [address(one) for one in arrays]
    while arrays:
        del arrays[0]
    assert [address(one) for one in [numbers(), numbers(), numbers()]] == [places[1], places[2], places[0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool"])
def test_an_array_has_its_shape_and_starts_on_a_line(all_is_large, dtype):
    array = buffers.empty((3, 5, 7), np.dtype(dtype))
    assert (array.shape, array.dtype) == ((3, 5, 7), dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert not address(array) % buffers.LINE
    array[...] = 1
    assert array.all()


def test_small_arrays_are_numpys_own():
    assert numbers(100).base is None


# What waits -------------------------------------------------------------------------------------------------------------------


def places_of(those: list[mmap.mmap]) -> list[int]:
    return [address(np.frombuffer(one)) for one in those]


def test_what_came_last_is_ready_and_what_has_waited_longest_goes(all_is_large, monkeypatch):
    monkeypatch.setattr(buffers, "MOST_WAITING", 3 * (4 * SMALL + buffers.LINE))
    monkeypatch.setattr(buffers, "MOST_READY", 4 * SMALL + buffers.LINE)
    marked: list[int] = []
    real = buffers._mark
    monkeypatch.setattr(buffers, "_mark", lambda memory: marked.extend(places_of([memory])) or real(memory))
    arrays = [numbers() for _ in range(4)]
    places = [address(one) for one in arrays]
    while arrays:
        del arrays[0]
    assert places_of(buffers._ready) == places[3:]
    assert places_of(buffers._waiting) == places[1:3]
    assert marked == places[:3]
    assert [address(one) for one in [numbers(), numbers()]] == [places[3], places[1]]


def test_a_loop_marks_nothing(all_is_large, monkeypatch):
    monkeypatch.setattr(buffers, "_mark", lambda memory: pytest.fail("marked"))
    assert len({address(numbers()) for _ in range(5)}) == 1


def test_what_is_larger_than_all_that_may_wait_does_not(all_is_large, monkeypatch):
    monkeypatch.setattr(buffers, "MOST_WAITING", SMALL)
    monkeypatch.setattr(buffers, "MOST_READY", SMALL)
    numbers()
    assert not kept()


def _fails(*args: Any, **options: Any) -> Any:
    raise OSError(12, "Cannot allocate memory")


def test_where_there_is_no_memory_what_waits_goes_and_numpy_is_asked(all_is_large, monkeypatch):
    numbers()
    assert kept()
    monkeypatch.setattr(mmap, "mmap", _fails)
    assert numbers(SMALL * 4).shape == (SMALL * 4,)
    assert not kept()
    with pytest.raises(MemoryError, match="allocate"):
        numbers(2**60)


class _Locked:
    """Memory that the system cannot reclaim."""

    madvise = staticmethod(_fails)

    def __len__(self) -> int:
        return buffers.MOST_READY + 1


def test_memory_that_cannot_be_taken_back_does_not_wait():
    buffers._give(_Locked())
    assert not kept()


def test_systems_that_take_nothing_back_have_numpys_arrays(monkeypatch):
    monkeypatch.setattr(buffers, "_maps", lambda: None)
    value, gradient = mse_loss.value_and_gradient(np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32))
    assert (value, gradient[0]) == (1.0, np.float32(2.0 / SIZE))
    del gradient
    assert not kept()


def test_none_is_kept_where_memory_is_counted(all_is_large):
    with buffers.without_reuse():
        numbers()
    assert not kept()
    numbers()
    assert kept()


# Results ----------------------------------------------------------------------------------------------------------------------


def poison() -> None:
    """Leave memory waiting that is full of conspicuous numbers."""
    arrays = [numbers(size) for size in (64, 128, 512, 2048, 2**13) for _ in range(4)]
    for array in arrays:
        array[...] = np.nan


@pytest.mark.parametrize(
    ("case", "reduction"), [(case, "none") for case in CASES] + [(case, "mean") for case in CASES if case.rowwise], ids=str
)
def test_nothing_comes_through(all_is_large, monkeypatch, case: Case, reduction: str):
    rows = (40, 11) if case.rowwise else (440,)
    inputs = draw(case, rows, "float32", ignored=case.labels)
    options: dict[str, Any] = {"reduction": reduction, "sample_weight": weights(rows[:1])}
    if case.loss.definition.is_penalty:
        options = {}
    form = case.loss.value_gradient_hessian if case.loss.definition.hessian else case.loss.value_and_gradient  # all that there is
    poison()
    got = bits(form(*inputs, **options))
    monkeypatch.setattr(buffers, "_take", lambda size: None)
    assert got == bits(form(*inputs, **options))


def test_rows_without_elements_and_sums_of_nothing_are_zero(all_is_large):
    poison()
    losses = CASES[[repr(case) for case in CASES].index("cross_entropy_with_logits-labels")].loss
    values = losses(np.empty((32, 0), np.float32), np.full(32, -100), reduction="none")
    assert not values.any()
    poison()
    value, gradient = losses.value_and_gradient(np.ones((32, 4), np.float32), np.full(32, -100))
    assert (value, gradient.any()) == (0.0, False)


def test_threads_have_memory_of_their_own(all_is_large):
    wrong: list[str] = []

    def work(seed: int) -> None:
        predictions = np.full(SMALL, seed, np.float32)
        for _ in range(300):
            gradient = mse_loss.gradient(predictions, np.zeros_like(predictions), reduction="sum")
            if not (gradient == 2.0 * seed).all():
                wrong.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_gradients_that_live_until_the_end_of_the_process_make_no_noise():
    code = f"""
import numpy as np, jitloss
ones = np.ones({SIZE}, np.float32)
gradient = jitloss.mse_loss.gradient(ones, ones)
class Holder: pass
ring = Holder(); ring.self, ring.gradient = ring, jitloss.mse_loss.gradient(ones, ones)
"""
    process = processes.start("-X", "dev", "-c", code)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_release_gives_back_what_is_marked_too(all_is_large, monkeypatch):
    monkeypatch.setattr(buffers, "MOST_READY", 0)
    numbers()
    assert buffers._waiting
    buffers.release()
    assert not kept()


def test_what_an_allocator_keeps_itself_does_not_wait_here():
    assert buffers.empty((buffers.LINED,), np.dtype(np.uint8)).nbytes < buffers.LARGE
    assert not kept()
