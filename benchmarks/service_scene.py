"""The whole system on real servers, for the test of the chain and for bars.

PostgreSQL holds registry, ledger and APDB; S3 the central datastore and the
raw images; Kafka the announcements, the notifications, the alerts and the
writer's messages. Fan-out, writer and service (or stream worker) are processes
of their own, started as an operator would start them.
"""

from __future__ import annotations

__all__ = ["Addresses", "ServiceScene"]

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.demo.in_service import service_variables
from app.demo.program import Program
from app.demo.service_process import free_port
from app.demo.workplace import Workplace
from benchmarks.scene import SMALL_CAM
from simulator.plan import Plan


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
        kafka = self.addresses.kafka
        self.port = free_port()
        servers = {
            **self.addresses.s3,
            "PP_LEDGER_URL": f"{self.addresses.database}?schema=ledger",
            "IMAGE_BUCKET": self.image_bucket,
            **dict.fromkeys(("KAFKA_CLUSTER", "BUTLER_WRITER_KAFKA_CLUSTER", "AP_KAFKA_SERVER"), kafka),
            "BUCKET_TOPIC": self.topic("notifications"),
            "BUTLER_WRITER_KAFKA_TOPIC": self.topic("outputs"),
            "KAFKA_TOPIC": self.topic("outputs"),
            "KAFKA_OUTPUT_TOPIC": self.topic("ingested"),
            "AP_KAFKA_TOPIC": self.topic("alerts"),
            "NEXT_VISIT_TOPIC": self.topic("next-visit"),
            "CONSUMER_GROUP": self.topic("fan-out"),
            "KAFKA_SCHEMA_REGISTRY_URL": self.addresses.schema_registry,
            **dict.fromkeys(("REDIS_HOST", "REDIS_STREAM_HOST"), self.addresses.redis),
            "REDIS_STREAM_NAME": self.topic("stream"),
        }
        variables = service_variables(
            self.place, self.plan, servers, central=self.central, port=self.port, slots=slots
        )
        return {**variables, "PP_INSTRUMENT_PATH": str(SMALL_CAM.parent), "IMAGE_TIMEOUT": "30"}
