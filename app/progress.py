"""Progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

__all__ = ["progress_reporter"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Report = Callable[[str, int, int], None]


@contextmanager
def progress_reporter(console: Console | None = None) -> Iterator[Report]:
    """Show the progress of several kinds of work.

    Yields
    ------
    report : callable
        Takes what is being done, how much of it is done and how much there
        is.
    """
    console = console if console is not None else Console()
    if console.is_terminal:
        with _bars(console) as report:
            yield report
    else:
        yield _lines(console)


@contextmanager
def _bars(console: Console) -> Iterator[Report]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report


def _lines(console: Console) -> Report:
    def report(what: str, done: int, total: int) -> None:
        if done == total:
            console.print(f"{what}: {done}", highlight=False)

    return report
