"""What a kernel is compiled for: a definition, the types of its arrays, and which outputs and options it serves."""

from typing import Literal, NamedTuple

from ..definition import Definition

__all__ = ["Layout", "Stage", "Targets", "Variant"]

Stage = Literal["peaks", "sums", "slopes"]
"""The stages for rows that are split into pieces: the sums need all peaks of a row, the slopes all sums."""

Layout = Literal["flat", "rows", "long", "blocks", "patched", "lanes", "long lanes"] | Stage
"""How elements lie in memory: single elements; rows; rows too long to keep anything of their elements; short rows in blocks, or
the same with labels that are corrected for afterwards; rows along an inner axis, several at a time; the same for rows too long to
keep anything of their elements; or pieces of rows, in one of three stages."""

Targets = Literal["direct", "mixed", "labels"]
"""Where a row's targets come from: read as they are; smoothed or weighted when read; integer labels."""


class Variant(NamedTuple):
    """What one kernel is compiled for. Types are names of dtypes.

    ``statics`` has a letter per parameter: ``n`` a number, ``z`` the number 0, ``u`` its usual value, ``0`` None, ``T`` or ``F``.
    ``summed`` is whether the values are added up.
    """

    definition: Definition
    working: str
    inputs: tuple[str, ...]
    output: str
    statics: str
    layout: Layout
    targets: Targets = "direct"
    gradient: bool = True
    hessian: bool = False
    items: bool = False
    weights: bool = False
    class_weights: bool = False
    summed: bool = True

    @property
    def kinds(self) -> str:
        """The statics as words, with ``u`` replaced by the usual values themselves."""
        letters = enumerate(self.statics)
        return " ".join(repr(self.definition.parameters[at].usual) if letter == "u" else letter for at, letter in letters)

    @property
    def outputs(self) -> int:
        """How many gradients and second derivatives are written."""
        return len(self.definition.differentiable) * (self.gradient + self.hessian)

    @property
    def smoothed(self) -> bool:
        """Whether the background, the last of a class loss's parameters, is a number above 0."""
        return self.statics[-1] == "n"
