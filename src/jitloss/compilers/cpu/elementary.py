"""Registers the functions of :mod:`jitloss.math` with numba's CPU compiler, each as straight-line LLVM code."""

from numba import extending
from numba.core.typing.templates import signature

from ..elementary import FORMULAS, teach

__all__: list[str] = []

for _function, _formula in FORMULAS.items():
    teach(_function, _formula, extending, signature)
