"""Gates that hold something up until a test opens them."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import TracebackType
from typing import Self

_numbers = itertools.count()


class Gate:
    """A file that something waits for; closed until `open` is called or the
    ``with`` block is left.

    However busy the machine is, what waits is still there when the test looks
    at it, and it goes on as soon as the test has seen enough.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"gate-{next(_numbers)}"

    @property
    def step(self) -> str:
        """What a visit of the fake slot application does to wait."""
        return f"gate:{self.path}"

    def open(self) -> None:
        self.path.touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.open()
