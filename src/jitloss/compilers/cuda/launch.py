"""Kernels on a device: made once, kept on disk between processes, launched on the caller's stream."""

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba import cuda
from numba.core import serialize

from ..fingerprint import fingerprint_of
from .compile import Source, ptx
from .toolchain import SIMULATED

__all__ = ["Kernel", "cache_folder", "cubin", "device_count", "flat"]

Capability = tuple[int, int]


@functools.cache
def fingerprint() -> str:
    """The compilers' own text and the versions that machine code depends on, as part of every key of the disk cache."""
    return f"{numba.__version__} {numba_cuda_version()} {fingerprint_of(Path(__file__).parent)}"


def numba_cuda_version() -> str:
    from importlib.metadata import version

    return version("numba-cuda")


def cache_folder() -> Path:
    """Where machine code is kept: beside numba's own cache where that has been placed, else with the user's caches."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    return (
        Path(base) / "jitloss-cuda"
        if base
        else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jitloss" / "cuda"
    )


def _key(source: Source, capability: Capability) -> str:
    """What a kernel depends on: all that it holds in its closure, its arguments, the device's kind, the compilers."""
    held = tuple(cell.cell_contents for cell in source.function.__closure__ or ())
    described = serialize.dumps((held, source.function.__code__.co_code, str(source.arguments), source.threads, capability))
    return hashlib.sha256(described + fingerprint().encode()).hexdigest()


def cubin(source: Source, capability: Capability) -> bytes:
    """A kernel as machine code, from the disk cache or compiled; a cache that cannot be used is done without."""
    file = cache_folder() / f"{_key(source, capability)}.cubin"
    try:
        return file.read_bytes()
    except OSError:
        code = _link(ptx(source, capability), capability)
        _keep(file, code)
        return code


def _keep(file: Path, code: bytes) -> None:
    """Write a file that other processes see whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as unfinished:
            unfinished.write(code)
        os.replace(unfinished.name, file)
    except OSError:
        pass


def _link(text: str, capability: Capability) -> bytes:
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}")
    return bytes(Linker(ObjectCode.from_ptx(text.encode()), options=options).link("cubin").code)


def _entry(code: bytes) -> str:
    """The name of the only kernel of a cubin, from that of the section with its code."""
    start = code.index(b".text._Z") + len(b".text.")
    return code[start : code.index(b"\0", start)].decode()


@functools.cache
def device_count() -> int:
    """How many devices there are; 0 without a driver."""
    try:
        return len(cuda.gpus)
    except Exception:  # numba-cuda raises several kinds
        return 0


@contextlib.contextmanager
def current(device: int) -> Iterator[None]:
    """Make a device the thread's current one: a launch goes to the current one's context, whatever its arrays."""
    from cuda.bindings import driver
    from cuda.core import Device

    error, now = driver.cuCtxGetDevice()
    if error == driver.CUresult.CUDA_SUCCESS and int(now) == device:
        yield
        return
    _, before = driver.cuCtxGetCurrent()
    Device(device).set_current()
    try:
        yield
    finally:
        driver.cuCtxSetCurrent(before)


@functools.lru_cache(256)
def _stream(handle: int) -> Any:
    from cuda.core import LEGACY_DEFAULT_STREAM, PER_THREAD_DEFAULT_STREAM, Stream

    known = {0: LEGACY_DEFAULT_STREAM, 1: LEGACY_DEFAULT_STREAM, 2: PER_THREAD_DEFAULT_STREAM}
    return known[handle] if handle in known else Stream.from_handle(handle)


@functools.lru_cache(1024)
def _shape(blocks: int, threads: int) -> Any:
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=blocks, block=threads)


@functools.cache
def _capability(device: int) -> Capability:
    from cuda.core import Device

    found = Device(device).compute_capability
    return (int(found.major), int(found.minor))


class Kernel:
    """A kernel that is launched with pointers and numbers; machine code is made for each kind of device when it is first met."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._loaded: dict[Capability, Any] = {}
        self._simulated = cuda.jit(source.function) if SIMULATED else None

    def _load(self, device: int) -> Any:
        capability = _capability(device)
        if capability not in self._loaded:
            from cuda.core import ObjectCode

            code = cubin(self.source, capability)
            self._loaded[capability] = ObjectCode.from_cubin(code).get_kernel(_entry(code))
        return self._loaded[capability]

    def __call__(self, device: int, stream: int, blocks: int, *arguments: Any) -> None:
        """Launch on a stream; tuples among the arguments are what the kernel takes as tuples."""
        if self._simulated is not None:
            self._simulated[blocks, self.source.threads](*arguments)
        else:
            self.launcher(device, blocks)(stream, *flat(arguments))

    def launcher(self, device: int, blocks: int) -> Callable[..., None]:
        """The launch of so many blocks as a function of a stream and the arguments one by one."""
        from cuda.core import launch

        config, kernel = _shape(blocks, self.source.threads), self._load(device)

        def go(stream: int, *arguments: Any) -> None:
            with current(device):
                launch(_stream(stream), config, kernel, *arguments)

        return go


def flat(arguments: Any) -> Iterator[Any]:
    """Arguments as a kernel's machine code takes them: tuples in parts, addresses as plain integers."""
    for one in arguments:
        if isinstance(one, tuple):
            yield from flat(one)
        else:
            yield int(one) if isinstance(one, int) else one
