"""Messages that have versions: what is understood, and what is said.

A message's ``schemaVersion`` counts the changes that readers could not take:
a field renamed, removed, or with another meaning. A reader takes its own
version and the one before. See ``docs/coordination.md``.
"""

from __future__ import annotations

__all__ = ["VERSION_FIELD", "VersionedMessage"]

import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import InvalidMessage

#: Field that holds a message's version. Absent means 1, and while the version
#: is 1 it is never sent, because readers in the field know no such field.
VERSION_FIELD = "schemaVersion"


class VersionedMessage(BaseModel):
    """Base of messages that are read as JSON; unknown fields are ignored.

    A new version is a change of the fields, of `schema_version` and of
    `from_previous`, in one commit.

    Attributes
    ----------
    schema_version : `int`
        Version that this class writes.
    message_name : `str`
        What the message is called in errors.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: ClassVar[int] = 1
    message_name: ClassVar[str] = "message"

    @classmethod
    def from_previous(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Turn the fields of the version before into those of this version.

        Parameters
        ----------
        data : `dict`
            The message as it came; not to be changed.
        """
        return data

    @classmethod
    def parse(cls, data: str | bytes | dict[str, Any]) -> Self:
        """Read a message from a JSON object or from text that holds one.

        Parameters
        ----------
        data : `str`, `bytes` or `dict`
            The message, of this version or the one before.

        Returns
        -------
        message : `VersionedMessage`
            The validated message.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if this is not JSON, of a version that is not understood, or
            a field is missing or wrong; the text names every such field.
        """
        if isinstance(data, str | bytes):
            try:
                data = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise InvalidMessage(f"the {cls.message_name} is not valid JSON: {error}") from error
        if not isinstance(data, dict):
            raise InvalidMessage(f"the {cls.message_name} must be a JSON object, not {type(data).__name__}")
        if cls._version_of(data) < cls.schema_version:
            data = cls.from_previous(data)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidMessage(_describe(error)) from error

    @classmethod
    def _version_of(cls, data: dict[str, Any]) -> int:
        version = data.get(VERSION_FIELD, 1)
        accepted = [number for number in (cls.schema_version - 1, cls.schema_version) if number > 0]
        if isinstance(version, bool) or not isinstance(version, int) or version not in accepted:
            raise InvalidMessage(
                f"{VERSION_FIELD} {version!r} of the {cls.message_name} is not understood; "
                f"this program reads {' and '.join(map(str, accepted))}"
            )
        return version

    @classmethod
    def sent_version(cls) -> dict[str, int]:
        """Return the field that tells the version, where it is to be sent."""
        return {VERSION_FIELD: cls.schema_version} if cls.schema_version > 1 else {}


def _describe(error: ValidationError) -> str:
    """Name every missing or wrong field of a message in one line."""
    faults = []
    for item in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in item["loc"])
        faults.append(f"{field}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(faults)
