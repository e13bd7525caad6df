"""What a compiler's machine code depends on beside its definitions: its own text, wherever it lies."""

import hashlib
from pathlib import Path
from types import FunctionType

__all__ = ["fingerprint_of", "placeless"]


def fingerprint_of(compiler: Path) -> str:
    """A hash of a compiler's folder and of all that the compilers share."""
    package = compiler.parents[1]
    files = [package / "math.py", package / "binding.py", *sorted(compiler.parent.glob("*.py")), *sorted(compiler.glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def placeless(function: FunctionType) -> FunctionType:
    """The function without the name of the file that it was written in.

    Disk caches find a kernel by the pickled functions that it holds. In a module that was just read from its text, the name of the file
    is one object for the functions and the module; from bytecode there are two, so that a second process would find nothing.
    """
    if not function.__code__.co_filename.startswith("<"):
        function.__code__ = function.__code__.replace(co_filename="<jitloss>")
    return function
