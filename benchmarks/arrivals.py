"""The parent process of slots that wait for images from a bucket.

``python -m benchmarks.arrivals notified`` and ``... whenever`` run with the
settings of a service in their environment and print what came out as JSON.
"""

from __future__ import annotations

__all__ = ["main"]

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from app.logging import configure_logging
from benchmarks.arrival_slot import DETECTORS
from benchmarks.notice_sender import WAITED_FOR
from config.settings import ServiceSettings, load_service_settings
from models.events import OutboxMessage
from models.kafka_access import KafkaAccess
from models.ledger import Claim
from models.outcomes import VisitOutcome
from models.pipelines import SelectedPipelines
from models.times import tai_from_unix
from models.visits import FannedOutVisit
from repos.bucket_listener import BucketListener
from repos.s3_client import create_s3_client
from services.admission import VisitAdmission
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.protocol import Stage
from services.slots.state import PoolConfig
from services.slots.supervisor import TemplateSupervisor
from simulator.io.bucket_delivery import BucketDelivery
from simulator.io.topic_writer import TopicWriter

#: Notifications of other detectors, a second: a whole focal plane's.
RATE = 189.0
#: Bytes of an image.
SIZE = 2 << 20
#: Rounds in which every slot gets a notification.
ROUNDS = 130
#: Visits of each form of key that get their image at each time.
VISITS = 100
#: Seconds that a visit takes.
DURATION = 5.0

_INSTRUMENTS = {"LSST": "LSSTCam", "imSim": "LSSTCam-imSim", "generic": "DemoCam"}
_DETECTORS = {number: name for name, number in DETECTORS.items()}


class _Ledger:
    """Grants everything."""

    def claim(self, visit: FannedOutVisit, deployment_id: str, day_obs: int) -> Claim:
        return Claim(granted=True)

    def refresh(self, visit: FannedOutVisit, deployment_id: str) -> bool:
        return True

    def send(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        messages: Sequence[OutboxMessage],
        lost: VisitOutcome,
    ) -> bool:
        return True

    def finish(
        self,
        visit: FannedOutVisit,
        deployment_id: str,
        day_obs: int,
        outcome: VisitOutcome,
        outbox: Sequence[OutboxMessage],
    ) -> None:
        pass


class _Observer:
    """Counts nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class _Selector:
    """Has one pipeline, which is never run."""

    def select(self, visit: FannedOutVisit) -> SelectedPipelines:
        return SelectedPipelines((), ("Nothing.yaml",))


class Parent:
    """Listener, slots and admission of visits, as in the service."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.listener = BucketListener(
            KafkaAccess(settings.kafka_cluster or ""),
            topic=settings.bucket_topic,
            bucket=settings.image_bucket or "",
            memory=settings.image_memory,
        )
        self.pool = SlotPool(
            config=PoolConfig(count=settings.worker_count),
            template=TemplateSupervisor(
                launch=lambda: TemplateProcess.launch("benchmarks.arrival_slot:prepare")
            ),
        )
        self._admissions = {name: self._admission(name) for name in _INSTRUMENTS.values()}

    def __enter__(self) -> Self:
        self.pool.start()
        _until(lambda: self.pool.snapshot().usable == self.settings.worker_count)
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.stop()
        self.pool.close()

    def handle(self, instrument: str, group: str, detector: int) -> VisitOutcome:
        now = tai_from_unix(time.time())
        visit = FannedOutVisit(
            salIndex=1, scriptSalIndex=1, groupId=group, coordinateSystem=2, position=(10.0, -20.0),
            startTime=now, rotationSystem=2, cameraAngle=30.0, filters="r_01", dome=2, duration=DURATION,
            nimages=1, instrument=instrument, survey="", totalCheckpoints=1, private_sndStamp=now,
            detector=detector,
        )  # fmt: skip
        return self._admissions[instrument].handle(visit).outcome

    def waits(self, group: str) -> bool:
        """Say whether a slot has nothing left to do for a group but wait."""
        return any(group in s.visit and s.stage == Stage.WAITING for s in self.pool.snapshot().slots)

    def _admission(self, instrument: str) -> VisitAdmission:
        return VisitAdmission(
            instrument=instrument,
            detectors=_DETECTORS,
            selector=_Selector(),
            ledger=_Ledger(),
            images=self.listener,
            slots=self.pool,
            observer=_Observer(),
            message_expiration=3600.0,
            start_timeout=60.0,
            record_timeout=60.0,
            tai_now=lambda: tai_from_unix(time.time()),
            labels=lambda _: contextlib.nullcontext(),
        )


def _until(condition: Callable[[], Any], patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark waited in vain")
        time.sleep(0.002)


def _keys(form: str, number: int, group: str, detector: int) -> tuple[str, str | None]:
    """Return the key of an image, and of its sidecar."""
    name = _DETECTORS[detector]
    if form == "LSST":
        stem = f"MC_O_20260301_{number:06d}"
        key = f"LSSTCam/20260301/{stem}/{stem}_{name}"
        return f"{key}.fits", f"{key}.json"
    if form == "imSim":
        key = f"LSSTCam-imSim/20260301/{number}/{number}_r.1_{detector}_{name}"
        return f"{key}.fits.fz", f"{key}.json"
    return f"DemoCam/{detector}/{group}/0/{number}/r_01/DemoCam_{number}.fits", None


def _content(key: str) -> bytes:
    """Return an image that says which it is."""
    first = key.rpartition("/")[2].encode() + b"\n"
    return first + random.randbytes(SIZE - len(first))


def _sidecar(group: str) -> bytes:
    return json.dumps({"GROUPID": group, "INSTRUME": "LSSTCam"}).encode()


@contextlib.contextmanager
def _sender(settings: ServiceSettings) -> Iterator[Callable[[str], None]]:
    command = [sys.executable, "-m", "benchmarks.notice_sender"]
    where = [settings.kafka_cluster or "", settings.bucket_topic, settings.image_bucket or "", str(RATE)]
    with subprocess.Popen([*command, *where], stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None

        def send(key: str) -> None:
            assert process.stdin is not None
            process.stdin.write(f"{key}\n")
            process.stdin.flush()

        yield send
        process.stdin.close()


def notified(parent: Parent) -> dict[str, Any]:
    """Measure from notification to start of ingest at waiting slots."""
    settings = parent.settings
    client = create_s3_client(settings.s3_endpoint_url)
    parent.listener.start()
    _until(lambda: parent.listener.trouble is None)
    detectors = list(DETECTORS.values())[-WAITED_FOR:]
    delays: list[float] = []
    failures: list[str] = []
    with _sender(settings) as send, ThreadPoolExecutor(WAITED_FOR) as pool:
        time.sleep(3.0)
        for number in range(ROUNDS):
            visits = [(f"group{number}-{detector}", detector) for detector in detectors]
            keys = [_keys("LSST", number, group, detector) for group, detector in visits]
            for (group, _), (key, sidecar) in zip(visits, keys, strict=True):
                client.put_object(Bucket=settings.image_bucket, Key=key, Body=_content(key))
                client.put_object(Bucket=settings.image_bucket, Key=sidecar, Body=_sidecar(group))
            answers = [pool.submit(parent.handle, "LSSTCam", group, d) for group, d in visits]
            _until(lambda: all(parent.waits(group) for group, _ in visits))  # noqa: B023 (called at once)
            time.sleep(0.5)
            for key, sidecar in keys:
                # Anywhere in a second's notifications; the sidecar first, as cameras do.
                time.sleep(random.uniform(0.0, 2.0 / WAITED_FOR))
                send(sidecar or "")
                send(key)
            for answer in answers:
                outcome = answer.result()
                if outcome.exposures:
                    delays += json.loads(outcome.detail)
                else:
                    failures.append(outcome.detail)
            for key, _ in keys:
                # The server keeps them in memory.
                client.delete_object(Bucket=settings.image_bucket, Key=key)
    return {"delays": delays, "failures": failures}


def whenever(parent: Parent) -> dict[str, Any]:
    """Have images arrive before, during and after their announcement."""
    settings = parent.settings
    writer = TopicWriter(address=KafkaAccess(settings.kafka_cluster or ""), topic=settings.bucket_topic)
    delivery = BucketDelivery(
        bucket=settings.image_bucket or "", notify=writer.send, endpoint_url=settings.s3_endpoint_url
    )
    outcomes: dict[str, list[str]] = {}

    def deliver(form: str, number: int, group: str, detector: int) -> None:
        key, sidecar = _keys(form, number, group, detector)
        if sidecar is not None:
            delivery.deliver(sidecar, _sidecar(group))
        delivery.deliver(key, _content(key)[: SIZE >> 5])

    def observe(form: str, when: str, number: int, *, early: bool) -> None:
        group, detector = f"2026-11-21T02:{form}:{number}", list(_DETECTORS)[number % len(_DETECTORS)]
        image = (form, number, group, detector)
        pause = random.uniform(0.0, 0.1)
        with ThreadPoolExecutor(1) as pool:
            if when == "before":
                if not early:
                    deliver(*image)
                    time.sleep(pause)
                answer = pool.submit(parent.handle, _INSTRUMENTS[form], group, detector)
            else:
                answer = pool.submit(parent.handle, _INSTRUMENTS[form], group, detector)
                if when == "after":
                    _until(lambda: parent.waits(group))
                    time.sleep(pause)
                elif number % 2:
                    time.sleep(pause / 10.0)
                deliver(*image)
            outcome = answer.result()
        text = "" if outcome.exposures else f"{form}, {when}: {outcome.result}: {outcome.detail}"
        outcomes.setdefault(f"{form}, {when}", []).append(text)

    number = iter(range(1, 1 << 30))
    tasks = [
        (form, when, next(number), when == "before" and place % 2 == 0)
        for form in _INSTRUMENTS
        for when in ("before", "during", "after")
        for place in range(VISITS)
    ]
    for form, _, sequence, early in tasks:
        if early:
            # Even before anybody listens.
            group, detector = f"2026-11-21T02:{form}:{sequence}", list(_DETECTORS)[sequence % len(_DETECTORS)]
            deliver(form, sequence, group, detector)
    parent.listener.start()
    _until(lambda: parent.listener.trouble is None)
    random.shuffle(tasks)
    with ThreadPoolExecutor(settings.worker_count) as pool:
        list(pool.map(lambda task: observe(*task[:3], early=task[3]), tasks))
    writer.close()
    return outcomes


def main() -> None:
    """Run from the command line."""
    settings = load_service_settings()
    configure_logging(settings.log_levels)
    measure = {"notified": notified, "whenever": whenever}[sys.argv[1]]
    threading.current_thread().name = "benchmark"
    with Parent(settings) as parent:
        print(json.dumps(measure(parent)), flush=True)


if __name__ == "__main__":
    main()
