"""Raw images as objects in a bucket, as slots read them."""

from __future__ import annotations

__all__ = ["BucketImageStore"]

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from models.errors import InvalidMessage, UnreadableImage
from models.raws import FoundImage, LocalImage, RawKey, generic_prefix, has_group_prefix, parse_raw_key
from repos.raw_presence import PresenceUnknown, RawPresence
from repos.s3_client import ObjectAbsent, retry_s3
from repos.scratch import ScratchDirectory

_log = logging.getLogger(__name__)

#: Tries to read an image while the server fails, and seconds between them.
_TRIES = 4
_RETRY_DELAY = 5.0
#: Bytes that are moved to disk at once.
_CHUNK = 1 << 20
#: Sidecars whose group is remembered: a night's, of one detector.
_REMEMBERED = 2000


class BucketImageStore:
    """Finds raw images and their sidecars in a bucket, and fetches them.

    Each image is fetched once, to this machine's disk, and stays there until
    the next one is fetched.

    Parameters
    ----------
    client : `botocore.client.BaseClient`
        See `repos.s3_client.create_s3_client`. Objects are not asked for
        before they are read.
    bucket : `str`
        May be ``tenant:bucket``.
    directory : `pathlib.Path`
        On this machine; images go into a directory of their own in it.
    presence : `repos.raw_presence.RawPresence`, optional
        Asked first what exists. Closed with the store.
    detector_names : mapping [`int`, `str`], optional
        Full names of detectors, by which `presence` knows them.
    retry_delay : `float`, optional
        Seconds between two tries to read an image.
    """

    def __init__(
        self,
        *,
        client: Any,
        bucket: str,
        directory: Path,
        presence: RawPresence | None = None,
        detector_names: Mapping[int, str] | None = None,
        retry_delay: float = _RETRY_DELAY,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._scratch = ScratchDirectory(directory)
        self._presence = presence
        self._detector_names = detector_names or {}
        self._retry_delay = retry_delay
        self._fetched: Path | None = None
        self._groups: dict[str, str] = {}

    def find_existing(self, instrument: str, detector: int, group: str, snap: int) -> list[FoundImage]:
        """Look up the images of one snap: ask the microservice, or list what
        lies under the snap's prefix.

        Keys that do not tell the group have no such prefix: without the
        microservice, only the listener knows of them.

        Returns
        -------
        found : `list` [`models.raws.FoundImage`]
            Ordered by key; empty if there is none.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the bucket cannot be listed now.
        """
        name = self._detector_names.get(detector)
        if self._presence is not None and name is not None:
            try:
                return self._ask(self._presence, instrument, group, snap, name)
            except PresenceUnknown as error:
                _log.warning("The raw microservice cannot tell, so the bucket is listed: %s", error)
        if not has_group_prefix(instrument):
            return []
        return list(self._list(generic_prefix(instrument, detector, group, snap)))

    def read_sidecar_group(self, raw: RawKey) -> str | None:
        """Read the group of an image from its sidecar.

        Returns
        -------
        group : `str` or `None`
            None if the sidecar is not there yet, or does not tell.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be read now.
        """
        key = raw.sidecar_key
        if key is None:
            return raw.group
        if key in self._groups:
            # Each visit hears again of the images of the visits before it.
            return self._groups[key]
        try:
            text = retry_s3(lambda: self._get(key)["Body"].read(), f"sidecar {self._uri(key)}")
            content = json.loads(text)
        except (ObjectAbsent, ValueError, RecursionError):
            return None
        group = content.get("GROUPID") if isinstance(content, dict) else None
        if not isinstance(group, str):
            return None
        self._groups[key] = group
        if len(self._groups) > _REMEMBERED:
            del self._groups[next(iter(self._groups))]
        return group

    def fetch(self, found: FoundImage) -> LocalImage:
        """Copy an image to this machine.

        Returns
        -------
        local : `models.raws.LocalImage`
            Its file, valid until the next call.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if it is not, or no longer, in the bucket.
        models.errors.TemporarilyUnavailable
            Raised if it cannot be read now.
        """
        uri = self._uri(found.raw.key)
        path = self._scratch.path / found.raw.key.rpartition("/")[2]
        self._forget()
        self._fetched = path
        try:
            written = retry_s3(
                lambda: self._download(found.raw.key, path),
                f"image {uri}",
                attempts=_TRIES,
                delay=self._retry_delay,
            )
        except ObjectAbsent as error:
            raise UnreadableImage(
                f"{uri} is not in the bucket: deleted after its notification, or never there"
            ) from error
        # The notification's time is to the millisecond, the object's often
        # only to the second.
        return LocalImage(path=path, landed=found.landed if found.landed is not None else written)

    def close(self) -> None:
        """Remove what was fetched, and close connections."""
        self._scratch.remove()
        self._client.close()
        if self._presence is not None:
            self._presence.close()

    def _ask(
        self, presence: RawPresence, instrument: str, group: str, snap: int, detector_name: str
    ) -> list[FoundImage]:
        key = presence.find(instrument, group, snap, detector_name)
        if key is None:
            return []
        for text in dict.fromkeys((key, unquote_plus(key))):
            with suppress(InvalidMessage):
                # It was asked for this group, so no sidecar is needed.
                raw = replace(parse_raw_key(text), group=group)
                return [FoundImage(raw=raw, location=self._uri(text))]
        raise PresenceUnknown(f"it names {key!r}, which is not the key of a raw image")

    def _list(self, prefix: str) -> Iterator[FoundImage]:
        def list_all() -> list[Any]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [entry for page in pages for entry in page.get("Contents", ())]

        listed = retry_s3(list_all, f"what is under {self._uri(prefix)}")
        for entry in listed:
            try:
                raw = parse_raw_key(entry["Key"])
            except InvalidMessage as error:
                _log.debug("Not a raw image: %s", error)
                continue
            yield FoundImage(raw=raw, location=self._uri(raw.key), landed=entry["LastModified"].timestamp())

    def _download(self, key: str, path: Path) -> float:
        """Write an object to a file; return when it was last modified."""
        response = self._get(key)
        with path.open("wb") as file:
            for chunk in response["Body"].iter_chunks(_CHUNK):
                file.write(chunk)
        return float(response["LastModified"].timestamp())

    def _get(self, key: str) -> Any:
        """Ask for an object, by its key as sent or else URL-decoded."""
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)
        except self._client.exceptions.NoSuchKey:
            decoded = unquote_plus(key)
            if decoded == key:
                raise
            return self._client.get_object(Bucket=self._bucket, Key=decoded)

    def _forget(self) -> None:
        if self._fetched is not None:
            self._fetched.unlink(missing_ok=True)
            self._fetched = None

    def _uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"
