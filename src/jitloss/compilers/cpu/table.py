"""The layout of a kernel's table of words. The call fills them in this order, the loops read them."""

from ...definition import Definition

__all__ = [
    "CLASS_WEIGHTS",
    "COLUMNS",
    "FIRST",
    "IGNORED",
    "INNER",
    "ITEMS",
    "LABELS",
    "OVER",
    "PARAMETERS",
    "PAST",
    "STREAM",
    "THROUGH",
    "WEIGHTS",
    "WEIGHT_SPAN",
    "first_gradient",
    "first_hessian",
    "found_at",
    "inputs_at",
    "outputs_at",
]

PARAMETERS = 0
"""float64: the parameters, a sum's weights, then the factor on the target under label smoothing and what is added to each class."""
ITEMS = 1
"""The values of the elements or rows, where they are wanted."""
WEIGHTS = 2
"""Sample weights in the working precision, one for every :data:`WEIGHT_SPAN` elements or rows."""
WEIGHT_SPAN = 3
COLUMNS = 4
"""Elements of a row."""
INNER = 5
"""The distance between neighbouring elements of a row: 1 unless the class axis is an inner one."""
STREAM = 6
"""How outputs are stored: :data:`THROUGH` the caches, :data:`PAST` them, or :data:`OVER` an input, whose lines are cached."""
THROUGH, PAST, OVER = 0, 1, 2
LABELS = 7
"""int64 labels, one per row."""
IGNORED = 8
"""The label whose rows are ignored."""
CLASS_WEIGHTS = 9
"""One weight per class in the working precision."""
FIRST = 10
"""The inputs, the gradients, the second derivatives, in the order of the definition's inputs."""


def first_gradient(definition: Definition) -> int:
    return FIRST + len(definition.inputs)


def first_hessian(definition: Definition) -> int:
    return first_gradient(definition) + len(definition.differentiable)


def inputs_at(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """The words of some of the inputs, by their indices."""
    return tuple(FIRST + number for number in numbers)


def outputs_at(definition: Definition, count: int) -> tuple[int, ...]:
    """The words of the first outputs: gradients, then second derivatives."""
    return tuple(first_gradient(definition) + number for number in range(count))


def found_at(definition: Definition, peaks: int, sums: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The words of the results for rows that come in pieces: peaks in the working precision, sums in float64."""
    first = first_hessian(definition) + len(definition.differentiable)
    return tuple(range(first, first + peaks)), tuple(range(first + peaks, first + peaks + sums))
