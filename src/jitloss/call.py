"""One call of a loss: inputs and options are checked, a kernel is chosen and run, and its sum becomes a value.

Nothing is written before everything has been checked, labels included, so a call that fails leaves ``out`` as it was.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from . import monitoring
from .buffers import empty
from .compilers.variant import Layout, Targets, Variant
from .definition import Definition, DefinitionError, Parameter
from .inputs import Arrays, dtype_name, geometry, in_order, native, read, working_dtype
from .options import (
    DEFAULTS,
    LARGEST,
    Weights,
    binary_counts,
    binary_weights,
    class_weights,
    ignored_label,
    in_precision,
    int64_labels,
    normalizer_of,
    out_of_range,
    place_of,
    pos_weight_of,
    sample_weights,
    smoothing,
)
from .order import Order, order_of
from .outputs import Outputs, pair_of, take
from .running import CHUNK, SERIAL, Memory, chunk_rows, compiler, total_of

__all__ = [
    "Evaluation",
    "Result",
    "Wants",
    "checked",
    "is_smoothed",
    "letter",
]


class Wants(NamedTuple):
    """Which outputs a call requests."""

    value: bool
    gradient: bool
    hessian: bool


class Result(NamedTuple):
    """The results of a call: the value (or the values of the items), gradients and second derivatives, as NumPy arrays."""

    value: Any
    gradient: Outputs | None
    hessian: Outputs | None
    arrays: Arrays


def _innermost(error: Exception) -> str:
    """The last part of numba's message, which is about the definition itself; what comes before is its call chain."""
    text: str = re.split(r"\w+Error: ", re.sub(r"\x1b\[[\d;]*m", "", str(error)))[-1]
    text = re.sub(r"Function\(<function (\w+) at \w+>\)", r"\1", text)
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(("Failed in ", "During: ", "File ", "<source "))]
    return said[0] if said else text.strip()


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows at a time, few enough that a copy of them fits in the caches."""
    step = chunk_rows(max(1, rows.shape[1]))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def checked(parameter: Parameter, value: Any, working: str, owner: str) -> float | bool | None:
    """The value of a parameter as a kernel takes it; raises if it is not allowed."""
    value = parameter.check(value, owner)
    return parameter.in_float32(value, owner) if isinstance(value, float) and working == "float32" else value


def letter(parameter: Parameter, value: float | bool | None, holds_usual: bool = True) -> str:
    """What a kernel needs to know of a parameter at compile time, as a letter of :class:`Variant`."""
    if not isinstance(value, float):
        return {None: "0", True: "T", False: "F"}[value]
    return "u" if holds_usual and value == parameter.usual else "n"


def is_smoothed(background: float, working: str) -> bool:
    """Whether targets other than the label's are above 0 in the working precision."""
    return bool(np.dtype(working).type(background) > 0.0)


class Evaluation:
    """The steps of one call, in order; each prepares what the next ones need.

    ``weights`` are those of a sum's members, or the factor of a single loss; ``arguments`` holds inputs, parameters and options by
    name.
    """

    order: Order | None = None
    """The order in which the axes lie in memory, where it is not C order."""

    holds_usual = True
    """Whether kernels may be compiled with the usual value of a parameter as a constant."""

    def __init__(self, definition: Definition, weights: tuple[float, ...], arguments: Mapping[str, Any], wants: Wants) -> None:
        self.definition, self.arguments, self.wants, self.owner = definition, arguments, wants, definition.name
        self.reduction = self._reduction()
        self.normalizer = normalizer_of(self._option("normalizer"), self.owner)
        self._read_arrays()
        self.labels: np.ndarray | None = None
        self.ignored = 0
        self._choose_precision()
        self._check_factors(weights)
        self.factor = weights[0] if weights and not definition.sum_of else 1.0
        self._read_parameters(weights if definition.sum_of else ())
        self._read_labels()
        self._read_weights()
        self._fold_factor()
        self.kernel = 0
        self.items: np.ndarray | None = None

    @property
    def columns(self) -> int:
        """Elements of a row."""
        return self.geometry.columns

    def _option(self, name: str) -> Any:
        return self.arguments.get(name, DEFAULTS[name])

    def _reduction(self) -> str:
        if self.definition.is_penalty:
            return "sum"
        reduction = self._option("reduction")
        if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
            raise ValueError(f"{self.owner}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        return reduction

    def _read_arrays(self) -> None:
        self.given = read(self.definition, self.arguments)
        self.geometry = geometry(self.definition, self.given.arrays, self._option("axis"))
        self.order = self._order()
        self.arrays = {name: native(self._inwards(array)) for name, array in self.given.arrays.items()}
        if self.order is not None:
            self.geometry = in_order(self.geometry, self.order)

    def _order(self) -> Order | None:
        """The order of axes in memory, where it is not C order. Small arrays are copied instead, and so are those with element weights."""
        first = self.given.arrays[self.definition.inputs[0].name]
        if first.size <= SERIAL:
            return None
        weighted = self.arguments.get("sample_weight") is not None
        return None if weighted and self.geometry.axis is None else order_of(first, self.geometry.axis)

    def _inwards(self, array: np.ndarray) -> np.ndarray:
        """An input with its axes in memory order; inputs with one number per row are left as they are."""
        return array if self.order is None or array.ndim != len(self.order.axes) else self.order.inwards(array)

    def _outwards(self, array: np.ndarray) -> np.ndarray:
        return array if self.order is None or array.ndim != len(self.order.axes) else self.order.outwards(array)

    def _choose_precision(self) -> None:
        """float64 where any array of elements is, else float32."""
        self.dtypes = {name: dtype_name(array.dtype) for name, array in self.arrays.items()}
        if self.geometry.labels and self.definition.target is not None:
            self.dtypes[self.definition.target.name] = "int64"
        self.working = working_dtype(self.definition, self.dtypes.values())
        self.like = self.arrays[self.definition.inputs[0].name]
        written = {self.dtypes[one.name] for one in self.definition.differentiable}
        self.output = self.like.dtype if len(written) == 1 else np.dtype(self.working)  # a kernel writes a single dtype

    def _check_factors(self, weights: tuple[float, ...]) -> None:
        for weight in weights:
            if self.working == "float32" and abs(weight) > LARGEST:
                raise ValueError(
                    f"{self.owner}: a loss is multiplied by a number that float32 arithmetic can hold, got {weight!r}"
                )

    def _read_parameters(self, weights: tuple[float, ...]) -> None:
        """The parameters as numbers for the kernel's table, and as the letters that are compiled in."""
        numbers, letters = [], []
        for parameter in self.definition.parameters:
            value = self.arguments.get(parameter.name, parameter.default)
            if parameter.name == "pos_weight" and self.definition.target is not None:
                value = pos_weight_of(value, lambda: self.class_counts("pos_weight"), self.owner)
            value = checked(parameter, value, self.working, self.owner)
            letters.append(letter(parameter, value, self.holds_usual))
            numbers.append(value if isinstance(value, float) else 0.0)
        if self.definition.form == "rowwise":
            share, background = smoothing(self._option("label_smoothing"), self.columns, self.owner)
            weights = (*weights, share, background)
            self.smoothed = is_smoothed(background, self.working)
        self.parameters = np.array([*numbers, *weights, 0.0])
        self.statics = "".join(letters) + "n" * len(weights)
        if self.definition.form == "rowwise" and not self.smoothed:
            self.statics = self.statics[:-1] + "z"

    def _read_labels(self) -> None:
        """Integer labels as int64, checked at once: how many rows count, and is every label a class."""
        self.counted = self.geometry.count
        ignored = ignored_label(self._option("ignore_index"), self.owner) if self.definition.takes_labels else None
        if not self.geometry.labels or self.definition.target is None:
            return
        labels = self.arrays[self.definition.target.name]
        self.labels, self.ignored = int64_labels(labels, ignored)
        if self.geometry.count * self.columns <= SERIAL:  # later small calls count in their single compiled step
            wrong = out_of_range(self.labels, self.columns, self.ignored).any()
            counted = None if wrong else np.count_nonzero(self.labels != self.ignored)
        else:
            counted = compiler().count_labels(self.labels, self.columns, self.ignored)
        if counted is None:
            self._refuse_label(labels)
        else:
            self.counted = int(counted)

    def _refuse_label(self, labels: np.ndarray) -> None:
        assert self.definition.target is not None
        assert self.labels is not None
        first = int(np.argmax(out_of_range(self.labels.reshape(-1), self.columns, self.ignored)))
        place, row = self._place(first, labels.shape)
        ignored = self._option("ignore_index")
        wanted = f"wanted a class from 0 to {self.columns - 1}" if self.columns else "but there are no classes"
        if ignored is not None:
            wanted += f" or ignore_index, {ignored}" if self.columns else f"; wanted ignore_index, {ignored}"
        raise ValueError(
            f"{self.owner}: {self.definition.target.public}{list(place) or ''} (row {row}) is {labels.reshape(-1)[first]}, {wanted}"
        )

    def _place(self, index: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """The index of an item and its number, for messages; a call on a part of the arrays counts from the start of the whole."""
        return place_of(index, shape)

    def _read_weights(self) -> None:
        """Sample and class weights, and what "mean" divides by under ``normalizer="weights"``."""
        owner, target = self.owner, self.definition.target
        self.sample = sample_weights(self.arguments.get("sample_weight"), self.geometry.items, self.working, owner, self._place)
        self.classes: np.ndarray | None = None
        given = self.arguments.get("class_weight")
        if given is None or target is None:
            return
        targets = self.arrays[target.name]
        if self.definition.form == "rowwise":
            self.classes = class_weights(given, self.class_counts, self.columns, self.working, owner)
            return
        pair = class_weights(given, self.class_counts, 2, self.working, owner)
        assert pair is not None
        flat, graded = targets.reshape(-1), target.space.graded
        sample = None if self.sample is None else np.repeat(self.sample.array.reshape(-1), self.sample.span)
        each = np.empty(flat.shape, self.working)
        for start in range(0, flat.size, CHUNK):
            part = slice(start, start + CHUNK)
            mine = binary_weights(flat[part], pair[0], pair[1], graded)
            if sample is not None:
                mine *= sample[part]
            each[part] = in_precision(mine, self.working, owner, "sample_weight times class_weight", self._place_behind(start))
        self.sample = Weights(each.reshape(self.geometry.items), 1)

    def _place_behind(self, start: int) -> Callable[[int, tuple[int, ...]], tuple[tuple[int, ...], int]]:
        """Like :meth:`_place`, for the items of a part that begins at ``start``."""
        return lambda index, _: self._place(start + index, self.geometry.items)

    def _fold_factor(self) -> None:
        """Turn the factor of a loss into a weight of every item: values of half types would be rounded before it is applied."""
        self.folded = self.factor != 1.0 and self.reduction == "none" and self.output.itemsize < 4 and self.wants.value
        if self.folded:
            weights = self.sample or Weights(np.ones((), self.working), self.geometry.count)
            self.sample = Weights(np.asarray(self.factor * weights.array, self.working), weights.span)
            self.factor = 1.0

    def class_counts(self, option: str = "class_weight") -> np.ndarray:
        """How often each class occurs, for an ``option`` that is ``"balanced"``."""
        assert self.definition.target is not None
        targets = self.arrays[self.definition.target.name] if self.labels is None else self.labels
        return self._counts(targets, self.ignored, option)

    def _counts(self, targets: np.ndarray, ignored: int, option: str) -> np.ndarray:
        if self.definition.form == "pointwise":
            return binary_counts(self._outwards(targets), self.owner, option)
        if self.geometry.labels:
            flat = targets.reshape(-1)
            return np.bincount(flat[flat != ignored], minlength=self.columns).astype(np.float64)
        rows = self._rows_of(targets)
        counts = np.zeros(rows.shape[1])
        for block in _blocks(rows):
            counts += np.ones(len(block)) @ block.astype(np.float64)
        return counts

    def _rows_of(self, targets: np.ndarray) -> np.ndarray:
        """Dense targets as a matrix with one row per item."""
        assert self.geometry.axis is not None
        return np.moveaxis(targets, self.geometry.axis, -1).reshape(self.geometry.count, self.geometry.columns)

    def _mass(self) -> float:
        """The sum over counted items of sample weight times class weight of the true label."""
        sample, classes = self.sample, self.classes
        if classes is None and self.counted == self.geometry.count:
            return float(self.counted) if sample is None else sample.total()
        each = np.ones(self.geometry.count)
        if sample is not None:
            each = np.repeat(sample.array.reshape(-1).astype(np.float64), sample.span)
        if self.labels is not None:
            flat = self.labels.reshape(-1)
            counts = flat != self.ignored
            each = each[counts] * (1.0 if classes is None else classes[flat[counts]])
        elif classes is not None:
            assert self.definition.target is not None
            rows = self._rows_of(self.arrays[self.definition.target.name])
            each = each * np.concatenate([block.astype(np.float64) @ classes for block in _blocks(rows)] or [each])
        return float(each.sum())

    def divisor(self) -> float:
        """What the sum of values is divided by; 0 where nothing counts."""
        if self.reduction != "mean":
            return 1.0
        if isinstance(self.normalizer, float):
            return self.normalizer
        return float(self.counted) if self.normalizer == "count" else self._mass()

    def _targets(self) -> Targets:
        if self.geometry.labels:
            return "labels"
        mixed = self.definition.takes_labels and (self.smoothed or self.classes is not None)
        return "mixed" if mixed else "direct"

    def _elements(self) -> list[int]:
        """The positions of the inputs that have a number per element."""
        of_items = self.geometry.of_items(self.definition)
        return [position for position, one in enumerate(self.definition.inputs) if one.public not in of_items]

    def _outputs_count(self) -> int:
        return len(self.definition.differentiable) * (self.wants.gradient + self.wants.hessian)

    def _turns(self) -> bool:
        """Whether blocks of rows along an inner axis are turned on the way, since few rows lie side by side."""
        if self.geometry.inner == 1:
            return False
        inputs, written = self.definition.inputs, [self.output.itemsize] * self._outputs_count()
        read = [self.arrays[inputs[position].name].itemsize for position in self._elements()]
        turns: bool = compiler().turns(self.definition, self.columns, self.geometry.inner, [*read, *written])
        return turns

    def _layout(self) -> Layout:
        marked = self.geometry.labels and not (self.smoothed and self.classes is not None)
        columns, inner = self.geometry.columns, 1 if self._turns() else self.geometry.inner
        double, gradient = self.working == "float64", self.wants.gradient
        smoothed = marked and self.smoothed
        layout: Layout = compiler().layout(self.definition, columns, inner, marked, smoothed, double, gradient)
        return layout

    def _variant(self, items: bool) -> Variant:
        return Variant(
            definition=self.definition.maths,
            working=self.working,
            inputs=tuple(self.dtypes[one.name] for one in self.definition.inputs),
            output=dtype_name(self.output),
            statics=self.statics,
            layout=self._layout(),
            targets=self._targets(),
            gradient=self.wants.gradient,
            hessian=self.wants.hessian,
            items=items,
            weights=self.sample is not None,
            class_weights=self.classes is not None,
            summed=items or self.wants.value or self.definition.form == "rowwise",  # of a row the value costs next to nothing
        )

    def validate(self) -> None:
        """Raise what :meth:`run` would raise before it writes anything."""
        self._outputs()

    def run(self) -> Result:
        watching, geometry = monitoring.watching(), self.geometry
        with_items = watching or (self.reduction == "none" and self.wants.value)
        divisor = self.divisor()
        moved = sum(array.nbytes for array in self.arrays.values()) + self.like.nbytes * len(self.definition.differentiable)
        gradient, hessian = self._outputs()
        items = self.items = empty(geometry.items, self.output) if with_items else None
        size = geometry.count * geometry.columns
        value = 0.0
        if size and divisor:
            self.kernel = self._compiled(self._variant(with_items))
            memory = Memory(moved, self.arguments.get("out") is None, bool(gradient or with_items), self._in_place(gradient))
            total = self._sum_of_values(lambda way: self._words(items, gradient, hessian, way), self.factor / divisor, memory)
            value = self.factor * (total / divisor)  # as the serial driver does
        else:
            self._write_zeros(items, gradient, hessian)
        if items is not None and self.factor != 1.0:
            items *= self.factor
        items = None if items is None else self._outwards(items)
        result = Result(items if self.reduction == "none" else value, gradient, hessian, self.given)
        if watching and items is not None:
            if self.reduction != "none" and np.isfinite(value):
                items = None  # where the sum is finite, so is every item
            monitoring.report(self.owner, value, items, tuple(map(self._outwards, gradient.written)) if gradient else ())
        return result

    def _sum_of_values(self, words: Callable[[int], tuple[Any, ...]], scale: float, memory: Memory) -> float:
        """Run the kernel; the sum of its values."""
        kernel, inner = self.kernel, self.geometry.inner
        if self._turns():
            kernel, table = compiler().turned(kernel, words(compiler().THROUGH), self._elements(), self._outputs_count())
            words, memory = (lambda _: table), memory._replace(writes=False)  # which writes to its own block
        return total_of(kernel, words, (self.geometry.count, self.columns), scale, memory, inner)

    def _in_place(self, gradient: Outputs | None) -> bool:
        """Whether an input is overwritten: the lines that are written have just been read, and are in the cache."""
        return gradient is not None and any(gradient.overwrites(array) for array in self.arrays.values())

    def _compiled(self, variant: Variant) -> int:
        with self._compiling():
            return int(compiler().kernel(variant))

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        """Turn numba's error about a definition into one that names it."""
        try:
            yield
        except Exception as error:
            if isinstance(error, RecursionError):
                raise DefinitionError(f"{self.owner}: the definition is too deep for the compiler: {error}") from None
            if not type(error).__module__.startswith("numba.") and not isinstance(error, NotImplementedError):
                raise
            raise DefinitionError(
                f"{self.owner}: the definition cannot be compiled for {self.working}: {_innermost(error)}"
            ) from error

    def _outputs(self) -> tuple[Outputs | None, Outputs | None]:
        if not self.wants.gradient:
            return None, None
        out, second = self.arguments.get("out"), None
        if self.wants.hessian:
            out, second = pair_of(out, self.owner)
        given = ((name, self.arguments.get(name)) for name in ("sample_weight", "class_weight"))
        others = [(name, array) for name, array in given if isinstance(array, np.ndarray)]
        others += [("sample_weight", self.sample.array)] if self.sample else []  # it may be a view of another library's array
        gradient = take(self.definition, out, self.output, self.arrays, self.given.originals, others, self.order)
        if not self.wants.hessian:
            return gradient, None
        mine = [("out of the gradient", array) for array in gradient.returned] if out is not None else []
        return gradient, take(
            self.definition, second, self.output, self.arrays, self.given.originals, [*others, *mine], self.order
        )

    @staticmethod
    def _write_zeros(items: np.ndarray | None, *outputs: Outputs | None) -> None:
        if items is not None:
            items[...] = 0
        for output in outputs:
            for array in output.written if output else ():
                array[...] = 0

    def _words(self, items: np.ndarray | None, gradient: Outputs | None, hessian: Outputs | None, stored: int) -> tuple[Any, ...]:
        """The kernel's table, in the order of :mod:`jitloss.compilers.cpu.table`."""
        return (
            self.parameters,
            items,
            self.sample.array if self.sample else None,
            self.sample.span if self.sample else 1,
            self.geometry.columns,
            self.geometry.inner,
            stored,
            self.labels,
            self.ignored,
            self.classes,
            *(self.arrays[one.name] for one in self.definition.inputs),
            *(gradient.written if gradient else ()),
            *(hessian.written if hessian else ()),
        )
