"""How Kafka clients are made, and what may fail then.

Everything that talks to Kafka makes its clients here, so that the first error
looks the same everywhere.
"""

from __future__ import annotations

__all__ = ["create_admin", "create_consumer", "create_producer"]

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from models.errors import TemporarilyUnavailable
from models.kafka_access import KafkaAccess

T = TypeVar("T")

#: Milliseconds within which a new client must have found the cluster.
_BOOTSTRAP_MS = 10_000
#: Milliseconds between two attempts to reach a broker, at most. The library's
#: 30 s would be as long as a visit.
_RECONNECT_MS = 2_000


def create_producer(access: KafkaAccess, **options: Any) -> KafkaProducer:
    """Connect a producer.

    Parameters
    ----------
    access : `models.kafka_access.KafkaAccess`
    **options
        Of `kafka.KafkaProducer`; its own defaults are ``acks="all"`` and
        idempotence.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the cluster cannot be reached or refuses the credentials.
    """
    defaults = {"acks": "all", "enable_idempotence": True}
    return _connect(access, KafkaProducer, defaults | options)


def create_consumer(access: KafkaAccess, *topics: str, **options: Any) -> KafkaConsumer:
    """Connect a consumer.

    Parameters
    ----------
    access : `models.kafka_access.KafkaAccess`
    *topics : `str`
        To subscribe to; none for a consumer that is assigned partitions.
    **options
        Of `kafka.KafkaConsumer`. Nothing is committed unless asked for.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the cluster cannot be reached or refuses the credentials.
    """
    defaults = {"enable_auto_commit": False}
    return _connect(access, functools.partial(KafkaConsumer, *topics), defaults | options)


def create_admin(access: KafkaAccess, **options: Any) -> KafkaAdminClient:
    """Connect an administrator.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the cluster cannot be reached or refuses the credentials.
    """
    return _connect(access, KafkaAdminClient, options)


def _connect(access: KafkaAccess, create: Callable[..., T], options: Mapping[str, Any]) -> T:
    below: list[KafkaNetClient] = []

    def create_below(**config: Any) -> KafkaNetClient:
        below.append(KafkaNetClient(**config))
        return below[-1]

    limits = {"bootstrap_timeout_ms": _BOOTSTRAP_MS, "reconnect_backoff_max_ms": _RECONNECT_MS}
    try:
        return create(**access.options() | limits | {"kafka_client": create_below} | dict(options))
    except (KafkaError, OSError) as error:
        # A client that fails while it is made leaves its thread behind, which
        # would go on trying for ever.
        for client in below:
            client.close()
        as_whom = f" as {access.username}" if access.username else ""
        # The library reports refused credentials as a cluster out of reach.
        doubtful = "address, user and password" if access.username else "the address"
        raise TemporarilyUnavailable(
            f"Kafka at {access.bootstrap} cannot be used{as_whom} ({access.protocol.lower()}): "
            f"{error}; check {doubtful}, and that the brokers run"
        ) from error
