"""What the tests of the fan-out share: visits, and an observer that counts."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from config.instrument_routes import InstrumentRoute
from models.fan_out import Answer, NextVisitRecord, SkipReason
from models.visits import SummitVisit
from tests.models.test_visits import summit_message

#: UTC unix time at which the visits of these tests are published.
PUBLISHED = 1743476363.25
ROUTE = InstrumentRoute("LSSTCam", (0, 4, 94), ("http://worker/next-visit",), "instrument:lsstcam", {3: (7,)})


def announcement(**changes: Any) -> dict[str, Any]:
    """A nextVisit; a field that is set to ``...`` is left out."""
    fields = {**summit_message(), **changes}
    return {name: value for name, value in fields.items() if value is not ...}


def record(content: object, offset: int = 0) -> NextVisitRecord:
    """A record that was appended when it was published."""
    value = content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
    return NextVisitRecord(partition=0, offset=offset, value=value, timestamp=PUBLISHED)


class Counts:
    """A `services.fan_out.FanOutObserver`."""

    def __init__(self) -> None:
        self.skips: list[SkipReason] = []
        self.count: Counter[str] = Counter()
        self.answers: list[int | str] = []

    def announced(self, visit: SummitVisit, copies: int) -> None:
        self.count["announced"] += copies

    def skipped(self, reason: SkipReason) -> None:
        self.skips.append(reason)

    def sent(self, instrument: str, seconds: float) -> None:
        self.count["sent"] += 1

    def begun(self, instrument: str) -> None:
        self.count["under way"] += 1

    def ended(self, instrument: str, seconds: float) -> None:
        self.count["under way"] -= 1

    def refused(self, instrument: str) -> None:
        self.count["refused"] += 1

    def retried(self, instrument: str) -> None:
        self.count["retried"] += 1

    def answered(self, instrument: str, answer: Answer | None) -> None:
        self.answers.append("lost" if answer is None else answer.status or "broken")
