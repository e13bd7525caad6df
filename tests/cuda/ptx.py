"""A kernel's parsed assembly (PTX): its loops, and the kinds of its instructions."""

import re
from collections import Counter
from dataclasses import dataclass

from loops import natural_loops

__all__ = ["Assembly", "Loop"]

_LABEL = re.compile(r"^(\$\w+):")
_INSTRUCTION = re.compile(r"^\s*(?:(@!?%p\d+)\s+)?([a-z][\w.:]*)\s*([^;]*);")
_VECTOR = r"{}\.global\S*\.(v4\.[a-z]32|v2\.[a-z]64)"


@dataclass(frozen=True)
class _Block:
    """A basic block, and the numbers of its possible successors."""

    instructions: tuple[str, ...]
    following: tuple[int, ...]


@dataclass(frozen=True)
class Instructions:
    """The opcodes of a part of a kernel, such as ``ld.global.v4.f32``."""

    opcodes: tuple[str, ...]

    def count(self, pattern: str) -> int:
        """How many opcodes begin with a pattern."""
        return sum(bool(re.match(pattern, one)) for one in self.opcodes)

    @property
    def loads(self) -> int:
        return self.count(r"ld\.global")

    @property
    def stores(self) -> int:
        return self.count(r"st\.global")

    @property
    def vector_loads(self) -> int:
        """Loads of 128 bits."""
        return self.count(_VECTOR.format("ld"))

    @property
    def vector_stores(self) -> int:
        return self.count(_VECTOR.format("st"))

    @property
    def doubles(self) -> Counter[str]:
        """The instructions that compute or convert float64, without rounding modifiers; register copies are not included."""
        found = (re.sub(r"\.r[nzmp]\b", "", one) for one in self.opcodes if ".f64" in one)
        return Counter(one for one in found if not one.startswith(("mov.", "ld.param")))


@dataclass(frozen=True)
class Loop(Instructions):
    """A natural loop with those inside it; ``outermost`` where no other contains it."""

    outermost: bool


@dataclass(frozen=True)
class Assembly(Instructions):
    """The whole of a kernel."""

    text: str
    loops: tuple[Loop, ...]

    @classmethod
    def read(cls, text: str) -> "Assembly":
        blocks = _blocks(text)
        whole = tuple(one for block in blocks for one in block.instructions)
        found = natural_loops({number: block.following for number, block in enumerate(blocks)})[0].values()
        loops = (
            Loop(
                tuple(one for number in sorted(body) for one in blocks[number].instructions),
                outermost=not any(body < other for other in found),
            )
            for body in found
        )
        return cls(whole, text, tuple(loops))

    @property
    def has_local_memory(self) -> bool:
        return ".local" in self.text

    @property
    def has_calls(self) -> bool:
        return self.count(r"call\b") > 0


def _blocks(text: str) -> list[_Block]:
    """The basic blocks of the one function that a kernel has."""
    parts: list[list[str]] = [[]]
    ends: list[tuple[str | None, bool]] = []  # the label that a block jumps to, and whether it may also fall through
    places: dict[str, int] = {}

    def end(target: str | None, falls: bool) -> None:
        ends.append((target, falls))
        parts.append([])

    for line in text[text.index("\n{") :].splitlines():
        if label := _LABEL.match(line):
            if parts[-1]:
                end(None, True)
            places[label[1]] = len(ends)
        elif instruction := _INSTRUCTION.match(line):
            condition, opcode, operands = instruction.groups()
            parts[-1].append(opcode)
            if opcode.startswith("bra"):
                assert "brx" not in opcode, "a jump through a table, which this reader does not know"
                end(operands, condition is not None)
            elif opcode in ("ret", "exit", "trap"):
                end(None, condition is not None)
    ends.append((None, False))
    return [
        _Block(tuple(part), ((places[target],) if target else ()) + ((number + 1,) if falls else ()))
        for number, (part, (target, falls)) in enumerate(zip(parts, ends, strict=True))
    ]
