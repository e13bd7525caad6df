"""LLVM loops with independent iterations: each accesses the numbers at its own index, and no others.

So an output may be an input. LLVM is told so, and vectorises without run-time overlap checks.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir
from llvmlite.ir.values import MDValue

from ..elements import ITEMSIZE, load_one, store_one

__all__ = ["COLUMN", "Iteration", "convert", "pick", "repeat", "vector_bytes", "vectors_of"]

COLUMN = 128
"""Bytes of a column of a block of rows: the numbers of 32 rows in float32, of 16 in float64."""

_I64 = ir.IntType(64)


def pick(builder: Any, pieces: Any, positions: Sequence[int] | None = None) -> list[Any]:
    """The values of a tuple, or those at some positions."""
    among = range(len(pieces.type.elements)) if positions is None else positions
    return [builder.extract_value(pieces, position) for position in among]


class _Distinct(MDValue):  # type: ignore[misc]
    """A distinct metadata node, which may refer to itself."""

    def __init__(self, module: Any, *operands: Any, names_itself: bool = False) -> None:
        super().__init__(module, operands, name=str(len(module.metadata)))
        if names_itself:
            self.operands = (self, *operands)

    def descr(self, buf: Any) -> None:
        buf += (f"distinct !{{ {', '.join(one.get_reference() for one in self.operands)} }}\n",)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True)
class Iteration:
    """One iteration of a loop: its index, and its access group, in which no other iteration accesses memory."""

    builder: Any
    index: Any
    group: Any

    @contextmanager
    def own(self) -> Iterator[None]:
        """Loads and stores that are emitted inside belong to this iteration alone."""
        instructions = self.builder.block.instructions
        before = len(instructions)
        yield
        for one in instructions[before:]:
            if one.opname in ("load", "store"):
                one.set_metadata("llvm.access.group", self.group)
            if one.opname == "store":
                one.align = 1  # outputs may have any alignment

    def load(self, context: Any, memory: Any, name: str, working: Any) -> Any:
        with self.own():
            return load_one(context, self.builder, memory, self.index, name, working)

    def store(self, memories: Sequence[Any], numbers: Sequence[Any], name: str) -> None:
        """Store each number to a memory of its own."""
        with self.own():
            for memory, number in zip(memories, numbers, strict=True):
                store_one(self.builder, memory, self.index, number, name)


Step = Callable[[Iteration, Sequence[Any]], Sequence[Any] | None]


def repeat(builder: Any, count: Any, step: Step, carried: Sequence[Any] = (), together: int = 0) -> Sequence[Any]:
    """Run ``step`` for each index below ``count``; what it returns is passed to the next one, and is the result in the end.

    ``together`` vectors are processed at once, if it is given: LLVM would decide by the number of registers, and is often wrong
    where one result waits for another.
    """
    before, group = builder.block, _Distinct(builder.module)
    test, body, after = (builder.append_basic_block(name) for name in ("repeat", "repeat.step", "repeat.end"))
    builder.branch(test)
    with builder.goto_block(test):
        index, *values = phis = [builder.phi(one.type) for one in (_I64(0), *carried)]
        for phi, one in zip(phis, (_I64(0), *carried), strict=True):
            phi.add_incoming(one, before)
        builder.cbranch(builder.icmp_signed("<", index, count), body, after)
    builder.position_at_end(body)
    results = step(Iteration(builder, index, group), values) or ()
    following = builder.add(index, _I64(1))
    for phi, one in zip(phis, (following, *results), strict=True):
        phi.add_incoming(one, builder.block)
    builder.branch(test).set_metadata("llvm.loop", _hints(builder.module, group, count, together))
    builder.position_at_end(after)
    return values


@functools.cache
def vector_bytes() -> int:
    """Bytes of this processor's vectors."""
    features = binding.get_host_cpu_features()
    return next((size for name, size in (("avx512f", 64), ("avx2", 32)) if features.get(name)), 16)


def vectors_of(count: int, name: str) -> int:
    """How many vectors to process at once, if these are to cover ``count`` numbers."""
    return max(1, min(4, count * ITEMSIZE[name] // vector_bytes()))


def _hints(module: Any, group: Any, count: Any, together: int) -> Any:
    hints: list[list[Any]] = [["llvm.loop.parallel_accesses", group]]
    if isinstance(count, ir.Constant):
        # a short loop becomes some vectors at once, not scalar code; a column all of its vectors, so that what is accumulated
        # stays in registers from one column to the next
        together = together or (4 if count.constant >= 64 else min(4, COLUMN // vector_bytes()))
        hints.append(["llvm.loop.unroll.disable"])
    if together:
        hints.append(["llvm.loop.interleave.count", ir.IntType(32)(together)])
    return _Distinct(module, *map(module.add_metadata, hints), names_itself=True)


def convert(context: Any, builder: Any, to: Any, to_name: str, source: Any, name: str, count: Any, working: Any) -> None:
    """Copy ``count`` numbers of one dtype to another."""

    def step(one: Iteration, carried: Any) -> None:
        one.store([to], [one.load(context, source, name, working)], to_name)

    repeat(builder, count, step)
