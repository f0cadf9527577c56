"""One visit, from its announcement to the last answer."""

from __future__ import annotations

__all__ = ["ReadyFrame", "VisitRun"]

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.times import tai_from_unix
from models.visits import SummitVisit
from simulator.fan_out import Answer
from simulator.observing import Announcer, Progress, StagedFrame, Timing, VisitReport
from simulator.plan import Frame, PlannedVisit


@dataclass(frozen=True)
class ReadyFrame:
    """A frame of the plan, and what is needed to deliver it."""

    frame: Frame
    staged: StagedFrame


@dataclass
class _DetectorState:
    """What is known of one detector's part of the visit."""

    exposure_ids: list[int] = field(default_factory=list)
    delivered_at: float | None = None
    answered_at: float | None = None
    answer: Answer | None = None


class VisitRun:
    """Takes one visit.

    A thread of its own opens and closes the shutter, because the next visit
    may be announced while this one is still exposing.

    Parameters
    ----------
    planned : `simulator.plan.PlannedVisit`
    number : `int`
        Number of the visit in the night.
    frames : sequence of `ReadyFrame`
    timing : `simulator.observing.Timing`
    progress : `simulator.observing.Progress`
    announcer : `simulator.observing.Announcer`
    stop : `threading.Event`
        Ends the exposure without delivery when set.
    """

    def __init__(
        self,
        *,
        planned: PlannedVisit,
        number: int,
        frames: Sequence[ReadyFrame],
        timing: Timing,
        progress: Progress,
        announcer: Announcer,
        stop: threading.Event,
    ) -> None:
        self._planned = planned
        self._number = number
        self._frames = frames
        self._timing = timing
        self._progress = progress
        self._announcer = announcer
        self._stop = stop
        self._visit = planned.visit
        self._announced_at: float | None = None
        self._opened_at: float | None = None
        self._closed_at: float | None = None
        self._detectors = {detector: _DetectorState() for detector in planned.detectors}
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._expose_all, name=f"shutter-{number}", daemon=True)

    def start(self) -> None:
        """Announce the visit and begin to expose."""
        now = time.time()
        self._announced_at = now
        self._visit = _stamp(self._planned.visit, now=now, opens=now + self._timing.lead, number=self._number)
        self._progress.announced(self._visit, self._planned.detectors)
        self._answers = self._announcer.announce(self._visit, self._planned.detectors, self._take_answer)
        self._thread.start()

    def finish(self) -> list[VisitReport]:
        """Wait until all is done.

        Returns
        -------
        reports : `list` [`VisitReport`]
            One a detector, in the order of the plan.

        Raises
        ------
        OSError
            Raised if frames could not be delivered.
        """
        self._thread.join()
        for answer in self._answers:
            answer.result()
        if self._error is not None:
            raise self._error
        return [self._report(detector) for detector in self._planned.detectors]

    def _expose_all(self) -> None:
        try:
            due = (self._announced_at or time.time()) + self._timing.lead
            for snap in self._planned.snaps:
                if not self._expose(snap, due):
                    return
                due = time.time() + self._timing.between_snaps
        except Exception as error:
            self._error = error

    def _expose(self, snap: int, due: float) -> bool:
        """Take one snap; returns whether it was not interrupted."""
        if self._stop.wait(max(0.0, due - time.time())):
            return False
        opened = time.time()
        self._opened_at = self._opened_at or opened
        self._progress.shutter(self._visit, snap, is_open=True)
        if self._stop.wait(self._timing.exposure):
            return False
        self._closed_at = time.time()
        for ready in self._frames:
            if ready.frame.snap == snap:
                state = self._detectors[ready.frame.detector]
                state.delivered_at = ready.staged.release()
                state.exposure_ids.append(ready.frame.exposure_id)
        self._progress.shutter(self._visit, snap, is_open=False)
        return True

    def _take_answer(self, detector: int, answer: Answer) -> None:
        state = self._detectors[detector]
        state.answered_at, state.answer = time.time(), answer
        self._progress.answered(self._report(detector))

    def _report(self, detector: int) -> VisitReport:
        state = self._detectors[detector]
        answer = state.answer or Answer(status=None, body={"detail": "not sent"}, attempts=0)
        return VisitReport(
            visit=self._visit.fan_out(detector),
            status=answer.status,
            body=answer.body,
            attempts=answer.attempts,
            exposure_ids=tuple(state.exposure_ids),
            announced_at=self._announced_at,
            answered_at=state.answered_at,
            shutter_opened_at=self._opened_at,
            shutter_closed_at=self._closed_at,
            raw_delivered_at=state.delivered_at,
        )


def _stamp(visit: SummitVisit, *, now: float, opens: float, number: int) -> SummitVisit:
    """Put the times of the real publication into an announcement."""
    return visit.model_copy(
        update={
            "startTime": tai_from_unix(opens),
            "private_sndStamp": tai_from_unix(now),
            "private_kafkaStamp": tai_from_unix(now),
            "private_rcvStamp": tai_from_unix(now),
            "private_efdStamp": now,
            "private_seqNum": number + 1,
        }
    )
