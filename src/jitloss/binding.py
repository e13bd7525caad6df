"""The rules that the text of a definition keeps, and the definition rebuilt for one working precision.

A definition is plain Python, so its text would decide the precision: in numba ``0.5 * x`` is float64 whatever ``x`` is. Every
compiler therefore works on a copy of the function whose float constants are numbers of the working precision and whose names
(``exp``, ``sign``, ``max`` …) are the functions of :mod:`jitloss.math`, which each compiler knows how to compile.
"""

import builtins
import dis
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from . import math as maths

__all__ = ["DefinitionError", "bind", "check"]

Function = Callable[..., Any]


class DefinitionError(ValueError):
    """The definition of a loss breaks a rule; the message names the rule, the line and what to write instead."""


def check(function: Function, owner: str) -> None:
    """Refuse a function that is more than plain maths on single numbers: no loops, no arrays, float literals, known names."""
    seen: set[Function] = set()
    waiting = [function]
    while waiting:
        one = _plain(waiting.pop())
        if one not in seen:
            seen.add(one)
            names = _names(one, owner)
            if _looks_wrong(one.__code__):
                _check_code(one.__code__, owner)
            waiting += [value for value in names.values() if _is_helper(value)]


def _as_it_is(function: Function) -> Function:
    return function


def bind(
    function: Function,
    number: Callable[[float], Any],
    wrap: Callable[[Function], Function] = _as_it_is,
    _done: dict[Function, Function] | None = None,
) -> Function:
    """Rebuild a checked function with its float constants as ``number(constant)`` and its names resolved.

    ``wrap`` is what a compiler does to each function, to this one and to the helpers that it calls.
    The copy carries nothing of where it was written but its own lines, so that a compiler's disk cache recognises it in another
    process, in a notebook and after the file has moved, and sees when it, or a helper that it calls, is edited.
    """
    done = {} if _done is None else _done
    plain = _plain(function)
    if plain not in done:

        def precise(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(precise, value))
            return number(value) if type(value) is float else value

        code = plain.__code__
        code = code.replace(
            co_consts=tuple(map(precise, _without_docstring(code))),
            co_filename="<definition>",
            co_firstlineno=1,
            co_qualname=code.co_name,
            co_argcount=code.co_argcount + code.co_kwonlyargcount,  # numba knows no keyword-only arguments
            co_kwonlyargcount=0,
        )
        values = {
            name: bind(value, number, wrap, done) if _is_helper(value) else precise(_as_float(value))
            for name, value in _names(plain, code.co_name).items()
        }
        cells = tuple(CellType(values[name]) for name in code.co_freevars)
        scope = {"__name__": __name__, **{name: values[name] for name in code.co_names if name in values}}
        done[plain] = wrap(FunctionType(code, scope, code.co_name, None, cells))
    return done[plain]


def _plain(function: Any) -> FunctionType:
    plain: FunctionType = getattr(function, "py_func", function)  # a function that numba has wrapped keeps its own here
    return plain


def _without_docstring(code: CodeType) -> tuple[Any, ...]:
    """The constants with the docstring taken out: editing a text compiles nothing."""
    return tuple(None if index == 0 and isinstance(value, str) else value for index, value in enumerate(code.co_consts))


def _is_helper(value: Any) -> bool:
    return isinstance(_plain(value), FunctionType) and value not in maths.FUNCTIONS.values()


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _names(function: FunctionType, owner: str) -> dict[str, Any]:
    """What the global names and closed-over names of a function stand for."""
    code = function.__code__
    found = {name: _resolve(name, function.__globals__, owner) for name in code.co_names}  # attributes are refused
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        found[name] = _known(name, cell.cell_contents, owner)
    return found


def _resolve(name: str, scope: dict[str, Any], owner: str) -> Any:
    if name in scope:
        return _known(name, scope[name], owner)
    if name in maths.FUNCTIONS:
        return maths.FUNCTIONS[name]
    if hasattr(builtins, name):
        return _known(name, getattr(builtins, name), owner)
    raise DefinitionError(
        f"{owner}: unknown name {name!r}. A definition may name its own arguments, numbers, other plain functions, and "
        f"the functions of jitloss.math: {', '.join(maths.FUNCTIONS)}"
    )


def _known(name: str, value: Any, owner: str) -> Any:
    try:
        known = maths.EQUIVALENT.get(value)
    except TypeError:  # not hashable: a list, an array …
        known = None
    if known is not None:
        return known
    if isinstance(_plain(value), FunctionType) or value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, ModuleType):
        raise DefinitionError(
            f"{owner}: calls into the module {name!r}. A definition calls functions by their plain names: "
            f"write exp(x), not {name}.exp(x); known are {', '.join(maths.FUNCTIONS)}"
        )
    raise DefinitionError(
        f"{owner}: the name {name!r} stands for {_article(value)}. A definition may name its own arguments, numbers, other plain "
        f"functions, and the functions of jitloss.math: {', '.join(maths.FUNCTIONS)}"
    )


def _article(value: Any) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


_REFUSED = {
    "FOR_ITER": "no loops: it says what happens to one element or one row, the compiler makes the loops",
    "JUMP_BACKWARD": "no loops: it says what happens to one element or one row, the compiler makes the loops",
    "IMPORT_NAME": "no imports inside: import at the top of the file",
    "LOAD_ATTR": "no attributes: it is given single numbers",
    "LOAD_METHOD": "no attributes: it is given single numbers",
    "STORE_ATTR": "no attributes: it is given single numbers",
    "STORE_GLOBAL": "no globals are written: it is a pure function of its arguments",
    "STORE_SUBSCR": "no arrays: it is given single numbers and returns single numbers",
    "MAKE_FUNCTION": "no functions inside: write them beside it and call them",
    "RAISE_VARARGS": "nothing is raised: a compiled kernel reports NaN",
    "YIELD_VALUE": "no generators: it returns its numbers",
}


_SUSPICIOUS = {code for name, code in dis.opmap.items() if name.startswith(tuple(_REFUSED)) or name == "LOAD_SMALL_INT"}


def _looks_wrong(code: CodeType) -> bool:
    """Whether a closer look can find anything: what is refused leaves a mark in the bytes or among the constants."""
    whole = any(isinstance(one, (int, tuple)) and not isinstance(one, bool) for one in code.co_consts)
    return whole or not _SUSPICIOUS.isdisjoint(code.co_code[::2])


def _check_code(code: CodeType, owner: str) -> None:
    steps = list(dis.get_instructions(code))
    line = code.co_firstlineno
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        line = step.starts_line if isinstance(step.starts_line, int) and step.starts_line > 1 else line
        for refused, rule in _REFUSED.items():
            if step.opname.startswith(refused):
                raise DefinitionError(f"{owner}, line {line}: a definition has {rule}")
        if step.opname.startswith("LOAD_") and ("CONST" in step.opname or "INT" in step.opname):
            _check_constant(step.argval, following, f"{owner}, line {line}")


def _check_constant(value: Any, following: dis.Instruction | None, where: str) -> None:
    """Integer literals would make numba compute in float64: only an index and a whole power may be one."""
    for one in value if isinstance(value, tuple) else (value,):
        if not isinstance(one, int) or isinstance(one, bool):
            continue
        index = following is not None and (
            following.opname == "BINARY_SUBSCR" or (following.opname == "BINARY_OP" and following.argrepr in ("**", "[]"))
        )
        if not index:
            raise DefinitionError(
                f"{where}: integer literal {one}. An integer times a float32 is computed in float64: write it as a float, {one}.0"
            )
