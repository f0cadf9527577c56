"""STOMP by hand, so that brokers are tried without the code that uses them."""

from __future__ import annotations

import socket

from simulator.servers.activemq import ActiveMQServer

CLIENT = "recorder"


class Client:
    """STOMP by hand: the server is tried without the code that uses it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(10.0)
        self._rest = b""

    def ask(self, command: str, body: str = "", **headers: str) -> str:
        """Send a frame; return the next one that comes."""
        lines = [command, *(f"{name.replace('_', '-')}:{value}" for name, value in headers.items())]
        self._connection.sendall(("\n".join(lines) + f"\n\n{body}\0").encode())
        return self.read()

    def read(self) -> str:
        while b"\0" not in self._rest:
            received = self._connection.recv(65536)
            assert received, "the server hung up"
            self._rest = (self._rest + received).lstrip(b"\n")
        frame, _, self._rest = self._rest.partition(b"\0")
        return frame.decode()

    def log_in(self, server: ActiveMQServer, *, password: str = "", name: str = CLIENT) -> str:
        return self.ask(
            "CONNECT",
            **{"accept-version": "1.1", "host": "h", "client-id": name},
            login=server.user,
            passcode=password or server.password,
        )


def plain(server: ActiveMQServer) -> Client:
    return Client(socket.create_connection((server.host, server.port)))
