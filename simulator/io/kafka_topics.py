"""Topics of a Kafka cluster."""

from __future__ import annotations

__all__ = ["create_topic", "has_broker"]

import time
from collections.abc import Mapping

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError


def has_broker(bootstrap: str) -> bool:
    """Say whether a cluster answers.

    Parameters
    ----------
    bootstrap : `str`
        ``host:port`` of a listener for everybody.
    """
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=2000)
    except KafkaError:
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()


def create_topic(
    bootstrap: str,
    name: str,
    *,
    partitions: int = 1,
    settings: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> str:
    """Make a topic, if it is not there, and wait until brokers know it.

    Parameters
    ----------
    bootstrap : `str`
        ``host:port`` of a listener for everybody.
    name : `str`
    partitions : `int`, optional
    settings : `dict` [`str`, `str`], optional
        Settings of the topic, with ``_`` for ``.``.
    timeout : `float`, optional
        Seconds that it may take.

    Returns
    -------
    name : `str`

    Raises
    ------
    TimeoutError
        Raised if it takes longer.
    """
    configs = {key.replace("_", "."): value for key, value in (settings or {}).items()}
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        try:
            admin.create_topics(
                [NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=configs)]
            )
        except TopicAlreadyExistsError:
            return name
        deadline = time.monotonic() + timeout
        while name not in admin.list_topics():
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {name} is not known {timeout:g} s after it was made")
            time.sleep(0.02)
        return name
    finally:
        admin.close()
