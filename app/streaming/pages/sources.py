"""What the pages beside those of visits are made of."""

from __future__ import annotations

__all__ = ["monitor_jobs", "monitor_records"]

from collections.abc import Callable

from app.streaming.job_sources import JobsWhenAsked, job_source
from app.streaming.when_asked import WhenAsked
from config.streaming.settings import load_streaming_settings
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore
from services.streaming.workflow_records import JobSource, WorkflowRecords


def monitor_records(url: str) -> Callable[[], WorkflowRecords]:
    """Return what opens the monitor's database, when it is first asked, and
    only to read.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL.
    """

    def opened() -> WorkflowRecords:
        return MonitorStore.on(create_streaming_engine(url, setting="PP_MONITOR_DATABASE", read_only=True))

    return WhenAsked(opened)


def monitor_jobs() -> JobSource:
    """Return who knows of jobs; the settings that say so are read when jobs
    are first asked for, so that nothing that is wrong there is in the way
    before.
    """
    return JobsWhenAsked(WhenAsked(lambda: job_source(load_streaming_settings())))
