"""What a row of the table of limits is: figures to measure, and a goal for each."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..peers import MODULES
from ..report import reached
from ..rounds import Step, quiet

__all__ = ["GROUPS", "Goal", "Row", "Setting", "Unavailable"]


class Unavailable(Exception):
    """What is measured, or what it is compared with, is not available on this machine."""


@dataclass(frozen=True)
class Group:
    """Rows that belong together, all in one unit."""

    title: str
    unit: str = "×"


GROUPS = {
    "pointwise": Group("pointwise losses without exp or log, value and gradient"),
    "transcendental": Group("pointwise losses with exp or log, value and gradient"),
    "long": Group("cross-entropy with logits, long rows"),
    "short": Group("cross-entropy with logits, short rows"),
    "options": Group("an option switched on"),
    "axis": Group("class axis not last"),
    "half": Group("half precision"),
    "rows": Group("embeddings and distributions"),
    "forms": Group("parts of the result, against a copy of the bytes that each must move"),
    "call": Group("a whole public call on 32×10 numbers", "µs"),
    "processes": Group("two processes at once"),
    "products": Group("in turn with NumPy's matrix products, 512×512, which have threads of their own"),
    "start": Group("first call and import", "ms"),
    "memory": Group("extra memory", "MiB"),
    "threads": Group("two threads against one, bound by computing"),
    "in-place": Group("out=predictions"),
    "alignment": Group("arrays off a cache line, odd sizes"),
}


@dataclass(frozen=True)
class Goal:
    """What a figure should reach: at most ``limit`` times something, or ``at_least`` that many times as fast."""

    against: str
    limit: float
    at_least: bool = False

    def reached(self, figure: float) -> bool:
        return reached(figure, self.limit, self.at_least)


@dataclass(frozen=True)
class Setting:
    """How a row is measured: whether on small arrays (``quick``), against whom, and the callback for each round."""

    quick: bool = False
    rounds: int = 15
    wanted: tuple[str, ...] = ()
    step: Step = quiet


@dataclass(frozen=True)
class Row:
    """``measured`` gives a figure for each goal that is wanted and can be measured here, by what it is compared with."""

    group: str
    name: str
    goals: tuple[Goal, ...]
    measured: Callable[[Setting], Mapping[str, float]] = field(repr=False)
    needs: tuple[str, ...] = ()

    def missing(self, against: Sequence[str]) -> str:
        """The name of a module that is required for this row but not installed."""
        modules = (*self.needs, *(MODULES[one] for one in against if one in MODULES))
        return next((one for one in modules if importlib.util.find_spec(one) is None), "")

    def figures(self, quick: bool = False, rounds: int = 15, against: Sequence[str] = (), step: Step = quiet) -> dict[str, float]:
        """Figures against everything, or against what is named; none for what is missing."""
        names = [goal.against for goal in self.goals if not against or goal.against in against]
        wanted = tuple(name for name in names if not self.missing([name]))
        if not wanted:
            return {}
        try:
            return dict(self.measured(Setting(quick, rounds, wanted, step)))
        except Unavailable:
            return {}
