"""The writer's queue on Kafka: batches in, events out, both or neither.

Offsets, events and messages that are set aside are one transaction. Its end
may be unknown to us (the broker went away while it was being committed); then
a new producer of the same name first makes the broker finish it, and the
group's offsets tell how it ended.
"""

from __future__ import annotations

__all__ = ["WriterQueue"]

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    UnknownMemberIdError,
)

from models.batches import QueuedMessage, SetAside
from models.errors import Superseded, TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from repos.kafka_clients import create_consumer
from repos.writer_transactions import GROUP, Transactions, described, is_fenced

_log = logging.getLogger(__name__)

#: Milliseconds that a batch may take before the group gives us up.
_BATCH_MS = 1_800_000
#: Milliseconds between two looks at the clock while there is nothing to do.
_SLICE_MS = 250
#: Bytes fetched of a partition at once, and taken into one batch.
_FETCH = 16 << 20
_BATCH_BYTES = 64 << 20


class WriterQueue:
    """Takes messages in batches and settles them; for one thread.

    Parameters
    ----------
    access : `models.kafka_access.KafkaAccess`
    topic : `str`
        Topic of the messages.
    output_topic : `str`
        Topic of the events.
    dead_letter_topic : `str`
        Topic of messages that are set aside.
    """

    def __init__(self, access: KafkaAccess, *, topic: str, output_topic: str, dead_letter_topic: str) -> None:
        self._access = access
        self._topic = topic
        self._topics = f"{output_topic} or {dead_letter_topic}"
        self._transactions = Transactions(
            access, output_topic=output_topic, dead_letter_topic=dead_letter_topic
        )
        self._consumer: KafkaConsumer | None = None
        #: Offsets up to which all is settled, as far as this process knows.
        self._settled: dict[TopicPartition, int] = {}
        self._rebalanced = threading.Event()
        self._doubtful = False

    def open(self) -> None:
        """Connect: first end what an earlier writer left open, then join.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the cluster cannot be reached.
        """
        self._transactions.open()
        if self._consumer is None:
            consumer = create_consumer(
                self._access,
                group_id=GROUP,
                # A writer that starts again takes its own place at once,
                # without waiting for the group to notice that it died.
                group_instance_id=GROUP,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                max_poll_interval_ms=_BATCH_MS,
                max_partition_fetch_bytes=_FETCH,
                metadata_max_age_ms=30_000,
            )
            consumer.subscribe([self._topic], listener=_Listener(self._rebalanced))
            self._consumer = consumer
            if not consumer.partitions_for_topic(self._topic):
                _log.warning("There is no topic %s yet (KAFKA_TOPIC); waiting for it.", self._topic)

    def take(self, limit: int, *, wait: float, ends: Callable[[], bool]) -> list[QueuedMessage]:
        """Return the next messages; none if none come for a moment.

        Parameters
        ----------
        limit : `int`
            Number of messages.
        wait : `float`
            Seconds for which to wait for more after the first.
        ends : callable
            Whether to wait no longer.

        Raises
        ------
        models.errors.Superseded
            Raised if another writer has taken our place.
        models.errors.TemporarilyUnavailable
            Raised if the cluster cannot be reached.
        """
        self.open()
        if self._doubtful:
            # How the last transaction ended is certain only now.
            self._rewind()
            self._doubtful = False
        found = self._poll(_SLICE_MS, limit)
        self._rebalanced.clear()
        deadline = time.monotonic() + wait
        size = sum(len(m.payload) for m in found)
        while found and len(found) < limit and size < _BATCH_BYTES and not ends():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            more = self._poll(min(_SLICE_MS, int(left * 1000) + 1), limit - len(found))
            if self._rebalanced.is_set():
                # Whose these are is decided anew.
                self._rewind()
                return []
            found += more
            size += sum(len(m.payload) for m in more)
        return found

    def settle(
        self, messages: Sequence[QueuedMessage], *, event: bytes | None, set_aside: Sequence[SetAside]
    ) -> bool:
        """Commit messages together with what is to be said about them.

        Safe to repeat after `TemporarilyUnavailable`; nothing is said twice.

        Returns
        -------
        settled : `bool`
            Whether it is done. If not, the messages are no longer ours, and
            nothing was said.

        Raises
        ------
        models.errors.Superseded
            Raised if another writer has taken our place.
        models.errors.TemporarilyUnavailable
            Raised if it could not be done, or it is not known whether it was.
        """
        ends = _ends(messages)
        self.open()
        if self._doubtful:
            done = [self._committed(partition) >= end for partition, end in ends.items()]
            self._doubtful = False
            if all(done):
                self._settled |= ends
                return True
            if any(done):
                self._rewind()
                return False
        assert self._consumer is not None
        try:
            self._transactions.run(ends, self._consumer.group_metadata(), event=event, set_aside=set_aside)
        except (CommitFailedError, IllegalGenerationError, UnknownMemberIdError) as error:
            _log.warning("The group was shared out anew while a batch was in work: %s", error)
            self._transactions.close()
            self._rewind()
            return False
        except KafkaError as error:
            self._doubtful = True
            if is_fenced(error) or isinstance(error, FencedInstanceIdError):
                raise _superseded(error) from error
            raise TemporarilyUnavailable(
                f"{self._topics} at {self._access.bootstrap} could not be written: {described(error)}; "
                "do they exist, and may they be written?"
            ) from error
        self._settled |= ends
        return True

    def hold(self, seconds: float, *, ends: Callable[[], bool]) -> bool:
        """Keep our place in the group while a batch waits for something.

        Returns
        -------
        ours : `bool`
            Whether the batch in hand is still ours.
        """
        deadline = time.monotonic() + seconds
        consumer = self._consumer
        while time.monotonic() < deadline and not ends():
            if consumer is None:
                time.sleep(_SLICE_MS / 1000)
                continue
            try:
                consumer.pause(*consumer.assignment())
                # Partitions that just came are not paused.
                for partition, records in consumer.poll(timeout_ms=_SLICE_MS).items():
                    consumer.seek(partition, records[0].offset)
            except FencedInstanceIdError as error:
                raise _superseded(error) from error
            except KafkaError as error:
                _log.debug("While waiting: %s", error)
                time.sleep(_SLICE_MS / 1000)
        if consumer is not None:
            consumer.resume(*consumer.assignment())
        if self._rebalanced.is_set():
            with contextlib.suppress(TemporarilyUnavailable):
                self._rewind()
            return False
        return True

    def lag(self) -> int | None:
        """Return how many messages wait, as far as it is known."""
        if self._consumer is None:
            return None
        lag = 0
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is not None:
                lag += max(0, end - self._position(partition))
        return lag

    def _position(self, partition: TopicPartition) -> int:
        assert self._consumer is not None
        with contextlib.suppress(KafkaError):
            return self._settled.get(partition) or self._consumer.position(partition, timeout_ms=0) or 0
        return 0

    def close(self) -> None:
        """Leave."""
        self._transactions.close()
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=5_000)
            self._consumer = None

    def _poll(self, timeout_ms: int, limit: int) -> list[QueuedMessage]:
        assert self._consumer is not None
        try:
            polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=limit)
        except FencedInstanceIdError as error:
            raise _superseded(error) from error
        except KafkaError as error:
            raise TemporarilyUnavailable(f"Kafka at {self._access.bootstrap}: {described(error)}") from error
        return [
            QueuedMessage(record.topic, record.partition, record.offset, record.key, record.value or b"")
            for partition, records in polled.items()
            for record in records
            # Offsets of a transaction may show a moment after its end.
            if record.offset >= self._settled.get(partition, 0)
        ]

    def _committed(self, partition: TopicPartition) -> int:
        assert self._consumer is not None
        try:
            committed = self._consumer.committed(partition, timeout_ms=10_000)
        except KafkaError as error:
            raise TemporarilyUnavailable(
                f"offsets of {GROUP} at {self._access.bootstrap}: {described(error)}"
            ) from error
        return max(committed or 0, self._settled.get(partition, 0))

    def _rewind(self) -> None:
        """Go back to what is committed."""
        assert self._consumer is not None
        for partition in self._consumer.assignment():
            committed = self._committed(partition)
            if committed:
                self._consumer.seek(partition, committed)
            else:
                self._consumer.seek_to_beginning(partition)


class _Listener(ConsumerRebalanceListener):
    def __init__(self, rebalanced: threading.Event) -> None:
        self._rebalanced = rebalanced

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._rebalanced.set()

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._rebalanced.set()


def _ends(messages: Sequence[QueuedMessage]) -> dict[TopicPartition, int]:
    ends: dict[TopicPartition, int] = {}
    for message in messages:
        partition = TopicPartition(message.topic, message.partition)
        ends[partition] = max(ends.get(partition, 0), message.offset + 1)
    return ends


def _superseded(error: BaseException) -> Superseded:
    return Superseded(
        f"another writer has taken the place of this one, which ends ({described(error)}); "
        "run one replica only"
    )
