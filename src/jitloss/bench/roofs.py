"""The roofs of the machine, measured: bytes moved and operations done per second."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .measure import copy_calls
from .report import simd_bits
from .rounds import Call, seconds_per_call

__all__ = ["best", "copied_bytes_per_second", "operations_per_second", "threads"]

_CHAINS = 12  # more than the latency of a fused multiply-add times the number of its units
_ROUNDS = 5


def best(call: Call) -> float:
    """Seconds of a call, the best of a few rounds, without disturbances."""
    return min(seconds_per_call(call) for _ in range(_ROUNDS))


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(number)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def copied_bytes_per_second(size: int, number: int = 1) -> float:
    """Bytes read and written per second by a copy that moves ``size`` bytes in all: two arrays in, one out, with the faster stores."""
    inputs = [np.ones(size // 12, np.float32) for _ in range(2)]
    empty = [np.ones(16, np.float32) for _ in range(2)]
    with threads(number):
        overhead = min(best(call) for call in copy_calls(empty).values())
        seconds = min(best(call) for call in copy_calls(inputs).values())
    return 3 * inputs[0].nbytes / (seconds - overhead)


@cache
def _multiplier(lanes: int) -> Any:
    vector = ir.VectorType(ir.FloatType(), lanes)

    @intrinsic  # type: ignore[untyped-decorator]
    def chains(typing: Any, count: Any) -> Any:
        """``count`` fused multiply-adds in each of several independent chains."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
            builder.branch(loop)
            builder.position_at_end(loop)
            index = builder.phi(args[0].type)
            phis = [builder.phi(vector) for _ in range(_CHAINS)]
            factor = ir.Constant(vector, [0.5] * lanes)
            kind = ir.FunctionType(vector, [vector] * 3)
            fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{lanes}f32")
            values = [builder.call(fused, [phi, factor, ir.Constant(vector, [1.0 + at] * lanes)]) for at, phi in enumerate(phis)]
            following = builder.add(index, index.type(1))
            for phi, start, value in [
                (index, index.type(0), following),
                *((p, factor, v) for p, v in zip(phis, values, strict=True)),
            ]:
                phi.add_incoming(start, before)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, after)
            builder.position_at_end(after)
            total = values[0]
            for value in values[1:]:
                total = builder.fadd(total, value)
            return builder.extract_element(total, ir.IntType(32)(0))

        return types.float32(types.int64), codegen

    return njit(types.float32(types.int64))(lambda count: chains(count))


def operations_per_second() -> float:
    """Float32 operations per second on one core, with a fused multiply-add counted as two."""
    lanes, count = simd_bits() // 32, 1_000_000
    call = _multiplier(lanes)
    return 2 * lanes * _CHAINS * count / best(lambda: call(count))
