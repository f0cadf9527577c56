"""A Kafka cluster, and how to get in."""

from __future__ import annotations

import ssl

import pytest

from models.errors import InvalidConfiguration
from models.kafka_access import KafkaAccess


def test_anybody() -> None:
    address = KafkaAccess("a:1, b:2")
    assert address.options() == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert str(address) == "a:1, b:2"


def test_somebody() -> None:
    address = KafkaAccess("a:1", username="observer", password="secret")
    assert address.options() == {
        "bootstrap_servers": ["a:1"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "observer",
        "sasl_plain_password": "secret",
    }
    assert "secret" not in f"{address} {address!r}"


@pytest.mark.parametrize("protocol", ["ssl", "sasl_ssl"])
def test_encryption(protocol: str) -> None:
    address = KafkaAccess("a:1", username="observer", password="secret", security_protocol=protocol)
    # The library's own context verifies.
    assert "ssl_context" not in address.options()
    careless = KafkaAccess("a:1", "observer", "secret", protocol, verify=False).options()
    assert careless["security_protocol"] == protocol.upper()
    assert careless["ssl_context"].verify_mode is ssl.CERT_NONE


def test_credentials_that_are_missing() -> None:
    with pytest.raises(InvalidConfiguration, match="sasl_ssl needs a user name and a password"):
        KafkaAccess("a:1", security_protocol="sasl_ssl").options()
