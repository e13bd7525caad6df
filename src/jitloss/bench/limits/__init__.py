"""How close the library is to its limits: rows with goals, measured by ``benchmarks/limits.py`` and tracked by asv."""

from .report import add_arguments, command, markdown
from .row import GROUPS, Goal, Row
from .rows import ROWS, chosen

__all__ = ["GROUPS", "ROWS", "Goal", "Row", "add_arguments", "chosen", "command", "markdown"]
