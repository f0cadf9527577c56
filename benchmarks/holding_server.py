"""A stand-in for the service: takes visits, notes when, answers later.

``python -m benchmarks.holding_server PORT SECONDS``; ``GET /times`` returns
when each visit of each group was there whole, UTC unix seconds.
"""

from __future__ import annotations

__all__ = ["main"]

import asyncio
import json
import sys
import time
from collections import defaultdict

_ANSWER = b'{"status":"processed"}'


class _Holder:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = b""
        if "content-length:" in head:
            body = await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
        arrived = time.time()
        answer = _ANSWER
        if head.startswith("get /times"):
            answer = json.dumps({"open": self._open, "times": self._times}).encode()
        else:
            group = json.loads(json.loads(body)["data"])["groupId"]
            self._times[group].append(arrived)
            self._open += 1
            await asyncio.sleep(self._seconds)
            self._open -= 1
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer
        )
        await writer.drain()
        writer.close()


async def _serve(port: int, seconds: float) -> None:
    server = await asyncio.start_server(_Holder(seconds).serve, "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))


if __name__ == "__main__":
    main()
