"""What all loops over rows share: a definition unpacked for their closures, and where an element's numbers come from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .canonical import Jitable, Rows, rows
from .targets import source
from .variant import Variant

__all__ = ["RowLoop", "row_loop"]


@dataclass(frozen=True)
class RowLoop:
    """The constants and small functions that a loop over rows holds in its closure."""

    rows: Rows
    working: Any
    source: str
    """The description of the targets for :mod:`.targets`."""
    dtypes: tuple[str, ...]
    others: tuple[int, ...]
    """Which of the numbers that are read from memory are not the target."""
    inputs: tuple[int, ...]
    """Which of the definition's inputs are read for an element."""
    row_dtypes: tuple[str, ...]
    row_inputs: tuple[int, ...]
    """Which are read for a row."""
    outputs: int
    marks_terms: bool
    """Whether the labelled element is marked before terms are added. Otherwise their sums are corrected for it."""

    @property
    def lowest(self) -> tuple[Any, ...]:
        return (self.working(-np.inf),) * self.rows.peaks

    @property
    def zeros(self) -> tuple[Any, ...]:
        return (self.working(0.0),) * self.rows.terms.results

    @property
    def rest(self) -> tuple[int, ...]:
        """The positions of the coefficients in what ``value`` returns."""
        return tuple(range(1, self.rows.value.results))

    @property
    def wanted(self) -> tuple[int, ...]:
        """The slopes that are written."""
        return tuple(range(self.outputs))


def row_loop(variant: Variant, jitable: Jitable) -> RowLoop:
    definition, working = variant.definition, np.dtype(variant.working).type
    position = {one.name: number for number, one in enumerate(definition.inputs)}
    dtype = dict(zip(position, variant.inputs, strict=True))
    target = definition.target
    elements = [one for one in definition.inputs if not one.per_row and one is not target] + ([target] if target else [])
    stored = elements[:-1] if variant.targets == "labels" else elements
    per_row = [one for one in definition.inputs if one.per_row]
    dtypes = tuple(dtype[one.name] for one in stored)
    return RowLoop(
        rows=rows(definition, [one.name for one in elements], [one.name for one in per_row], working, jitable),
        working=working,
        source=source(variant.targets, variant.smoothed, variant.class_weights),
        dtypes=dtypes,
        others=tuple(index for index, one in enumerate(stored) if one is not target),
        inputs=tuple(position[one.name] for one in stored),
        row_dtypes=tuple(dtype[one.name] for one in per_row),
        row_inputs=tuple(position[one.name] for one in per_row),
        outputs=variant.outputs,
        marks_terms=variant.targets == "labels" and definition.marks_terms,
    )
