"""Kernels on a device: compiled once, cached on disk between processes, launched on the caller's stream."""

import array
import contextlib
import functools
import hashlib
import os
import re
import struct
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import cuda
from numba.core import serialize

from ...contexts import is_current
from ..fingerprint import fingerprint_of
from .compile import Source, ptx
from .toolchain import SIMULATED

__all__ = [
    "Kernel",
    "Launch",
    "cache_folder",
    "cubin",
    "current",
    "device_count",
    "flat",
    "has_clusters",
    "is_current",
    "machine_code",
]

Capability = tuple[int, int]


@functools.cache
def fingerprint() -> str:
    """The compilers' own source, hashed, and the versions that machine code depends on: part of every key of the disk cache."""
    return f"{numba.__version__} {compiler_versions()} {fingerprint_of(Path(__file__).parent)}"


_COMPILERS = ("numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink", "nvidia-nvjitlink-cu12")
"""The packages of NVIDIA's compilers, for CUDA 13 and 12: asking the compilers themselves would mean loading them."""


def compiler_versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in _COMPILERS:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return " ".join(found)


def cache_folder() -> Path | None:
    """Where machine code is cached: beside numba's own cache if that is configured, else in the user's caches; None without a home."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    if base:
        return Path(base) / "jitloss-cuda"
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path.home() / ".cache") / "jitloss" / "cuda"
    except RuntimeError:  # the user has no home directory
        return None


def _key(source: Source, capability: Capability) -> str:
    """What a kernel depends on: everything that it holds in its closure, its arguments, the device's capability, the compilers."""
    held = tuple(cell.cell_contents for cell in source.function.__closure__ or ())
    numbers = (source.threads, source.cluster, source.resident, capability)
    described = serialize.dumps((held, source.function.__code__.co_code, str(source.arguments), numbers))
    return hashlib.sha256(described + fingerprint().encode()).hexdigest()


def cubin(source: Source, capability: Capability) -> bytes:
    """A kernel as machine code, from the disk cache or compiled; works without a usable cache."""
    folder = cache_folder()
    file = folder / f"{_key(source, capability)}.cubin" if folder else None
    code = _kept(file) if file else None
    if code is None:
        code, _ = machine_code(ptx(source, capability), capability)
        if file:
            _keep(file, code)
    return code


def _kept(file: Path) -> bytes | None:
    """The machine code in a file; None where there is none, or where it is corrupt."""
    try:
        written = file.read_bytes()
    except OSError:
        return None
    code = written[: -len(_digest(b""))]
    return code if code + _digest(code) == written else None


def _digest(code: bytes) -> bytes:
    """A checksum written after machine code: it detects what a crash, a full disk or another program has left."""
    return hashlib.sha256(code).digest()


def _keep(file: Path, code: bytes) -> None:
    """Write a file atomically: other processes see all of it or nothing."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tempfile.NamedTemporaryFile(dir=file.parent, delete=False)  # noqa: SIM115  # it is closed before it is moved
        try:
            with unfinished:
                unfinished.write(code + _digest(code))
            os.replace(unfinished.name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished.name)
            raise


def machine_code(text: str, capability: Capability) -> tuple[bytes, str]:
    """A kernel's PTX as machine code, and the assembler's log.

    The text names how many blocks a multiprocessor should hold at once, which limits the registers of a thread: the machine code
    has that many, or fewer if registers would spill otherwise. A few may spill where a single block would be left, which has none
    to overlap its waiting with.
    """
    named = _RESIDENT.search(text)
    wanted, code, said = int(named[1]) if named else 1, b"", ""
    tries = list(dict.fromkeys(max(1, wanted * quarters // 4) for quarters in (4, 3, 2, 1)))
    for resident, fewer in zip(tries, [*tries[1:], 0], strict=True):
        code, said = _link(_RESIDENT.sub(f".minnctapersm {resident}", text), capability)
        spilled = sum(map(int, _SPILLS.findall(said)))
        if not spilled or (spilled <= FEW_SPILLED and fewer <= 1):
            break
    return code, said


FEW_SPILLED = 64
"""Bytes that a thread may spill rather than leave a single block on a multiprocessor."""

_RESIDENT, _SPILLS = re.compile(r"\.minnctapersm (\d+)"), re.compile(r"(\d+) bytes spill")


def _link(text: str, capability: Capability) -> tuple[bytes, str]:
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(text.encode()), options=options)
    return bytes(linker.link("cubin").code), str(linker.get_info_log())


def _entry(code: bytes) -> str:
    """The name of the only kernel of a cubin, from the section with its code."""
    start = code.index(b".text._Z") + len(b".text.")
    return code[start : code.index(b"\0", start)].decode()


@functools.cache
def device_count() -> int:
    """The number of devices; 0 without a driver."""
    try:
        return len(cuda.gpus)
    except Exception:  # numba-cuda raises various kinds
        return 0


@contextlib.contextmanager
def current(device: int) -> Iterator[None]:
    """Make a device current in the thread: a launch goes to the current device's context, wherever its arrays are."""
    if SIMULATED or is_current(device):
        yield
        return
    from cuda.bindings import driver
    from cuda.core import Device

    _, before = driver.cuCtxGetCurrent()
    Device(device).set_current()
    try:
        yield
    finally:
        driver.cuCtxSetCurrent(before)


@functools.lru_cache(256)
def _stream(handle: int) -> Any:
    from cuda.bindings import driver

    return driver.CUstream(handle)


class Launch:
    """A kernel on so many blocks with its arguments, some of whose addresses may change from call to call."""

    def __init__(self, kernel: Any, blocks: int, threads: int, arguments: tuple[Any, ...]) -> None:
        from cuda.bindings import driver

        self._driver, self._kernel, self._shape = driver, kernel, (blocks, 1, 1, threads, 1, 1, 0)
        self._function = driver.CUfunction(int(kernel.handle))
        self._words = array.array("Q", map(_word, arguments))
        first, size = self._words.buffer_info()[0], self._words.itemsize
        self._places = array.array("Q", range(first, first + size * len(arguments), size))
        self._parameters, self._lock = self._places.buffer_info()[0], threading.Lock()

    def __call__(self, stream: int, slots: Iterable[tuple[int, int]] = (), addresses: Sequence[int] = ()) -> None:
        """Launch on a stream of the current device. Each slot is the position of an argument, and the index of its new address."""
        with self._lock:
            for place, number in slots:
                self._words[place] = addresses[number]
            error = self._driver.cuLaunchKernel(self._function, *self._shape, _stream(stream), self._parameters, 0)[0]
        if error:
            raise RuntimeError(f"a kernel could not be launched: {self._driver.cuGetErrorName(error)[1].decode()}")


def _word(one: Any) -> int:
    """An argument as 64 bits, of which its kernel reads as many as it needs."""
    kind = "<f" if isinstance(one, np.float32) else "<d" if isinstance(one, float) else "<q"
    return int.from_bytes(struct.pack(kind, one), "little")


@functools.cache
def _capability(device: int) -> Capability:
    from cuda.core import Device

    found = Device(device).compute_capability
    return (int(found.major), int(found.minor))


def has_clusters(device: int) -> bool:
    """Whether blocks can share a row through distributed shared memory."""
    return not SIMULATED and _capability(device) >= (9, 0)


class Kernel:
    """A kernel that is launched with pointers and numbers; machine code is made for each kind of device on first use.

    Its source is rebuilt for each of them: numba keeps the small functions that a kernel calls as they were first compiled.
    """

    def __init__(self, make: Callable[..., Source], *given: Any) -> None:
        self._make = functools.partial(make, *given)
        self.source = self._make()
        self._unused: Source | None = self.source
        self._loaded: dict[Capability, Any] = {}
        self._simulated = cuda.jit(self.source.function) if SIMULATED else None

    def _load(self, device: int) -> Any:
        capability = _capability(device)
        if capability not in self._loaded:
            from cuda.core import ObjectCode

            source, self._unused = self._unused or self._make(), None  # also if the compiler fails
            code = cubin(source, capability)
            self._loaded[capability] = ObjectCode.from_cubin(code).get_kernel(_entry(code))
        return self._loaded[capability]

    def __call__(self, device: int, stream: int, blocks: int, *arguments: Any) -> None:
        """Launch on a stream; arguments that the kernel takes as tuples are tuples."""
        with current(device):
            self.launch(device, blocks, *arguments)(stream)

    def launch(self, device: int, blocks: int, *arguments: Any) -> Callable[..., None]:
        """A launch on a stream of the current device, which can be repeated."""
        if self._simulated is not None:
            configured = self._simulated[blocks, self.source.threads]
            return lambda stream: configured(*arguments)
        return Launch(self._load(device), blocks, self.source.threads, tuple(flat(arguments)))


def flat(arguments: Any) -> Iterator[Any]:
    """Arguments as a kernel's machine code takes them: tuples flattened, addresses as plain integers."""
    for one in arguments:
        if isinstance(one, tuple):
            yield from flat(one)
        else:
            yield int(one) if isinstance(one, int) else one
