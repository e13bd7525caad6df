"""Several losses as one: named outputs with weights, and penalties on the parameters of a model."""

import contextlib
import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arrays.devices import library_of
from .definition import Definition, as_float, is_number
from .form import Form
from .inputs import FLOATS, dtype_name, one_library
from .keys import ON_DEVICES
from .loss import Loss
from .outputs import check_apart, is_map, leaves, pair_of
from .plans import ABSENT, SLOW_PATH

if TYPE_CHECKING:
    from .arrays.cuda import Library

__all__ = ["Penalty", "WeightedSum", "weighted_sum"]


def _named(where: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function; its errors are prefixed with where they come from."""
    try:
        return function(*args, **options)
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{where}: {error}") from None
    except FloatingPointError as error:  # from errstate
        raise FloatingPointError(f"{where}: {error}") from None


def _alike(out: Any, array: Any, *others: Any) -> bool:
    """Whether an output and its array are plain, with equal shapes and dtypes, and so are ``others``: no call rejects such."""
    if type(array) is not np.ndarray or not array.ndim or dtype_name(array.dtype) not in FLOATS:
        return False
    if any(type(one) is not np.ndarray or one.dtype != array.dtype or one.shape != array.shape for one in (out, *others)):
        return False
    apart = out is array or not np.may_share_memory(out, array)
    return bool(out.flags.carray) and apart and not is_map(out) and not any(np.may_share_memory(out, one) for one in others)


def _by_place(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of nested dicts with their keys, such as ``layer['weight']``."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _by_place(one, f"{name}[{key!r}]" if name else str(key))
    else:
        yield name, value


def _all_plain(arrays: Mapping[Any, Any]) -> bool:
    """Whether all arrays, in nested dicts too, are plain NumPy arrays."""
    return all(type(one) is np.ndarray or (isinstance(one, Mapping) and _all_plain(one)) for one in arrays.values())


def _library(owner: str, arrays: Mapping[Any, Any]) -> "Library | None":
    """The device library that all arrays belong to, None where all are on the host; raises if they are mixed."""
    return None if _all_plain(arrays) else one_library(owner, _by_place(arrays))


def _weights(options: Mapping[str, Any]) -> list[Any]:
    """The weights of a call that are arrays, which the ``out`` of another call must not overlap."""
    given = (options.get(name) for name in ("sample_weight", "class_weight"))
    return [one for one in given if isinstance(one, np.ndarray) or (one is not None and library_of(one) is not None)]


def _check_apart(owner: str, library: "Library | None", calls: Mapping[str, tuple[Any, Any]]) -> None:
    if library is not None:
        from .device import extents

        calls = {name: extents(call) for name, call in calls.items()}
    elif _plainly_apart(calls.values()):
        return
    check_apart(owner, calls)


def _plainly_apart(calls: Iterable[tuple[Any, Any]]) -> bool:
    """Whether calls write whole arrays that overlap nothing else that is read or written, except a call's own input."""
    read: set[tuple[int, int]] = set()
    written: list[tuple[int, int]] = []
    for inputs, outs in calls:
        mine, its = leaves(outs), leaves(inputs)
        if not all(type(one) is np.ndarray and one.flags.c_contiguous for one in (*mine, *its)) or any(map(is_map, mine)):
            return False
        written += [_extent(one) for one in mine]
        read.update([_extent(one) for one in its if not any(one is out for out in mine)])
    extents = sorted(one for one in (*read, *written) if one[0] < one[1])
    return all(one[1] <= other[0] for one, other in itertools.pairwise(extents))


def _extent(array: np.ndarray) -> tuple[int, int]:
    start = array.ctypes.data
    return start, start + array.nbytes


def _check_addable(owner: str, library: "Library | None", arrays: Mapping[Any, Any], streams: list[Any]) -> None:
    """Raise, before anything is computed, where the values of losses of ``arrays`` on a device cannot be added there."""
    if library is None:
        return
    devices: set[int] = set()
    with contextlib.suppress(TypeError, ValueError):  # the call itself raises these, and names the argument
        devices.update(library.view(one).device for _, one in _by_place(arrays))
    if len(devices) > 1:
        raise ValueError(f"{owner}: values that are added must be on one device; got {', '.join(map(str, sorted(devices)))}")
    if any(one is not streams[0] and one != streams[0] for one in streams):
        raise ValueError(f"{owner}: values that are added must be on one stream")


def _added(library: "Library | None", calls: list[tuple[Any, Any]], values: Iterable[Any]) -> Any:
    """The sum of values: a float, or a value on the device where they lie there, without synchronisation.

    ``calls`` are the calls that the values come from: an array and the stream of each.
    """
    values = list(values)
    if library is None or any(getattr(one, "requires_grad", False) for one in values):
        return functools.reduce(operator.add, values) if values else 0.0  # values keep the caller's type
    from .launches import added

    return added(library, [one for one in values if library_of(one)], calls)  # an empty dict gave a float


class PenaltyForm(Form):
    """A form of a penalty: of one array, or of a dict of arrays or of nested dicts, summed over all of them."""

    def __call__(self, /, *args: Any, out: Any = ABSENT, **options: Any) -> Any:
        if self._quick is not None and args and type(args[0]) is np.ndarray:
            result = self._quick(args, options, out)
            if result is not SLOW_PATH:
                return result
        if out is not ABSENT:
            options["out"] = out
        name = self.inputs[0]
        first = args[0] if args else options.get(name)
        extra: dict[str, Any] = {name: options.pop(name) for name in ON_DEVICES if name in options and _is_on_device(first)}
        arguments = self.arguments(args, options)
        params = arguments.pop(name)
        if not isinstance(params, Mapping):
            return super().__call__(params, **arguments, **extra)
        library = _library(self.__name__, params)
        out = arguments.pop("out", None)
        outs = self._outs(params, out, library)
        if not params:
            super().__call__(np.empty(0), **arguments)  # parameters are checked even where there is no array
        if out is not None:
            self._validate_each(params, outs, {**arguments, **extra})
        if self.wants.value:
            _check_addable(self.__name__, library, params, [extra.get("stream")])
        results = {}
        for key, array in params.items():
            mine = SLOW_PATH
            if self._quick is not None and type(array) is np.ndarray:
                mine = self._quick((array,), arguments, outs[key].get("out", ABSENT))
            if mine is SLOW_PATH:
                more = extra if extra and _is_on_device(array) else {}
                mine = _named(f"{name}[{key!r}]", self, array, **arguments, **outs[key], **more)
            results[key] = mine
        calls = [(one, extra.get("stream")) for _, one in _by_place(params)] if library else []
        return self._join(params, results, functools.partial(_added, library, calls))

    def validate(self, /, *args: Any, **options: Any) -> None:
        params = args[0]
        if not isinstance(params, Mapping):
            return super().validate(params, **options)
        outs = self._outs(params, options.pop("out", None), _library(self.__name__, params))
        return self._validate_each(params, outs, options)

    def _validate_each(self, params: Mapping[Any, Any], outs: Mapping[Any, Any], options: Mapping[str, Any]) -> None:
        """Check all arrays before the first is written to; those whose ``out`` is obviously right are skipped."""
        for name, array in params.items():
            if not _alike(outs[name].get("out"), array):
                _named(f"{self.inputs[0]}[{name!r}]", self.validate, array, **options, **outs[name])

    def _outs(self, params: Mapping[Any, Any], out: Any, library: "Library | None") -> dict[Any, dict[str, Any]]:
        """``out`` for each array, as keyword arguments: one dict, or a pair of dicts where there are second derivatives."""
        if out is None:
            return {name: {} for name in params}
        pair = pair_of(out, self.__name__, "dicts") if self.wants.hessian else (out,)
        for one in pair:
            if not isinstance(one, Mapping):
                raise TypeError(f"{self.__name__}: out must be a dict like params, got {type(one).__name__}")
            if set(one) != set(params):
                wanted, got = (", ".join(map(str, names)) or "nothing" for names in (params, one))
                raise ValueError(f"{self.__name__}: out must be a dict with the arrays {wanted}, got {got}")
        outs = {name: tuple(one[name] for one in pair) for name in params}
        _check_apart(self.__name__, library, {str(name): (params[name], mine) for name, mine in outs.items()})
        return {name: {"out": mine if self.wants.hessian else mine[0]} for name, mine in outs.items()}

    def _join(self, params: Mapping[Any, Any], results: dict[Any, Any], add: Callable[[Iterable[Any]], Any]) -> Any:
        """The sum of the values, and a dict of the arrays."""
        if not self.wants.gradient:
            return add(results.values())
        if not self.wants.value:
            return results
        rows = list(zip(*results.values(), strict=True)) or [(), ()] + [()] * self.wants.hessian
        return (add(rows[0]), *(dict(zip(params, row, strict=True)) for row in rows[1:]))


def _is_on_device(params: Any) -> bool:
    return any(library_of(one) is not None for _, one in _by_place(params))


class Penalty(Loss, penalties=True):
    """A penalty on parameters: ``l2_regularization(params)`` over an array or a dict of arrays, with gradients of the same structure."""

    form = PenaltyForm


class WeightedSum:
    """Named outputs, each with a loss and a weight: one value, and a dict of gradients that include their weight.

    Made by :func:`weighted_sum`.
    """

    def __init__(self, terms: Mapping[str, tuple[Loss, float, Mapping[str, Any]]]) -> None:
        self.terms = {
            name: (loss if weight == 1.0 else loss * weight, weight, fixed) for name, (loss, weight, fixed) in terms.items()
        }
        self._taken = {name: _Taken.by(loss.definition) for name, (loss, _, _) in self.terms.items()}

    def __repr__(self) -> str:
        return f"weighted_sum({', '.join(f'{name}={loss.__name__}' for name, (loss, _, _) in self.terms.items())})"

    def __call__(self, outputs: Mapping[str, Any], targets: Mapping[str, Any], **options: Mapping[str, Any]) -> Any:
        """The weighted sum of the values. Options of one output's loss are a dict under the output's name."""
        values, add = self._each("value", outputs, targets, options)
        return add(values.values())

    def gradient(self, outputs: Mapping[str, Any], targets: Mapping[str, Any], **options: Mapping[str, Any]) -> dict[str, Any]:
        """The gradients by output, each times its weight."""
        return self._each("gradient", outputs, targets, options)[0]

    def value_and_gradient(
        self, outputs: Mapping[str, Any], targets: Mapping[str, Any], **options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The weighted sum of the values and the gradients by output; each output is passed over once."""
        results, add = self._each("value_and_gradient", outputs, targets, options)
        return add([value for value, _ in results.values()]), {name: gradient for name, (_, gradient) in results.items()}

    def value_gradient_hessian(
        self, outputs: Mapping[str, Any], targets: Mapping[str, Any], **options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """The same, and the diagonals of the second derivatives by output; for losses that have one."""
        results, add = self._each("value_gradient_hessian", outputs, targets, options)
        gradients, hessians = ({name: one[place] for name, one in results.items()} for place in (1, 2))
        return add([one[0] for one in results.values()]), gradients, hessians

    def _each(
        self, form: str, outputs: Any, targets: Any, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Callable[[Iterable[Any]], Any]]:
        """What a form of each loss gives, by output, and how their values are added."""
        given = self._arguments(outputs, targets, options)
        firsts = {name: inputs[0] for name, (inputs, _) in given.items()}
        streams = [mine.get("stream") for _, mine in given.values()]
        library = _library("weighted_sum", firsts)
        writes = any(mine.get("out") is not None for _, mine in given.values())
        if writes:
            read = {name: (*inputs, *_weights(mine)) for name, (inputs, mine) in given.items()}
            _check_apart("weighted_sum", library, {name: (read[name], mine.get("out")) for name, (_, mine) in given.items()})
        if form != "gradient":
            _check_addable("weighted_sum", library, firsts, streams)
        results = {}
        for name in self._in_order(form, given) if writes else given:
            inputs, mine = given[name]
            results[name] = _named(name, getattr(self.terms[name][0], form), *inputs, **mine)
        calls = list(zip(firsts.values(), streams, strict=True))
        return {name: results[name] for name in given}, functools.partial(_added, library, calls)

    def _in_order(self, form: str, given: Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]) -> list[str]:
        """An order in which a call that fails comes before any has written to ``out``; those that may fail are checked here."""
        harmless, doubtful, plain = [], [], []  # writes to no array of the caller's, may fail, cannot fail
        for name, (inputs, mine) in given.items():
            out = mine.get("out")
            if out is None:
                harmless.append(name)
            elif len(mine) == 1 and _alike(out, *inputs):
                plain.append(name)
            else:
                doubtful.append(name)
        for name in doubtful[1:]:  # the first one checks before it writes
            inputs, mine = given[name]
            _named(name, getattr(self.terms[name][0], form).validate, *inputs, **mine)
        return [*harmless, *doubtful, *plain]

    def _arguments(
        self, outputs: Any, targets: Any, options: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
        for argument, given in (("outputs", outputs), ("targets", targets)):
            if not isinstance(given, Mapping):
                raise TypeError(f"weighted_sum: {argument} must be a dict by output name, got {type(given).__name__}")
            needed = [name for name, taken in self._taken.items() if argument == "outputs" or taken.targets]
            if list(given) == needed:
                continue
            missing = [name for name in needed if name not in given]
            known = {*needed, *(name for name in self.terms if given.get(name) is None)}
            unknown = [name for name in given if name not in known]
            if missing or unknown:
                problem = f"{', '.join(missing)} missing" if missing else f"{', '.join(map(str, unknown))} not among them"
                wanted = f"must hold the outputs {', '.join(needed)}" if needed else "must be empty"
                raise ValueError(f"weighted_sum: {argument} {wanted}: {problem}")
        unknown = [name for name in options if name not in self.terms]
        if unknown:
            raise TypeError(
                f"weighted_sum: options are given by output name, {', '.join(self.terms)}; got {unknown[0]!r}. Options of one output, "
                f"out among them, are a dict: {next(iter(self.terms), 'name')}={{{unknown[0]!r}: ...}}"
            )
        arguments = {}
        for name, (_, _, fixed) in self.terms.items():
            mine = options.get(name, {})
            if type(mine) is not dict and not isinstance(mine, Mapping):
                raise TypeError(f"weighted_sum: the options of {name} must be a dict, got {mine!r}")
            mine = {**fixed, **mine}
            if mine.get("reduction") == "none":
                raise ValueError(f"weighted_sum: {name} has reduction='none', which gives no single value to add")
            arguments[name] = (self._taken[name].inputs(name, outputs[name], targets), mine)
        return arguments


class _Taken(NamedTuple):
    """What a loss takes of an output: the names of its arrays and of its targets, and which of its inputs are targets."""

    arrays: tuple[str, ...]
    targets: tuple[str, ...]
    are_targets: tuple[bool, ...]

    @classmethod
    def by(cls, definition: Definition) -> "_Taken":
        are_targets = tuple(one.space.target for one in definition.inputs)
        arrays, targets = (tuple(one.public for one in definition.inputs if one.space.target is side) for side in (False, True))
        return cls(arrays, targets, are_targets)

    def inputs(self, name: str, output: Any, targets: Any) -> tuple[Any, ...]:
        """The inputs of one output's loss in their order, from the output and its target, tuples where the loss takes several."""
        arrays = iter(_several("output", name, self.arrays, output))
        own = iter(_several("target", name, self.targets, targets[name]) if self.targets else ())
        return tuple(next(own if is_target else arrays) for is_target in self.are_targets)


def _several(what: str, name: str, wanted: tuple[str, ...], given: Any) -> tuple[Any, ...]:
    if len(wanted) == 1:
        return (given,)
    if not isinstance(given, tuple) or len(given) != len(wanted):
        got = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
        raise TypeError(f"weighted_sum: the {what} {name} must be a tuple ({', '.join(wanted)}), got {got}")
    return given


def weighted_sum(**terms: Any) -> WeightedSum:
    """Add up the losses of several named outputs.

    Parameters
    ----------
    **terms
        For each output ``name=(loss, weight)`` or ``name=(loss, weight, options)``; a loss alone has weight 1. Weights are finite
        numbers.

    Returns
    -------
    WeightedSum
        Called with ``(outputs, targets)``, dicts by output name, it gives the weighted sum of the values; its
        ``value_and_gradient`` gives that and a dict of gradients, each times its weight, one pass over each output. Options of
        one output's loss are given as a dict under its name: ``total(outputs, targets, class_output={"sample_weight": w})``. The
        outputs of a loss of several arrays (a triplet) are a tuple, and so are several targets of a loss.

    Raises
    ------
    TypeError, ValueError
        For a term that is not a loss with a weight, and for outputs or targets that are missing or unknown.

    Examples
    --------
    >>> import jitloss
    >>> total = jitloss.weighted_sum(first=(jitloss.mse_loss, 1.0), second=(jitloss.l1_loss, 0.5))
    >>> total.value_and_gradient({"first": [1.0], "second": [3.0]}, {"first": [0.0], "second": [1.0]})
    (2.0, {'first': array([2.]), 'second': array([0.5])})
    """
    if not terms:
        raise ValueError("weighted_sum: there must be at least one output, name=(loss, weight)")
    checked = {}
    for name, term in terms.items():
        parts = term if isinstance(term, tuple) else (term, 1.0)
        if len(parts) not in (2, 3) or not isinstance(parts[0], Loss) or (len(parts) == 3 and not isinstance(parts[2], Mapping)):
            raise TypeError(f"weighted_sum: {name} must be a loss, (loss, weight) or (loss, weight, options), got {term!r}")
        weight = parts[1]
        if not is_number(weight):
            raise TypeError(f"weighted_sum: the weight of {name} must be a number, got {weight!r}")
        if not np.isfinite(as_float(weight)):
            raise ValueError(f"weighted_sum: the weight of {name} must be finite, got {weight!r}")
        options = dict(parts[2]) if len(parts) == 3 else {}
        known = [*parts[0].gradient.signature().parameters.keys() - {*parts[0].gradient.inputs}, *ON_DEVICES]
        unknown = [option for option in options if option not in known]
        if unknown:
            raise TypeError(
                f"weighted_sum: {name}: {parts[0].__name__} has no option {unknown[0]!r}; it has {', '.join(sorted(known))}"
            )
        checked[name] = (parts[0], float(weight), options)
    return WeightedSum(checked)
