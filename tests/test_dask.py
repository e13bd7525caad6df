"""Dask arrays: any chunking gives the numbers of one call, lazily, each block loaded once, on clusters that lose workers too."""

import importlib
import itertools
import pickle
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

import jitloss
from cases import CASES, Case, agree, draw, is_binary, weights
from jitloss import buffers, keys
from jitloss.definition import Weight

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
cloudpickle = pytest.importorskip("cloudpickle")

LABELS = next(case for case in CASES if case.name == "cross_entropy_with_logits" and case.labels)
DENSE = next(case for case in CASES if case.name == "cross_entropy_with_logits" and not case.labels)
BINARY = next(case for case in CASES if case.name == "binary_cross_entropy_with_logits")
TRIPLET = next(case for case in CASES if case.name == "triplet_loss")

CHUNKS = {
    "whole": (33, 7),
    "rows": (10, 7),
    "classes": (33, 3),
    "both": (10, 2),
    "single": (1, 1),
    "uneven": ((5, 28), (4, 1, 2)),
}


@pytest.fixture(autouse=True)
def _in_this_thread():
    with dask.config.set(scheduler="sync"):
        yield


def lazy(case: Case, inputs, chunks, axis: int = -1):
    """The inputs as Dask arrays; those with one number per item have other chunks, so that they must be rechunked."""
    shape = inputs[0].shape
    return [da.from_array(one, chunks=chunks if one.shape == shape else 4) for one in inputs]


def compute(results):
    return dask.compute(results)[0]


def same(got, want, dtype="float64", looser=4.0):
    if isinstance(want, tuple):
        assert len(got) == len(want)
        for mine, theirs in zip(got, want, strict=True):
            same(mine, theirs, dtype, looser)
    elif isinstance(want, dict):
        assert list(got) == list(want)
        for name in want:
            same(got[name], want[name], dtype, looser)
    else:
        assert np.shape(got) == np.shape(want)
        agree(np.asarray(got), np.asarray(want), dtype, looser=looser)


def check(case: Case, inputs, chunks, form="value_and_gradient", dtype="float64", **options):
    call = getattr(case.loss, form)
    same(compute(call(*lazy(case, inputs, chunks), **options)), call(*inputs, **options), dtype)


# Numbers ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_any_chunks(case, chunks):
    cut = CHUNKS[chunks] if case.rowwise else CHUNKS[chunks][:1]
    check(case, draw(case, case.shape, ignored=case.labels), cut)


HALF = itertools.cycle(["float16", "bfloat16"])


@pytest.mark.parametrize(("case", "dtype"), [(case, dtype) for case in CASES for dtype in (next(HALF), "float32")], ids=str)
def test_dtypes(case, dtype):
    inputs = draw(case, case.shape, dtype)
    cut = (10, 3) if case.rowwise else (10,)
    value, gradient = case.loss.value_and_gradient(*lazy(case, inputs, cut))
    arrays = gradient.values() if isinstance(gradient, dict) else [gradient]
    assert value.dtype == np.float64
    assert {one.dtype for one in arrays} == {inputs[0].dtype}
    assert compute(value).dtype == np.float64
    assert all(compute(one).dtype == inputs[0].dtype for one in arrays)
    check(case, inputs, cut, dtype=dtype)


@pytest.mark.parametrize("form", ["value", "gradient", "value_gradient_hessian"])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_forms(case, form):
    if form == "value_gradient_hessian" and not case.loss.definition.hessian:
        with pytest.raises(NotImplementedError, match="second derivative"):
            case.loss.value_gradient_hessian(*lazy(case, draw(case, case.shape), -1))
        return
    check(case, draw(case, case.shape), (10, 3) if case.rowwise else (10,), form)


@pytest.mark.parametrize("chunks", [(2, 5, 3, 2), (2, 2, 3, 4), (1, 5, 2, 4)])
@pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=repr)
def test_an_inner_class_axis(case, chunks):
    inputs = draw(case, (3, 5, 4, 6), axis=1)
    arrays = [da.from_array(one, chunks=chunks if one.ndim == 4 else 2) for one in inputs]
    want = case.loss.value_and_gradient(*inputs, axis=1)
    for axis in (1, -3):
        same(compute(case.loss.value_and_gradient(*arrays, axis=axis)), want)


@pytest.mark.parametrize("axis", [0, -2, 2])
@pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.takes_labels], ids=repr)
def test_weights_of_classes_along_any_axis(case, axis):
    shape, weights = (5, 4, 6), np.arange(1.0, 7.0)
    inputs = draw(case, shape, axis=axis)
    arrays = [da.from_array(one, chunks=3) for one in inputs]
    options = {"axis": axis, "class_weight": weights[: shape[axis]]}
    same(compute(case.loss.value_and_gradient(*arrays, **options)), case.loss.value_and_gradient(*inputs, **options))


@pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=repr)
def test_a_single_row(case):
    inputs = draw(case, (7,))
    arrays = [da.from_array(one, chunks=3) if np.ndim(one) else one for one in inputs]
    same(compute(case.loss.value_and_gradient(*arrays)), case.loss.value_and_gradient(*inputs))


@pytest.mark.parametrize("chunks", [(2, 3, 7), (2, 3, 3)])
@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
def test_weights_over_trailing_axes(case, chunks):
    inputs, weight = draw(case, (3, 5, 7)), weights((3,))
    arrays = [da.from_array(one, chunks=chunks[: one.ndim]) for one in inputs]
    for normalizer in ("count", "weights"):
        options = {"sample_weight": weight, "normalizer": normalizer}
        same(compute(case.loss.value_and_gradient(*arrays, **options)), case.loss.value_and_gradient(*inputs, **options))


def test_calls_that_differ_have_names_that_differ():
    """Dask computes what has one name once."""
    one, other = da.ones(4, chunks=2), da.zeros(4, chunks=2)
    huber = jitloss.huber_loss
    calls = [
        huber(one, other),
        huber(other, one),
        huber(one, one),
        huber(one, other, 0.5),
        huber(one, other, reduction="sum"),
        huber.gradient(one, other),
        huber.with_parameters(delta=0.25)(one, other),
        jitloss.mse_loss(one, other),
        huber(one, other, sample_weight=other),
        huber(one, other, sample_weight=one),
    ]
    assert len({call.name for call in calls}) == len(calls)


OPTIONS = {
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "number": {"normalizer": 12.5},
    "weights": {"normalizer": "weights", "sample_weight": "drawn"},
    "mass": {"normalizer": "weights"},
    "sample_weight": {"sample_weight": "drawn"},
}
CLASS_OPTIONS = {
    "class_weight": {"class_weight": "drawn"},
    "mapping": {"class_weight": {0: 2.0, 1: 0.5}},
    "balanced": {"class_weight": "balanced"},
    "balanced mass": {"class_weight": "balanced", "normalizer": "weights"},
    "torch": {"class_weight": "drawn", "normalizer": "weights", "sample_weight": "drawn"},
    "smoothing": {"label_smoothing": 0.1, "class_weight": "drawn"},
    "ignored": {"ignore_index": 1},
}


def given(case: Case, option):
    """The options with weights drawn where they are asked for: as arrays, and as Dask arrays."""
    items = case.shape[:1]
    drawn = {"sample_weight": weights(items), "class_weight": weights((7,) if case.rowwise else (2,), seed=1)}
    plain = {name: drawn[name] if isinstance(value, str) and value == "drawn" else value for name, value in option.items()}
    return plain, {
        name: da.from_array(value, chunks=3) if isinstance(value, np.ndarray) else value for name, value in plain.items()
    }


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("case", [case for case in CASES if not case.loss.definition.is_penalty], ids=repr)
def test_options(case, option):
    plain, blocks = given(case, OPTIONS[option])
    inputs = draw(case, case.shape, ignored=case.labels)
    got = case.loss.value_and_gradient(*lazy(case, inputs, (10, 3) if case.rowwise else (10,)), **blocks)
    same(compute(got), case.loss.value_and_gradient(*inputs, **plain))


@pytest.mark.parametrize("chunks", [(10, 7), (10, 3)])
@pytest.mark.parametrize("option", CLASS_OPTIONS)
@pytest.mark.parametrize("case", [case for case in CASES if case.loss.definition.takes_labels], ids=repr)
def test_class_options(case, option, chunks):
    plain, blocks = given(case, CLASS_OPTIONS[option])
    inputs = draw(case, case.shape, ignored=case.labels and option != "ignored")
    got = case.loss.value_and_gradient(*lazy(case, inputs, chunks), **blocks)
    same(compute(got), case.loss.value_and_gradient(*inputs, **plain))


@pytest.mark.parametrize(
    "option",
    [{"class_weight": "balanced"}, {"class_weight": {0: 2.0}}, {"class_weight": "balanced", "normalizer": "weights"}],
    ids=repr,
)
@pytest.mark.parametrize("case", [case for case in CASES if is_binary(case)], ids=repr)
def test_binary_class_weights(case, option):
    predictions, targets = draw(case, (33,))
    check(case, [predictions, np.round(targets)], 10, **option)


def test_balanced_pos_weight():
    logits, targets = draw(BINARY, (33,))
    check(BINARY, [logits, np.round(targets)], 10, pos_weight="balanced")


def test_parameters():
    inputs = draw(DENSE, DENSE.shape)
    check(DENSE, inputs, (10, 3), z_loss=0.1, softcap=3.0)
    check(TRIPLET, draw(TRIPLET, TRIPLET.shape), (10, 3), margin=0.3, squared=True)


def test_nothing_counts():
    logits, labels = draw(LABELS, LABELS.shape)
    for chunks in ((10, 7), (10, 3)):
        check(LABELS, [logits, np.full_like(labels, -100)], chunks)
        check(LABELS, [logits, labels], chunks, sample_weight=np.zeros(33), normalizer="weights")


def test_nan_in_an_ignored_row_and_infinite_logits():
    logits, labels = draw(LABELS, LABELS.shape)
    logits[3], labels[3] = np.nan, -100
    logits[5, :5], labels[5] = -np.inf, 6
    check(LABELS, [logits, labels], (10, 3))


def test_empty():
    assert compute(jitloss.mse_loss(da.zeros(0), da.zeros(0))) == 0.0
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(da.zeros((0, 4)), da.zeros(0, dtype=int))
    assert (compute(value), compute(gradient).shape) == (0.0, (0, 4))


def test_mixed_with_arrays_and_numbers():
    inputs = draw(LABELS, LABELS.shape)
    same(compute(LABELS.loss(da.from_array(inputs[0], chunks=(10, 3)), inputs[1])), LABELS.loss(*inputs))
    same(compute(LABELS.loss(inputs[0], da.from_array(inputs[1], chunks=10))), LABELS.loss(*inputs))
    assert compute(jitloss.mse_loss(da.from_array(np.array([1, 2]), chunks=1), [0, 0])) == 2.5


# Custom losses, sums, several outputs -----------------------------------------------------------------------------------------


@jitloss.pointwise
def quartic(prediction, target, scale=1.0):
    error = prediction - target
    return scale * error**4, 4.0 * scale * error**3


def test_custom_losses_and_sums():
    inputs = draw(CASES[0], (33,))
    for loss in (quartic, jitloss.mse_loss + 0.5 * quartic, jitloss.huber_loss.with_parameters(delta=0.2), 3.0 * quartic):
        check(Case(loss), inputs, 10)
    inputs = draw(DENSE, DENSE.shape)
    check(
        Case(jitloss.cross_entropy_with_logits + 2.0 * jitloss.cross_entropy_with_logits.with_parameters(z_loss=0.1)),
        inputs,
        (10, 3),
    )


def test_several_outputs_and_penalties():
    one, two = draw(CASES[0], (33,)), draw(LABELS, LABELS.shape)
    total = jitloss.weighted_sum(a=(CASES[0].loss, 2.0), b=(LABELS.loss, 0.5))
    outputs, targets = ({"a": first, "b": second} for first, second in zip(one, two, strict=True))
    blocks = [{name: da.from_array(array, chunks=4) for name, array in each.items()} for each in (outputs, targets)]
    same(compute(total.value_and_gradient(*blocks)), total.value_and_gradient(outputs, targets))
    params = {"w": np.ones((4, 3)), "layer": {"b": np.arange(3.0)}}
    blocks = {"w": da.ones((4, 3), chunks=2), "layer": {"b": da.arange(3.0, chunks=2)}}
    same(compute(jitloss.l2_regularization.value_and_gradient(blocks)), jitloss.l2_regularization.value_and_gradient(params))


# The graph --------------------------------------------------------------------------------------------------------------------


def counted(array, chunks, loads):
    """A Dask array that notes each load of a block."""

    def load(block, block_info=None):
        loads.append(block_info[None]["chunk-location"])
        return block

    return da.from_array(array, chunks=chunks).map_blocks(load, dtype=array.dtype)


@pytest.mark.parametrize("option", [{}, {"class_weight": "balanced"}])
@pytest.mark.parametrize("chunks", [(10, 7), (10, 3)])
def test_lazy_and_each_block_is_loaded_once(chunks, option):
    inputs = draw(LABELS, LABELS.shape, ignored=True)
    loads: list = []
    logits = counted(inputs[0], chunks, loads)
    value, gradient = LABELS.loss.value_and_gradient(logits, da.from_array(inputs[1], chunks=10), **option)
    assert not loads
    assert isinstance(value, da.Array)
    assert (value.shape, gradient.shape, gradient.chunks) == ((), logits.shape, logits.chunks)
    same(dask.compute(value, gradient), LABELS.loss.value_and_gradient(*inputs, **option))
    assert len(loads) == len(set(loads)) == np.prod(logits.numblocks)


def test_logits_are_not_read_to_count_labels():
    """What a mean divides by comes from the labels alone: no block of logits must wait for all the others."""
    loads: list = []
    inputs, weight = draw(LABELS, LABELS.shape, ignored=True), weights((33,))
    logits, sample_weight = counted(inputs[0], (10, 7), loads), counted(weight, 10, loads)
    gradient = LABELS.loss.gradient(logits, da.from_array(inputs[1], chunks=10), sample_weight=sample_weight)
    same(compute(gradient[:5]), LABELS.loss.gradient(*inputs, sample_weight=weight)[:5])
    assert sorted(loads) == [(0,), (0, 0)]


def test_whole_rows_take_one_task_a_block():
    value = LABELS.loss(*lazy(LABELS, draw(LABELS, LABELS.shape), (10, 7)))
    stages = {key[0].removeprefix(LABELS.loss.__name__).rpartition("-")[2] for key in value.__dask_graph__()}
    assert "block" in stages
    assert not stages & {"peaks", "sums", "slopes"}


@pytest.mark.parametrize("chunks", [(10, 7), (10, 3)])
def test_the_sum_of_the_values_holds_no_gradients(chunks):
    value, _ = LABELS.loss.value_and_gradient(*lazy(LABELS, draw(LABELS, LABELS.shape), chunks))
    graph = dict(value.__dask_graph__())
    parts = dask.core.get_dependencies(graph, (value.name,))
    assert len(parts) == 4
    assert all(np.ndim(dask.get(graph, key)) == 0 for key in parts)


def test_no_task_holds_a_whole_row(monkeypatch):
    from jitloss import parts

    seen = []
    monkeypatch.setattr(
        parts.Piece, "_read_arrays", lambda self, read=parts.Piece._read_arrays: (read(self), seen.append(self.geometry.columns))
    )
    check(LABELS, draw(LABELS, LABELS.shape), (10, 3))
    assert 0 < max(seen) <= 3
    assert len(seen) > 3 * 4 * 3


@pytest.mark.parametrize("cut", [(10, 7), (10, 3)])
def test_tasks_leave_no_memory_waiting(monkeypatch, cut):
    monkeypatch.setattr(buffers, "LARGE", 1)
    monkeypatch.setattr(buffers, "LINED", 1)
    buffers.release()
    compute(LABELS.loss.value_and_gradient(*lazy(LABELS, draw(LABELS, LABELS.shape), cut)))
    assert not buffers._ready
    assert not buffers._waiting


def test_the_same_bits_on_every_scheduler():
    inputs = draw(LABELS, (2000, 70), "float32")
    results = []
    for scheduler in ("sync", "threads", "threads"):
        with dask.config.set(scheduler=scheduler):
            results.append(compute(LABELS.loss.value_and_gradient(*lazy(LABELS, inputs, (300, 33)))))
    assert len({float(value) for value, _ in results}) == 1
    assert len({gradient.tobytes() for _, gradient in results}) == 1


def test_one_call_has_one_name():
    inputs = lazy(LABELS, draw(LABELS, LABELS.shape), (10, 3))
    assert LABELS.loss(*inputs).name == LABELS.loss(*inputs).name
    assert LABELS.loss(*inputs).name != LABELS.loss(*inputs, label_smoothing=0.1).name


def test_names_of_others_are_not_taken_for_keys():
    """Dask replaces keys in a task by results: a string or a number of ours must not be taken for a key."""
    inputs = draw(LABELS, LABELS.shape)
    texts = ["logits", "targets", "mean", "reduction", "peaks", "sum"]
    others = [dask.delayed(lambda: "wrong", name=text)(dask_key_name=text) for text in texts]
    got = dask.compute(LABELS.loss(*lazy(LABELS, inputs, (10, 3)), reduction="mean"), *others)
    same(got[0], LABELS.loss(*inputs))


# Errors -----------------------------------------------------------------------------------------------------------------------


def test_errors_that_need_no_data():
    logits, labels = lazy(LABELS, draw(LABELS, LABELS.shape), (10, 3))
    loss = LABELS.loss
    for arguments, options, error, message in [
        ((logits, labels[:-1]), {}, ValueError, "targets must be integer labels of the shape"),
        ((logits, labels), {"reduction": "average"}, ValueError, "reduction must be"),
        ((logits, labels), {"class_weight": np.ones(3)}, ValueError, "class_weight must hold one weight for each of 7 classes"),
        ((logits, labels), {"sample_weight": da.ones(3)}, ValueError, "sample_weight must have the leading axes"),
        ((logits, labels), {"axis": 2}, ValueError, "axis 2 is out of range"),
        ((logits, labels), {"out": np.empty((33, 7))}, ValueError, "out is not for Dask arrays"),
        ((logits.astype(complex), labels), {}, TypeError, "logits must be float16"),
        ((logits[logits[:, 0] > 0], labels), {}, ValueError, "logits has blocks of unknown length"),
    ]:
        with pytest.raises(error, match=message):
            loss.gradient(*arguments, **options)


@pytest.mark.parametrize("chunks", [(10, 7), (10, 3)])
def test_a_bad_label_says_where_it_is(chunks):
    logits, labels = draw(LABELS, LABELS.shape)
    labels[12] = 7
    loss = LABELS.loss(*lazy(LABELS, [logits, labels], chunks), reduction="sum")
    with pytest.raises(ValueError, match=r"targets\[2\] \(row 2\) is 7, wanted a class from 0 to 6.*begins at \[10, \d\]"):
        compute(loss)


def test_bad_weights_are_found_in_their_block():
    logits, labels = lazy(LABELS, draw(LABELS, LABELS.shape), (10, 3))
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        compute(LABELS.loss(logits, labels, sample_weight=da.full(33, -1.0)))


# Clusters ---------------------------------------------------------------------------------------------------------------------


SETUP = """
    import os
    import dask, dask.array as da, numpy as np
    from dask.distributed import Client, LocalCluster
    import jitloss
    from jitloss import cross_entropy_with_logits as loss
"""


def on_a_cluster(body: str, **options) -> str:
    """Run statements with a client of a cluster of several processes."""
    given = ", ".join(
        f"{name}={value!r}" for name, value in {"threads_per_worker": 1, "dashboard_address": None, **options}.items()
    )
    lines = [textwrap.dedent(SETUP), "if __name__ == '__main__':"]
    lines += ["    dask.config.set({'distributed.admin.large-graph-warning-threshold': '1GB'})"]
    lines += [f"    with LocalCluster({given}) as cluster, Client(cluster) as client:"]
    return run("\n".join(lines) + "\n" + textwrap.indent(textwrap.dedent(body), " " * 8))


def run(script: str) -> str:
    """Run a script, as a user would."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


MODULE = """
import jitloss

K = 1.0

@jitloss.pointwise
def mine(prediction, target):
    error = prediction - target
    return K * error * error, 2.0 * K * error

def make(scale):
    @jitloss.pointwise
    def local(prediction, target):
        error = prediction - target
        return scale * error * error, 2.0 * scale * error
    return local
"""


def test_losses_of_modules_are_those_of_now(tmp_path, monkeypatch):
    """A module may be edited and loaded again, and may make losses in its functions."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "losses_of_ours.py"
    file.write_text(MODULE)
    import losses_of_ours as module

    x = np.arange(1.0, 7.0)
    lazy, zeros = da.from_array(x, chunks=2), da.zeros(6, chunks=2)
    before = module.mine(lazy, zeros)
    assert before.compute() == pytest.approx(module.mine(x, 0 * x))
    for scale in (2.0, 3.0):
        assert module.make(scale)(lazy, zeros).compute() == pytest.approx(scale * before.compute())
    file.write_text(MODULE.replace("K = 1.0", "K = 10.0"))
    importlib.reload(module)
    assert module.mine(lazy, zeros).compute() == pytest.approx(10.0 * before.compute()) == module.mine(x, 0 * x)


def test_a_cluster_of_processes():
    out = on_a_cluster(
        """
        random = np.random.default_rng(0)
        x, t = random.normal(size=(400, 90)), random.integers(0, 90, 400)
        X, T = da.from_array(x, chunks=(100, 40)), da.from_array(t, chunks=150)
        done = [dask.compute(*loss.value_and_gradient(X, T)) for _ in range(2)]
        value, gradient = loss.value_and_gradient(x, t)
        assert abs(done[0][0] - value) < 1e-14 * 90
        np.testing.assert_allclose(done[0][1], gradient, rtol=1e-12, atol=1e-16)
        assert done[0][0] == done[1][0] and (done[0][1] == done[1][1]).all()
        print(len(client.scheduler_info()["workers"]), "workers")
        """,
        n_workers=3,
    )
    assert "3 workers" in out


def test_a_loss_of_a_script_reaches_the_workers():
    """Workers cannot import it, since the script is not available to them."""
    out = on_a_cluster(
        """
        @jitloss.pointwise
        def cubic(prediction, target):
            error = abs(prediction - target)
            return error * error * error, 3.0 * error * (prediction - target)

        x = np.linspace(-1.0, 1.0, 1000)
        for one in (cubic, cubic + 2.0 * jitloss.mse_loss, 0.5 * cubic):
            got = one(da.from_array(x, chunks=100), da.zeros(1000, chunks=100)).compute()
            assert abs(got - one(x, np.zeros(1000))) < 1e-14, one
        print("same")
        """,
        n_workers=2,
    )
    assert "same" in out


def test_a_worker_is_killed_in_the_middle():
    out = on_a_cluster(
        """
        import signal, time
        def slow(block):
            time.sleep(0.05)
            return block
        random = np.random.default_rng(0)
        x, t = random.normal(size=(2000, 60)), random.integers(0, 60, 2000)
        X = da.from_array(x, chunks=(100, 25)).map_blocks(slow, dtype=float)
        future = client.compute(loss.value_and_gradient(X, da.from_array(t, chunks=100)))
        time.sleep(1.0)
        assert not all(one.done() for one in future)
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        value, gradient = client.gather(future)
        want = loss.value_and_gradient(x, t)
        assert abs(value - want[0]) < 1e-12
        np.testing.assert_allclose(gradient, want[1], rtol=1e-12, atol=1e-16)
        print("survived")
        """,
        n_workers=3,
    )
    assert "survived" in out


def test_more_data_than_a_worker_has_memory():
    """1.2 GB of logits through workers of 400 MB: blocks come and go, and only the value and a norm of the gradient come back."""
    out = on_a_cluster(
        """
        X = da.random.default_rng(0).normal(size=(50_000, 3_000), chunks=(1_000, 1_500))
        T = da.random.default_rng(1).integers(0, 3_000, size=50_000, chunks=1_000)
        value, gradient = loss.value_and_gradient(X, T)
        found = dask.compute(value, (gradient * gradient).sum(), gradient.sum())
        assert all(np.isfinite(found)) and abs(found[2]) < 1e-9
        assert 8.0 < found[0] < 9.0, found
        print(X.nbytes > 1e9, len(client.scheduler_info()["workers"]))
        """,
        n_workers=2,
        memory_limit="400MB",
    )
    assert "True 2" in out


class DataSet:
    """A data set in a file, as Dask takes it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim, self.read = array, array.shape, array.dtype, array.ndim, 0

    def __getitem__(self, place):
        part = self.array[place]
        self.read += part.size
        return part


def test_data_sets_are_read_by_blocks():
    data = DataSet(np.zeros(10))
    lazy = jitloss.mse_loss(da.from_array(np.arange(10.0), chunks=4), data)
    assert data.read == 0
    assert lazy.compute() == 28.5
    with pytest.raises(TypeError, match="its mask would be lost"):
        jitloss.mse_loss(da.ones(2, chunks=1), np.ma.masked_array([1.0, 2.0], [0, 1]))
    with pytest.raises(TypeError, match="mse_loss: predictions cannot be read as an array: a masked array"):
        jitloss.mse_loss(da.ma.masked_array(da.ones(2, chunks=1), mask=[0, 1]), np.ones(2))


def test_what_is_no_array_is_refused_by_name():
    import dask

    array = da.ones(3, chunks=2)
    for what, kind in (
        (None, "NoneType"),
        ({"a": 1.0}, "dict"),
        ("abc", "str"),
        (object(), "object"),
        (SimpleNamespace(shape=(3,)), "SimpleNamespace"),
        (dask.delayed([1.0]), "Delayed"),
    ):
        with pytest.raises(TypeError, match=rf"mse_loss: targets is a [\w.]*{kind}\w*, which is not supported"):
            jitloss.mse_loss(array, what)
        with pytest.raises(TypeError, match=rf"mse_loss: predictions is a [\w.]*{kind}\w*, which is not supported"):
            jitloss.mse_loss(what, array)


def test_beside_tensors_and_jax_arrays_results_are_lazy():
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    array, numbers = da.ones(3, chunks=2), np.arange(3.0, dtype=np.float32)
    for other in (torch.from_numpy(numbers), jnp.asarray(numbers)):
        value = jitloss.mse_loss(other, array)
        assert isinstance(value, da.Array)
        assert value.compute() == jitloss.mse_loss(numbers, np.ones(3))
    with pytest.raises(TypeError, match="mse_loss: targets is a Dask array, whose results are lazy"):
        jitloss.mse_loss(torch.ones(3, requires_grad=True), array)


def test_class_weights_are_sent_once():
    logits, labels = da.zeros((64, 3), chunks=(1, 3)), da.zeros(64, dtype=np.int64, chunks=1)
    value = jitloss.cross_entropy_with_logits(logits, labels, class_weight=np.array([2.0, 1.0, 1.0]))
    graph = dict(value.__dask_graph__())
    assert sum(isinstance(one, np.ndarray) for one in graph.values()) == 1
    np.testing.assert_allclose(value.compute(), 2.0 * np.log(3.0))
    many = jitloss.cross_entropy_with_logits(da.zeros((4, 5000), chunks=(2, 5000)), labels[:4], class_weight=np.ones(5000))
    graph = {key: one for key, one in many.__dask_graph__().items() if key[0].startswith("cross_entropy_with_logits")}
    assert all(
        len(cloudpickle.dumps(one)) < 1000 for one in graph.values() if not isinstance(one, np.ndarray)
    )  # the loss by name


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cut_rows_times_a_number(reduction):
    check(Case(3.0 * jitloss.cross_entropy_with_logits), draw(DENSE, DENSE.shape), (10, 3), reduction=reduction)


@jitloss.rowwise
class size_of_rows:
    """A penalty on the squared size of each row."""

    def terms(parameter: Weight):
        return parameter * parameter

    def value(sums):
        return sums * sums, 4.0 * sums

    def slope(parameter, scale):
        return scale * parameter


@pytest.mark.parametrize("chunks", [(10, 7), (10, 3)])
def test_penalties_on_rows_are_sums(chunks):
    check(Case(size_of_rows), [np.random.default_rng(0).normal(size=(33, 7))], chunks)


def test_options_that_are_none_are_not_given():
    inputs = draw(LABELS, LABELS.shape)
    gradient = LABELS.loss.gradient(*lazy(LABELS, inputs, 10), sample_weight=None, out=None)
    same(compute(gradient), LABELS.loss.gradient(*inputs))


def test_a_loss_is_unpacked_once_in_a_process(monkeypatch):
    """And not at all in the one that packed it: what has been compiled for it is used again."""
    adapter, unpacked = importlib.import_module("jitloss.arrays.dask"), []
    loads = lambda packed: unpacked.append(packed) or pickle.loads(packed)
    monkeypatch.setattr(adapter, "pickle", SimpleNamespace(loads=loads))
    monkeypatch.setattr(adapter, "_forms", {})
    value = LABELS.loss(*lazy(LABELS, draw(LABELS, LABELS.shape), (10, 3)))
    done = value.compute()
    assert not unpacked
    monkeypatch.setattr(adapter, "_forms", {})  # as in a worker
    assert value.compute() == done
    assert len(unpacked) == 1


def test_forms_that_are_kept_have_an_end(monkeypatch):
    adapter = importlib.import_module("jitloss.arrays.dask")
    monkeypatch.setattr(keys, "MOST_KEYS", 2)
    monkeypatch.setattr(adapter, "_forms", {})
    predictions, targets = da.ones(4, chunks=2), da.zeros(4, chunks=2)
    values = [(weight * jitloss.mse_loss + jitloss.l1_loss)(predictions, targets) for weight in (2.0, 3.0, 4.0, 2.0)]
    assert compute(values) == [3.0, 4.0, 5.0, 3.0]
    assert len(adapter._forms) <= 2


def test_both_weights_of_a_binary_loss_are_balanced():
    logits, targets = draw(BINARY, (33,))
    check(BINARY, [logits, np.round(targets)], 10, pos_weight="balanced", class_weight="balanced")


def test_data_frames_say_what_to_give_instead():
    frames, pd = pytest.importorskip("dask.dataframe"), pytest.importorskip("pandas")
    plain = pd.DataFrame({"p": [1.0, 2.0, 4.0], "t": [0.0, 2.0, 1.0]})
    frame = frames.from_pandas(plain, npartitions=2)
    p, t, lazy = plain["p"], plain["t"], da.from_array(plain["p"].to_numpy(), chunks=2)
    said = r"cannot be read as an array: a Dask data frame, or a column of one: give its .to_dask_array\(lengths=True\)$"
    for argument, args, options in (
        ("predictions", (frame["p"], frame["t"]), {}),
        ("predictions", (frame[["p"]], frame[["t"]]), {}),
        ("targets", (p, frame["t"]), {}),
        ("targets", (lazy, frame["t"]), {}),
        ("sample_weight", (p, t), {"sample_weight": frame["p"]}),
        ("sample_weight", (lazy, lazy), {"sample_weight": frame["p"]}),
    ):
        with pytest.raises(TypeError, match=f"^mse_loss: {argument} {said}"):
            jitloss.mse_loss(*args, **options)
    arrays = [frame[name].to_dask_array(lengths=True) for name in "pt"]
    assert compute(jitloss.mse_loss(*arrays)) == jitloss.mse_loss(p, t)
