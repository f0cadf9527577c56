"""Standard output for what goes on when nobody listens any more."""

from __future__ import annotations

__all__ = ["LastingOutput"]

import logging
import os
from typing import Any, TextIO

_log = logging.getLogger(__name__)


class LastingOutput:
    """A text stream that can be closed, or full, at its other end.

    From then on what is written is dropped.

    Parameters
    ----------
    stream : text stream
        Such as `sys.stdout`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = False

    def write(self, text: str) -> int:
        """Write a text, or drop it; return its length."""
        if not self._lost:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        if not self._lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: Exception) -> None:
        self._lost = True
        _log.warning("Nothing can be shown any more, but what runs goes on: %s", error)
        # What is left in its buffer would be an error once more when we end.
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            # No file of the system's.
            return
