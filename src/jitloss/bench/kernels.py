"""A kernel without the call around it: its time on one core, and its number of floating-point operations."""

import ctypes
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from llvmlite import binding

from ..call import Evaluation, Wants
from ..compilers import cpu
from ..compilers.cpu import entry
from ..compilers.cpu.table import STREAM
from ..compilers.variant import Variant
from ..loss import Loss
from .measure import outputs

__all__ = ["BareCall", "compiled_afresh", "counted_operations"]


class BareCall:
    """Value and gradient by the serial driver: the kernel on one core, chunk by chunk, in one call of the driver."""

    def __init__(self, loss: Loss, inputs: tuple[np.ndarray, ...]) -> None:
        given = {"out": outputs(loss.definition, inputs)}
        arguments = loss.value_and_gradient.arguments(inputs, given)
        evaluation = Evaluation(loss.definition, loss.weights, arguments, Wants(True, True, False))
        with mock.patch.object(cpu, "run", wraps=cpu.run) as run:
            evaluation.run()
        self.kernel: int = run.call_args.args[0]
        self.arguments: tuple[tuple[Any, ...], int, int, float] = run.call_args.args[1:5]
        self.variant: Variant = evaluation._variant(False)
        self.keep = inputs, given

    def __call__(self) -> None:
        self.by(self.kernel)

    def ways(self) -> list[Callable[[], Any]]:
        """The calls that store through the caches and past them: public calls with large arrays try both."""
        words, count, chunk, scale = self.arguments
        past = (*words[:STREAM], cpu.PAST, *words[STREAM + 1 :])
        return [self, lambda: cpu.run(self.kernel, past, count, chunk, scale, work=0)]

    def by(self, kernel: int) -> None:
        """The same call with another kernel."""
        cpu.run(kernel, *self.arguments, work=0)


def compiled_afresh(variant: Variant) -> Any:
    """A kernel that was not loaded from the disk cache: numba only shows the code of such."""
    with mock.patch.object(entry, "cached", lambda build: build(False)):
        return cpu._compile(variant)


_NUMBER = r"(?:<(?P<lanes>\d+) x )?(?:half|bfloat|float|double)\b"
_OPERATION = re.compile(rf"= (?:fadd|fsub|fmul|fdiv) (?:[a-z]+ )*{_NUMBER}")
_CALL = re.compile(r"@llvm\.(?P<name>fma|fmuladd|sqrt|vector\.reduce\.fadd|vector\.reduce\.fmul)\.(?:v(?P<lanes>\d+))?f")
_COUNTER = "jitloss.operations"


def _operations(line: str) -> int:
    """Additions, multiplications, divisions and square roots of one instruction; a fused multiply-add is two."""
    if found := _OPERATION.search(line):
        return int(found["lanes"] or 1)
    if "call" in line and (found := _CALL.search(line)):
        return int(found["lanes"] or 1) * (2 if found["name"] in ("fma", "fmuladd") else 1)
    return 0


def _with_counter(text: str) -> str:
    """LLVM IR in which every block adds its floating-point operations to a counter."""
    lines, found, blocks = [], 0, 0
    for line in text.splitlines():
        if re.match(r"\S", line):  # a label, or the beginning of a function
            found = 0
        found += _operations(line)
        if found and re.match(r"  (br|ret|switch|unreachable)\b", line):
            before, after = f"%operations.{blocks}.before", f"%operations.{blocks}"
            lines += [
                f"  {before} = load volatile i64, ptr @{_COUNTER}",
                f"  {after} = add i64 {before}, {found}",
                f"  store volatile i64 {after}, ptr @{_COUNTER}",
            ]
            blocks, found = blocks + 1, 0
        lines.append(line)
    return "\n".join([*lines, f"@{_COUNTER} = global i64 0", ""])


def counted_operations(call: BareCall) -> int:
    """The floating-point operations of one call, measured by running its kernel's optimised LLVM IR with a counter in every block."""
    kernel = compiled_afresh(call.variant)
    module = binding.parse_assembly(_with_counter(kernel.inspect_llvm()))
    target = binding.Target.from_default_triple()
    features = binding.get_host_cpu_features().flatten()
    machine = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=2)
    with binding.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        call.by(engine.get_function_address(kernel._wrapper_name))
        return ctypes.c_int64.from_address(engine.get_global_value_address(_COUNTER)).value
