"""The steps of a call on arrays that are never in one place as a whole, for engines that keep arrays in blocks.

A block of whole rows is a call like any other, which is given the numbers that only the whole can tell: what a mean divides by,
how often each class occurs. Where rows are split, each piece of them goes through three stages, and between stages the results of
the pieces are combined.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .arrays.devices import library_of
from .call import Evaluation, Wants
from .compilers.variant import Layout, Stage, Variant
from .definition import Definition
from .inputs import Geometry, geometry
from .options import DEFAULTS, NO_LABEL, balanced_weights, fitting_sample_weights, pos_weight_of
from .outputs import Outputs
from .results import flat
from .running import chunk_rows, compiler

__all__ = ["Parts"]

Shape = tuple[int, ...]

Peaks = Sequence[np.ndarray | None] | np.ndarray
"""One array for each peak or sum."""

_NOTHING = Wants(value=False, gradient=False, hessian=False)


class Piece(Evaluation):
    """One stage on pieces of rows: they begin at element ``first`` of rows with ``whole`` elements."""

    def __init__(self, parts: "Parts", arguments: Mapping[str, Any], wants: Wants, first: int, whole: int) -> None:
        self.first, self.whole = first, whole
        self.stage: Stage = "peaks"
        super().__init__(parts.definition, parts.weights, arguments, wants)

    @property
    def columns(self) -> int:
        return self.whole

    def _order(self) -> None:
        """Pieces are read in the axis order of the call, along which their rows are split."""

    def _layout(self) -> Layout:
        return self.stage

    def _mass(self) -> float:
        """What the piece adds to the sum of weights; dense targets contribute the class weights of the piece's own elements."""
        if self.labels is None:
            self._count_from_first()
        return super()._mass()

    def _count_from_first(self) -> None:
        """Labels and class weights as the kernel takes them: a label outside the piece marks none of its elements."""
        if self.labels is not None:
            counts = self.labels != self.ignored
            self.labels, self.ignored = np.where(counts, self.labels - self.first, NO_LABEL), NO_LABEL
        if self.classes is not None:
            self.classes = self.classes[self.first : self.first + self.geometry.columns]

    def find(self, stage: Stage, peaks: Peaks, sums: Peaks) -> None:
        """Write the peaks, or the sums, of the piece's own elements."""
        self._count_from_first()
        self._run(stage, (None, None, None), peaks, sums, 1.0, items=False)

    def finish(self, peaks: Peaks, sums: np.ndarray, divisor: float) -> tuple[Any, Outputs | None, Outputs | None]:
        """The value of the rows, or their values, and the piece's own slopes."""
        items = np.zeros(self.geometry.items, self.output) if self.reduction == "none" and self.wants.value else None
        gradient, hessian = self._outputs()
        self._count_from_first()
        scale = self.factor / divisor if divisor else 0.0
        total = self._run("slopes", (items, gradient, hessian), peaks, sums, scale, items=items is not None)
        if items is None:
            return scale * total, gradient, hessian
        items *= self.factor
        return items, gradient, hessian

    def _run(self, stage: Stage, outputs: Any, peaks: Peaks, sums: Peaks, scale: float, items: bool) -> float:
        self.stage = stage
        items_of, gradient, hessian = outputs
        words = (*self._words(items_of, gradient, hessian, compiler().THROUGH), *[None] * self._missing(outputs), *peaks, *sums)
        rows = chunk_rows(max(1, self.geometry.columns))
        kernel = self._compiled(self._variant(items))
        total: float = compiler().run(kernel, words, self.geometry.count, rows, scale, 0)
        return total

    def _missing(self, outputs: Any) -> int:
        """How many words of the table stay empty for outputs that are not requested; peaks and sums follow them."""
        return sum(len(self.definition.differentiable) for one in outputs[1:] if one is None)

    def _variant(self, items: bool) -> Variant:
        slopes = self.stage == "slopes"
        variant = super()._variant(items)
        return variant._replace(gradient=slopes and self.wants.gradient, hessian=slopes and self.wants.hessian)


class Parts:
    """The steps of a call of one form of a loss. Arguments are given by name; arrays are those of one block or piece."""

    def __init__(self, definition: Definition, weights: tuple[float, ...], wants: Wants, call: Callable[..., Any]) -> None:
        self.definition, self.weights, self.wants, self.call = definition, weights, wants, call

    # Before anything is read ---------------------------------------------------------------------------------------------------

    def geometry(self, arguments: Mapping[str, Any]) -> Geometry:
        """Check the shapes of whole arrays against each other; only shapes and dtypes are read, from arrays of any library."""
        arrays = {one.name: arguments[one.public] for one in self.definition.inputs}
        found = geometry(self.definition, arrays, arguments.get("axis", DEFAULTS["axis"]))
        weight = arguments.get("sample_weight")
        if weight is not None:
            fitting_sample_weights(np.broadcast_to(np.empty((), weight.dtype), weight.shape), found.items, self.definition.name)
        return found

    def trial(self, arguments: Mapping[str, Any], shape: Geometry) -> list[np.ndarray]:
        """The results of the call on zero items: every option is checked, and the results have the dtypes of the real ones."""
        items: tuple[int, ...] = (0,)
        of_items = shape.of_items(self.definition)
        rows = items if self.definition.form == "pointwise" else (0, shape.columns)
        given = dict(arguments)
        for one in self.definition.inputs:
            given[one.public] = np.empty(items if one.public in of_items else rows, arguments[one.public].dtype)
        if given.get("sample_weight") is not None:
            given["sample_weight"] = np.empty(items, arguments["sample_weight"].dtype)
        if self.definition.form == "rowwise" and not self.definition.is_penalty:
            given["axis"] = -1
        return flat(self.call(**given))

    # Steps on blocks ------------------------------------------------------------------------------------------------------------

    def counts(
        self, arguments: Mapping[str, Any], *, shape: Shape, dtype: Any, first: int, whole: int, option: str
    ) -> np.ndarray:
        """How often each class occurs in a part of the targets, for an ``option`` that is "balanced"."""
        given = {name: value for name, value in arguments.items() if name not in ("class_weight", "pos_weight")}
        return self._stand_in(given, shape, dtype, first, whole).class_counts(option)

    def divisor(self, arguments: Mapping[str, Any], *, shape: Shape, dtype: Any, first: int, whole: int) -> float:
        """What a part of the targets and weights adds to the divisor of a mean; labels are checked on the way."""
        return self._stand_in(arguments, shape, dtype, first, whole).divisor()

    def _stand_in(self, arguments: Mapping[str, Any], shape: Shape, dtype: Any, first: int, whole: int) -> Piece:
        """A piece that is used for its targets and weights only: predictions are not read."""
        given = dict(arguments)
        for one in self.definition.inputs:
            if one.public not in given:
                given[one.public] = np.empty(shape[:-1] if one.per_row else shape, dtype)
        return Piece(self, {name: on_host(value) for name, value in given.items()}, _NOTHING, first, whole)

    def balanced(self, option: str, counts: np.ndarray) -> Any:
        """The actual value of an ``option`` that is "balanced"."""
        return (
            pos_weight_of("balanced", lambda: counts, self.definition.name)
            if option == "pos_weight"
            else balanced_weights(counts)
        )

    def block(self, arguments: Mapping[str, Any], divisor: float) -> list[Any]:
        """The results of a block of whole rows."""
        given = dict(arguments)
        if not self.definition.is_penalty and given.get("reduction", "mean") == "mean":
            given.update({"normalizer": divisor} if divisor else {"reduction": "sum"})  # where nothing counts the sum is 0
        with compiler().single_threaded():
            return flat(self.call(**given))

    # Stages on pieces of rows ---------------------------------------------------------------------------------------------------

    def peaks(self, arguments: Mapping[str, Any], first: int, whole: int) -> np.ndarray:
        """The peaks of a piece, one array for each."""
        piece = self._piece(arguments, first, whole, _NOTHING)
        peaks = np.empty((self._count("peak"), piece.geometry.count), piece.working)
        piece.find("peaks", peaks, [None] * self._count("terms"))
        return peaks

    def sums(self, arguments: Mapping[str, Any], peaks: Peaks = (), *, first: int, whole: int) -> np.ndarray:
        """The sums of a piece in float64, given the peaks of the whole rows."""
        piece = self._piece(arguments, first, whole, _NOTHING)
        sums = np.empty((self._count("terms"), piece.geometry.count))
        piece.find("sums", peaks, sums)
        return sums

    def slopes(
        self, arguments: Mapping[str, Any], divisor: float, sums: np.ndarray, peaks: Peaks = (), *, first: int, whole: int
    ) -> list[Any]:
        """The results of a piece, given the peaks and the sums of the whole rows. All pieces of a row compute the same value."""
        piece = self._piece(arguments, first, whole, self.wants)
        value, *outputs = piece.finish(peaks, sums, divisor)
        arrays = [array for one in outputs if one is not None for array in flat(one.finish())]
        like = arguments[self.definition.inputs[0].public]
        library = library_of(like)
        if library is not None:
            arrays = [library.from_host(one, like) for one in arrays]
        return [value, *arrays] if self.wants.value else arrays

    def _piece(self, arguments: Mapping[str, Any], first: int, whole: int, wants: Wants) -> Piece:
        return Piece(self, {name: on_host(value) for name, value in arguments.items()}, wants, first, whole)

    @property
    def has_peaks(self) -> bool:
        return self._count("peak") > 0

    def _count(self, part: str) -> int:
        return sum(member.parts[part].results for member in self.definition.members if part in member.parts)


def on_host(value: Any) -> Any:
    """Copy an array on a device to the host: rows that are split are computed there."""
    library = library_of(value)
    return value if library is None else library.to_host(value)
