"""The measurements of ``jitloss bench`` and ``benchmarks/``: this library compared with NumPy, PyTorch, JAX and a plain copy.

Nothing here is imported by ``import jitloss``, and a peer is imported only when it is measured.
"""

from .measure import NEW, OUT, Row, copy_calls, measure
from .report import Report, add_arguments, command, markdown, run, show
from .rounds import seconds_per_call
from .startup import first_calls, import_seconds, process_seconds
from .work import WORKS, Work, inputs_for

__all__ = [
    "NEW", "OUT", "WORKS", "Report", "Row", "Work", "add_arguments", "command", "copy_calls", "first_calls", "import_seconds",
    "inputs_for", "markdown", "measure", "process_seconds", "run", "seconds_per_call", "show",
]  # fmt: skip
