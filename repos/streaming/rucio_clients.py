"""Rucio's clients, several at work at once."""

from __future__ import annotations

__all__ = ["RucioClients", "in_order"]

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from rucio.client.client import Client

_log = logging.getLogger(__name__)

#: Seconds that a request may take.
_TIMEOUT = 60

_Item = TypeVar("_Item")


class RucioClients:
    """Clients, each of which does one thing at a time: they are not made for
    several threads.

    Parameters
    ----------
    connect : callable, optional
        Makes one, when it is first needed: a server that is away at the start
        is asked again later.
    """

    def __init__(self, connect: Callable[[], Client] = lambda: Client(timeout=_TIMEOUT, logger=_log)) -> None:
        self._connect = connect
        # The one that was used last has a connection that is still open.
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()

    @contextmanager
    def one(self) -> Iterator[Client]:
        """Lend a client."""
        try:
            client = self._idle.get_nowait()
        except queue.Empty:
            client = self._connect()
        try:
            yield client
        finally:
            self._idle.put(client)


def in_order(do: Callable[[_Item], None], items: Sequence[_Item], *, at_once: int) -> list[Exception | None]:
    """Do something with items, some at once. They are begun in order, and none
    any more once one has failed; those that are begun are waited for.

    Parameters
    ----------
    do : callable
    items : sequence
    at_once : `int`

    Returns
    -------
    errors : `list` [`Exception` or `None`]
        Of the items that were begun.
    """
    errors: list[Exception | None] = []
    lock = threading.Lock()
    failed = False

    def work() -> None:
        nonlocal failed
        while True:
            with lock:
                number = len(errors)
                if failed or number == len(items):
                    return
                errors.append(RuntimeError("its thread died"))
            try:
                do(items[number])
            except Exception as error:
                with lock:
                    errors[number], failed = error, True
            else:
                errors[number] = None

    # No pool: the end of the process would wait for its threads, and so for a
    # server that hangs.
    helpers = [
        threading.Thread(target=work, name=f"upload {number}", daemon=True)
        for number in range(1, min(at_once, len(items)))
    ]
    begun = []
    # With as many threads as there may be.
    with suppress(RuntimeError):
        for helper in helpers:
            helper.start()
            begun.append(helper)
    work()
    for helper in begun:
        helper.join()
    return errors
