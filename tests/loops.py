"""The innermost loops of a compiled kernel, read from its optimised LLVM IR."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llvmlite import binding

__all__ = ["Loop", "foreign_calls", "innermost_loops", "machine_lanes", "natural_loops"]

_LABEL = r'"?[-\w.$<>:]+"?'


def machine_lanes() -> int:
    """How many float32 numbers fit the widest vector of this machine."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx") else 4


@dataclass(frozen=True)
class Loop:
    """The text of an innermost loop, and whether LLVM has vectorised the loop that it comes from."""

    header: str
    text: str
    vectorised: bool

    @cached_property
    def is_rest(self) -> bool:
        """Whether it is the vectoriser's remainder loop: shorter vectors, or single elements."""
        return self.header.startswith("vec.epilog") or not self.has_vectors

    @cached_property
    def has_floats(self) -> bool:
        return bool(re.search(r"\b(half|float|double)\b", self.text))

    @cached_property
    def has_vectors(self) -> bool:
        return bool(re.search(r"<\d+ x ", self.text))

    @cached_property
    def has_labels(self) -> bool:
        """Whether it reads labels, which are int64."""
        return bool(re.search(r"= load (<\d+ x )?i64", self.text))

    @cached_property
    def lanes(self) -> int:
        """The number of elements in the longest float32 vector."""
        return max(map(int, re.findall(r"<(\d+) x float>", self.text)), default=0)

    @cached_property
    def double_operations(self) -> set[str]:
        """The instructions with float64 operands or results."""
        return set(re.findall(r"^(?:[^=\n]+ = )?(?:tail )?(\w+) [^\n]*\bdouble\b", self.text, re.M))


def innermost_loops(llvm: str) -> list[Loop]:
    """The innermost loops of the largest function."""
    blocks = _blocks(max(re.findall(r"^define [^\n]*\{\n(.*?)^\}", llvm, re.S | re.M), key=len))
    following = {name: [to for to in re.findall(rf"label %({_LABEL})", text) if to in blocks] for name, text in blocks.items()}
    metadata = dict(re.findall(r"^(!\d+) = (.*)$", llvm, re.M))
    bodies, ends = natural_loops(following)
    inner = [header for header in bodies if not any(other != header and other in bodies[header] for other in bodies)]
    return [
        Loop(
            header,
            "\n".join(blocks[name] for name in blocks if name in bodies[header]),
            any(_is_marked(blocks[end], metadata) for end in ends[header]),
        )
        for header in inner
    ]


def _blocks(function: str) -> dict[str, str]:
    """The basic blocks by their names, in order."""
    pieces = re.split(rf"^({_LABEL}):[^\n]*\n", function, flags=re.M)
    blocks = {"the first": pieces[0]} if pieces[0].strip() else {}
    names_and_texts = zip(pieces[1::2], pieces[2::2], strict=True)
    return blocks | {name: "\n".join(line.strip() for line in text.splitlines()) for name, text in names_and_texts}


def natural_loops(following: Mapping[Any, Iterable[Any]]) -> tuple[dict[Any, set[Any]], dict[Any, list[Any]]]:
    """For each loop header the blocks of its loop, which come back to it without passing through it, and those that jump back to it."""
    before = defaultdict(list)
    for name, others in following.items():
        for to in others:
            before[to].append(name)
    bodies: dict[Any, set[Any]] = {}
    ends: dict[Any, list[Any]] = defaultdict(list)
    for name, header in _edges_back(following):
        ends[header].append(name)
        waiting, body = [name], bodies.setdefault(header, {header})
        while waiting:
            one = waiting.pop()
            if one not in body:
                body.add(one)
                waiting += before[one]
    return bodies, ends


def _edges_back(following: Mapping[Any, Iterable[Any]]) -> Iterator[tuple[Any, Any]]:
    """The back edges: jumps to a block on the path that led to the jump."""
    first = next(iter(following))
    seen, path, left = {first}, [first], [iter(following[first])]
    while path:
        one = next(left[-1], None)
        if one is None:
            path.pop()
            left.pop()
        elif one in path:
            yield path[-1], one
        elif one not in seen:
            seen.add(one)
            path.append(one)
            left.append(iter(following[one]))


def _is_marked(block: str, metadata: dict[str, str]) -> bool:
    """Whether the jump back carries LLVM's mark of a vectorised loop; what is left behind such a loop carries it too."""
    mark = re.search(r"!llvm\.loop (!\d+)", block)
    notes = re.findall(r"!\d+", metadata[mark.group(1)]) if mark else []
    return any("llvm.loop.isvectorized" in metadata[one] for one in notes)


def foreign_calls(llvm: str) -> set[str]:
    """The external functions that the kernel calls, except LLVM's own intrinsics and Python's errors."""
    names = set(re.findall(r"call [^\n]*?@(?:\"?)([\w.]+)", llvm))
    own = set(re.findall(r"^define [^\n]*@(?:\"?)([\w.]+)", llvm, re.M))
    return {name for name in names - own if not name.startswith(("llvm.", "Py", "numba_"))}
