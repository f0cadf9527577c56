"""An observatory at work: announces visits, exposes, delivers the frames."""

from __future__ import annotations

__all__ = ["Observatory", "observe"]

import threading
import time
from pathlib import Path

from simulator.fan_out import FanOut
from simulator.io.cloud_events import CloudEventSender
from simulator.io.delivery import DirectoryDelivery
from simulator.observing import Announcer, FrameDelivery, Progress, SilentProgress, Timing, VisitReport
from simulator.plan import Plan, PlannedVisit
from simulator.sidecars import stage_frame
from simulator.visit_run import ReadyFrame, VisitRun


class Observatory:
    """Observes plans against a running service.

    Parameters
    ----------
    announcer : `simulator.observing.Announcer`
        Closed at the end of the night.
    delivery : `simulator.observing.FrameDelivery`
        Where raws go.
    timing : `simulator.observing.Timing`, optional
    progress : `simulator.observing.Progress`, optional
    """

    def __init__(
        self,
        *,
        announcer: Announcer,
        delivery: FrameDelivery,
        timing: Timing | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._announcer = announcer
        self._delivery = delivery
        self._timing = timing or Timing()
        self._progress = progress or SilentProgress()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the night early: nothing more is announced or delivered."""
        self._stop.set()

    def observe(self, plan: Plan) -> list[VisitReport]:
        """Observe a plan and wait for all answers.

        Parameters
        ----------
        plan : `simulator.plan.Plan`

        Returns
        -------
        reports : `list` [`simulator.observing.VisitReport`]
            One a fanned-out visit, in the order of the plan.

        Raises
        ------
        OSError
            Raised if frames could not be delivered.
        """
        ready: list[list[ReadyFrame]] = []
        runs: list[VisitRun] = []
        due = 0.0
        try:
            for number, planned in enumerate(plan.visits):
                self._stage_up_to(plan, number, ready)
                now = time.monotonic()
                # A visit that is late does not delay those after it.
                due = now if not runs or self._timing.cadence is None else due + self._timing.cadence
                if self._stop.wait(max(0.0, due - now)):
                    break
                run = VisitRun(
                    planned=planned,
                    number=number,
                    frames=ready[number],
                    timing=self._timing,
                    progress=self._progress,
                    announcer=self._announcer,
                    stop=self._stop,
                )
                runs.append(run)
                run.start()
                if self._timing.cadence is None:
                    run.finish()
            reports = [report for run in runs for report in run.finish()]
            self._announcer.close()
            return reports
        except BaseException:
            self._stop.set()
            # Whoever interrupts the night does not want to wait for answers
            # that may take minutes.
            self._announcer.close(wait=False)
            raise
        finally:
            for frames in ready:
                for frame in frames:
                    frame.staged.discard()

    def _stage_up_to(self, plan: Plan, number: int, ready: list[list[ReadyFrame]]) -> None:
        """Render the frames of the visits up to this one and some ahead."""
        ahead = self._timing.stage_ahead
        last = len(plan.visits) if ahead is None else number + ahead + 1
        total = sum(len(planned.frames) for planned in plan.visits)
        for planned in plan.visits[len(ready) : last]:
            ready.append(self._stage(planned, sum(map(len, ready)), total))

    def _stage(self, planned: PlannedVisit, done: int, total: int) -> list[ReadyFrame]:
        frames: list[ReadyFrame] = []
        for frame in planned.frames:
            staged = stage_frame(self._delivery, frame.key, frame.read(), planned.visit.groupId)
            frames.append(ReadyFrame(frame, staged))
            self._progress.staged(done + len(frames), total)
        return frames


def observe(
    plan: Plan,
    *,
    url: str,
    image_dir: str | Path,
    token: str | None = None,
    timing: Timing | None = None,
    progress: Progress | None = None,
) -> list[VisitReport]:
    """Observe a plan against a service that watches a directory for raws.

    Parameters
    ----------
    plan : `simulator.plan.Plan`
    url : `str`
        Of the service.
    image_dir : path-like
        The directory that it watches.
    token : `str`, optional
        Bearer token, if the service wants one.
    timing : `simulator.observing.Timing`, optional
    progress : `simulator.observing.Progress`, optional

    Returns
    -------
    reports : `list` [`simulator.observing.VisitReport`]
    """
    sender = CloudEventSender(url=url, token=token)
    try:
        observatory = Observatory(
            announcer=FanOut(send=sender),
            delivery=DirectoryDelivery(image_dir=image_dir),
            timing=timing,
            progress=progress,
        )
        return observatory.observe(plan)
    finally:
        sender.close()
