"""Say by the exit code whether the container's command still answers."""

import sys
import urllib.request
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from config.loading import merge_variables
from models.errors import InvalidConfiguration


@dataclass(frozen=True)
class Place:
    """Where a command answers, unless settings or command line say otherwise."""

    component: str
    port: str
    host: str = "0.0.0.0"  # noqa: S104 (it is only compared)
    port_variable: str = ""
    host_variable: str = ""


PLACES = {
    "serve": Place("service", "8080", port_variable="PP_PORT", host_variable="PP_HOST"),
    "worker": Place("service", "8000", port_variable="PP_METRICS_PORT"),
    "fan-out": Place("fan-out", "8000", port_variable="PP_METRICS_PORT"),
    "writer": Place("writer", "8000", port_variable="PP_METRICS_PORT"),
    "monitor": Place("testbed", "8002", host="127.0.0.1"),
}
#: Addresses that mean all of this machine's, and where those are asked.
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (they are only compared)


def main(command_line: Path = Path("/proc/1/cmdline")) -> int:
    """Look for the command, and ask it."""
    words = command_line.read_bytes().decode().split("\0")
    found = next((i for i, word in enumerate(words) if word in PLACES), None)
    if found is None:
        return 0  # What ends by itself needs no watching.
    try:
        url = address(PLACES[words[found]], [word for word in words[found + 1 :] if word])
        if url is None:
            return 0
        # Whatever proxy the surroundings name, it is not the way to oneself.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/health", timeout=2) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, InvalidConfiguration) as error:
        print(error, file=sys.stderr)
        return 1


def address(place: Place, arguments: list[str]) -> str | None:
    """Return the URL of a command; None if it answers nowhere.

    The command line wins over the environment, the environment over the
    settings file, as for the command itself.
    """
    environment, from_file = merge_variables(place.component)
    given = {name: value for name, value in from_file.items() if value is not None} | environment
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--host", default=given.get(place.host_variable, place.host))
    parser.add_argument("--port", default=given.get(place.port_variable, place.port))
    options, _ = parser.parse_known_args(arguments)
    host, port = (str(value).strip() for value in (options.host, options.port))
    if port == "0":
        return None
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
