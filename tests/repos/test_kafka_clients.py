from __future__ import annotations

import ssl
import threading
import time

import pytest

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from repos.kafka_clients import KafkaAccess, create_admin, create_consumer, create_producer
from simulator.servers.kafka import KafkaServer


def test_without_credentials_nothing_is_encrypted_and_nobody_logs_in() -> None:
    options = KafkaAccess("a:1, b:2").options()
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["security_protocol"] == "PLAINTEXT"
    assert not any(name.startswith("sasl") for name in options)


def test_credentials_mean_scram() -> None:
    options = KafkaAccess("a:1", "worker", "secret").options()
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("worker", "secret")


def test_protocol_may_be_named() -> None:
    options = KafkaAccess("a:1", "worker", "secret", "sasl_ssl").options()
    assert options["security_protocol"] == "SASL_SSL"
    assert "ssl_context" not in options


def test_certificates_go_unverified_only_by_name() -> None:
    context = KafkaAccess("a:1", security_protocol="ssl", verify=False).options()["ssl_context"]
    assert context.verify_mode is ssl.CERT_NONE


def test_login_without_password_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(InvalidConfiguration, match="user name and a password"):
        KafkaAccess("a:1", security_protocol="sasl_plaintext").options()


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(KafkaAccess("a:1", "worker", "secret"))


@pytest.mark.parametrize("create", [create_producer, create_consumer])
def test_cluster_that_is_away_is_named(create: object) -> None:
    with pytest.raises(TemporarilyUnavailable, match=r"127\.0\.0\.1:1 cannot be used as worker"):
        create(KafkaAccess("127.0.0.1:1", "worker", "secret"), bootstrap_timeout_ms=200)  # type: ignore[operator]


@pytest.mark.parametrize("create", [create_producer, create_consumer, create_admin])
def test_failed_client_leaves_no_thread(create: object) -> None:
    before = set(threading.enumerate())
    with pytest.raises(TemporarilyUnavailable):
        create(KafkaAccess("127.0.0.1:1"), bootstrap_timeout_ms=200)  # type: ignore[operator]
    deadline = time.monotonic() + 60.0
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


@pytest.mark.servers
def test_a_broker_of_an_authority_of_ones_own(kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    access = KafkaAccess(kafka.tls_bootstrap, kafka.username, kafka.password, "sasl_ssl")
    with pytest.raises(TemporarilyUnavailable, match="sasl_ssl"):
        create_admin(access, bootstrap_timeout_ms=2000)
    monkeypatch.setenv("SSL_CERT_FILE", str(kafka.authority))
    admin = create_admin(access)
    try:
        assert admin.describe_cluster()["brokers"]
    finally:
        admin.close()
