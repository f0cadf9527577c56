"""What the observatory is told, and what it tells."""

from __future__ import annotations

__all__ = ["Announcer", "FrameDelivery", "Progress", "SilentProgress", "StagedFrame", "Timing", "VisitReport"]

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from models.visits import FannedOutVisit, SummitVisit
from simulator.fan_out import Answer


@dataclass(frozen=True)
class Timing:
    """How fast the observatory works, in real seconds.

    The frames' headers and the visits' durations stay nominal, however
    compressed this is.

    Attributes
    ----------
    lead : `float`
        From the announcement to the opening of the shutter.
    exposure : `float`
        For how long the shutter is open.
    between_snaps : `float`
        From the closing of the shutter to its next opening within a visit.
    cadence : `float` or `None`
        From one announcement to the next; None waits for all answers first.
    stage_ahead : `int` or `None`
        Visits whose frames are rendered before they are announced; None
        renders all before the first, so that rendering takes no time from the
        service while it is being watched.
    """

    lead: float = 6.0
    exposure: float = 3.0
    between_snaps: float = 0.5
    cadence: float | None = None
    stage_ahead: int | None = None


@dataclass(frozen=True)
class VisitReport:
    """What became of one fanned-out visit.

    Times are UTC unix seconds, None for what did not happen (yet).

    Attributes
    ----------
    visit : `models.visits.FannedOutVisit`
        As it was sent.
    status : `int` or `None`
        HTTP status of the last answer; None if none came.
    body : mapping
        Its JSON.
    attempts : `int`
        How often it was sent.
    exposure_ids : `tuple` [`int`, ...]
        Exposures whose frames were delivered.
    announced_at, answered_at : `float` or `None`
    shutter_opened_at, shutter_closed_at : `float` or `None`
        The opening is that of the first snap, the closing that of the last.
    raw_delivered_at : `float` or `None`
        When the detector's last frame got its final name.
    """

    visit: FannedOutVisit
    status: int | None
    body: Mapping[str, Any]
    attempts: int
    exposure_ids: tuple[int, ...]
    announced_at: float | None
    answered_at: float | None
    shutter_opened_at: float | None
    shutter_closed_at: float | None
    raw_delivered_at: float | None


class Progress(Protocol):
    """Told how the night goes; called from several threads."""

    def staged(self, done: int, total: int) -> None:
        """So many frames of so many are rendered."""

    def announced(self, visit: SummitVisit, detectors: tuple[int, ...]) -> None:
        """A visit was announced to its detectors."""

    def shutter(self, visit: SummitVisit, snap: int, *, is_open: bool) -> None:
        """The shutter opened; or it closed, and the frames were delivered."""

    def answered(self, report: VisitReport) -> None:
        """The answer to one detector's visit came."""


class SilentProgress:
    """Progress that nobody watches."""

    def staged(self, done: int, total: int) -> None:
        """Say nothing."""

    def announced(self, visit: SummitVisit, detectors: tuple[int, ...]) -> None:
        """Say nothing."""

    def shutter(self, visit: SummitVisit, snap: int, *, is_open: bool) -> None:
        """Say nothing."""

    def answered(self, report: VisitReport) -> None:
        """Say nothing."""


class StagedFrame(Protocol):
    """A frame that waits for the shutter to close."""

    def release(self) -> float:
        """Deliver it; returns the UTC unix time at which it was there."""

    def discard(self) -> None:
        """Remove it, unless it was delivered."""


class FrameDelivery(Protocol):
    """Where frames go."""

    def stage(self, key: str, content: bytes) -> StagedFrame:
        """Bring a frame near its place, unseen."""


class Announcer(Protocol):
    """Tells a processing system of visits, and learns what became of them."""

    def announce(
        self, visit: SummitVisit, detectors: Sequence[int], on_answer: Callable[[int, Answer], None]
    ) -> Sequence[Future[None]]:
        """Announce a visit, without waiting.

        Parameters
        ----------
        visit : `models.visits.SummitVisit`
        detectors : sequence of `int`
        on_answer : callable
            Called with a detector and its final answer, from another thread.

        Returns
        -------
        answers : sequence of `concurrent.futures.Future`
            Done when the answers were handed over.
        """

    def close(self, *, wait: bool = True) -> None:
        """Announce nothing from now on.

        Parameters
        ----------
        wait : `bool`, optional
            Whether to wait for the answers to what was announced.
        """
