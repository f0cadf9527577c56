"""The ActiveMQ server: STOMP with and without TLS, and what a restart keeps."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from config.server_settings import ServerPlaces
from simulator.servers.activemq import ActiveMQServer
from simulator.servers.certificates import make_certificates
from simulator.servers.errors import ServerUnavailable
from tests.servers import unique_name
from tests.stomp_client import CLIENT, Client, plain

pytestmark = pytest.mark.servers


def subscribe(client: Client, topic: str) -> None:
    durable = {"activemq.subscriptionName": f"{CLIENT}.{topic}", "receipt": "subscribed"}
    answer = client.ask(
        "SUBSCRIBE", destination=f"/topic/{topic}", id="1", ack="client-individual", **durable
    )
    assert answer.startswith("RECEIPT")


def test_a_durable_subscription_is_kept_over_a_death(activemq: ActiveMQServer) -> None:
    topic = unique_name()
    subscriber = plain(activemq)
    subscriber.log_in(activemq)
    subscribe(subscriber, topic)
    subscriber.ask("DISCONNECT", receipt="left")
    sender = plain(activemq)
    assert sender.log_in(activemq, name=unique_name()).startswith("CONNECTED")
    for number in range(3):
        sent = sender.ask("SEND", f"m{number}", destination=f"/topic/{topic}", persistent="true", receipt="s")
        assert sent.startswith("RECEIPT")
    activemq.kill()
    assert not activemq.answers()
    activemq.start()
    again = plain(activemq)
    again.log_in(activemq)
    subscribe(again, topic)
    assert [again.read().rpartition("\n")[2] for _ in range(3)] == ["m0", "m1", "m2"]


def test_a_queue_is_kept_over_a_stop(activemq: ActiveMQServer) -> None:
    queue = f"/queue/{unique_name()}"
    sender = plain(activemq)
    sender.log_in(activemq, name=unique_name())
    sender.ask("SEND", "kept", destination=queue, persistent="true", receipt="s")
    activemq.stop()
    activemq.start()
    reader = plain(activemq)
    reader.log_in(activemq, name=unique_name())
    assert reader.ask("SUBSCRIBE", destination=queue, id="1", ack="auto").endswith("kept")


def test_only_who_has_the_password_may_connect(activemq: ActiveMQServer) -> None:
    assert plain(activemq).log_in(activemq, password="guessed").startswith("ERROR")
    assert activemq.environment == {
        "ACTIVEMQ_HOST": "127.0.0.1",
        "ACTIVEMQ_PORT": str(activemq.port),
        "ACTIVEMQ_USER": "streaming",
        "ACTIVEMQ_PASSWORD": "secret",
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls_clients_can_verify_the_server(activemq: ActiveMQServer, host: str) -> None:
    context = ssl.create_default_context(cafile=activemq.ca_certs)
    context.load_cert_chain(*activemq.client_certificate)
    connection = socket.create_connection((activemq.host, activemq.ssl_port))
    with context.wrap_socket(connection, server_hostname=host) as tls:
        assert Client(tls).log_in(activemq, name=unique_name()).startswith("CONNECTED")


def test_tls_clients_refuse_another_authority(activemq: ActiveMQServer, tmp_path: Path) -> None:
    other = make_certificates(tmp_path, host=activemq.host, password="secret")
    context = ssl.create_default_context(cafile=other.ca)
    with (
        socket.create_connection((activemq.host, activemq.ssl_port)) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(connection, server_hostname=activemq.host)


def test_certificates_are_made_once(tmp_path: Path) -> None:
    first = make_certificates(tmp_path, host="127.0.0.1", password="secret")
    content = first.ca.read_bytes()
    assert make_certificates(tmp_path, host="127.0.0.1", password="secret") == first
    assert first.ca.read_bytes() == content


def test_an_unpacked_tree_without_broker_is_named(tmp_path: Path) -> None:
    (tmp_path / "activemq" / "usr/share/activemq/lib").mkdir(parents=True)
    with pytest.raises(ServerUnavailable, match="has no broker; remove"):
        ActiveMQServer(places=ServerPlaces(tmp_path, use_installed=False))
