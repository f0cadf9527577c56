"""The microservice that knows which raw images are there."""

from __future__ import annotations

__all__ = ["PresenceUnknown", "RawPresence"]

from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

#: Seconds that the service may take: looking for oneself is not much slower.
_TIMEOUT = 1.0


class PresenceUnknown(Exception):
    """The microservice could not tell."""


class _Answer(BaseModel):
    error: bool
    message: str | None = None
    present: bool | None = None
    uri: str | None = None


class RawPresence:
    """Asks the raw microservice.

    Parameters
    ----------
    url : `str`
        Of the service, without the part that names an image.
    timeout : `float`, optional
        Seconds.
    """

    def __init__(self, url: str, *, timeout: float = _TIMEOUT) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=timeout)

    def find(self, instrument: str, group: str, snap: int, detector_name: str) -> str | None:
        """Ask where the image of one snap is.

        Returns
        -------
        key : `str` or `None`
            None if there is none yet. Only the path of the answered URI
            counts: the service may know the bucket by another name.

        Raises
        ------
        PresenceUnknown
            Raised if the service does not answer well and in time.
        """
        parts = (instrument, group, str(snap), detector_name)
        url = "/".join([self._url, *(quote(part, safe=":") for part in parts)])
        try:
            response = self._client.get(url)
            response.raise_for_status()
            answer = _Answer.model_validate_json(response.content)
        except (httpx.HTTPError, httpx.InvalidURL, ValidationError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PresenceUnknown(f"{url}: {reason}") from error
        if answer.error or answer.present is None:
            raise PresenceUnknown(f"{url}: {answer.message or 'an error without a message'}")
        if not answer.present:
            return None
        # By hand, since a key may hold what ends the path of a URL.
        key = (answer.uri or "").partition("://")[2].partition("/")[2]
        if not key:
            raise PresenceUnknown(f"{url}: present, but the uri {answer.uri!r} has no path")
        return key

    def close(self) -> None:
        """Close connections."""
        self._client.close()
