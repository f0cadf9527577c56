"""What becomes of the files of a run, as the jobs of its task tell."""

from __future__ import annotations

__all__ = ["Claimant", "JobIndex", "stem"]

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.streaming.messages import naive_timestamp
from models.streaming.monitoring import FileUpdate, StfFile, StfStatus
from models.streaming.tasks import FAILED_JOBS, FINISHED, JobRecord, TaskState


class JobIndex:
    """The jobs of a task, by the files that they read."""

    def __init__(self) -> None:
        self._by_stem: dict[str, dict[str, JobRecord]] = {}

    def add(self, jobs: Iterable[JobRecord]) -> bool:
        """Take in jobs, or what changed of them; say whether one finished
        after others had failed at the same file.
        """
        revived = False
        for job in jobs:
            for name in job.inputs:
                same = self._by_stem.setdefault(stem(name), {})
                same[job.job_id] = job
                revived |= job.status == FINISHED and len(same) > 1
        return revived

    def jobs(self, filename: str) -> list[JobRecord]:
        """Return the jobs that read a file, the oldest first."""
        return list(self._by_stem.get(stem(filename), {}).values())

    def final(self, filename: str, *, task_ended: bool) -> JobRecord | None:
        """Return the job that decides what became of a file: one that
        finished, or the last one if all failed; None while that is open.
        """
        jobs = self.jobs(filename)
        for job in jobs:
            if job.status == FINISHED:
                return job
        lost = all(job.failed or (task_ended and job.status in FAILED_JOBS) for job in jobs)
        return jobs[-1] if jobs and (lost or task_ended) else None

    def is_open(self, filename: str) -> bool:
        """Say whether a job that reads a file may still change."""
        return any(not job.final for job in self.jobs(filename))

    def without(self, stems: Collection[str]) -> set[str]:
        """Return what jobs call the files that they read and that are not
        among some.
        """
        return {name for name in self._by_stem if name not in stems}


@dataclass(frozen=True)
class Claimant:
    """A task that files of a run are claimed for.

    Attributes
    ----------
    agent, namespace : `str`
        Who follows it.
    execution_id : `str` or `None`
    task_id, output : `str`
        The task, and the dataset of what it makes.
    now : callable
        Returns the present time as the monitor's files have it.
    """

    agent: str
    namespace: str
    execution_id: str | None
    task_id: str
    output: str
    now: Callable[[], str] = naive_timestamp

    def update(self, row: StfFile, jobs: JobIndex, state: TaskState | None) -> FileUpdate | None:
        """Return what is to be changed of a file; None if it stands as it
        should, or belongs to another.

        Parameters
        ----------
        row : `models.streaming.monitoring.StfFile`
            Registered, being processed, or failed: PanDA may try again with
            another job.
        jobs : `JobIndex`
        state : `models.streaming.tasks.TaskState` or `None`
            How the task ended; None if it has not.
        """
        if not self.may_claim(row):
            return None
        job = jobs.final(row.stf_filename, task_ended=state is not None)
        if row.status is StfStatus.FAILED:
            ours = row.metadata.get("panda_task_id") == self.task_id
            return self._decide(row, job) if ours and job is not None and job.status == FINISHED else None
        if job is not None:
            return self._decide(row, job)
        if state is not None:
            reason = f"no PanDA job found before task became {state.value}"
            return self._change(row, StfStatus.FAILED, {"panda_poll_reason": reason})
        if row.status is StfStatus.PROCESSING and row.metadata.get("panda_task_id") == self.task_id:
            return None
        return self._change(row, StfStatus.PROCESSING, {})

    def _decide(self, row: StfFile, job: JobRecord) -> FileUpdate:
        final: dict[str, Any] = {
            "matched_input_files": list(job.inputs),
            "panda_job_id": job.job_id,
            "panda_job_status": job.status,
        }
        if job.status == FINISHED:
            return self._change(row, StfStatus.PROCESSED, final)
        final["panda_poll_reason"] = f"panda job {job.job_id} {job.status}"
        if job.error:
            final["panda_job_error"] = job.error
        return self._change(row, StfStatus.FAILED, final)

    def _change(self, row: StfFile, status: StfStatus, more: Mapping[str, Any]) -> FileUpdate:
        metadata: dict[str, Any] = {
            "processed_by": self.agent,
            "panda_tracking_agent": self.agent,
            "panda_tracking_namespace": self.namespace,
            "panda_task_id": self.task_id,
            "panda_output_dataset": self.output,
            "panda_polled_at": self.now(),
        }
        if self.execution_id:
            metadata["workflow_execution_id"] = self.execution_id
        return FileUpdate(file_id=row.file_id, status=status, metadata={**metadata, **more})

    def may_claim(self, row: StfFile) -> bool:
        """Say whether a file is nobody's, or that of our own execution."""
        namespace = row.metadata.get("panda_tracking_namespace")
        execution = row.metadata.get("workflow_execution_id")
        if namespace and namespace != self.namespace:
            return False
        return not (execution and self.execution_id and execution != self.execution_id)


def stem(name: str) -> str:
    """Return a file's name without path, scope and ending, as jobs and the
    monitor's files have it in common.
    """
    base = name.rpartition("/")[2].rpartition(":")[2]
    for ending in (".stf", ".dat"):
        base = base.removesuffix(ending)
    return base
