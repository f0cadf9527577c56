"""A data agent with everything it needs, real but for monitor and clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.data_runs import DataRun, FileState
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.messages import EndRun, Message, RunImminent, StartRun, StfGen, StfReady, read_message
from models.streaming.monitoring import (
    Execution,
    ExecutionStatus,
    NewStfFile,
    Run,
    RunState,
    StfFile,
    StfStatus,
    SystemAgent,
)
from repos.ledger_database import reading
from repos.streaming.data_store import DataStore
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from repos.streaming.stf_folders import StfFolders
from repos.streaming.tables import OUTBOX
from services.streaming.data_agent import DataAgent
from services.streaming.data_progress import DataLimits

NAMESPACE = "epic"
EXECUTION = "prompt_processing-alice-0001"


@cache
def _empty_database() -> bytes:
    """Return a database with all tables, which takes longer to make than to copy."""
    with TemporaryDirectory() as directory:
        create_streaming_engine(f"sqlite:///{directory}/agent.db").dispose()
        return Path(directory, "agent.db").read_bytes()


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class FakeMonitor:
    """What the data agent asks of a monitor."""

    def __init__(self) -> None:
        self.away = False
        self.refuses: set[str] = set()
        self.refuses_runs = False
        self.opened: dict[int, Mapping[str, Any] | None] = {}
        self.closed: list[int] = []
        self.registered: dict[str, StfFile] = {}
        self.statuses: dict[str, StfStatus] = {}
        self.known_executions: dict[str, Execution] = {}
        self.states: dict[int, RunState] = {}
        self.known_agents: list[SystemAgent] = []
        self.recorded: dict[str, list[Mapping[str, Any]]] = {}

    def _check(self) -> None:
        if self.away:
            raise TemporarilyUnavailable("the monitor answers 500")

    def open_run(
        self, run_number: int, *, start_time: datetime, run_conditions: Mapping[str, Any] | None = None
    ) -> Run:
        self._check()
        if self.refuses_runs:
            raise InvalidMessage("no such run, please")
        self.opened.setdefault(run_number, run_conditions)
        return Run(run_id=run_number, run_number=run_number, start_time=start_time)

    def close_run(self, run_number: int, *, end_time: datetime) -> None:
        self._check()
        self.closed.append(run_number)

    def register_files(self, run_number: int, files: Sequence[NewStfFile]) -> list[StfFile]:
        self._check()
        assert run_number in self.opened
        for file in files:
            if file.stf_filename in self.refuses:
                raise InvalidMessage(f"{file.stf_filename} is refused")
            row = StfFile(**file.model_dump(), file_id=uuid4(), run=run_number)
            if status := self.statuses.get(file.stf_filename):
                row = row.model_copy(update={"status": status})
            self.registered.setdefault(file.stf_filename, row)
        return [self.registered[file.stf_filename] for file in files]

    def executions(self, namespace: str, *, status: ExecutionStatus) -> list[Execution]:
        self._check()
        return [e for e in self.known_executions.values() if e.status == status]

    def execution(self, execution_id: str) -> Execution | None:
        self._check()
        return self.known_executions.get(execution_id)

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        self._check()
        ended = {"status": status, "end_time": end_time}
        self.known_executions[execution_id] = self.known_executions[execution_id].model_copy(update=ended)

    def agents(self, namespace: str) -> list[SystemAgent]:
        self._check()
        return self.known_agents

    def run_state(self, run_number: int) -> RunState | None:
        self._check()
        return self.states.get(run_number)

    def messages(self, execution_id: str) -> list[Mapping[str, Any]]:
        self._check()
        return self.recorded.get(execution_id, [])


class FaultyCatalogue(EmbeddedCatalogue):
    """A catalogue that fails when it is told to, and counts what it is asked."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.away: Collection[str] = ()
        self.refuses: set[str] = set()
        self.refuses_datasets = False
        self.closings: list[str] = []
        self.batches: list[int] = []
        #: Called with what is asked of which dataset; may not return for long.
        self.hangs: Callable[[str, str], object] = lambda what, dataset: None

    def create_dataset(self, dataset: DatasetId, *, lifetime: float) -> None:
        self.hangs("create_dataset", dataset.name)
        if dataset.name in self.away:
            raise TemporarilyUnavailable("the catalogue answers 500")
        if self.refuses_datasets:
            raise InvalidMessage("the scope is not yours")
        super().create_dataset(dataset, lifetime=lifetime)

    def add_files(self, dataset: DatasetId, files: Sequence[CatalogueFile]) -> None:
        self.hangs("add_files", dataset.name)
        if dataset.name in self.away:
            raise TemporarilyUnavailable("the catalogue answers 500")
        self.batches.append(len(files))
        for file in files:
            if file.name in self.refuses:
                raise InvalidMessage(f"{file.name} is refused")
        super().add_files(dataset, files)

    def close_dataset(self, dataset: DatasetId) -> None:
        self.hangs("close_dataset", dataset.name)
        if dataset.name in self.away:
            raise TemporarilyUnavailable("the catalogue answers 500")
        self.closings.append(dataset.name)
        super().close_dataset(dataset)


class DataWorld:
    """A folder, a database, a catalogue, a monitor, and a data agent."""

    def __init__(self, directory: Path, **limits: Any) -> None:
        self.container = directory / "container"
        self.container.mkdir(exist_ok=True)
        self.elsewhere = directory / "default"
        (directory / "agent.db").write_bytes(_empty_database())
        self.engine = create_streaming_engine(f"sqlite:///{directory}/agent.db")
        self.clock = Clock()
        self.monitor = FakeMonitor()
        self.catalogue = FaultyCatalogue(self.engine)
        self.store = DataStore(self.engine, namespace=NAMESPACE, agent=f"data.{NAMESPACE}")
        self.limits = DataLimits(**{"deadline": 60.0, "patience": 600.0, **limits})
        self.messages: list[Message] = []
        self.agent = self.restart()

    def restart(self) -> DataAgent:
        """Have a new agent go on where the last one was killed."""
        self.agent = DataAgent(
            name="data-agent-alice-1",
            namespace=NAMESPACE,
            store=self.store,
            catalogue=self.catalogue,
            monitor=self.monitor,  # type: ignore[arg-type]
            folders=StfFolders(settled=0.0),
            container=str(self.elsewhere),
            limits=self.limits,
            now=self.clock,
        )
        return self.agent

    def work(self, rounds: int = 50) -> None:
        """Do what is due now."""
        for _ in range(rounds):
            due = self.agent.advance()
            if due is None or due > 0:
                return
        raise AssertionError("the agent never rests")

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, and the agent work."""
        while seconds > 0:
            self.clock.pass_(min(step, seconds))
            seconds -= step
            self.work()

    def write(
        self, run: str, sequence: int, *, size: int | None = None, container: Path | None = None
    ) -> Path:
        """Write a file as the simulated DAQ does."""
        folder = (container or self.container) / f"swf.{run}.run"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"swf.{run}.{sequence:06d}.stf"
        body = self.stf_gen(run, sequence).to_body() | {"sender": None}
        path.write_bytes(json.dumps(body).encode() if size is None else b"x" * size)
        return path

    def imminent(self, run: str, **fields: Any) -> RunImminent:
        values = {"dataset": f"swf.{run}.run", "container": str(self.container), **fields}
        return RunImminent(namespace=NAMESPACE, run_id=run, execution_id=EXECUTION, **values)

    def start(self, run: str) -> StartRun:
        return StartRun(
            namespace=NAMESPACE, run_id=run, execution_id=EXECUTION, state="run", substate="physics"
        )

    def stf_gen(self, run: str, sequence: int, **fields: Any) -> StfGen:
        return StfGen(
            namespace=NAMESPACE,
            run_id=run,
            execution_id=EXECUTION,
            filename=f"swf.{run}.{sequence:06d}.stf",
            sequence=sequence,
            state="run",
            substate="physics",
            **fields,
        )

    def end(self, run: str, total: int | None) -> EndRun:
        return EndRun(namespace=NAMESPACE, run_id=run, execution_id=EXECUTION, total_stf_files=total)

    def ready(self, run: str) -> StfReady:
        return StfReady(namespace=NAMESPACE, run_id=run)

    def announce(self, run: str, files: int) -> list[Message]:
        """Write a run's files and return its messages."""
        for sequence in range(1, files + 1):
            self.write(run, sequence)
        gens = [self.stf_gen(run, sequence) for sequence in range(1, files + 1)]
        return [self.imminent(run), self.start(run), *gens, self.end(run, files)]

    def run(self, run: str) -> DataRun:
        return self.store.runs([run])[run]

    def states(self, run: str) -> dict[str, FileState]:
        return dict(self.store.known(run))

    def dataset(self, run: str) -> list[str]:
        return [file.name for file in self.catalogue.files(DatasetId("group.daq", f"swf.{run}.run"))]

    def outbox(self) -> list[Message]:
        """Messages that wait to be sent."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(OUTBOX.c.payload).order_by(OUTBOX.c.id)).scalars()
            return [read_message(row) for row in rows]
