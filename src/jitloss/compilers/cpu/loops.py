"""Loops over the numbers of a block that call a definition's functions: each is one instruction for numba, and quickly typed.

A loop written in a kernel would be typed statement by statement, several times over. The block's numbers lie in pieces of stack, one
for each kind of number: beside each element, or one for each row. A loop's ``sources`` are those pieces, then arrays; the numbers
that it hands to a function are known by their positions in the sources, then in ``given``, and then comes the tuple of the sources
at ``nested``.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import fold_arguments

from ..elements import load_one, store_one
from ..intrinsics import intrinsic
from ..tuples import scaled, weighted
from .memory import literals
from .vectors import pick

__all__ = ["each", "each_scaled"]

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

    def results(self, context: Any, builder: Any, sources: Any, given: Any, index: Any) -> list[Any]:
        """What it returns for the element at ``index``, in the working precision."""

        def load(position: int) -> Any:
            return load_one(context, builder, builder.extract_value(sources, position), index, self.names[position], self.real)

        def number(position: int) -> tuple[Any, Any]:
            if position < len(self.names):
                return load(position), self.real
            if (at := position - len(self.names)) < len(self.given):
                return builder.extract_value(given, at), self.given[at]
            kind = types.UniTuple(self.real, len(self.nested))
            return context.make_tuple(builder, kind, [load(one) for one in self.nested]), kind

        returned = self._call(context, builder, [number(position) for position in self.wanted])
        kind = self.signature.return_type
        if not isinstance(kind, types.BaseTuple):
            return [context.cast(builder, returned, kind, self.real)]
        return [context.cast(builder, builder.extract_value(returned, at), one, self.real) for at, one in enumerate(kind)]

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


def _body(typing: Any, function: Any, sources: Any, dtypes: Any, wanted: Any, nested: Any, given: Any, working: Any) -> _Body:
    real, inner = working.dtype, tuple(literals(nested))
    names = (*[str(real)] * (len(sources) - len(dtypes)), *literals(dtypes))
    numbers = [*[real] * len(names), *given, types.UniTuple(real, len(inner))]
    chosen = tuple(literals(wanted))
    signature = function.get_call_type(typing, tuple(numbers[position] for position in chosen), {})
    return _Body(function, signature, names, chosen, inner, given, real)


@intrinsic(prefer_literal=True)
def each(
    typing: Any,
    function: Any,
    count: Any,
    sources: Any,
    dtypes: Any,
    wanted: Any,
    nested: Any,
    given: Any,
    positions: Any,
    working: Any,
) -> Any:
    """Call a function for each of ``count`` elements of the sources, and write what it returns to the sources at ``positions``."""
    body, chosen = _body(typing, function, sources, dtypes, wanted, nested, given, working), literals(positions)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with cgutils.for_range(builder, args[1], intp=_I64) as loop:
            results = body.results(context, builder, args[2], args[6], loop.index)
            for memory, result in zip(pick(builder, args[2], chosen), results, strict=True):
                store_one(builder, memory, loop.index, result, str(body.real))
        return context.get_dummy_value()

    kinds = function, types.intp, sources, dtypes, wanted, nested, given, positions, working
    return types.void(*kinds), codegen


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
    factor: Any,
    scale: Any,
    working: Any,
) -> Any:
    """The same, with results times ``scale``, or weighted by the source at ``factor``, written to tiles of the dtype ``output``."""
    body, factors = _body(typing, function, sources, dtypes, wanted, nested, given, working), literals(factor)
    real, slopes = body.real, types.UniTuple(body.real, len(tiles))
    multiplied, multiply = (weighted if factors else scaled).typer(typing, slopes, real)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with cgutils.for_range(builder, args[1], intp=_I64) as loop:
            results = body.results(context, builder, args[2], args[6], loop.index)[: len(slopes)]
            weights = pick(builder, args[2], factors)
            by = load_one(context, builder, weights[0], loop.index, str(real), real) if weights else args[10]
            product = multiply(context, builder, multiplied, (context.make_tuple(builder, slopes, results), by))
            for which in range(len(slopes)):
                number, tile = builder.extract_value(product, which), builder.extract_value(args[7], which)
                store_one(builder, tile, loop.index, number, output.literal_value)
        return context.get_dummy_value()

    kinds = function, types.intp, sources, dtypes, wanted, nested, given, tiles, output, factor, working.dtype, working
    return types.void(*kinds), codegen
