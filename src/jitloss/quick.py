"""The short way for the common call: two plain arrays, default options, too little work for threads.

The first such call takes the long way (:mod:`jitloss.call`) and leaves a plan: the kernel for these dtypes and what its table
holds. The next ones find the plan by their dtypes, and do nothing but look at shapes and flags, allocate the gradient and run the
kernel. Whatever is not quite as the plan expects goes the long way, which also makes the error messages.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import monitoring
from .call import CHUNK, SERIAL, Evaluation, Wants, compiler
from .definition import Definition
from .options import DEFAULTS

__all__ = ["LONG_WAY", "Quick"]

LONG_WAY: Any = object()
"""What a quick call returns when it is none."""

_IGNORED = DEFAULTS["ignore_index"]
_INT64 = np.dtype(np.int64)


@dataclass(frozen=True)
class Plan:
    """A kernel that serves all small calls of certain dtypes."""

    kernel: int
    parameters: np.ndarray
    factor: float
    labels: bool


class Quick:
    """The plans of one form of a loss of two inputs, of which the first is differentiated."""

    def __init__(self, definition: Definition, wants: Wants) -> None:
        self.rowwise, self.wants = definition.form == "rowwise", wants
        self.names = tuple(one.name for one in definition.inputs)
        self.plans: dict[Any, Plan] = {}
        self.run: Any = None
        self.count_labels = self.short = self.kept = 0

    @staticmethod
    def serves(definition: Definition, wants: Wants) -> bool:
        simple = [(one.differentiable, one.per_row) for one in definition.inputs] == [(True, False), (False, False)]
        return simple and not wants.hessian

    def learn(self, args: tuple[Any, ...], options: dict[str, Any], done: Evaluation) -> None:
        """Keep the kernel of a call that went the long way, if the next one like it can go the short way."""
        pairs = zip(self.names, args, strict=False)
        as_given = all(type(value) is np.ndarray and done.arrays[name] is value for name, value in pairs)
        if len(args) != 2 or not as_given or not options.keys() <= {"out"} or not done.kernel or done.items is not None:
            return
        if self.run is None:
            cpu = compiler()
            self.run, self.count_labels = cpu.serial_driver(), cpu.labels_kernel()
            self.short, self.kept = cpu.LONGEST_SHORT_ROW, cpu.LONGEST_KEPT_ROW
        columns = done.geometry.columns
        plan = Plan(done.kernel, done.parameters, done.factor, done.geometry.labels)
        self.plans[args[0].dtype, args[1].dtype, columns <= self.short, columns <= self.kept] = plan

    def __call__(self, args: tuple[Any, ...], out: Any) -> Any:
        if len(args) != 2:
            return LONG_WAY
        first, second = args
        if type(first) is not np.ndarray or type(second) is not np.ndarray:
            return LONG_WAY
        shape, size = first.shape, first.size
        columns = 1
        if self.rowwise:
            if not shape:
                return LONG_WAY
            columns = shape[-1]
        plan = self.plans.get((first.dtype, second.dtype, columns <= self.short, columns <= self.kept))
        if plan is None or not 0 < size <= SERIAL or second.shape != (shape[:-1] if plan.labels else shape):
            return LONG_WAY
        if not first.flags.carray or not second.flags.carray or monitoring.watching():
            return LONG_WAY
        gradient, labels, count = None, second, size // columns
        if self.wants.gradient:
            gradient = np.empty(shape, first.dtype) if out is None else _usable(out, first, second)
            if gradient is None:
                return LONG_WAY
        if plan.labels and second.dtype is not _INT64:
            labels = second.astype(np.int64)
        words = (plan.parameters, None, None, 1, columns, 1, 0, labels, _IGNORED, None, first, second, gradient)
        if plan.labels and self.run(self.count_labels, words, count, count, 1.0) != count:
            return LONG_WAY
        value = plan.factor * self.run(plan.kernel, words, count, max(1, CHUNK // columns), plan.factor / count) / count
        if gradient is None:
            return value
        return (value, gradient) if self.wants.value else gradient


def _usable(out: Any, first: np.ndarray, second: np.ndarray) -> Any:
    """``out`` where it is the first input itself, or an array like it that is apart from both."""
    if out is not first:
        if type(out) is not np.ndarray or out.dtype is not first.dtype or out.shape != first.shape or not out.flags.carray:
            return None
        if np.may_share_memory(out, first):
            return None
    return None if np.may_share_memory(out, second) else out
