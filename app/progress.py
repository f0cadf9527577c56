"""Progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

__all__ = ["progress_reporter", "waiting_reporter"]

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

Report = Callable[[str, int, int], None]
Waiting = Callable[[Sequence[str]], None]

#: Seconds between two lines about what is waited for, where there is no terminal.
_SECONDS_A_LINE = 10.0


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
def waiting_reporter(console: Console, *, seconds: float = _SECONDS_A_LINE) -> Iterator[Waiting]:
    """Show what is waited for: on a terminal a line that is always up to
    date, elsewhere a line now and then.

    Parameters
    ----------
    console : `rich.console.Console`
    seconds : `float`, optional
        Between two lines where there is no terminal.

    Yields
    ------
    waiting : callable
        Takes the names of what is waited for; called often.
    """
    if console.is_terminal:
        with console.status("") as status:

            def update(names: Sequence[str]) -> None:
                line = Text(_waiting_for(names))
                # Behind the spinner, which is two columns wide.
                line.truncate(console.width - 3, overflow="ellipsis")
                status.update(line)

            yield update
        return
    last = time.monotonic()

    def waiting(names: Sequence[str]) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            console.print(_waiting_for(names), markup=False, highlight=False, soft_wrap=True)

    yield waiting


def _waiting_for(names: Sequence[str]) -> str:
    return f"waiting for {len(names)}: {', '.join(names)}"


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
