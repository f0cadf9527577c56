from __future__ import annotations

import threading
import time

import pytest

from models.errors import TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from repos.kafka_clients import create_admin, create_consumer, create_producer
from simulator.servers.kafka import KafkaServer


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
