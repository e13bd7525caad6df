"""The functions of :mod:`jitloss.math` as straight-line LLVM code, without branches and calls, so that loops around them vectorise.

A formula is Python over :class:`Number`, whose operators emit LLVM instructions. It runs once where numba compiles a call, for
float32 or float64; its constants come from the :class:`Format` of its argument, so a float32 formula holds no double.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from .. import math as maths

__all__ = ["FLOAT32", "FLOAT64", "FORMULAS", "Number", "maximum", "minimum", "teach"]

CONTRACT = ("contract",)
ALONE = ("arcp",)  # allows nothing for a product, and keeps numba's flags away


@dataclass(frozen=True)
class Format:
    """A float format: its LLVM types and the constants of the formulas. The integer type has its width."""

    real: Any
    integer: Any
    mantissa: int
    bias: int
    smallest: float  # the smallest normal number
    root: int  # the bits of sqrt(1/2)
    ln2: tuple[float, float]  # the high part has room for an exact product with any exponent
    exp_range: tuple[float, float]  # beyond it exp is 0 or inf
    exp_tail: tuple[float, ...]
    log_tail: tuple[float, ...]
    log1p_tail: tuple[float, ...]
    log_cosh_tail: tuple[float, ...]
    halves: bool  # exp applies its exponent in two halves, for subnormal results; and log divides once
    # LLVM's functions that a back end does in its own way
    own: Mapping[str, Callable[..., "Number"]] = field(default_factory=dict)


# fmt: off
# exp_tail is p in exp(r) = 1 + r + r^2 p(r) for |r| <= log(2) / 2. log_tail, for sqrt(1/2) <= 1 + f <= sqrt(2), is p in
# log(1 + f) = f - f^2 / 2 + f^3 p(f) in float32, where a division costs more than five more powers, and p in
# 2 atanh(s) = 2 s + s^3 p(s^2), s = f / (2 + f), in float64. log1p_tail is p in log(1 + x) = x + x^2 p(x) for 0 <= x <= 1, which
# float32 affords, and log_cosh_tail p in -log(1 - x) = x + x^2 p(x) for 0 <= x <= 1/2. All are minimax in the relative error of exp - 1,
# of log and of atanh, computed with mpmath (least squares on Chebyshev nodes, Lawson's weights) and rounded one coefficient after
# another, the rest fitted again.
FLOAT32 = Format(
    real=ir.FloatType(),
    integer=ir.IntType(32),
    mantissa=23,
    bias=127,
    smallest=2.0**-126,
    root=int(np.float32(math.sqrt(0.5)).view(np.int32)),
    ln2=(0.693145751953125, 1.4286068203094172e-06),
    exp_range=(-87.5, 89.0),
    exp_tail=(0.4999999701976776, 0.16666541993618011, 0.04166748747229576, 0.008366616442799568, 0.0013865599175915122),
    log_tail=(
        0.3333333134651184, -0.2500081956386566, 0.2000124305486679, -0.1662341058254242,
        0.14201539754867554, -0.13159550726413727, 0.12762485444545746, -0.07636940479278564,
    ),
    log1p_tail=(
        -0.4999993145465851, 0.33330464363098145, -0.24958020448684692, 0.1969212293624878, -0.1534499228000641,
        0.10661425441503525, -0.05746141076087952, 0.02008921094238758, -0.0032913072500377893,
    ),
    log_cosh_tail=(
        0.49999523162841797, 0.3336315453052521, 0.24369105696678162, 0.26362934708595276, -0.180705264210701,
        1.20815908908844, -1.6389350891113281, 1.4142320156097412,
    ),
    halves=False,
)
FLOAT64 = Format(
    real=ir.DoubleType(),
    integer=ir.IntType(64),
    mantissa=52,
    bias=1023,
    smallest=2.0**-1022,
    root=int(np.float64(math.sqrt(0.5)).view(np.int64)),
    ln2=(0.6931471805598903, 5.497923018708371e-14),
    exp_range=(-746.0, 710.0),
    exp_tail=(
        0.5000000000000006, 0.16666666666666594, 0.04166666666657409, 0.008333333333385701, 0.0013888888932220309,
        0.0001984126972967826, 2.4801504628014754e-05, 2.7557396490199848e-06, 2.7626256211717186e-07, 2.505759767383318e-08,
    ),
    log_tail=(
        0.6666666666666735, 0.3999999999941102, 0.28571428742995675, 0.2222219852377655, 0.18183566454773564,
        0.15314003877382623, 0.1479635989800821,
    ),
    log1p_tail=(),
    log_cosh_tail=(),
    halves=True,
)
# fmt: on


def _operator(real: str, integer: str = "", swapped: bool = False) -> Callable[["Number", Any], "Number"]:
    def operator(self: "Number", other: Any) -> "Number":
        operands = [self.value, self.like(other).value]
        if swapped:
            operands.reverse()
        if self.value.type == self.format.real:
            return self.of(getattr(self.builder, real)(*operands, flags=CONTRACT))
        return self.of(getattr(self.builder, integer)(*operands))

    return operator


def _comparison(symbol: str) -> Callable[["Number", Any], "Number"]:
    def comparison(self: "Number", other: Any) -> "Number":
        return self.of(self.builder.fcmp_ordered(symbol, self.value, self.like(other).value, flags=CONTRACT))

    return comparison


@dataclass(frozen=True, eq=False)
class Number:
    """An LLVM value whose operators emit instructions: a float, the integer that holds its bits, or the result of a comparison.

    Every float instruction has the flag ``contract``, and no other. Numba gives the caller's flags to instructions that have
    none, and under ``reassoc`` LLVM turns ``(x + big) - big`` into ``x``.
    """

    builder: Any
    format: Format
    value: Any

    def of(self, value: Any) -> "Number":
        return Number(self.builder, self.format, value)

    def like(self, other: Any) -> "Number":
        return other if isinstance(other, Number) else self.of(ir.Constant(self.value.type, other))

    __add__ = __radd__ = _operator("fadd", "add")
    __sub__ = _operator("fsub", "sub")
    __rsub__ = _operator("fsub", "sub", swapped=True)
    __mul__ = __rmul__ = _operator("fmul")
    __truediv__ = _operator("fdiv")
    __and__ = _operator("", "and_")
    __or__ = _operator("", "or_")
    __lshift__ = _operator("", "shl")
    __rshift__ = _operator("", "lshr")
    __lt__ = _comparison("<")
    __gt__ = _comparison(">")
    __le__ = _comparison("<=")
    __ge__ = _comparison(">=")

    def equals(self, other: Any) -> "Number":
        return self.of(self.builder.fcmp_ordered("==", self.value, self.like(other).value, flags=CONTRACT))

    def __neg__(self) -> "Number":
        return self.like(-0.0) - self  # LLVM recognises it; CUDA's LLVM dialect has no fneg

    def bits(self) -> "Number":
        return self.of(self.builder.bitcast(self.value, self.format.integer))

    def real(self) -> "Number":
        return self.of(self.builder.bitcast(self.value, self.format.real))

    def product(self, other: "Number") -> tuple["Number", "Number"]:
        """The rounded product, never fused with an addition, and its rounding error."""
        rounded = self.of(self.builder.fmul(self.value, other.value, flags=ALONE))
        return rounded, self.call("fma", other, -rounded)

    def call(self, name: str, *others: Any, flags: Sequence[str] = CONTRACT) -> "Number":
        """Call an LLVM intrinsic."""
        if name in self.format.own:
            return self.format.own[name](self, *map(self.like, others))
        operands = [self.value, *(self.like(other).value for other in others)]
        kind = ir.FunctionType(self.value.type, [self.value.type] * len(operands))
        intrinsic = self.builder.module.declare_intrinsic(f"llvm.{name}", [self.value.type], kind)
        return self.of(self.builder.call(intrinsic, operands, fastmath=flags))

    def select(self, yes: "Number", no: Any) -> "Number":
        """For a comparison: ``yes`` where it holds, else ``no``."""
        return self.of(self.builder.select(self.value, yes.value, yes.like(no).value))


def _horner(x: Number, coefficients: Sequence[float]) -> Number:
    result = x.like(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


def _polynomial(x: Number, square: Number, coefficients: Sequence[float]) -> Number:
    """Even and odd powers separately: as many instructions as Horner's scheme where the square is available, and half the latency."""
    return _horner(square, coefficients[::2]) + x * _horner(square, coefficients[1::2])


def _in_pairs(x: Number, square: Number, coefficients: Sequence[float]) -> Number:
    """Neighbouring powers in pairs, for coefficients with alternating signs: even and odd powers separately would cancel."""
    pairs = [_horner(x, coefficients[index : index + 2]) for index in range(0, len(coefficients), 2)]
    result = pairs.pop()
    while pairs:
        result = result * square + pairs.pop()
    return result


def _bounded(x: Number) -> Number:
    """``x`` clipped to where exp is neither 0 nor inf; comparisons written like this preserve NaN."""
    low, high = x.format.exp_range
    x = (-x < -high).select(x.like(high), x)  # written so, LLVM sees that -abs(x) does not need it
    return (x < low).select(x.like(low), x)


def _reduced(x: Number, small: Number | None = None) -> tuple[Number, Number, Number]:
    """exp(x + small) as scale * other * exp(r): two powers of two, since 2**exponent may be too large or too small.

    In float64 each has half of the exponent. In float32, where every instruction counts, the other is 2.0: subnormal results become 0.
    """
    form = x.format
    high, low = form.ln2
    # adding 1.5 * 2**mantissa rounds to an integer, which is then in the lowest bits; here together with the biases of the exponents
    big = 1.5 * 2.0**form.mantissa + (2 * form.bias if form.halves else form.bias - 1)
    shifted = x * (1.0 / math.log(2.0)) + big
    exponent = shifted - big
    r = x - exponent * high - exponent * low
    if small is not None:
        r = r + small
    bits = shifted.bits()
    half = bits >> 1 if form.halves else bits
    scale = (half << form.mantissa).real()
    other = ((bits - half) << form.mantissa).real() if form.halves else x.like(2.0)
    return scale, other, r


def _reduced_exp(x: Number, small: Number | None = None) -> tuple[Number, Number, Number]:
    """exp(x + small) as scale * other * (1 + rest)."""
    scale, other, r = _reduced(x, small)
    square = r * r
    return scale, other, r + square * _polynomial(r, square, x.format.exp_tail)


def _split(x: Number, offset: Any = 0.0) -> tuple[Number, Number, Number]:
    """A positive normal ``x`` as 2**(e + offset) * (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); and the exponent's bits in place."""
    form = x.format
    fraction = (1 << form.mantissa) - 1
    moved = x.bits() + ((form.bias << form.mantissa) - form.root)
    exponent, f = moved & ~fraction, ((moved & fraction) + form.root).real() - 1.0
    # an integer in the lowest bits of 2.0**mantissa makes a float of it
    big = 2.0**form.mantissa
    e = ((exponent >> form.mantissa) | ((form.bias + form.mantissa) << form.mantissa)).real() - (
        x.like(offset) + (big + form.bias)
    )
    return e, f, exponent


def _split_any(x: Number) -> tuple[Number, Number]:
    """The same of any positive ``x``."""
    lift = float(x.format.mantissa)
    subnormal = x < x.format.smallest
    return _split(subnormal.select(x * 2.0**lift, x), subnormal.select(x.like(lift), 0.0))[:2]


def _log1p_tail(f: Number, half: Number) -> Number:
    """log(1 + f) - f + half, where half = f * f / 2."""
    if f.format.halves:
        s = f / (f + 2.0)
        square = s * s
        return s * (half + square * _horner(square, f.format.log_tail))
    square = f * f
    return f * square * _polynomial(f, square, f.format.log_tail)


def _joined_log(e: Number, f: Number) -> Number:
    """log(2**e * (1 + f))."""
    high, low = f.format.ln2
    half = f * f * 0.5
    return e * high + (f + (e * low + (_log1p_tail(f, half) - half)))


def _at_the_ends(x: Number, start: float, result: Number) -> Number:
    """A logarithm with its special values: -inf at the start of its domain, NaN below it, inf at inf, NaN at NaN."""
    low = x.equals(start).select(x.like(-math.inf), math.nan)
    return (x <= start).select(low, (x < math.inf).select(result, x))


def exp(x: Number) -> Number:
    if x.format.halves:
        scale, other, rest = _reduced_exp(_bounded(x))
        return (rest * scale + scale).product(other)[0]  # an addition that follows must not see more than was rounded
    scale, _, r = _reduced(_bounded(x))
    twice = _horner(r, [2.0 * one for one in (1.0, 1.0, *x.format.exp_tail)])  # the other power of two is free here
    return twice.product(scale)[0]


def _half_lost(x: Number) -> Number:
    """Half of 1 - exp(x); for the smallest numbers it may be a 0 of either sign."""
    scale, other, rest = _reduced_exp(_bounded(x))
    half = scale * (other * 0.5)  # 2**exponent itself may overflow
    return (0.5 - half) - rest * half


def expm1(x: Number) -> Number:
    return (x.call("fabs") < 2.0 ** -(x.format.mantissa + 2)).select(x, _half_lost(x) * -2.0)


def log(x: Number) -> Number:
    return _at_the_ends(x, 0.0, _joined_log(*_split_any(x)))


def _log1p(x: Number) -> Number:
    """log1p for finite x above -1."""
    u = x + 1.0
    lost = x - (u - 1.0)
    e, f, exponent = _split(u)
    inverse = exponent.like((2 * x.format.bias) << x.format.mantissa).call("usub.sat", exponent, flags=()).real()  # 2**-e
    return _joined_log(e, f + lost * inverse)


def log1p(x: Number) -> Number:
    return _at_the_ends(x, -1.0, _log1p(x)).call("copysign", x)


def _log1p_unit(x: Number) -> Number:
    """log1p for 0 <= x <= 1: one polynomial; in float64 an exact reduction, since the exponent of 1 + x is 0 or 1."""
    if x.format.log1p_tail:
        square = x * x
        return x + square * _in_pairs(x, square, x.format.log1p_tail)
    high, low = x.format.ln2
    large = x > math.sqrt(2.0) - 1.0
    f = large.select(x * 0.5 - 0.5, x)
    half = f * f * 0.5
    rest = large.select(x.like(low), 0.0) + (_log1p_tail(f, half) - half)
    return large.select(x.like(high), 0.0) + (f + rest)


def softplus(x: Number) -> Number:
    large, rest = (x > 0.0).select(x, 0.0), _log1p_unit(exp(-x.call("fabs")))
    return x.of(x.builder.fadd(large.value, rest.value, flags=(*CONTRACT, "nsz")))  # folded away where LLVM sees x <= 0


def sigmoid(x: Number) -> Number:
    small = exp(-x.call("fabs"))
    return (x < 0.0).select(small, 1.0) / (small + 1.0)


def _tanh(size: Number) -> tuple[Number, Number]:
    """The tanh of a number from 0 up, and (1 - exp(-2 size)) / 2, from which it is computed."""
    half = _half_lost(size * -2.0)
    return half / (1.0 - half), half


def tanh(x: Number) -> Number:
    return _tanh(x.call("fabs"))[0].call("copysign", x)


def log_cosh(x: Number) -> Number:
    """-log(1 - tanh^2) / 2, exact near 0, and abs(x) + log(1 - (1 - exp(-2 abs(x))) / 2), exact elsewhere, with a single logarithm."""
    size = x.call("fabs")
    slope, half = _tanh(size)
    near = size < 0.55
    y = near.select(slope * slope, half)  # from 0 to 1/2
    square = y * y
    tail = y.format.log_cosh_tail
    lost = y + square * _polynomial(y, square, tail) if tail else 0.0 - _log1p(-y)
    return near.select(lost * 0.5, size - lost)


def power(x: Number, y: Number) -> Number:
    """exp(y * log(x)), with the logarithm in two numbers, the second for what the first cannot hold."""
    high, low = x.format.ln2
    e, f = _split_any(x)
    square, square_low = f.product(f)
    half = square * 0.5
    first = e * high + f
    second = first - half
    lost = (f - (first - e * high)) + ((first - second) - half)
    lost = lost + (e * low + (_log1p_tail(f, half) - square_low * 0.5))
    log_high = second + lost
    log_low = lost - (log_high - second)

    log_high = _at_the_ends(x, 0.0, log_high)
    exponent, exponent_low = log_high.product(y)
    small = (exponent.call("fabs") < x.format.exp_range[1] * 2.0).select(exponent_low + log_low * y, 0.0)
    scale, other, rest = _reduced_exp(_bounded(exponent), small)
    return (y.equals(0.0) | x.equals(1.0)).select(x.like(1.0), (rest * scale + scale) * other)


def sqrt(x: Number) -> Number:
    return x.call("sqrt")


def absolute(x: Number) -> Number:
    return x.call("fabs")


def sign(x: Number) -> Number:
    return (x.call("fabs") > 0.0).select(x.like(1.0).call("copysign", x), x)


def _farther(a: Number, b: Number, name: str, before: Number) -> Number:
    """``b`` where ``a`` comes before it, else ``a``; NaN if either is. LLVM derives ranges from this, which it does not from its own."""
    if name in a.format.own:
        return a.call(name, b)
    return b.equals(b).select(before.select(b, a), b)


def maximum(a: Number, b: Number) -> Number:
    return _farther(a, b, "maximum", a < b)


def minimum(a: Number, b: Number) -> Number:
    return _farther(a, b, "minimum", a > b)


def clip(x: Number, low: Number, high: Number) -> Number:
    return minimum(maximum(x, low), high)


def times(a: Number, x: Number) -> Number:
    return a.equals(0.0).select(a.like(0.0), a * x)


def where(condition: Number, a: Number, b: Number) -> Number:
    return condition.select(a, b)


FORMULAS: dict[Callable[..., Any], Callable[..., Number]] = {
    maths.exp: exp,
    maths.log: log,
    maths.log1p: log1p,
    maths.expm1: expm1,
    maths.tanh: tanh,
    maths.log_cosh: log_cosh,
    maths.sigmoid: sigmoid,
    maths.softplus: softplus,
    maths.sqrt: sqrt,
    maths.abs: absolute,
    maths.sign: sign,
    maths.where: where,
    maths.maximum: maximum,
    maths.minimum: minimum,
    maths.clip: clip,
    maths.times: times,
    maths.power: power,
}
"""The functions that a definition may call, and their implementations."""


def teach(
    function: Callable[..., Any],
    formula: Callable[..., Number],
    tools: Any,
    signature: Any,
    formats: tuple[Format, Format] = (FLOAT32, FLOAT64),
) -> None:
    """Register the type and the code of calls to ``function`` with a compiler; all float32 gives float32, anything else float64.

    ``tools`` is the compiler's ``extending`` module, ``signature`` makes its signatures.
    """
    parameters = inspect.signature(function)
    condition = (types.boolean,) if "condition" in parameters.parameters else ()
    count = len(parameters.parameters) - len(condition)

    @tools.type_callable(function)
    def typed(context: Any) -> Callable[..., Any]:
        def typer(*arguments: Any, **named: Any) -> Any:
            try:
                bound = parameters.bind(*arguments, **named).args
            except TypeError as error:
                raise TypingError(f"{function.__name__}({', '.join(parameters.parameters)}): {error}") from None
            if all(isinstance(one, (types.Float, types.Integer, types.Boolean)) for one in bound):
                narrow = all(one == types.float32 for one in bound[len(condition) :])
                working = types.float32 if narrow else types.float64
                return signature(working, *condition, *[working] * count)
            return None

        typer.pysig = parameters  # type: ignore[attr-defined]
        return typer

    for working, form in zip((types.float32, types.float64), formats, strict=True):

        @tools.lower_builtin(function, *condition, *[working] * count)
        def code(context: Any, builder: Any, call: Any, values: Sequence[Any], form: Format = form) -> Any:
            return formula(*(Number(builder, form, value) for value in values)).value
