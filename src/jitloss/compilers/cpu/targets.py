"""How an element's numbers are found: its target as it lies in memory, mixed from it, or made from the row's label.

These are intrinsics and not small compiled functions, because each of those would add to the compile time of every kernel.
"""

from typing import Any

from numba import types

from . import table as at
from .intrinsics import intrinsic
from .memory import load_all, load_one, word_at

__all__ = ["element", "mark", "source"]


def source(targets: str, smoothed: bool, class_weights: bool) -> str:
    """What :func:`element` and :func:`mark` are told of the targets, a word each."""
    return " ".join([targets, *(["smoothed"] if smoothed else []), *(["weighted"] if class_weights else [])])


def _class_weight(context: Any, builder: Any, table: Any, column: Any, working: Any) -> Any:
    return load_one(context, builder, word_at(builder, table, at.CLASS_WEIGHTS), column, str(working), working)


@intrinsic(prefer_literal=True)
def element(
    typing: Any,
    table: Any,
    inputs: Any,
    index: Any,
    column: Any,
    label: Any,
    mark: Any,
    given: Any,
    dtypes: Any,
    working: Any,
    kind: Any,
) -> Any:
    """The numbers of the element at ``index`` of the inputs, its target last, and then the parameters.

    ``given`` ends with the share of the target that smoothing leaves and the background that it adds. ``label`` is the column that
    has ``mark`` for its target, None where it is known to be another one; columns are compared in its width.
    """
    names, words = [one.literal_value for one in dtypes], kind.literal_value.split()
    made = "labels" in words
    real = working.dtype
    result = types.Tuple([*([real] * (len(names) + made)), *given])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = load_all(context, builder, args[1], args[2], names, real)
        parameters = [builder.extract_value(args[6], position) for position in range(len(given))]
        share, background = parameters[-2:]
        if made:
            if "smoothed" in words and "weighted" in words:
                background = builder.fmul(background, _class_weight(context, builder, args[0], args[3], real))
            if label != types.none:
                column = builder.trunc(args[3], args[4].type) if label == types.int32 else args[3]
                background = builder.select(builder.icmp_signed("==", column, args[4]), args[5], background)
            numbers.append(background)
        elif "mixed" in words:
            mixed = builder.fadd(builder.fmul(share, numbers[-1]), background)
            weighted = "weighted" in words
            numbers[-1] = builder.fmul(mixed, _class_weight(context, builder, args[0], args[3], real)) if weighted else mixed
        return context.make_tuple(builder, result, [*numbers, *parameters])

    return result(types.intp, inputs, types.intp, types.intp, label, mark, given, dtypes, working, kind), codegen


@intrinsic(prefer_literal=True)
def mark(typing: Any, table: Any, label: Any, given: Any, working: Any, kind: Any) -> Any:
    """The target of the labelled element."""
    real, words = working.dtype, kind.literal_value.split()

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        share, background = (builder.extract_value(args[2], len(given) - back) for back in (2, 1))
        target = builder.fadd(share, background)
        return builder.fmul(target, _class_weight(context, builder, args[0], args[1], real)) if "weighted" in words else target

    return real(types.intp, types.intp, given, working, kind), codegen
