"""The functions of jitloss.math: their values in NumPy, the error of their compiled form in ulp, special values, and SIMD code."""

import functools
import re

import numpy as np
import pytest
from numba import from_dtype, njit, types

import jitloss.compilers.cpu.elementary  # noqa: F401  (teaches numba the functions)
from jitloss import math as maths

FLAGS = {"reassoc", "contract", "nsz", "arcp"}  # what a kernel's own loop may be given
PRECISIONS = (np.float32, np.float64)
SMOOTH = ("exp", "log", "log1p", "expm1", "tanh", "log_cosh", "sigmoid", "softplus", "sqrt")
UNARY = (*SMOOTH, "abs", "sign")
INF, NAN = np.inf, np.nan
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-30, -1e-30, 87.0, -87.0, 1e30, -1e30, INF, -INF, NAN]


@functools.cache
def compiled(name, precision):
    """A loop over arrays, compiled as in kernels."""
    function, number = maths.FUNCTIONS[name], from_dtype(np.dtype(precision))
    source, target = types.Array(number, 1, "C", readonly=True), types.Array(number, 1, "C")
    options = {"fastmath": FLAGS, "error_model": "numpy"}
    if name in UNARY:

        @njit(types.void(source, target), **options)
        def loop(x, out):
            for i in range(x.size):
                out[i] = function(x[i])

    elif name in ("maximum", "minimum", "times", "power"):

        @njit(types.void(source, source, target), **options)
        def loop(x, y, out):
            for i in range(x.size):
                out[i] = function(x[i], y[i])

    elif name == "clip":

        @njit(types.void(source, source, source, target), **options)
        def loop(x, y, z, out):
            for i in range(x.size):
                out[i] = function(x[i], y[i], z[i])

    else:

        @njit(types.void(source, source, source, target), **options)
        def loop(x, y, z, out):
            for i in range(x.size):
                out[i] = function(x[i] < y[i], y[i], z[i])

    return loop


def run(name, *arrays):
    out = np.empty_like(arrays[0])
    compiled(name, out.dtype.type)(*arrays, out)
    return out


def stated_bound(name):
    text = maths.FUNCTIONS[name].__doc__
    found = re.search(r"Within ([\d.]+)", text)
    return float(found[1]) if found else {"Exact": 0.0, "Corre": 0.5}[re.search(r"(Exact|Corre)", text)[1]]


def wide(x):
    """A precision in which the reference is practically exact."""
    return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def error_in_ulp(result, truth):
    """The distance from the true value, where a number represents all that round to it; inf where they differ and are not both finite.

    A float32 result may be 0 where the truth is smaller than 2**-125.5, as jitloss.math states.
    """
    rounded = truth.astype(result.dtype)
    finite = np.isfinite(rounded) & np.isfinite(result)
    toward_zero = np.where(np.abs(rounded) > np.abs(truth), np.nextafter(rounded, 0), rounded)
    distance = np.abs(wide(result) - truth) / wide(np.spacing(np.abs(toward_zero)))
    same = (rounded == result) | (np.isnan(rounded) & np.isnan(result))
    flushed = (result == 0) & (np.abs(truth) < 2.0**-125.5) & (result.dtype == np.float32)
    return np.where(finite, np.where(flushed, 0.0, distance), np.where(same, 0.0, INF))


def samples(precision):
    """Numbers over the whole range of bit patterns, and more where the formulas change."""
    random = np.random.default_rng(0)
    if precision == np.float32:
        patterns = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        patterns = random.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)
    limit = float(np.log(np.finfo(precision).max))
    turning = [
        random.uniform(-1.1 * limit, 1.1 * limit, 100_000),
        random.normal(size=100_000) * 10.0 ** random.uniform(-4, 1, 100_000),
        1.0 + random.normal(size=100_000) * 10.0 ** random.uniform(-6, 0, 100_000),
        limit + np.linspace(-0.01, 0.01, 1000),
        -limit + np.linspace(-40.0, 1.0, 10_000),
        np.finfo(precision).smallest_normal * random.uniform(0, 2, 1000),
    ]
    return np.concatenate([patterns, *(part.astype(precision) for part in turning)])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SMOOTH)
def test_error_over_the_whole_range(name, precision):
    x = samples(precision)
    with np.errstate(all="ignore"):
        error = error_in_ulp(run(name, x), maths.FUNCTIONS[name](wide(x)))
    worst = np.argmax(error)
    assert error[worst] <= stated_bound(name), f"{name}({x[worst]!r})"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_error_of_power(precision):
    random = np.random.default_rng(0)
    count, limit = 300_000, float(np.log(np.finfo(precision).max))
    base = [random.random(count), np.abs(random.normal(1.0, 0.3, count)), np.exp(random.uniform(-limit, limit, count))]
    exponent = [random.uniform(-1.0, 5.0, count), random.normal(size=count) * limit, random.normal(size=count)]
    x, y = (np.concatenate(parts).astype(precision) for parts in (base, exponent))
    with np.errstate(all="ignore"):
        error = error_in_ulp(run("power", x, y), np.power(wide(x), wide(y)))
    assert np.all(error <= stated_bound("power") + np.abs(y) / 8)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_reference_agrees_with_mpmath(precision):
    mpmath = pytest.importorskip("mpmath")
    of_mpmath = {
        "exp": mpmath.exp,
        "log": mpmath.log,
        "log1p": mpmath.log1p,
        "expm1": mpmath.expm1,
        "tanh": mpmath.tanh,
        "log_cosh": lambda x: mpmath.log(mpmath.cosh(x)),
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    }
    x = np.concatenate([np.linspace(-40.0, 40.0, 40), np.geomspace(1e-12, 0.9, 20), -np.geomspace(1e-12, 0.9, 20)]).astype(
        precision
    )
    with mpmath.workprec(200):
        for name, exact in of_mpmath.items():
            domain = x[x > {"log": 0.0, "log1p": -1.0}.get(name, -INF)]
            truth = [exact(mpmath.mpf(float(one))) for one in domain]
            error = [abs((mpmath.mpf(float(one)) - t) / t) for one, t in zip(run(name, domain), truth, strict=True)]
            assert max(error) <= stated_bound(name) * np.finfo(precision).eps, name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [0.0, -0.0, INF, -INF, NAN, 1e30, -1e30], [1.0, 1.0, INF, 0.0, NAN, INF, 0.0]),
        ("log", [0.0, -0.0, 1.0, INF, -INF, -1.0, -1e-38, NAN], [-INF, -INF, 0.0, INF, NAN, NAN, NAN, NAN]),
        ("log1p", [0.0, -0.0, -1.0, INF, -INF, -2.0, 1e-30, NAN], [0.0, -0.0, -INF, INF, NAN, NAN, 1e-30, NAN]),
        ("expm1", [0.0, -0.0, INF, -INF, 1e30, -1e30, 1e-30, NAN], [0.0, -0.0, INF, -1.0, INF, -1.0, 1e-30, NAN]),
        ("tanh", [0.0, -0.0, INF, -INF, 1e30, -1e30, 1e-30, NAN], [0.0, -0.0, 1.0, -1.0, 1.0, -1.0, 1e-30, NAN]),
        ("log_cosh", [0.0, -0.0, INF, -INF, 1e30, -1e30, NAN], [0.0, 0.0, INF, INF, 1e30, 1e30, NAN]),
        ("sigmoid", [0.0, -0.0, INF, -INF, 1e30, -1e30, NAN], [0.5, 0.5, 1.0, 0.0, 1.0, 0.0, NAN]),
        ("softplus", [INF, -INF, 1e30, -1e30, NAN], [INF, 0.0, 1e30, 0.0, NAN]),
        ("sqrt", [0.0, 4.0, INF, -1.0, -INF, NAN], [0.0, 2.0, INF, NAN, NAN, NAN]),
        ("abs", [0.0, -0.0, -3.0, INF, -INF, NAN], [0.0, 0.0, 3.0, INF, INF, NAN]),
        ("sign", [0.0, -0.0, 1e-45, -1e-45, 5.0, INF, -INF, NAN], None),
    ],
)
def test_special_values(name, x, expected, precision):
    x = np.array(x, precision)
    expected = np.array([0.0, 0.0, 1.0, -1.0, 1.0, 1.0, -1.0, NAN] if expected is None else expected, precision)
    for result in (run(name, x), maths.FUNCTIONS[name](x)):
        assert result.dtype == precision
        np.testing.assert_array_equal(result, expected)
        if name in ("log1p", "expm1", "tanh", "log_cosh"):
            np.testing.assert_array_equal(np.signbit(result[:2]), np.signbit(expected[:2]))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["log1p", "expm1", "tanh"])
def test_tiny_numbers_come_back(name, precision):
    tiny = np.finfo(precision).smallest_subnormal * np.array([1.0, -1.0, 3.0, 1001.0, -12345.0])
    np.testing.assert_array_equal(run(name, tiny.astype(precision)), tiny)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", maths.FUNCTIONS)
def test_compiled_agrees_with_plain(name, precision):
    """Every function, every combination of special values, each in the middle of the loop and in its remainder."""
    count = 1 if name in UNARY else 2 if name in ("maximum", "minimum", "times", "power") else 3
    values = SPECIAL if count < 3 else SPECIAL[:7] + SPECIAL[-3:]
    arrays = [part.ravel() for part in np.meshgrid(*[np.array(values, precision)] * count)]
    arrays = [np.concatenate([part, part[:3]]) for part in arrays]
    arguments = [arrays[0] < arrays[1], *arrays[1:]] if name == "where" else arrays
    plain = maths.FUNCTIONS[name](*arguments)
    assert plain.dtype == precision
    rtol = 0 if stated_bound(name) <= 0.5 else 8 * np.finfo(precision).eps
    tiny = 2.0**-125 if rtol and precision == np.float32 else 0.0
    np.testing.assert_allclose(run(name, *arrays), plain, rtol=rtol, atol=tiny)


@pytest.mark.parametrize("name", maths.FUNCTIONS)
def test_scalars_keep_their_precision(name):
    count = 1 if name in UNARY else 2 if name in ("maximum", "minimum", "times", "power") else 3
    for one, expected in ((np.float32(0.25), np.float32), (np.float64(0.25), np.float64), (0.25, np.float64)):
        result = maths.FUNCTIONS[name](*[one] * count)
        assert np.ndim(result) == 0
        assert np.result_type(result) == expected


@pytest.mark.parametrize("name", maths.FUNCTIONS)
def test_float32_loops_are_simd_without_doubles(name):
    loop = compiled(name, np.float32)
    code = loop.inspect_llvm(loop.signatures[0])
    assert re.search(r"<\d+ x float>", code)
    assert "double" not in code
    assert not re.findall(r"call [^\n]*@(?!llvm\.|NRT_|Py|numba|_ZN)\w+\(", code)


def test_other_arguments_are_float64():
    power, maximum, where = maths.power, maths.maximum, maths.where

    @njit
    def mixed(a, b):
        return power(a, b), maximum(a, b), where(a, a, b)

    result = mixed(2, np.float32(0.5))
    assert result == pytest.approx((2.0**0.5, 2.0, 2.0), rel=1e-15)
    assert mixed(True, 3) == (1.0, 3.0, 1.0)


def test_keyword_arguments():
    clip = maths.clip
    assert njit(lambda x: clip(x, high=2.0, low=1.0))(5.0) == 2.0


def test_equivalents():
    assert maths.EQUIVALENT[np.exp] is maths.exp
    assert maths.EQUIVALENT[abs] is maths.abs
    assert set(maths.EQUIVALENT.values()) <= set(maths.FUNCTIONS.values())
    assert set(maths.FUNCTIONS) | {"FUNCTIONS", "EQUIVALENT"} == set(maths.__all__)
    for name, function in maths.FUNCTIONS.items():
        assert function.__name__ == name
        assert function.__doc__
