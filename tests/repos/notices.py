"""Bucket notifications for tests: made, sent and heard."""

from __future__ import annotations

__all__ = ["Inbox", "notice", "record", "until"]

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from models.raws import FoundImage

#: Seconds that anything may take on a busy machine.
PATIENCE = 120.0


def record(key: str, *, event: str = "ObjectCreated:Put", bucket: str = "raws", **stored: Any) -> Any:
    """Return one record of a notification."""
    return {
        "eventName": event,
        "eventTime": "2026-11-21T02:47:26.177Z",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, **stored}},
    }


def notice(*keys: str, **options: Any) -> bytes:
    """Return a notification of new objects."""
    return json.dumps({"Records": [record(key, **options) for key in keys]}).encode()


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until something is so; return it."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)
    return result


class Inbox:
    """Where images are delivered."""

    def __init__(self) -> None:
        self.images: list[FoundImage] = []
        self._changed = threading.Condition()

    def __call__(self, image: FoundImage) -> None:
        with self._changed:
            self.images.append(image)
            self._changed.notify_all()

    @property
    def exposures(self) -> list[int]:
        """Exposure ids, in order of delivery."""
        return [image.raw.exposure_id for image in self.images]

    def wait_for(self, *exposures: int) -> None:
        """Wait for images of these exposures."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: set(exposures) <= set(self.exposures), PATIENCE)
        assert arrived, f"{set(exposures) - set(self.exposures)} never came"
