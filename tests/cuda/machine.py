"""A PTX emulator written in NumPy: it runs the threads of many blocks of a kernel side by side.

It refuses what a device would let pass: addresses outside arrays, shared memory that nobody has written or that two threads touch
with no barrier between, exchanges that name threads which are elsewhere. Its floats are NumPy's, which round like a device's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from instructions import CLUSTER, KINDS, Instruction
from machine_memory import Fault, Memory, Place, Shared, Words

__all__ = ["Fault", "Memory", "Program"]

WARP = 32

_LINE = re.compile(r"^\s*(?:@(!?%p\d+)\s+)?([a-z][\w.:]*)\s*([^;]*);")
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s|]+")
_FLOAT = re.compile(r"0[fdFD]([0-9A-Fa-f]+)$")

_REGISTERS = {"p": "pred", "rs": "u16", "h": "u16", "r": "u32", "hh": "u32", "f": "u32", "rd": "u64", "fd": "u64"}


@cache
def _kind_of(register: str) -> np.dtype[Any]:
    """The unsigned type with the width of a register, from the letters of its name."""
    return KINDS[_REGISTERS[re.sub(r"[%\d]", "", register)]]


@dataclass(frozen=True)
class Program:
    """A parsed kernel. ``shared`` has the offset of each array in shared memory."""

    code: tuple[Instruction, ...]
    labels: dict[str, int]
    parameters: tuple[str, ...]
    shared: dict[str, int]
    shared_size: int
    threads: int
    cluster: int

    @staticmethod
    @cache
    def read(text: str) -> "Program":
        code, labels = [], {}
        for line in text[text.index("\n{") :].splitlines():
            if label := re.match(r"^(\$\w+):", line):
                labels[label[1]] = len(code)
            elif found := _LINE.match(line):
                name, *modifiers = found[2].split(".")
                operands = tuple(map(_operand, _OPERAND.findall(found[3])))
                code.append(Instruction(found[1] or "", name, tuple(modifiers), operands))
        shared, size = {}, 0
        for align, name, length in re.findall(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\]", text):
            shared[name] = -(-size // int(align)) * int(align)
            size = shared[name] + int(length)
        threads, cluster = re.search(r"\.maxntid (\d+)", text), re.search(r"\.reqnctapercluster (\d+)", text)
        return Program(
            tuple(code),
            labels,
            tuple(re.findall(r"\.param \.\w+ (\w+)", text[text.index(".entry") :])),
            shared,
            -(-size // 16) * 16,
            int(threads[1]) if threads else WARP,
            int(cluster[1]) if cluster else 1,
        )

    @cached_property
    def straight(self) -> dict[int, tuple[Instruction, ...]]:
        """The code from each point where threads may diverge or reconverge, up to the next such point."""
        starts = {0, len(self.code), *self.labels.values()}
        for place, one in enumerate(self.code):
            if one.waits or one.jumps:
                starts |= {place, place + 1}
        return {first: self.code[first:last] for first, last in pairwise(sorted(starts))}

    def run(self, memory: Memory, blocks: int, words: Sequence[int], together: int = 8192) -> None:
        """Run so many blocks, some ``together``, by threads; the arguments are words of 64 bits."""
        if blocks % self.cluster:
            raise Fault(f"{blocks} blocks are no clusters of {self.cluster}")
        step = max(1, together // (self.threads * self.cluster)) * self.cluster
        with np.errstate(all="ignore"):
            for first in range(0, blocks, step):
                _Grid(self, memory, range(first, min(blocks, first + step)), blocks, words).run()


def _operand(text: str) -> Any:
    if text[0] == "{":
        return tuple(part.strip() for part in text[1:-1].split(","))
    if text[0] == "[":
        start, _, offset = text[1:-1].replace(" ", "").partition("+")
        return start, int(offset or 0)
    return text


_RUNS, _WAITS, _ENDED = range(3)


class _Grid:
    """Blocks that run together: their threads' registers, their shared memory, and where each thread is."""

    def __init__(self, program: Program, memory: Memory, blocks: range, of: int, words: Sequence[int]) -> None:
        self.program, self.memory, self.arguments = program, memory, words
        count = len(blocks) * program.threads
        self.thread = np.arange(count)
        self.block = self.thread // program.threads
        self.place, self.state = np.zeros(count, np.intp), np.zeros(count, np.int8)
        self.arrived, self.waited = np.zeros((2, count), np.intp)  # how often, at barriers of the cluster
        self.shared = Shared(len(blocks), program.shared_size)
        number = self.block + blocks.start
        given = {"tid.x": self.thread % program.threads, "ctaid.x": number, "cluster_ctarank": number % program.cluster}
        given |= {"ntid.x": np.full(count, program.threads), "nctaid.x": np.full(count, of)}
        self.registers = {f"%{name}": numbers.astype(np.uint32) for name, numbers in given.items()}

    # Numbers --------------------------------------------------------------------------------------------------------------------

    def get(self, operand: str, kind: np.dtype[Any], who: Any) -> np.ndarray:
        """Read an operand for some threads: the lowest bits of a register, or a constant."""
        if operand[0] == "%":
            held = self._register(operand)[who]
            return (held if held.itemsize == kind.itemsize else held.astype(f"u{kind.itemsize}")).view(kind)
        if kind == np.bool_:
            return np.array(bool(int(operand)))
        number = _FLOAT.match(operand)
        bits = int(number[1], 16) if number else self.program.shared.get(operand)
        bits = int(operand, 0) if bits is None else bits
        return np.array(bits & ((1 << 8 * kind.itemsize) - 1), f"u{kind.itemsize}").view(kind)

    def put(self, register: str, numbers: np.ndarray, who: Any) -> None:
        """Write a register; narrower numbers are sign-extended if they are signed."""
        if register != "_":
            kind, numbers = _kind_of(register), np.asarray(numbers)
            self._register(register)[who] = numbers.view(kind) if numbers.itemsize == kind.itemsize else numbers.astype(kind)

    def _register(self, name: str) -> np.ndarray:
        """A register of all threads; initially all bits are 1, which is NaN as a float."""
        held = self.registers.get(name)
        if held is None:
            held = self.registers[name] = np.full(self.thread.size, -1, np.int64).astype(_kind_of(name))
        return held

    def pack(self, target: str, sources: Sequence[str], who: Any) -> None:
        parts = np.broadcast_arrays(*(self.get(one, _kind_of(one), who) for one in sources))
        self.put(target, np.stack(parts, -1).view(_kind_of(target))[..., 0], who)

    def unpack(self, targets: Sequence[str], source: str, who: Any) -> None:
        kind = next(_kind_of(one) for one in targets if one != "_")
        parts = self.get(source, _kind_of(source), who)[..., None].view(kind)
        for number, target in enumerate(targets):
            self.put(target, parts[..., number], who)

    def parameter(self, name: str, kind: np.dtype[Any]) -> np.ndarray:
        return np.array([self.arguments[self.program.parameters.index(name)]], np.uint64).view(kind)[:1]

    def words(
        self, at: tuple[str, int], kind: np.dtype[Any], count: int, who: Any, *, shared: bool, writes: bool = False
    ) -> Words:
        """The memory words at an address, for each thread."""
        start, block, thread = self.get(at[0], KINDS["u64"], who), self.block[who], self.thread[who]
        addresses = np.broadcast_to(start + np.uint64(at[1] & (2**64 - 1)), thread.shape)
        if not shared:
            return self.memory.words(addresses, kind, count)
        cluster, offset = self.program.cluster, (addresses & np.uint64(2**32 - 1)).astype(np.intp)
        other = block - block % cluster + ((addresses >> np.uint64(32)) & np.uint64(2**16 - 1)).astype(np.intp)
        owner = np.where(addresses < CLUSTER, block, other)
        place = Place(owner, offset, thread, owner != block, self.arrived[who], self.waited[who])
        return self.shared.words(place, kind, count, writes=writes)

    # Time -----------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until all threads have ended: those furthest behind go first, together."""
        while (self.state != _ENDED).any():
            ready = self.state == _RUNS
            if not ready.any():
                places = np.unique(self.place[self.state == _WAITS])
                raise Fault(f"threads wait for others that do not come: {[self.program.code[one].opcode for one in places]}")
            place = int(self.place[ready].min())
            here = ready & (self.place == place)
            self._go(place, slice(None) if here.all() else np.flatnonzero(here))

    def _go(self, place: int, who: Any) -> None:
        for one in self.program.straight[place]:
            if one.jumps:
                return self._jump(one, place, who)
            if one.waits:
                return self._wait(one, place, who)
            one.action(self, who)
            place += 1
        self.place[who] = place
        return None

    def _jump(self, one: Instruction, place: int, who: Any) -> None:
        thread, goes = self.thread[who], np.array(True)
        if one.guard:
            goes = self.registers[one.guard.lstrip("!")][who] ^ (one.guard[0] == "!")
        if one.name == "bra":
            self.place[who] = np.where(goes, self.program.labels[one.operands[0]], place + 1)
        else:
            self.place[who] = place + 1
            ended = thread[np.broadcast_to(goes, thread.shape)]
            self.state[ended] = _ENDED
            self.shared.leave(self.block[ended], self.waited[ended])
            self._meet()

    def _wait(self, one: Instruction, place: int, who: Any) -> None:
        if "arrive" in one.modifiers:
            self.arrived[who] += 1
            self._release(who)
            self._meet()
            return
        self.state[who] = _WAITS
        if one.name == "shfl":
            self._exchange(one, place)
        else:
            self._meet()

    def _release(self, who: Any) -> None:
        self.state[who] = _RUNS
        self.place[who] += 1

    def _meet(self) -> None:
        """Release threads at a barrier when all others of the block (or of the cluster) have arrived or ended."""
        for place in np.unique(self.place[self.state == _WAITS]):
            name, waiting = self.program.code[place].name, (self.state == _WAITS) & (self.place == place)
            if name == "bar":
                whole = (waiting | (self.state == _ENDED)).reshape(-1, self.program.threads).all(1)
                who = np.flatnonzero(np.repeat(whole, self.program.threads) & waiting)
                self.shared.pass_barrier(np.unique(self.block[who]))
                self._release(who)
            elif name == "barrier":
                if (self.arrived[waiting] <= self.waited[waiting]).any():
                    raise Fault("a thread waits for its cluster and has not said that it arrived")
                size = self.program.threads * self.program.cluster
                least = np.where(self.state == _ENDED, np.iinfo(np.intp).max, self.arrived).reshape(-1, size).min(1)
                who = np.flatnonzero((np.repeat(least, size) > self.waited) & waiting)
                self.waited[who] += 1
                self.shared.pass_barrier(np.unique(self.block[who]))
                self._release(who)

    def _exchange(self, one: Instruction, place: int) -> None:
        """A warp shuffle: exchange numbers with the thread whose lane differs in some bits, once all named threads have arrived."""
        *targets, source, mask, clamp, named = one.operands
        who = np.flatnonzero((self.state == _WAITS) & (self.place == place))
        bits, last, members = (self._same(operand, who) for operand in (mask, clamp, named))
        if one.modifiers[:2] != ("sync", "bfly") or last & (WARP - 1) != WARP - 1:
            raise Fault(f"an exchange that this machine does not know: {one.opcode}")
        lanes = members >> np.arange(WARP) & 1 == 1
        if not lanes[who % WARP].all():
            raise Fault("a thread exchanges numbers and does not name itself")
        here = np.zeros((-(-self.thread.size // WARP), WARP), bool)
        here[who // WARP, who % WARP] = True
        who = who[(here | ~lanes).all(1)[who // WARP]]
        numbers = np.broadcast_to(self.get(source, KINDS["u32"], slice(None)), self.thread.shape)
        self.put(targets[0], numbers[who ^ bits], who)
        for predicate in targets[1:]:
            self.put(predicate, np.array(True), who)
        self._release(who)

    def _same(self, operand: str, who: np.ndarray) -> int:
        """An operand that must be the same for all threads."""
        numbers = np.atleast_1d(self.get(operand, KINDS["u32"], who))
        if (numbers != numbers[0]).any():
            raise Fault("threads exchange numbers and do not agree on how")
        return int(numbers[0])
