"""Runs workflows: one that it is handed, or those that commands ask for."""

from __future__ import annotations

__all__ = ["DaqRunner"]

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from models.errors import TemporarilyUnavailable
from models.streaming.daq import DaqWorkflow
from models.streaming.messages import COMMAND_QUEUE, RUN_TOPIC, Message
from models.streaming.monitoring import AgentState, ExecutionStatus
from models.streaming.names import DAQ_TYPE
from simulator.daq.bus import DaqBus
from simulator.daq.commands import CommandDesk, LoadWorkflow
from simulator.daq.continuation import Continuation
from simulator.daq.control import Control
from simulator.daq.execution import DaqResult, Executor
from simulator.daq.journal import DaqJournal, NoJournal, RunRecord
from simulator.daq.keeping import RunKeeper, Sender
from simulator.daq.monitor import DaqMonitor
from simulator.daq.registration import Registrar
from simulator.daq.reporting import HEARTBEAT, Reporter
from simulator.daq.standing import Standing

_log = logging.getLogger(__name__)
_R = TypeVar("_R")
#: Seconds that a run has to come to its end when the runner does.
_PATIENCE = 60.0


class DaqRunner:
    """Runs workflows, one at a time.

    Methods may be called from any thread.

    Parameters
    ----------
    bus : `simulator.daq.bus.DaqBus`
        Started and stopped by this.
    monitor : `simulator.daq.monitor.DaqMonitor`
    namespace : `str`
        Whose workflows it runs.
    user : `str`
        In whose name.
    agent_type : `str`, optional
        What it is to the monitor; a runner of one workflow has that
        workflow's name in the field.
    load : `simulator.daq.commands.LoadWorkflow`, optional
        With it, commands are followed.
    journal : `simulator.daq.journal.DaqJournal`, optional
        With it, a run that the last process left is gone on with. Closed by
        this.
    on_message : callable, optional
        Sees every message about a run, after it was handed to the bus.
    topic : `str`, optional
        Where those messages go.
    heartbeat : `float`, optional
        Seconds between signs of life.
    """

    def __init__(
        self,
        *,
        bus: DaqBus,
        monitor: DaqMonitor,
        namespace: str,
        user: str,
        agent_type: str = DAQ_TYPE,
        load: LoadWorkflow | None = None,
        journal: DaqJournal | None = None,
        on_message: Callable[[Message], None] | None = None,
        topic: str = RUN_TOPIC,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._bus = bus
        self._namespace = namespace
        self._agent_type = agent_type
        self._changed = threading.Condition()
        self._current: tuple[RunKeeper, Control] | None = None
        self._interrupted: tuple[RunKeeper, Control] | None = None
        self._reserved = False
        self._stop_all = threading.Event()
        self._worker: threading.Thread | None = None
        self._topic = topic
        self._journal = journal if journal is not None else NoJournal()
        self._sender = Sender(journal=self._journal, bus=bus)
        self._standing = Standing(
            bus=bus,
            monitor=monitor,
            namespace=namespace,
            user=user,
            agent_type=agent_type,
            describe=self.describe,
        )
        self._reporter = Reporter(
            monitor=monitor,
            describe=self._standing.report,
            connected=lambda: bus.connected,
            interval=heartbeat,
            told=self._journal.forget,
        )
        self._registrar = Registrar(monitor=monitor, user=user)
        self._executor = Executor(bus=bus, reporter=self._reporter, user=user, on_message=on_message)
        self._continuation = Continuation(
            executor=self._executor,
            registrar=self._registrar,
            reporter=self._reporter,
            monitor=monitor,
            journal=self._journal,
            sender=self._sender,
            keep=self._keeper,
        )
        self._desk: CommandDesk | None = None
        if load is not None:
            self._desk = CommandDesk(
                runner=self,
                journal=self._journal,
                sender=self._sender,
                monitor=monitor,
                load=load,
                topic=topic,
            )

    @property
    def name(self) -> str:
        """By which it signs; with the process's id while the monitor gave none."""
        return self._standing.name

    @property
    def namespace(self) -> str:
        """Whose workflows it runs."""
        return self._namespace

    @property
    def execution_id(self) -> str | None:
        """The execution that is running, if one is."""
        current = self._current
        return current[0].record.execution_id if current else None

    @property
    def busy(self) -> bool:
        """Whether a run is being prepared or running."""
        return self._reserved

    def start(self) -> None:
        """Connect and give signs of life, and follow commands if it is to.
        What the last process left is taken up.
        """
        self._interrupted = self._continuation.take_up()
        if self._interrupted is not None:
            keeper, _ = self._interrupted
            # Its messages stay those of one sender, which others know to be alive.
            self._standing.keep_name(keeper.record.sender)
            self._reserved = True
            self._current = self._interrupted
            # A stop that came while this was being taken up holds for it.
            if self._stop_all.is_set():
                self.stop_run()
            self._become(AgentState.PROCESSING)
        if self._desk is not None:
            self._bus.subscribe(COMMAND_QUEUE, self._desk.receive)
        self._reporter.start()
        self._bus.start()
        if self._desk is None:
            return
        if self._interrupted is None:
            self._become(AgentState.READY)
        else:
            self._work(self._go_on, *self._interrupted)
        # It may take a monitor that is away some time.
        threading.Thread(target=self._desk.follow_the_rest, name="daq-past", daemon=True).start()

    def run_once(self, workflow: DaqWorkflow) -> DaqResult:
        """Run a workflow; returns when it is over.

        If the last process left a run of the same workflow, that is gone on
        with; one of another, or one that was to end, is ended.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if another runs, or the monitor gives no numbers.
        models.errors.InvalidMessage
            Raised if the monitor refuses.
        """
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None:
            keeper, control = interrupted
            to_be_ended = keeper.record.stopping
            if keeper.record.workflow != workflow.model_dump_json():
                self._while_busy(lambda: self._executor.give_up(keeper, "another workflow is to be run"))
            else:
                result = self._go_on(keeper, control)
                if result is not None and (not to_be_ended or self._stop_all.is_set()):
                    return result
        return self._perform(workflow, *self._begin(workflow))

    def run_in_background(self, workflow: DaqWorkflow, *, command: int | None = None) -> str:
        """Run a workflow on a thread; returns the execution's id.

        Parameters
        ----------
        workflow : `models.streaming.daq.DaqWorkflow`
        command : `int`, optional
            Number in the journal of the command that is followed with it.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if another runs, or the monitor gives no numbers.
        models.errors.InvalidMessage
            Raised if the monitor refuses.
        """
        keeper, control = self._begin(workflow, command=command)
        self._work(self._perform, workflow, keeper, control)
        return keeper.record.execution_id

    def stop_run(self) -> None:
        """End the run that is running, if one is."""
        current = self._current
        if current is not None:
            current[0].note(stopping=True)
            current[1].stop()

    def pause(self, reason: str) -> None:
        """Have data taking stand still before the next file."""
        current = self._current
        if current is not None:
            _log.info("Execution %s stands still: %s", self.execution_id, reason)
            current[0].note(paused=reason)
            current[1].pause(reason)

    def resume(self) -> None:
        """Have data taking go on."""
        current = self._current
        if current is not None:
            _log.info("Execution %s goes on.", self.execution_id)
            current[0].note(paused=None)
            current[1].resume()

    def stop(self) -> None:
        """End the run that is running, begin no other, and let `wait` return."""
        self._stop_all.set()
        self.stop_run()

    def wait(self) -> None:
        """Wait until `stop` is called; commands are followed meanwhile."""
        self._stop_all.wait()

    def close(self) -> None:
        """Stop, report as exited and disconnect. Safe if never started."""
        self.stop()
        with self._changed:
            # One that is being prepared is registered already, and must be told to be over.
            if not self._changed.wait_for(lambda: not self._reserved, _PATIENCE):
                _log.error("%s does not come to its end.", self.execution_id or "What is being prepared")
        self._become(AgentState.EXITED)
        self._reporter.stop()
        unsent = self._bus.flush(2.0)
        if unsent:
            later = "; the next process sends them" if self._journal.lasting else ""
            _log.error("%d messages were not sent: the bus was away%s.", unsent, later)
        self._bus.stop()
        self._journal.close()

    def describe(self) -> str:
        """Say in a sentence what it is doing."""
        current = self._current
        if current is None:
            return f"{self._agent_type} of namespace {self._namespace}: no run"
        record = current[0].record
        still = ", standing still" if current[1].pause_reason is not None else ""
        return (
            f"{self._agent_type} of namespace {self._namespace}: run {record.run_id or 'to come'} of "
            f"execution {record.execution_id}{still}"
        )

    def _keeper(self, record: RunRecord) -> RunKeeper:
        return RunKeeper(record, journal=self._journal, sender=self._sender, topic=self._topic)

    def _begin(self, workflow: DaqWorkflow, *, command: int | None = None) -> tuple[RunKeeper, Control]:
        with self._changed:
            if self._reserved:
                raise TemporarilyUnavailable(f"{self.name} is busy with {self.execution_id or 'another run'}")
            if self._stop_all.is_set():
                raise TemporarilyUnavailable(f"{self.name} is being stopped")
            self._reserved = True
        try:
            self._standing.take_name()
            keeper = self._keeper(self._registrar.new_execution(workflow, sender=self.name))
            # From here on, somebody will go on with it.
            keeper.save(settles=command)
            try:
                self._registrar.register(keeper, workflow)
            except Exception:
                self._fail(keeper)
                raise
        except BaseException:
            self._release()
            raise
        control = Control()
        self._current = (keeper, control)
        # A stop that came while this was being prepared holds for it.
        if self._stop_all.is_set():
            self.stop_run()
        self._become(AgentState.PROCESSING)
        return keeper, control

    def _perform(self, workflow: DaqWorkflow, keeper: RunKeeper, control: Control) -> DaqResult:
        return self._while_busy(lambda: self._executor.perform(keeper, workflow, control))

    def _go_on(self, keeper: RunKeeper, control: Control) -> DaqResult | None:
        return self._while_busy(lambda: self._continuation.go_on(keeper, control))

    def _while_busy(self, work: Callable[[], _R]) -> _R:
        """Have something done with the current run, which is over then."""
        current = self._current
        try:
            return work()
        except Exception as error:
            # Whatever it was, the run does not stay as if it went on.
            if current is not None:
                _log.exception("Execution %s failed.", current[0].record.execution_id)
                self._executor.give_up(current[0], str(error) or type(error).__name__)
            raise
        finally:
            self._current = None
            # Before another can begin, which has a state of its own.
            if not self._stop_all.is_set():
                self._become(AgentState.READY)
            self._release()

    def _fail(self, keeper: RunKeeper) -> None:
        """Note that an execution has failed."""
        record, now = keeper.record, datetime.now(UTC)
        keeper.note(status=ExecutionStatus.FAILED, end_time=now)
        self._reporter.end_execution(
            record.execution_id,
            ExecutionStatus.FAILED,
            end_time=now,
            insist=record.registered,
            unannounced_run=record.unannounced_run,
        )

    def _work(self, target: Callable[..., object], *arguments: object) -> None:
        self._worker = threading.Thread(target=target, args=arguments, name="daq-run", daemon=True)
        self._worker.start()

    def _release(self) -> None:
        with self._changed:
            self._reserved = False
            self._changed.notify_all()

    def _become(self, state: AgentState) -> None:
        self._standing.state = state
        self._reporter.tell()
