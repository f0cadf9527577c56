"""``testbed run`` and ``testbed stop`` over a broker."""

from __future__ import annotations

__all__ = ["run_over_broker", "stop_over_broker"]

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from app.streaming.broker_agents import AgentPrograms
from app.streaming.broker_follower import BrokerFollower
from app.streaming.broker_link import BrokerLink, linked
from app.streaming.following import follow
from app.streaming.run_summary import RunSummary
from app.streaming.supervisors import own_supervisor, running_supervisor
from app.streaming.workplace import logged_to
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import TestbedConfig, load_testbed_config
from models.errors import TemporarilyUnavailable
from models.streaming.messages import RunWorkflow, StopWorkflow, naive_timestamp
from models.streaming.monitoring import ExecutionStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from services.streaming.catalogue import Catalogue

_log = logging.getLogger(__name__)

#: Seconds until a command without effect is an error.
_EFFECT = 30.0
_GLANCE = 0.1
#: Seconds between looks at a run: the monitor is asked for all of its files.
_LOOK = 0.5
#: Executions that are looked at for a new one.
_LATEST = 20


def run_over_broker(
    asked: str,
    *,
    settings: StreamingSettings,
    parameters: Mapping[str, Any],
    console: Console,
    stops: Callable[[], int],
    detach: bool,
    use_running: bool,
    timeout: float,
) -> RunSummary | None:
    """Run a workflow with agents that are processes of their own.

    Parameters
    ----------
    asked : `str`
        Name of the workflow, or path of its file.
    settings : `config.streaming.settings.StreamingSettings`
    parameters : mapping
        What is given for this execution; None is left out.
    console : `rich.console.Console`
    stops : callable
        Says how often somebody asked for a stop.
    detach : `bool`
        Whether to return once the run has begun; agents go on.
    use_running : `bool`
        Whether agents that run are used, and none are started.
    timeout : `float`
        Seconds after which the run is stopped; 0 for never.

    Returns
    -------
    summary : `app.streaming.run_summary.RunSummary` or `None`
        None with `detach`.

    Raises
    ------
    models.errors.PromptProcessingError
        Raised if it cannot be run.
    """
    begin = time.monotonic()
    config = load_testbed_config(asked, settings=settings, parameters=parameters)
    supervisor = None if use_running else own_supervisor(settings, config.namespace)
    with logged_to(settings.testbed_directory, settings.log_levels), linked(settings) as link:
        programs = None
        try:
            if supervisor is not None:
                programs = AgentPrograms(
                    supervisor=supervisor,
                    settings=settings,
                    config=config,
                    overview=link.overview,
                    stops=stops,
                )
                console.print("Starting the agents.")
                programs.start()
                if programs.monitor_found:
                    console.print(
                        f"The monitor at {settings.monitor_url} was there, and is used.",
                        highlight=False,
                        markup=False,
                    )
            execution_id = _begin(link, config, parameters, programs)
            console.print(f"Execution {execution_id} has begun.", highlight=False, markup=False)
            if detach:
                supervisor = None
                return None
            follower = BrokerFollower(
                execution_id=execution_id,
                namespace=config.namespace,
                expected=_expected(config),
                monitor=link.monitor,
                overview=link.overview,
                catalogue=_catalogue(settings),
                command=link.command,
            )
            standing = follow(follower, console=console, stop_asked=stops, timeout=timeout, glance=_LOOK)
            standing = follower.finish(standing)
            execution = link.monitor.execution(execution_id)
        finally:
            if supervisor is not None and programs is not None and programs.ours:
                supervisor.shut_down()
        taken = None
        if execution is not None and execution.start_time and execution.end_time:
            taken = (execution.end_time - execution.start_time).total_seconds()
        summary = RunSummary.of(
            standing,
            stopped=bool(stops()),
            namespace=config.namespace,
            duration_s=taken,
            total_s=time.monotonic() - begin,
            realtime=bool(config.daq["realtime"]),
            executor=settings.executor,
        )
        # The console may be gone.
        _log.info("Summary: %s", summary.model_dump_json())
    return summary


def stop_over_broker(
    *,
    settings: StreamingSettings,
    namespace: str | None,
    execution: str | None,
    agents: bool,
    console: Console,
) -> None:
    """Have the run of a namespace ended.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    namespace : `str` or `None`
        By default that of the testbed's file.
    execution : `str` or `None`
        Which, if not whichever runs.
    agents : `bool`
        Whether agents under supervisord are ended, too.
    console : `rich.console.Console`

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if nobody serves the namespace, or nothing runs in it.
    """
    asked = load_testbed_config(settings=settings, parameters={"namespace": namespace}).namespace
    supervisor = running_supervisor(settings, asked) if agents else None
    try:
        ended = _end_runs(settings, asked, execution)
        console.print(f"Ended: {', '.join(sorted(ended))}.", highlight=False, markup=False)
    except TemporarilyUnavailable as error:
        if supervisor is None or not supervisor.reachable:
            raise
        console.print(f"No run was ended: {error}.", highlight=False, markup=False)
    if supervisor is not None:
        supervisor.shut_down()
        console.print("The agents were ended.")


def _end_runs(settings: StreamingSettings, namespace: str, execution: str | None) -> set[str]:
    """End what runs in a namespace; return which executions."""
    with linked(settings) as link:
        link.check_served(namespace)
        running = {e.execution_id for e in link.monitor.executions(namespace, status=ExecutionStatus.RUNNING)}
        if execution is not None:
            running &= {execution}
        if not running:
            what = "nothing runs" if execution is None else f"{execution} does not run"
            raise TemporarilyUnavailable(f"{what} in the namespace {namespace}")
        link.command(StopWorkflow(namespace=namespace, execution_id=execution, timestamp=naive_timestamp()))
        _wait_until_ended(link, running)
    return running


def _begin(
    link: BrokerLink, config: TestbedConfig, parameters: Mapping[str, Any], programs: AgentPrograms | None
) -> str:
    """Send the command; return the execution that it began."""
    link.check_served(config.namespace)
    link.check_idle(config.namespace)
    before = {row["execution_id"] for row in link.overview.executions(config.namespace, limit=_LATEST)}
    apart = ("realtime", "duration", "namespace")
    link.command(
        RunWorkflow(
            namespace=config.namespace,
            workflow_name=config.workflow,
            config=config.config,
            realtime=config.daq["realtime"],
            duration=config.daq.get("duration"),
            params={
                name: value for name, value in parameters.items() if value is not None and name not in apart
            },
            timestamp=naive_timestamp(),
        )
    )
    deadline = time.monotonic() + _EFFECT
    while time.monotonic() < deadline:
        for row in link.overview.executions(config.namespace, limit=_LATEST):
            if row["execution_id"] not in before:
                return str(row["execution_id"])
        time.sleep(_GLANCE)
    log = f" Its log ends:\n{programs.log_of_runner()}" if programs is not None else ""
    raise TemporarilyUnavailable(
        f"{link.runners().get(config.namespace)} began no execution within {_EFFECT:g} s.{log}"
    )


def _wait_until_ended(link: BrokerLink, execution_ids: set[str]) -> None:
    deadline = time.monotonic() + _EFFECT
    while True:
        known = [link.monitor.execution(name) for name in execution_ids]
        still = [e.execution_id for e in known if e and e.status == ExecutionStatus.RUNNING]
        if not still:
            return
        if time.monotonic() > deadline:
            raise TemporarilyUnavailable(f"{', '.join(still)} runs on after {_EFFECT:g} s")
        time.sleep(_GLANCE)


def _expected(config: TestbedConfig) -> int | None:
    count, periods = config.daq.get("stf_count"), config.daq.get("physics_period_count")
    return count * periods if count and periods and not config.daq.get("duration") else None


def _catalogue(settings: StreamingSettings) -> Catalogue | None:
    """Return the catalogue, if it is a database that can be read from here."""
    if settings.catalogue != "embedded":
        return None
    try:
        return EmbeddedCatalogue(
            create_streaming_engine(
                settings.catalogue_database_url, setting="PP_CATALOGUE_DATABASE", read_only=True
            )
        )
    except TemporarilyUnavailable:
        return None
