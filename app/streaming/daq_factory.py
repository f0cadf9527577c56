"""Wiring of the simulated data acquisition, and its life as a process."""

from __future__ import annotations

__all__ = ["build_runner", "daq_workflow", "load_daq_workflow", "run_commands", "run_once"]

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.streaming.agent_parts import ending_signals
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import TestbedConfig, load_testbed_config
from config.user import user_name
from models.errors import InvalidConfiguration
from models.streaming.daq import DaqParameters, DaqWorkflow
from models.streaming.names import DAQ_TYPE
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_logs import HttpLogSink, MonitorLogHandler
from simulator.daq.bus import DaqBus
from simulator.daq.execution import DaqResult
from simulator.daq.journal import DaqJournal
from simulator.daq.monitor import DaqMonitor
from simulator.daq.runner import DaqRunner
from simulator.io.daq_bus import StompDaqBus
from simulator.io.daq_journal import open_daq_journal
from simulator.io.daq_link import BrokerAddress
from simulator.io.daq_monitor import RestDaqMonitor

_log = logging.getLogger(__name__)

#: Where runs' folders are if nobody says, as in the field.
_CONTAINER = Path("/tmp")  # noqa: S108
#: The workflow whose configuration says for which namespace commands are
#: followed, if the testbed's file does not.
_DEFAULT = "prompt_processing"
#: Where journals are, in the testbed's directory.
_JOURNALS = "daq"
#: Seconds for which the last lines of the log may be on their way to the
#: monitor.
_LAST_LINES = 1.0
#: Why data taking stands still.
_PAUSE = "Paused by the operator"


def daq_workflow(config: TestbedConfig, *, container: Path = _CONTAINER) -> DaqWorkflow:
    """Return a workflow, ready to be run.

    Parameters
    ----------
    config : `config.streaming.testbed.TestbedConfig`
    container : `pathlib.Path`, optional
        Directory of the runs' folders if nobody names one; absolute.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if parameters do not go together.
    """
    try:
        parameters = DaqParameters(**{**config.daq, "container": config.container or container})
    except ValidationError as error:
        faults = "; ".join(
            ": ".join((*map(str, item["loc"]), item["msg"].removeprefix("Value error, ")))
            for item in error.errors()
        )
        raise InvalidConfiguration(f"workflow {config.workflow} cannot be run: {faults}") from error
    return DaqWorkflow(
        namespace=config.namespace,
        name=config.workflow,
        version=config.version,
        description=config.description,
        parameters=parameters,
        parameter_values=dict(config.values),
    )


def load_daq_workflow(
    settings: StreamingSettings, workflow_name: str, config: str | None, params: Mapping[str, Any]
) -> DaqWorkflow:
    """Read a workflow's configuration, with parameters that replace others.

    Without the name of a configuration it is ``<workflow>_default``.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is none, or something in it or a parameter is wrong.
    """
    asked = config or f"{workflow_name}_default"
    return daq_workflow(
        load_testbed_config(asked, settings=settings, workflow=workflow_name, parameters=params)
    )


def build_runner(
    settings: StreamingSettings,
    *,
    namespace: str,
    agent_type: str = DAQ_TYPE,
    follow_commands: bool = False,
    bus: DaqBus | None = None,
    monitor: DaqMonitor | None = None,
    journal: DaqJournal | None = None,
) -> DaqRunner:
    """Return a runner for the broker and the monitor that the settings name.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    namespace, agent_type : `str`
    follow_commands : `bool`, optional
        Whether it listens to the queue of commands.
    bus, monitor, journal : optional
        Others than those of the settings.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if no monitor is named, or the journal cannot be used.
    """

    def load(workflow_name: str, config: str | None, params: Mapping[str, Any]) -> DaqWorkflow:
        return load_daq_workflow(settings, workflow_name, config, params)

    bus, monitor = bus or StompDaqBus(_broker(settings)), monitor or _monitor(settings)
    if journal is None:
        journal = open_daq_journal(settings.testbed_directory / _JOURNALS, f"{agent_type}.{namespace}")
    return DaqRunner(
        bus=bus,
        monitor=monitor,
        namespace=namespace,
        user=user_name(),
        agent_type=agent_type,
        load=load if follow_commands else None,
        journal=journal,
    )


def run_commands(settings: StreamingSettings, *, runner: DaqRunner | None = None) -> None:
    """Follow commands until one of the `ending_signals`, which end a run that
    is going on.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if something in the configuration is wrong.
    """
    namespace = load_testbed_config(f"{_DEFAULT}_default", settings=settings).namespace
    runner = runner or build_runner(settings, namespace=namespace, follow_commands=True)
    with _life(runner, settings):
        _log.info("Commands for namespace %s are followed.", namespace)
        runner.wait()


def run_once(
    settings: StreamingSettings, workflow: DaqWorkflow, *, runner: DaqRunner | None = None
) -> DaqResult:
    """Run one workflow, or the rest of the same that a process left which
    died; the `ending_signals` end it.

    Raises
    ------
    models.errors.PromptProcessingError
        Raised if it cannot be run.
    """
    runner = runner or build_runner(settings, namespace=workflow.namespace, agent_type=workflow.name)
    with _life(runner, settings):
        return runner.run_once(workflow)


@contextmanager
def _life(runner: DaqRunner, settings: StreamingSettings) -> Iterator[None]:
    """Start and end a runner; signals stop it, its log goes to the monitor.

    SIGUSR1 has data taking stand still, SIGUSR2 go on.
    """
    actions: dict[int, Callable[[], None]] = {
        **dict.fromkeys(ending_signals(), runner.stop),
        signal.SIGUSR1: lambda: runner.pause(_PAUSE),
        signal.SIGUSR2: runner.resume,
    }

    def act(number: int, _frame: object) -> None:
        # Not here: the main thread may hold what this needs.
        threading.Thread(target=actions[number], name="daq-signal", daemon=True).start()

    before = {number: signal.signal(number, act) for number in actions}
    logs = None
    if settings.logs_url is not None:
        sink = HttpLogSink(MonitorHttp(settings.logs_url, token=settings.api_token.get_secret_value()))
        logs = MonitorLogHandler(sink, instance_name=lambda: runner.name)
        logging.getLogger().addHandler(logs)
        logs.start()
    try:
        runner.start()
        yield
    finally:
        runner.close()
        if logs is not None:
            logging.getLogger().removeHandler(logs)
            logs.stop(_LAST_LINES)
        for number, handler in before.items():
            signal.signal(number, handler)


def _broker(settings: StreamingSettings) -> BrokerAddress:
    return BrokerAddress(
        host=settings.activemq_host,
        port=settings.activemq_port,
        user=settings.activemq_user,
        password=settings.activemq_password.get_secret_value(),
        use_ssl=settings.activemq_use_ssl,
        ca_certs=settings.activemq_ssl_ca_certs,
        cert_file=settings.activemq_ssl_cert_file,
        key_file=settings.activemq_ssl_key_file,
    )


def _monitor(settings: StreamingSettings) -> RestDaqMonitor:
    if settings.monitor_url is None:
        raise InvalidConfiguration("SWF_MONITOR_URL is empty; runs are numbered by a monitor")
    return RestDaqMonitor(settings.monitor_url, token=settings.api_token.get_secret_value())
