"""Who knows of jobs: the local executor's database, or PanDA."""

from __future__ import annotations

__all__ = ["PROCESSING_ROLE", "job_source"]

import threading
from collections.abc import Callable

from config.streaming.settings import StreamingSettings
from models.streaming.job_listing import JobListing, JobQuery
from repos.streaming.database import STREAMING, create_streaming_engine
from repos.streaming.local_job_listing import LocalJobListing
from services.streaming.workflow_records import JobSource

#: The agent whose database has the local executor's jobs.
PROCESSING_ROLE = "processing-agent"


def job_source(settings: StreamingSettings) -> JobSource:
    """Return who knows of the jobs of the executor that is configured.

    It is asked for nothing before somebody asks for jobs: neither its
    database nor PanDA need be there before.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    """

    def local() -> JobSource:
        url = settings.agent_database_url(PROCESSING_ROLE)
        return LocalJobListing(create_streaming_engine(url, setting=STREAMING.setting, read_only=True))

    def panda() -> JobSource:
        # Importing PanDA's client looks for its server.
        from repos.streaming.panda_job_listing import PandaJobListing

        return PandaJobListing()

    return _WhenAsked(panda if settings.executor == "panda" else local)


class _WhenAsked:
    """Makes a source when it is first asked, and again if it could not.

    Parameters
    ----------
    make : callable
    """

    def __init__(self, make: Callable[[], JobSource]) -> None:
        self._make = make
        self._source: JobSource | None = None
        self._lock = threading.Lock()

    def listed(self, query: JobQuery) -> JobListing:
        """Return jobs."""
        with self._lock:
            if self._source is None:
                self._source = self._make()
        return self._source.listed(query)
