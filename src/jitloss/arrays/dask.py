"""Dask arrays: a call becomes a graph whose tasks are calls on blocks, and its results are lazy.

Blocks are used as they are. Where a block has whole rows, a task is one call on them. Where the class axis is chunked, every
block goes through three tasks (peaks, sums, slopes), and small tasks in between combine the results of the blocks of a row.
Either way a block is loaded once, and no task holds more of a row than its block does.
"""

import functools
import io
import itertools
import math
import operator
import pickle
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cloudpickle
import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..buffers import without_reuse
from ..keys import remember
from ..results import one_or_tuple

__all__ = ["call", "to_numpy"]

Block = tuple[int, ...]


def to_numpy(value: Any) -> np.ndarray:
    """A small array that is an option of a call: it is computed at once."""
    return np.asarray(value.compute())


def call(form: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The lazy results of a call."""
    arguments = form.arguments(args, options)
    if arguments.get("out") is not None:
        raise ValueError(f"{form.__name__}: out is not for Dask arrays, whose results do not exist yet; leave it out")
    return _Call(form, arguments).results()


# What is sent to workers ------------------------------------------------------------------------------------------------------


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Losses other than ours are pickled with their maths: workers may not be able to import them, or have an older definition."""

    def reducer_override(self, one: Any) -> Any:
        if hasattr(one, "definition") and one.__module__.partition(".")[0] != "jitloss" and isinstance(one.__reduce__(), str):
            return type(one), (one.definition,)
        return super().reducer_override(one)


_forms: dict[bytes, Any] = {}
"""Forms by their pickles: a worker finds the compiled kernels of a form again, however many tasks call it."""


def _packed(form: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(form)
    packed = file.getvalue()
    if packed not in _forms:
        remember(_forms, packed, form)
    return packed


def _unpacked(packed: bytes) -> Any:
    form = _forms.get(packed)
    if form is None:
        form = pickle.loads(packed)
        remember(_forms, packed, form)
    return form


# What tasks do ----------------------------------------------------------------------------------------------------------------


def _step(
    packed: bytes, step: str, where: str, names: Mapping[str, int | None], options: Mapping[str, Any], fixed: Mapping[str, Any],
    blocks: list[Any], *found: Any,
) -> Any:  # fmt: skip
    """One step of a call on blocks of the arrays ``names``, each with the axis that is to be moved last."""
    arrays = zip(names.items(), blocks, strict=True)
    given = {name: block if axis is None else np.moveaxis(block, axis, -1) for (name, axis), block in arrays}
    try:
        with without_reuse():  # workers over their memory limit are stopped, even if the memory could be reclaimed
            return getattr(_unpacked(packed).parts(), step)({**options, **given}, *found, **fixed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} (in {where})") from None


def _added(parts: list[Any]) -> Any:
    """The sum in a fixed order: the same bits from run to run."""
    return functools.reduce(operator.add, parts)


def _highest(parts: list[np.ndarray]) -> np.ndarray:
    return functools.reduce(np.maximum, parts)


def _balanced(packed: bytes, option: str, counts: list[np.ndarray]) -> Any:
    """The weights that balance classes, from the counts of the pieces of the class axis."""
    return _unpacked(packed).parts().balanced(option, np.concatenate(counts))


def _value(parts: list[Any]) -> Any:
    return np.float64(_added(parts))


def _result(position: int, axis: int | None, results: list[Any]) -> Any:
    """One of a step's results, with the class axis moved back."""
    return results[position] if axis is None else np.moveaxis(results[position], -1, axis)


# The graph --------------------------------------------------------------------------------------------------------------------


class _Grid:
    """The block structure of a call: all arrays are chunked like the first input."""

    def __init__(self, parts: Any, arrays: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        definition, self.geometry = parts.definition, parts.geometry({**options, **arrays})
        self.first = arrays[definition.inputs[0].public]
        self.axis = self.geometry.axis
        self.items = tuple(lengths for axis, lengths in enumerate(self.first.chunks) if axis != self.axis)
        self.columns = (1,) if self.axis is None else self.first.chunks[self.axis]
        self.of_items = {"sample_weight", *self.geometry.of_items(definition)}
        self.arrays = {name: one.rechunk(self._chunks(name, one.ndim)) for name, one in arrays.items()}

    def _chunks(self, name: str, ndim: int) -> Any:
        return self.items[:ndim] if name in self.of_items else self.first.chunks

    @property
    def blocks(self) -> Iterator[Block]:
        """The indices of blocks among the items, in order."""
        return itertools.product(*(range(len(one)) for one in self.items))

    @property
    def pieces(self) -> range:
        """The indices of blocks along the class axis."""
        return range(len(self.columns))

    def place(self, block: Block, piece: int) -> Block:
        return block if self.axis is None else (*block[: self.axis], piece, *block[self.axis :])

    def key(self, name: str, block: Block, piece: int) -> tuple[Any, ...]:
        array = self.arrays[name]
        return (array.name, *(block[: array.ndim] if name in self.of_items else self.place(block, piece)))

    def span(self, piece: int) -> dict[str, int]:
        """Where a piece begins in its rows, and how long whole rows are."""
        return {"first": 0 if self.axis is None else self.starts[self.axis][piece], "whole": self.geometry.columns}

    @functools.cached_property
    def starts(self) -> list[list[int]]:
        """Where blocks begin, along each axis."""
        return [list(itertools.accumulate((0, *lengths))) for lengths in self.first.chunks]

    def where(self, place: Block) -> str:
        """A block's position, for messages."""
        begins = [starts[at] for starts, at in zip(self.starts, place, strict=True)]
        return f"the block {place}, which begins at {begins}"

    def shape(self, block: Block, columns: int) -> Block:
        """The shape of a block with so many columns, class axis last."""
        items = tuple(lengths[at] for lengths, at in zip(self.items, block, strict=True))
        return items if self.axis is None else (*items, columns)


class _Call:
    """The graph of one call, built step by step."""

    def __init__(self, form: Any, arguments: dict[str, Any]) -> None:
        self.parts, self.packed, self.owner = form.parts(), _packed(form), form.__name__
        self.definition = self.parts.definition
        names = {*(one.public for one in self.definition.inputs), "sample_weight"}
        given = {name: one for name, one in arguments.items() if name in names and (name != "sample_weight" or one is not None)}
        arrays = {name: self._lazy(form, name, one) for name, one in given.items()}
        rest = {name: one for name, one in arguments.items() if name not in names}
        self.options = {name: to_numpy(one) if isinstance(one, da.Array) else one for name, one in rest.items()}
        self.grid = _Grid(self.parts, arrays, self.options)
        self.trial = self.parts.trial({**self.options, **arrays}, self.grid.geometry)
        self.arrays = self.grid.arrays
        self.name = f"{self.owner}-{tokenize(self.packed, self.options, {name: one.name for name, one in self.arrays.items()})}"
        self.tasks: dict[Any, Any] = {}
        self.balanced: dict[str, Any] = {}
        """The options whose values the graph computes or holds, and the keys of their tasks."""

    def _lazy(self, form: Any, name: str, value: Any) -> Any:
        """An input as a Dask array. An unregistered type may be as lazy as one, such as a data set in a file."""
        array: Any = value
        if not isinstance(value, da.Array):
            lazy = not form.reads(value) and isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype")
            array = da.asarray(value if lazy else form.in_numpy(name, value))
        if isinstance(array._meta, np.ma.MaskedArray):
            form.in_numpy(name, array._meta)  # raises if it is not a supported array
        if any(math.isnan(length) for length in array.shape):
            raise ValueError(f"{self.owner}: {name} has blocks of unknown length; call its compute_chunk_sizes() first")
        return array

    # Tasks ----------------------------------------------------------------------------------------------------------------------

    def _add(self, stage: str, place: Block, *task: Any) -> Any:
        """Add a task; arguments other than keys are bound in its function, because a string among them might equal some key."""
        key = (f"{self.name}-{stage}", *place)
        self.tasks[key] = task
        return key

    def _step(self, step: str, block: Block, piece: int, names: Iterable[str], *found: Any, **fixed: Any) -> Any:
        """A task that runs a step on a block of some arrays; steps on pieces of rows move the class axis last."""
        grid, place, names, whole = self.grid, self.grid.place(block, piece), list(names), step == "block"
        if not whole:
            fixed |= grid.span(piece)
        axes: dict[str, int | None] = {name: None if whole or name in grid.of_items else grid.axis for name in names}
        keys = [grid.key(name, block, piece) for name in names]
        options = {name: value for name, value in self.options.items() if name not in self.balanced}
        if grid.axis is not None and not whole:
            options["axis"] = -1
        function = functools.partial(
            _step, self.packed, step, grid.where(place), axes | dict.fromkeys(self.balanced), options, fixed
        )
        stage = f"{step}-{fixed['option']}" if "option" in fixed else step
        return self._add(stage, place, function, [*keys, *self.balanced.values()], *found)

    def _balance(self) -> None:
        """Add tasks for "balanced" options, which count classes over all blocks, and for options that are arrays, which are sent once."""
        for option, value in self.options.items():
            if isinstance(value, np.ndarray) and value.ndim:
                self.balanced[option] = (f"{self.name}-{option}",)
                self.tasks[self.balanced[option]] = value
        for option in [name for name in ("class_weight", "pos_weight") if isinstance(self.options.get(name), str)]:
            target = self.definition.target.public
            of_items, found = target in self.grid.of_items, []
            for piece in [0] if of_items else self.grid.pieces:
                like = functools.partial(self._like, columns=0 if of_items else self.grid.columns[piece])
                counts = [self._step("counts", at, piece, [target], option=option, **like(at)) for at in self.grid.blocks]
                found.append(self._add(f"count-{option}", (piece,), _added, counts))
            self.balanced[option] = self._add(option, (), functools.partial(_balanced, self.packed, option), found)

    def _like(self, block: Block, columns: int) -> dict[str, Any]:
        """The shape and the dtype of predictions, for steps that do not read them."""
        return {"shape": self.grid.shape(block, columns), "dtype": self.grid.first.dtype}

    def _divisor(self) -> Any:
        """What the sum is divided by: a number where the shapes determine it, else the key of the task that computes it."""
        normalizer, grid = self.options.get("normalizer", "count"), self.grid
        if self.definition.is_penalty or self.options.get("reduction", "mean") != "mean":
            return 1.0
        if not isinstance(normalizer, str):
            return float(normalizer)
        labels, weighted = grid.geometry.labels, normalizer == "weights"
        by_class = weighted and self.options.get("class_weight") is not None
        names = [self.definition.target.public] if labels or by_class else []
        names += ["sample_weight"] if weighted and "sample_weight" in self.arrays else []
        if not names:
            return float(grid.geometry.count)
        dense = by_class and not labels
        parts = [
            self._step("divisor", block, piece, names, **self._like(block, self.grid.columns[piece] * dense))
            for piece in (grid.pieces if dense else [0])
            for block in grid.blocks
        ]
        return self._add("divided", (), _added, parts)

    def _whole_rows(self, divisor: Any) -> dict[Block, Any]:
        """A task for each block, by index."""
        return {self.grid.place(block, 0): self._step("block", block, 0, self.arrays, divisor) for block in self.grid.blocks}

    def _cut_rows(self, divisor: Any) -> dict[Block, Any]:
        """The tasks of the three stages; returns the last ones, by index."""
        grid, names, done = self.grid, list(self.arrays), {}
        for block in grid.blocks:
            highest: tuple[Any, ...] = ()
            if self.parts.has_peaks:
                found = [self._step("peaks", block, piece, names) for piece in grid.pieces]
                highest = (self._add("highest", block, _highest, found),)
            found = [self._step("sums", block, piece, names, *highest) for piece in grid.pieces]
            totals = self._add("totals", block, _added, found)
            for piece in grid.pieces:
                task = self._step("slopes", block, piece, names, divisor, totals, *highest)
                done[grid.place(block, piece)] = task
        return done

    # Results --------------------------------------------------------------------------------------------------------------------

    def results(self) -> Any:
        """Dask arrays over one graph, in the order of the form's results."""
        self._balance()
        cut, wants = len(self.grid.columns) > 1, self.parts.wants
        done = self._cut_rows(self._divisor()) if cut else self._whole_rows(self._divisor())
        value = self._value_tasks(done) if wants.value else None
        self.graph = HighLevelGraph.merge(*(one.dask for one in self.arrays.values()))
        self.graph = self._with(self.name, self.tasks, {one.name for one in self.arrays.values()})
        results, axis = [self._array(*value, 0)] if value else [], self.grid.axis if cut else None
        names, position = [one.name for one in self.definition.differentiable], int(wants.value)
        for kind in ["gradient"] * wants.gradient + ["hessian"] * wants.hessian:
            arrays = {}
            for name in names:
                take = functools.partial(_result, position, axis)
                tasks = {place: (take, key) for place, key in done.items()}
                arrays[name] = self._array(f"{kind}-{name}", self.grid.first.chunks, tasks, position)
                position += 1
            results.append(arrays if len(names) > 1 else arrays[names[0]])
        return one_or_tuple(results)

    def _value_tasks(self, done: Mapping[Block, Any]) -> tuple[str, Any, dict[Block, Any]]:
        """Name, chunks and tasks of the value, or of the items' values; where rows are in pieces, the first piece provides it."""
        take = functools.partial(_result, 0, None)
        tasks = {block: (take, done[self.grid.place(block, 0)]) for block in self.grid.blocks}
        if self.options.get("reduction") == "none":
            return "values", self.grid.items, tasks
        parts = [self._add("part", block, *task) for block, task in tasks.items()]  # so that the sum does not hold gradients
        return "value", (), {(): (_value, parts)}

    def _array(self, name: str, chunks: Any, tasks: Mapping[Block, Any], position: int) -> Any:
        """A Dask array over the graph, with the dtype of the trial call's result."""
        name = f"{self.name}-{name}"
        graph = self._with(name, {(name, *place): task for place, task in tasks.items()}, {self.name})
        dtype = np.asarray(self.trial[position]).dtype
        return da.Array(graph, name, chunks, meta=meta_from_array(self.grid.first._meta, ndim=len(chunks), dtype=dtype))

    def _with(self, name: str, layer: dict[Any, Any], needs: set[str]) -> HighLevelGraph:
        return HighLevelGraph({**self.graph.layers, name: layer}, {**self.graph.dependencies, name: needs})
