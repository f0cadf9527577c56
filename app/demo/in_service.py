"""The demo on real servers: every part of the service form, on one machine.

PostgreSQL holds registry, APDB and ledger; S3 the central datastore and the
raws; Kafka announcements, notifications, alerts and the writer's messages.
Fan-out, writer and service are processes of their own.
"""

from __future__ import annotations

__all__ = ["ServiceInstallation", "service_variables"]

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from app.demo.installation import NightResult
from app.demo.program import Program
from app.demo.service_process import free_port
from app.demo.table import outcome_of
from app.demo.workplace import Workplace
from app.initialising import initialise, nights_to_prepare
from app.progress import Report
from config.child_environment import child_environment
from config.environment import apply_library_variables
from config.settings import load_service_settings
from init_job.create_central import create_central
from init_job.new_repository import create_apdb
from models.kafka_access import KafkaAccess
from models.sky_map import SkyMap
from repos.alert_encoding import datums_to_file
from repos.alert_schema import latest_alert_schema_version
from simulator.announcing import TopicAnnouncer
from simulator.io.bucket_delivery import BucketDelivery
from simulator.io.next_visit_topic import NextVisitTopic
from simulator.io.service_client import is_ready, look_up_visit
from simulator.io.topic_reader import TopicMessage, read_topic
from simulator.io.topic_writer import TopicWriter
from simulator.observatory import Observatory
from simulator.observing import Progress, Timing, VisitReport
from simulator.plan import Plan
from simulator.score import read_alerts
from simulator.servers.everything import ServerSet

#: Seconds within which alerts must have arrived, and outputs must have been
#: registered, after the last visit's result.
_PATIENCE = 60.0
#: Bytes before an alert in Confluent's wire format.
_FRAME = 5
#: What is the same for every demo.
_DEFAULTS = {
    "CONSUMER_GROUP": "fan-out",
    "OFFSET": "earliest",
    "PLATFORM": "knative",
    "RETRY_KNATIVE_REQUESTS": "1",
    "USE_KAFKA_BUTLER_WRITER": "1",
    "REDIS_STREAM_CONSUMER_GROUP": "workers",
    "REDIS_STREAM_NAME": "visits",
}
#: Where the central repo is, among the buckets that the servers bring.
_CENTRAL = "s3://central/"


def service_variables(
    place: Workplace, plan: Plan, servers: Mapping[str, str], *, central: str, port: int, slots: int
) -> dict[str, str]:
    """Return, and write, the settings of all parts of the service form.

    Parameters
    ----------
    place : `app.demo.workplace.Workplace`
        With its seed directory.
    plan : `simulator.plan.Plan`
    servers : mapping [`str`, `str`]
        See `simulator.servers.everything.ServerSet.environment`.
    central : `str`
        URI of the central repo.
    port : `int`
        Of the service.
    slots : `int`
    """
    skymap = SkyMap.model_validate_json((place.seed / "skymap.json").read_bytes()).name
    instrument = plan.instrument.name
    stream = servers.get("REDIS_STREAM_NAME", _DEFAULTS["REDIS_STREAM_NAME"])
    routes = {
        "knative-urls": {instrument: f"http://127.0.0.1:{port}/next-visit"},
        "redis-streams": {instrument: stream},
        "detectors": {instrument: dict.fromkeys(plan.detectors, True)},
    }
    (place.root / "routes.yaml").write_text(yaml.safe_dump(routes))
    place.batches.mkdir(exist_ok=True)
    embedded = place.write_settings(plan.instrument, skymap=skymap, port=port, slots=slots)
    variables = {
        **{n: v for n, v in embedded.items() if n not in ("PP_IMAGE_DIRECTORY", "PP_ALERT_DIRECTORY")},
        **_DEFAULTS,
        **servers,
        "CENTRAL_REPO": central,
        "BUTLER_REPOSITORY": central,
        "OUTPUT_DATASET_LIST_DIRECTORY": str(place.batches),
        "SUPPORTED_INSTRUMENTS": instrument,
        "INSTRUMENT_CONFIG_FILE": str(place.root / "routes.yaml"),
    }
    place.settings_file.write_text(yaml.safe_dump(variables, sort_keys=False))
    return variables


class ServiceInstallation:
    """The service form, with its servers.

    Parameters
    ----------
    place : `app.demo.workplace.Workplace`
        Its seed directory is filled.
    plan : `simulator.plan.Plan`
    slots : `int`
    """

    def __init__(self, *, place: Workplace, plan: Plan, slots: int) -> None:
        self._place = place
        self._plan = plan
        self._slots = slots
        self._servers = ServerSet()
        self._port = free_port()
        self._variables: dict[str, str] = {}
        self._programs: list[Program] = []

    @property
    def url(self) -> str:
        """Where the service listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def outputs(self) -> str:
        """Where outputs go, for people."""
        return f"{self._variables['CENTRAL_REPO']} (a Butler repository, registry on PostgreSQL)"

    @property
    def alerts(self) -> str:
        """Where alerts go, for people."""
        return f"topic {self._variables['AP_KAFKA_TOPIC']} on Kafka; a copy in {self._alert_file}"

    def prepare(self, report: Report) -> None:
        """Start the servers; make repositories and databases."""
        place = self._place
        report("start PostgreSQL, S3, Kafka and Redis", 0, 1)
        addresses = self._servers.environment()
        report("start PostgreSQL, S3, Kafka and Redis", 1, 1)
        self._variables = service_variables(
            place, self._plan, addresses, central=_CENTRAL, port=self._port, slots=self._slots
        )
        # S3 clients of this process find their server in the environment.
        apply_library_variables("service", file=place.settings_file)
        create_central(
            _CENTRAL,
            place.seed,
            registry=self._servers.postgresql.url("central"),
            progress=lambda what, done, total: report(f"store {what}", done, total),
        )
        create_apdb(self._servers.postgresql.url("apdb"), place.apdb)
        with_types = {**self._variables, "REGISTER_DATASET_TYPES": "1"}
        initialise(load_service_settings(with_types), nights_to_prepare())

    def start(self) -> None:
        """Start writer, fan-out and service, and wait until visits can be
        taken.
        """
        environment = child_environment(self._variables)
        for name in ("writer", "fan-out"):
            log = self._place.root / f"{name}.log"
            self._programs.append(Program(name, environment=environment, log=log))
        service = Program("serve", environment=environment, log=self._place.log)
        self._programs.append(service)
        service.wait_until(lambda: is_ready(self.url))

    def observe(self, plan: Plan, progress: Progress) -> NightResult:
        """Observe a plan: announcements on Kafka as the summit has them, raws
        into a bucket.
        """
        kafka = self._variables["KAFKA_CLUSTER"]
        visits = TopicWriter(address=KafkaAccess(kafka), topic=self._variables["NEXT_VISIT_TOPIC"])
        notices = TopicWriter(address=KafkaAccess(kafka), topic=self._variables["BUCKET_TOPIC"])
        try:
            reports = Observatory(
                announcer=TopicAnnouncer(
                    publish=NextVisitTopic(
                        writer=visits, schema_registry=self._variables["KAFKA_SCHEMA_REGISTRY_URL"]
                    ),
                    look_up=lambda visit: look_up_visit(self.url, visit),
                ),
                delivery=BucketDelivery(
                    bucket=self._variables["IMAGE_BUCKET"],
                    notify=notices.send,
                    endpoint_url=self._variables["S3_ENDPOINT_URL"],
                ),
                timing=Timing(),
                progress=progress,
            ).observe(plan)
        finally:
            visits.close()
            notices.close()
        return self._gather(reports)

    def wait(self) -> None:
        """Wait until the service ends by itself."""
        self._programs[-1].process.wait()

    def stop(self) -> None:
        """Stop the programs, then the servers."""
        while self._programs:
            self._programs.pop().stop()
        self._servers.close()

    @property
    def _alert_file(self) -> Path:
        return self._place.alerts / "received.avro"

    def _gather(self, reports: list[VisitReport]) -> NightResult:
        """Read what arrived on Kafka."""
        outcomes = [outcome for r in reports if (outcome := outcome_of(r)) is not None]
        deadline = time.monotonic() + _PATIENCE
        alerts = sum(outcome.alerts for outcome in outcomes)
        received = self._read("AP_KAFKA_TOPIC", deadline, lambda messages: len(messages) >= alerts)
        outputs = sum(outcome.outputs for outcome in outcomes)
        events = self._read(
            "KAFKA_OUTPUT_TOPIC", deadline, lambda messages: self._registered(messages) >= outputs
        )
        faults = []
        if len(received) != alerts:
            faults.append(f"{len(received)} of {alerts} alerts arrived on Kafka")
        if (registered := self._registered(events)) < outputs:
            faults.append(f"the writer registered {registered} of {outputs} outputs")
        self._place.alerts.mkdir(exist_ok=True)
        self._alert_file.write_bytes(
            datums_to_file([message.value[_FRAME:] for message in received], latest_alert_schema_version())
        )
        return NightResult(reports, [self._alert_file], self._latencies(reports, received), faults)

    def _read(
        self, topic: str, deadline: float, enough: Callable[[Sequence[TopicMessage]], bool]
    ) -> list[TopicMessage]:
        return read_topic(
            self._variables["KAFKA_CLUSTER"],
            self._variables[topic],
            enough=enough,
            timeout=max(1.0, deadline - time.monotonic()),
        )

    def _registered(self, events: Sequence[TopicMessage]) -> int:
        """Return how many datasets the writer says it has registered."""
        datasets: set[str] = set()
        for event in events:
            name = json.loads(event.value)["batch_file"]
            datasets.update(json.loads((self._place.batches / name).read_bytes())["datasets"])
        return len(datasets)

    def _latencies(self, reports: list[VisitReport], received: list[TopicMessage]) -> list[float]:
        """Return the seconds from each raw to its last alert on Kafka."""
        last: dict[tuple[int, int], float] = {}
        for alert, message in zip(read_alerts([self._alert_file]), received, strict=True):
            key = alert.visit, alert.detector
            last[key] = max(last.get(key, 0.0), message.sent_unix)
        found = []
        for report in reports:
            for exposure in report.exposure_ids:
                with suppress(KeyError):
                    assert report.raw_delivered_at is not None
                    found.append(last[exposure, report.visit.detector] - report.raw_delivered_at)
        return found
