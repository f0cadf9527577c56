"""Uploads to an object store, several side by side."""

from __future__ import annotations

__all__ = ["Uploads"]

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

#: Uploads at once. What waits for the store is not waited for one by one; more
#: would only hold more content in memory.
_AT_ONCE = 8


class Uploads:
    """Does uploads at once, or side by side while `together` lasts."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._begun: list[Future[None]] = []

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do uploads side by side; all are done, or have failed, at the end.

        Raises
        ------
        Exception
            Raised at the end with the first upload's error, if any failed.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="upload") as pool:
            self._pool = pool
            try:
                yield
            finally:
                self._pool = None
                begun, self._begun = self._begun, []
        for upload in begun:
            upload.result()

    def do(self, upload: Callable[[], object]) -> None:
        """Do an upload; it may not be done yet when this returns."""
        if self._pool is None:
            upload()
            return
        self._places.acquire()
        self._begun.append(self._pool.submit(self._finish, upload))

    def _finish(self, upload: Callable[[], object]) -> None:
        try:
            upload()
        finally:
            self._places.release()
