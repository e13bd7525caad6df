"""The short way of large calls of losses that have other inputs than :class:`.quick.Quick` serves: one array, or three.

Of small arrays such calls take the long way. After a large call Python's code has left the caches, so each of its steps takes longer;
what a plan has is not looked at again. Options are plain numbers, switches and words.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from .buffers import empty
from .call import SERIAL, Evaluation, Memory, Wants, total_of
from .definition import Definition
from .monitoring import watching
from .quick import ABSENT, LONG_WAY, MOST_PLANS, fixed_divisor, key_of, readable, taken_as_they_are

__all__ = ["Large"]


class Plan(NamedTuple):
    """What calls of certain dtypes, columns and options have in common; a ``divisor`` of 0 is the number of items."""

    kernel: int
    parameters: np.ndarray
    factor: float
    divisor: float
    output: np.dtype[Any]


class Large:
    """The plans of one form of a loss."""

    def __init__(self, definition: Definition, wants: Wants) -> None:
        self.rowwise, self.value, self.gradient = definition.form == "rowwise", wants.value, wants.gradient
        self.inputs = definition.inputs
        self.written = {one.name: place for place, one in enumerate(definition.inputs) if one.differentiable and wants.gradient}
        self.plans: dict[Any, Plan] = {}

    @staticmethod
    def serves(definition: Definition, wants: Wants) -> bool:
        return not (definition.takes_labels or wants.hessian)

    def learn(self, args: tuple[Any, ...], options: dict[str, Any], done: Evaluation) -> None:
        """Keep the kernel of a call that went the long way, if the next one like it can go the short way."""
        if not done.kernel or done.items is not None or done.sample is not None or done.classes is not None:
            return
        inputs = args[: len(self.inputs)]
        if len(inputs) < len(self.inputs) or not taken_as_they_are(inputs, done) or inputs[0].size <= SERIAL:
            return
        key = self._key(args, {name: value for name, value in options.items() if name != "out"}, done.geometry.columns)
        if key is None or any(inputs[place].dtype != done.output for place in self.written.values()):
            return
        if len(self.plans) >= MOST_PLANS:
            self.forget()
        self.plans[key] = Plan(done.kernel, done.parameters, done.factor, fixed_divisor(done), done.output)

    def forget(self) -> None:
        self.plans.clear()

    def _key(self, args: tuple[Any, ...], options: dict[str, Any], columns: int) -> Any:
        count = len(self.inputs)
        return key_of((*(one.dtype for one in args[:count]), columns), args[0], args[count:], options)

    def __call__(self, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> Any:
        """The results of a call whose options, but for ``out``, are these; :data:`.quick.LONG_WAY` where there is no plan for it."""
        inputs = args[: len(self.inputs)]
        if len(inputs) < len(self.inputs) or any(type(one) is not ndarray for one in inputs) or inputs[0].size <= SERIAL:
            return LONG_WAY
        shape = inputs[0].shape
        items, columns = (shape[:-1], shape[-1]) if self.rowwise else (shape, 1)
        shapes = (items if one.per_row else shape for one in self.inputs)
        if any(one.shape != wanted or not readable(one) for one, wanted in zip(inputs, shapes, strict=True)) or watching():
            return LONG_WAY
        plan = self.plans.get(self._key(args, options, columns))
        gradients = None if plan is None else self._outputs(inputs, out, plan.output)
        if plan is None or gradients is None:
            return LONG_WAY
        value = self._run(plan, inputs, gradients, columns, out)
        if not self.gradient:
            return value
        gradient = dict(zip(self.written, gradients, strict=True)) if len(gradients) > 1 else gradients[0]
        return (value, gradient) if self.value else gradient

    def _outputs(self, inputs: tuple[np.ndarray, ...], out: Any, dtype: np.dtype[Any]) -> list[np.ndarray] | None:
        """Arrays that a kernel can write to; None where ``out`` is not quite that."""
        if out is None or out is ABSENT:
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
