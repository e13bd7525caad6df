"""The rules that a definition must follow, and the definition rebuilt for one working precision.

A definition is plain Python, so its literals would decide the precision: in numba ``0.5 * x`` is float64 whatever ``x`` is. Every
compiler therefore works on a copy of the function whose float constants are numbers of the working precision and whose names
(``exp``, ``sign``, ``max`` …) are the functions of :mod:`jitloss.math`, which each compiler knows how to compile.
"""

import builtins
import dis
import inspect
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from . import math as maths

__all__ = ["NUMBERS", "DefinitionError", "argument_names", "bind", "check", "check_results", "frozen", "plain"]

Function = Callable[..., Any]


class DefinitionError(ValueError):
    """The definition of a loss breaks a rule; the message names the rule, the line and what to write instead."""


def check(function: Function, owner: str) -> None:
    """Reject a function that is more than plain maths on scalars: no loops, no arrays, no integer literals, only known names."""
    _check(plain(function), owner, (), set())


def _check(function: FunctionType, owner: str, callers: tuple[FunctionType, ...], seen: set[FunctionType]) -> None:
    """Check a function, then the helpers that it calls."""
    seen.add(function)
    if function.__code__.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        raise DefinitionError(
            f"{owner}, line {function.__code__.co_firstlineno}: no *args or **kwargs: a definition names each number that it is given"
        )
    if _looks_wrong(function):
        _check_code(function, owner)
    for helper in filter(_is_helper, _names(function, owner).values()):
        own = plain(helper)
        if own in (function, *callers):
            where = f"{owner}{_line(function.__code__, own.__name__)}"
            raise DefinitionError(f"{where}: no recursion: {own.__name__} calls itself, and a definition is compiled into a loop")
        if own not in seen:
            _defaults(own, owner)
            _check(own, f"{owner}, in {own.__name__}", (*callers, function), seen)


def frozen(function: Function, _done: dict[FunctionType, FunctionType] | None = None) -> Function:
    """A copy of a checked function whose global names are bound to their present values, as are those of the helpers that it calls.

    Kernels are compiled one by one, on first use: a global that changed in between would affect some of them and not others.
    """
    done = {} if _done is None else _done
    own = plain(function)
    if own not in done:
        code = own.__code__
        found = _names(own, code.co_name)
        values = {name: frozen(value, done) if _is_helper(value) else value for name, value in found.items()}
        cells = tuple(CellType(values[name]) for name in code.co_freevars)
        scope = {name: values[name] for name in code.co_names}
        copy = FunctionType(code, scope, own.__name__, own.__defaults__, cells)
        copy.__kwdefaults__ = None if own.__kwdefaults__ is None else dict(own.__kwdefaults__)
        copy.__module__, copy.__qualname__ = own.__module__, own.__qualname__
        copy.__doc__, copy.__annotations__ = own.__doc__, own.__annotations__
        done[own] = copy
    return done[own]


def _as_it_is(function: Function) -> Function:
    return function


def bind(
    function: Function,
    number: Callable[[float], Any],
    wrap: Callable[[Function], Function] = _as_it_is,
    _done: dict[Function, Function] | None = None,
    *,
    _is_called: bool = False,
) -> Function:
    """Rebuild a checked function with its float constants as ``number(constant)`` and its names resolved.

    ``wrap`` is what a compiler applies to each function: to this one and to the helpers that it calls. The copy keeps no trace of
    where it was written except its line structure, so that a compiler's disk cache recognises it in another process, in a
    notebook and after the file has moved, and notices when it, or a helper that it calls, is edited.
    """
    done = {} if _done is None else _done
    own = plain(function)
    if own not in done:

        def precise(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(precise, value))
            if type(value) is not float:
                return value
            with np.errstate(over="ignore"):  # what overflows float32 becomes infinite
                return number(value)

        code = own.__code__
        code = code.replace(
            co_consts=tuple(map(precise, _without_docstring(code))),
            co_filename="<definition>",
            co_firstlineno=1,
            co_qualname=code.co_name,
            co_argcount=code.co_argcount + code.co_kwonlyargcount,  # numba does not support keyword-only arguments
            co_kwonlyargcount=0,
        )
        values = {
            name: bind(value, number, wrap, done, _is_called=True) if _is_helper(value) else precise(_as_float(value))
            for name, value in _names(own, code.co_name).items()
        }
        cells = tuple(CellType(values[name]) for name in code.co_freevars)
        scope = {"__name__": __name__, **{name: values[name] for name in code.co_names if name in values}}
        defaults = precise(tuple(map(_as_float, _defaults(own)))) if _is_called else None
        done[own] = wrap(FunctionType(code, scope, code.co_name, defaults, cells))
    return done[own]


def plain(function: Any) -> FunctionType:
    """A function without numba's wrapper."""
    own: FunctionType = getattr(function, "py_func", function)
    return own


def argument_names(function: Any) -> tuple[str, ...]:
    """The names of a function's arguments, keyword-only ones last."""
    code = plain(function).__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _defaults(function: FunctionType, owner: str = "") -> tuple[Any, ...]:
    """The defaults of a helper's last arguments; in the rebuilt function keyword-only arguments follow the others."""
    code, names = function.__code__, argument_names(function)
    given = function.__defaults__ or ()
    values = {**dict(zip(names[code.co_argcount - len(given) :], given, strict=False)), **(function.__kwdefaults__ or {})}
    last = names[len(names) - len(values) :]
    if not values.keys() <= set(last):
        name = next(name for name in last if name not in values)
        raise DefinitionError(f"{owner}, in {code.co_name}: the argument {name!r} has no default but stands behind one that has")
    for name, value in values.items():
        _known(name, value, f"{owner}, in {code.co_name}")
    return tuple(values[name] for name in last)


def _without_docstring(code: CodeType) -> tuple[Any, ...]:
    """The constants with the docstring taken out: editing a docstring recompiles nothing."""
    return tuple(None if index == 0 and isinstance(value, str) else value for index, value in enumerate(code.co_consts))


def _is_helper(value: Any) -> bool:
    return isinstance(plain(value), FunctionType) and value not in maths.FUNCTIONS.values()


NUMBERS = (int, float, np.integer, np.floating)
"""The types that a number may have."""


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, NUMBERS) and not isinstance(value, bool) else value


def _fits(value: Any) -> bool:
    try:
        _as_float(value)
    except OverflowError:
        return False
    return True


def _names(function: FunctionType, owner: str) -> dict[str, Any]:
    """What the global names and closed-over names of a function stand for."""
    code = function.__code__
    scope: dict[str, Any] = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    found = {}
    for name in (*code.co_names, *code.co_freevars):  # attributes have been rejected
        try:
            found[name] = _resolve(name, scope.get(name), function.__globals__, owner)
        except DefinitionError:
            found[name] = _resolve(name, scope.get(name), function.__globals__, f"{owner}{_line(code, name)}")
    return found


def _line(code: CodeType, name: str) -> str:
    """Where a name is first used, for messages."""
    lines = (step.positions.lineno for step in dis.get_instructions(code) if step.argval == name and step.positions)
    line = next(lines, None)
    return f", line {line}" if line else ""


def _resolve(name: str, cell: CellType | None, scope: dict[str, Any], owner: str) -> Any:
    if cell is not None:
        try:
            return _known(name, cell.cell_contents, owner)
        except ValueError as error:
            if isinstance(error, DefinitionError):
                raise
            raise DefinitionError(f"{owner}: the name {name!r} is not defined yet: define it before the loss") from None
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
    if isinstance(plain(value), FunctionType) or value is None or (isinstance(value, NUMBERS) and _fits(value)):
        return value
    if isinstance(value, ModuleType):
        raise DefinitionError(
            f"{owner}: reaches into the module {name!r}. A definition uses plain names: write exp(x), not {name}.exp(x), and import "
            f"numbers by their names, from math import pi; the functions known are {', '.join(maths.FUNCTIONS)}"
        )
    raise DefinitionError(
        f"{owner}: the name {name!r} stands for {_article(value)}. A definition may name its own arguments, numbers, other plain "
        f"functions, and the functions of jitloss.math: {', '.join(maths.FUNCTIONS)}"
    )


def _article(value: Any) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


_LOOPS = "no loops: a definition says what happens to one element or one row, the compiler makes the loops"
_ATTRIBUTES = "no attributes: a definition is given single numbers"
_ARRAYS = "no arrays, lists or dicts: a definition is given single numbers and returns single numbers"
_PURE = "no variables from outside are written: a definition is a pure function of its arguments"
_WALRUS = "no := inside of an expression, which numba cannot compile: assign the name on a line of its own"
_NONE = (
    "no None for a number: a name stands for a number, and a function returns one, on every branch; only a parameter may be None"
)
_ERRORS = "no exceptions: a definition raises and catches nothing, a compiled kernel gives NaN"
_GENERATORS = "no generators and coroutines: a definition returns its numbers"

_REFUSED = {
    "FOR_ITER": _LOOPS,
    "JUMP_BACKWARD": _LOOPS,
    "POP_JUMP_BACKWARD": _LOOPS,
    "IMPORT_": "no imports inside: import at the top of the file",
    "LOAD_ATTR": _ATTRIBUTES,
    "LOAD_METHOD": _ATTRIBUTES,
    "STORE_ATTR": _ATTRIBUTES,
    "STORE_GLOBAL": _PURE,
    "STORE_DEREF": _PURE,
    "STORE_SUBSCR": _ARRAYS,
    "BUILD_LIST": _ARRAYS,
    "BUILD_MAP": _ARRAYS,
    "BUILD_SET": _ARRAYS,
    "BUILD_CONST_KEY_MAP": _ARRAYS,
    "UNPACK_EX": _ARRAYS,
    "BUILD_STRING": "no strings: a definition works on numbers",
    "FORMAT_": "no strings: a definition works on numbers",
    "DELETE_": "no del: a definition's names live for one element",
    "MAKE_FUNCTION": "no nested functions: write them next to the definition and call them",
    "LOAD_ASSERTION_ERROR": _ERRORS,
    "RAISE_VARARGS": _ERRORS,
    "PUSH_EXC_INFO": _ERRORS,
    "BEFORE_WITH": "no with: a definition is plain maths, and opens nothing",
    "YIELD_VALUE": _GENERATORS,
    "RETURN_GENERATOR": _GENERATORS,
}
"""The instructions that no definition may contain, by the beginning of their names, and the rule that each would break."""


_SUSPICIOUS = {code for name, code in dis.opmap.items() if name.startswith(tuple(_REFUSED)) or name in ("LOAD_SMALL_INT", "COPY")}
"""Instructions that may break a rule."""


_LOADS = tuple(dis.opmap[name] for name in ("LOAD_CONST", "RETURN_CONST") if name in dis.opmap)


def _looks_wrong(function: FunctionType) -> bool:
    """Whether a full check can find anything: whatever is rejected leaves a trace in the bytecode or among the constants."""
    code = function.__code__
    place = code.co_consts.index(None) if None in code.co_consts else -1
    if place > 255 or (place >= 0 and any(bytes((load, place)) in code.co_code for load in _LOADS)):
        return True
    constants = (one for one in code.co_consts if one is not None and one is not function.__doc__)
    return any(type(one) not in (float, bool) for one in constants) or not _SUSPICIOUS.isdisjoint(code.co_code[::2])


def _check_code(function: FunctionType, owner: str) -> None:
    code = function.__code__
    steps, places = list(dis.get_instructions(code)), []
    line, before = code.co_firstlineno, None
    for step in steps:
        line = (step.positions and step.positions.lineno) or line
        places.append(f"{owner}, line {line}")
        for refused, rule in _REFUSED.items():
            if step.opname.startswith(refused):
                if rule is _ATTRIBUTES and before is not None:
                    _known(before, function.__globals__.get(before), places[-1])  # modules have a message of their own
                raise DefinitionError(f"{places[-1]}: {rule}")
        before = step.argval if step.opname == "LOAD_GLOBAL" else None
    names = [step.opname for step in steps]
    for index, place in enumerate(places):
        if _is_walrus(names[index : index + 3]):
            raise DefinitionError(f"{place}: {_WALRUS}")
        if _is_none(steps[index : index + 2]):
            raise DefinitionError(f"{place}: {_NONE}")
    for step, following, place in zip(steps, [*steps[1:], None], places, strict=True):
        if step.opname == "RETURN_CONST" or (
            step.opname.startswith("LOAD_") and ("CONST" in step.opname or "INT" in step.opname)
        ):
            _check_constant(step.argval, following, place)


def _is_none(steps: list[dis.Instruction]) -> bool:
    """Whether None is assigned or returned."""
    load, following = steps[0], steps[-1].opname
    if load.opname == "RETURN_CONST":
        return load.argval is None
    kept = following.startswith("STORE_FAST") or following in ("RETURN_VALUE", "JUMP_FORWARD")
    return load.opname == "LOAD_CONST" and load.argval is None and kept


def _is_walrus(names: list[str]) -> bool:
    """Whether a number that is assigned to a name is also used in the same expression; ``a = b = x`` only assigns it twice."""
    if names[0] != "COPY" or not names[1].startswith("STORE_FAST"):
        return False
    besides = names[1] == "STORE_FAST" and names[2].startswith(("STORE_FAST", "COPY", "UNPACK_SEQUENCE", "POP_TOP"))
    return names[1] != "STORE_FAST_STORE_FAST" and not besides


_RETURNS = {code for name, code in dis.opmap.items() if name.startswith("RETURN_") and name != "RETURN_GENERATOR"}


def check_results(function: Function, count: int, owner: str) -> None:
    """Reject a function with a branch that returns a different number of results, as far as its bytecode tells."""
    if sum(code in _RETURNS for code in plain(function).__code__.co_code[::2]) < 2:  # one branch, which has been run
        return
    before = None
    for step in dis.get_instructions(plain(function)):
        found = _returned(step, before)
        if found not in (None, count):
            line = step.positions.lineno if step.positions else "?"
            raise DefinitionError(
                f"{owner}, line {line}: always the same number of results: here it returns {found}, elsewhere {count}"
            )
        before = step


def _returned(step: dis.Instruction, before: dis.Instruction | None) -> int | None:
    """How many results an instruction returns; None where it returns nothing, or something made elsewhere."""
    if step.opname == "RETURN_CONST":
        constant = step.argval
    elif step.opname == "RETURN_VALUE" and before is not None and before.opname == "LOAD_CONST":
        constant = before.argval
    else:
        if step.opname != "RETURN_VALUE" or before is None:
            return None
        if before.opname == "BUILD_TUPLE":
            return before.arg
        alone = before.opname.startswith(("UNARY_", "COMPARE_OP")) or (before.opname == "BINARY_OP" and before.argrepr != "+")
        return 1 if alone else None
    return len(constant) if isinstance(constant, tuple) else 0 if constant is None else 1


def _check_constant(value: Any, following: dis.Instruction | None, where: str) -> None:
    """Integer literals would make numba compute in float64: only an index or an exponent may be one."""
    after = "" if following is None else following.opname
    power = after == "BINARY_OP" and following is not None and following.argrepr in ("**", "**=", "[]")
    for one in value if isinstance(value, tuple) else (value,):
        if one is None or isinstance(one, (float, bool)) or after == "CALL_KW":  # it loads argument names
            continue
        if not isinstance(one, int):
            raise DefinitionError(f"{where}: the constant {one!r} is {_article(one)}: a definition works on real numbers")
        if power and one < 0 and following is not None and following.argrepr != "[]":
            raise DefinitionError(
                f"{where}: the power {one}: write it as a float, {one}.0, or divide; an integer one may not be negative"
            )
        if not power and after != "BINARY_SUBSCR":
            raise DefinitionError(
                f"{where}: integer literal {one}. An integer times a float32 is computed in float64: write it as a float, {one}.0"
            )
