"""Reading nextVisits from Kafka.

A record's offset is committed when it and all before it are settled: sent to
all detectors, or skipped. A fan-out that dies is followed by one that reads
what was announced meanwhile, and once more what was not settled; the service
answers at once for a visit that comes again. What is stale by then is
skipped.
"""

from __future__ import annotations

__all__ = ["NextVisitTopic"]

import logging
import threading
from collections.abc import Callable

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CommitFailedError, KafkaError
from kafka.structs import OffsetAndMetadata

from models.errors import TemporarilyUnavailable
from models.fan_out import NextVisitRecord
from models.kafka_access import KafkaAccess
from repos.kafka_clients import create_consumer
from repos.settled_offsets import SettledOffsets

_log = logging.getLogger(__name__)

#: Milliseconds to wait for records; they are returned when they come. What
#: was settled is committed in between.
_POLL_MS = 200
#: Seconds before the cluster is tried again, at first and at most.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 15.0
#: Milliseconds after which a topic that is made later is noticed.
_METADATA_MS = 10_000
#: Milliseconds without a sign of life after which a fan-out's successor may
#: read, and between two signs. Brokers allow no less than 6 s by default; the
#: usual 45 s would be longer than from one visit to the next.
_SESSION_MS = 6_000
_HEARTBEAT_MS = 1_500
#: Milliseconds to wait for the group's coordinator.
_COMMIT_MS = 5_000


class NextVisitTopic:
    """Follows a topic, in a thread of its own, through all trouble.

    Parameters
    ----------
    access : `models.kafka_access.KafkaAccess`
    topic, group : `str`
        The topic, and the consumer group.
    offset_reset : `str`
        Where a new group starts: ``latest`` or ``earliest``.
    deliver : callable
        Takes each record, in the reading thread; must not wait.

    Attributes
    ----------
    trouble : `str` or `None`
        Why nothing can be read now, if so.
    """

    def __init__(
        self,
        *,
        access: KafkaAccess,
        topic: str,
        group: str,
        offset_reset: str,
        deliver: Callable[[NextVisitRecord], None],
    ) -> None:
        self._access = access
        self._topic = topic
        self._deliver = deliver
        self._options = {
            "group_id": group,
            "auto_offset_reset": offset_reset,
            "allow_auto_create_topics": False,
            "metadata_max_age_ms": _METADATA_MS,
            "session_timeout_ms": _SESSION_MS,
            "heartbeat_interval_ms": _HEARTBEAT_MS,
        }
        self._offsets = SettledOffsets()
        self._pausing = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="next-visits", daemon=True)
        self.trouble: str | None = "not connected yet"

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def settle(self, record: NextVisitRecord) -> None:
        """Note that a record need not be read again; from any thread."""
        self._offsets.settle(record.partition, record.offset)

    def pause(self) -> None:
        """Deliver nothing more; what is settled is still committed."""
        self._pausing.set()

    def close(self, timeout: float = 10.0) -> None:
        """Commit what is settled and leave the group.

        Parameters
        ----------
        timeout : `float`
            Seconds to wait for the cluster.
        """
        self._pausing.set()
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            try:
                consumer = create_consumer(self._access, **self._options)
            except TemporarilyUnavailable as error:
                self._report(str(error))
            except Exception as error:  # see below
                self._report(f"no consumer can be made: {error!r}")
            else:
                pause = _FIRST_PAUSE
                try:
                    # Asked before the group is joined: a leader that does not
                    # know the topic's partitions yet assigns none of them, and
                    # nothing makes it think again.
                    consumer.partitions_for_topic(self._topic)
                    consumer.subscribe([self._topic])
                    self._read(consumer)
                    return
                except KafkaError as error:
                    self._report(f"{self._topic} cannot be read: {error!r}")
                except Exception as error:
                    # Whatever the client raises: without this thread the
                    # fan-out would be deaf, and nobody would know.
                    _log.exception("The reading of %s failed in a way of its own.", self._topic)
                    self._report(f"{self._topic} cannot be read: {error!r}")
                finally:
                    _close(consumer)
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _read(self, consumer: KafkaConsumer) -> None:
        mine: set[TopicPartition] = set()
        while not self._closing.is_set():
            batches = consumer.poll(timeout_ms=_POLL_MS)
            assigned = set(consumer.assignment())
            self._offsets.keep(partition.partition for partition in assigned)
            if self._pausing.is_set():
                # Polled on, because that keeps the place in the group.
                consumer.pause(*assigned)
                batches = {}
            for partition, records in batches.items():
                for record in records:
                    self._take(partition.partition, record)
            for partition in assigned - mine:
                # Committed soon, so that a new group does not miss what is
                # announced while its first fan-out is away.
                self._offsets.start(partition.partition, consumer.position(partition, timeout_ms=_COMMIT_MS))
            mine = assigned
            self._look_after(consumer, mine)
            self._commit(consumer)
        self._commit(consumer)

    def _take(self, partition: int, record: object) -> None:
        offset: int = record.offset  # type: ignore[attr-defined]
        if self._offsets.begin(partition, offset):
            self._deliver(
                NextVisitRecord(
                    partition=partition,
                    offset=offset,
                    value=record.value,  # type: ignore[attr-defined]
                    timestamp=record.timestamp / 1000,  # type: ignore[attr-defined]
                )
            )

    def _look_after(self, consumer: KafkaConsumer, mine: set[TopicPartition]) -> None:
        """Tell a topic that is not there from one that is quiet."""
        if mine:
            if self.trouble is not None:
                _log.info("Reading %s, partitions %s.", self._topic, sorted(p.partition for p in mine))
            self.trouble = None
        elif not consumer.partitions_for_topic(self._topic):
            self._report(f"Kafka at {self._access.bootstrap} has no topic {self._topic} (NEXT_VISIT_TOPIC)")
        else:
            self.trouble = "waiting for partitions; another fan-out of this group may have them"

    def _commit(self, consumer: KafkaConsumer) -> None:
        settled = self._offsets.to_commit()
        if not settled:
            return
        positions = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in settled.items()
        }
        try:
            consumer.commit(positions, timeout_ms=_COMMIT_MS)
        except CommitFailedError:
            # Others have the partitions now and read these records again.
            _log.warning("The group has been rearranged before %s could be committed.", settled)
        except KafkaError as error:
            _log.warning("%s is not committed yet: %r", settled, error)
        else:
            self._offsets.committed(settled)

    def _report(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.error("NextVisits cannot be read: %s", trouble)
        self.trouble = trouble


def _close(consumer: KafkaConsumer) -> None:
    try:
        consumer.close(autocommit=False)
    except KafkaError as error:
        _log.debug("The consumer was not closed in order: %r", error)
