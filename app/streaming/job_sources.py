"""Who knows of jobs: the local executor's database, or PanDA."""

from __future__ import annotations

__all__ = ["PROCESSING_ROLE", "JobsWhenAsked", "job_source"]

from app.streaming.when_asked import WhenAsked
from config.streaming.panda_environment import panda_environment
from config.streaming.settings import StreamingSettings
from models.streaming.job_listing import JobListing, JobQuery
from repos.streaming.database import STREAMING, create_streaming_engine
from repos.streaming.local_job_listing import LocalJobListing
from repos.streaming.panda_client import PandaClient
from repos.streaming.panda_job_listing import PandaJobListing
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
        url = _local_jobs(settings).agent_database_url(PROCESSING_ROLE)
        return LocalJobListing(create_streaming_engine(url, setting=STREAMING.setting, read_only=True))

    def panda() -> JobSource:
        return PandaJobListing(PandaClient(environment=panda_environment()))

    return JobsWhenAsked(WhenAsked(panda if settings.executor == "panda" else local))


def _local_jobs(settings: StreamingSettings) -> StreamingSettings:
    """Return whose jobs are meant: without a broker, those of a testbed in one
    process, if there was one.
    """
    alone = settings.in_one_process
    there = (alone.testbed_directory / f"{PROCESSING_ROLE}.db").exists()
    return alone if there and not settings.has_broker and settings.streaming_database is None else settings


class JobsWhenAsked:
    """A source of jobs that is made when it is first asked.

    Parameters
    ----------
    source : `app.streaming.when_asked.WhenAsked`
    """

    def __init__(self, source: WhenAsked[JobSource]) -> None:
        self._source = source

    def listed(self, query: JobQuery) -> JobListing:
        """Return jobs."""
        return self._source().listed(query)
