"""``testbed run`` in one process."""

from __future__ import annotations

__all__ = ["run_embedded"]

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from app.streaming.daq_factory import daq_workflow
from app.streaming.embedded import EmbeddedTestbed
from app.streaming.following import follow
from app.streaming.run_summary import RunSummary
from app.streaming.workplace import Workplace, logged_to
from config.streaming.sections import check_agents
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import load_testbed_config
from models.errors import TemporarilyUnavailable

_log = logging.getLogger(__name__)


def run_embedded(
    asked: str,
    *,
    settings: StreamingSettings,
    parameters: Mapping[str, Any],
    console: Console,
    stops: Callable[[], int],
    timeout: float,
) -> RunSummary:
    """Run a workflow with everything in this process.

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
    timeout : `float`
        Seconds after which the run is stopped; 0 for never.

    Raises
    ------
    models.errors.PromptProcessingError
        Raised if it cannot be run.
    """
    begin = time.monotonic()
    config = load_testbed_config(asked, settings=settings, parameters=parameters)
    check_agents(config.agents, all_needed=True)
    settings = settings.in_one_process
    directory = settings.testbed_directory
    with Workplace(directory) as workplace, logged_to(directory, settings.log_levels) as log:
        workflow = daq_workflow(config, container=workplace.container)
        testbed = EmbeddedTestbed(
            settings=settings,
            workflow=workflow,
            poll_interval=config.poll_interval or 60.0,
            poll_timeout=config.poll_timeout or 0.0,
        )
        faults: tuple[str, ...] = ()
        try:
            testbed.start()
            console.print(
                f"Running {workflow.name} in {directory}; the log is {log.name}.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
            standing = follow(testbed, console=console, stop_asked=stops, timeout=timeout)
            try:
                standing = testbed.finish(standing)
            except TemporarilyUnavailable as error:
                faults += (str(error),)
        finally:
            testbed.close()
        total = time.monotonic() - begin
        result = testbed.result
        if result is not None and result.error:
            faults += (result.error,)
        summary = RunSummary.of(
            standing,
            stopped=bool(stops()),
            faults=faults,
            namespace=workflow.namespace,
            duration_s=result.duration if result else None,
            simulated_s=result.simulated if result else None,
            total_s=total,
            realtime=workflow.parameters.realtime,
            executor=settings.executor,
        )
        # The console may be gone.
        _log.info("Summary: %s", summary.model_dump_json())
    return summary
