"""Commands from the queue: whose they are, and what becomes of them.

Several runners listen to the one queue. A command reaches one of them, which
need not be the one that it is meant for. Commands are kept until something
has come of them, so none is lost, or followed twice, if the process dies.
"""

from __future__ import annotations

__all__ = ["CommandDesk", "LoadWorkflow"]

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from models.errors import InvalidMessage, PromptProcessingError
from models.streaming.bus import ReceivedMessage
from models.streaming.daq import DaqWorkflow
from models.streaming.messages import (
    Command,
    RunWorkflow,
    RunWorkflowFailed,
    StatusRequest,
    StopWorkflow,
    naive_timestamp,
    read_message,
)
from simulator.daq.journal import DaqJournal, KeptCommand
from simulator.daq.keeping import Sender
from simulator.daq.monitor import DaqMonitor

if TYPE_CHECKING:
    from simulator.daq.runner import DaqRunner

_log = logging.getLogger(__name__)

#: Seconds for which a command is put back for the runner that it is meant for,
#: and for one that the monitor does not know, which may just be starting.
_PATIENCE = 15.0
_GRACE = 3.0
#: Seconds before each time.
_DELAY = 0.5
#: Seconds without it after which the same text is another command.
_FORGOTTEN = 2 * _PATIENCE
#: How many commands that were put back are remembered.
_MEMORY = 1000
#: Keys of `params` that say where a command goes, as some senders add them.
_ADDRESS = "namespace"


class LoadWorkflow(Protocol):
    """Reads a workflow's configuration."""

    def __call__(self, workflow_name: str, config: str | None, params: Mapping[str, Any]) -> DaqWorkflow:
        """Return the workflow with the parameters in effect.

        Parameters
        ----------
        workflow_name : `str`
        config : `str` or `None`
            Name of its configuration; None for its default.
        params : mapping
            Parameters to replace, by their key.

        Raises
        ------
        models.errors.PromptProcessingError
            Raised if there is no such workflow, or a key is not known or its
            value wrong; the text names it.
        """


class CommandDesk:
    """Follows the commands that a runner gets.

    Parameters
    ----------
    runner : `simulator.daq.runner.DaqRunner`
    journal : `simulator.daq.journal.DaqJournal`
    sender : `simulator.daq.keeping.Sender`
    monitor : `simulator.daq.monitor.DaqMonitor`
    load : `LoadWorkflow`
    topic : `str`
        Where it is said that a command was not followed.
    delay : `float`, optional
        Seconds before a command is put back for another runner.
    clock : callable, optional
        Returns seconds that only grow.
    """

    def __init__(
        self,
        *,
        runner: DaqRunner,
        journal: DaqJournal,
        sender: Sender,
        monitor: DaqMonitor,
        load: LoadWorkflow,
        topic: str,
        delay: float = _DELAY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._journal = journal
        self._sender = sender
        self._monitor = monitor
        self._load = load
        self._topic = topic
        self._delay = delay
        self._clock = clock
        #: When commands that were put back came first, and last.
        self._returned: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._one_at_a_time = threading.Lock()
        self._past_is_settled = False

    def receive(self, message: ReceivedMessage) -> None:
        """Follow a command, put it back, or say why neither was done."""
        with self._one_at_a_time:
            self._settle_the_past()
            number = self._journal.accept(message)
            if number is None:
                _log.warning("Command %s came again; it was taken before.", message.message_id)
            else:
                self._take(KeptCommand(number, message))

    def follow_the_rest(self) -> None:
        """Follow commands that an earlier process took and did not get to."""
        with self._one_at_a_time:
            self._settle_the_past()

    def _settle_the_past(self) -> None:
        if not self._past_is_settled:
            for command in self._journal.waiting():
                _log.warning("A command that was taken earlier is followed now.")
                self._take(command)
        self._past_is_settled = True

    def _take(self, kept: KeptCommand) -> None:
        message = kept.message
        try:
            command = read_message(message.text)
        except InvalidMessage as error:
            self._fail(None, f"a command cannot be read: {error}", kept)
        else:
            if not isinstance(command, Command):
                self._fail(command.namespace, f"{command.msg_type} is no command that is known here", kept)
            elif command.namespace and command.namespace != self._runner.namespace:
                self._pass_on(command, kept)
            else:
                self._follow(command, kept)
        self._journal.settle(kept.number)

    def _follow(self, command: Command, kept: KeptCommand) -> None:
        if isinstance(command, RunWorkflow):
            self._run(command, kept)
        elif isinstance(command, StopWorkflow):
            self._stop(command, kept)
        elif isinstance(command, StatusRequest):
            _log.info("Status: %s.", self._runner.describe())

    def _run(self, command: RunWorkflow, kept: KeptCommand) -> None:
        name = command.workflow_name
        try:
            if self._runner.busy:
                raise InvalidMessage(
                    f"{self._runner.name} is busy with {self._runner.execution_id or 'another run'}"
                )
            workflow = self._read(command)
            execution_id = self._runner.run_in_background(workflow, command=kept.number)
        except PromptProcessingError as error:
            self._fail(command.namespace, f"workflow {name} is not run: {error}", kept)
        except Exception as error:
            # Nobody but the log would learn of it otherwise.
            _log.exception("Workflow %s cannot be run.", name)
            self._fail(command.namespace, f"workflow {name} is not run: {error!r}", kept)
        else:
            _log.info("Workflow %s runs as execution %s.", name, execution_id)

    def _read(self, command: RunWorkflow) -> DaqWorkflow:
        params: dict[str, Any] = dict(command.params)
        address = params.pop(_ADDRESS, None)
        if address and address != self._runner.namespace:
            raise InvalidMessage(
                f"params.namespace: is {address!r}, but the command is for namespace "
                f"{self._runner.namespace!r}"
            )
        for key, value in (("realtime", command.realtime), ("duration", command.duration)):
            # What the command says beside the parameters is one of them.
            given = key in command.model_fields_set and value is not None
            if given and params.setdefault(key, value) != value:
                raise InvalidMessage(f"params.{key}: is {params[key]!r}, but {key} is {value!r}")
        workflow = self._load(command.workflow_name, command.config, params)
        return workflow.model_copy(update={"namespace": self._runner.namespace})

    def _stop(self, command: StopWorkflow, kept: KeptCommand) -> None:
        running, meant = self._runner.execution_id, command.execution_id
        if running is not None and meant in (None, "", running):
            _log.info("Execution %s is being stopped.", running)
            self._runner.stop_run()
        elif meant and self._served(self._runner.namespace) and self._put_back(kept, within=_PATIENCE):
            _log.info("Execution %s may be that of another runner of the namespace.", meant)
        elif running is None:
            _log.warning("Nothing runs that could be stopped.")
        else:
            _log.warning("Execution %s is not stopped: %s is running.", meant, running)

    def _pass_on(self, command: Command, kept: KeptCommand) -> None:
        """Put a command back that is meant for another runner."""
        namespace = str(command.namespace)
        served = self._served(namespace)
        if self._put_back(kept, within=_GRACE if served is False else _PATIENCE):
            _log.info("A command for namespace %s is put back.", namespace)
            return
        reason = (
            f"no runner serves namespace {namespace}"
            if served is False
            else f"the runner of namespace {namespace} does not take its commands"
        )
        self._fail(namespace, f"{command.msg_type}: {reason}", kept)

    def _served(self, namespace: str) -> bool | None:
        """Say whether another runner serves a namespace; None if nobody knows."""
        try:
            return self._monitor.is_served(namespace, besides=self._runner.name)
        except PromptProcessingError as error:
            _log.warning("It is not known who serves namespace %s: %s", namespace, error)
            return None

    def _put_back(self, kept: KeptCommand, *, within: float) -> bool:
        """Put a command back for others, unless that was begun so many seconds
        ago; return whether it is back.
        """
        message, now = kept.message, self._clock()
        first, last = self._returned.pop(message.text, (now, now))
        first = first if now - last < _FORGOTTEN else now
        if now - first >= within:
            return False
        time.sleep(self._delay)
        self._returned[message.text] = (first, self._clock())
        _forget(self._returned)
        self._sender.post(message.destination, message.text, settles=kept.number)
        return True

    def _fail(self, namespace: str | None, error: str, kept: KeptCommand) -> None:
        """Say where everybody sees it that a command was not followed."""
        _log.error("Command not followed: %s.", error)
        failure = RunWorkflowFailed(
            namespace=namespace or self._runner.namespace,
            sender=self._runner.name,
            error=error,
            timestamp=naive_timestamp(),
        )
        self._sender.post(self._topic, failure.to_text(), settles=kept.number)


def _forget(memory: OrderedDict[str, Any]) -> None:
    while len(memory) > _MEMORY:
        memory.popitem(last=False)
