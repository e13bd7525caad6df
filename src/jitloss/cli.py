"""``jitloss``: the command line. Each command is a module of :mod:`jitloss.commands`; what all of them share is here.

Bad input gives one readable line on stderr and exit code 2. A signal that terminates the process gives one line too, and the exit
code is 128 plus its number, as in shells.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jitloss

from . import bench
from .commands import demo, evaluate, info, warmup
from .commands.common import CommandError, reason
from .commands.signals import Stopped, stoppable

__all__ = ["main"]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that begins with ``label``."""

    def __init__(self, *, label: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.label = label or self.prog

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.label}: {_line(message)}; see {self.prog} --help\n")


def _parser() -> Parser:
    parser = Parser(
        prog="jitloss", description="Loss functions for arrays: value and gradient in one compiled pass.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"jitloss {jitloss.__version__}")
    parser.set_defaults(run=lambda arguments: parser.print_help(), parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, text: str, add_arguments: Callable[[Any], None], command: Callable[..., Any]) -> None:
        own = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", allow_abbrev=False)
        add_arguments(own)
        own.set_defaults(run=command, parser=own)

    add("demo", demo.HELP, demo.add_arguments, demo.command)
    add("evaluate", evaluate.HELP, evaluate.add_arguments, evaluate.command)
    add("info", info.HELP, info.add_arguments, info.command)
    add("warmup", warmup.HELP, warmup.add_arguments, warmup.command)
    add("bench", "measure jitloss beside NumPy, PyTorch, JAX and a plain copy", bench.add_arguments, _bench)
    return parser


def _bench(arguments: argparse.Namespace) -> None:
    try:
        bench.command(arguments)
    except (ValueError, MemoryError) as error:
        raise CommandError(str(error)) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    label = "jitloss"
    try:
        with stoppable(), _forgiving(sys.stdout):
            arguments, unknown = _parser().parse_known_args(argv)
            if unknown:
                arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
            label = arguments.parser.label
            arguments.run(arguments)
            if sys.stdout is not None:  # None where it is closed
                sys.stdout.flush()
    except SystemExit as error:  # argparse has printed what there was to say
        return _code(error)
    except CommandError as error:
        return _fail(label, str(error), 2)
    except BrokenPipeError:  # the reader closed the pipe
        _close_output()
        return 141  # the exit code that a shell shows for SIGPIPE
    except OSError as error:
        _close_output()
        return _fail(label, reason(error) + (f": {error.filename!r}" if error.filename else ""), 2)
    except Stopped as stop:
        return _fail(label, "interrupted" if stop.number == signal.SIGINT else "terminated", 128 + stop.number)
    except KeyboardInterrupt:
        return _fail(label, "interrupted", 128 + signal.SIGINT)
    return 0


@contextlib.contextmanager
def _forgiving(stream: Any) -> Iterator[None]:
    """Replace characters that the encoding of a terminal or a pipe lacks, such as ×, by question marks, rather than lose a table."""
    errors = getattr(stream, "errors", None)
    if errors != "strict" or not hasattr(stream, "reconfigure"):
        yield
        return
    stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            stream.reconfigure(errors=errors)


def _code(error: SystemExit) -> int:
    return error.code if isinstance(error.code, int) else 0


def _line(text: str) -> str:
    return " ".join(text.split())


def _fail(label: str, text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{label}: {_line(text)}", file=sys.stderr)
    return code


def _close_output() -> None:
    """Close stdout here: Python would flush it at exit, and complain once more."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
