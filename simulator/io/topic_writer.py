"""Writes messages to a Kafka topic, as the observatory's own systems do."""

from __future__ import annotations

__all__ = ["TopicWriter"]

from kafka import KafkaProducer
from kafka.errors import KafkaError

from models.errors import TemporarilyUnavailable
from models.kafka_access import KafkaAccess

#: Seconds within which the cluster must have been found.
_BOOTSTRAP_TIMEOUT = 10.0
#: Seconds within which a message must have been taken.
_SEND_TIMEOUT = 20.0


class TopicWriter:
    """Sends messages to one topic; safe to use from many threads.

    Parameters
    ----------
    address : `models.kafka_access.KafkaAccess`
        The cluster, and as whom to write.
    topic : `str`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if credentials are needed and not there.
    models.errors.TemporarilyUnavailable
        Raised if no broker answers, or none lets us in.
    """

    def __init__(self, *, address: KafkaAccess, topic: str) -> None:
        self.topic = topic
        try:
            self._producer = KafkaProducer(
                **address.options(),
                acks="all",
                bootstrap_timeout_ms=int(_BOOTSTRAP_TIMEOUT * 1000),
                max_block_ms=int(_SEND_TIMEOUT * 1000),
            )
        except KafkaError as error:
            # The library reports refused credentials as a cluster out of reach.
            doubtful = "address, user, password and protocol" if address.username else "address and protocol"
            raise TemporarilyUnavailable(
                f"no Kafka broker answers at {address}: {error}; check {doubtful}, and that the brokers run"
            ) from error

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
