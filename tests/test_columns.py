"""Columns of pandas, Polars and Arrow, and arrays that are files."""

import textwrap
import tracemalloc

import numpy as np
import pytest

import jitloss
from jitloss import mse_loss
from processes import python

P, T = np.array([1.0, -2.0, 4.0]), np.array([0.0, 1.0, 4.0])
VALUE, GRADIENT = mse_loss.value_and_gradient(P, T)
LOGITS, LABELS = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])


def test_polars():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"p": P, "t": T, "label": LABELS})
    value, gradient = mse_loss.value_and_gradient(frame["p"], frame["t"], sample_weight=pl.Series([1.0, 1.0, 1.0]))
    assert value == VALUE
    assert isinstance(gradient, pl.Series)
    assert gradient.name == "p"
    np.testing.assert_array_equal(gradient.to_numpy(), GRADIENT)
    logits = pl.DataFrame({"no": LOGITS[:, 0], "yes": LOGITS[:, 1]})
    value, gradient = jitloss.cross_entropy_with_logits.value_and_gradient(logits, frame["label"])
    want = jitloss.cross_entropy_with_logits.value_and_gradient(LOGITS, LABELS)
    assert value == want[0]
    assert gradient.columns == ["no", "yes"]
    np.testing.assert_array_equal(gradient.to_numpy(), want[1])
    items = jitloss.cross_entropy_with_logits(logits, frame["label"], reduction="none")
    assert isinstance(items, pl.Series)
    assert mse_loss(frame["p"].cast(pl.Int8), frame["t"].cast(pl.UInt16)) == VALUE


def test_polars_nulls():
    pl = pytest.importorskip("polars")
    with pytest.raises(ValueError, match="mse_loss: targets cannot be read as an array: a column with 2 missing values"):
        mse_loss(P, pl.Series([1.0, None, None]))
    with pytest.raises(ValueError, match="predictions cannot be read as an array: a column with 1 missing value "):
        mse_loss(pl.DataFrame({"a": [1.0, None]}), np.zeros((2, 1)))
    assert np.isnan(mse_loss(pl.Series([1.0, float("nan")]), np.zeros(2)))
    with pytest.raises(TypeError, match="predictions must be float16"):
        mse_loss(pl.Series(["a", "b", "c"]), T)


def test_arrow():
    pa = pytest.importorskip("pyarrow")
    for made in (pa.array(P), pa.chunked_array([P[:1], P[1:]])):
        value, gradient = mse_loss.value_and_gradient(made, pa.array(T), sample_weight=pa.array([1, 1, 1]))
        assert value == VALUE
        assert isinstance(gradient, type(made))
        np.testing.assert_array_equal(gradient.to_numpy(), GRADIENT)
    assert jitloss.cross_entropy_with_logits(LOGITS, pa.array(LABELS)) == jitloss.cross_entropy_with_logits(LOGITS, LABELS)
    assert jitloss.hinge_loss(P, pa.array([True, False, True])) == jitloss.hinge_loss(P, [True, False, True])
    half = pa.array(P.astype(np.float16))
    assert mse_loss.gradient(half, T.astype(np.float16)).type == pa.float16()


def test_arrow_nulls():
    pa = pytest.importorskip("pyarrow")
    for made in (pa.array([1.0, None, 3.0]), pa.chunked_array([[1.0], [None, 3.0]])):
        with pytest.raises(ValueError, match="predictions cannot be read as an array: an Arrow array with 1 missing value "):
            mse_loss(made, T)
    with pytest.raises(ValueError, match="sample_weight cannot be read as an array: an Arrow array with 1 missing"):
        mse_loss(P, T, sample_weight=pa.array([1.0, None, 1.0]))


@pytest.mark.parametrize("names", [[0.5, None], [0.5, 1.0]])
def test_arrow_arrays_that_name_their_elements(names):
    """A null in the dictionary is a null in every row that refers to it."""
    pa = pytest.importorskip("pyarrow")
    made = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array(names))
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int32()), pa.array(names))
    for one in (made, pa.chunked_array([made]), runs, pa.chunked_array([runs])):
        if None in names:
            with pytest.raises(ValueError, match="predictions cannot be read as an array: an Arrow array with 2 missing values"):
                mse_loss(one, T)
        else:
            assert mse_loss(one, T) == mse_loss([0.5, 1.0, 1.0], T)


def test_polars_structures_and_large_integers():
    pl = pytest.importorskip("polars")
    assert mse_loss(pl.Series([{"a": 1.0}, {"a": 3.0}]), np.zeros((2, 1))) == 5.0
    with pytest.raises(ValueError, match="predictions cannot be read as an array: a column with 1 missing value "):
        mse_loss(pl.Series([{"a": 1.0}, {"a": None}]), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="a column with 1 missing value "):
        mse_loss(pl.Series([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": None}]), np.zeros((2, 2)))
    with pytest.raises(TypeError, match=r"predictions cannot be read as an array: .*128"):
        mse_loss(pl.Series([1, 2], dtype=pl.Int128), [0.0, 0.0])


def test_polars_nulls_in_rows():
    """Each is counted once, at any depth."""
    pl = pytest.importorskip("polars")
    pairs = pl.Array(pl.Float64, 2)
    for rows, dtype, shape in (
        ([[1.0, 2.0], None], pairs, (2, 2)),
        ([[[1.0, None]], [[2.0, 3.0]]], pl.Array(pairs, 1), (2, 1, 2)),
    ):
        with pytest.raises(ValueError, match="predictions cannot be read as an array: a column with 1 missing value "):
            mse_loss(pl.Series(rows, dtype=dtype), np.zeros(shape))


def test_arrow_is_not_copied():
    pa = pytest.importorskip("pyarrow")
    from jitloss.arrays import columns

    assert columns.from_arrow(pa.array(P)).ctypes.data == P.ctypes.data


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "double[pyarrow]"])
def test_missing_values_of_pandas(dtype):
    pd = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    column = pd.Series([1, 0, 4], dtype=dtype)
    assert mse_loss(column, T) == mse_loss([1.0, 0.0, 4.0], T)
    column[1] = pd.NA
    for made in (column, pd.DataFrame({"a": column})):
        with pytest.raises(ValueError, match="predictions cannot be read as an array: a column with 1 missing value "):
            mse_loss(made, T)
    assert np.isnan(mse_loss(pd.Series([1.0, np.nan, 4.0]), T))


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "float64", "double[pyarrow]", "Sparse[float64]"])
def test_arrays_of_pandas(dtype):
    """The array inside a Series is read like the Series."""
    pd = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    made = pd.Series([1, 0, 4]).astype(dtype).array
    assert mse_loss(made, T) == mse_loss([1.0, 0.0, 4.0], T)
    assert mse_loss(P, made) == mse_loss(P, [1.0, 0.0, 4.0])
    assert isinstance(mse_loss.gradient(made, T), np.ndarray)
    assert mse_loss(P, T, sample_weight=made) == mse_loss(P, T, sample_weight=[1.0, 0.0, 4.0])
    if dtype == "float64":
        assert np.isnan(mse_loss(pd.Series([1.0, np.nan, 4.0]).array, T))
    else:
        with pytest.raises(ValueError, match="predictions cannot be read as an array: a column with 1 missing value "):
            mse_loss(pd.Series([1, None, 4]).astype(dtype).array, T)


def test_categories_of_pandas():
    pd = pytest.importorskip("pandas")
    loss, logits = jitloss.cross_entropy_with_logits, np.arange(9.0).reshape(3, 3) ** 2
    for made in (pd.array([2, 0, 1], dtype="Int8"), pd.Categorical([2, 0, 1]), pd.Categorical([2, 0, 1], categories=[2, 1, 0])):
        assert loss(logits, made) == loss(logits, pd.Series(made)) == loss(logits, [2, 0, 1])
    with pytest.raises(ValueError, match="targets cannot be read as an array: a column with 1 missing value "):
        loss(logits, pd.Categorical([0, None, 1]))
    for made in (pd.Categorical(["a", "b", "c"]), pd.array(["a", "b", "c"]), pd.array(["2020"] * 3, dtype="datetime64[s]")):
        with pytest.raises(TypeError, match=r"^cross_entropy_with_logits: targets must"):
            loss(logits, made)


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "boolean", "double[pyarrow]"])
def test_frames_of_pandas_own_dtypes(dtype):
    pd = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1, 0, 1], "b": [0, 1, 1]}).astype(dtype)
    assert mse_loss(np.zeros((3, 2)), frame) == mse_loss(np.zeros((3, 2)), [[1, 0], [0, 1], [1, 1]])
    mixed = pd.DataFrame({"a": [True, False, True], "b": [2, 1, 1]})
    assert mse_loss(np.zeros((3, 2)), mixed) == mse_loss(np.zeros((3, 2)), [[1, 2], [0, 1], [1, 1]])
    with pytest.raises(ValueError, match="targets cannot be read as an array: a column with 1 missing value "):
        mse_loss(np.zeros((3, 2)), pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": pd.Series([1, None, 1]).astype(dtype)}))
    with pytest.raises(TypeError, match="targets must hold numbers or bools"):
        mse_loss(np.zeros((3, 2)), frame.assign(b=["x", "y", "z"]))


WEIGHED = {
    "rowwise": (jitloss.cross_entropy_with_logits, LOGITS, LABELS),
    "binary": (jitloss.binary_cross_entropy_with_logits, P, LABELS.astype(float)),
    "half": (jitloss.binary_cross_entropy_with_logits, P.astype("float16"), LABELS),
}


@pytest.mark.parametrize(("loss", "predictions", "labels"), WEIGHED.values(), ids=WEIGHED)
def test_a_series_of_class_weights_goes_by_its_index(loss, predictions, labels):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    call = loss.value_and_gradient
    want = call(predictions, labels, class_weight=[3.0, 0.5])

    def same(weight):
        value, gradient = call(predictions, labels, class_weight=weight)
        assert value == want[0]
        np.testing.assert_array_equal(gradient, want[1])

    for dtype in ("float64", "Float32"):
        same(pd.Series([0.5, 3.0], index=[1, 0], dtype=dtype))
        same(pd.Series([0.5, 3.0], index=pd.Index([1, 0], dtype="category"), dtype=dtype))
        same(pd.Series([3.0, 0.5], dtype=dtype))
        same(pd.Series([0.5, 3.0], index=[True, False], dtype=dtype))
    same(pl.Series([3.0, 0.5]))
    counts = pd.Series(labels).astype("int64").value_counts()  # class 1 first
    assert (
        call(predictions, labels, class_weight=len(labels) / (2 * counts))[0]
        == call(predictions, labels, class_weight="balanced")[0]
    )
    for named in ({1: 0.5}, {0: 0.5}):  # pandas counts the second as if it were not registered
        assert call(predictions, labels, class_weight=pd.Series(named))[0] == call(predictions, labels, class_weight=named)[0]


@pytest.mark.parametrize(
    ("weights", "index", "said"),
    [
        ([1.0, 2.0], ["no", "yes"], "class_weight names the class 'no', wanted classes from 0 to 1"),
        ([1.0, 2.0], [1, 2], "class_weight names the class 2, wanted classes from 0 to 1"),
        ([1.0, 2.0], [0.0, 0.5], "class_weight names the class 0.5, wanted"),
        ([1.0, 2.0], [1, 1], "class_weight must name each class once, got an index that has 1 more than once"),
        ([1.0, 2.0, 3.0], None, "class_weight names the class 2, wanted classes from 0 to 1"),
        ([1.0, -2.0], [1, 0], "class_weight must not be negative, infinite or NaN, got -2.0 at index 0"),
        ([1.0, None], [1, 0], "class_weight cannot be read as an array: a column with 1 missing value "),
    ],
    ids=range(7),
)
def test_an_index_that_names_no_classes(weights, index, said):
    pd = pytest.importorskip("pandas")
    weight = pd.Series(weights, index=index, dtype="Float64")
    for loss, *inputs in WEIGHED.values():
        with pytest.raises(ValueError, match=f"^{loss.__name__}: {said}"):
            loss(*inputs, class_weight=weight)


def test_polars_rows():
    """A column whose rows are arrays."""
    pl = pytest.importorskip("polars")
    rows = pl.Series("rows", [[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float64, 2))
    gradient = mse_loss.gradient(rows, np.zeros((2, 2)))
    np.testing.assert_array_equal(gradient.to_numpy(), [[0.5, 1.0], [1.5, 2.0]])
    with pytest.raises(ValueError, match="a column with 1 missing value "):
        mse_loss(pl.Series([[1.0, None], [3.0, 4.0]], dtype=pl.Array(pl.Float64, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize("library", ["jax", "dask"])
def test_columns_beside_arrays_of_frameworks(library):
    pl, pd = pytest.importorskip("polars"), pytest.importorskip("pandas")
    if library == "jax":
        made = pytest.importorskip("jax.numpy").asarray(P, "float32")
    else:
        made = pytest.importorskip("dask.array").from_array(P.astype("float32"), chunks=2)
    want = pytest.approx(VALUE, rel=1e-6)
    for column in (pl.Series(T), pd.Series(T), pd.Series(T, dtype="Float64"), list(T)):
        assert float(mse_loss(made, column)) == want
    with pytest.raises(ValueError, match="targets cannot be read as an array: a column with 1 missing value "):
        mse_loss(made, pd.Series([1.0, None, 2.0], dtype="Float64"))
    loss, labels, by_class = (
        jitloss.binary_cross_entropy_with_logits,
        LABELS.astype("float32"),
        pd.Series([0.5, 3.0], index=[1, 0]),
    )
    want_weighted = pytest.approx(loss(P, labels, class_weight=[3.0, 0.5]), rel=1e-6)
    assert float(loss(made, labels, class_weight=by_class)) == want_weighted
    if library == "jax":
        import jax

        assert jax.jit(lambda p: mse_loss(p, pl.Series(T)))(made) == want
        assert jax.jit(lambda p: loss(p, labels, class_weight=by_class))(made) == want_weighted
        with pytest.raises(ValueError, match="a column with 1 missing value "):
            jax.grad(lambda p: mse_loss(p, pd.Series([1.0, None, 2.0], dtype="Float64")))(made)


def test_large_frames_are_not_copied():
    """They are column-major, and read in that order."""
    pd = pytest.importorskip("pandas")
    frame, other = (pd.DataFrame({name: np.full(250_000, value) for name in "abcd"}) for value in (2.0, 1.0))
    labels = np.zeros(250_000, np.int64)
    assert frame.to_numpy().flags.f_contiguous

    def held(call, *inputs):
        call(*inputs)
        tracemalloc.start()
        try:
            call(*inputs)
            return tracemalloc.get_traced_memory()[1] / frame.to_numpy().nbytes
        finally:
            tracemalloc.stop()

    assert held(mse_loss, frame, other) < 0.1
    assert held(mse_loss, frame["a"], other["b"]) < 0.1
    assert held(mse_loss, frame["a"].astype("Float64"), other["b"]) < 0.1
    assert held(jitloss.cross_entropy_with_logits, frame, labels) < 0.1


def test_files_larger_than_memory(tmp_path):
    """Inputs and output are memory maps, processed by a process that may use little more memory than after the import."""
    script = f"""
        import resource, numpy as np, jitloss
        inputs = [np.memmap({str(tmp_path)!r} + f"/{{name}}", np.float32, "w+", shape=(6000, 10_000)) for name in "pt"]
        inputs[0][::1000] = 1.0
        out = np.memmap({str(tmp_path)!r} + "/g", np.float32, "w+", shape=(6000, 10_000))
        loss = jitloss.mse_loss
        loss.value_and_gradient(inputs[0][:10], inputs[1][:10], out=out[:10])
        loss.value_and_gradient(inputs[0][:100], inputs[1][:100], out=out[:100])
        used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 2**26, used + 2**26))
        value, gradient = loss.value_and_gradient(*inputs, out=out)
        assert gradient is out
        print(value, float(out[1000, 5]), sum(one.nbytes for one in (*inputs, out)) > 10 * 2**26)
    """
    assert python("-c", textwrap.dedent(script)).split() == ["0.001", str(float(np.float32(2 / 6e7))), "True"]


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_an_output_is_no_memory_of_a_column_of_weights(library):
    module = pytest.importorskip(library)
    weights = np.array([0.5, 1.0, 2.0])
    column = module.Series(weights, copy=False) if library == "pandas" else module.array(weights)
    for _ in range(2):
        with pytest.raises(ValueError, match="this one overlaps sample_weight"):
            mse_loss.gradient(P, T, sample_weight=column, out=weights)
    np.testing.assert_array_equal(weights, [0.5, 1.0, 2.0])
