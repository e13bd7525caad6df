"""Kernels in parts, whose plans are constants: what a kernel's code means before numba gives types to it.

Numba would type, compile and link each part by itself, which makes first calls longer by a fifth, and takes nothing from a plan.
"""

from dataclasses import is_dataclass
from typing import Any

from numba.core import ir
from numba.core.bytecode import ByteCode, FunctionIdentity
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.interpreter import Interpreter
from numba.core.ir_utils import add_offset_to_labels, build_definitions, get_definition, guard, replace_vars, simplify_CFG

from ..fingerprint import placeless

__all__ = ["JoinParts", "part"]


def part(function: Any) -> Any:
    """A part of a kernel: its statements stand where the kernel calls it, by position."""
    function.is_part = True
    return placeless(function)


@register_pass(mutates_CFG=True, analysis_only=False)
class JoinParts(FunctionPass):  # type: ignore[misc]
    """Puts the statements of parts in the places of their calls, and the values of a plan's attributes in the places of these.

    A plan is an instance of a dataclass that a kernel holds in its closure.
    """

    _name = "join_parts"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        code = state.func_ir
        waiting = list(code.blocks.values())
        while waiting:
            block = waiting.pop()
            for place, statement in enumerate(block.body):
                if (called := _called(code, statement)) is not None:
                    waiting += _join(code, block, place, called)
                    break
        code.blocks = simplify_CFG(code.blocks)
        _fold(code)
        return True


def _held(code: Any, variable: Any) -> Any:
    """What a variable stands for, where that is a part or a plan."""
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
    """Put a part's statements in the place of its call; the new blocks, the last of them with what follows the call."""
    call, identity = block.body[place], FunctionIdentity.from_function(function)
    blocks = add_offset_to_labels(Interpreter(identity).interpret(ByteCode(identity)).blocks, max(code.blocks) + 1)
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


def _fold(code: Any) -> None:
    """Name the values of plans' attributes; neither plans nor parts themselves have a type."""
    for block in code.blocks.values():
        for one in block.find_insts(ir.Assign):
            if (
                isinstance(one.value, ir.Expr)
                and one.value.op == "getattr"
                and is_dataclass(held := _held(code, one.value.value))
            ):
                one.value = ir.Global(one.value.attr, getattr(held, one.value.attr), one.loc)
                code._definitions[one.target.name] = [one.value]
    for block in code.blocks.values():
        block.body = [one for one in block.body if not (isinstance(one, ir.Assign) and _held(code, one.target) is not None)]
