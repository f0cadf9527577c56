"""What became of a visit."""

from __future__ import annotations

__all__ = ["Result", "Timings", "VisitOutcome"]

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from models.errors import Disposition


class Result(StrEnum):
    """Final result of an accepted visit, as the ledger stores it."""

    PROCESSED = "processed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_RETRIABLE = "not-retriable"

    @classmethod
    def from_disposition(cls, disposition: Disposition) -> Result:
        """Return the result that a failure of this kind leaves behind."""
        return {
            Disposition.RETRIABLE: cls.INTERRUPTED,
            Disposition.FAILED: cls.FAILED,
            Disposition.NOT_RETRIABLE: cls.NOT_RETRIABLE,
        }[disposition]


class Timings(BaseModel):
    """Where a visit's wall time went, in seconds unless the name says more.

    `None` means that the step was not reached.
    """

    model_config = ConfigDict(frozen=True)

    queued: float | None = None
    preload: float | None = None
    preload_done_unix: float | None = None
    """UTC unix time at which preload and preprocessing were over."""
    waiting: float | None = None
    """Time spent waiting for images after preload was over."""
    ingest: float | None = None
    main: float | None = None
    export: float | None = None
    tasks: float | None = None
    """Sum of the tasks' own ``run`` time, preprocessing included."""
    total: float | None = None
    """From start of preload in the slot to outputs durably handed over."""
    image_to_alert: float | None = None
    """From the last raw at its final name to its alerts on disk, or in the
    outbox if they go to a broker.
    """


class VisitOutcome(BaseModel):
    """The answer to one fanned-out visit.

    Attributes
    ----------
    result : `Result`
    title, detail : `str`
        What happened, for people.
    pipeline : `str` or `None`
        File stem of the main pipeline that ran.
    exposures : `tuple` [`int`, ...]
        Exposures (and so visits) that were processed.
    outputs, alerts : `int`
        Datasets exported and alerts sent.
    alert_files : `tuple` [`str`, ...]
        Where the alerts went, when they go to files.
    warnings : `tuple` [`str`, ...]
        What a person should know although the visit went on.
    """

    model_config = ConfigDict(frozen=True)

    result: Result
    title: str = ""
    detail: str = ""
    pipeline: str | None = None
    preprocessing_pipeline: str | None = None
    exposures: tuple[int, ...] = ()
    outputs: int = 0
    alerts: int = 0
    alert_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    timings: Timings = Field(default_factory=Timings)
    retry_after: int | None = None
    """Whole seconds after which a retriable visit may be sent again."""
