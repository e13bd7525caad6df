"""Kernels in parts, with plans as constants: how a kernel's bytecode becomes numba's IR, in one pass of ours.

Numba would type, compile and link each part separately, which makes first calls much longer, and it cannot read constants from a
plan. Its own first passes also look for much that no kernel contains: ``with``, ``print``, dictionaries, powers.
"""

from dataclasses import is_dataclass
from typing import Any

from numba.core import ir
from numba.core.bytecode import ByteCode, FunctionIdentity
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.interpreter import Interpreter
from numba.core.ir_utils import (
    add_offset_to_labels,
    build_definitions,
    find_const,
    get_definition,
    guard,
    replace_vars,
    simplify_CFG,
)

from ..fingerprint import without_filename

__all__ = ["Translate", "part"]


def part(function: Any) -> Any:
    """Mark a part of a kernel: its statements replace its calls, whose arguments are positional."""
    function.is_part = True
    return without_filename(function)


class _Interpreter(Interpreter):  # type: ignore[misc]
    def post_process(self, peepholes: Any, func_ir: Any) -> Any:
        """Leave the IR as it is."""
        return func_ir


def _translated(identity: Any) -> Any:
    return _Interpreter(identity).interpret(ByteCode(identity))


@register_pass(mutates_CFG=True, analysis_only=False)
class Translate(FunctionPass):  # type: ignore[misc]
    """Makes numba's IR from a kernel's bytecode.

    Calls of parts are replaced by the statements of the parts, and attributes of a plan by their values. A plan is an instance of
    a dataclass that a kernel holds in its closure.
    """

    _name = "translate"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.func_ir = code = _translated(state.func_id)
        state.nargs = code.arg_count
        waiting = list(code.blocks.values())
        while waiting:
            block = waiting.pop()
            for place, statement in enumerate(block.body):
                if (called := _called(code, statement)) is not None:
                    waiting += _join(code, block, place, called)
                    break
        code.blocks = simplify_CFG(code.blocks)
        _name_constants(code)
        return True


def _held(code: Any, variable: Any) -> Any:
    """The object that a variable stands for, if that is a part or a plan."""
    definition = guard(get_definition, code, variable)
    held = definition.value if isinstance(definition, ir.FreeVar | ir.Global) else None
    return held if getattr(held, "is_part", False) or is_dataclass(held) else None


def _called(code: Any, statement: Any) -> Any:
    """The part that a statement calls."""
    if isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Expr) and statement.value.op == "call":
        held = _held(code, statement.value.func)
        return held if getattr(held, "is_part", False) else None
    return None


def _join(code: Any, block: Any, place: int, function: Any) -> list[Any]:
    """Replace a part's call by its statements; returns the new blocks, the last of them with what follows the call."""
    call, identity = block.body[place], FunctionIdentity.from_function(function)
    blocks = add_offset_to_labels(_translated(identity).blocks, max(code.blocks) + 1)
    start, after = min(blocks), max(blocks) + 1
    names = list(blocks[start].scope.localvars._con)
    replace_vars(blocks, {name: block.scope.redefine(f"{function.__name__}.{name}", call.loc) for name in names})
    for one in blocks.values():
        one.scope = block.scope
        for statement in one.body:
            if isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Arg):
                statement.value = call.value.args[statement.value.index]
        if isinstance(one.body[-1], ir.Return):
            one.body[-1:] = [ir.Assign(one.body[-1].value, call.target, call.loc), ir.Jump(after, call.loc)]
    blocks[after] = ir.Block(block.scope, call.loc)
    blocks[after].body = block.body[place + 1 :]
    block.body[place:] = [ir.Jump(start, call.loc)]
    code.blocks.update(blocks)
    code._definitions = build_definitions(code.blocks)
    return list(blocks.values())


def _name_constants(code: Any) -> None:
    """Replace attributes of plans and subscripted constants by their values; plans and parts themselves have no numba type."""
    for block in code.blocks.values():
        for one in block.find_insts(ir.Assign):
            if isinstance(one.value, ir.Expr) and (named := _named(code, one.value)) is not None:
                one.value = named
                code._definitions[one.target.name] = [named]
    for block in code.blocks.values():
        block.body = [one for one in block.body if not (isinstance(one, ir.Assign) and _held(code, one.target) is not None)]


def _named(code: Any, value: Any) -> Any:
    """The constant value of an expression, if it has one."""
    if value.op == "getattr" and is_dataclass(held := _held(code, value.value)):
        return ir.Global(value.attr, getattr(held, value.attr), value.loc)
    if value.op == "getitem" and (index := guard(find_const, code, value.index)) is not None:
        return ir.Expr.static_getitem(value.value, index, value.index, value.loc)
    return None
