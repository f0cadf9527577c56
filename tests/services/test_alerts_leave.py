"""Alerts on their whole way through the service: out of a slot, into the
ledger and to a broker, while their visit goes on or comes to a bad end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.events import ALERT
from models.ledger import RUNNING
from models.outcomes import Result, Timings
from models.visits import FannedOutVisit
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from services.admission import Answer
from services.outbox import OutboxDrain
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.state import PoolConfig
from services.slots.supervisor import TemplateSupervisor
from tests.gates import Gate
from tests.services.slots.conftest import FAKE
from tests.services.test_admission import World, visit
from tests.services.test_outbox import Broker, until

#: What the fake slot does: two exposures with an alert each, then the export.
ALERTS = "stage:executing=1 stage:publishing=1 send:10 send:20"
EXPORT = "stage:exporting=1"


class Service:
    """The parent's part, with a slot that does as it is told."""

    def __init__(self, directory: Path) -> None:
        engine = create_ledger_engine(f"sqlite:///{directory}/ledger.sqlite3")
        self.broker = Broker()
        self.outbox = Outbox(engine, exclusive=True)
        self.drain = OutboxDrain(store=self.outbox, senders={ALERT: self.broker}, sweep=3600.0)
        self.ledger = Ledger(engine, on_messages=self.drain.wake)
        self.pool = SlotPool(
            config=PoolConfig(count=1, visit_timeout=600.0),
            template=TemplateSupervisor(launch=lambda: TemplateProcess.launch(FAKE)),
        )
        arguments: dict[str, Any] = {"ledger": self.ledger, "slots": self.pool, "start_timeout": 120.0}
        self.admission = World().admission(**arguments)
        self._threads = ThreadPoolExecutor()
        self.drain.start()
        self.pool.start()

    def handle(self, steps: str) -> Future[Answer]:
        return self._threads.submit(self.admission.handle, announced(steps))

    def arrived(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.broker.arrived) == count

    def close(self) -> None:
        self.pool.close()
        self.drain.stop(10.0)
        self._threads.shutdown()


def announced(steps: str) -> FannedOutVisit:
    return visit(survey=steps, groupId="the same")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.close()


def test_they_are_there_while_the_slot_exports(service: Service, tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        steps = f"{ALERTS} {EXPORT} {gate.step}"
        handled = service.handle(steps)
        until(service.arrived(2))
        record = service.ledger.visit(announced(steps).key)
        assert record is not None
        assert (record.state, record.outcome, handled.done()) == (RUNNING, None, False)
    outcome = handled.result().outcome
    assert (outcome.result, outcome.alerts) == (Result.PROCESSED, 2)
    assert [len(payload) for _, payload in service.broker.arrived] == [10, 20]
    until(lambda: service.outbox.count_pending() == {})


def test_a_slot_that_dies_in_the_export_takes_none_along(service: Service) -> None:
    steps = f"{ALERTS} {EXPORT} kill-self"
    outcome = service.handle(steps).result().outcome
    assert (outcome.result, outcome.alerts) == (Result.NOT_RETRIABLE, 2)
    assert "2 alerts of the visit were sent already" in outcome.detail
    assert outcome.timings == Timings()
    until(service.arrived(2))
    # Nor are they made a second time.
    again = service.handle(steps).result()
    assert (again.repeated, again.outcome) == (True, outcome)
    assert len(service.broker.arrived) == 2


def test_a_service_that_dies_in_the_export_does_not_make_them_again(service: Service, tmp_path: Path) -> None:
    service.broker.away = True
    with Gate(tmp_path) as gate:
        steps = f"{ALERTS} {EXPORT} {gate.step}"
        service.handle(steps)
        until(lambda: service.outbox.count_pending() == {ALERT: 2})
        # What the next one finds, had this one died now.
        next_one = create_ledger_engine(f"sqlite:///{tmp_path}/ledger.sqlite3")
        assert Ledger(next_one).recover_orphans() == [announced(steps).key]
        claim = Ledger(next_one).claim(announced(steps), "fake-1", 20260301)
        assert not claim.granted
        assert claim.outcome is not None
        assert (claim.outcome.result, claim.outcome.alerts) == (Result.NOT_RETRIABLE, 2)
        next_one.dispose()
    service.broker.away = False
    until(service.arrived(2))
