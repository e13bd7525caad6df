"""The layers of the package ("rooms") and the imports between them, including those inside functions."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jitloss

PACKAGE = Path(jitloss.__file__).parent
PAGES = Path(__file__).parents[1] / "docs"

ROOMS = [
    {"buffers", "contexts", "keys", "math", "order", "pause", "results", "stores"},
    {"binding", "proportional"},
    {"branches", "spaces"},
    {"definition"},
    {"losses", "algebra", "monitoring"},
    {"compilers", "arrays"},
    {"registry", "running"},
    {"options", "inputs", "outputs"},
    {"call", "launches"},
    {"plans", "documentation", "device", "jitted", "parts"},
    {"quick", "large", "replay"},
    {"form"},
    {"loss"},
    {"composition", "gradcheck", "objectives"},
    {""},  # the public face, jitloss/__init__.py
    {"torch"},
    {"bench"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""Rooms, each above those that it may import from. A room is a module or a package; within a package imports go in no circle."""

RANKS = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

OUTER_ROOMS = {"arrays", "bench", "commands", "cli"}
"""Where an optional framework may be imported, inside a function."""

TORCH = ("arrays.torch", "torch", "torch.functional", "torch.modules", "torch.definitions")
ADAPTERS = {**{module: {"torch"} for module in TORCH}, "arrays.jax": {"jax"}, "arrays.dask": {"dask", "cloudpickle"}}
"""Modules that are imported only when their framework's arrays arrive or when the user names them, so they import it at the top."""


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text()) for name, file in FILES.items()}

each_module = pytest.mark.parametrize("module", [pytest.param(name, id=name or "jitloss") for name in FILES])


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str, node: ast.AST | None = None) -> Iterator[tuple[str, str]]:
    """What a module imports, anywhere in its text: ``("own", module)`` or ``("foreign", package)``."""
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for one in ast.walk(TREES[module] if node is None else node):
        if isinstance(one, ast.Import):
            for alias in one.names:
                yield _absolute(alias.name)
        elif isinstance(one, ast.ImportFrom) and one.level == 0:
            for alias in one.names:
                yield _absolute(f"{one.module}.{alias.name}")
        elif isinstance(one, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - one.level + 1] if package else []
            for alias in one.names:
                yield "own", _module(".".join([*above, *filter(None, [one.module]), alias.name]))


def _absolute(name: str) -> tuple[str, str]:
    first, _, rest = name.partition(".")
    return ("own", _module(rest)) if first == "jitloss" else ("foreign", first)


def _module(name: str) -> str:
    """The module that a dotted name refers to, or is defined in."""
    while name not in FILES:
        name = name.rpartition(".")[0]
    return name


def own_imports(module: str) -> set[str]:
    return {name for kind, name in imports(module) if kind == "own"} - {module}


def foreign_imports(module: str, node: ast.AST | None = None) -> set[str]:
    return {name for kind, name in imports(module, node) if kind == "foreign" and name not in sys.stdlib_module_names}


def test_every_module_has_a_room():
    assert {room_of(module) for module in FILES} == set(RANKS), "the table of rooms and the folder differ"


@each_module
def test_arrows_point_down(module):
    turned = [other for other in own_imports(module) if RANKS[room_of(other)] > RANKS[room_of(module)]]
    beside = [
        other
        for other in own_imports(module)
        if RANKS[room_of(other)] == RANKS[room_of(module)] and room_of(other) != room_of(module)
    ]
    assert not turned, f"{module} imports from above: {turned}"
    assert not beside, f"{module} imports from a room beside its own: {beside}"


def test_no_imports_in_a_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a circle: {' -> '.join([*path, module])}"
        if module not in done:
            for other in own_imports(module):
                if not module.startswith(f"{other}."):  # a package's __init__ imports its modules
                    visit(other, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


def test_the_page_shows_rooms_in_this_order():
    lines = (PAGES / "how-it-works.md").read_text(encoding="utf-8").partition("| room |")[2].partition("\n\n")[0].splitlines()
    rows = {name: row for row, line in enumerate(lines) for name in re.findall(r"`(\w+)/?`", line.split("|")[1])}
    assert set(rows) == set(RANKS) - {"", "__main__"}
    for module in FILES:
        for room in {room_of(other) for other in own_imports(module)} & set(rows):
            assert room_of(module) not in rows or rows[room] <= rows[room_of(module)], f"{module} imports from {room}, below it"


def test_the_arrows_are_read():
    """A guard against a reader that finds no imports, with which the other tests would pass."""
    assert own_imports("losses.binary") == {"definition", "math"}
    assert {"running", "monitoring", "inputs", "outputs"} <= own_imports("call")
    assert {"compilers.cpu", "stores"} == own_imports("running")
    assert {"compilers.cpu.table", "compilers.elements", "compilers.variant"} <= own_imports("compilers.cpu.pointwise")
    assert foreign_imports("compilers.cpu.small") == {"numpy", "numba", "llvmlite"}
    assert "loss" in own_imports("")


# Foreign packages -------------------------------------------------------------------------------------------------------------


@each_module
def test_foreign_packages(module):
    """NumPy anywhere, numba where code is compiled or measured, anything else only in the outer rooms and only when it is used."""
    room, allowed = room_of(module), {"numpy"}
    allowed |= ADAPTERS.get(module, set())
    if room in {"compilers", "bench", "commands", "jitted"}:
        allowed |= {"numba", "llvmlite"}
    if module == "contexts" or module.startswith("compilers.cuda"):
        allowed |= {"cuda"}  # NVIDIA's bindings, which come with numba-cuda
    used = foreign_imports(module)
    inside = set().union(*(foreign_imports(module, function) for function in _functions(TREES[module])))
    at_the_top = set().union(*(foreign_imports(module, one) for one in _statements(TREES[module])))
    assert used == inside | at_the_top
    assert at_the_top <= allowed, f"{module} imports {at_the_top - allowed} where it is itself imported"
    assert inside <= allowed or room in OUTER_ROOMS, f"{module} imports {inside - allowed}"


def _functions(tree: ast.AST) -> list[ast.AST]:
    return [one for one in ast.walk(tree) if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported, one by one."""
    for one in ast.iter_child_nodes(tree):
        if isinstance(one, (ast.Import, ast.ImportFrom)):
            yield one
        elif not isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _statements(one)


@each_module
def test_adapters_are_imported_when_their_arrays_arrive(module):
    """No module imports them at the top; the registry names them by a string."""
    at_the_top = {name for one in _statements(TREES[module]) for kind, name in imports(module, one) if kind == "own"}
    assert not at_the_top & set(ADAPTERS) or room_of(module) == "torch"


@each_module
def test_nothing_is_run_from_a_string_or_imported_by_one(module):
    calls = {one.func.id for one in ast.walk(TREES[module]) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
    names = calls | {
        one.func.attr for one in ast.walk(TREES[module]) if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)
    }
    assert not calls & {"exec", "eval", "compile"}
    assert room_of(module) in {*OUTER_ROOMS, ""} or not names & {"import_module", "__import__"}


# Losses -----------------------------------------------------------------------------------------------------------------------

each_family = pytest.mark.parametrize("module", [name for name in FILES if name.startswith("losses.")])


@each_family
def test_losses_import_nothing_but_definitions_and_maths(module):
    assert own_imports(module) <= {"definition", "math"}
    assert {name for kind, name in imports(module) if kind == "foreign"} <= {"dataclasses", "typing"}


LOOPS = (ast.For, ast.While, ast.AsyncFor, ast.comprehension, ast.Subscript, ast.Lambda, ast.Try, ast.With)


@each_family
def test_losses_have_no_loops_and_no_arrays(module):
    for function in _functions(TREES[module]):
        for statement in function.body:
            found = [type(one).__name__ for one in ast.walk(statement) if isinstance(one, LOOPS)]
            assert not found, f"{module}.{function.name}: {found}"


def test_each_loss_is_written_in_one_file():
    """A new loss is a page in a file of its family, and a name in the list."""
    written = [
        one.name
        for module in FILES
        if module.startswith("losses.")
        for one in TREES[module].body
        if isinstance(one, (ast.FunctionDef, ast.ClassDef)) and one.decorator_list
    ]
    assert sorted(written) == sorted(jitloss.LOSSES)
