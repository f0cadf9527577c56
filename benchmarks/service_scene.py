"""The whole system on real servers, for the test of the chain and for bars.

PostgreSQL holds registry, ledger and APDB; S3 the central datastore and the
raw images; Kafka the announcements, the notifications, the alerts and the
writer's messages. Fan-out, writer and service (or stream worker) are processes
of their own, started as an operator would start them.
"""

from __future__ import annotations

__all__ = ["Addresses", "Program", "ServiceScene"]

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from app.demo.service_process import free_port
from app.demo.workplace import Workplace
from benchmarks.scene import SMALL_CAM
from models.sky_map import SkyMap
from simulator.plan import Plan

#: Seconds that a program may take to end by itself.
_STOP_TIME = 30.0


@dataclass(frozen=True)
class Addresses:
    """Where the servers are.

    Attributes
    ----------
    database : `str`
        SQLAlchemy URL of an empty database with ``btree_gist``.
    kafka : `str`
    schema_registry : `str`
    redis : `str`
    s3 : mapping [`str`, `str`]
        Environment for clients of the S3 server.
    """

    database: str
    kafka: str
    schema_registry: str
    redis: str
    s3: Mapping[str, str]


class Program:
    """One ``prompt-processing`` process.

    Parameters
    ----------
    arguments : sequence of `str`
    environment : mapping [`str`, `str`]
        The whole environment.
    log : `pathlib.Path`
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends; return its exit code."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it, and all its children, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in good order; return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_TIME)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def tail(self, lines: int = 30) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class ServiceScene:
    """An observatory on servers: central repo, settings, programs.

    Parameters
    ----------
    root : `pathlib.Path`
        Directory for seed, logs and batch files.
    plan : `simulator.plan.Plan`
        What can be observed.
    addresses : `Addresses`
    central, image_bucket : `str`
        Where the central repo is made, ``s3://bucket/prefix``, and the name of
        the bucket for raw images.
    slots : `int`
    variables : mapping [`str`, `str`], optional
        Further settings.
    """

    def __init__(
        self,
        root: Path,
        plan: Plan,
        *,
        addresses: Addresses,
        central: str,
        image_bucket: str,
        slots: int = 2,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.addresses = addresses
        self.place = Workplace.create(root)
        self.batches = self.place.root / "batches"
        self.batches.mkdir()
        self.tag = uuid.uuid4().hex[:8]
        self.central = central
        self.image_bucket = image_bucket
        plan.write_seed_directory(self.place.seed)
        self.variables = self._settings(slots) | dict(variables or {})

    def topic(self, name: str) -> str:
        """Return the name of a topic (or stream) of this scene alone."""
        return f"{name}-{self.tag}"

    def run(self, *arguments: str, **variables: str) -> None:
        """Run a command of ours to its end.

        Parameters
        ----------
        *arguments : `str`
        **variables : `str`
            Settings besides those of the scene.

        Raises
        ------
        RuntimeError
            Raised if it fails; the text is what it printed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    @contextmanager
    def program(self, *arguments: str, **variables: str) -> Iterator[Program]:
        """Run a program while the context lasts."""
        log = self.place.root / f"{arguments[0]}-{uuid.uuid4().hex[:4]}.log"
        program = Program(*arguments, environment=self.environment(**variables), log=log)
        try:
            yield program
        finally:
            program.stop()

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the whole environment of a program."""
        kept = {n: os.environ[n] for n in ("PATH", "HOME", "LANG", "TMPDIR") if n in os.environ}
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        return kept | threads | self.variables | variables

    def prepare(self) -> None:
        """Make the central repo and the APDB, and initialise the night."""
        database = self.addresses.database
        self.run(
            "create-central",
            self.central,
            str(self.place.seed),
            f"--registry={database}",
            "--namespace=registry",
            f"--apdb={self.place.apdb}",
            f"--apdb-url={database}",
            "--apdb-namespace=apdb",
        )
        self.run("init", REGISTER_DATASET_TYPES="1")

    def _settings(self, slots: int) -> dict[str, str]:
        skymap = SkyMap.model_validate_json((self.place.seed / "skymap.json").read_bytes()).name
        instrument = self.plan.instrument.name
        routes = self.place.root / "routes.yaml"
        self.port = free_port()
        routes.write_text(
            yaml.safe_dump(
                {
                    "knative-urls": {instrument: f"http://127.0.0.1:{self.port}/next-visit"},
                    "redis-streams": {instrument: self.topic("stream")},
                    "detectors": {instrument: dict.fromkeys(self.plan.detectors, True)},
                }
            )
        )
        variables = self.place.write_settings(
            self.plan.instrument, skymap=skymap, port=self.port, slots=slots
        )
        for embedded in ("PP_IMAGE_DIRECTORY", "PP_ALERT_DIRECTORY"):
            del variables[embedded]
        kafka = self.addresses.kafka
        return {
            **variables,
            **self.addresses.s3,
            "PP_INSTRUMENT_PATH": str(SMALL_CAM.parent),
            "CENTRAL_REPO": self.central,
            "PP_LEDGER_URL": f"{self.addresses.database}?schema=ledger",
            "IMAGE_BUCKET": self.image_bucket,
            "IMAGE_TIMEOUT": "30",
            "KAFKA_CLUSTER": kafka,
            "BUCKET_TOPIC": self.topic("notifications"),
            "USE_KAFKA_BUTLER_WRITER": "1",
            "BUTLER_WRITER_KAFKA_CLUSTER": kafka,
            "BUTLER_WRITER_KAFKA_TOPIC": self.topic("outputs"),
            "AP_KAFKA_SERVER": kafka,
            "AP_KAFKA_TOPIC": self.topic("alerts"),
            # the writer
            "BUTLER_REPOSITORY": self.central,
            "KAFKA_TOPIC": self.topic("outputs"),
            "KAFKA_OUTPUT_TOPIC": self.topic("ingested"),
            "OUTPUT_DATASET_LIST_DIRECTORY": str(self.batches),
            # the fan-out
            "SUPPORTED_INSTRUMENTS": instrument,
            "INSTRUMENT_CONFIG_FILE": str(routes),
            "CONSUMER_GROUP": self.topic("fan-out"),
            "NEXT_VISIT_TOPIC": self.topic("next-visit"),
            "OFFSET": "earliest",
            "KAFKA_SCHEMA_REGISTRY_URL": self.addresses.schema_registry,
            "PLATFORM": "knative",
            "REDIS_HOST": self.addresses.redis,
            # the stream worker
            "REDIS_STREAM_HOST": self.addresses.redis,
            "REDIS_STREAM_NAME": self.topic("stream"),
            "REDIS_STREAM_CONSUMER_GROUP": "workers",
        }
