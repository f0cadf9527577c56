"""PanDA's client, several at work: one that waits for PanDA holds up no other."""

from __future__ import annotations

__all__ = ["PandaClients"]

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import TemporarilyUnavailable
from repos.streaming.panda_client import PandaClient


class PandaClients:
    """Lends clients, each of which does one thing at a time.

    Parameters
    ----------
    make : callable, optional
        Makes one, given ``directory``, in which it works.
    """

    def __init__(self, make: Callable[..., PandaClient] = PandaClient) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._lent: set[PandaClient] = set()
        self._idle: PandaClient | None = None
        self._closed = False

    def answer(self, call: str, **arguments: Any) -> Any:
        """Have a function called, and return PanDA's answer; see
        `repos.streaming.panda_client.PandaClient.answer`.
        """
        with self.one() as client:
            return client.answer(call, **arguments)

    @contextmanager
    def one(self, directory: Path | None = None) -> Iterator[PandaClient]:
        """Lend a client.

        Parameters
        ----------
        directory : `pathlib.Path`, optional
            Where it works; one that works there does so once.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if they were closed.
        """
        with self._lock:
            if self._closed:
                raise TemporarilyUnavailable("PanDA is not asked any more")
            client, kept = self._idle, directory is None
            if client is None or not kept:
                client = self._make(directory=directory)
            else:
                self._idle = None
            self._lent.add(client)
        try:
            yield client
        finally:
            with self._lock:
                self._lent.discard(client)
                # Each is a process: the next one is worth it, a crowd is not.
                if kept := kept and self._idle is None and not self._closed:
                    self._idle = client
            if not kept:
                client.close()

    def close(self) -> None:
        """End their processes, also while they are asked something: whoever
        asks would wait for PanDA.
        """
        with self._lock:
            self._closed = True
            clients = [*self._lent, *([self._idle] if self._idle else [])]
            self._idle = None
        for client in clients:
            client.close()
