"""What a compiler's machine code depends on beside its definitions: its own text."""

import hashlib
from pathlib import Path

__all__ = ["fingerprint_of"]


def fingerprint_of(compiler: Path) -> str:
    """A hash of a compiler's folder and of all that the compilers share."""
    package = compiler.parents[1]
    files = [package / "math.py", package / "binding.py", *sorted(compiler.parent.glob("*.py")), *sorted(compiler.glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
