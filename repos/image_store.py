"""Raw images as files in a directory.

The directory holds the same relative keys as the image bucket would. An
object store is the same thing with other means: see
`services.images.ImageStore`.
"""

from __future__ import annotations

__all__ = ["DirectoryImageStore"]

import json
import logging
import os
from pathlib import Path

from models.errors import InvalidMessage, UnreadableImage
from models.raws import FoundImage, LocalImage, RawKey, generic_prefix, parse_raw_key
from repos.image_watch import is_temporary

_log = logging.getLogger(__name__)


class DirectoryImageStore:
    """Finds raw images and their sidecars below a directory.

    Parameters
    ----------
    root : path-like
        Keys are relative to it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).resolve()

    def find_existing(self, instrument: str, detector: int, group: str, snap: int) -> list[FoundImage]:
        """List the images of one snap that lie under its prefix.

        Only the generic form of key has a prefix that tells the group.

        Returns
        -------
        found : `list` [`models.raws.FoundImage`]
            Ordered by key; empty if there is none.
        """
        if not _is_plain(instrument) or not _is_plain(group):
            # Such a visit may be announced, but its prefix would lead out of
            # the image directory or be another's.
            return []
        found = []
        for folder, folders, names in os.walk(self._root / generic_prefix(instrument, detector, group, snap)):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if is_temporary(name):
                    continue
                try:
                    raw = parse_raw_key(path.relative_to(self._root).as_posix())
                except InvalidMessage as error:
                    _log.debug("Not a raw image: %s", error)
                    continue
                found.append(FoundImage(raw=raw, location=str(path)))
        return found

    def read_sidecar_group(self, raw: RawKey) -> str | None:
        """Read the group of an image from its sidecar.

        Returns
        -------
        group : `str` or `None`
            None if the sidecar is not there, or not complete, yet.
        """
        if raw.sidecar_key is None:
            return raw.group
        try:
            content = json.loads((self._root / raw.sidecar_key).read_text())
        except (OSError, ValueError):
            return None
        group = content.get("GROUPID") if isinstance(content, dict) else None
        return group if isinstance(group, str) else None

    def fetch(self, found: FoundImage) -> LocalImage:
        """Return where an image can be read, and since when.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if it is gone.
        """
        path = Path(found.location)
        try:
            # A rename keeps the modification time and sets the change time.
            landed = path.stat().st_ctime
        except OSError as error:
            raise UnreadableImage(f"{path} cannot be read: {error.strerror or error}") from error
        return LocalImage(path=path, landed=landed)

    def close(self) -> None:
        """Let go of it."""


def _is_plain(element: str) -> bool:
    return "/" not in element and "\0" not in element and element not in ("", ".", "..")
