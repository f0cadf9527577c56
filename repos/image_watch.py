"""Notices raw images that arrive in a directory.

Runs in the parent process, which must stay small: nothing here may import
``lsst`` or ``astropy``.

The operating system reports what happens in a directory only from the moment
it is watched. A raw usually comes with directories made for it alone, and lies
in them before anybody could begin to watch (more than a third of them, with
writers in a hurry). So every new directory is read through when it is
reported, and again a few times soon after.
"""

from __future__ import annotations

__all__ = ["DirectoryWatch", "Subscription", "is_temporary"]

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, watch

from models.errors import InvalidConfiguration, InvalidMessage
from models.raws import FoundImage, RawKey, parse_raw_key

_log = logging.getLogger(__name__)

#: Milliseconds between two looks at the queue of events.
_STEP = 20
#: Milliseconds for which events are gathered at most, while more come.
_GATHER = 100
#: Milliseconds after which the watch wakes up if nothing happens, for the
#: directories that are to be read again.
_TICK = 100
#: Milliseconds between two looks at a file system that reports no events.
_POLL_DELAY = 200
#: Seconds after its arrival at which a new directory is read again.
_RESCANS = (0.1, 0.5, 2.0)
#: Seconds that the start may take, on slow file systems.
_START_LIMIT = 60.0


@dataclass(frozen=True)
class _Arrival:
    """An image that was delivered."""

    found: FoundImage
    time: float
    signature: tuple[int, int, int]
    """Inode, size and modification time: they change with every rewrite."""


class Subscription:
    """A wish to hear of the images of one detector. `close` ends it."""

    def __init__(
        self,
        instrument: str,
        detector: int,
        detector_name: str | None,
        callback: Callable[[FoundImage], None],
        on_close: Callable[[Subscription], None],
    ) -> None:
        self._instrument = instrument
        self._detector = detector
        self._detector_name = detector_name
        self._callback = callback
        self._on_close = on_close

    def wants(self, raw: RawKey) -> bool:
        """Say whether an image may be of this detector."""
        if raw.instrument != self._instrument:
            return False
        if raw.detector is not None:
            return raw.detector == self._detector
        # Without the detector's name nothing can be excluded here; whoever
        # asked can tell.
        return self._detector_name is None or raw.detector_name == self._detector_name

    def deliver(self, found: FoundImage) -> None:
        """Hand over an image; a callback that fails disturbs nobody else."""
        try:
            self._callback(found)
        except Exception:
            _log.exception("An image could not be handed over: %s", found.location)

    def close(self) -> None:
        """End the subscription. A delivery may still be under way."""
        self._on_close(self)


class DirectoryWatch:
    """Watches a directory for raw images and tells who asked for them.

    An image counts when it is at its final name. Writers should write aside
    and rename; an image that is written in place is delivered again whenever
    it has changed, because nobody can tell from outside when it is complete.

    Parameters
    ----------
    root : path-like
        Image directory; keys are relative to it. Made if it is not there.
    memory : `float`, optional
        Seconds for which images are remembered, for visits that are announced
        after their images.
    polling : `bool`, optional
        Whether to look at the directory again and again instead of relying on
        events, which network file systems do not report.
    clock : callable, optional
        Monotonic time in seconds.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        memory: float = 600.0,
        polling: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(os.path.abspath(root))
        self._memory = memory
        self._polling = polling
        self._clock = clock
        self._lock = threading.Lock()
        self._arrivals: dict[str, _Arrival] = {}
        self._subscriptions: list[Subscription] = []
        self._rescans: dict[str, list[float]] = {}
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch. Whatever arrives from now on, or arrived within the
        time of memory, is noticed.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the directory cannot be made or read.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            os.listdir(self._root)
        except OSError as error:
            raise InvalidConfiguration(
                f"image directory {self._root} cannot be used: {error.strerror}; name a directory that can be read"
            ) from error
        self._thread = threading.Thread(target=self._run, name="image-watch", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_LIMIT):
            self.stop()
            raise InvalidConfiguration(
                f"image directory {self._root} could not be watched within {_START_LIMIT:g} s; is it reachable?"
            )

    def stop(self) -> None:
        """Stop watching and wait until the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    @property
    def is_alive(self) -> bool:
        """Whether images are being watched for."""
        return self._thread is not None and self._thread.is_alive()

    def subscribe(
        self,
        instrument: str,
        detector: int,
        detector_name: str | None,
        callback: Callable[[FoundImage], None],
    ) -> Subscription:
        """Deliver the images of a detector, those of the recent past first.

        Parameters
        ----------
        instrument : `str`
        detector : `int`
        detector_name : `str` or `None`
            Full name, for keys that hold no number.
        callback : callable
            Called with each `models.raws.FoundImage`, from any thread; should
            not block. The same image may come more than once.

        Returns
        -------
        subscription : `Subscription`
            To be closed.
        """
        subscription = Subscription(instrument, detector, detector_name, callback, self._forget_subscription)
        with self._lock:
            self._prune()
            # Registered in the same breath as the past is read: what arrives
            # meanwhile may come twice, but nothing falls in between.
            self._subscriptions.append(subscription)
            past = [a.found for a in self._arrivals.values() if subscription.wants(a.found.raw)]
        for found in past:
            subscription.deliver(found)
        return subscription

    def _forget_subscription(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._watch()
            except Exception as error:
                # Most often the limit of watched directories. Looking again
                # and again is slower, but blind would be worse.
                _log.warning(
                    "Events of image directory %s are not available (%s); polling instead", self._root, error
                )
                self._polling = True
                self._stopping.wait(1.0)

    def _watch(self) -> None:
        started = False
        for changes in watch(
            self._root,
            watch_filter=None,
            debounce=_GATHER,
            step=_STEP,
            rust_timeout=_TICK,
            yield_on_timeout=True,
            stop_event=self._stopping,
            raise_interrupt=False,
            force_polling=self._polling,
            poll_delay_ms=_POLL_DELAY,
            ignore_permission_denied=True,
        ):
            if not started:
                # Only now is the watch known to be in place.
                self._offer_recent()
                self._ready.set()
                started = True
            for change, path in changes:
                self._handle(change, path)
            self._rescan()

    def _offer_recent(self) -> None:
        oldest = time.time() - self._memory
        for path in _files_below(str(self._root)):
            try:
                # Renaming to the final name changes this time, unlike that of
                # the last modification.
                if os.stat(path).st_ctime >= oldest:
                    self._offer(path)
            except OSError:
                continue

    def _handle(self, change: Change, path: str) -> None:
        if change is Change.deleted:
            with self._lock:
                self._arrivals.pop(path, None)
        elif os.path.isdir(path):
            now = self._clock()
            self._rescans[path] = [now + delay for delay in _RESCANS]
            self._offer_all(path)
        else:
            self._offer(path)

    def _rescan(self) -> None:
        now = self._clock()
        for path, times in list(self._rescans.items()):
            if times[0] > now:
                continue
            self._offer_all(path)
            left = [t for t in times if t > now]
            if left:
                self._rescans[path] = left
            else:
                del self._rescans[path]

    def _offer_all(self, directory: str) -> None:
        for path in _files_below(directory):
            self._offer(path)

    def _offer(self, path: str) -> None:
        """Deliver the file if it is an image, and new or changed."""
        if is_temporary(os.path.basename(path)):
            return
        try:
            raw = parse_raw_key(Path(path).relative_to(self._root).as_posix())
        except (InvalidMessage, ValueError) as error:
            _log.debug("Not a raw image: %s", error)
            return
        try:
            status = os.stat(path)
        except OSError:
            return
        if status.st_size == 0:
            return
        arrival = _Arrival(
            found=FoundImage(raw=raw, location=path),
            time=self._clock(),
            signature=(status.st_ino, status.st_size, status.st_mtime_ns),
        )
        with self._lock:
            known = self._arrivals.get(path)
            if known is not None and known.signature == arrival.signature:
                return
            # Taken out first, so that the order stays that of arrival.
            self._arrivals.pop(path, None)
            self._arrivals[path] = arrival
            self._prune()
            interested = [s for s in self._subscriptions if s.wants(raw)]
        for subscription in interested:
            subscription.deliver(arrival.found)

    def _prune(self) -> None:
        oldest = self._clock() - self._memory
        expired: list[str] = []
        for path, arrival in self._arrivals.items():
            if arrival.time >= oldest:
                break
            expired.append(path)
        for path in expired:
            del self._arrivals[path]


def is_temporary(name: str) -> bool:
    """Say whether a file's name shows that it is not complete yet."""
    return name.startswith(".") or name.endswith((".tmp", ".part"))


def _files_below(directory: str) -> Iterator[str]:
    # os.walk leaves out directories that vanish or may not be read.
    for folder, _, names in os.walk(directory):
        for name in names:
            yield os.path.join(folder, name)
