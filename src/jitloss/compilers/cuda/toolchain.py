"""numba-cuda, imported in one place, and extended by the functions of definitions and this library's intrinsics."""

import contextvars
import dataclasses
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, cuda, types
from numba.core import cgutils

from ... import math as maths
from .. import elementary, elements, targets, tuples
from ..cpu import elementary as _of_the_cpu  # noqa: F401  # registered first: for numba-cuda the last registration counts
from ..fingerprint import without_filename
from ..variant import Variant

__all__ = ["SIMULATED", "device_kind", "jitable", "jitable_for", "teach_intrinsic"]

if getattr(cuda, "implementation", None) != "NVIDIA":
    raise ImportError("CUDA arrays need numba-cuda: pip install 'jitloss[cuda]' (or 'jitloss[cuda12]' for CUDA 12)")

device_kind: contextvars.ContextVar[tuple[int, int]] = contextvars.ContextVar("device_kind", default=(8, 0))
"""The compute capability of the present compilation."""

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether kernels run in numba's simulator: as Python, on arrays, with a Python thread for every thread."""


def jitable(function: Any) -> Callable[..., Any]:
    """Compile a small function that kernels call."""
    if SIMULATED:
        return function
    from numba.cuda import extending

    made: Callable[..., Any] = extending.register_jitable(forceinline=True)(without_filename(function))
    return made


def jitable_for(variant: Variant) -> Callable[[Any], Callable[..., Any]]:
    """:func:`jitable`, with a cheaper exp where all arrays of a kernel are half types, since the better one would not show."""
    dtypes = [dtype for one, dtype in zip(variant.definition.inputs, variant.inputs, strict=True) if one.differentiable]
    halves = variant.working == "float32" and {*dtypes, variant.output} <= {"float16", "bfloat16"}
    return _with_plain_exp if halves else jitable


def _with_plain_exp(function: Any) -> Callable[..., Any]:
    code = function.__code__
    for name in code.co_names:
        if function.__globals__.get(name) is maths.exp:
            scope = {**function.__globals__, name: exp_for_halves}
            function = FunctionType(code, scope, function.__name__, function.__defaults__, function.__closure__)
    for cell in function.__closure__ or ():
        if cell.cell_contents is maths.exp:
            cell.cell_contents = exp_for_halves
    return jitable(function)


def teach_intrinsic(one: Any, own: Callable[..., Any] | None = None) -> Any:
    """Let CUDA kernels call an intrinsic of numba's CPU compiler, with the same code or ``own``."""
    if SIMULATED:
        return one
    from numba.cuda.typing import templates

    def typer(typing: Any, *arguments: Any) -> Any:
        try:
            return (own or one.typer)(typing, *arguments)
        except AttributeError:  # first called without literals
            return None

    typer.__wrapped__ = one.typer  # type: ignore[attr-defined]  # its argument names
    template = templates.make_intrinsic_template(one, typer, one.__name__, prefer_literal=True, kwargs={"target": "cuda"})
    templates.infer(template)
    templates.infer_global(one, types.Function(template))
    return one


def _assembly(text: str) -> Callable[..., elementary.Number]:
    """A PTX instruction, with ``{real}`` for f32 or f64."""

    def instruction(*operands: elementary.Number) -> elementary.Number:
        first = operands[0]
        single = first.format.real == ir.FloatType()
        kind = ir.FunctionType(first.value.type, [first.value.type] * len(operands))
        constraints = ",".join(["=f" if single else "=d"] + ["f" if single else "d"] * len(operands))
        code = ir.InlineAsm(kind, text.format(real="f32" if single else "f64"), constraints)
        return first.of(first.builder.call(code, [operand.value for operand in operands]))

    return instruction


_power_of_two = _assembly("ex2.approx.ftz.{real} $0, $1;")
_product_toward_0 = _assembly("mul.rz.{real} $0, $1, $2;")
_number_from = _assembly("max.{real} $0, $1, $2;")
"""The larger of two numbers, or the one that is not NaN."""


def _exp(x: elementary.Number) -> elementary.Number:
    """The hardware's power of two, times a correction for the rounding error of x log2(e).

    NVIDIA states 2 ulp for the instruction; three roundings are added. The second factor is near 1 wherever the first is neither
    0 nor infinite; the lower limit below keeps it from making NaN of those. No upper limit is needed: the product is rounded
    toward 0, so it is infinite for no finite number, and then the factor is finite.
    """
    if x.format.halves:
        return elementary.exp(x)
    high = float(np.float32(math.log2(math.e)))
    rounded = _product_toward_0(x, x.like(high))
    gained = x.call("fma", -high, rounded) + x * (high - math.log2(math.e))
    correction = gained * -math.log(2.0) + 1.0
    return _power_of_two(rounded) * _number_from(correction, x.like(0.5))


def exp_for_halves(x: float) -> float:
    """exp(``x``) within a few times ``x`` 2**-24, for kernels with half-precision inputs and outputs."""
    return maths.exp(x)


def _exp_for_halves(x: elementary.Number) -> elementary.Number:
    return _power_of_two(x * math.log2(math.e))


def _extreme(name: str) -> Callable[..., elementary.Number]:
    """The larger or smaller number, NaN if either is: one instruction for float32 that devices before 8.0 lack."""
    single = _assembly(name + ".NaN.{real} $0, $1, $2;")

    def extreme(a: elementary.Number, b: elementary.Number) -> elementary.Number:
        if not a.format.halves and device_kind.get() >= (8, 0):
            return single(a, b)
        better = (a > b) if name == "max" else (a < b)
        nan = a.of(a.builder.fcmp_unordered("uno", a.value, a.value))
        return nan.select(a, better.select(a, b))

    return extreme


def _saturating_difference(a: elementary.Number, b: elementary.Number) -> elementary.Number:
    larger = a.of(a.builder.icmp_unsigned(">", a.value, b.value))
    return larger.select(a - b, 0)


def _copysign(x: elementary.Number, sign: elementary.Number) -> elementary.Number:
    return _assembly("copysign.{real} $0, $1, $2;")(sign, x)


_FUNCTIONS = {
    "fabs": _assembly("abs.{real} $0, $1;"),
    "fma": _assembly("fma.rn.{real} $0, $1, $2, $3;"),
    "sqrt": _assembly("sqrt.rn.{real} $0, $1;"),
    "copysign": _copysign,
    "maximum": _extreme("max"),
    "minimum": _extreme("min"),
    "usub.sat": _saturating_difference,
}
"""LLVM functions that CUDA's LLVM dialect lacks, or has under other names."""

_FORMATS = (
    dataclasses.replace(elementary.FLOAT32, own=_FUNCTIONS),
    dataclasses.replace(elementary.FLOAT64, own=_FUNCTIONS),
)


def _larger(typing: Any, left: Any, right: Any) -> Any:
    """``maximum_of``, for a tuple."""
    form = _FORMATS[left.dtype != types.float32]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = zip(*(cgutils.unpack_tuple(builder, one) for one in args), strict=True)
        parts = [elementary.maximum(*(elementary.Number(builder, form, one) for one in pair)).value for pair in pairs]
        return context.make_tuple(builder, left, parts)

    return left(left, left), codegen


def _teach() -> None:
    from numba.cuda import extending
    from numba.cuda.typing.templates import Signature

    def signature(result: Any, *arguments: Any) -> Any:
        return Signature(result, arguments, None)

    for function, formula in elementary.FORMULAS.items():
        elementary.teach(function, _exp if function is maths.exp else formula, extending, signature, _FORMATS)
    elementary.teach(exp_for_halves, _exp_for_halves, extending, signature, _FORMATS)
    for one in (
        elements.load,
        elements.read,
        elements.spread,
        elements.stacks,
        elements.store,
        targets.element,
        targets.mark,
        tuples.add,
        tuples.cast,
        tuples.patch,
        tuples.scaled,
        tuples.select,
        tuples.weighted,
    ):
        teach_intrinsic(one)
    teach_intrinsic(tuples.maximum_of, _larger)


if not SIMULATED:
    _teach()
