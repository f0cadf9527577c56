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

__all__ = ["DirectoryWatch", "is_temporary"]

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from watchfiles import Change, watch

from models.errors import InvalidConfiguration, InvalidMessage
from models.raws import FoundImage, parse_raw_key
from repos.image_memory import ImageMemory, Subscription

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
        self._root = Path(root).resolve()
        self._memory_time = memory
        self._memory = ImageMemory(memory, clock)
        self._polling = polling
        self._clock = clock
        self._rescans: dict[Path, list[float]] = {}
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch.

        Whatever arrives from now on, or arrived within the time of memory, is
        noticed.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the directory cannot be made or read.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            next(self._root.iterdir(), None)
        except OSError as error:
            raise InvalidConfiguration(
                f"image directory {self._root} cannot be used: {error.strerror}; "
                "name a directory that can be read"
            ) from error
        self._thread = threading.Thread(target=self._run, name="image-watch", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_LIMIT):
            self.stop()
            raise InvalidConfiguration(
                f"image directory {self._root} could not be watched within {_START_LIMIT:g} s; "
                "is its file system reachable?"
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

    @property
    def trouble(self) -> str | None:
        """What keeps images from being heard of; None if nothing does."""
        return None if self.is_alive else "nobody listens; images are only looked for"

    def subscribe(
        self,
        instrument: str,
        detector: int,
        detector_name: str | None,
        callback: Callable[[FoundImage], None],
    ) -> Subscription:
        """Deliver the images of a detector, those of the recent past first.

        See `repos.image_memory.ImageMemory.subscribe`.
        """
        return self._memory.subscribe(instrument, detector, detector_name, callback)

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
            for change, name in changes:
                self._handle(change, Path(name))
            self._rescan()

    def _offer_recent(self) -> None:
        oldest = time.time() - self._memory_time
        for path in _files_below(self._root):
            try:
                # Renaming to the final name changes this time, unlike that of
                # the last modification.
                is_recent = path.stat().st_ctime >= oldest
            except OSError:
                continue
            if is_recent:
                self._offer(path)

    def _handle(self, change: Change, path: Path) -> None:
        if change is Change.deleted:
            self._memory.remove(str(path))
        elif path.is_dir():
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

    def _offer_all(self, directory: Path) -> None:
        for path in _files_below(directory):
            self._offer(path)

    def _offer(self, path: Path) -> None:
        """Deliver the file if it is an image, and new or changed."""
        if is_temporary(path.name):
            return
        try:
            raw = parse_raw_key(path.relative_to(self._root).as_posix())
        except (InvalidMessage, ValueError) as error:
            _log.debug("Not a raw image: %s", error)
            return
        try:
            status = path.stat()
        except OSError:
            return
        if status.st_size > 0:
            # These change with every rewrite.
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            self._memory.add(FoundImage(raw=raw, location=str(path)), version)


def is_temporary(name: str) -> bool:
    """Say whether a file's name shows that it is not complete yet."""
    return name.startswith(".") or name.endswith((".tmp", ".part"))


def _files_below(directory: Path) -> Iterator[Path]:
    # os.walk leaves out directories that vanish or may not be read.
    for folder, _, names in os.walk(directory):
        for name in names:
            yield Path(folder, name)
