"""What all loops over rows know of their variant, under the names that kernels use."""

from dataclasses import dataclass
from typing import Any

from ..canonical import Call
from ..elements import ITEMSIZE
from ..rowwise import RowLoop, row_loop
from ..variant import Variant
from . import table as at
from .flags import maths_jitable

__all__ = ["RowPlan", "row_plan"]


@dataclass(frozen=True)
class RowPlan(RowLoop):
    """The constants of a loop over rows. Kernels use its attributes; see :mod:`.translate`."""

    name: str
    """The working precision, as a dtype's name."""
    kinds: str
    """The parameters, in the encoding of :func:`..tuples.parameters`."""
    output: str
    """The outputs' dtype."""
    inputs_at: tuple[int, ...]
    row_inputs_at: tuple[int, ...]
    outputs_at: tuple[int, ...]
    with_labels: bool
    with_weights: bool
    with_items: bool
    smoothed: bool
    """Whether labels are smoothed."""

    @property
    def top(self) -> Call:
        """The peak, or for a definition without one the terms, which are never called in its place."""
        return self.rows.peak or self.rows.terms

    @property
    def peak(self) -> Any:
        return self.top.function

    @property
    def terms(self) -> Any:
        return self.rows.terms.function

    @property
    def value(self) -> Any:
        return self.rows.value.function

    @property
    def slope(self) -> Any:
        return self.rows.slope.function

    @property
    def with_peak(self) -> bool:
        return self.rows.peak is not None

    @property
    def takes_terms(self) -> bool:
        return self.rows.slope_takes_terms

    @property
    def with_outputs(self) -> bool:
        return self.outputs > 0

    @property
    def factored(self) -> bool:
        """Whether rows have weights other than 1."""
        return self.with_labels or self.with_weights

    @property
    def peaks(self) -> int:
        return self.rows.peaks

    @property
    def sums(self) -> int:
        return self.rows.terms.results

    @property
    def zeros64(self) -> tuple[float, ...]:
        return (0.0,) * self.sums

    @property
    def flat(self) -> tuple[int, ...]:
        """What is read element by element as it is; targets that are mixed first are not."""
        return tuple(range(len(self.dtypes))) if self.source.split()[0] == "direct" else self.others

    @property
    def flat_at(self) -> tuple[int, ...]:
        return tuple(self.inputs_at[one] for one in self.flat)

    @property
    def flat_dtypes(self) -> tuple[str, ...]:
        return tuple(self.dtypes[one] for one in self.flat)

    @property
    def itemsize(self) -> int:
        """Bytes of an output's element."""
        return ITEMSIZE[self.output]

    @property
    def number_size(self) -> int:
        """Bytes of a number in the working precision."""
        return ITEMSIZE[self.name]

    @property
    def own(self) -> tuple[str, ...]:
        """One dtype: that of a single number in the working precision."""
        return (self.name,)

    @property
    def of_peak(self) -> tuple[int, ...]:
        """Which numbers of an element and of its row a function takes."""
        return self.top.wanted

    @property
    def of_terms(self) -> tuple[int, ...]:
        return self.rows.terms.wanted

    @property
    def of_value(self) -> tuple[int, ...]:
        return self.rows.value.wanted

    @property
    def of_slope(self) -> tuple[int, ...]:
        return self.rows.slope.wanted

    @property
    def results(self) -> int:
        """How many numbers a row's value and coefficients are together."""
        return self.rows.value.results

    @property
    def peak_dtypes(self) -> tuple[str, ...]:
        return self.own * self.peaks

    @property
    def sum_dtypes(self) -> tuple[str, ...]:
        return self.own * self.sums

    @property
    def total_dtypes(self) -> tuple[str, ...]:
        return ("float64",) * self.sums

    @property
    def result_dtypes(self) -> tuple[str, ...]:
        return self.own * self.results


def row_plan(variant: Variant) -> RowPlan:
    """What all loops over rows take from a variant."""
    loop, definition, labels = row_loop(variant, maths_jitable), variant.definition, variant.targets == "labels"
    return RowPlan(
        **vars(loop),
        name=variant.working,
        kinds=variant.kinds,
        output=variant.output,
        inputs_at=at.inputs_at(loop.inputs),
        row_inputs_at=at.inputs_at(loop.row_inputs),
        outputs_at=at.outputs_at(definition, loop.outputs),
        with_labels=labels,
        with_weights=variant.weights,
        with_items=variant.items,
        smoothed=labels and variant.smoothed,
    )
