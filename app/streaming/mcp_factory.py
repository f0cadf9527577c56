"""Wiring of the MCP server."""

from __future__ import annotations

__all__ = ["Address", "parse_address", "run_over_http", "run_over_stdio", "workflow_queries"]

import ipaddress
import logging
import signal
from typing import NamedTuple

import uvicorn

from app.streaming.job_sources import job_source
from app.streaming.mcp_server import create_mcp_server, http_application
from app.streaming.pages.sources import monitor_records
from config.streaming.settings import StreamingSettings
from models.errors import InvalidConfiguration
from services.streaming.workflow_queries import WorkflowQueries

_log = logging.getLogger(__name__)


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT``, which is on this
    machine only.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it is none of these.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise InvalidConfiguration(f"--http {text}: write it like 127.0.0.1:8010, or 8010")
    return Address(host, int(port))


def workflow_queries(settings: StreamingSettings) -> WorkflowQueries:
    """Return what answers, from the monitor's database, which need not be
    there before it is asked for.
    """
    return WorkflowQueries(
        records=monitor_records(settings.monitor_database_url),
        jobs=job_source(settings),
        pages=settings.monitor_url or "",
    )


def run_over_stdio(settings: StreamingSettings) -> None:
    """Serve one client over standard input and output, until it is gone."""
    server = create_mcp_server(workflow_queries(settings))
    # A thread waits for the client's next line, and no exception wakes it.
    # Who only reads may end at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server.run("stdio")
    except* BrokenPipeError:
        _log.info("The client is gone.")


def run_over_http(settings: StreamingSettings, address: Address) -> None:
    """Serve clients over HTTP, until a signal comes.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if others could reach the server and there is no token.
    """
    token = settings.mcp_token.get_secret_value().strip() or None
    if token is None and not address.is_loopback:
        raise InvalidConfiguration(
            f"--http {address.host}:{address.port} can be reached from outside: set PP_MCP_TOKEN, "
            "which clients must then present, or listen on 127.0.0.1"
        )
    server = create_mcp_server(workflow_queries(settings))
    application = http_application(server, host=address.host, token=token)
    # Logs are configured already.
    config = uvicorn.Config(
        application, host=address.host, port=address.port, log_config=None, access_log=False
    )
    uvicorn.Server(config).run()
