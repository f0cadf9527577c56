"""Writes messages to a Kafka topic, as the observatory's own systems do."""

from __future__ import annotations

__all__ = ["TopicWriter"]

from kafka import KafkaProducer
from kafka.errors import KafkaError

from models.errors import TemporarilyUnavailable

#: Seconds within which a message must have been taken.
_SEND_TIMEOUT = 20.0


class TopicWriter:
    """Sends messages to one topic; safe to use from many threads.

    Parameters
    ----------
    bootstrap : `str`
        Addresses of brokers, ``host:port`` separated by commas.
    topic : `str`

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if no broker answers.
    """

    def __init__(self, *, bootstrap: str, topic: str) -> None:
        self.topic = topic
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap.split(","), acks="all", max_block_ms=int(_SEND_TIMEOUT * 1000)
            )
        except KafkaError as error:
            raise TemporarilyUnavailable(f"no Kafka broker answers at {bootstrap}: {error}") from error

    def send(self, value: bytes, key: bytes | None = None) -> None:
        """Send a message and wait until the broker has it.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the broker does not take it.
        """
        try:
            self._producer.send(self.topic, value=value, key=key).get(_SEND_TIMEOUT)
        except KafkaError as error:
            raise TemporarilyUnavailable(
                f"topic {self.topic} takes no message: {error or repr(error)}; is there such a topic?"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._producer.close()
