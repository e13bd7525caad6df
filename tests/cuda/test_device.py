"""Calls on a CUDA device, against what the CPU library gives for the same numbers in float64: ``pytest -m cuda tests/cuda``."""

import contextlib
import importlib.util
import inspect
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import jitloss
from cases import ALL, CASES, DTYPES, PARAMETERS, ROWS, Case, agree, draw, is_binary, weights


def missing() -> str | None:
    """Why nothing can run on a device here; None where it can."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return "NUMBA_ENABLE_CUDASIM is set: numba's simulator stands in for the device"
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install '.[cuda]'"
    from jitloss.compilers import cuda

    return None if cuda.device_count() else "there is no CUDA device here, or no driver"


REASON = missing()

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

each_case = pytest.mark.parametrize("case", CASES, ids=repr)
each_row_case = pytest.mark.parametrize("case", ROWS, ids=repr)
each_label_case = pytest.mark.parametrize("case", [case for case in CASES if case.labels], ids=repr)
each_binary_case = pytest.mark.parametrize("case", [case for case in CASES if is_binary(case)], ids=repr)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

SOFTMAX = Case(jitloss.cross_entropy_with_logits, labels=True)
MSE = Case(jitloss.mse_loss)
COLUMNS = (1, 2, 3, 7, 10, 31, 32, 33, 100, 193, 512, 1000, 1001, 4096, 8192, 16384, 32000, 32768, 65537, 128256, 200_000)


# Arrays of each library ---------------------------------------------------------------------------------------------------------


class Exposed:
    """A library that nobody knows: its arrays have the CUDA array interface and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        from numba import cuda

        self.dtype, self.held = array.dtype, cuda.to_device(_as_bits(array))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        kind = "<V2" if self.dtype.name == "bfloat16" else self.dtype.str
        return {**self.held.__cuda_array_interface__, "typestr": kind}


def _as_bits(array: np.ndarray) -> np.ndarray:
    """bfloat16 as the integers that libraries without such a type can hold."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


class Kit:
    """What the tests ask of a library: arrays to the device and back, and what its results are."""

    name, halves = "numba", frozenset({"float16"})

    def put(self, array: np.ndarray) -> Any:
        from numba import cuda

        return cuda.to_device(np.ascontiguousarray(array))

    def get(self, value: Any) -> np.ndarray:
        result: np.ndarray = value.copy_to_host()
        return result

    def is_one(self, value: Any) -> bool:
        from numba import cuda

        return bool(cuda.is_cuda_array(value)) and type(value).__name__ == "DeviceNDArray"

    def takes(self, dtype: str) -> bool:
        return dtype in ("float32", "float64") or dtype in self.halves

    def wait(self) -> None:
        from numba import cuda

        cuda.synchronize()


class Interface(Kit):
    name, halves = "interface", frozenset({"float16", "bfloat16"})

    def put(self, array: np.ndarray) -> Any:
        return Exposed(np.ascontiguousarray(array))


class CuPy(Kit):
    name = "cupy"

    def put(self, array: np.ndarray) -> Any:
        import cupy

        return cupy.asarray(np.ascontiguousarray(array))

    def get(self, value: Any) -> np.ndarray:
        result: np.ndarray = value.get()
        return result

    def is_one(self, value: Any) -> bool:
        import cupy

        return type(value) is cupy.ndarray and value.device.id == 0


class Torch(Kit):
    name, halves = "torch", frozenset({"float16", "bfloat16"})

    def put(self, array: np.ndarray) -> Any:
        import torch

        array = np.ascontiguousarray(array)
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).cuda().view(torch.bfloat16)
        return torch.from_numpy(array.copy()).cuda()

    def get(self, value: Any) -> np.ndarray:
        import torch

        if value.dtype is torch.bfloat16:
            return np.asarray(value.view(torch.int16).cpu().numpy()).view(DTYPES["bfloat16"])
        return np.asarray(value.cpu().numpy())

    def is_one(self, value: Any) -> bool:
        import torch

        return type(value) is torch.Tensor and str(value.device) == "cuda:0"


class Jax(Kit):
    name, halves = "jax", frozenset({"float16", "bfloat16"})

    def put(self, array: np.ndarray) -> Any:
        import jax

        return jax.device_put(np.ascontiguousarray(array), jax.devices("gpu")[0]).block_until_ready()

    def get(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def is_one(self, value: Any) -> bool:
        import jax

        return isinstance(value, jax.Array) and value.devices() == {jax.devices("gpu")[0]}


KITS: dict[str, Kit] = {kit.name: kit for kit in (Kit(), Interface(), CuPy(), Torch(), Jax())}


def absent(name: str) -> str | None:
    """Why a library's arrays cannot be had; None where they can."""
    if name in ("numba", "interface"):
        return None
    if importlib.util.find_spec(name) is None:
        return f"{name} is not installed"
    if name == "torch":
        import torch

        return None if torch.cuda.is_available() else "this torch has no CUDA"
    if name == "jax":
        import jax

        with contextlib.suppress(RuntimeError):
            return None if jax.devices("gpu") else "this jax has no GPU"
        return "this jax has no GPU"
    return None


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Each library's arrays in turn."""
    reason = absent(request.param)
    if reason is not None:
        pytest.skip(reason)
    with _x64() if request.param == "jax" else contextlib.nullcontext():
        yield KITS[request.param]


def _x64() -> contextlib.AbstractContextManager[Any]:
    import jax

    result: contextlib.AbstractContextManager[Any] = jax.enable_x64(True)
    return result


@pytest.fixture
def arrays() -> Kit:
    """The arrays of the library that is here and takes most dtypes."""
    return next(KITS[name] for name in ("torch", "cupy", "numba") if absent(name) is None)


@pytest.fixture
def torch() -> Any:
    reason = absent("torch")
    if reason is not None:
        pytest.skip(reason)
    return importlib.import_module("torch")


# Results ------------------------------------------------------------------------------------------------------------------------


def widened(inputs: list[Any]) -> list[Any]:
    """The same numbers in float64, labels as they are."""
    return [one if one.dtype.kind in "iub" else one.astype(np.float64) for one in inputs]


def form_of(case: Case) -> str:
    return "value_gradient_hessian" if case.loss.definition.hessian else "value_and_gradient"


def sizes(case: Case, inputs: list[Any], axis: int = -1) -> list[float]:
    """How large the numbers are that the value, the gradient and the second derivative are differences of."""
    columns = inputs[0].shape[axis] if case.rowwise else 1
    slope = columns / max(1, inputs[0].size)
    return [1.0 if case.loss.definition.hessian else max(1.0, columns) ** 0.5, slope, slope]


def got_back(kit: Kit, result: Any) -> Any:
    """A result on the host: arrays, dicts of arrays, tuples of both."""
    if isinstance(result, tuple):
        return tuple(got_back(kit, one) for one in result)
    if isinstance(result, dict):
        return {name: kit.get(one) for name, one in result.items()}
    return kit.get(result)


def in_dtype(result: Any, dtype: str) -> Any:
    """What libraries without bfloat16 give as integers, as bfloat16 again."""
    if isinstance(result, dict):
        return {name: in_dtype(one, dtype) for name, one in result.items()}
    return result.view(DTYPES[dtype]) if dtype == "bfloat16" and result.dtype == np.uint16 else result


def check(
    case: Case, kit: Kit, inputs: list[Any], dtype: str, *, on_device: bool = True, looser: float = 1.0, **options: Any
) -> Any:
    """Compare one call, every output of it, with the CPU library's; arrays among the options go to the device too, or stay."""
    want = getattr(case.loss, form_of(case))(*widened(inputs), **options)
    given = {name: kit.put(one) if on_device and isinstance(one, np.ndarray) else one for name, one in options.items()}
    raw = getattr(case.loss, form_of(case))(*map(kit.put, inputs), **given)
    again = getattr(case.loss, form_of(case))(*map(kit.put, inputs), **given)  # launched from a recording, where there is one
    assert _bits(got_back(kit, again)) == _bits(got_back(kit, raw))
    got = [in_dtype(one, dtype) for one in got_back(kit, raw)]
    working = "float64" if dtype == "float64" else "float32"
    items = inputs[0].ndim and options.get("reduction") == "none"
    assert got[0].dtype == (DTYPES[dtype] if items else np.dtype(working))
    for what, mine, right, size in zip(
        ("value", "gradient", "hessian"), got, want, sizes(case, inputs, options.get("axis", -1)), strict=False
    ):
        agree(mine, right, working, size=size, looser=looser, what=f"{case} {what} {dtype} {list(options.items())}")
        for array in mine.values() if isinstance(mine, dict) else [mine]:
            assert what == "value" or array.dtype == DTYPES[dtype]
    return raw


def options_of(case: Case) -> Iterator[dict[str, Any]]:
    """The options that mean something for a loss, each at a value that is not its default, and those that meet each other."""
    yield {}
    yield from PARAMETERS.get(case.name, [])
    if case.loss.definition.is_penalty:
        return
    sample, classes = weights(case.shape[:1]), np.linspace(0.25, 2.0, 7 if case.rowwise else 2)
    yield from ({"reduction": "sum"}, {"reduction": "none"}, {"normalizer": 12.5})
    yield from ({"sample_weight": sample}, {"sample_weight": sample, "normalizer": "weights"})
    yield {"sample_weight": sample, "reduction": "none"}
    if "class_weight" in inspect.signature(case.loss).parameters:
        yield from ({"class_weight": classes}, {"class_weight": classes, "sample_weight": sample, "normalizer": "weights"})
    if case.loss.definition.takes_labels:
        yield from ({"class_weight": "balanced"}, {"label_smoothing": 0.1}, {"label_smoothing": 0.2, "class_weight": classes})
    if case.labels:
        yield from ({"ignore_index": 3}, {"ignore_index": 3, "class_weight": classes, "normalizer": "weights"})


@each_dtype
@each_case
def test_every_option(case, dtype, arrays):
    """Weights on the device."""
    if not arrays.takes(dtype):
        pytest.skip(f"{arrays.name} has no {dtype}")
    for options in options_of(case):
        check(case, arrays, draw(case, case.shape, dtype, ignored="ignore_index" not in options), dtype, **options)


@each_case
def test_weights_on_the_host(case, arrays):
    for options in options_of(case):
        if "sample_weight" in options or "class_weight" in options:
            check(
                case,
                arrays,
                draw(case, case.shape, "float32", ignored="ignore_index" not in options),
                "float32",
                on_device=False,
                **options,
            )


@each_binary_case
def test_balanced(case, arrays):
    predictions, targets = draw(case, case.shape, "float32")
    inputs = [predictions, np.round(targets)]
    check(case, arrays, inputs, "float32", class_weight="balanced")
    if "pos_weight" in inspect.signature(case.loss).parameters:
        check(case, arrays, inputs, "float32", pos_weight="balanced")


@each_dtype
@each_case
def test_every_library(case, dtype, kit):
    """The results are the caller's own arrays, on the device that the inputs are on."""
    if not kit.takes(dtype):
        pytest.skip(f"{kit.name} has no {dtype}")
    for reduction in [{}] if case.loss.definition.is_penalty else [{}, {"reduction": "none"}]:
        raw = check(case, kit, draw(case, case.shape, dtype), dtype, **reduction)
        for one in raw:
            for array in one.values() if isinstance(one, dict) else [one]:
                assert kit.is_one(array), type(array)
        if not reduction:
            assert tuple(raw[0].shape) == ()


def test_results_outlive_what_they_were_made_from(kit):
    """No library's result is a view of memory that has been given back."""
    inputs = draw(MSE, (100_003,), "float32")
    kept = [jitloss.mse_loss.gradient(*map(kit.put, inputs)) for _ in range(20)]
    others = [kit.put(np.full(100_003, np.nan, np.float32)) for _ in range(20)]
    kit.wait()
    want = jitloss.mse_loss.gradient(*widened(inputs))
    for one in kept:
        agree(kit.get(one), want)
    assert len(others) == 20


def test_results_can_be_used_at_once(torch):
    """Torch's own kernels come after ours on one stream, so no one waits in between."""
    inputs = draw(SOFTMAX, (512, 1000), "float32")
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(*map(KITS["torch"].put, inputs))
    agree(KITS["torch"].get((gradient * 2.0).sum(-1) + value), np.full(512, float(value)), size=1.0)


@pytest.mark.parametrize("labels", ["int8", "int16", "int32", "int64", "uint8"])
def test_labels_of_any_dtype(arrays, labels):
    logits, classes = draw(SOFTMAX, (33, 7), "float32")
    check(SOFTMAX, arrays, [logits, classes.astype(labels)], "float32")


def test_bool_targets_and_integer_predictions(arrays):
    predictions, targets = draw(Case(jitloss.hinge_loss), (33,), "float32")
    want = jitloss.hinge_loss.gradient(predictions, targets)
    agree(arrays.get(jitloss.hinge_loss.gradient(arrays.put(predictions), arrays.put(targets > 0))), want)
    whole = [np.arange(33, dtype=np.int32), np.arange(33, dtype=np.int32)[::-1].copy()]
    gradient = arrays.get(jitloss.mse_loss.gradient(*map(arrays.put, whole)))
    assert gradient.dtype == np.float64
    agree(gradient, jitloss.mse_loss.gradient(*whole))


def test_sums_and_definitions_of_ones_own(arrays):
    @jitloss.pointwise
    def own_loss(prediction, target, alpha=1.0):
        error = prediction - target
        return error * error + alpha * abs(error), 2.0 * error + alpha * sign(error)  # noqa: F821

    inputs = draw(MSE, (1001,), "float32")
    for loss in (own_loss, 0.5 * own_loss, jitloss.mse_loss + 0.5 * jitloss.l1_loss):
        want = loss.value_and_gradient(*widened(inputs))
        got = loss.value_and_gradient(*map(arrays.put, inputs))
        for mine, right in zip(got_back(arrays, got), want, strict=True):
            agree(mine, right, "float32", size=1.0 if mine.ndim == 0 else 1 / 1001)


def test_penalties_of_dicts_and_weighted_sums(arrays):
    """Values are added on the device."""
    params = {"w": np.linspace(-1.0, 1.0, 33, dtype=np.float32), "b": np.linspace(0.0, 2.0, 7, dtype=np.float32)}
    want = jitloss.l2_regularization.value_and_gradient({name: one.astype(np.float64) for name, one in params.items()})
    value, gradient = jitloss.l2_regularization.value_and_gradient({name: arrays.put(one) for name, one in params.items()})
    assert arrays.is_one(value)
    agree(arrays.get(value), want[0], "float32")
    agree(got_back(arrays, gradient), want[1])
    total = jitloss.weighted_sum(first=(jitloss.mse_loss, 1.0), second=(jitloss.l1_loss, 0.5))
    sides = [
        dict(zip(("first", "second"), pair, strict=True))
        for pair in zip(*[draw(MSE, (n,), "float32") for n in (33, 7)], strict=True)
    ]
    want = total.value_and_gradient(*({name: one.astype(np.float64) for name, one in side.items()} for side in sides))
    value, gradient = total.value_and_gradient(*({name: arrays.put(one) for name, one in side.items()} for side in sides))
    agree(arrays.get(value), want[0], "float32", size=1.0)
    agree(got_back(arrays, gradient), want[1], size=0.2)


# Shapes -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 7, 33, 1000, 100_003, 3_000_001])
@pytest.mark.parametrize("case", [case for case in CASES if not case.rowwise], ids=repr)
def test_sizes(case, size, arrays):
    check(case, arrays, draw(case, (size,), "float32"), "float32")


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@each_row_case
def test_columns(case, dtype, columns, arrays):
    """Teams of every size, rows that are kept and rows that are read again, with and without vectors."""
    if not arrays.takes(dtype):
        pytest.skip(f"{arrays.name} has no {dtype}")
    rows = 3 if columns > 1001 else 130
    check(case, arrays, draw(case, (rows, columns), dtype), dtype, looser=4.0)


@pytest.mark.parametrize("columns", [10, 1000])
def test_more_rows_than_blocks(arrays, columns):
    check(SOFTMAX, arrays, draw(SOFTMAX, (70_001, columns), "float32", ignored=True), "float32", looser=4.0)


@pytest.mark.parametrize(
    ("shape", "axis"), [((9, 7), 0), ((4, 3, 5), 1), ((2, 300, 9), -2), ((2, 3, 40, 3), 2), ((1, 19, 128, 128), 1)], ids=str
)
@each_row_case
def test_inner_axis(case, shape, axis, arrays):
    inputs = draw(case, shape, "float32", axis=axis, ignored=True)
    check(case, arrays, inputs, "float32", axis=axis)
    items = tuple(np.delete(shape, axis))
    check(case, arrays, inputs, "float32", axis=axis, reduction="none", sample_weight=weights(items[:1]))


@each_dtype
@each_case
def test_unaligned(case, dtype, torch):
    """Arrays that start one element after a multiple of 16 bytes."""
    kit = KITS["torch"]
    inputs = draw(case, case.shape, dtype)
    views = []
    for one in inputs:
        memory = torch.empty(one.size + 1, dtype=kit.put(one).dtype, device="cuda")
        memory[1:] = kit.put(one).reshape(-1)
        views.append(memory[1:].view(one.shape))
        assert views[-1].data_ptr() % 16
    want = case.loss.value_and_gradient(*widened(inputs))
    got = got_back(kit, case.loss.value_and_gradient(*views))
    for mine, right, size in zip(got, want, sizes(case, inputs), strict=False):
        agree(mine, right, "float64" if dtype == "float64" else "float32", size=size)


@each_case
def test_not_contiguous(case, torch):
    """Every other row, and what is read backwards by a copy that torch makes."""
    inputs = draw(case, case.shape, "float32")
    views = [KITS["torch"].put(np.repeat(one, 2, axis=0))[::2] for one in inputs]
    assert not views[0].is_contiguous()
    want = case.loss.value_and_gradient(*widened(inputs))
    for mine, right, size in zip(
        got_back(KITS["torch"], case.loss.value_and_gradient(*views)), want, sizes(case, inputs), strict=False
    ):
        agree(mine, right, "float32", size=size)


def test_more_elements_than_an_int32_counts(torch):
    count = 2**31 + 4099
    _needs(torch, 2 * 2 * count)
    predictions, targets = (torch.zeros(count, dtype=torch.float16, device="cuda") for _ in range(2))
    predictions[-5:] = torch.arange(1.0, 6.0, device="cuda")
    value, gradient = jitloss.mse_loss.value_and_gradient(predictions, targets, reduction="sum", out=predictions)
    assert float(value) == 55.0
    assert gradient[-5:].tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert not gradient[:-5].any()


def test_rows_past_an_int32(torch):
    rows, columns = 2**31 // 1000 + 5, 1000
    _needs(torch, 2 * rows * columns)
    logits = torch.zeros(rows, columns, dtype=torch.float16, device="cuda")
    logits[-1, 7] = 10.0
    labels = torch.full((rows,), 7, device="cuda")
    last = float(np.log(999.0 + np.exp(10.0)) - 10.0)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, reduction="sum", out=logits)
    assert float(value) == pytest.approx((rows - 1) * np.log(1000.0) + last, rel=1e-6)
    for row, share in ((0, 1e-3), (rows // 2, 1e-3), (rows - 2, 1e-3), (rows - 1, float(np.exp(-last)))):
        assert float(gradient[row, 7]) == pytest.approx(share - 1.0, rel=1e-3)
        assert float(gradient[row, 999]) == pytest.approx(share if row < rows - 1 else float(np.exp(-last - 10.0)), rel=2e-2)


def _needs(torch: Any, nbytes: int) -> None:
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    if free < nbytes * 1.1 + 2**28:
        pytest.skip(f"it takes {nbytes / 1e9:.1f} GB on the device, {free / 1e9:.1f} GB are free")


# out= ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [7, 1024, 128_256])
@each_dtype
def test_in_place(dtype, columns, arrays):
    if not arrays.takes(dtype) or arrays.name not in ("torch", "cupy", "numba"):
        pytest.skip(f"{arrays.name} has no {dtype}")
    inputs = draw(SOFTMAX, (5, columns), dtype)
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs))
    logits, labels = map(arrays.put, inputs)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, out=logits)
    assert gradient is logits
    agree(arrays.get(value), want[0], "float64" if dtype == "float64" else "float32", size=30.0, looser=4.0)
    agree(arrays.get(gradient), want[1], size=0.2, looser=4.0)


@each_case
def test_out(case, arrays):
    """Outputs are filled, each over its own input too; what lies beside them stays."""
    inputs = draw(case, case.shape, "float32")
    names = [one.name for one in case.loss.definition.differentiable]
    want = case.loss.gradient(*widened(inputs))
    for over in (False, True):
        values = [arrays.put(one) for one in inputs]
        outs = [values[place] if over else arrays.put(np.full_like(inputs[place], 7.0)) for place in range(len(names))]
        out = outs[0] if len(names) == 1 else dict(zip(names, outs, strict=True))
        got = case.loss.gradient(*values, out=out)
        assert all(mine is theirs for mine, theirs in zip(got.values() if isinstance(got, dict) else [got], outs, strict=True))
        agree(got_back(arrays, got), want, size=sizes(case, inputs)[1])


def test_out_that_does_not_fit(torch):
    x, y = torch.ones(8, device="cuda"), torch.zeros(8, device="cuda")
    for out in (torch.ones(7, device="cuda"), torch.ones(8, device="cuda").double(), torch.ones(16, device="cuda")[::2], y):
        with pytest.raises(ValueError, match="out"):
            jitloss.mse_loss.gradient(x, y, out=out)
    for out in (np.ones(8, np.float32), torch.ones(8)):
        with pytest.raises(TypeError, match="out"):
            jitloss.mse_loss.gradient(x, y, out=out)
    memory = torch.ones(12, device="cuda")
    with pytest.raises(ValueError, match="overlaps"):
        jitloss.mse_loss.gradient(memory[:8], y, out=memory[4:])


def test_jax_arrays_are_not_written():
    if absent("jax") is not None:
        pytest.skip(absent("jax") or "")
    x = KITS["jax"].put(np.ones(8, np.float32))
    with pytest.raises(ValueError, match="writable"):
        jitloss.mse_loss.gradient(x, x + 1, out=x)


def test_running_out_of_memory_leaves_the_inputs(torch):
    """The call fails before anything is launched, and the next one works."""
    _needs(torch, 2**31)
    x, y = torch.ones(2**27, device="cuda"), torch.zeros(2**27, device="cuda")
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**28) / total)
    try:
        for options in ({}, {"out": x, "reduction": "none"}):
            with pytest.raises(torch.cuda.OutOfMemoryError):
                jitloss.mse_loss.value_and_gradient(x, y, **options)
            assert bool((x == 1.0).all())
            assert not y.any()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert float(jitloss.mse_loss(x, y)) == 1.0


# Labels -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [7, 1000, 4096, 200_000])
@pytest.mark.parametrize("label", [-1, "columns", -99, 2**31, 2**62, -(2**62)])
@each_label_case
def test_labels_that_are_no_class(case, label, columns, torch):
    """Their rows are NaN, the others right, and nothing beside the arrays has been touched."""
    kit, guard = KITS["torch"], 4096
    predictions, labels = draw(case, (9, columns), "float32", ignored=True)
    bad = np.array([2, 6])
    memory = torch.full((2, predictions.size + 2 * guard), 7.0, device="cuda")
    given, out = (one[guard:-guard].view(predictions.shape) for one in memory)
    given[...] = kit.put(predictions)
    want = case.loss.value_and_gradient(predictions.astype(np.float64), labels, reduction="none")
    labels[bad] = columns if label == "columns" else label
    value, gradient = got_back(kit, case.loss.value_and_gradient(given, kit.put(labels), reduction="none", out=out))
    fine = np.delete(np.arange(9), bad)
    assert np.isnan(value[bad]).all()
    assert np.isnan(gradient[bad]).all()
    agree(value[fine], want[0][fine], size=30.0, looser=4.0)
    agree(gradient[fine], want[1][fine], size=1.0, looser=4.0)
    for one in memory:
        assert bool((one[:guard] == 7.0).all())
        assert bool((one[-guard:] == 7.0).all())
    agree(kit.get(given), predictions)
    assert np.isnan(float(case.loss(given, kit.put(labels))))


@each_label_case
def test_check_raises_for_a_label_that_is_no_class(case, arrays):
    predictions, labels = draw(case, case.shape, "float32")
    labels[17] = 7
    out = arrays.put(np.full_like(predictions, 5.0))
    with pytest.raises(ValueError, match=r"targets\[17\].* is 7"):
        case.loss.gradient(arrays.put(predictions), arrays.put(labels), out=out, check=True)
    assert (arrays.get(out) == 5.0).all()
    labels[17] = 0
    want = case.loss(predictions.astype(np.float64), labels)
    agree(arrays.get(case.loss(arrays.put(predictions), arrays.put(labels), check=True)), want, "float32", size=1.0)


def test_check_raises_for_a_negative_weight(arrays):
    inputs, weight = draw(MSE, (33,), "float32"), np.ones(33)
    weight[5] = -1.0
    with pytest.raises(ValueError, match=r"sample_weight .* index 5"):
        jitloss.mse_loss(*map(arrays.put, inputs), sample_weight=arrays.put(weight), check=True)


def test_nothing_counts(arrays):
    logits, labels = draw(SOFTMAX, (33, 7), "float32")
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(
        arrays.put(logits), arrays.put(np.full_like(labels, -100))
    )
    assert arrays.get(value) == 0.0
    assert not arrays.get(gradient).any()


def test_errstate(arrays):
    x = np.ones(33, np.float32)
    x[4] = np.nan
    with jitloss.errstate(invalid="raise"), pytest.raises(FloatingPointError, match="first at item 4"):
        jitloss.mse_loss(arrays.put(x), arrays.put(np.zeros_like(x)))


# Streams, waiting, graphs -------------------------------------------------------------------------------------------------------

SLEEP = 400_000_000
"""Cycles for which a stream is kept busy: a fifth of a second, far longer than any call."""


def _busy(torch: Any, stream: Any, fill: Callable[[], None]) -> None:
    """Keep a stream busy, and only then let it fill the inputs, which are NaN until then."""
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP)
        fill()


@pytest.fixture
def late(torch) -> SimpleNamespace:
    """Inputs of which a side stream makes the right ones, after a while; and what comes out then."""
    inputs = draw(SOFTMAX, (512, 1000), "float32", ignored=True)
    right = [KITS["torch"].put(one) for one in inputs]
    given = [torch.full_like(right[0], np.nan), right[1].clone()]
    weight = KITS["torch"].put(weights((512,)))
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs), sample_weight=weights((512,)))
    jitloss.cross_entropy_with_logits.value_and_gradient(*right, sample_weight=weight)  # compiled and loaded
    torch.cuda.synchronize()
    return SimpleNamespace(given=given, fill=lambda: given[0].copy_(right[0]), weight=weight, want=want)


def test_torch_current_stream(torch, late):
    """The call is ordered after what its stream does, and does not wait for it."""
    side = torch.cuda.Stream()
    _busy(torch, side, late.fill)
    with torch.cuda.stream(side):
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(*late.given, sample_weight=late.weight)
    assert not side.query(), "the call waited for the device"
    side.synchronize()
    agree(KITS["torch"].get(value), late.want[0], "float32", size=1.0)
    agree(KITS["torch"].get(gradient), late.want[1], size=2e-3)


@pytest.mark.parametrize("weights_on", ["device", "host"])
def test_torch_stream_option(torch, late, weights_on):
    """Memory that a call took for itself is not given to others on the current stream while the kernels still use it."""
    side, weight = torch.cuda.Stream(), late.weight if weights_on == "device" else weights((512,))
    jitloss.cross_entropy_with_logits.value_and_gradient(*late.given, sample_weight=weight)
    torch.cuda.synchronize()
    _busy(torch, side, late.fill)
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(*late.given, sample_weight=weight, stream=side)
    others = [torch.full((512,), np.nan, device="cuda") for _ in range(32)]
    if weights_on == "device":  # those of the host are copied, and whether that waits is the driver's choice
        assert not side.query(), "the call waited for the stream"
    side.synchronize()
    agree(KITS["torch"].get(value), late.want[0], "float32", size=1.0)
    agree(KITS["torch"].get(gradient), late.want[1], size=2e-3)
    assert len(others) == 32


def test_stream_option_of_numba_arrays(torch, late):
    """Numba has no current stream: ``stream=`` says on which the kernels run. Torch lends a stream that waits for no other."""
    from numba import cuda

    side = torch.cuda.Stream()
    given = [cuda.as_cuda_array(one) for one in late.given]
    with cuda.defer_cleanup():  # numba waits for the device where it gives memory back
        jitloss.cross_entropy_with_logits.value_and_gradient(*given)
        torch.cuda.synchronize()
        _busy(torch, side, late.fill)
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(
            *given, sample_weight=cuda.as_cuda_array(late.weight), stream=cuda.external_stream(side.cuda_stream)
        )
        assert not side.query(), "the call waited for the device"
        side.synchronize()
    agree(value.copy_to_host(), late.want[0], "float32", size=1.0)
    agree(gradient.copy_to_host(), late.want[1], size=2e-3)


@pytest.mark.parametrize("by", ["current", "option", "handle"])
def test_cupy_streams(by):
    if absent("cupy") is not None:
        pytest.skip(absent("cupy") or "")
    import cupy

    inputs = draw(SOFTMAX, (512, 1000), "float32")
    logits, labels = map(cupy.asarray, inputs)
    given = cupy.full_like(logits, np.nan)
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs))
    spin = cupy.RawKernel(
        'extern "C" __global__ void spin(long long n) { long long start = clock64(); while (clock64() - start < n) {} }', "spin"
    )
    jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels)
    spin((1,), (1,), (np.int64(1),))
    cupy.cuda.Device().synchronize()
    side = cupy.cuda.Stream(non_blocking=True)
    with side:
        spin((1,), (1,), (np.int64(SLEEP),))
        given[...] = logits
    with side if by == "current" else contextlib.nullcontext():
        option = {"current": {}, "option": {"stream": side}, "handle": {"stream": side.ptr}}[by]
        value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(given, labels, **option)
    assert not side.done, "the call waited for the device"
    side.synchronize()
    agree(value.get(), want[0], "float32", size=1.0)
    agree(gradient.get(), want[1], size=2e-3)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@each_case
def test_torch_sees_no_synchronisation(case, torch):
    """With labels, weights on the device, every form: nothing that torch knows to wait."""
    inputs = [KITS["torch"].put(one) for one in draw(case, case.shape, "float32")]
    weight = KITS["torch"].put(weights(case.shape[:1]))
    options: list[dict[str, Any]] = [{}]
    if not case.loss.definition.is_penalty:
        options += [{"reduction": "none"}, {"sample_weight": weight, "normalizer": "weights"}, {"out": None}]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for given in options:
            case.loss.value_and_gradient(*inputs, **given)
            case.loss.gradient(*inputs, **given)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("columns", [10, 1000, 100_000])
def test_captured_in_a_graph(torch, columns):
    """One call recorded, then replayed with other numbers in the same arrays."""
    kit, rows = KITS["torch"], 64
    logits, labels = map(kit.put, draw(SOFTMAX, (rows, columns), "float32"))
    out, weight = torch.empty_like(logits), kit.put(weights((rows,)).astype(np.float32))

    def call() -> Any:
        return jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, sample_weight=weight, out=out)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value, _ = call()
    for seed in (1, 2):
        others = draw(SOFTMAX, (rows, columns), "float32", seed=seed, ignored=True)
        for place, one in zip((logits, labels), others, strict=True):
            place.copy_(kit.put(one))
        graph.replay()
        want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(others), sample_weight=weights((rows,)))
        agree(kit.get(value), want[0], "float32", size=1.0, looser=4.0)
        agree(kit.get(out), want[1], size=2.0 / rows, looser=4.0)


def test_a_thread_of_ones_own(arrays):
    """A thread that has not used the device before."""
    inputs, found = draw(MSE, (1000,), "float32"), []
    values = [arrays.put(one) for one in inputs]
    jitloss.mse_loss(*values)

    def call() -> None:
        found.append(jitloss.mse_loss(*values))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    agree(arrays.get(found[0]), jitloss.mse_loss(*widened(inputs)), "float32")


# The same bits each run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "shape"),
    [(case, shape) for case in CASES for shape in ([(70_001, 10), (301, 4099)] if case.rowwise else [(3_000_001,)])],
    ids=lambda one: repr(one) if isinstance(one, Case) else "x".join(map(str, one)),
)
def test_five_runs(case, shape, arrays):
    values = [arrays.put(one) for one in draw(case, shape, "float32")]
    first, *others = (_bits(got_back(arrays, case.loss.value_and_gradient(*values))) for _ in range(5))
    assert all(other == first for other in others)


def _bits(result: Any) -> list[bytes]:
    flat = itertools.chain.from_iterable(one.values() if isinstance(one, dict) else [one] for one in result)
    return [np.asarray(one).tobytes() for one in flat]


# Devices --------------------------------------------------------------------------------------------------------------------------


def test_two_devices(torch):
    """The work is done where the arrays are, whatever device is the current one, on its default stream and on another."""
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one device only")
    inputs = draw(SOFTMAX, (512, 1000), "float32")
    want = jitloss.cross_entropy_with_logits.value_and_gradient(*widened(inputs))
    logits, labels = (torch.from_numpy(one).to("cuda:1") for one in inputs)
    for stream in (None, torch.cuda.Stream("cuda:1")):
        with torch.cuda.stream(stream) if stream else contextlib.nullcontext(), torch.cuda.device(0):
            value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, labels, stream=stream)
        assert str(gradient.device) == str(value.device) == "cuda:1"
        assert torch.cuda.current_device() == 0
        torch.cuda.synchronize("cuda:1")
        agree(KITS["torch"].get(gradient), want[1], size=2e-3)
    with pytest.raises(ValueError, match="one device"):
        jitloss.cross_entropy_with_logits(logits, labels.to("cuda:0"))


def test_arrays_on_both_sides_are_refused(torch):
    x = torch.ones(8, device="cuda")
    for other in (np.zeros(8, np.float32), KITS["numba"].put(np.zeros(8, np.float32))):
        with pytest.raises(TypeError, match="one library"):
            jitloss.mse_loss(x, other)


def test_machine_code_is_kept(arrays):
    from jitloss.compilers import cuda

    jitloss.mse_loss(*(arrays.put(one) for one in draw(MSE, (33,), "float32")))
    assert list(cuda.cache_folder().glob("*.cubin"))


def test_every_loss_is_here():
    assert {case.name for case in CASES} == {loss.__name__ for loss in ALL}
