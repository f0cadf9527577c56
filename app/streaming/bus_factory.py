"""The bus that settings name."""

from __future__ import annotations

__all__ = ["create_stomp_bus", "stomp_broker"]

from config.streaming.settings import StreamingSettings
from repos.streaming.stomp_bus import StompBus
from repos.streaming.stomp_connection import Broker
from repos.streaming.stomp_transport import BrokerTls


def stomp_broker(settings: StreamingSettings, *, client_id: str) -> Broker:
    """Return the broker that settings name, and who we are to it.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    client_id : `str`
        The same at every start of who connects, and nobody else's.
    """
    tls = BrokerTls(
        ca_certs=settings.activemq_ssl_ca_certs,
        certificate=settings.activemq_ssl_cert_file,
        key=settings.activemq_ssl_key_file,
    )
    return Broker(
        host=settings.activemq_host,
        port=settings.activemq_port,
        user=settings.activemq_user,
        password=settings.activemq_password.get_secret_value(),
        client_id=client_id,
        tls=tls if settings.activemq_use_ssl else None,
    )


def create_stomp_bus(settings: StreamingSettings, *, client_id: str) -> StompBus:
    """Return a connection to the broker; not started.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    client_id : `str`
        See `stomp_broker`.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a certificate cannot be read.
    """
    return StompBus(stomp_broker(settings, client_id=client_id))
