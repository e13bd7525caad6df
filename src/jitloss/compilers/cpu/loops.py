"""Loops over numbers that call a definition's functions: each is one instruction for numba, and quickly typed.

A loop written in a kernel would be typed statement by statement, several times over. What a loop reads are its ``sources``:
pieces of stack, then arrays. The numbers that it passes to a function are given by their positions in the sources, followed by
``given``, and then by the tuple of the sources at ``nested``. Arrays have dtypes, pieces hold the working precision.

Loops over ``columns`` run over a block of short rows, as :mod:`.transpose` arranges it: for each column over the rows. The first
sources are the block's grids, the others have a number for each row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import fold_arguments

from ..elements import ITEMSIZE
from ..intrinsics import intrinsic
from ..tuples import add, maximum_of, scaled, weighted
from .memory import LINE, literals, llvm_prefetch
from .repeat import COLUMN, Iteration, pick, repeat, vectors_of

__all__ = [
    "NOTHING",
    "body_of",
    "each",
    "each_scaled",
    "fold_columns",
    "fold_lanes",
    "fold_points",
    "over_columns",
    "scaled_columns",
]

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@dataclass(frozen=True)
class _Body:
    """A function of an element's numbers inside a loop."""

    function: Any
    signature: Any
    names: tuple[str, ...]
    wanted: tuple[int, ...]
    nested: tuple[int, ...]
    given: Any
    real: Any

    def results(self, context: Any, one: Iteration, sources: Sequence[Any], given: Any) -> list[Any]:
        """The results for the element of a pass, in the working precision."""
        builder = one.builder

        def load(position: int) -> Any:
            return one.load(context, sources[position], self.names[position], self.real)

        def number(position: int) -> tuple[Any, Any]:
            if position < len(self.names):
                return load(position), self.real
            if (at := position - len(self.names)) < len(self.given):
                return builder.extract_value(given, at), self.given[at]
            kind = types.UniTuple(self.real, len(self.nested))
            return context.make_tuple(builder, kind, [load(element) for element in self.nested]), kind

        returned = self._call(context, builder, [number(position) for position in self.wanted])
        kind = self.signature.return_type
        if not isinstance(kind, types.BaseTuple):
            return [context.cast(builder, returned, kind, self.real)]
        return [context.cast(builder, builder.extract_value(returned, at), own, self.real) for at, own in enumerate(kind)]

    def _call(self, context: Any, builder: Any, numbers: list[tuple[Any, Any]]) -> Any:
        """The call, with the numbers converted to what the function was compiled for."""
        kinds = self.signature.args

        def converted(at: int, parameter: Any, number: Any) -> Any:
            return context.cast(builder, *number, kinds[at])

        def gathered(at: int, parameter: Any, rest: Any) -> Any:
            parts = [context.cast(builder, *number, kind) for number, kind in zip(rest, kinds[at], strict=True)]
            return context.make_tuple(builder, kinds[at], parts)

        arguments = fold_arguments(self.signature.pysig, numbers, {}, converted, _no_default, gathered)
        return context.get_function(self.function, self.signature)(builder, arguments)


def _no_default(at: int, parameter: Any, default: Any) -> Any:
    raise TypeError("a part of a definition has no defaults")


def body_of(typing: Any, function: Any, sources: Any, dtypes: Any, wanted: Any, nested: Any, given: Any, working: Any) -> _Body:
    real, inner = working.dtype, tuple(literals(nested))
    names = (*[str(real)] * (len(sources) - len(dtypes)), *literals(dtypes))
    numbers = [*[real] * len(names), *given, types.UniTuple(real, len(inner))]
    chosen = tuple(literals(wanted))
    signature = function.get_call_type(typing, tuple(numbers[position] for position in chosen), {})
    return _Body(function, signature, names, chosen, inner, given, real)


NOTHING = types.Tuple(())
_FOLDS = {"sum": add, "peak": maximum_of}

Fold = Callable[[Any, Any, Sequence[Any], Sequence[Any]], list[Any]]


def _fold(typing: Any, how: Any, kind: Any) -> Fold:
    """How two lists of numbers are combined into one."""
    pair, join = _FOLDS[how.literal_value].typer(typing, kind, kind)

    def together(context: Any, builder: Any, one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
        tuples = tuple(context.make_tuple(builder, kind, list(values)) for values in (one, other))
        return pick(builder, join(context, builder, pair, tuples))

    return together


def over_columns(
    builder: Any, columns: Any, strides: Sequence[int], pieces: Sequence[Any], step: Callable[[Any, list[Any]], None]
) -> None:
    """Run ``step`` for each column with the pieces, each of them advanced by its stride from column to column."""
    with cgutils.for_range(builder, columns, intp=_I64) as loop:
        places = [builder.mul(loop.index, _I64(stride)) for stride in strides]
        step(loop.index, [builder.gep(one, [place]) for one, place in zip(pieces, places, strict=True)])


@intrinsic(prefer_literal=True)
def each(
    typing: Any,
    function: Any,
    count: Any,
    sources: Any,
    wanted: Any,
    nested: Any,
    given: Any,
    positions: Any,
    working: Any,
) -> Any:
    """Call a function for each of ``count`` elements of the sources, and write its results to the sources at ``positions``."""
    body, chosen = body_of(typing, function, sources, NOTHING, wanted, nested, given, working), literals(positions)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pieces = pick(builder, args[2])

        def step(one: Iteration, carried: Any) -> None:
            results = body.results(context, one, pieces, args[5])
            one.store([pieces[position] for position in chosen], results[: len(chosen)], str(body.real))

        repeat(builder, args[1], step, together=vectors_of(count.literal_value, str(body.real)))
        return context.get_dummy_value()

    return types.void(function, types.intp, sources, wanted, nested, given, positions, working), codegen


@intrinsic(prefer_literal=True)
def fold_lanes(
    typing: Any,
    how: Any,
    function: Any,
    count: Any,
    sources: Any,
    dtypes: Any,
    wanted: Any,
    given: Any,
    kept: Any,
    folded: Any,
    working: Any,
) -> Any:
    """Fold a function's results for each of ``count`` elements, a constant, into as many numbers of each piece of ``folded``.

    ``how`` is "sum", or "peak", which is NaN if any is NaN. The results are kept in the sources at ``kept``, if there are any.
    """
    body, chosen = body_of(typing, function, sources, dtypes, wanted, NOTHING, given, working), literals(kept)
    together = _fold(typing, how, types.UniTuple(working.dtype, len(folded)))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pieces, memories = pick(builder, args[3]), pick(builder, args[8])
        step = _folding(context, body, together, pieces, [pieces[position] for position in chosen], memories, args[6])
        repeat(builder, _I64(count.literal_value), step)
        return context.get_dummy_value()

    return types.void(how, function, count, sources, dtypes, wanted, given, kept, folded, working), codegen


def _folding(
    context: Any, body: _Body, together: Fold, pieces: list[Any], kept: list[Any], into: list[Any], given: Any
) -> Callable[[Iteration, Any], None]:
    name = str(body.real)

    def step(one: Iteration, carried: Any) -> None:
        results = body.results(context, one, pieces, given)
        if kept:
            one.store(kept, results, name)
        before = [one.load(context, memory, name, body.real) for memory in into]
        one.store(into, together(context, one.builder, before, results), name)

    return step


@intrinsic(prefer_literal=True)
def each_scaled(
    typing: Any,
    function: Any,
    count: Any,
    sources: Any,
    dtypes: Any,
    wanted: Any,
    nested: Any,
    given: Any,
    tiles: Any,
    output: Any,
    scale: Any,
    working: Any,
) -> Any:
    """Call a function for each of ``count`` elements, and write its results, times ``scale``, to tiles of the dtype ``output``."""
    body = body_of(typing, function, sources, dtypes, wanted, nested, given, working)
    slopes, name = types.UniTuple(body.real, len(tiles)), output.literal_value
    multiplied, multiply = scaled.typer(typing, slopes, body.real)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pieces, outputs = pick(builder, args[2]), pick(builder, args[7])

        def step(one: Iteration, carried: Any) -> None:
            results = body.results(context, one, pieces, args[6])[: len(outputs)]
            product = multiply(context, builder, multiplied, (context.make_tuple(builder, slopes, results), args[9]))
            one.store(outputs, pick(builder, product), name)

        repeat(builder, args[1], step, together=4)
        return context.get_dummy_value()

    kinds = function, types.intp, sources, dtypes, wanted, nested, given, tiles, output, working.dtype, working
    return types.void(*kinds), codegen


@intrinsic(prefer_literal=True)
def fold_points(
    typing: Any,
    function: Any,
    count: Any,
    sources: Any,
    dtypes: Any,
    wanted: Any,
    given: Any,
    weight: Any,
    results: Any,
    sums: Any,
    outputs: Any,
    output: Any,
    factor: Any,
    shrink: Any,
    working: Any,
) -> Any:
    """Call a function for each of ``count`` elements; returns the sum of its results at ``sums``, one or none, times ``shrink``.

    Its results are weighted by the source at ``weight``, if there is one. The results at ``results`` go to the outputs: values
    unchanged, derivatives times ``factor``.
    """
    body, weights = body_of(typing, function, sources, dtypes, wanted, NOTHING, given, working), literals(weight)
    real, name, into, chosen, summed = body.real, str(body.real), output.literal_value, literals(results), literals(sums)
    returned = types.UniTuple(real, getattr(body.signature.return_type, "count", 1))
    weigh_kind, weigh = weighted.typer(typing, returned, real)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pieces, tiles = pick(builder, args[2]), pick(builder, args[9], range(len(outputs)))

        def step(one: Iteration, carried: Any) -> Any:
            numbers = body.results(context, one, pieces, args[5])
            for position in weights:
                by = one.load(context, pieces[position], name, real)
                numbers = pick(builder, weigh(context, builder, weigh_kind, (context.make_tuple(builder, returned, numbers), by)))
            written = [builder.fmul(args[11], numbers[which]) if which else numbers[0] for which in chosen]
            one.store(tiles, written, into)
            total = carried[0]
            for which in summed:
                total = builder.fadd(total, builder.fmul(args[12], numbers[which]))
            return [total]

        return repeat(builder, args[1], step, [context.get_constant(real, 0.0)], together=4)[0]

    kinds = function, types.intp, sources, dtypes, wanted, given, weight, results, sums, outputs, output
    return working.dtype(*kinds, working.dtype, working.dtype, working), codegen


@intrinsic(prefer_literal=True)
def fold_columns(
    typing: Any,
    how: Any,
    function: Any,
    columns: Any,
    rows: Any,
    grids: Any,
    sources: Any,
    wanted: Any,
    given: Any,
    kept: Any,
    folded: Any,
    ahead: Any,
    claimed: Any,
    dtypes: Any,
    working: Any,
) -> Any:
    """Fold a function's results for each element of a row into the row's numbers at ``folded``, for ``rows`` rows.

    The results are kept in the grids at ``kept``, if there are any. With each column as many elements are prefetched from the
    arrays ``ahead``, which are read next, and for writing from those ``claimed``; their ``dtypes`` are listed one after the
    other.
    """
    body, chosen = body_of(typing, function, sources, NOTHING, wanted, NOTHING, given, working), literals(kept)
    into = literals(folded)
    sizes = [rows.literal_value * ITEMSIZE[one] for one in literals(dtypes)]
    strides = [COLUMN] * grids.literal_value + [0] * (len(sources) - grids.literal_value) + sizes
    together = _fold(typing, how, types.UniTuple(working.dtype, len(into)))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def column(number: Any, pieces: list[Any]) -> None:
            memories = [pieces[position] for position in into]
            step = _folding(context, body, together, pieces, [pieces[position] for position in chosen], memories, args[7])
            for which, (line, size) in enumerate(zip(pieces[len(sources) :], sizes, strict=True)):
                for place in range(0, size, LINE):
                    builder.call(
                        llvm_prefetch(builder),
                        [builder.gep(line, [_I64(place)]), _I32(int(which >= len(ahead))), _I32(3), _I32(1)],
                    )
            repeat(builder, _I64(rows.literal_value), step)

        over_columns(
            builder,
            args[2],
            strides,
            pick(builder, args[5]) + pick(builder, args[10], range(len(ahead))) + pick(builder, args[11], range(len(claimed))),
            column,
        )
        return context.get_dummy_value()

    kinds = how, function, types.intp, rows, grids, sources, wanted, given, kept, folded, ahead, claimed, dtypes, working
    return types.void(*kinds), codegen


@intrinsic(prefer_literal=True)
def scaled_columns(
    typing: Any,
    function: Any,
    columns: Any,
    rows: Any,
    grids: Any,
    sources: Any,
    wanted: Any,
    nested: Any,
    given: Any,
    outputs: Any,
    factor: Any,
    scale: Any,
    working: Any,
) -> Any:
    """Call a function for each element of a block, and write its results to the grids at ``outputs``.

    They are multiplied by ``scale``, or weighted by the row's number at ``factor``, where there is one.
    """
    body, factors = body_of(typing, function, sources, NOTHING, wanted, nested, given, working), literals(factor)
    real, into, name = body.real, literals(outputs), str(body.real)
    slopes = types.UniTuple(real, len(into))
    strides = [COLUMN] * grids.literal_value + [0] * (len(sources) - grids.literal_value)
    multiplied, multiply = (weighted if factors else scaled).typer(typing, slopes, real)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def column(number: Any, pieces: list[Any]) -> None:
            def step(one: Iteration, carried: Any) -> None:
                results = body.results(context, one, pieces, args[7])[: len(into)]
                by = one.load(context, pieces[factors[0]], name, real) if factors else args[10]
                product = multiply(context, builder, multiplied, (context.make_tuple(builder, slopes, results), by))
                one.store([pieces[position] for position in into], pick(builder, product), name)

            repeat(builder, _I64(rows.literal_value), step)

        over_columns(builder, args[1], strides, pick(builder, args[4]), column)
        return context.get_dummy_value()

    kinds = function, types.intp, rows, grids, sources, wanted, nested, given, outputs, factor, working.dtype, working
    return types.void(*kinds), codegen
