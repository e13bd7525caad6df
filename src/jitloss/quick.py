"""The short way for the common call: two plain arrays, and options that are plain numbers, switches, words, or arrays of weights.

The first such call takes the long way (:mod:`jitloss.call`) and leaves a plan: the kernel for these dtypes and options, and what
its table holds. The next ones find the plan, and do nothing but look at shapes and flags, allocate the gradient and run the kernel.
Whatever is not quite as the plan expects goes the long way, which also makes the error messages.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from .buffers import empty
from .call import CHUNK, SERIAL, Evaluation, Wants, compiler
from .definition import Definition
from .monitoring import watching
from .options import DEFAULTS, int64_labels
from .stores import streams

__all__ = ["LONG_WAY", "Quick"]

LONG_WAY: Any = object()
"""What a quick call returns when it is none."""

MOST_PLANS = 256
"""Plans of one form. A caller with a new number for every call fills them, and they are forgotten."""

_WEIGHTS = ("sample_weight", "class_weight")
_PLAIN = frozenset({float, int, bool, str, type(None)})
_INT64 = np.dtype(np.int64)
_NONE_IGNORED = int64_labels(np.empty(0, np.int64), None)[1]


class Plan(NamedTuple):
    """What calls of certain dtypes and options have in common; a ``divisor`` of 0 is the number of rows that count.

    The ``counter`` counts them, by their labels; ``every`` row must count where no label is ignored.
    """

    kernel: int
    parameters: np.ndarray
    factor: float
    divisor: float
    counter: int
    every: bool
    ignored: int
    working: Any
    sample: bool
    classes: bool


class Quick:
    """The plans of one form of a loss of two inputs, of which the first is differentiated."""

    def __init__(self, definition: Definition, wants: Wants) -> None:
        self.rowwise, self.value, self.gradient = definition.form == "rowwise", wants.value, wants.gradient
        self.names = tuple(one.name for one in definition.inputs)
        self.plans: dict[Any, Plan] = {}
        self.layout = functools.lru_cache(maxsize=MOST_PLANS)(lambda columns: compiler().layout(definition, columns, 1))
        self.serial: Any = None
        self.parallel: Any = None

    @staticmethod
    def serves(definition: Definition, wants: Wants) -> bool:
        simple = [(one.differentiable, one.per_row) for one in definition.inputs] == [(True, False), (False, False)]
        return simple and not wants.hessian

    # Plans ------------------------------------------------------------------------------------------------------------------

    def learn(self, args: tuple[Any, ...], options: dict[str, Any], done: Evaluation) -> None:
        """Keep the kernel of a call that went the long way, if the next one like it can go the short way."""
        if not done.kernel or done.items is not None or len(args) < 2 or not _plain_weights(done):
            return
        if any(
            type(value) is not np.ndarray or done.arrays[name] is not value
            for name, value in zip(self.names, args[:2], strict=True)
        ):
            return
        if self.rowwise and done.arguments.get("axis", DEFAULTS["axis"]) not in (-1, args[0].ndim - 1):
            return
        key = self._key(args, {name: value for name, value in options.items() if name != "out"}, done.geometry.columns)
        if key is None or "balanced" in key[3:]:  # which depends on the targets
            return
        if self.serial is None:
            cpu = compiler()
            self.serial, self.parallel = cpu.serial_driver(), functools.partial(cpu.run, parallel=True)
        counts = done.reduction == "mean" and isinstance(done.normalizer, str)
        if len(self.plans) >= MOST_PLANS:
            self.plans.clear()
        self.plans[key] = Plan(
            done.kernel, done.parameters, done.factor, 0.0 if counts else done.divisor(),
            compiler().labels_kernel() if done.geometry.labels else 0, done.ignored == _NONE_IGNORED, done.ignored,
            np.dtype(done.working), done.sample is not None, done.classes is not None,
        )  # fmt: skip

    def _key(self, args: tuple[Any, ...], options: dict[str, Any], columns: int) -> Any:
        """What a plan is found by; None where there can be none.

        Without options a kernel serves all shapes of a layout. What options become may depend on the columns and the axes too.
        """
        first, second = args[0], args[1]
        if not options and len(args) == 2:
            return first.dtype, second.dtype, self.layout(columns)
        key: tuple[Any, ...] = (first.dtype, second.dtype, columns, first.ndim)
        for name, value in options.items() if len(args) == 2 else (*enumerate(args[2:]), *options.items()):
            kind = type(value)  # True is 1.0 for a dict, and 0.0 is -0.0
            if kind is np.ndarray and name in _WEIGHTS:
                key += (name, kind)
                continue
            if kind not in _PLAIN or (not value and str(value) == "-0.0"):
                return None
            key += (name, kind, value)
        return key

    # Calls ------------------------------------------------------------------------------------------------------------------

    def __call__(self, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> Any:
        """The results of a call whose options, but for ``out``, are these; :data:`LONG_WAY` where there is no plan for it."""
        if len(args) < 2:
            return LONG_WAY
        first, second = args[0], args[1]
        if type(first) is not np.ndarray or type(second) is not np.ndarray:
            return LONG_WAY
        shape, columns = first.shape, 1
        if self.rowwise:
            if not shape:
                return LONG_WAY
            columns = shape[-1]
        simple = not options and len(args) == 2  # whose key is spelled out: a call of _key takes time
        key = (first.dtype, second.dtype, self.layout(columns)) if simple else self._key(args, options, columns)
        plan = self.plans.get(key)
        if plan is None or second.shape != (shape[:-1] if plan.counter else shape) or watching():
            return LONG_WAY
        if not (plan.sample or plan.classes):
            return self._run(plan, first, second, columns, out, None, None)
        items = shape[:-1] if self.rowwise else shape
        sample = _weights(options["sample_weight"], items, plan.working, out) if plan.sample else None
        classes = _weights(options["class_weight"], (columns,), plan.working, out) if plan.classes else None
        if sample is LONG_WAY or classes is LONG_WAY:
            return LONG_WAY
        return self._run(plan, first, second, columns, out, sample, classes)

    def _run(self, plan: Plan, first: np.ndarray, second: np.ndarray, columns: int, out: Any, sample: Any, classes: Any) -> Any:
        size, labels = first.size, second
        small = 0 < size <= SERIAL  # whose arrays the serial driver looks at itself
        if not small and (not size or streams(2 * first.nbytes + second.nbytes) or not (_readable(first) and _readable(second))):
            return LONG_WAY
        gradient, own_bytes = None, 0
        if not self.gradient:
            pass
        elif out is None:
            gradient = np.empty(first.shape, first.dtype) if small else empty(first.shape, first.dtype)
        elif out is first or (type(out) is np.ndarray and out.dtype == first.dtype and out.shape == first.shape):
            gradient, own_bytes = out, first.nbytes
            if not small and not _usable(out, first, second):
                return LONG_WAY
        else:
            return LONG_WAY
        if plan.counter and second.dtype is not _INT64:
            labels = second.astype(np.int64)
        words = (plan.parameters, None, sample, 1, columns, 1, 0, labels, plan.ignored, classes, first, second, gradient)
        count, chunk = size // columns, CHUNK // columns or 1
        value = (
            self.serial(
                plan.kernel, words, count, chunk, plan.factor,
                plan.divisor, plan.counter, plan.every, own_bytes, second.nbytes, out is first,
            )
            if small
            else self._long(plan, words, count, chunk)
        )  # fmt: skip
        if value is None:
            return LONG_WAY
        value *= plan.factor
        if gradient is None:
            return value
        return (value, gradient) if self.value else gradient

    def _long(self, plan: Plan, words: tuple[Any, ...], count: int, chunk: int) -> float | None:
        """What the serial driver gives, of more elements."""
        counted: float = count
        if plan.counter:
            counted = compiler().count_labels(words[7], words[4], words[8]) or 0
            if not counted or (plan.every and counted != count):
                return None
        divisor = plan.divisor or counted
        total: float = self.parallel(plan.kernel, words, count, chunk, plan.factor / divisor)
        return total / divisor


def _plain_weights(done: Evaluation) -> bool:
    """Whether the weights of a call are none, or whole arrays that a kernel takes one by one."""
    if done.sample is None and done.classes is None:
        return True
    sample, classes = done.arguments.get("sample_weight"), done.arguments.get("class_weight")
    if done.normalizer == "weights" or (classes is not None and (type(classes) is not np.ndarray or done.classes is None)):
        return False
    return done.sample is None or (type(sample) is np.ndarray and sample.shape == done.geometry.items)


def _weights(given: np.ndarray, shape: tuple[int, ...], working: Any, out: Any) -> Any:
    """Weights as a kernel takes them; :data:`LONG_WAY` where something about them is not plain."""
    if given.shape != shape or given.dtype.kind not in "fiub" or not given.size or not given.min() >= 0:
        return LONG_WAY
    if out is not None and (type(out) is not np.ndarray or np.may_share_memory(out, given)):
        return LONG_WAY
    return np.ascontiguousarray(given, working)


def _readable(array: np.ndarray) -> bool:
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned)


def _usable(out: np.ndarray, first: np.ndarray, second: np.ndarray) -> bool:
    """Whether a kernel can write to ``out``, which shares no memory with an input but the first one, if it is that one."""
    apart = out is first or not np.may_share_memory(out, first)
    return bool(out.flags.carray and apart and not np.may_share_memory(out, second))
