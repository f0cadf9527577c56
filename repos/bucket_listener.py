"""Hears of raw images that arrive in a bucket, by notifications on Kafka.

Runs in the parent process, which must stay small: nothing here may import
``lsst`` or ``astropy``, and nothing here reads an object; slots do.
"""

from __future__ import annotations

__all__ = ["BucketListener"]

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from models.notifications import CreatedObject, read_notification, same_bucket
from models.raws import FoundImage, RawKey, parse_raw_key
from repos.image_memory import ImageMemory, Subscription
from repos.kafka_clients import create_consumer

_log = logging.getLogger(__name__)

#: Milliseconds after which a look at the topic ends if nothing comes.
_POLL_MS = 500
#: Seconds between two looks for new partitions.
_LOOK_PAUSE = 2.0
#: Seconds of silence after which the cluster is asked for a sign of life.
_SILENCE = 5.0
#: Milliseconds that the cluster may take to answer a question.
_ANSWER_MS = 4_000
#: Shortest and longest pause before connecting again, seconds.
_PAUSES = (0.2, 5.0)


class BucketListener:
    """Reads a topic of bucket notifications and tells who asked for images.

    One thread a process, and no consumer group: joining costs no rebalance,
    and every process hears everything. It starts in the recent past, goes on
    where it was after an outage, and never gives up.

    Parameters
    ----------
    access : `models.kafka_access.KafkaAccess`
    topic : `str`
    bucket : `str`
        Arrivals in other buckets are ignored; may be ``tenant:bucket``.
    memory : `float`, optional
        Seconds for which images are remembered, for visits that are announced
        after their images; also how far back in the topic it starts.
    offset_reset : `str`, optional
        Where to go on when the place to go on from has expired: ``latest`` or
        ``earliest``.
    clock : callable, optional
        Monotonic time in seconds.
    """

    def __init__(
        self,
        access: KafkaAccess,
        *,
        topic: str,
        bucket: str,
        memory: float = 600.0,
        offset_reset: Literal["latest", "earliest"] = "latest",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._topic = topic
        self._bucket = bucket
        self._memory_time = memory
        self._memory = ImageMemory(memory, clock)
        self._offset_reset = offset_reset
        self._clock = clock
        # The next offset of each partition, kept over connections.
        self._positions: dict[int, int] = {}
        self._has_looked = False
        self._trouble: str | None = "not connected yet"
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen; return at once, whether or not there is a cluster.

        Whatever arrives from now on, or arrived within the time of memory, is
        noticed.
        """
        self._thread = threading.Thread(target=self._run, name="bucket-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and wait until the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    @property
    def is_alive(self) -> bool:
        """Whether there is a thread that listens, or tries to."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def trouble(self) -> str | None:
        """What keeps notifications from being heard; None if nothing does."""
        return self._trouble if self.is_alive else "nobody listens; images are only looked for"

    def subscribe(
        self,
        instrument: str,
        detector: int,
        detector_name: str | None,
        callback: Callable[[FoundImage], None],
    ) -> Subscription:
        """Deliver the images of a detector, those of the recent past first.

        See `repos.image_memory.ImageMemory.subscribe`.
        """
        return self._memory.subscribe(instrument, detector, detector_name, callback)

    def _run(self) -> None:
        shortest, longest = _PAUSES
        pause = shortest
        while not self._stopping.is_set():
            try:
                self._listen()
            except (KafkaError, TemporarilyUnavailable, OSError) as error:
                text = str(error) or type(error).__name__
            except Exception as error:
                _log.exception("Unexpected error while listening to topic %s.", self._topic)
                text = f"{type(error).__name__}: {error}"
            else:
                return
            if self._trouble is None:
                pause = shortest
            if self._trouble != text:
                _log.warning("Bucket notifications are not heard; trying again: %s", text)
            self._trouble = text
            self._stopping.wait(pause * random.uniform(0.8, 1.2))
            pause = min(2.0 * pause, longest)

    def _listen(self) -> None:
        """Listen until told to stop."""
        with self._connect() as consumer:
            look_at = heard_at = self._clock()
            while not self._stopping.is_set():
                now = self._clock()
                if now >= look_at:
                    self._follow_partitions(consumer)
                    look_at = now + _LOOK_PAUSE
                try:
                    batches = consumer.poll(timeout_ms=_POLL_MS)
                except OffsetOutOfRangeError as error:
                    self._reset(consumer, error.args[0])
                    continue
                except LogTruncationError as error:
                    self._reset(consumer, {p: self._positions[p.partition] for p in error.divergent_offsets})
                    continue
                for partition, records in batches.items():
                    for record in records:
                        self._take(record)
                    self._positions[partition.partition] = records[-1].offset + 1
                if batches:
                    heard_at = now
                elif now - heard_at > _SILENCE:
                    # The library waits for a dead cluster without a word.
                    consumer.end_offsets(list(consumer.assignment()), timeout_ms=_ANSWER_MS)
                    heard_at = now

    @contextlib.contextmanager
    def _connect(self) -> Iterator[KafkaConsumer]:
        consumer = create_consumer(
            self._access,
            client_id="prompt-processing-images",
            # Expired offsets are ours to judge, and a topic that is missing
            # is for its owner to make.
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=_ANSWER_MS,
            metadata_max_age_ms=int(1e3 * _LOOK_PAUSE),
        )
        try:
            yield consumer
        finally:
            with contextlib.suppress(Exception):
                consumer.close(autocommit=False, timeout_ms=1_000)

    def _follow_partitions(self, consumer: KafkaConsumer) -> None:
        """Take up partitions that are not followed yet."""
        numbers = consumer.partitions_for_topic(self._topic)
        if not numbers:
            # When it comes back, it is another topic.
            self._positions.clear()
            self._has_looked = True
            raise TemporarilyUnavailable(
                f"there is no topic {self._topic} on Kafka at {self._access.bootstrap}; "
                "make it, or check BUCKET_TOPIC and KAFKA_CLUSTER"
            )
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        followed = consumer.assignment()
        if new := [p for p in partitions if p not in followed]:
            self._find_positions(consumer, [p for p in new if p.partition not in self._positions])
            consumer.assign(partitions)
            for partition in new:
                consumer.seek(partition, self._positions[partition.partition])
            self._has_looked = True
            _log.info("Listening to %d partitions of topic %s.", len(partitions), self._topic)
        self._trouble = None

    def _find_positions(self, consumer: KafkaConsumer, partitions: Collection[TopicPartition]) -> None:
        """Decide where to begin."""
        if not partitions:
            return
        if self._has_looked:
            # They were not there before: nothing in them has been heard.
            starts = consumer.beginning_offsets(list(partitions), timeout_ms=_ANSWER_MS)
        else:
            starts = self._recent(consumer, partitions)
        self._positions.update({partition.partition: offset for partition, offset in starts.items()})

    def _recent(
        self, consumer: KafkaConsumer, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Return where the recent past begins."""
        # The ends first, or what comes between the two questions is lost.
        ends: dict[TopicPartition, int] = consumer.end_offsets(list(partitions), timeout_ms=_ANSWER_MS)
        since = max(0, int(1e3 * (time.time() - self._memory_time)))
        found = consumer.offsets_for_times(dict.fromkeys(partitions, since), timeout_ms=_ANSWER_MS)
        return {p: found[p].offset if found.get(p) is not None else end for p, end in ends.items()}

    def _reset(self, consumer: KafkaConsumer, lost: Mapping[TopicPartition, int]) -> None:
        """Go on elsewhere in partitions that have no longer, or not yet, what
        is next.
        """
        partitions = list(lost)
        first = consumer.beginning_offsets(partitions, timeout_ms=_ANSWER_MS)
        last = consumer.end_offsets(partitions, timeout_ms=_ANSWER_MS)
        recent = self._recent(consumer, partitions)
        for partition, wanted in lost.items():
            if wanted >= first[partition]:
                # The topic was cut, or made anew: none of this has been heard.
                chosen, what = recent[partition], "is not there yet"
            elif self._offset_reset == "earliest":
                chosen, what = first[partition], "has expired"
            else:
                chosen, what = last[partition], "has expired"
            _log.warning(
                "Notifications may be lost: offset %d of topic %s, partition %d, %s; going on at %d.",
                wanted,
                self._topic,
                partition.partition,
                what,
                chosen,
            )
            self._positions[partition.partition] = chosen
            consumer.seek(partition, chosen)

    def _take(self, record: Any) -> None:
        """Make what can be made of a message; never fails."""
        try:
            for number, created in enumerate(read_notification(record.value)):
                if not same_bucket(created.bucket, self._bucket):
                    _log.debug("In another bucket: %s/%s", created.bucket, created.key)
                    continue
                # Without a version every message counts as news.
                version = (
                    created.version if any(created.version) else (record.partition, record.offset, number)
                )
                for raw in _raw_keys(created):
                    location = f"s3://{self._bucket}/{raw.key}"
                    self._memory.add(FoundImage(raw=raw, location=location, landed=created.time), version)
        except Exception:
            _log.exception("A message of topic %s was skipped: %r", self._topic, record.value)


def _raw_keys(created: CreatedObject) -> list[RawKey]:
    """Return what a key may mean: as sent, and URL-decoded if that says
    something else. Which of them exists is for the reader to find out.
    """
    keys: list[RawKey] = []
    for text in (created.key, created.decoded_key):
        if text is None:
            continue
        try:
            raw = parse_raw_key(text)
        except InvalidMessage as error:
            _log.debug("Not a raw image: %s", error)
            continue
        if not keys or replace(raw, key=keys[0].key) != keys[0]:
            keys.append(raw)
    return keys
