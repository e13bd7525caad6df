"""What the parts of the loop over rows along an inner axis share."""

from dataclasses import dataclass

from ..usage import only_term
from ..variant import Variant
from .row_plan import RowPlan, row_plan

__all__ = ["LANES", "LONGEST_KEPT_LANES", "Lanes", "plan_lanes"]

LANES = 512
"""Rows that are processed side by side."""

LONGEST_KEPT_LANES = 64
"""Elements of a row up to which the only term that a slope takes is kept, for all rows side by side."""


@dataclass(frozen=True)
class Lanes(RowPlan):
    """The constants of the loop over rows along an inner axis."""

    kept: bool
    """Whether the only term that slopes take is kept."""
    only: int
    """Which one it is."""

    @property
    def homes(self) -> int:
        """Pieces of stack for the terms that are kept."""
        return int(self.kept)

    @property
    def kept_bytes(self) -> int:
        return LONGEST_KEPT_LANES * self.number_bytes

    @property
    def as_terms(self) -> tuple[int, ...]:
        """The positions of all terms, all of them the kept one: the slope takes no other."""
        return (0,) * self.sums

    @property
    def number_bytes(self) -> int:
        """A number for each lane."""
        return LANES * self.number_size

    @property
    def label_bytes(self) -> int:
        """Labels are as wide as a float32, so that their comparison does not halve the vectors."""
        return LANES * 4

    @property
    def double_bytes(self) -> int:
        return LANES * 8

    @property
    def tile_bytes(self) -> int:
        return LANES * self.itemsize


def plan_lanes(variant: Variant) -> Lanes:
    """Set up the loop of a variant."""
    row = row_plan(variant)
    only = only_term(variant.definition, variant.statics) if row.with_outputs and variant.layout == "lanes" else None
    return Lanes(**vars(row), kept=only is not None, only=only or 0)
