"""Visits for tests."""

from __future__ import annotations

import itertools
import time
from typing import Any

from models.times import tai_from_unix
from models.visits import FannedOutVisit

_numbers = itertools.count()


def visit_message(**fields: Any) -> dict[str, Any]:
    """Return the message of a visit published now, of a group of its own."""
    message = {
        "salIndex": 1,
        "scriptSalIndex": 1,
        "groupId": f"group-{next(_numbers)}",
        "coordinateSystem": 2,
        "position": [10.0, -5.0],
        "startTime": tai_from_unix(time.time()) + 20,
        "rotationSystem": 2,
        "cameraAngle": 30.0,
        "filters": "r",
        "dome": 2,
        "duration": 30.0,
        "nimages": 1,
        "instrument": "Fake-Cam",
        "survey": "",
        "totalCheckpoints": 1,
        "private_sndStamp": tai_from_unix(time.time()),
        "detector": 0,
    }
    return message | fields


def make_visit(**fields: Any) -> FannedOutVisit:
    """Return a visit published now, of a group of its own."""
    return FannedOutVisit.parse(visit_message(**fields))
