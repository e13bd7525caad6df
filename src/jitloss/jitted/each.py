"""A function applied to each of several arrays, for which numba has no loop where their types differ."""

from typing import Any

from numba import types

from ..compilers.intrinsics import intrinsic

__all__ = ["each"]


@intrinsic(prefer_literal=True)
def each(typing: Any, function: Any, values: Any, places: Any, shared: Any, others: Any) -> Any:
    """The results of ``function(value, shared, other)`` for the values at constant positions and as many others, as a tuple.

    The function is compiled once for values and others of the same types.
    """
    wanted, common = [one.literal_value for one in places], types.unliteral(shared)
    kinds = [(values[at], common, types.unliteral(other)) for at, other in zip(wanted, others, strict=True)]
    signatures = [function.get_call_type(typing, kind, {}) for kind in kinds]
    result = types.Tuple([one.return_type for one in signatures])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = []
        for number, (at, call) in enumerate(zip(wanted, signatures, strict=True)):
            value, other = builder.extract_value(args[1], at), builder.extract_value(args[4], number)
            given = [
                value,
                context.cast(builder, args[3], shared, common),
                context.cast(builder, other, others[number], call.args[2]),
            ]
            found.append(context.get_function(function, call)(builder, given))
        return context.make_tuple(builder, result, found)

    return result(function, values, places, shared, others), codegen
