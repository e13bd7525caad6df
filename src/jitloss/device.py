"""One call of a loss on a CUDA device: like :mod:`jitloss.call`, but without synchronising with the device.

What the host would decide by looking at numbers is decided on the device: the divisor of a mean is counted there, and a bad label
makes its row NaN. ``check=True`` synchronises, checks labels and sample weights, and raises.
"""

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from . import monitoring
from .arrays.cuda import DeviceArray, Library, widened
from .arrays.devices import library_of
from .call import Evaluation, Wants
from .compilers.variant import Layout, Variant
from .definition import Definition
from .inputs import FLOATS, INTEGERS, check_dtype, dtype_name, geometry, working_dtype
from .launches import compiler, memory, packed
from .options import binary_weights, check_leading_axes, class_weights, ignored_as_read, ignored_label, sample_weights
from .outputs import by_name, pair_of

__all__ = ["DeviceEvaluation", "extents", "stream_of"]


def stream_of(owner: str, library: Library, first: Any, given: Any) -> int:
    """The stream of a call as a number; raises an error that shows what was given where it is not a stream."""
    wanted = "must be a stream, or its handle as an integer"
    try:
        return library.stream(first, given)
    except TypeError:
        raise TypeError(f"{owner}: stream {wanted}, got {given!r}") from None
    except ValueError as error:
        raise ValueError(f"{owner}: stream {error}, got {given!r}") from None


_NEVER = -(2**63) + 0x1D0E5A0F
"""The ignored label where there is none: labels on the device are not inspected, so a number that neither a cast of NaN nor users
produce."""


def extents(value: Any) -> Any:
    """Device arrays, in any nesting, as byte arrays at the same addresses on the host: for overlap checks, never to be read.

    An array with gaps is represented by everything between its ends, as where a call has copied it.
    """
    if isinstance(value, Mapping):
        return {name: extents(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(extents, value))
    library = library_of(value)
    if library is None:
        return value
    start, stop = library.extent(value)
    return np.ctypeslib.as_array((ctypes.c_ubyte * (stop - start)).from_address(start))


MOST_SUMMED, SUMMED = 32768, 128
"""How many block sums a single block adds; where there are more, ``SUMMED`` blocks add them first."""


class DeviceEvaluation(Evaluation):
    """The steps of one call on a device, in order. Only such calls have the options ``stream`` and ``check``."""

    holds_usual = False  # calls are bound by memory, so constants gain nothing

    def __init__(
        self,
        definition: Definition,
        weights: tuple[float, ...],
        arguments: Mapping[str, Any],
        wants: Wants,
        library: Library,
        *,
        stream: Any = None,
        check: bool = False,
    ) -> None:
        self.library, self.check = library, check
        self.launches: list[tuple[Any, int, tuple[Any, ...]]] = []
        self.made: list[tuple[DeviceArray, tuple[int, ...], Any]] = []
        self.returned: list[tuple[str, DeviceArray]] = []
        self.cuda = compiler()
        first = arguments[definition.inputs[0].public]
        self.owner = definition.name
        self.stream, self.first, self.given_stream = stream_of(self.owner, library, first, stream), first, stream
        self.copied: list[tuple[int, int]] = []
        super().__init__(definition, weights, arguments, wants)

    # Inputs ---------------------------------------------------------------------------------------------------------------------

    def _read_arrays(self) -> None:
        self.views = {one.name: self._view(self.arguments[one.public], one.public) for one in self.definition.inputs}
        devices = {view.device for view in self.views.values()}
        if len(devices) > 1:
            places = ", ".join(f"{one.public} on device {self.views[one.name].device}" for one in self.definition.inputs)
            raise ValueError(f"{self.owner}: the arrays of a call must be on one device; got {places}")
        self.device = devices.pop()
        for one in self.definition.inputs:
            check_dtype(self.views[one.name].dtype, one, self.definition)
        self.geometry = geometry(self.definition, self.views, self._option("axis"))  # type: ignore[arg-type]  # only shapes are used

    def _view(self, value: Any, argument: str) -> DeviceArray:
        view = self._read_view(value, argument)
        if view.contiguous:
            return self._aligned(view, argument)
        try:
            copy = self.library.view(self.library.contiguous(value))
        except ValueError as error:
            raise ValueError(f"{self.owner}: {argument} {error}") from None
        self.copied.append(self.library.extent(value))
        return copy

    def _read_view(self, value: Any, argument: str) -> DeviceArray:
        """The view of an array of the caller's, ready for use on the stream of the call."""
        try:
            view = self.library.ordered(value, self.stream)
        except (TypeError, ValueError) as error:  # a dtype that NumPy does not know, or an array that is not exported
            raise type(error)(f"{self.owner}: {argument}: {error}") from None
        if not getattr(view.dtype, "isnative", True):
            kind = ValueError if argument == "out" else TypeError
            raise kind(f"{self.owner}: on a device {argument} must have the machine's byte order, got the dtype {view.dtype.str}")
        return view

    def _aligned(self, view: DeviceArray, argument: str) -> DeviceArray:
        size = int(view.dtype.itemsize)
        if view.size and view.pointer % size:
            raise ValueError(
                f"{self.owner}: on a device {argument} must lie at a multiple of the {size} bytes of its elements, "
                f"got the address {view.pointer:#x}"
            )
        return view

    def _choose_precision(self) -> None:
        """float64 where any array of elements is, or where predictions are integers; else float32."""
        self.dtypes = {name: dtype_name(view.dtype) for name, view in self.views.items()}
        target = self.definition.target
        if target is not None and self.dtypes[target.name] == "bool" and target.space.name == "sign":
            self.dtypes[target.name] = "sign"
        self.working = working_dtype(self.definition, self.dtypes.values())
        written = {self.dtypes[one.name] for one in self.definition.differentiable}
        if len(written) > 1:
            raise TypeError(f"{self.owner}: on a device the inputs must have one dtype, got {', '.join(sorted(written))}")
        like = self.views[self.definition.inputs[0].name]
        self.output = np.dtype(np.float64) if dtype_name(like.dtype) in INTEGERS else like.dtype
        self.arrays = {}

    # Options --------------------------------------------------------------------------------------------------------------------

    def _host(self, name: str) -> np.ndarray:
        """An input copied to the host, for options that need to see it; this synchronises with the device."""
        return self._on_host(self.views[name].value)

    def _on_host(self, value: Any) -> np.ndarray:
        return self.library.to_host(value, self.stream)

    def _read_labels(self) -> None:
        self.labels, self.ignored = None, _NEVER
        ignored = ignored_label(self._option("ignore_index"), self.owner) if self.definition.takes_labels else None
        self.label_view = self.views[self.definition.target.name] if self.geometry.labels and self.definition.target else None
        if self.label_view is not None:
            read = ignored_as_read(self.label_view.dtype, ignored)
            self.ignored = _NEVER if read is None else read
        self.counted = self.geometry.count

    def _read_weights(self) -> None:
        self.sample_view: DeviceArray | None = None
        self.class_view: DeviceArray | None = None
        self.span, self.sample, self.classes = 1, None, None
        weight = self.arguments.get("sample_weight")
        if weight is not None:
            self._read_sample_weight(weight)
        given, target = self.arguments.get("class_weight"), self.definition.target
        if given is None or target is None:
            return
        library = library_of(given)
        if library is not None:
            given = library.to_host(given, self.stream)
        columns = self.geometry.columns if self.definition.form == "rowwise" else 2
        self.classes = class_weights(given, self.class_counts, columns, self.working, self.owner)
        assert self.classes is not None
        self.class_view = self._upload(self.classes)

    def _fold_factor(self) -> None:
        """Nothing to do: kernels multiply values before rounding them."""

    def _read_sample_weight(self, weight: Any) -> None:
        items = self.geometry.items
        library = library_of(weight)
        if library is None:
            read = sample_weights(weight, items, self.working, self.owner, self._place)
            assert read is not None
            self.sample_view, self.span = self._upload(read.array), read.span
            return
        if library is not self.library:
            raise TypeError(
                f"{self.owner}: sample_weight must be in host memory or one of {self.library.name}, got one of {library.name}"
            )
        view = self._view(weight, "sample_weight")
        if view.device != self.device:
            raise ValueError(
                f"{self.owner}: sample_weight is on device {view.device}, the arrays of the call on device {self.device}"
            )
        if dtype_name(view.dtype) not in FLOATS | INTEGERS | {"bool"}:
            raise TypeError(f"{self.owner}: sample_weight must hold numbers, got {dtype_name(view.dtype)}")
        check_leading_axes(view.shape, items, self.owner)
        if self.check:
            sample_weights(self._on_host(weight), items, self.working, self.owner, self._place)
        self.sample_view, self.span = view, int(np.prod(items[view.ndim :], dtype=np.int64))

    def _upload(self, array: np.ndarray) -> DeviceArray:
        return self.library.view(self.library.from_host(np.asarray(array, order="C"), self.first, self.stream))

    def class_counts(self, option: str = "class_weight") -> np.ndarray:
        """How often each class occurs, counted on the host: "balanced" synchronises with the device."""
        assert self.definition.target is not None
        targets = self._host(self.definition.target.name)
        if not self.geometry.labels:
            return self._counts(targets, 0, option)
        labels = targets.astype(np.int64).reshape(-1)
        classes = (labels >= 0) & (labels < self.geometry.columns) & (labels != self.ignored)
        return self._counts(labels[classes], -1, option)

    # The run --------------------------------------------------------------------------------------------------------------------

    def _layout(self) -> Layout:
        return "flat" if self.definition.form == "pointwise" else "rows"

    def _new(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        view = self.library.view(self.library.empty(self.first, shape, dtype))
        self.made.append((view, shape, dtype))
        return view

    def _memory(self, view: DeviceArray | None) -> Any:
        return memory(self.library, view)

    def _launch(self, kernel: Any, blocks: int, *arguments: Any) -> None:
        """Queue a kernel launch after all others of the call."""
        self.launches.append((kernel, blocks, arguments))

    def _launch_all(self) -> None:
        """Launch what is queued: all memory is allocated and all kernels are loaded before the first writes to ``out``."""
        with self.cuda.current(self.device):  # also for the compiler, which may ask for the current device
            ready = [kernel.launch(self.device, blocks, *arguments) for kernel, blocks, arguments in self.launches]
            for launch in ready:
                launch(self.stream)

    def _divisor(self) -> tuple[float, Literal["", "items", "weights"]]:
        """What the sum is divided by: a number, or 1 and what must be counted on the device."""
        if self.reduction != "mean":
            return 1.0, ""
        if isinstance(self.normalizer, float):
            return self.normalizer, ""
        weighted = self.normalizer == "weights"
        if self.label_view is None and not (weighted and (self.sample_view or self.class_view)):
            return float(self.geometry.count), ""
        if weighted and self.class_view is not None and self.label_view is None:
            return self._mass_seen(), ""
        return 1.0, "weights" if weighted else "items"

    def _count(self, weighted: bool) -> DeviceArray:
        labels = dtype_name(self.label_view.dtype) if self.label_view else ""
        weights = dtype_name(self.sample_view.dtype) if weighted and self.sample_view else ""
        classes = weighted and self.class_view is not None
        grid = self.cuda.counting_blocks(self.cuda.SUMMING_THREADS, self.geometry.count)
        counted = self._new((2, grid), np.dtype(np.float64))
        self._launch(
            self.cuda.counting_kernel(self.working, labels, weights, classes),
            grid,
            self._memory(self.label_view),
            self.ignored,
            self._memory(self.sample_view),
            self.span,
            self._memory(self.class_view),
            self.geometry.columns,
            self.geometry.count,
            self._memory(counted),
        )
        return counted

    def _mass_seen(self) -> float:
        """The class weights of dense or binary targets, summed on the host: this synchronises with the device."""
        assert self.definition.target is not None
        assert self.classes is not None
        targets = self._host(self.definition.target.name).astype(np.float64)
        if self.definition.form == "rowwise":
            each = self._rows_of(targets) @ self.classes
        else:
            each = binary_weights(targets, self.classes[0], self.classes[1], self.definition.target.space.graded).reshape(-1)
        if self.sample_view is not None:
            each *= np.repeat(self._on_host(self.sample_view.value).reshape(-1).astype(np.float64), self.span)
        return float(each.sum())

    def _check_labels(self) -> None:
        """Synchronise with the device and raise for a label that is not a class."""
        if self.check and self.label_view is not None:
            found = self._count(False)
            self._launch_all()
            self.launches.clear()
            counted = self._on_host(found.value)
            if counted[1].sum() > 0:
                labels = self._host(self.definition.target.name)  # type: ignore[union-attr]
                self.labels = labels.astype(np.int64)
                self._refuse_label(labels)

    def validate(self) -> None:
        """Raise what :meth:`run_on_device` would raise before it launches anything that writes."""
        self._outs()
        self._check_labels()

    def run_on_device(self) -> list[Any]:
        """The requested value, gradients and second derivatives, in the caller's own type."""
        outs = self._outs()
        self._check_labels()
        alone = self.reduction == "none" and self.wants.value
        watching = monitoring.watching()
        items = self._new(self.geometry.items, self.output) if alone or watching else None
        value = self._new((), np.dtype(self.working)) if (self.wants.value or watching) and not alone else None
        divisor, counts = self._divisor()
        scale = self.factor / divisor if divisor else 0.0
        if self.geometry.count * self.geometry.columns:
            self._run_loss(outs, items, value, scale, counts)
        else:
            self._run_empty(items, value)
        with self._compiling():
            self._launch_all()
        if watching:
            self._report(value, items, outs)
        return self._results(items if alone else value if self.wants.value else None, outs)

    def _run_empty(self, items: DeviceArray | None, value: DeviceArray | None) -> None:
        """Launch the kernels of a call without elements. There may be rows, without columns, and labels, none of which is a class."""
        partials, grid = None, 0
        if self.geometry.count and (items is not None or value is not None):
            labels = dtype_name(self.label_view.dtype) if self.label_view else ""
            kernel = self.cuda.empty_rows_kernel(labels, items is not None, dtype_name(self.output))
            grid = self.cuda.counting_blocks(self.cuda.SUMMING_THREADS, self.geometry.count)
            partials = self._new((grid,), np.dtype(np.float64))
            written = tuple(map(self._memory, [items] if items else []))
            self._launch(
                kernel, grid, self._memory(self.label_view), self.ignored, self.geometry.count, written, self._memory(partials)
            )
        self._total(partials, grid, 1.0, None, value)

    def _parts(self, counted: DeviceArray | None) -> tuple[Any, int]:
        """The partial counts of the counting blocks, and how many there are."""
        return self._memory(counted), 0 if counted is None else counted.shape[1]

    def _total(
        self, partials: DeviceArray | None, grid: int, scale: float, counted: DeviceArray | None, value: DeviceArray | None
    ) -> None:
        """Add the partial sums of a loss's blocks; the sum, scaled, is its value."""
        if value is None:
            return
        if grid > MOST_SUMMED:
            some = self._new((SUMMED,), np.dtype(np.float64))
            self._launch(
                self.cuda.total_kernel("float64", False),
                SUMMED,
                *(self._memory(partials), grid, 1.0, *self._parts(None), self._memory(some)),
            )
            grid, partials = SUMMED, some
        kernel = self.cuda.total_kernel(self.working, counted is not None)
        self._launch(kernel, 1, self._memory(partials), grid, scale, *self._parts(counted), self._memory(value))

    def _run_loss(
        self, outs: Sequence[DeviceArray], items: DeviceArray | None, value: DeviceArray | None, scale: float, counts: str
    ) -> None:
        """Launch the kernel of the loss, after those that count and before those that add; a single block does all of it in one launch."""
        variant = self._variant(items is not None)
        inputs = [self.views[one.name] for one in self.definition.inputs]
        pointwise, each = self.definition.form == "pointwise", self.span == 1
        moved = [
            *inputs,
            *outs,
            *([items] if items else []),
            *([self.sample_view] if pointwise and each and self.sample_view else []),
        ]
        plan = self.cuda.choose(
            variant,
            self.geometry.columns,
            self.geometry.inner,
            all(view.pointer % 16 == 0 for view in moved),
            divided=counts != "",
            labels=dtype_name(self.label_view.dtype) if self.label_view else "int64",
            weights=dtype_name(self.sample_view.dtype) if self.sample_view else "",
            each=each,
            clusters=self.cuda.has_clusters(self.device),
        )
        count = self.geometry.count
        parted = self.cuda.split(plan)
        pieces, length = self.cuda.pieces(parted, count, self.geometry.columns, self.geometry.inner)
        split = not pointwise and pieces > 1
        grid = count if split else self.cuda.blocks(plan, pointwise, count)
        here = grid == 1 and not split
        total = "nothing" if value is None else "value" if here else "parts"
        counted = self._count(counts == "weights") if counts and not here else None
        partials = value if here else None if value is None else self._new((grid,), np.dtype(np.float64))
        number = np.dtype(self.working).type
        before = (
            tuple(map(self._memory, inputs)),
            tuple(map(self._memory, outs)),
            tuple(map(self._memory, [items] if items else [])),
            tuple(number(one) for one, letter in zip(self.parameters, self.statics, strict=False) if letter == "n"),
            self._memory(self.sample_view),
            self.span,
            self._memory(self.label_view),
            self.ignored,
            self._memory(self.class_view),
            self.geometry.columns,
        )
        after = (scale, self.factor, *self._parts(counted))
        with self._compiling():
            if split:
                found = dataclasses.replace(parted, total=total)
                self._run_split(variant, found, (*before, length, pieces, *after), partials, pieces)
            else:
                plan = dataclasses.replace(plan, here=here, weighted=here and counts == "weights", total=total)
                kernel = self.cuda.loss_kernel(variant, plan)
                self._launch(kernel, grid, *before, self.geometry.inner, count, *after, self._memory(partials))
        if not here:
            self._total(partials, grid, scale, counted, value)

    def _run_split(
        self, variant: Variant, plan: Any, arguments: tuple[Any, ...], partials: DeviceArray | None, pieces: int
    ) -> None:
        """Few and long rows, each split over several blocks: peaks, sums, slopes."""
        peaks, sums = self.cuda.pieces_found(variant)
        grid = self.geometry.count * pieces
        found = [self._memory(self._new((grid,), np.dtype(self.working))) for _ in range(peaks + sums)]
        for stage in ("peaks", "sums", "slopes") if peaks else ("sums", "slopes"):
            kernel = self.cuda.split_kernel(variant, plan, stage)
            own = (tuple(found[:peaks]), tuple(found[peaks:]), self._memory(partials))
            self._launch(kernel, grid, *arguments, *own)

    def _variant(self, items: bool) -> Variant:
        return super()._variant(items)._replace(weights=self.sample_view is not None, summed=True)

    # Outputs --------------------------------------------------------------------------------------------------------------------

    def _outs(self) -> list[DeviceArray]:
        if not self.wants.gradient:
            return []
        out, second = self.arguments.get("out"), None
        if self.wants.hessian:
            out, second = pair_of(out, self.owner)
        outs = self._taken(out, [])
        return outs + self._taken(second, outs) if self.wants.hessian else outs

    def _taken(self, out: Any, before: list[DeviceArray]) -> list[DeviceArray]:
        names = [one.name for one in self.definition.differentiable]
        given = by_name(self.definition, out, names)
        if given is None:
            return [self._new(self.views[name].shape, self.output) for name in names]
        taken: list[DeviceArray] = []
        for name in names:
            taken.append(self._check_out(given[name], name, before + taken))
        return taken

    def _check_out(self, out: Any, name: str, before: list[DeviceArray]) -> DeviceArray:
        public = next(one.public for one in self.definition.inputs if one.name == name)
        if library_of(out) is not self.library:
            kind = type(out)
            raise TypeError(f"{self.owner}: out must be one of {self.library.name}, got {kind.__module__}.{kind.__qualname__}")
        view, like = self._read_view(out, "out"), self.views[name]
        if view.shape != like.shape:
            raise ValueError(f"{self.owner}: out must have the shape of {public}, {like.shape}, got {view.shape}")
        if dtype_name(view.dtype) != dtype_name(self.output):
            raise ValueError(
                f"{self.owner}: out must have the dtype of the gradient of {public}, {dtype_name(self.output)}, "
                f"got {dtype_name(view.dtype)}"
            )
        if view.device != self.device:
            raise ValueError(f"{self.owner}: out is on device {view.device}, {public} on device {self.device}")
        if not view.contiguous or not view.writable:
            raise ValueError(f"{self.owner}: out must be C-contiguous and writable")
        self._aligned(view, "out")
        others = [(other, one) for other, one in self.views.items()] + [("", one) for one in before]
        others += [("", one) for one in (self.sample_view, self.class_view) if one is not None]
        for other, one in others:
            same = other == name and view.pointer == one.pointer and view.nbytes == one.nbytes
            if not same and self._meet(view, one.pointer, one.pointer + one.nbytes):
                self._refuse_overlap(public)
        if any(self._meet(view, *place) for place in self.copied):
            self._refuse_overlap(public)
        return view

    @staticmethod
    def _meet(view: DeviceArray, start: int, stop: int) -> bool:
        return view.pointer < stop and start < view.pointer + view.nbytes

    def _refuse_overlap(self, public: str) -> None:
        raise ValueError(f"{self.owner}: out overlaps another array of the call; it may be {public} itself, and nothing else")

    def _results(self, value: DeviceArray | None, outs: Sequence[DeviceArray]) -> list[Any]:
        names = [one.name for one in self.definition.differentiable]
        pairs = zip(names * (len(outs) // len(names)), outs, strict=True)
        self.returned = [("", value)] if value is not None else []
        self.returned += pairs
        return packed([(name, self._given_back(view)) for name, view in self.returned], len(names))

    def _given_back(self, result: DeviceArray) -> Any:
        """A result as the caller gets it: his own ``out`` as it is."""
        if all(result is not view for view, _, _ in self.made):
            return result.value
        return self.library.given_back(result.value, self.first, self.given_stream)

    def _report(self, value: DeviceArray | None, items: DeviceArray | None, outs: Sequence[DeviceArray]) -> None:
        """Do what :func:`jitloss.errstate` asks for; this synchronises with the device."""
        number = 0.0 if value is None else float(self._on_host(value.value))
        seen = None if items is None or (value is not None and np.isfinite(number)) else self._numbers(items)
        monitoring.report(self.owner, number, seen, tuple(self._numbers(one) for one in outs))

    def _numbers(self, result: DeviceArray) -> np.ndarray:
        """A result on the host; numba has no bfloat16, so its bits are stored as uint16."""
        array = self._on_host(result.value)
        return widened(array) if array.dtype == np.uint16 else array
