"""What the three loops over rows share: a definition unpacked for their closures, and how an element's numbers are found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..variant import Variant
from . import table as at
from .canonical import Rows, jitable, parameter_names, rows
from .memory import load, pointer
from .tuples import pick

__all__ = ["RowLoop", "row_loop"]

Function = Callable[..., Any]


@dataclass(frozen=True)
class RowLoop:
    """The constants and small functions that a loop over rows holds in its closure."""

    rows: Rows
    working: Any
    elements: Function
    """``(table, inputs, index, column, label, mark, given)``: the numbers of the element at ``index`` of the arrays."""
    plain: Function
    """``(table, inputs, index, column, given)``: the same where the row's label, if any, is elsewhere."""
    mark: Function
    """``(table, label, given)``: the target of the labelled element."""
    dtypes: tuple[str, ...]
    others: tuple[int, ...]
    """Which of the numbers that are read from memory are not the target."""
    inputs_at: tuple[int, ...]
    row_dtypes: tuple[str, ...]
    row_inputs_at: tuple[int, ...]
    outputs_at: tuple[int, ...]

    @property
    def lowest(self) -> tuple[Any, ...]:
        return (self.working(-np.inf),) * self.rows.peaks

    @property
    def zeros(self) -> tuple[Any, ...]:
        return (self.working(0.0),) * self.rows.terms.results

    @property
    def rest(self) -> tuple[int, ...]:
        """Where the coefficients stand in what ``value`` returns."""
        return tuple(range(1, self.rows.value.results))

    @property
    def wanted(self) -> tuple[int, ...]:
        """The slopes that go out."""
        return tuple(range(len(self.outputs_at)))


def row_loop(variant: Variant) -> RowLoop:
    definition, working = variant.definition, np.dtype(variant.working).type
    position = {one.name: at.first_input(definition) + index for index, one in enumerate(definition.inputs)}
    dtype = dict(zip(position, variant.inputs, strict=True))
    target = definition.target
    elements = [one for one in definition.inputs if not one.per_row and one is not target] + ([target] if target else [])
    stored = elements[:-1] if variant.targets == "labels" else elements
    per_row = [one for one in definition.inputs if one.per_row]
    outputs = len(definition.differentiable) * (variant.gradient + variant.hessian)
    dtypes = tuple(dtype[one.name] for one in stored)
    find, plain, mark = _targets(variant, dtypes, working)
    return RowLoop(
        rows=rows(definition, [one.name for one in elements], [one.name for one in per_row], working),
        working=working,
        elements=find,
        plain=plain,
        mark=mark,
        dtypes=dtypes,
        others=tuple(index for index, one in enumerate(stored) if one is not target),
        inputs_at=tuple(position[one.name] for one in stored),
        row_dtypes=tuple(dtype[one.name] for one in per_row),
        row_inputs_at=tuple(position[one.name] for one in per_row),
        outputs_at=tuple(at.first_gradient(definition) + index for index in range(outputs)),
    )


def _targets(variant: Variant, dtypes: tuple[str, ...], working: Any) -> tuple[Function, Function, Function]:
    """How an element is read: its target as it lies in memory, mixed from it, or made from the row's label."""
    with_class_weights, own = variant.class_weights, (variant.working,)
    names = parameter_names(variant.definition)
    share_at, background_at, smoothed = names.index("*share"), names.index("*background"), variant.statics[-1] == "n"

    if variant.targets == "direct":
        return (
            jitable(lambda table, inputs, index, column, label, mark, given: load(inputs, index, dtypes, working)),
            jitable(lambda table, inputs, index, column, given: load(inputs, index, dtypes, working)),
            jitable(lambda table, label, given: working(0.0)),
        )

    @jitable
    def background_of(table, column, given):  # type: ignore[no-untyped-def]
        background = given[background_at]  # the constant 0 unless targets are smoothed
        if with_class_weights and smoothed:
            background = background * load((pointer(table, at.CLASS_WEIGHTS),), column, own, working)[0]
        return background

    @jitable
    def labelled(table, inputs, index, column, label, mark, given):  # type: ignore[no-untyped-def]
        background = background_of(table, column, given)
        return load(inputs, index, dtypes, working) + (pick(column, label, mark, background),)

    @jitable
    def unlabelled(table, inputs, index, column, given):  # type: ignore[no-untyped-def]
        return load(inputs, index, dtypes, working) + (background_of(table, column, given),)

    @jitable
    def mix(table, inputs, index, column, given):  # type: ignore[no-untyped-def]
        numbers = load(inputs, index, dtypes, working)
        target = given[share_at] * numbers[-1] + given[background_at]
        if with_class_weights:
            target = target * load((pointer(table, at.CLASS_WEIGHTS),), column, own, working)[0]
        return numbers[:-1] + (target,)

    @jitable
    def mark(table, label, given):  # type: ignore[no-untyped-def]
        target = given[share_at] + given[background_at]
        if with_class_weights:
            target = target * load((pointer(table, at.CLASS_WEIGHTS),), label, own, working)[0]
        return target

    if variant.targets == "mixed":
        mixed = jitable(lambda table, inputs, index, column, label, mark, given: mix(table, inputs, index, column, given))
        return mixed, mix, jitable(lambda table, label, given: working(0.0))
    return labelled, unlabelled, mark
