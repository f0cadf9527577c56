"""Where a Kafka cluster is, and how to log in there."""

from __future__ import annotations

__all__ = ["KafkaAccess"]

import ssl
from dataclasses import dataclass, field
from typing import Any

from models.errors import InvalidConfiguration


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

    def __str__(self) -> str:
        return f"{self.bootstrap} as {self.username}" if self.username else self.bootstrap

    @property
    def protocol(self) -> str:
        """The security protocol, as Kafka spells it."""
        default = "sasl_plaintext" if self.username else "plaintext"
        return (self.security_protocol or default).upper()

    def options(self) -> dict[str, Any]:
        """Return what clients of kafka-python are to be made with.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the protocol asks for credentials that are not there.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": [part.strip() for part in self.bootstrap.split(",")],
            "security_protocol": self.protocol,
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
