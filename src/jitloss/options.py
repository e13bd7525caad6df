"""The options that every loss takes: their names, their defaults, and how they are checked and converted for kernels."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from .definition import Definition, as_float, is_number
from .registry import array_type, is_a

__all__ = [
    "DEFAULTS",
    "LARGEST",
    "NO_LABEL",
    "Weights",
    "are_weights",
    "balanced_weights",
    "binary_weights",
    "check_leading_axes",
    "checked_class_weights",
    "class_weights",
    "fitting_sample_weights",
    "ignored_as_read",
    "ignored_label",
    "in_precision",
    "int64_labels",
    "normalizer_of",
    "numbers_of",
    "option_names",
    "out_of_range",
    "place_of",
    "pos_weight_of",
    "sample_weights",
    "smoothing",
]

LARGEST = float(np.finfo(np.float32).max)
"""The largest number of float32."""

DEFAULTS: Final[dict[str, Any]] = {
    "reduction": "mean",
    "normalizer": "count",
    "sample_weight": None,
    "class_weight": None,
    "axis": -1,
    "ignore_index": -100,
    "label_smoothing": 0.0,
}


def option_names(definition: Definition) -> tuple[str, ...]:
    """The options that apply to a loss, in the order of its signature."""
    if definition.is_penalty:
        return ()
    names = ["reduction", "normalizer", "sample_weight"]
    if definition.takes_labels or _is_binary(definition):
        names.append("class_weight")
    if definition.form == "rowwise":
        names.append("axis")
    if definition.takes_labels:
        names += ["ignore_index", "label_smoothing"]
    return tuple(names)


def _is_binary(definition: Definition) -> bool:
    return definition.form == "pointwise" and definition.target is not None and definition.target.space.name == "binary"


def numbers_of(value: Any, owner: str, option: str) -> np.ndarray:
    """An option, or an argument of an objective, as an array of numbers."""
    result = array_type(value, owner, option).read(value, owner, option)
    if result.dtype.kind not in "fiub" and result.dtype.name != "bfloat16":
        raise TypeError(f"{owner}: {option} must hold numbers, got {result.dtype}")
    return result


Place = Callable[[int, tuple[int, ...]], tuple[tuple[int, ...], int]]
"""From the index in an array, and the array's shape, to the index and the flat number that a message names."""


def place_of(index: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    return tuple(int(one) for one in np.unravel_index(index, shape)), index


_INFINITY = {2: 0x7C00, 4: 0x7F800000, 8: 0x7FF0000000000000}
"""The bits of infinity, by the bytes of a float."""


def are_weights(weights: np.ndarray) -> bool:
    """Whether no weight is negative, infinite or NaN. One pass tells: read as unsigned integers, all of those are large, as is -0.0."""
    size = weights.dtype.itemsize
    if (
        weights.dtype.kind == "f"
        and weights.dtype.isnative
        and size in _INFINITY
        and weights.view(f"u{size}").max() < _INFINITY[size]
    ):
        return True
    return bool(weights.min() >= 0 and weights.max() < np.inf)


def _refuse_negative(weights: np.ndarray, owner: str, option: str, place: Place = place_of) -> None:
    """Raise for weights that are negative, infinite or NaN: with all others an ignored item, or one of weight 0, contributes 0."""
    if weights.size and not are_weights(weights):
        flat = weights.reshape(-1)
        first = int(np.argmax(~((flat >= 0) & (flat < np.inf))))
        got = _at(flat[first], first, weights.shape, place)
        raise ValueError(f"{owner}: {option} must not be negative, infinite or NaN, got {got}")


def _at(weight: Any, first: int, shape: tuple[int, ...], place: Place) -> str:
    where, number = place(first, shape)
    return f"{weight} at index {list(where) if len(where) > 1 else number}"


def in_precision(weights: np.ndarray, working: Any, owner: str, option: str, place: Place = place_of) -> np.ndarray:
    """Weights in the working precision; raises where one is too large for it."""
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(weights, working)
    except FloatingPointError:
        flat = weights.reshape(-1)
        first = int(np.argmax(flat > LARGEST))
        got = _at(flat[first], first, weights.shape, place)
        raise ValueError(f"{owner}: {option} must hold numbers that {np.dtype(working)} arithmetic can hold, got {got}") from None


class Weights(NamedTuple):
    """Sample weights, one for every ``span`` consecutive items."""

    array: np.ndarray
    span: int

    def total(self) -> float:
        return float(self.array.sum(dtype=np.float64)) * self.span


def sample_weights(value: Any, shape: tuple[int, ...], working: Any, owner: str, place: Place = place_of) -> Weights | None:
    """``sample_weight`` checked against the shape of the items: it has their leading axes and is broadcast over the others."""
    if value is None:
        return None
    array = fitting_sample_weights(value, shape, owner)
    _refuse_negative(array, owner, "sample_weight", place)
    span = int(np.prod(shape[array.ndim :], dtype=np.int64))
    return Weights(in_precision(array, working, owner, "sample_weight", place), span)


def fitting_sample_weights(value: Any, shape: tuple[int, ...], owner: str) -> np.ndarray:
    """``sample_weight`` as a numeric array that fits the shape of the items; its values are not checked."""
    array = numbers_of(value, owner, "sample_weight")
    check_leading_axes(array.shape, shape, owner)
    return array


def check_leading_axes(given: tuple[int, ...], shape: tuple[int, ...], owner: str) -> None:
    """Raise where the shape of ``sample_weight`` is not a prefix of the shape of the items."""
    if given != shape[: len(given)]:
        raise ValueError(
            f"{owner}: sample_weight must have the leading axes of the items, whose shape is {shape}; got the shape {given}"
        )


def smoothing(value: Any, columns: int, owner: str) -> tuple[float, float]:
    """``label_smoothing`` as the factor on the target and the amount added to each class."""
    if not is_number(value):
        raise TypeError(f"{owner}: label_smoothing must be a number from 0 to 1, got {value!r}")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{owner}: label_smoothing must be a number from 0 to 1, got {value!r}")
    return 1.0 - float(value), float(value) / max(1, columns)


def class_weights(value: Any, counts: Callable[[], np.ndarray], classes: int, working: Any, owner: str) -> np.ndarray | None:
    """``class_weight`` in the working precision: an array, weights by class, or ``"balanced"``, which needs the class ``counts()``."""
    checked = checked_class_weights(value, owner, classes)
    if checked is None:
        return None
    if isinstance(checked, str):
        return balanced_weights(counts()).astype(working)
    if isinstance(checked, dict):
        weights = np.ones(classes)
        for label, weight in checked.items():
            weights[label] = weight
    else:
        weights = checked
    return in_precision(weights, working, owner, "class_weight")


def checked_class_weights(value: Any, owner: str, classes: int | None = None) -> str | dict[int, float] | np.ndarray | None:
    """``class_weight`` as a string, weights by label, or an array; raises for what is wrong whatever the number of classes."""
    if value is None:
        return None
    if isinstance(value, str):
        if value != "balanced":
            raise ValueError(f"{owner}: class_weight must be 'balanced', one weight per class, a dict or None, got {value!r}")
        return value
    named = _by_class(value, owner)
    if named is not None:
        return _by_label(named, owner, classes)
    given = numbers_of(value, owner, "class_weight")
    if given.ndim != 1 or (classes is not None and len(given) != classes):
        of_all = "class" if classes is None else f"of {classes} classes"
        raise ValueError(f"{owner}: class_weight must hold one weight for each {of_all}, got the shape {given.shape}")
    weights = given.astype(np.float64)
    _refuse_negative(weights, owner, "class_weight")
    return weights


def _by_label(named: Mapping[Any, Any], owner: str, classes: int | None) -> dict[int, float]:
    wanted = "integers from 0" if classes is None else f"classes from 0 to {classes - 1}"
    weights = {}
    for label, weight in named.items():
        is_label = isinstance(label, (int, np.integer, np.bool_)) or (
            isinstance(label, (float, np.floating)) and label == label // 1
        )
        if not is_label or label < 0 or (classes is not None and label >= classes):
            raise ValueError(f"{owner}: class_weight names the class {label!r}, wanted {wanted}")
        number = numbers_of(weight, owner, f"class_weight of the class {label}")
        if number.ndim:
            raise ValueError(f"{owner}: class_weight must hold one number for the class {label}, got {weight!r}")
        weights[int(label)] = float(number)
    labels = list(weights)
    _refuse_negative(np.array([*weights.values()]), owner, "class_weight", lambda index, _: ((labels[index],), labels[index]))
    return weights


def _by_class(value: Any, owner: str) -> Mapping[Any, Any] | None:
    """``class_weight`` where it names its classes, as a dict does, and a pandas Series by its index; None where it goes by position."""
    if isinstance(value, Mapping):
        return value
    if not is_a(value, "pandas.Series"):
        return None
    labels = list(value.index)
    twice = next((label for label, times in Counter(labels).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"{owner}: class_weight must name each class once, got an index that has {twice!r} more than once")
    return dict(zip(labels, numbers_of(value, owner, "class_weight"), strict=True))


def binary_weights(targets: np.ndarray, negative: Any, positive: Any, graded: bool) -> np.ndarray:
    """The weight of each target from those of the two classes: where ``graded``, a target between 0 and 1 gets a share of both."""
    if targets.dtype.itemsize == 2 and targets.dtype.kind not in "iu":  # NumPy is slow with half types
        targets = targets.astype(np.float32)
    ones = targets == 1
    # exact, since weights are finite; np.where is slow because of mispredicted branches
    weights: np.ndarray = ones * np.float64(positive)
    weights += ~ones * np.float64(negative)
    if graded:
        zeros = targets == 0
        if np.count_nonzero(ones) + np.count_nonzero(zeros) != targets.size:
            rest = ~(ones | zeros)
            share = targets[rest].astype(np.float64)
            weights[rest] = (1.0 - share) * negative + share * positive
    return weights


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """scikit-learn's balanced weights: items / (classes that occur * items of the class); 1 for a class that does not occur."""
    present = counts > 0
    weights = np.ones(counts.shape)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def binary_counts(targets: np.ndarray, owner: str, option: str) -> np.ndarray:
    """How many targets are 0 and 1; balancing needs every target to be one of them."""
    ones, zeros = int(np.count_nonzero(targets == 1)), int(np.count_nonzero(targets == 0))
    if ones + zeros != targets.size:
        flat = targets.reshape(-1)
        first = int(np.argmax((flat != 0) & (flat != 1)))
        got = _at(flat[first], first, targets.shape, place_of)
        raise ValueError(f"{owner}: {option}='balanced' needs targets that are 0 or 1, got {got}")
    return np.array([zeros, ones], np.float64)


def pos_weight_of(value: Any, counts: Callable[[], np.ndarray], owner: str) -> Any:
    """``pos_weight``; ``"balanced"`` becomes the ratio of scikit-learn's balanced weights, negatives / positives."""
    if isinstance(value, str):
        if value != "balanced":
            raise ValueError(f"{owner}: pos_weight must be 'balanced', a number that is not negative or None, got {value!r}")
        zeros, ones = counts()
        return float(zeros / ones) if zeros and ones else 1.0
    return value


def normalizer_of(value: Any, owner: str) -> str | float:
    """``normalizer`` checked: ``"count"``, ``"weights"`` or a positive number."""
    if isinstance(value, str) and value in ("count", "weights"):
        return value
    wanted = "must be 'count', 'weights' or a positive number"
    if isinstance(value, str):
        raise ValueError(f"{owner}: normalizer {wanted}, got {value!r}")
    if not is_number(value):
        raise TypeError(f"{owner}: normalizer {wanted}, got {value!r}")
    if not 0.0 < as_float(value) < np.inf:
        raise ValueError(f"{owner}: normalizer {wanted}, got {value!r}")
    return float(value)


NO_LABEL = -(2**63)
"""The ignored label where there is none: not a class, and labels that are read are never left equal to it."""


def ignored_label(value: Any, owner: str) -> int | None:
    """``ignore_index`` checked."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
        raise TypeError(f"{owner}: ignore_index must be an integer or None, got {value!r}")
    return None if value is None else int(value)


def ignored_as_read(dtype: np.dtype[Any], ignored: int | None) -> int | None:
    """The ignored label as kernels compare it with labels of a dtype; None where no such label can equal it.

    uint64 labels wrap around, and an ignored one with them: from 2**63 on they become negative, which is not a class either.
    """
    limits = np.iinfo(dtype if dtype.kind in "iu" else np.uint8)  # bools, or an empty list, which has no dtype of its own
    if ignored is None or not limits.min <= ignored <= limits.max:
        return None
    return ignored if ignored < 2**63 else ignored - 2**64


def int64_labels(labels: np.ndarray, ignored: int | None) -> tuple[np.ndarray, int]:
    """Labels and the ignored label as kernels compare them. A label that the dtype cannot hold is never ignored."""
    wrapped, ignored = np.ascontiguousarray(labels, np.int64), ignored_as_read(labels.dtype, ignored)
    if ignored is not None:
        return wrapped, ignored
    if labels.dtype.itemsize == 8 and (wrapped == NO_LABEL).any():
        wrapped = np.where(wrapped == NO_LABEL, -1, wrapped)
    return wrapped, NO_LABEL


def out_of_range(labels: np.ndarray, columns: int, ignored: int) -> np.ndarray:
    """Which labels are neither a class nor the ignored one."""
    return np.asarray(((labels < 0) | (labels >= columns)) & (labels != ignored))
