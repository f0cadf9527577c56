"""An S3 server: moto's."""

from __future__ import annotations

__all__ = ["S3Server"]

import http.client
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.server_settings import ServerPlaces
from simulator.servers.errors import ServerFailed, ServerUnavailable
from simulator.servers.process import HOST, Server, free_port


class S3Server(Server):
    """The S3 server of moto, whose objects live in its memory.

    So they are gone after `stop`; for a server that does not answer for a
    while, with its objects kept, there are `pause` and `resume`.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
        Not used; it comes with the Python environment.
    directory : path-like, optional

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if moto is not installed beside this Python.
    """

    def __init__(self, *, places: ServerPlaces, directory: str | Path | None = None) -> None:
        self._program = Path(sys.executable).parent / "moto_server"
        if not self._program.exists():
            raise ServerUnavailable(
                f"{self._program} is missing: install the development dependencies with `make setup`"
            )
        super().__init__(name="s3", directory=directory)
        self._port = free_port()

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What clients need in their environment."""
        return {
            "S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Newer clients ask for checksums that not every server has.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def create_bucket(self, name: str) -> str:
        """Make a bucket.

        Returns
        -------
        uri : `str`
            ``s3://<name>/``.
        """
        status = self._request("PUT", f"/{name}")
        if status != http.client.OK:
            raise ServerFailed(f"bucket {name} could not be made: the S3 server answered {status}")
        return f"s3://{name}/"

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        return [sys.executable, self._program, "-H", HOST, "-p", str(self._port)]

    def variables(self) -> Mapping[str, str]:
        """Return what the process's environment has beyond ours."""
        # Its default of 16 MB in memory for each part is kept; its request
        # log is not worth the disk.
        return {"MOTO_S3_CUSTOM_ENDPOINTS": self.endpoint_url}

    def answers(self) -> bool:
        """Say whether it serves by now."""
        try:
            return self._request("GET", "/moto-api/") < http.client.BAD_REQUEST
        except OSError:
            return False

    def _request(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10.0)
        try:
            connection.request(method, path, headers={"Host": f"{HOST}:{self._port}"})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()
