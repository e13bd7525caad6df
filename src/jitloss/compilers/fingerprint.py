"""What a compiler's machine code depends on besides its definitions: its own source, independent of where it is installed."""

import hashlib
from pathlib import Path
from types import FunctionType

__all__ = ["fingerprint_of", "without_filename"]


def fingerprint_of(compiler: Path) -> str:
    """A hash of a compiler's folder and of everything that the compilers share."""
    package = compiler.parents[1]
    files = [package / "math.py", package / "binding.py", *sorted(compiler.parent.glob("*.py")), *sorted(compiler.glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def without_filename(function: FunctionType) -> FunctionType:
    """The function without the name of its source file.

    Disk caches find a kernel by the pickled functions that it holds. In a module that was just compiled from source, the file
    name is one object shared by the functions and the module; from bytecode there are two, so that a second process would not
    find the kernel.
    """
    if not function.__code__.co_filename.startswith("<"):
        function.__code__ = function.__code__.replace(co_filename="<jitloss>")
    return function
