"""Which of its arguments a slope uses, read from numba's IR of its code."""

from typing import Any

from numba import types
from numba.core import ir
from numba.core.analysis import dead_branch_prune, rewrite_semantic_constants
from numba.core.compiler import run_frontend

from ..definition import Definition

__all__ = ["only_term"]


def only_term(definition: Definition, statics: str) -> int | None:
    """The only one of an element's terms that its slopes need, besides numbers of the row and targets; None where they need more.

    ``statics`` say which options are off: code that runs only when they are on is not examined.
    """
    part = definition.parts.get("slope")
    if definition.sum_of or part is None or "terms" not in part.arguments:
        return None
    off = {one.name for one, letter in zip(definition.parameters, statics, strict=False) if letter == "0"}
    try:
        used = _used(part.function, [types.none if name in off else types.float64 for name in part.arguments])
    except Exception:  # numba can read more than definitions may contain, but not everything
        return None
    terms = {one for one in used if isinstance(one, int)}
    if any(one.name in used for one in definition.differentiable):
        return None
    if definition.parts["terms"].results == 1:
        return 0
    return terms.pop() if len(terms) == 1 and "terms" not in used else None


def _used(function: Any, kinds: list[Any]) -> set[Any]:
    """The arguments that a function uses, by name, and those of the tuple ``terms`` by index."""
    code = run_frontend(function)
    rewrite_semantic_constants(code, kinds)
    dead_branch_prune(code, kinds)
    stands_for: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    used = set()
    for statement in (one for _, block in sorted(code.blocks.items()) for one in block.body):
        if isinstance(statement, ir.Del):
            continue
        if isinstance(statement, ir.Assign):
            if isinstance(statement.value, ir.Const):
                constants[statement.target.name] = statement.value.value
            if (what := _alias(statement.value, stands_for, constants)) is not None:
                before = stands_for.setdefault(statement.target.name, what)
                used |= {before, what} if before != what else set()  # one name with two values, as from two branches
                continue
        used |= {stands_for[one.name] for one in statement.list_vars() if one.name in stands_for}
    return used


def _alias(value: Any, stands_for: dict[str, Any], constants: dict[str, Any]) -> Any:
    """What a value is an alias of: an argument, or one of the terms."""
    if isinstance(value, ir.Arg):
        return value.name
    if isinstance(value, ir.Var):
        return stands_for.get(value.name)
    operation = getattr(value, "op", None)
    if operation not in ("exhaust_iter", "static_getitem", "getitem") or stands_for.get(value.value.name) != "terms":
        return None
    if operation == "exhaust_iter":
        return "terms"
    index = value.index if operation == "static_getitem" else constants.get(value.index.name)
    return index if type(index) is int and index >= 0 else None
