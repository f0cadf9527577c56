"""Things that are made when they are first asked for."""

from __future__ import annotations

__all__ = ["WhenAsked"]

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class WhenAsked(Generic[T]):
    """Makes something at the first call, and returns it at every one.

    What raises when it is made is tried again at the next call. Calls may come
    from several threads.

    Parameters
    ----------
    make : callable
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._lock = threading.Lock()

    def __call__(self) -> T:
        """Return it."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
