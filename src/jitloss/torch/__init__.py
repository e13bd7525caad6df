"""The losses under PyTorch's class and function names, with PyTorch's arguments and meaning."""

from . import functional, modules
from .functional import *  # noqa: F403
from .modules import *  # noqa: F403

__all__ = ["functional", "modules"]
__all__ += functional.__all__
__all__ += modules.__all__
