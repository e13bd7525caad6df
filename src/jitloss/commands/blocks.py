"""A loss of arrays that are larger than memory: block by block, with the numbers that depend on the whole.

The value and the gradient are those of a single call. The divisor of "mean" and the class counts are first summed over the
blocks; after that each block is an ordinary call in which these two are given.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..call import Evaluation, Wants
from ..definition import Definition
from ..inputs import geometry, read
from ..options import DEFAULTS, fitting_sample_weights
from ..running import chunk_rows

__all__ = ["BLOCK", "Whole"]

BLOCK = 2**22
"""Elements of a block. A row is never split, so a block holds at least one."""

Cut = tuple[slice, ...]


@dataclass(frozen=True)
class Totals:
    """What depends on all blocks: how often each class occurs, and what the sum is divided by; None while unknown."""

    counts: np.ndarray | None = None
    divisor: float | None = None


class Block(Evaluation):
    """A call on a part of the arrays."""

    def __init__(self, whole: "Whole", cut: Cut, wants: Wants, totals: Totals, out: Any = None) -> None:
        self.whole, self.cut, self.totals, self.counts = whole, cut, totals, totals.counts
        super().__init__(whole.definition, (), whole.arguments(cut) | {"out": out}, wants)

    def class_counts(self, option: str = "class_weight") -> np.ndarray:
        if self.counts is None:
            self.counts = super().class_counts(option)
        return self.counts

    def divisor(self) -> float:
        return super().divisor() if self.totals.divisor is None else self.totals.divisor

    def _place(self, index: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        mine, _ = super()._place(index, shape)
        place = tuple(part.start + one for part, one in zip(self.whole.items_of(self.cut), mine, strict=False))
        whole = self.whole.geometry.items[: len(place)]
        return place, int(np.ravel_multi_index(place, whole)) if place else index


class Whole:
    """All of the arrays of a call; ``arguments`` holds inputs and options by name, as :class:`Evaluation` takes them."""

    def __init__(self, definition: Definition, arguments: Mapping[str, Any]) -> None:
        self.definition, self._arguments = definition, arguments
        # Nothing of the size of the inputs may be allocated here: dtypes are checked on empty arrays, shapes on the real ones.
        empty = {one.public: np.empty(0, arguments[one.public].dtype) for one in definition.inputs}
        self.dtypes = {name: array.dtype.newbyteorder("=") for name, array in read(definition, empty).arrays.items()}
        arrays = {one.name: arguments[one.public] for one in definition.inputs}
        self.geometry = geometry(definition, arrays, arguments.get("axis", DEFAULTS["axis"]))
        if arguments.get("sample_weight") is not None:
            fitting_sample_weights(arguments["sample_weight"], self.geometry.items, definition.name)
        self.cuts = _cuts(arrays[definition.inputs[0].name], self.geometry.axis, BLOCK)
        self.balanced = any(_is_balanced(arguments.get(name)) for name in ("class_weight", "pos_weight"))

    @property
    def passes(self) -> int:
        """The number of passes over the blocks, :meth:`survey` included."""
        return 2 + self.balanced

    def items_of(self, cut: Cut) -> Cut:
        """The part of the items that corresponds to a part of the elements."""
        return tuple(part for axis, part in enumerate(cut) if axis != self.geometry.axis)

    def arguments(self, cut: Cut) -> dict[str, Any]:
        """The arguments of a block's call."""
        given, items, of_items = self._arguments, self.items_of(cut), self.geometry.of_items(self.definition)
        names = [one.public for one in self.definition.inputs]
        parts = {name: _part(given[name], items if name in of_items else cut) for name in names}
        weight = given.get("sample_weight")
        if weight is not None:
            parts["sample_weight"] = _part(weight, items[: weight.ndim])
        return {**given, **parts}

    def survey(self, after_block: Callable[[bool], None]) -> Totals:
        """The totals: a pass over labels, weights and, for balanced classes, targets; after it every option has been checked."""
        nothing, counts = Wants(value=False, gradient=False, hessian=False), None
        if self.balanced:
            parts = []
            for cut in self.cuts:
                parts.append(Block(self, cut, nothing, Totals()).class_counts())
                after_block(False)
            counts = np.sum(parts, axis=0)
        divisors = []
        for cut in self.cuts:
            block = Block(self, cut, nothing, Totals(counts))
            divisors.append(block.divisor())
            after_block(False)
        shared = block.reduction == "mean" and isinstance(block.normalizer, str)
        return Totals(counts, sum(divisors) if shared else divisors[0])

    def run(
        self,
        wants: Wants,
        totals: Totals,
        gradients: Mapping[str, np.ndarray],
        values: np.ndarray | None,
        after_block: Callable[[bool], None],
    ) -> float:
        """The value; gradients by input and the values of the items are written to the arrays given."""
        total = 0.0
        for cut in self.cuts:
            outs = {name: _part(array, cut) for name, array in gradients.items()}
            block = Block(self, cut, wants, totals, next(iter(outs.values())) if len(outs) == 1 else outs or None)
            result = block.run()
            if result.gradient is not None:
                result.gradient.finish()
            if values is not None:
                _part(values, self.items_of(cut))[...] = result.value
            elif wants.value:
                total += result.value
            after_block(True)
        return total


def _part(array: np.ndarray, cut: Cut) -> np.ndarray:
    """A view, also of an array without axes."""
    index: Any = (*cut, ...)
    part: np.ndarray = array[index]
    return part


def _is_balanced(value: Any) -> bool:
    return isinstance(value, str) and value == "balanced"


def _cuts(first: np.ndarray, axis: int | None, most: int) -> list[Cut]:
    """Parts of an array of at most so many elements, contiguous in the file: the axis with the longest stride is split first.

    If there is a choice, a block begins where a chunk of a single call would: then even float32 sums are the same.
    """
    columns = 1 if axis is None else max(1, first.shape[axis])
    free = sorted((one for one in range(first.ndim) if one != axis), key=lambda one: -first.strides[one])
    parts: dict[int, list[slice]] = {}
    inner = 1 if axis is None else math.prod(first.shape[axis + 1 :])
    rows, chunk = 1, chunk_rows(columns, inner)  # rows per index of the axes done so far; rows in a chunk
    for one in reversed(free):
        length = max(1, first.shape[one])
        step, grain = max(1, most // (columns * rows)), chunk // math.gcd(chunk, rows)
        step = length if step >= length else step // grain * grain or step
        parts[one] = [slice(start, min(first.shape[one], start + step)) for start in range(0, length, step)]
        rows *= step
    if axis is not None:
        parts[axis] = [slice(0, first.shape[axis])]
    order = sorted(parts, key=lambda one: -first.strides[one])
    back = [order.index(one) for one in range(first.ndim)]
    return [tuple(cut[place] for place in back) for cut in itertools.product(*(parts[one] for one in order))]
