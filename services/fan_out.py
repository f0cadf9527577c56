"""Fan out: one nextVisit in, one visit out for each active detector."""

from __future__ import annotations

__all__ = ["FanOut", "FanOutObserver", "NextVisitDecoder", "VisitDelivery"]

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from config.instrument_routes import InstrumentRoute
from models.errors import InvalidMessage, TemporarilyUnavailable, UnknownSchema, UnusableVisit
from models.fan_out import Answer, NextVisitRecord, SkipReason
from models.visits import FannedOutVisit, SummitVisit

_log = logging.getLogger(__name__)

#: Seconds before the first further try to understand a message, and at most.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0


class NextVisitDecoder(Protocol):
    """Turns a message on the topic into the fields of a nextVisit."""

    async def decode(self, value: bytes) -> Any:
        """Return what the message holds.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if it will never be understood.
        models.errors.TemporarilyUnavailable
            Raised if that cannot be told now.
        """


class VisitDelivery(Protocol):
    """Brings the copies of a visit to the workers."""

    async def deliver(self, route: InstrumentRoute, visits: Sequence[FannedOutVisit]) -> None:
        """Send copies; return when each is sent or given up, which is before
        any of them is answered.
        """


class FanOutObserver(Protocol):
    """Whoever wants to know what the fan-out does; must not raise."""

    def announced(self, visit: SummitVisit, copies: int) -> None:
        """A nextVisit is being fanned out."""

    def skipped(self, reason: SkipReason) -> None:
        """A nextVisit is not fanned out."""

    def sent(self, instrument: str, seconds: float) -> None:
        """All copies are sent or given up, this long after they were announced."""

    def begun(self, instrument: str) -> None:
        """A copy is on its way."""

    def ended(self, instrument: str, seconds: float) -> None:
        """A copy is answered or given up."""

    def refused(self, instrument: str) -> None:
        """Nobody accepted a copy; it may be offered again."""

    def retried(self, instrument: str) -> None:
        """A copy is sent once more after a 503."""

    def answered(self, instrument: str, answer: Answer | None) -> None:
        """Nothing more will come for a copy; None if it was never accepted."""


class FanOut:
    """Decides what becomes of each nextVisit.

    Parameters
    ----------
    decoder : `NextVisitDecoder`
    routes : mapping [`str`, `config.instrument_routes.InstrumentRoute`]
        By instrument, for the supported ones.
    delivery : `VisitDelivery`
    observer : `FanOutObserver`
    expiration : `float`
        Age in seconds from which a nextVisit is skipped.
    clock : callable, optional
        Returns UTC unix time.
    """

    def __init__(
        self,
        *,
        decoder: NextVisitDecoder,
        routes: Mapping[str, InstrumentRoute],
        delivery: VisitDelivery,
        observer: FanOutObserver,
        expiration: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decoder = decoder
        self._routes = routes
        self._delivery = delivery
        self._observer = observer
        self._expiration = expiration
        self._clock = clock

    async def handle(self, record: NextVisitRecord) -> None:
        """Fan out a nextVisit, or say why not.

        Returns when the record need not be read again: its copies are sent,
        or it is skipped.

        Parameters
        ----------
        record : `models.fan_out.NextVisitRecord`
        """
        begin = time.monotonic()
        try:
            visit = self._accept(await self._decode(record))
            detectors = self._routes[visit.instrument].active_detectors(visit.salIndex)
            if not detectors:
                raise _Skipped(SkipReason.NO_DETECTORS, f"{visit.instrument} has no active detector")
        except _Skipped as skipped:
            _log.log(skipped.level, "Skipped (%s) the %s: %s.", skipped.reason.value, record, skipped)
            self._observer.skipped(skipped.reason)
            return
        copies = [visit.fan_out(detector) for detector in detectors]
        self._observer.announced(visit, len(copies))
        await self._delivery.deliver(self._routes[visit.instrument], copies)
        seconds = time.monotonic() - begin
        self._observer.sent(visit.instrument, seconds)
        _log.info(
            "%s group %s went to %d detectors in %.0f ms.",
            visit.instrument,
            visit.groupId,
            len(copies),
            seconds * 1000,
        )

    async def _decode(self, record: NextVisitRecord) -> dict[str, Any]:
        if record.value is None:
            raise _Skipped(SkipReason.MALFORMED, "it is empty")
        pause = _FIRST_PAUSE
        while True:
            try:
                fields = await self._decoder.decode(record.value)
                break
            except UnknownSchema as error:
                raise _Skipped(SkipReason.UNKNOWN_SCHEMA, str(error)) from error
            except InvalidMessage as error:
                raise _Skipped(SkipReason.MALFORMED, str(error)) from error
            except TemporarilyUnavailable as error:
                if self._clock() + pause - record.timestamp > self._expiration:
                    raise _Skipped(SkipReason.UNREADABLE, f"it is stale by now, and {error}") from error
                _log.error("The %s waits %g s: %s", record, pause, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if not isinstance(fields, dict):
            raise _Skipped(SkipReason.MALFORMED, f"it holds no object but {type(fields).__name__}")
        return fields

    def _accept(self, fields: dict[str, Any]) -> SummitVisit:
        """Return the visit if it is to be fanned out."""
        # Looked at before the rest: what is not an observation of ours may
        # have any form.
        instrument = fields.get("instrument")
        if instrument is None or instrument == "":
            raise _Skipped(
                SkipReason.NO_INSTRUMENT, "it has no instrument, so is no observation", logging.INFO
            )
        if not isinstance(instrument, str) or instrument not in self._routes:
            supported = " ".join(self._routes)
            raise _Skipped(
                SkipReason.UNSUPPORTED_INSTRUMENT,
                f"the instrument {instrument!r} is none of {supported}",
                logging.INFO,
            )
        try:
            visit = SummitVisit.parse(fields)
        except InvalidMessage as error:
            raise _Skipped(SkipReason.MALFORMED, str(error)) from error
        name = f"{visit.instrument} group {visit.groupId}"
        try:
            visit.check_usable()
        except UnusableVisit as error:
            raise _Skipped(SkipReason.UNUSABLE, f"{name}: {error}") from error
        # A comparison that NaN does not pass.
        if not visit.private_efdStamp > 0:
            _log.warning("%s has no private_efdStamp; it is fanned out whatever its age.", name)
        elif (age := self._clock() - visit.private_efdStamp) > self._expiration:
            raise _Skipped(SkipReason.STALE, f"{name} was published {age:.0f} s ago (private_efdStamp)")
        return visit


class _Skipped(Exception):
    """A nextVisit is not fanned out."""

    def __init__(self, reason: SkipReason, why: str, level: int = logging.WARNING) -> None:
        super().__init__(why)
        self.reason = reason
        self.level = level
