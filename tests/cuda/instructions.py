"""The PTX instructions that kernels use, on NumPy arrays with one number per thread."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np

from machine_memory import Fault

__all__ = ["CLUSTER", "KINDS", "Instruction"]

CLUSTER = 1 << 60
"""Of addresses in the shared memory of another block of a cluster, whose number is in the bits from 32 on."""

KINDS = {f"{letter}{8 * size}": np.dtype(f"{code}{size}") for letter, code in ("uu", "si", "bu") for size in (1, 2, 4, 8)}
KINDS |= {f"f{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)} | {"pred": np.dtype(bool)}
"""The types of operands, by the ends of opcodes."""

Action = Callable[[Any, Any], None]
"""What an instruction does with a grid, for some of its threads."""


# What instructions compute ----------------------------------------------------------------------------------------------------


def _fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Fused multiply-add, a b + c, rounded once; in float64 approximately."""
    if a.dtype == np.float32:
        return (a.astype(np.float64) * b + c).astype(np.float32)
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    lost = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
    total = product + c
    back = total - product
    exact = total + ((product - (total - back)) + (c - back) + lost)
    return np.where(np.isfinite(exact), exact, total)


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a number into two of half as many bits, whose sum it is."""
    large = x * 134217729.0
    high = large - (large - x)
    return high, x - high


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A quotient; integers are divided towards 0."""
    if a.dtype.kind != "i":
        return a / b if a.dtype.kind == "f" else a // b
    return (a - np.fmod(a, b)) // b


def _shift(shift: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def shifted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        bits = 8 * a.dtype.itemsize
        most = shift(a, np.minimum(b, bits - 1).astype(a.dtype))
        return np.where(b < bits, most, most if a.dtype.kind == "i" else 0)

    return shifted


def _inserted(a: np.ndarray, b: np.ndarray, place: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The low bits of ``a`` in their place within ``b``."""
    mask = ((1 << int(length)) - 1) << int(place)
    everything = (1 << 8 * b.dtype.itemsize) - 1
    return (b & b.dtype.type(everything & ~mask)) | ((a << a.dtype.type(int(place))) & a.dtype.type(everything & mask))


def _power_of_two(x: np.ndarray) -> np.ndarray:
    result = np.exp2(x.astype(np.float64)).astype(np.float32)
    return np.where(result < 2.0**-126, np.float32(0.0), result)


def _product_toward_0(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A float32 product, rounded toward 0."""
    exact = a.astype(np.float64) * b
    nearest = exact.astype(np.float32)
    return np.where(np.abs(nearest) > np.abs(exact), np.nextafter(nearest, np.float32(0.0)), nearest)


def _pair(kind: Any) -> Callable[..., np.ndarray]:
    """Two half-precision numbers packed into a word, the first in the high half."""

    def paired(high: np.ndarray, low: np.ndarray) -> np.ndarray:
        bits = [one.astype(kind).view(np.uint16).astype(np.uint32) for one in (high, low)]
        return (bits[0] << np.uint32(16)) | bits[1]

    return paired


_COMPUTE: dict[str, Callable[..., np.ndarray]] = {
    "abs": np.abs,
    "add": np.add,
    "and": np.bitwise_and,
    "bfi": _inserted,
    "copysign": lambda sign, x: np.copysign(x, sign),
    "cvta": lambda a: a,
    "div": _quotient,
    "ex2": _power_of_two,
    "fma": _fused,
    "max": np.fmax,
    "max.NaN": np.maximum,
    "min": np.fmin,
    "min.NaN": np.minimum,
    "mov": lambda a: a,
    "mul": np.multiply,
    "mul.rz": _product_toward_0,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "rcp": lambda a: 1 / a,
    "rem": np.fmod,
    "selp": lambda yes, no, condition: np.where(condition, yes, no),
    "shl": _shift(np.left_shift),
    "shr": _shift(np.right_shift),
    "sqrt": np.sqrt,
    "sub": np.subtract,
    "xor": np.bitwise_xor,
}

_OTHER_KINDS = {"selp": {2: "pred"}, "shl": {1: "u32"}, "shr": {1: "u32"}, "bfi": {2: "u32", 3: "u32"}}
"""Operands, by their place, whose type is not that of the opcode."""


def _ordered(compare: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, b: compare(a, b) & (a == a) & (b == b)


def _unordered(compare: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, b: compare(a, b) | (a != a) | (b != b)


_COMPARE: dict[str, Callable[..., Any]] = {
    **{name: _ordered(getattr(operator, name)) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{f"{name}u": _unordered(getattr(operator, name)) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "num": lambda a, b: (a == a) & (b == b),
    "nan": lambda a, b: (a != a) | (b != b),
}


# What they do with a grid -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Instruction:
    """An instruction of a kernel; ``guard`` is its predicate register, with ``!`` before it if negated.

    An operand is a text; a tuple of them for a vector; the text of a start and an offset for an address.
    """

    guard: str
    name: str
    modifiers: tuple[str, ...]
    operands: tuple[Any, ...]

    @property
    def opcode(self) -> str:
        return ".".join((self.name, *self.modifiers))

    @property
    def waits(self) -> bool:
        """Whether threads synchronise here."""
        return self.name in ("bar", "barrier", "shfl")

    @property
    def jumps(self) -> bool:
        return self.name in ("bra", "ret", "exit")

    @property
    def kind(self) -> np.dtype[Any]:
        return KINDS[self.modifiers[-1]]

    @cached_property
    def action(self) -> Action:
        if self.guard:
            raise Fault(f"a condition on anything but a jump, which this machine does not know: {self.opcode}")
        special = _ACTIONS.get(self.name)
        if special is None and self.name not in _COMPUTE:
            raise Fault(f"an instruction that this machine does not know: {self.opcode}")
        return (special or _computation)(self)


def _computation(one: Instruction) -> Action:
    target, *sources = one.operands
    others = _OTHER_KINDS.get(one.name, {})
    kinds = [KINDS[others[place]] if place in others else one.kind for place in range(len(sources))]
    function = next(
        (_COMPUTE[name] for name in (f"{one.name}.{how}" for how in one.modifiers) if name in _COMPUTE), _COMPUTE[one.name]
    )
    wide = np.dtype(f"{one.kind.kind}{2 * one.kind.itemsize}") if "wide" in one.modifiers else None

    def compute(grid: Any, who: Any) -> None:
        numbers = [grid.get(source, kind, who) for source, kind in zip(sources, kinds, strict=True)]
        grid.put(target, function(*(numbers if wide is None else [number.astype(wide) for number in numbers])), who)

    return compute


def _move(one: Instruction) -> Action:
    target, source = one.operands
    if isinstance(target, tuple):
        return lambda grid, who: grid.unpack(target, source, who)
    if isinstance(source, tuple):
        return lambda grid, who: grid.pack(target, source, who)
    return _computation(one)


def _comparison(one: Instruction) -> Action:
    compare, kind, (target, left, right) = _COMPARE[one.modifiers[0]], one.kind, one.operands
    return lambda grid, who: grid.put(target, compare(grid.get(left, kind, who), grid.get(right, kind, who)), who)


def _conversion(one: Instruction) -> Action:
    target, *sources = one.operands
    to = one.modifiers[-2]
    if to in ("bf16x2", "f16x2"):
        function = _pair(ml_dtypes.bfloat16 if to == "bf16x2" else np.float16)
    else:
        function = lambda number: number.astype(KINDS[to])
    return lambda grid, who: grid.put(target, function(*(grid.get(source, one.kind, who) for source in sources)), who)


def _load(one: Instruction) -> Action:
    target, source = one.operands
    targets = target if isinstance(target, tuple) else (target,)
    if "param" in one.modifiers:
        return lambda grid, who: grid.put(target, grid.parameter(source[0], one.kind), who)

    def load(grid: Any, who: Any) -> None:
        words, places = grid.words(source, one.kind, len(targets), who, shared="global" not in one.modifiers)
        for number, register in enumerate(targets):
            grid.put(register, words[places + number], who)

    return load


def _store(one: Instruction) -> Action:
    target, source = one.operands
    sources = source if isinstance(source, tuple) else (source,)

    def store(grid: Any, who: Any) -> None:
        words, places = grid.words(target, one.kind, len(sources), who, shared="global" not in one.modifiers, writes=True)
        for number, register in enumerate(sources):
            words[places + number] = grid.get(register, one.kind, who)

    return store


def _place_in_cluster(one: Instruction) -> Action:
    """The address of the same shared memory in another block."""
    target, source, block = one.operands

    def place(grid: Any, who: Any) -> None:
        number = grid.get(block, KINDS["u32"], who).astype(np.uint64)
        grid.put(target, grid.get(source, one.kind, who) | (number << np.uint64(32)) | np.uint64(CLUSTER), who)

    return place


_ACTIONS: dict[str, Callable[[Instruction], Action]] = {
    "cvt": _conversion,
    "ld": _load,
    "mapa": _place_in_cluster,
    "mov": _move,
    "setp": _comparison,
    "st": _store,
}
