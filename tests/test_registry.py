"""Which arguments count as arrays: what is accepted or rejected, how a type is added, and that no framework is imported."""

import array
import gc
import subprocess
import sys
import weakref
from collections import OrderedDict, UserList, deque, namedtuple
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import jitloss
from cases import CASES, draw
from jitloss import keys, mse_loss, mse_loss_gradient, registry

PREDICTIONS, TARGETS = np.array([1.0, -2.0, 4.0]), np.array([0.0, 1.0, 4.0])
VALUE, GRADIENT = mse_loss.value_and_gradient(PREDICTIONS, TARGETS)


class Named(list):
    """A subclass of list."""


SEQUENCES = {
    "list": list,
    "tuple": tuple,
    "subclass": Named,
    "array": lambda numbers: array.array("d", numbers),
    "floats": lambda numbers: array.array("f", numbers),
    "named tuple": lambda numbers: namedtuple("Three", "a b c")(*numbers),
    "arrays": lambda numbers: [np.float32(number) for number in numbers],
    "0-d arrays": lambda numbers: [np.array(number) for number in numbers],
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_sequences(kind):
    make = SEQUENCES[kind]
    for _ in range(2):
        value, gradient = mse_loss.value_and_gradient(make(PREDICTIONS.tolist()), make(TARGETS.tolist()))
        assert value == pytest.approx(VALUE)
        assert type(gradient) is np.ndarray
        np.testing.assert_allclose(gradient, GRADIENT, rtol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_nested_lists_for_every_loss(case):
    inputs = draw(case, case.shape, "float64")
    value, gradient = case.loss.value_and_gradient(*(one.tolist() for one in inputs))
    want = case.loss.value_and_gradient(*inputs)
    assert value == want[0]
    for key in gradient if isinstance(gradient, dict) else [slice(None)]:
        np.testing.assert_array_equal(gradient[key], want[1][key])


@pytest.mark.parametrize("number", [3, 3.0, np.float32(3), np.int8(3), np.array(3.0), np.uint64(3)], ids=repr)
def test_scalars(number):
    value, gradient = mse_loss.value_and_gradient(number, 1)
    assert (type(value), value) == (float, 4.0)
    assert (gradient.shape, gradient) == ((), 4.0)


def test_ranges_and_integers_become_float64():
    value, gradient = mse_loss.value_and_gradient(range(3), [0, 0, 0])
    assert (value, gradient.dtype) == (pytest.approx(5 / 3), np.float64)


def test_subclasses_come_back_as_arrays():
    """np.matrix redefines ``*`` and ``.sum``; results are plain arrays."""
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(PREDICTIONS)
    value, gradient = mse_loss.value_and_gradient(matrix, TARGETS[None])
    assert (value, type(gradient), gradient.shape) == (VALUE, np.ndarray, (1, 3))
    out = matrix.copy()
    assert mse_loss_gradient(matrix, TARGETS[None], out=out) is out
    np.testing.assert_array_equal(np.asarray(out)[0], GRADIENT)


def test_memory_maps(tmp_path):
    numbers = np.memmap(tmp_path / "numbers", np.float64, "w+", shape=3)
    numbers[:] = PREDICTIONS
    into = np.memmap(tmp_path / "gradient", np.float64, "w+", shape=3)
    for _ in range(2):
        value, gradient = mse_loss.value_and_gradient(numbers, TARGETS, out=into)
        assert (value, gradient is into) == (VALUE, True)
    into.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "gradient"), GRADIENT)
    with pytest.raises(ValueError, match="read-only"):
        mse_loss_gradient(numbers, TARGETS, out=np.memmap(tmp_path / "gradient", np.float64, "r", shape=3))


def test_two_maps_of_one_file(tmp_path):
    """Their addresses differ, but they share their elements."""
    file, numbers = tmp_path / "both.npy", np.random.default_rng(0).random(5000)
    np.save(file, numbers)
    read, written = np.load(file, mmap_mode="r"), np.load(file, mmap_mode="r+")
    for mine in (written[1:], written[:-1][::-1], written[1:].view(np.ndarray)):
        with pytest.raises(ValueError, match="mse_loss: out overlaps another array of the call; it may be predictions itself"):
            mse_loss_gradient(read[:-1], np.zeros(4999), out=mine)
    np.testing.assert_array_equal(read, numbers)
    with pytest.raises(ValueError, match="out overlaps"):
        mse_loss_gradient(np.zeros(5000), read, out=written)
    copied = np.load(file, mmap_mode="c")  # what is written to it stays in this process
    np.testing.assert_allclose(mse_loss_gradient(np.zeros(5000), read, out=copied), -read / 2500)
    want = mse_loss_gradient(numbers[:2500], numbers[2500:])
    np.testing.assert_array_equal(mse_loss_gradient(read[:2500], numbers[2500:], out=written[2500:]), want)
    np.testing.assert_array_equal(
        mse_loss_gradient(read, np.zeros(5000), out=written), mse_loss_gradient(np.r_[numbers[:2500], want], np.zeros(5000))
    )


def test_masked_arrays_are_refused():
    masked = np.ma.masked_array(PREDICTIONS, mask=[0, 1, 0])
    for name, call in (
        ("predictions", lambda: mse_loss(masked, TARGETS)),
        ("predictions", lambda: mse_loss([masked], [TARGETS])),
        ("predictions", lambda: mse_loss([np.ma.masked, 1.0], [0.0, 0.0])),
        ("targets", lambda: mse_loss([[PREDICTIONS]], [[(masked,)]])),
        ("targets", lambda: mse_loss(PREDICTIONS, masked)),
        ("sample_weight", lambda: mse_loss(PREDICTIONS, TARGETS, sample_weight=masked)),
        ("out", lambda: mse_loss_gradient(PREDICTIONS, TARGETS, out=masked)),
    ):
        with pytest.raises(TypeError, match=rf"mse_loss: {name} .*mask would be lost.*filled"):
            call()


# pandas, or what looks like it ------------------------------------------------------------------------------------------------


class Series:
    """A stand-in for pandas: a class of this name in a package of that name."""

    __module__ = "pandas.core.series"

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)

    def to_numpy(self):
        return self.numbers


class Subclass(Series):
    __module__ = "geo.frames"


@pytest.mark.parametrize("kind", [Series, Subclass])
def test_pandas_is_known_by_name(kind):
    assert mse_loss(kind(PREDICTIONS), TARGETS) == VALUE
    value, gradient = mse_loss.value_and_gradient(kind(PREDICTIONS), kind(TARGETS), sample_weight=kind([1.0, 1.0, 1.0]))
    assert (value, type(gradient)) == (VALUE, np.ndarray)
    with pytest.raises(TypeError, match=r"predictions must be .* got the dtype object"):
        mse_loss(kind(PREDICTIONS.astype(object)), TARGETS)
    weight = np.ones(3)
    with pytest.raises(ValueError, match="overlaps"):
        mse_loss_gradient(PREDICTIONS, TARGETS, sample_weight=kind(weight), out=weight)


def test_pandas_itself():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"p": PREDICTIONS, "t": TARGETS, "y": [True, False, True]}, index=["x", "y", "z"])
    assert mse_loss(frame["p"], frame["t"]) == VALUE
    assert mse_loss(frame[["p"]], frame[["t"]]) == VALUE
    assert jitloss.hinge_loss(frame["p"], frame["y"]) == jitloss.hinge_loss(PREDICTIONS, [True, False, True])
    assert mse_loss(frame["p"], frame.index.map(dict(zip("xyz", TARGETS, strict=True)))) == VALUE
    with pytest.raises(ValueError, match=r"\(3,\).*\(3, 1\)"):
        mse_loss(frame["p"], frame[["t"]])


# What is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing",
    [None, "1.0", b"1.0", bytearray(8), memoryview(b"1"), {1.0}, {"a": 1.0}, OrderedDict(a=1.0), deque([1.0]), UserList([1.0]),
     iter([1.0]), (x for x in [1.0]), object(), int, len, lambda: 1.0, Decimal(1), slice(1), Ellipsis, mse_loss, NotImplemented],
    ids=lambda thing: type(thing).__name__,
)  # fmt: skip
def test_unknown_types(thing):
    """A TypeError that names the argument and the type, and lists what is supported."""
    for name, args in (("predictions", (thing, TARGETS)), ("targets", (PREDICTIONS, thing))):
        for _ in range(2):
            with pytest.raises(TypeError) as raised:
                mse_loss(*args)
            kind = type(thing)
            message = str(raised.value)
            assert f"mse_loss: {name} is a {kind.__module__}.{kind.__qualname__}, which is not supported" in message
            assert "NumPy arrays, sequences of numbers, scalars, pandas objects" in message
            assert "jitloss.register_array_type" in message


@pytest.mark.parametrize(
    ("thing", "error"),
    [
        ([[1.0], [1.0, 2.0]], ValueError),
        (["a", "b", "c"], TypeError),
        ([None] * 3, TypeError),
        ([1j] * 3, TypeError),
        ([10**400] * 3, TypeError),
        ([Fraction(1)] * 3, TypeError),
        (Fraction(1), TypeError),
        (1j, TypeError),
        (np.str_("1"), TypeError),
        (np.datetime64(1, "s"), TypeError),
        ([{}] * 3, TypeError),
        ([np.nan, "x", 1], TypeError),
    ],
    ids=repr,
)
def test_sequences_that_are_no_numbers(thing, error):
    for name, args in (("predictions", (thing, TARGETS)), ("targets", (PREDICTIONS, thing))):
        with pytest.raises(error, match=f"mse_loss: {name} "):
            mse_loss(*args)


# Types of one's own -----------------------------------------------------------------------------------------------------------


class Column:
    def __init__(self, data):
        self.data = np.asarray(data)


class Child(Column):
    pass


def register(kind=Column, **given):
    jitloss.register_array_type(kind, to_numpy=lambda one: one.data, **given)


def test_a_type_is_registered_with_its_subclasses(entries):
    with pytest.raises(TypeError, match=r"test_registry\.Child, which is not supported"):
        mse_loss(Child(PREDICTIONS), TARGETS)
    register(from_numpy=lambda result, like: type(like)(result), from_value=lambda value, like: ("value", value), name="columns")
    for kind in (Column, Child):
        value, gradient = mse_loss.value_and_gradient(kind(PREDICTIONS), TARGETS)
        assert value == ("value", VALUE)
        assert type(gradient) is kind
        np.testing.assert_array_equal(gradient.data, GRADIENT)
        each = mse_loss(kind(PREDICTIONS), TARGETS, reduction="none")
        np.testing.assert_array_equal(each.data, (PREDICTIONS - TARGETS) ** 2)
    triplet = jitloss.triplet_loss.gradient(Column(np.eye(2)), np.ones((2, 2)), np.zeros((2, 2)))
    assert {type(one) for one in triplet.values()} == {Column}
    assert mse_loss(PREDICTIONS, Column(TARGETS)) == VALUE  # results are of the prediction's type
    assert mse_loss(PREDICTIONS, TARGETS, sample_weight=Column(np.ones(3))) == VALUE
    with pytest.raises(TypeError, match="columns"):
        mse_loss(object(), TARGETS)


def test_values_of_a_type_of_ones_own_are_added(entries):
    class Number:
        def __init__(self, number):
            self.number = number

        def __add__(self, other):
            return Number(self.number + other.number)

    register(from_value=lambda value, like: Number(value))
    one, target = Column(PREDICTIONS), Column(TARGETS)
    assert jitloss.l2_regularization({"a": one, "b": one}).number == 2.0 * jitloss.l2_regularization(PREDICTIONS)
    for total, want in (
        (jitloss.weighted_sum(a=mse_loss), VALUE),
        (jitloss.weighted_sum(a=mse_loss, b=(mse_loss, 2.0)), 3.0 * VALUE),
    ):
        names = list(total.terms)
        assert total(dict.fromkeys(names, one), dict.fromkeys(names, target)).number == pytest.approx(want)


def test_a_later_registration_replaces(entries):
    register()
    assert mse_loss(Child(PREDICTIONS), TARGETS) == VALUE
    jitloss.register_array_type(Child, to_numpy=lambda one: one.data + 1.0)
    assert mse_loss(Child(PREDICTIONS - 1.0), TARGETS) == VALUE
    assert mse_loss(Column(PREDICTIONS), TARGETS) == VALUE


def test_a_type_is_registered_by_name(entries):
    far = type("Far", (Column,), {"__module__": "faraway.deep.inside"})
    register("faraway.Far", name="far arrays")
    assert "faraway" not in sys.modules
    assert mse_loss(far(PREDICTIONS), TARGETS) == VALUE
    assert mse_loss(type("Further", (far,), {"__module__": "elsewhere"})(PREDICTIONS), TARGETS) == VALUE
    with pytest.raises(TypeError, match="far arrays"):
        mse_loss(type("Far", (), {"__module__": "another"})(), TARGETS)


def test_a_look_up_is_made_once(entries, monkeypatch):
    register()
    entry = registry.array_type(Child(1.0), "loss", "predictions")
    monkeypatch.setattr(registry, "_by_type", {})
    monkeypatch.setattr(registry, "_by_name", {})
    assert registry.array_type(Child(2.0), "loss", "predictions") is entry


def test_types_that_are_made_in_a_loop_are_let_go(entries, monkeypatch):
    monkeypatch.setattr(keys, "MOST_KEYS", 8)
    made = []
    for _ in range(30):
        kind = type("Sub", (np.ndarray,), {})
        assert mse_loss(PREDICTIONS.view(kind), TARGETS) == VALUE
        made.append(weakref.ref(kind))
        del kind
    gc.collect()
    assert sum(one() is not None for one in made) <= 8


def test_readers_that_fail_or_give_something_else(entries):
    class Strange(ValueError):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    def fail(one):
        raise Strange("this", "that")

    jitloss.register_array_type(Column, to_numpy=fail)
    with pytest.raises(ValueError, match="mse_loss: predictions cannot be read as an array: this and that"):
        mse_loss(Column(PREDICTIONS), TARGETS)
    for result, message in ((None, "dtype object"), ("text", "dtype <U4"), (object(), "dtype object")):
        jitloss.register_array_type(Column, to_numpy=lambda one, result=result: result)
        with pytest.raises(TypeError, match=f"mse_loss: predictions .*{message}"):
            mse_loss(Column(PREDICTIONS), TARGETS)
    jitloss.register_array_type(Column, to_numpy=lambda one: one.data.tolist())
    assert mse_loss(Column(PREDICTIONS), TARGETS) == VALUE


@pytest.mark.parametrize(
    "kind", [None, 5, "", "Column", ".", "a.", ".b", "a.b.C", "a b.C", [Column], Column(1)], ids=lambda one: type(one).__name__
)
def test_bad_registrations(kind, entries):
    with pytest.raises(TypeError, match=r"register_array_type: kind must be a type or 'package.Class'.*got"):
        register(kind)


@pytest.mark.parametrize("function", ["to_numpy", "from_numpy", "from_value"])
def test_bad_functions(function, entries):
    given = {"to_numpy": np.asarray, function: 5}
    with pytest.raises(TypeError, match=f"register_array_type: {function} must be callable, got 5"):
        jitloss.register_array_type(Column, **given)
    with pytest.raises(TypeError, match="register_array_type: to_numpy must be callable, got None"):
        jitloss.register_array_type(Column, to_numpy=None)


# Nobody's framework -----------------------------------------------------------------------------------------------------------

FOREIGN = """
import sys
import numpy, numba, llvmlite
before = set(sys.modules)
import jitloss
standard = set(sys.stdlib_module_names) | {"numpy", "numba", "llvmlite", "jitloss"}
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - standard))
try:
    jitloss.mse_loss(object(), 1.0)
except TypeError:
    pass
jitloss.mse_loss.value_and_gradient([1.0], [2.0])
jitloss.register_array_type("torch.Tensor", to_numpy=abs)
print(sorted({"torch", "jax", "pandas", "cupy", "dask", "ml_dtypes", "tensorflow", "sklearn"} & set(sys.modules)))
"""


def test_no_framework_is_imported():
    ran = subprocess.run([sys.executable, "-c", FOREIGN], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n[]\n", "")
