"""The fast path of losses whose inputs :class:`.quick.Quick` does not serve: one array, or three.

What a plan holds is not checked again: after a large call Python's own code has left the caches, so each step of it takes longer.
A single small array goes through the compiled step for two arrays, with the output (or the array itself) in the place of the
second. Options are plain numbers, bools and strings.
"""

from typing import Any

import numpy as np
from numpy import ndarray

from .buffers import empty
from .call import Evaluation, Wants
from .definition import Definition
from .monitoring import watching
from .outputs import is_map
from .plans import ABSENT, SLOW_PATH, Plan, Plans, key_of, readable, taken_as_they_are
from .running import SERIAL, Memory, total_of

__all__ = ["Large"]


class Large(Plans):
    """The plans of one form of a loss."""

    def __init__(self, definition: Definition, wants: Wants) -> None:
        super().__init__(definition, wants)
        self.written = {one.name: place for place, one in enumerate(definition.inputs) if one.differentiable and wants.gradient}

    @staticmethod
    def serves(definition: Definition, wants: Wants) -> bool:
        return not (definition.takes_labels or wants.hessian)

    def learn(self, args: tuple[Any, ...], options: dict[str, Any], done: Evaluation) -> None:
        """Keep the kernel of a call that took the slow path, if the next one like it can take the fast path."""
        if not done.kernel or done.items is not None or done.sample is not None or done.classes is not None:
            return
        args, options = self.in_order(args, options) or ((), {})
        inputs = args[: self.count]
        if not inputs or not taken_as_they_are(inputs, done):
            return
        if not any(inputs[place].dtype != done.output for place in self.written.values()):
            options = {name: value for name, value in options.items() if name != "out"}
            self.keep((*[one.dtype for one in inputs], done.geometry.columns), args, options, done)

    def __call__(self, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> Any:
        """The results of a call with these options besides ``out``; :data:`.plans.SLOW_PATH` where there is no plan for it."""
        if len(args) < self.count:
            found = self.in_order(args, options)
            return SLOW_PATH if found is None else self(*found, out)
        if self.count == 1 and type(args[0]) is ndarray and args[0].size <= SERIAL:
            return self._small(args, options, out)
        inputs = args[: self.count]
        for one in inputs:
            if type(one) is not ndarray or not one.size:
                return SLOW_PATH
        shape = inputs[0].shape
        if self.rowwise and not shape:
            return SLOW_PATH
        items, columns = (shape[:-1], shape[-1]) if self.rowwise else (shape, 1)
        shapes = (items if one.per_row else shape for one in self.definition.inputs)
        if any(one.shape != wanted or not readable(one) for one, wanted in zip(inputs, shapes, strict=True)) or watching():
            return SLOW_PATH
        key = (*[one.dtype for one in inputs], columns)
        exact = key_of(key, inputs[0], args[self.count :], options)
        plan = self.plans.get(exact) or self.of_kind(exact, key, args, options)
        gradients = None if plan is None else self._outputs(inputs, out, plan.output)
        if plan is None or gradients is None:
            return SLOW_PATH
        return self._results(self._run(plan, inputs, gradients, columns, out), gradients)

    def _results(self, value: float, gradients: list[np.ndarray]) -> Any:
        if not self.gradient:
            return value
        gradient = dict(zip(self.written, gradients, strict=True)) if len(gradients) > 1 else gradients[0]
        return (value, gradient) if self.value else gradient

    def _small(self, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> Any:
        """A call on a single array with few elements."""
        first = args[0]
        shape, columns = first.shape, 1
        if self.rowwise:
            if not shape:
                return SLOW_PATH
            columns = shape[-1]
        key = (first.dtype, columns)
        exact = key_of(key, first, args[1:], options)
        plan = self.plans.get(exact) or self.of_kind(exact, key, args, options)
        if plan is None or watching():
            return SLOW_PATH
        gradient = first
        if self.gradient and (out is None or out is ABSENT):
            gradient = np.empty(shape, plan.output)  # small allocations are not reused
        elif out is not ABSENT:
            given = self._outputs(args[:1], out, plan.output)
            if not given:
                return SLOW_PATH
            gradient = given[0]
        value: float | None = self.small(plan.known, first, gradient, None, None, None, True)
        if value is None:
            return SLOW_PATH
        return (value, gradient) if self.value and self.gradient else gradient if self.gradient else value

    def _outputs(self, inputs: tuple[np.ndarray, ...], out: Any, dtype: np.dtype[Any]) -> list[np.ndarray] | None:
        """Arrays that a kernel can write to; None where ``out`` is not directly usable."""
        if out is ABSENT or (out is None and self.gradient):
            return [empty(inputs[place].shape, dtype) for place in self.written.values()]
        if len(self.written) > 1 and type(out) is dict and out.keys() == self.written.keys():
            given = [out[name] for name in self.written]
        elif len(self.written) == 1:
            given = [out]
        else:
            return None
        for number, (one, place) in enumerate(zip(given, self.written.values(), strict=True)):
            own = inputs[place]
            if type(one) is not ndarray or one.dtype != dtype or one.shape != own.shape or not one.flags.carray:
                return None
            if one.base is not None and is_map(one):
                return None
            others = [*inputs[:place], *inputs[place + 1 :], *given[:number], *([] if one is own else [own])]
            if any(np.may_share_memory(one, other) for other in others):
                return None
        return given

    def _run(self, plan: Plan, inputs: tuple[np.ndarray, ...], gradients: list[np.ndarray], columns: int, out: Any) -> float:
        count = inputs[0].size // columns
        divisor = plan.divisor or count

        def words(way: int) -> tuple[Any, ...]:
            return (plan.parameters, None, None, 1, columns, 1, way, None, 0, None, *inputs, *gradients)

        moved = sum(one.nbytes for one in (*inputs, *(inputs[place] for place in self.written.values())))
        over = any(one is mine for one in gradients for mine in inputs)
        memory = Memory(moved, out is None or out is ABSENT, bool(gradients), over)
        return plan.factor * (total_of(plan.kernel, words, (count, columns), plan.factor / divisor, memory) / divisor)
