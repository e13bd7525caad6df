"""The fast path for the common call: two plain arrays, and options that are plain numbers, bools, strings or arrays of weights.

The first such call takes the slow path (:mod:`jitloss.call`) and leaves a plan: the kernel for these dtypes and options, and the
contents of its table. Later calls find the plan, and only check shapes and flags, allocate what they return and run the kernel.
For small arrays all of that is one compiled step; a call without options first tries it with the plan of the last such call.
Whatever differs from what the plan expects takes the slow path, which also raises the errors.
"""

from typing import Any

import numpy as np
from numpy import empty as new
from numpy import ndarray

from .buffers import empty
from .call import Evaluation, Wants
from .definition import Definition
from .monitoring import WATCHED, watching
from .options import are_weights
from .outputs import is_map
from .plans import ABSENT, SLOW_PATH, Plan, Plans, key_of, readable, taken_as_they_are
from .running import SERIAL, Memory, compiler, total_of

__all__ = ["Quick"]

_INT64 = np.dtype(np.int64)


class Quick(Plans):
    """The plans of one form of a loss with two inputs, the first of which is differentiated."""

    def __init__(self, definition: Definition, wants: Wants) -> None:
        super().__init__(definition, wants)
        self.both = self.value and self.gradient
        self.last: Plan | None = None

    @staticmethod
    def serves(definition: Definition, wants: Wants) -> bool:
        simple = [(one.differentiable, one.per_row) for one in definition.inputs] == [(True, False), (False, False)]
        return simple and not wants.hessian

    # Plans ------------------------------------------------------------------------------------------------------------------

    def learn(self, args: tuple[Any, ...], options: dict[str, Any], done: Evaluation) -> None:
        """Keep the kernel of a call that took the slow path, if the next one like it can take the fast path."""
        if not done.kernel or not _plain_weights(done) or (done.items is not None and done.reduction != "none"):
            return
        args, options = self.in_order(args, options) or ((), {})
        if not args or not taken_as_they_are(args[:2], done):
            return
        options = {name: value for name, value in options.items() if name != "out"}
        plan = self.keep((args[0].dtype, args[1].dtype, done.geometry.columns), args, options, done)
        if plan is not None:
            self._remember(plan, args, options)

    def _remember(self, plan: Plan, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if not options and len(args) == 2:
            self.last = plan

    # Calls ------------------------------------------------------------------------------------------------------------------

    def __call__(self, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> Any:
        """The results of a call with these options besides ``out``; :data:`.plans.SLOW_PATH` where there is no plan for it."""
        if out is not ABSENT and type(out) is ndarray and out.base is not None and is_map(out):
            return SLOW_PATH
        last = self.last
        if last is not None and not options and len(args) == 2:
            first, second = args
            if type(first) is not ndarray or type(second) is not ndarray or (WATCHED and watching()):
                return SLOW_PATH
            gradient = None
            if out is not ABSENT:
                gradient = out if self.gradient else ABSENT  # which the compiled step rejects
            elif self.gradient and first.size <= SERIAL:
                gradient = new(first.shape, first.dtype)  # small allocations are not reused
            value = self.small(last.known, first, second, gradient, None, None, False)
            if value is not None:
                return (value, gradient) if self.both else value if gradient is None else gradient
        return self._otherwise(args, options, out)

    def _otherwise(self, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> Any:
        """The same with the plan for these dtypes, columns and options."""
        if len(args) < 2:
            found = self.in_order(args, options)
            return SLOW_PATH if found is None else self(*found, out)
        if type(args[0]) is not ndarray or type(args[1]) is not ndarray:
            return SLOW_PATH
        if out is not ABSENT and not self.gradient:
            return SLOW_PATH
        first, second = args[:2]
        shape, columns = first.shape, 1
        if self.rowwise:
            if not shape:
                return SLOW_PATH
            columns = shape[-1]
        key = (first.dtype, second.dtype, columns)
        exact = key_of(key, first, args[2:], options)
        plan = self.plans.get(exact) or self.of_kind(exact, key, args, options)
        if plan is None or second.shape != (shape[:-1] if plan.labelled else shape) or watching():
            return SLOW_PATH
        self._remember(plan, args, options)
        if not (plan.sample or plan.classes):
            return self._run(plan, first, second, columns, out, None, None)
        items = shape[:-1] if self.rowwise else shape
        out = None if out is ABSENT else out
        sample = _weights(options["sample_weight"], items, plan.working, out) if plan.sample else None
        classes = _weights(options["class_weight"], (columns,), plan.working, out) if plan.classes else None
        if sample is SLOW_PATH or classes is SLOW_PATH:
            return SLOW_PATH
        return self._run(plan, first, second, columns, out, sample, classes)

    def _run(self, plan: Plan, first: np.ndarray, second: np.ndarray, columns: int, out: Any, sample: Any, classes: Any) -> Any:
        small, gradient = first.size <= SERIAL, None
        if small and plan.items is not None:  # which the compiled step does not return
            return SLOW_PATH
        if not small and not (readable(first) and readable(second)):
            return SLOW_PATH
        if self.gradient and (out is None or out is ABSENT):
            gradient = empty(first.shape, first.dtype)
        elif self.gradient:
            if type(out) is not np.ndarray or out.dtype != first.dtype or out.shape != first.shape:
                return SLOW_PATH
            if plan.labelled and second.dtype is not _INT64 and np.may_share_memory(out, second):
                return SLOW_PATH
            gradient = out
        labels = second.astype(np.int64) if plan.labelled and second.dtype is not _INT64 else second
        if small:
            value = self.small(plan.known, first, labels, gradient, sample, classes, True)
        else:
            value = self._large(plan, first, second, labels, columns, gradient, out is not gradient, sample, classes)
        if value is None:
            return SLOW_PATH
        if gradient is None:
            return value
        return (value, gradient) if self.value else gradient

    def _large(
        self, plan: Plan, first: np.ndarray, second: np.ndarray, labels: np.ndarray, columns: int,
        gradient: np.ndarray | None, fresh: bool, sample: Any, classes: Any,
    ) -> Any:  # fmt: skip
        """Like the compiled step, for more elements; or with one value per item, which that step does not return."""
        if gradient is not None and not _usable(gradient, first, second):
            return None
        count = first.size // columns
        counted: float = count
        if plan.labelled:
            counted = compiler().count_labels(labels, columns, plan.ignored) or 0
            if not counted or (plan.every and counted != count):
                return None
        divisor = plan.divisor or counted
        items = None if plan.items is None else empty(first.shape[:-1] if self.rowwise else first.shape, plan.items)

        def words(way: int) -> tuple[Any, ...]:
            table = (plan.parameters, items, sample, 1, columns, 1, way, labels, plan.ignored, classes)
            return (*table, first, second, gradient)

        memory = Memory(2 * first.nbytes + second.nbytes, fresh, gradient is not None or items is not None, gradient is first)
        total = total_of(plan.kernel, words, (count, columns), plan.factor / divisor, memory)
        if items is not None:
            if plan.factor != 1.0:
                items *= plan.factor
            return items
        return plan.factor * (total / divisor)


def _plain_weights(done: Evaluation) -> bool:
    """Whether a call has no weights, or whole arrays of weights that a kernel reads one by one."""
    if done.sample is None and done.classes is None:
        return True
    if done.folded:
        return False
    sample, classes = done.arguments.get("sample_weight"), done.arguments.get("class_weight")
    if done.normalizer == "weights" or (classes is not None and (type(classes) is not np.ndarray or done.classes is None)):
        return False
    return done.sample is None or (type(sample) is np.ndarray and sample.shape == done.geometry.items)


def _weights(given: np.ndarray, shape: tuple[int, ...], working: Any, out: Any) -> Any:
    """Weights as a kernel takes them; :data:`.plans.SLOW_PATH` where they need any conversion."""
    if given.shape != shape or given.dtype.kind not in "fiub" or not given.size or not are_weights(given):
        return SLOW_PATH
    if out is not None and (type(out) is not np.ndarray or np.may_share_memory(out, given)):
        return SLOW_PATH
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(given, working)
    except FloatingPointError:
        return SLOW_PATH


def _usable(out: np.ndarray, first: np.ndarray, second: np.ndarray) -> bool:
    """Whether a kernel can write to ``out``, which shares no memory with an input, unless it is the first one itself."""
    apart = out is first or not np.may_share_memory(out, first)
    return bool(out.flags.carray and apart and not np.may_share_memory(out, second))
