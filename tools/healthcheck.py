"""Say by the exit code whether the container's command still answers."""

import os
import sys
import urllib.request
from pathlib import Path

#: Where each command answers: setting of the port, its default, path.
PLACES = {
    "serve": ("PP_PORT", "8080", "/health"),
    "worker": ("PP_METRICS_PORT", "8000", "/health"),
    "fan-out": ("PP_METRICS_PORT", "8000", "/health"),
    "writer": ("PP_METRICS_PORT", "8000", "/health"),
}


def main(command_line: Path = Path("/proc/1/cmdline")) -> int:
    """Look for the command, and ask it."""
    words = command_line.read_bytes().decode().split("\0")
    place = next((PLACES[word] for word in words if word in PLACES), None)
    if place is None:
        return 0  # What ends by itself needs no watching.
    variable, default, path = place
    port = os.environ.get(variable) or default
    if port == "0":
        return 0
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
