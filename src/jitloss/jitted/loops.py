"""The loops of a loss over arrays, as numba inlines them into a caller: plain, in the order of the definition.

numba has no loop over a tuple of arrays of different types: :func:`each` takes its place.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import register_jitable

from ..compilers.canonical import point, rows
from ..compilers.cpu.flags import GUEST_FLAGS, guest_jitable
from ..compilers.cpu.pipeline import JoinedCompiler
from ..compilers.tuples import add, cast, maximum_of, scaled, select
from ..options import DEFAULTS
from .each import each
from .functions import Function, factor_of, given, placed, working_of

__all__ = ["OPTIONS", "on_elements", "on_rows"]

OPTIONS = {
    "fastmath": GUEST_FLAGS,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "no_cpython_wrapper": True,
    "pipeline_class": JoinedCompiler,
}
"""Options with which functions of arrays are inlined into a caller."""

with_arrays = register_jitable(**OPTIONS)
"""Like :func:`guest_jitable`, for functions that handle arrays, and so count references."""

IGNORED: int = DEFAULTS["ignore_index"]
STRIP = 1024
"""Elements that are added in the working precision before they are added in float64."""


# What is done with each array -------------------------------------------------------------------------------------------------


def _numbers(kinds: Sequence[Any], places: Sequence[int], working: Any, signs: int) -> tuple[Function, tuple[Any, ...]]:
    """A function for the element of an array at an index, as a number, and its extra argument for each: whether bools become 1 and -1."""

    def number(array, index, sign):  # type: ignore[no-untyped-def]
        if sign is None:
            return working(array[index])
        return working(1.0) if array[index] else working(-1.0)

    others = (True if one == signs and kinds[one].dtype == types.boolean else None for one in places)
    return with_arrays(number), tuple(others)


_flat = with_arrays(lambda array, columns, nothing: np.ravel(array))
_grid = with_arrays(lambda array, columns, nothing: np.ascontiguousarray(array).reshape(-1, columns))
_full = with_arrays(lambda array, columns, zero: np.full(array.shape, zero))


@with_arrays
def _put(array, index, slope):  # type: ignore[no-untyped-def]
    array[index] = slope


def _same_shape(form: Any, places: Sequence[int]) -> Function:
    """Raise where an array does not have the shape of the first one."""
    message = f"{form.__name__}: {' and '.join(form.inputs[one] for one in places)} must have the same shape"

    def check(array, first, nothing):  # type: ignore[no-untyped-def]
        if array.shape != first.shape:
            raise ValueError(message)

    return with_arrays(check)


def _one_a_row(form: Any, places: Sequence[int]) -> Function:
    """Raise where an array does not have one number for each row of the first one."""
    message = f"{form.__name__}: {' and '.join(form.inputs[one] for one in places)} must have one number for each row"

    def check(array, first, nothing):  # type: ignore[no-untyped-def]
        if array.shape != first.shape[:-1]:
            raise ValueError(message)

    return with_arrays(check)


def _outputs(form: Any, kinds: Sequence[Any]) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """Which arguments have a gradient, and a 0 of the dtype of each."""
    places = tuple(form.inputs.index(name) for name in form.differentiable)
    dtypes = (kinds[at].dtype if isinstance(kinds[at].dtype, types.Float) else types.float64 for at in places)
    return places, tuple(np.dtype(str(dtype)).type(0.0) for dtype in dtypes)


def _nothing(places: Sequence[Any]) -> tuple[None, ...]:
    return (None,) * len(places)


def _finish(form: Any, several: bool) -> Function:
    """What a form returns, from its value and its gradients."""
    gradient, both = form.kind == "gradient", form.kind == "value_and_gradient"
    if several:
        if both:
            return with_arrays(lambda value, gradients: (value, gradients))
        return with_arrays(lambda value, gradients: gradients if gradient else value)
    if both:
        return with_arrays(lambda value, gradients: (value, gradients[0]))
    if gradient:
        return with_arrays(lambda value, gradients: gradients[0])
    return with_arrays(lambda value, gradients: value)


# Elements ---------------------------------------------------------------------------------------------------------------------


def on_elements(form: Any, kinds: Sequence[Any]) -> Function:
    """A pointwise loss over arrays."""
    definition, count = form.loss.definition, len(form.inputs)
    working, places = working_of(kinds[:count]), tuple(range(count))
    parameters, call = given(form, kinds, working), point(definition, working, guest_jitable)
    function, wanted = call.function, placed(call.wanted, count, parameters)
    constants, at_numbers = parameters.constants, parameters.numbers
    signs = next((at for at, one in enumerate(definition.inputs) if one.space.name == "sign"), -1)
    (number, bools), check, nothing = _numbers(kinds, places, working, signs), _same_shape(form, places), _nothing(places)
    outputs, zeros = _outputs(form, kinds)
    out_places, no_more, finish, slope_at = tuple(range(len(outputs))), _nothing(outputs), _finish(form, len(outputs) > 1), (1,)
    factor = factor_of(form)
    mean, with_gradient, zero = not definition.is_penalty, form.wants.gradient, working(0.0)

    def impl(*arguments):  # type: ignore[no-untyped-def]
        each(check, arguments, places, arguments[0], nothing)
        size = arguments[0].size
        fixed = cast(select(arguments, at_numbers), working) + constants
        arrays = each(_flat, arguments, places, 0, nothing)
        gradients = each(_full, arguments, outputs, 0, zeros)
        outs = each(_flat, gradients, out_places, 0, no_more)
        divisor = max(size, 1) if mean else 1
        scale, total = working(factor / divisor), 0.0
        for strip in range(0, size, STRIP):
            part = zero
            for index in range(strip, min(size, strip + STRIP)):
                results = cast(function(*select(each(number, arrays, places, index, bools) + fixed, wanted)), working)
                part += results[0]
                if with_gradient:
                    each(_put, outs, out_places, index, scaled(select(results, slope_at), scale))
            total += part
        return finish(total * factor / divisor, gradients)

    return impl


# Rows -------------------------------------------------------------------------------------------------------------------------


def on_rows(form: Any, kinds: Sequence[Any]) -> Function:
    """A rowwise loss over arrays whose rows lie along the last axis; a target with one axis fewer holds class labels."""
    definition = form.loss.definition
    target = next((at for at, one in enumerate(definition.inputs) if one is definition.target), -1)
    with_labels = _takes_labels(form, kinds, target)
    elements = [at for at, one in enumerate(definition.inputs) if not one.per_row and at != target]
    stored = tuple(elements + ([target] if target >= 0 and not with_labels else []))
    per_row = tuple(at for at, one in enumerate(definition.inputs) if one.per_row)
    names = [definition.inputs[at].name for at in elements] + ([definition.target.name] if target >= 0 else [])
    working = working_of([kinds[at] for at in stored])
    parts = rows(definition, names, [definition.inputs[at].name for at in per_row], working, guest_jitable)
    parameters, width = given(form, kinds, working), len(names)
    constants, at_numbers = parameters.constants, parameters.numbers
    top, term, value, slope = parts.peak or parts.terms, parts.terms, parts.value, parts.slope
    top_of, term_of, value_of, slope_of = top.function, term.function, value.function, slope.function
    of_top, of_term, of_slope = (placed(one.wanted, width, parameters) for one in (top, term, slope))
    of_value = placed(value.wanted, len(per_row), parameters)
    lowest, sums0, totals0 = (working(-np.inf),) * parts.peaks, (working(0.0),) * term.results, (0.0,) * term.results
    rest, with_peak, takes_terms = tuple(range(1, value.results)), parts.peak is not None, parts.slope_takes_terms
    number, of_elements = _numbers(kinds, stored, working, -1)
    check, check_rows, of_rows = _same_shape(form, stored), _one_a_row(form, per_row), _nothing(per_row)
    outputs, zeros = _outputs(form, kinds)
    grid_places, row_places, out_places = (tuple(range(len(one))) for one in (stored, per_row, outputs))
    finish, of_outputs = _finish(form, len(outputs) > 1), _nothing(outputs)
    factor = factor_of(form)
    with_gradient, one, nothing, double = form.wants.gradient, working(1.0), working(0.0), np.float64
    labels_of = _labels(form, kinds, target) if with_labels else with_arrays(lambda arguments: np.zeros(0, np.int64))
    own_target = (
        with_arrays(lambda column, label: (one if column == label else nothing,))
        if with_labels
        else with_arrays(lambda column, label: ())
    )

    @guest_jitable  # it counts no references: a function that does is not inlined, and three times as slow
    def element(grids, row, column, label):  # type: ignore[no-untyped-def]
        """The numbers of an element, its target's among them."""
        return each(number, grids, grid_places, (row, column), of_elements) + own_target(column, label)

    def impl(*arguments):  # type: ignore[no-untyped-def]
        each(check, arguments, stored, arguments[0], of_elements)
        each(check_rows, arguments, per_row, arguments[0], of_rows)
        first, gradients = arguments[0], each(_full, arguments, outputs, 0, zeros)
        columns = first.shape[-1]
        if first.size == 0:
            return finish(0.0, gradients)
        grids = each(_grid, arguments, stored, columns, of_elements)
        rows_given = each(_flat, arguments, per_row, 0, of_rows)
        outs = each(_grid, gradients, out_places, columns, of_outputs)
        fixed = cast(select(arguments, at_numbers), working) + constants
        height, total = first.size // columns, 0.0
        labels, label = labels_of(arguments), -1
        counted = height - np.sum(labels == IGNORED)
        scale = working(factor / max(counted, 1))
        for row in range(height):
            if with_labels:
                label = labels[row]
                if label == IGNORED:
                    continue
            tops = lowest
            if with_peak:
                for column in range(columns):
                    numbers = element(grids, row, column, label) + fixed
                    tops = maximum_of(tops, cast(top_of(*select(numbers, of_top)), working))
            totals = totals0
            for strip in range(0, columns, STRIP):
                sums = sums0
                for column in range(strip, min(columns, strip + STRIP)):
                    numbers = element(grids, row, column, label) + fixed + tops
                    sums = add(sums, cast(term_of(*select(numbers, of_term)), working))
                totals = add(totals, cast(sums, double))
            numbers = each(number, rows_given, row_places, row, of_rows) + fixed + tops + (cast(totals, working),)
            result = cast(value_of(*select(numbers, of_value)), working)
            total += result[0]
            if with_gradient:
                for column in range(columns):
                    numbers = element(grids, row, column, label) + fixed + tops
                    if takes_terms:
                        mine = (cast(term_of(*select(numbers, of_term)), working),)
                        slopes = cast(slope_of(*select(numbers + select(result, rest) + mine, of_slope)), working)
                    else:
                        slopes = cast(slope_of(*select(numbers + select(result, rest), of_slope)), working)
                    each(_put, outs, out_places, (row, column), scaled(select(slopes, out_places), scale))
        return finish(total * factor / max(counted, 1), gradients)

    return impl


def _takes_labels(form: Any, kinds: Sequence[Any], target: int) -> bool:
    if not form.loss.definition.takes_labels or target < 0:
        return False
    kind, first = kinds[target], kinds[0]
    if isinstance(kind, types.Integer) and first.ndim == 1:
        return True
    if not isinstance(kind, types.Array) or kind.ndim not in (first.ndim, first.ndim - 1):
        raise TypingError(f"{form.__name__}: {form.inputs[target]} must be labels or an array like {form.inputs[0]}, got {kind}")
    labels = kind.ndim == first.ndim - 1
    if labels and not isinstance(kind.dtype, (types.Integer, types.Boolean)):
        raise TypingError(f"{form.__name__}: {form.inputs[target]} are class labels and must be integers or bools, got {kind}")
    return labels


def _labels(form: Any, kinds: Sequence[Any], target: int) -> Function:
    """The labels as int64, one for each row, all of them checked."""
    lengths = f"{form.__name__}: {form.inputs[target]} must have one label for each row"
    classes = f"{form.__name__}: {form.inputs[target]} must be classes, from 0 to the number of columns - 1, or {IGNORED}"
    scalar = not isinstance(kinds[target], types.Array)
    dtype = kinds[target] if scalar else kinds[target].dtype
    wraps = isinstance(dtype, types.Integer) and not dtype.signed and dtype.bitwidth == 64

    def labels(arguments):  # type: ignore[no-untyped-def]
        if scalar:
            found = np.full(1, arguments[target], np.int64)
        else:
            if arguments[target].shape != arguments[0].shape[:-1]:
                raise ValueError(lengths)
            found = np.ravel(arguments[target]).astype(np.int64)
        columns = arguments[0].shape[-1]
        for label in found:
            if (wraps or label != IGNORED) and (label < 0 or label >= columns):
                raise ValueError(classes)
        return found

    return with_arrays(labels)
