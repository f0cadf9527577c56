"""Write: messages of finished visits, in batches, into the central registry.

A batch is ingested, listed in a file, then settled: its event and its offsets
are one transaction of the queue. Whatever happens in between, the batch comes
again; the registry skips what it has, and the event of the first attempt was
never to be seen.
"""

from __future__ import annotations

__all__ = ["BatchFileStore", "BatchWriter", "OutputRegistry", "Queue", "WriterObserver"]

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from models.batches import QueuedMessage, SetAside
from models.errors import InvalidMessage, TemporarilyUnavailable
from models.events import BatchFile, BatchIngested

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds before a second try, at first and at most.
_BACK_OFF = (0.5, 15.0)


class Queue(Protocol):
    """Where messages come from and events go; see `repos.writer_queue`."""

    def open(self) -> None:
        """Connect."""

    def take(self, limit: int, *, wait: float, ends: Callable[[], bool]) -> Sequence[QueuedMessage]:
        """Return the next messages; none if none come for a moment."""

    def settle(
        self, messages: Sequence[QueuedMessage], *, event: bytes | None, set_aside: Sequence[SetAside]
    ) -> bool:
        """Commit messages with what is to be said about them; False if they
        are no longer ours.
        """

    def hold(self, seconds: float, *, ends: Callable[[], bool]) -> bool:
        """Wait without losing our place; False if the batch is no longer ours."""

    def lag(self) -> int | None:
        """Return how many messages wait."""


class OutputRegistry(Protocol):
    """The central repo; see `repos.writer_registry`."""

    def open(self) -> None:
        """Connect."""

    def read(self, payload: bytes) -> Any:
        """Return a message's outputs, or raise `InvalidMessage`."""

    def ingest(self, outputs: Sequence[Any]) -> Sequence[UUID]:
        """Insert all outputs or none; return their distinct datasets."""


class BatchFileStore(Protocol):
    """Where batches are listed; see `repos.writer_batches`."""

    def write(self, batch: BatchFile) -> str:
        """Write a batch's file; return its name."""

    def remove(self, name: str) -> None:
        """Remove the file of a batch that came to nothing."""


class WriterObserver(Protocol):
    """Counts what happens."""

    def batch(self, *, messages: int, datasets: int, seconds: float) -> None:
        """A batch was settled."""

    def set_aside(self, kind: str) -> None:
        """A message was set aside."""

    def lag(self, messages: int) -> None:
        """So many messages wait."""

    def trouble(self, reason: str | None) -> None:
        """Something that is needed is away, or back."""


class _BatchLost(Exception):
    """The batch in hand belongs to another member of the group now."""


class _Ended(Exception):
    """The writer was told to end while something it needs was away."""


class BatchWriter:
    """The writer's loop; runs in one thread.

    Parameters
    ----------
    queue : `Queue`
    registry : `OutputRegistry`
    files : `BatchFileStore`
    observer : `WriterObserver`
    batch_size : `int`
        Messages in a batch at most.
    batch_wait : `float`
        Seconds for which a message waits for company.
    new_id : callable, optional
        Makes batch ids.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        registry: OutputRegistry,
        files: BatchFileStore,
        observer: WriterObserver,
        batch_size: int = 500,
        batch_wait: float = 0.5,
        new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._queue = queue
        self._registry = registry
        self._files = files
        self._observer = observer
        self._batch_size = batch_size
        self._batch_wait = batch_wait
        self._new_id = new_id
        self._end = threading.Event()
        self._troubled = False

    def stop(self) -> None:
        """End after the batch in hand; safe to call from a signal handler's
        thread.
        """
        self._end.set()

    def run(self) -> None:
        """Write until told to stop.

        Raises
        ------
        models.errors.Superseded
            Raised if another writer has taken over.
        models.errors.InvalidConfiguration
            Raised if the repo cannot be used.
        """
        ends = self._end.is_set
        while not ends():
            try:
                self._persist(self._registry.open)
                messages = self._persist(
                    lambda: self._queue.take(self._batch_size, wait=self._batch_wait, ends=ends)
                )
                if messages:
                    self._write(messages)
                self._count_lag()
                self._recovered()
            except _BatchLost:
                _log.warning("A batch was given up: its messages are read again, by whoever has them now.")
            except _Ended:
                break
        _log.info("The writer ends.")

    def _write(self, messages: Sequence[QueuedMessage]) -> None:
        begin = time.monotonic()
        datasets, set_aside = self._persist(lambda: self._ingest(messages))
        for one in set_aside:
            self._say(one)
        batch = BatchFile(batch_id=self._new_id(), datasets=tuple(datasets))
        name = self._persist(lambda: self._files.write(batch)) if datasets else None
        event = (
            BatchIngested(batch_id=batch.batch_id, batch_file=name).model_dump_json().encode()
            if name is not None
            else None
        )
        if not self._persist(lambda: self._queue.settle(messages, event=event, set_aside=set_aside)):
            if name is not None:
                self._files.remove(name)
            raise _BatchLost
        seconds = time.monotonic() - begin
        for one in set_aside:
            self._observer.set_aside(one.kind)
        self._observer.batch(messages=len(messages), datasets=len(datasets), seconds=seconds)
        _log.info(
            "Batch %s: %d messages, %d datasets, %d messages set aside, %.3f s.",
            batch.batch_id,
            len(messages),
            len(datasets),
            len(set_aside),
            seconds,
        )

    def _ingest(self, messages: Sequence[QueuedMessage]) -> tuple[list[UUID], list[SetAside]]:
        readable, set_aside = [], []
        for message in messages:
            try:
                readable.append((message, self._registry.read(message.payload)))
            except InvalidMessage as error:
                set_aside.append(SetAside(message, str(error), "malformed"))
        datasets: dict[UUID, None] = {}
        if readable:
            set_aside += self._ingest_readable(readable, datasets)
        return list(datasets), set_aside

    def _ingest_readable(
        self, batch: Sequence[tuple[QueuedMessage, Any]], datasets: dict[UUID, None]
    ) -> list[SetAside]:
        """Ingest what can be, halving the batch until those are found that
        cannot; of two that contradict each other the earlier goes in.
        """
        try:
            ids = self._registry.ingest([outputs for _, outputs in batch])
        except InvalidMessage as error:
            if len(batch) == 1:
                return [SetAside(batch[0][0], str(error), "conflict")]
            half = len(batch) // 2
            first = self._ingest_readable(batch[:half], datasets)
            return first + self._ingest_readable(batch[half:], datasets)
        datasets.update(dict.fromkeys(ids))
        return []

    def _say(self, one: SetAside) -> None:
        _log.error(
            "The message %s is set aside (%s: %s): %s",
            one.message.place,
            one.kind,
            one.reason,
            one.message.payload.decode(errors="backslashreplace"),
        )

    def _persist(self, action: Callable[[], T]) -> T:
        """Do something as often as it takes, holding our place meanwhile."""
        attempt = 0
        while True:
            try:
                result = action()
            except TemporarilyUnavailable as error:
                self._observer.trouble(str(error))
                self._troubled = True
                wait = min(_BACK_OFF[1], _BACK_OFF[0] * 2 ** min(attempt, 8))
                _log.error("The writer waits %.1f s: %s", wait, error)
                attempt += 1
                if not self._queue.hold(wait, ends=self._end.is_set):
                    raise _BatchLost from error
                if self._end.is_set():
                    raise _Ended from error
            else:
                if attempt:
                    self._recovered()
                return result

    def _recovered(self) -> None:
        """Say that what was away is back, if anything was."""
        if self._troubled:
            self._troubled = False
            self._observer.trouble(None)
            _log.info("The writer goes on.")

    def _count_lag(self) -> None:
        lag = self._queue.lag()
        if lag is not None:
            self._observer.lag(lag)
