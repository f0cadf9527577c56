"""The images of one visit, one after another as they arrive."""

from __future__ import annotations

__all__ = ["AwaitedImages", "ImageStore"]

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.errors import ImagesUnusable, NoImageArrived, TemporarilyUnavailable
from models.raws import FoundImage, LocalImage, RawKey
from models.visits import FannedOutVisit

_log = logging.getLogger(__name__)

#: Seconds for which the sidecar of an image is waited for.
_SIDECAR_TIMEOUT = 2.0
#: Seconds between two looks for a sidecar.
_SIDECAR_DELAY = 0.1
#: Tries to read a sidecar while its server fails, and seconds between them.
_SIDECAR_TRIES = 4
_SIDECAR_RETRY_DELAY = 5.0
#: Snaps that are always looked for when a visit does not say how many it has;
#: beyond that, as long as there are any.
_USUAL_SNAPS = 2
#: Snaps that are looked for at most, whatever a visit says.
_MOST_SNAPS = 100
#: What stands for the end of the wait; its steps themselves yield nothing.
_OVER = "over"


class ImageStore(Protocol):
    """Where raw images are kept: a directory or a bucket."""

    def find_existing(self, instrument: str, detector: int, group: str, snap: int) -> list[FoundImage]:
        """Return the images of one snap that exist and can be looked up.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the store cannot be asked now.
        """

    def read_sidecar_group(self, raw: RawKey) -> str | None:
        """Return the group that an image's sidecar tells.

        Does not wait: None if the sidecar is not there yet.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the store cannot be asked now.
        """

    def fetch(self, found: FoundImage) -> LocalImage:
        """Make sure that an image can be read on this machine.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if it is gone.
        models.errors.TemporarilyUnavailable
            Raised if the store cannot be asked now.
        """

    def close(self) -> None:
        """Let go of it, and of what was fetched."""


@dataclass
class _Undecided:
    """An image of which it is not known yet whether it is ours.

    Attributes
    ----------
    give_up : `float`
        When to leave it out.
    retry_at : `float`
        When to look for its sidecar again; in between the store failed.
    failures : `int`
        How often it did.
    """

    found: FoundImage
    give_up: float
    retry_at: float = 0.0
    failures: int = 0


class AwaitedImages:
    """Iterates over the images of a visit as they arrive, each exposure once.

    Raises `models.errors.NoImageArrived` where the iteration would end
    without a single image, `models.errors.ImagesUnusable` if all that came
    were rejected, `models.errors.TemporarilyUnavailable` if there may be one
    but the store could not be asked. Made by `ImageAwaiter.await_images`.

    Attributes
    ----------
    warnings : `list` [`str`]
        What a person should know when the iteration is over.
    waited : `float`
        Seconds spent doing nothing but waiting.
    """

    def __init__(
        self,
        *,
        visit: FannedOutVisit,
        channel_images: Callable[[float], list[FoundImage]],
        store: ImageStore,
        detector_names: Mapping[str, int],
        time_limit: float,
        clock: Callable[[], float],
    ) -> None:
        self.warnings: list[str] = []
        self.waited = 0.0
        self._visit = visit
        self._channel_images = channel_images
        self._store = store
        self._detector_names = detector_names
        self._time_limit = time_limit
        self._clock = clock
        self._accepted: dict[int, FoundImage] = {}
        self._ready: deque[FoundImage] = deque()
        self._surplus: list[FoundImage] = []
        self._undecided: dict[str, _Undecided] = {}
        self._unanswered: dict[str, str] = {}
        self._rejections: dict[int, str] = {}
        self._steps = self._look_and_listen()

    def __iter__(self) -> AwaitedImages:
        return self

    def __next__(self) -> FoundImage:
        while True:
            if self._ready:
                return self._ready.popleft()
            if self._is_complete():
                raise StopIteration
            if next(self._steps, _OVER):
                self._finish()
                raise StopIteration

    def reject(self, found: FoundImage, reason: str) -> None:
        """Take back an image that turned out to be unreadable.

        It does not count, and the same exposure is accepted again if it is
        delivered again: most often it was caught while it was being written.
        """
        exposure = found.raw.exposure_id
        if self._accepted.pop(exposure, None) is not None:
            self._rejections[exposure] = reason
            _log.warning("Waiting for exposure %d to come again: %s", exposure, reason)
            surplus, self._surplus = self._surplus, []
            for other in surplus:
                self._accept(other)

    def _is_complete(self) -> bool:
        return 0 < self._visit.nimages <= len(self._accepted)

    def _look_and_listen(self) -> Iterator[None]:
        """Do one thing after another that may bring images."""
        self._sift(self._channel_images(0.0))
        yield
        self._look()
        deadline = self._clock() + self._time_limit
        yield
        while (left := deadline - self._clock()) > 0.0:
            self._sift(self._wait(min(left, _SIDECAR_DELAY) if self._undecided else left))
            yield
        self._sift(self._channel_images(0.0))
        self._look()
        yield

    def _wait(self, timeout: float) -> list[FoundImage]:
        begin = self._clock()
        try:
            return self._channel_images(timeout)
        finally:
            self.waited += self._clock() - begin

    def _look(self) -> None:
        visit = self._visit
        try:
            for snap in range(min(visit.nimages or _MOST_SNAPS, _MOST_SNAPS)):
                found = self._store.find_existing(visit.instrument, visit.detector, visit.groupId, snap)
                if not found and visit.nimages == 0 and snap >= _USUAL_SNAPS:
                    break
                self._sift(found)
        except TemporarilyUnavailable as error:
            # The listener may hear of them all the same.
            _log.warning("Cannot look for images of %s: %s", visit, error)
            self._unanswered[""] = str(error)
        else:
            self._unanswered.pop("", None)

    def _sift(self, images: Sequence[FoundImage]) -> None:
        """Accept images of this visit, and those whose group has come to light."""
        now = self._clock()
        for found in images:
            if self._is_of_detector(found.raw):
                self._undecided.setdefault(found.location, _Undecided(found, now + _SIDECAR_TIMEOUT))
            else:
                _log.debug("Not an image of %s: %s", self._visit, found.raw.key)
        # Of those that need a sidecar the newest first: the others are most
        # likely of earlier visits, which the listener remembers.
        told = [item for item in self._undecided.items() if item[1].found.raw.group is not None]
        untold = [item for item in self._undecided.items() if item[1].found.raw.group is None]
        for location, undecided in (*told, *reversed(untold)):
            if undecided.found.raw.group is None and self._is_complete():
                break
            if now >= undecided.retry_at:
                self._decide(location, undecided, now)

    def _decide(self, location: str, undecided: _Undecided, now: float) -> None:
        found = undecided.found
        group = found.raw.group
        try:
            if group is None:
                group = self._store.read_sidecar_group(found.raw)
        except TemporarilyUnavailable as error:
            self._put_off(location, undecided, error)
            return
        self._unanswered.pop(location, None)
        if group is not None:
            del self._undecided[location]
            if group == self._visit.groupId:
                self._accept(found)
        elif now >= undecided.give_up:
            del self._undecided[location]
            _log.warning(
                "Image %s is left out: no sidecar %s with a GROUPID came within %g s",
                found.raw.key,
                found.raw.sidecar_key,
                _SIDECAR_TIMEOUT,
            )

    def _put_off(self, location: str, undecided: _Undecided, error: TemporarilyUnavailable) -> None:
        """Try again later: the store failed, which says nothing of the image."""
        undecided.failures += 1
        self._unanswered[location] = str(error)
        if undecided.failures >= _SIDECAR_TRIES:
            del self._undecided[location]
            _log.warning("Image %s is left out: %s", undecided.found.raw.key, error)
            return
        undecided.retry_at = self._clock() + _SIDECAR_RETRY_DELAY
        undecided.give_up = undecided.retry_at + _SIDECAR_TIMEOUT
        _log.warning("Trying again in %g s: %s", _SIDECAR_RETRY_DELAY, error)

    def _is_of_detector(self, raw: RawKey) -> bool:
        if raw.instrument != self._visit.instrument:
            return False
        detector = raw.detector
        if detector is None and raw.detector_name is not None:
            detector = self._detector_names.get(raw.detector_name)
        return detector == self._visit.detector

    def _accept(self, found: FoundImage) -> None:
        exposure = found.raw.exposure_id
        if exposure in self._accepted:
            _log.debug("Image %s came twice", found.raw.key)
            return
        if self._is_complete():
            _log.debug("Image %s is one more than announced", found.raw.key)
            self._surplus.append(found)
            return
        _log.debug("Image of %s: %s", self._visit, found.location)
        self._accepted[exposure] = found
        self._rejections.pop(exposure, None)
        self._ready.append(found)

    def _finish(self) -> None:
        """Judge what there is when the time is over."""
        wanted, got = self._visit.nimages, len(self._accepted)
        faults = "; ".join(self._rejections.values())
        unanswered = "; ".join(dict.fromkeys(self._unanswered.values()))
        if got == 0 and unanswered:
            raise TemporarilyUnavailable(f"whether images of {self._visit} exist is not known: {unanswered}")
        if got == 0 and faults:
            raise ImagesUnusable(f"no image of {self._visit} could be read: {faults}")
        if got == 0:
            raise NoImageArrived(
                f"no image of {self._visit} arrived within {self._time_limit:g} s after preload; "
                "check that images are delivered under the announced group and detector"
            )
        if got < wanted:
            self._warn(f"only {got} of {wanted} images arrived; processing those")
        if faults:
            self._warn(f"images left out: {faults}")
        if unanswered:
            self._warn(f"there may be more images: {unanswered}")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        _log.warning("%s: %s", self._visit, text)
