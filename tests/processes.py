"""Code in separate processes, with a time limit and a log of what is compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from numba.core import event

__all__ = ["cache_files", "call", "finish", "python", "start", "watch"]

HERE = str(Path(__file__).parent)


def start(*arguments: str, cwd: Path | None = None, **environment: str | None) -> subprocess.Popen[str]:
    """A Python whose path holds this folder; an ``environment`` of None unsets a variable."""
    path = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": path, **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=variables, text=True, **streams)


def finish(process: subprocess.Popen[str], stdin: str = "", timeout: float = 120.0) -> str:
    """The output of a process; if it fails or hangs, an error that shows everything it wrote."""
    try:
        out, err = process.communicate(stdin, timeout)
        ended = f"ended with {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        ended = f"did not end within {timeout} s"
    assert ended == "ended with 0", f"a process {ended}\n--- stdout\n{out}\n--- stderr\n{err}"
    return out


def python(*arguments: str, stdin: str = "", timeout: float = 120.0, cwd: Path | None = None, **environment: str | None) -> str:
    """Run Python with arguments of its command line, to the end."""
    return finish(start(*arguments, cwd=cwd, **environment), stdin, timeout)


def call(function: Any, *arguments: Any, timeout: float = 120.0, **environment: str | None) -> Any:
    """Call a function of a test module in a fresh process; what it returns comes back as JSON."""
    code = (
        f"import json, sys, {function.__module__} as tests\n"
        f"print(json.dumps(tests.{function.__name__}(*json.loads(sys.argv[1]))))"
    )
    out = python("-X", "faulthandler", "-c", code, json.dumps(arguments), timeout=timeout, **environment)
    return json.loads(out.splitlines()[-1])


class _Compilations(event.Listener):
    """The names of functions in the order in which numba types them; those from the disk cache are not typed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, event: event.Event) -> None:
        if event.data["name"].startswith("nopython_type_inference "):
            self.names.append(event.data["qualname"])

    def on_end(self, event: event.Event) -> None:
        pass


def watch() -> list[str]:
    """A list to which the name of each function that numba compiles from now on is appended."""
    listener = _Compilations()
    event.register("numba:run_pass", listener)
    return listener.names


def cache_files(folder: Path) -> dict[str, int]:
    """The files of a cache and their sizes."""
    return {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
