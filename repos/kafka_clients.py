"""How Kafka clients are made: where the cluster is, who we are, what may fail.

Everything that talks to Kafka makes its clients here, so that credentials,
encryption and the first error look the same everywhere.
"""

from __future__ import annotations

__all__ = ["KafkaAccess", "create_admin", "create_consumer", "create_producer"]

import functools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from models.errors import InvalidConfiguration, TemporarilyUnavailable

T = TypeVar("T")

#: Milliseconds within which a new client must have found the cluster.
_BOOTSTRAP_MS = 10_000
#: Milliseconds between two attempts to reach a broker, at most. The library's
#: 30 s would be as long as a visit.
_RECONNECT_MS = 2_000


@dataclass(frozen=True)
class KafkaAccess:
    """A Kafka cluster and how to log in there.

    Attributes
    ----------
    bootstrap : `str`
        Addresses of brokers, ``host:port`` separated by commas.
    username, password : `str` or `None`
        Credentials, if any.
    security_protocol : `str` or `None`
        ``plaintext``, ``ssl``, ``sasl_plaintext`` or ``sasl_ssl``; by default
        ``sasl_plaintext`` with credentials and ``plaintext`` without.
    mechanism : `str`
        SASL mechanism.
    verify : `bool`
        Whether the brokers' TLS certificates are verified.
    """

    bootstrap: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    security_protocol: str | None = None
    mechanism: str = "SCRAM-SHA-512"
    verify: bool = True

    @property
    def protocol(self) -> str:
        """The security protocol, as Kafka spells it."""
        default = "sasl_plaintext" if self.username else "plaintext"
        return (self.security_protocol or default).upper()

    def options(self) -> dict[str, Any]:
        """Return what a client of kafka-python is to be made with.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the protocol asks for credentials that are not there.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": [part.strip() for part in self.bootstrap.split(",")],
            "security_protocol": self.protocol,
            "bootstrap_timeout_ms": _BOOTSTRAP_MS,
            "reconnect_backoff_max_ms": _RECONNECT_MS,
        }
        if self.protocol.startswith("SASL_"):
            if not self.username or not self.password:
                raise InvalidConfiguration(
                    f"Kafka at {self.bootstrap}: {self.protocol.lower()} needs a user name and a password"
                )
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        if self.protocol.endswith("SSL") and not self.verify:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            options["ssl_context"] = context
        return options


def create_producer(access: KafkaAccess, **options: Any) -> KafkaProducer:
    """Connect a producer.

    Parameters
    ----------
    access : `KafkaAccess`
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
    access : `KafkaAccess`
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

    try:
        return create(**{**access.options(), "kafka_client": create_below, **options})
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
