"""The progress bar of everything that may take longer than a second."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["DELAY", "progress"]

DELAY = 1.0
"""Seconds of work without a bar: shorter work needs none."""

Step = Callable[[str], None]


@contextlib.contextmanager
def progress(total: int, delay: float = 0.0) -> Iterator[Step]:
    """A bar on stderr that disappears when the work is done; call what this yields with the title of each step as it begins.

    It is drawn by rich where that is installed, and only on a terminal: a log would keep it.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    with contextlib.ExitStack() as stack:
        draw, begin, done = None, time.monotonic(), -1

        def step(text: str) -> None:
            nonlocal draw, done
            done += 1
            if time.monotonic() - begin >= delay:
                draw = draw or stack.enter_context(_bar(total))
                draw(text, done)

        yield step


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[str, int], None]]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda text, done: print(f"\r\x1b[K[{done}/{total}] {text}", end="", file=sys.stderr, flush=True)
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        return
    columns = (TextColumn("{task.description:<45}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda text, done: bar.update(task, description=text, completed=done)
