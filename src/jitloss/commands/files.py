"""The files of ``jitloss evaluate``: inputs that are read page by page, and outputs that are renamed into place when complete."""

import contextlib
import errno
import math
import mmap
import os
import secrets
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .common import CommandError, reason
from .signals import held

__all__ = ["NewArray", "NewFile", "Source", "new_files", "same_file"]

_MAGIC = b"\x93NUMPY"


# Reading ----------------------------------------------------------------------------------------------------------------------


class Source:
    """The array of an .npy file, memory-mapped: only the pages that are used are read, and nothing is unpickled."""

    def __init__(self, path: str, argument: str) -> None:
        self.path, self.argument = path, argument
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
                raise self._refusal("is a folder" if os.path.isdir(path) else "is not a regular file")
            with open(path, "rb") as file:
                self.array = self._map(file)
        except OSError as error:
            raise CommandError(f"cannot read {argument} from {path!r}: {reason(error)}") from None

    def _refusal(self, what: str) -> CommandError:
        return CommandError(f"{self.argument}: {self.path!r} {what}")

    def _map(self, file: IO[bytes]) -> np.ndarray:
        shape, fortran, dtype = self._header(file)
        wanted, found = math.prod(shape) * dtype.itemsize + file.tell(), os.fstat(file.fileno()).st_size
        if found < wanted:
            raise self._refusal(f"is truncated: it has {found} bytes, an array {shape} of {dtype} takes {wanted}")
        self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.ndarray(shape, dtype, self._memory, file.tell(), order="F" if fortran else "C")

    def _header(self, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        """Read shape, order and dtype, leaving the file at the first element."""
        start = file.read(len(_MAGIC))
        if start != _MAGIC:
            hint = "; it looks like an .npz archive: save one array with numpy.save" if start[:2] == b"PK" else ""
            raise self._refusal(("is not an .npy file" if start else "is empty") + hint)
        file.seek(0)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            version = np.lib.format.read_magic(file)
            if version not in readers:
                raise self._refusal(
                    f"has version {version[0]}.{version[1]} of the .npy format; 1.0 and 2.0 hold arrays of numbers"
                )
            with warnings.catch_warnings(action="ignore"):
                shape, fortran, dtype = readers[version](file)
        except CommandError:
            raise
        except Exception:  # any error of parsing an invalid header
            raise self._refusal("has a damaged .npy header") from None
        if dtype.hasobject:
            raise self._refusal("holds Python objects, which are never unpickled; wanted an array of numbers")
        if dtype == np.dtype("V2"):
            raise self._refusal(
                "holds elements of 2 bytes without a type (V2), which is what NumPy writes for bfloat16; save it as float32 or float16"
            )
        if len(shape) > 64 or not all(0 <= size < 2**63 for size in shape):
            raise self._refusal("has a damaged .npy header")
        return shape, fortran, dtype

    def release(self) -> None:
        """Release the pages that have been read; they are read again when needed."""
        _give_back(self._memory)


def _give_back(memory: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED)


# Writing ----------------------------------------------------------------------------------------------------------------------


def same_file(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


class NewFile:
    """A temporary file next to the one that it replaces when it is complete."""

    def __init__(self, path: str, option: str) -> None:
        self.option, self.given, self.descriptor = option, path, -1
        self.path = Path(os.path.realpath(path))  # replace the target of a link, not the link
        self.temporary = self.path.with_name(f"{self.path.name or '.'}.{secrets.token_hex(4)}.part")

    def create(self) -> None:
        with self.explained():
            older = self._older()
            self.descriptor = os.open(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            if older is not None:
                os.chmod(self.temporary, stat.S_IMODE(older.st_mode))

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a system error into one that names the file."""
        try:
            yield
        except OSError as error:
            raise CommandError(f"cannot write {self.option} {self.given!r}: {reason(error)}") from None

    def _older(self) -> os.stat_result | None:
        if not self.given:
            raise OSError(errno.EINVAL, "a file name is required")
        try:
            older = self.path.stat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(older.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(older.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if not os.access(self.path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return older

    def complete(self) -> None:
        """Flush everything to the disk."""
        with self.explained():
            os.fsync(self.descriptor)

    def take_name(self) -> None:
        with self.explained():
            os.replace(self.temporary, self.path)
        with contextlib.suppress(OSError):  # make the rename durable, where the system can
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Close the file, and delete it if it has not been renamed into place."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        with contextlib.suppress(OSError):
            self.temporary.unlink()


class NewArray(NewFile):
    """An .npy file that is memory-mapped and written page by page."""

    DIRTY = 2**26
    """Bytes that are written before they are flushed to the disk and their pages released."""

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Allocate the array. Its bytes are reserved on the disk now: a full disk would later kill the process instead of raising."""
        self.create()
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with self.explained():
            with open(self.descriptor, "wb", closefd=False) as file:
                np.lib.format.write_array_header_1_0(file, header)
                start = file.tell()
            self._size, self._waiting = start + math.prod(shape) * dtype.itemsize, 0.0
            _reserve(self.descriptor, self._size)
            self._memory = mmap.mmap(self.descriptor, self._size)
        return np.ndarray(shape, dtype, self._memory, start)

    def release(self, share: float) -> None:
        """Called after another ``share`` of the array has been written: limits the number of dirty pages."""
        self._waiting += share * self._size
        if self._waiting >= self.DIRTY:
            with self.explained():
                self._memory.flush()
            _give_back(self._memory)
            self._waiting = 0.0

    def complete(self) -> None:
        with self.explained():
            self._memory.flush()
        super().complete()


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    os.ftruncate(descriptor, size)


@contextlib.contextmanager
def new_files() -> Iterator[list[NewFile]]:
    """Files that are renamed into place together, when all of them are complete; none is if anything fails before."""
    files: list[NewFile] = []
    try:
        yield files
        for file in files:
            file.complete()
        with held():
            for file in files:
                file.take_name()
    finally:
        for file in files:
            file.discard()
