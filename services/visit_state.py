"""What is known of a visit while it is processed."""

from __future__ import annotations

__all__ = ["VisitState"]

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from models.outcomes import Timings
from models.visits import FannedOutVisit
from services.alerts import PublishedAlerts
from services.slots.protocol import Finished, ProcessVisit


class VisitState:
    """Facts that gather on a visit's way through a slot.

    Parameters
    ----------
    request : `services.slots.protocol.ProcessVisit`

    Attributes
    ----------
    context : object
        The repositories' view of the visit; None before it is made.
    workspace : object
        The visit's place in the local repo; None before it is opened.
    main : `list`
        Main pipelines that can still run.
    exposures : `list`
        Ingested exposures.
    pipeline, preprocessing : `str` or `None`
        Stems of the pipelines whose execution has begun.
    main_run : `str` or `None`
        Output run of the main pipeline.
    came_before : `bool`
        Whether the APDB held the visit before anything was executed.
    finished : `services.slots.protocol.Finished` or `None`
        The answer, once there is one.
    seconds : `dict` [`str`, `float`]
        Wall time by step.
    task_seconds : `float`
        Time within the tasks' own ``run``.
    """

    def __init__(self, request: ProcessVisit) -> None:
        self.request = request
        self.context: Any = None
        self.workspace: Any = None
        self.main: list[Any] = []
        self.exposures: list[Any] = []
        self.pipeline: str | None = None
        self.preprocessing: str | None = None
        self.main_run: str | None = None
        self.came_before = False
        self.finished: Finished | None = None
        self.published = PublishedAlerts()
        self.warnings: list[str] = []
        self.seconds: dict[str, float] = {}
        self.task_seconds = 0.0
        self._began = time.perf_counter()
        self._preload_done_unix: float | None = None

    @property
    def visit(self) -> FannedOutVisit:
        """The visit."""
        return self.request.visit

    @property
    def visits(self) -> list[int]:
        """Ids of the visits that the exposures are."""
        return [e.visit if e.visit is not None else e.exposure for e in self.exposures]

    def preprocessing_begins(self, stem: str) -> None:
        """Note which preprocessing pipeline is executed."""
        self.preprocessing = stem

    def main_begins(self, stem: str, run: str) -> None:
        """Note that, from now on, things may have changed outside."""
        self.pipeline = stem
        self.main_run = run

    @contextmanager
    def timer(self, step: str) -> Iterator[None]:
        """Add the time that the context lasts to a step."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - begin

    def preload_is_done(self) -> None:
        """Note that everything is ready but the images."""
        self.seconds["preload"] = time.perf_counter() - self._began
        self._preload_done_unix = time.time()

    @property
    def preload_seconds(self) -> Mapping[str, float]:
        """How long preload and its parts took."""
        return {
            "total": self.seconds.get("preload", 0.0),
            "search": self.seconds.get("search", 0.0),
            "transfer": self.seconds.get("transfer", 0.0),
            "preprocess": self.seconds.get("preprocess", 0.0),
        }

    def timings(self) -> Timings:
        """Return where the time went."""
        return Timings(
            preload=self.seconds.get("preload"),
            preload_done_unix=self._preload_done_unix,
            waiting=self.seconds.get("waiting"),
            ingest=self.seconds.get("ingest"),
            main=self.seconds.get("main"),
            export=self.seconds.get("export"),
            tasks=self.task_seconds,
            total=time.perf_counter() - self._began,
            image_to_alert=self._image_to_alert(),
        )

    def provenance(self) -> dict[str, Any]:
        """Return what ran on what, as plain data."""
        outputs: dict[str, list[str]] = {}
        for ref in self.workspace.outputs():
            outputs.setdefault(ref.datasetType.name, []).append(str(ref.id))
        inputs: dict[str, list[str]] = {}
        for ref in self.workspace.inputs():
            inputs.setdefault(ref.datasetType.name, []).append(str(ref.id))
        return {
            "visit": self.visit.to_message(),
            "exposures": [e.exposure for e in self.exposures],
            "pipelines": {"preprocessing": self.preprocessing, "main": self.pipeline},
            "inputs": inputs,
            "outputs": outputs,
            "attempt": self.request.attempt,
        }

    def _image_to_alert(self) -> float | None:
        """Seconds from the last raw at its final name to alerts on disk; or
        given to the parent, which adds what it needs to store them.
        """
        durable = self.published.last_unix
        landed = [e.landed for e in self.exposures]
        if durable is None or not landed or None in landed:
            return None
        return durable - float(max(landed))
