"""CUDA kernels, compiled and linked without a device, each once, for the tests that examine their code."""

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from jitloss.compilers.cuda import compile as compiler
from jitloss.compilers.cuda.launch import machine_code
from jitloss.compilers.cuda.plan import Plan, choose
from jitloss.compilers.variant import Variant
from jitloss.definition import Definition
from ptx import Assembly

__all__ = [
    "CAPABILITY",
    "DTYPES",
    "OLDEST",
    "ROWS",
    "Call",
    "Cubin",
    "Kernel",
    "assembly_of",
    "compiled",
    "elements_of",
    "imagined_compilation",
    "link",
    "plans",
    "variant",
]

DTYPES = ("float16", "bfloat16", "float32", "float64")

CAPABILITY = (9, 0)

OLDEST = (7, 5)
"""The oldest kind of device that CUDA 13 compiles for."""


@dataclass(frozen=True)
class Cubin:
    """Machine code for a device, with the assembler's log."""

    code: bytes
    registers: int
    stack: int
    spills: int


@dataclass(frozen=True)
class Call:
    """How a kernel's loss is called: the form, options, and the dtype of targets where it differs."""

    form: str = "value_and_gradient"
    options: Mapping[str, Any] = field(default_factory=dict)
    targets: str = ""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel to examine: its name in the test report, its variant, its launch plan.

    ``loss``, ``how`` and ``call`` say which calls launch it: of which loss, on arrays of which place in ``ROWS``, with which options.
    """

    name: str
    variant: Variant
    plan: Plan
    loss: Any = None
    how: str = ""
    call: Call | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def rowwise(self) -> bool:
        return self.variant.definition.form == "rowwise"

    @property
    def outputs(self) -> int:
        """How many arrays of gradients and second derivatives it writes."""
        return len(self.variant.definition.differentiable) * (self.variant.gradient + self.variant.hessian)

    @property
    def assembly(self) -> Assembly:
        return compiled(self.variant, self.plan)

    @property
    def cubin(self) -> Cubin:
        return link(self.assembly.text)


def elements_of(variant: Variant) -> tuple[str, ...]:
    """The dtypes of the inputs that are read for each element."""
    inputs = zip(variant.definition.inputs, variant.inputs, strict=True)
    target = variant.definition.target
    return tuple(dtype for one, dtype in inputs if not one.per_row and not (one is target and variant.targets == "labels"))


ROWS: dict[str, tuple[int, int, bool]] = {
    "short": (10, 1, True),
    "unaligned": (1001, 1, False),
    "kept-by-warp": (512, 1, True),
    "kept-by-block": (4096, 1, True),
    "kept-by-cluster": (65536, 1, True),
    "kept-by-most-blocks": (128256, 1, True),
    "long": (262144, 1, True),
    "inner-axis": (100, 64, True),
}
"""Shapes of rows that are spread over a device in each way: columns, the distance of neighbours, whether arrays are aligned."""


def plans(variant: Variant, **options: Any) -> dict[str, Plan]:
    """The plans that the library chooses from for a variant, by purpose."""
    if variant.definition.form == "pointwise":
        options = {"each": True, **options}
        return {"vectors": choose(variant, 1, 1, True, **options), "unaligned": choose(variant, 1, 1, False, **options)}
    return {name: choose(variant, *shape, **options) for name, shape in ROWS.items()}


def variant(definition: Definition, dtype: str, *, others: bool = False, smoothed: bool = False, **changes: Any) -> Variant:
    """The variant that a call with arrays of one dtype compiles; ``others`` toggles each switch and option of the definition."""
    labels = definition.takes_labels and changes.get("targets", "labels") == "labels"
    inputs = tuple("int64" if labels and one is definition.target else dtype for one in definition.inputs)
    values = [one.other if others and one.has_other else one.default for one in definition.parameters]
    letters = ["0" if one is None else "TF"[not one] if isinstance(one, bool) else "n" for one in values]
    letters += "n" * len(definition.sum_of)
    if definition.form == "rowwise":
        letters += "nn" if smoothed else "nz"
    given = {
        "working": "float64" if dtype == "float64" else "float32",
        "inputs": inputs,
        "output": dtype,
        "layout": "flat" if definition.form == "pointwise" else "rows",
        "targets": "labels" if labels else "direct",
    }
    return Variant(definition=definition, statics="".join(letters), **{**given, **changes})


@contextlib.contextmanager
def imagined_compilation(capability: tuple[int, int] = CAPABILITY) -> Iterator[None]:
    """numba-cuda asks the current device for its capability when a kernel calls a small function."""
    device = mock.Mock(compute_capability=capability)
    with (
        mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device),
        mock.patch("numba.cuda.compiler.get_current_device", return_value=device),
    ):
        yield


def assembly_of(source: compiler.Source, capability: tuple[int, int] = CAPABILITY) -> Assembly:
    with imagined_compilation(capability):
        return Assembly.read(compiler.ptx(source, capability))


@functools.cache
def compiled(variant: Variant, plan: Plan) -> Assembly:
    return assembly_of(compiler.loss(variant, plan))


@functools.cache
def link(text: str, capability: tuple[int, int] = CAPABILITY) -> Cubin:
    """The machine code that a call would load; it needs no driver."""
    code, said = machine_code(text, capability)
    return Cubin(code, *_reported(said))


def _reported(log: str) -> tuple[int, int, int]:
    """Registers of a thread, bytes of its stack, bytes that it spills."""
    registers, stack = re.search(r"Used (\d+) registers", log), re.search(r"(\d+) bytes stack frame", log)
    assert registers, log
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", log)))
    return int(registers[1]), int(stack[1]) if stack else 0, spills
