"""The layouts of kernels: calls that use each of them, and results that must be bitwise identical in all."""

from typing import Any

import pytest

from cases import CASES, Case, draw
from jitloss.compilers import cpu

__all__ = ["PAIRS", "SHAPES", "axis_option", "each_case", "each_pair", "inputs_of", "layouts_of", "same_bits"]

SHAPES = {
    "flat": ((300,), -1),
    "blocks": ((40, 7), -1),
    "patched": ((40, 30), -1),
    "rows": ((3, 2000), -1),
    "lanes": ((3, 20, 30), 1),
    "long lanes": ((3, cpu.LONGEST_KEPT_LANES + 6, 30), 1),
}
"""Shapes and class axes of calls that take each layout of a kernel."""


def layouts_of(case: Case) -> tuple[str, ...]:
    patched = case.labels and "peak" in case.loss.definition.parts
    if not case.rowwise:
        return ("flat",)
    long = "terms" in case.loss.definition.parts["slope"].arguments
    return ("blocks", *(["patched"] if patched else []), "rows", "lanes", *(["long lanes"] if long else []))


PAIRS = [(case, layout) for case in CASES for layout in layouts_of(case)]

each_pair = pytest.mark.parametrize(("case", "layout"), PAIRS, ids=repr)
each_case = pytest.mark.parametrize("case", CASES, ids=repr)


def axis_option(case: Case, axis: int) -> dict[str, int]:
    return {"axis": axis} if case.rowwise else {}


def inputs_of(case: Case, layout: str, dtype: str) -> tuple[list[Any], dict[str, Any]]:
    shape, axis = SHAPES[layout]
    return draw(case, shape, dtype, axis=axis), axis_option(case, axis)


def same_bits(got: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return got.keys() == want.keys() and all(same_bits(got[name], want[name]) for name in want)
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()
