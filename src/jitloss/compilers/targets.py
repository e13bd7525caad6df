"""Where an element's numbers come from: its target is read from memory, mixed from what is read, or made from the row's label.

These are intrinsics rather than small compiled functions, each of which would add to the compile time of every kernel.
"""

from typing import Any

from numba import types

from .elements import load_all, load_one
from .intrinsics import intrinsic

__all__ = ["element", "mark", "source"]


def source(targets: str, smoothed: bool, class_weights: bool) -> str:
    """The description of the targets for :func:`element` and :func:`mark`, as words."""
    return " ".join([targets, *(["smoothed"] if smoothed else []), *(["weighted"] if class_weights else [])])


def _class_weight(context: Any, builder: Any, classes: Any, column: Any, working: Any) -> Any:
    return load_one(context, builder, classes, column, str(working), working)


def _plain_element(
    classes: Any, inputs: Any, index: Any, column: Any, label: Any, mark: Any, given: Any, dtypes: Any, working: Any, kind: str
) -> tuple[Any, ...]:
    words, numbers = kind.split(), [working(one[index]) for one in inputs]
    weight = classes[column] if "weighted" in words else working(1.0)
    if "labels" in words:
        background = given[-1] * weight if "smoothed" in words else given[-1]
        numbers.append(mark if label is not None and column == label else background)
    elif "mixed" in words:
        numbers[-1] = (given[-2] * numbers[-1] + given[-1]) * weight
    return (*numbers, *given)


def _plain_mark(classes: Any, label: Any, given: Any, working: Any, kind: str) -> Any:
    return (given[-2] + given[-1]) * (classes[label] if "weighted" in kind.split() else working(1.0))


@intrinsic(prefer_literal=True, plain=_plain_element)
def element(
    typing: Any,
    classes: Any,
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

    ``given`` ends with the factor on the target under smoothing and the background that is added. ``label`` is the column whose
    target is ``mark``, None where it is known to be another one; columns are compared in its width. ``classes`` points to the
    weights of the classes, where there are any.
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

    return result(types.voidptr, inputs, types.intp, types.intp, label, mark, given, dtypes, working, kind), codegen


@intrinsic(prefer_literal=True, plain=_plain_mark)
def mark(typing: Any, classes: Any, label: Any, given: Any, working: Any, kind: Any) -> Any:
    """The target of the labelled element."""
    real, words = working.dtype, kind.literal_value.split()

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        share, background = (builder.extract_value(args[2], len(given) - back) for back in (2, 1))
        target = builder.fadd(share, background)
        return builder.fmul(target, _class_weight(context, builder, args[0], args[1], real)) if "weighted" in words else target

    return real(types.voidptr, types.intp, given, working, kind), codegen
