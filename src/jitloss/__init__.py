"""Loss functions for arrays: value and gradient in one compiled pass over memory."""

import importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any

from .pause import collector_paused as _collector_paused

with _collector_paused():
    from . import math  # noqa: F401  # not in __all__, where `import *` would shadow the standard module
    from .composition import Penalty, WeightedSum, weighted_sum
    from .definition import Definition, DefinitionError
    from .form import Form
    from .loss import Loss, pointwise, rowwise
    from .losses import LOSSES as _DEFINITIONS
    from .monitoring import errstate
    from .registry import register_array_type

__version__ = "0.1.0"

LOSSES: dict[str, Loss] = {one.name: (Penalty if one.is_penalty else Loss)(one, module=__name__) for one in _DEFINITIONS}
"""Every shipped loss by its name. Tests, benchmarks, documentation and the command line are generated from this list."""

_losses: dict[str, Any] = {**LOSSES, **{f"{name}_gradient": loss.gradient for name, loss in LOSSES.items()}}
globals().update(_losses)


if _TYPE_CHECKING:
    from .gradcheck import GradientCheck, check_gradient

_SUBPACKAGES = ("objectives", "torch")
_FROM_GRADCHECK = ("GradientCheck", "check_gradient")


def __getattr__(name: str) -> Any:
    """Subpackages that only some users need, imported on first access."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FROM_GRADCHECK:
        found = globals()[name] = getattr(importlib.import_module(f"{__name__}.gradcheck"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "LOSSES",
    "Definition",
    "DefinitionError",
    "Form",
    "GradientCheck",
    "Loss",
    "Penalty",
    "WeightedSum",
    "check_gradient",
    "errstate",
    "pointwise",
    "register_array_type",
    "rowwise",
    "weighted_sum",
    *_losses,
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
