"""``python -m simulator.servers``: start the whole set and wait for Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from models.errors import PromptProcessingError
from simulator.servers.everything import ServerSet

#: Options of ``create-central`` that name databases.
_DATABASES = {"--registry": "central", "--apdb-url": "apdb"}


def main() -> int:
    """Start the servers, print the variables that name them, wait."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator.servers",
        description="Start PostgreSQL, Redis, Kafka, an S3 server and the double of a schema registry on "
        "127.0.0.1, print what to put into the environment, and stop them, their data too, at Ctrl-C.",
    )
    parser.add_argument("--durable", action="store_true", help="PostgreSQL and Redis wait for the disk.")
    arguments = parser.parse_args()
    # SIGINT, too: shells have what they start with "&" ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        with ServerSet(durable=arguments.durable) as servers:
            for name, value in servers.environment().items():
                print(f"export {name}={value!r}", flush=True)
            databases = [f"{option}={servers.postgresql.url(name)}" for option, name in _DATABASES.items()]
            print("# prompt-processing create-central s3://central/repo SKY", *databases, flush=True)
            print("# Ctrl-C stops the servers.", flush=True)
            while True:
                # Not signal.pause, which misses a signal that comes just before it.
                time.sleep(1.0)
    except KeyboardInterrupt:
        return 0
    except PromptProcessingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _leave(_number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
