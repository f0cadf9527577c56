"""Visits: the announcement of an observation, whole or for one detector.

A *nextVisit* announces the next observation. The fan-out service copies it
once per active detector; each copy, a `FannedOutVisit`, is one unit of work.
Field names are those of the messages in the field; see ``docs/messages.md``.
"""

from __future__ import annotations

__all__ = [
    "SCHEMA_VERSION",
    "CoordinateSystem",
    "Dome",
    "FannedOutVisit",
    "NextVisit",
    "RotationSystem",
    "SummitVisit",
    "VisitKey",
]

import json
import math
from enum import IntEnum
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from models.errors import InvalidMessage, UnusableVisit

#: Version of the nextVisit message that this code writes. It reads this one
#: and the one before it; the field is never sent while it is 1.
SCHEMA_VERSION = 1


class CoordinateSystem(IntEnum):
    """Meaning of `NextVisit.position`."""

    NONE = 1
    ICRS = 2
    OBSERVED = 3
    MOUNT = 4


class RotationSystem(IntEnum):
    """Meaning of `NextVisit.cameraAngle`."""

    NONE = 1
    SKY = 2
    HORIZON = 3
    MOUNT = 4


class Dome(IntEnum):
    """Required state of the dome."""

    CLOSED = 1
    OPEN = 2
    EITHER = 3


class VisitKey(NamedTuple):
    """What identifies one unit of work within a deployment."""

    instrument: PlainText
    group: str
    detector: int


def _plain(text: str) -> str:
    """Refuse what no database or file name can hold: halves of surrogate
    pairs, which JSON may have, and NUL.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds characters that are no text") from None
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
PlainText = Annotated[str, AfterValidator(_plain)]


class NextVisit(BaseModel):
    """An announced observation, in the fields every message form shares.

    Times are unix-style seconds on the TAI scale (astropy ``unix_tai``),
    angles are degrees.

    Attributes
    ----------
    salIndex, scriptSalIndex : `int`
        Script queue and script.
    groupId : `str`
        The observation's id; equals the Butler ``group``.
    position : `tuple` [`float`, `float`]
        (ra, dec) for ICRS, with ra in [0, 360), or (az, alt).
    startTime : `float`
        Expected start of the exposure, TAI.
    cameraAngle : `float`
        Focal-plane +Y east of north when `rotationSystem` is SKY.
    filters : `str`
        Physical filter; may be empty.
    duration : `float`
        Length of the script in seconds (not the exposure time).
    nimages : `int`
        Snaps expected; 0 means unknown.
    instrument, survey : `str`
        Short names; an empty instrument is not an observation.
    private_sndStamp : `float`
        Publication time, TAI; also the date for calibration validity.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    salIndex: int
    scriptSalIndex: int
    groupId: PlainText = Field(min_length=1)
    coordinateSystem: CoordinateSystem
    position: tuple[FiniteFloat, FiniteFloat]
    startTime: FiniteFloat
    rotationSystem: RotationSystem
    cameraAngle: FiniteFloat
    filters: PlainText
    dome: Dome
    duration: FiniteFloat = Field(ge=0)
    nimages: int = Field(ge=0)
    instrument: PlainText
    survey: PlainText
    totalCheckpoints: int
    private_sndStamp: FiniteFloat

    @field_validator("position", mode="after")
    @classmethod
    def _limit_position(cls, value: tuple[float, float]) -> tuple[float, float]:
        lon, lat = value
        if not -90.0 <= lat <= 90.0:
            raise ValueError(f"latitude {lat} is outside [-90, 90] degrees")
        return lon, lat

    @classmethod
    def parse(cls, data: str | bytes | dict[str, Any]) -> Self:
        """Read a visit from a JSON object or from text that holds one.

        Parameters
        ----------
        data : `str`, `bytes` or `dict`
            The message. Unknown fields are ignored; ``schemaVersion``, if
            there, must be this version or the one before.

        Returns
        -------
        visit : `NextVisit`
            The validated message, RA normalised to [0, 360) for ICRS.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if this is not JSON, or a field is missing or wrong; the
            text names every such field.
        """
        if isinstance(data, str | bytes):
            try:
                data = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise InvalidMessage(f"the visit is not valid JSON: {error}") from error
        if not isinstance(data, dict):
            raise InvalidMessage(f"the visit must be a JSON object, not {type(data).__name__}")
        _check_version(data.get("schemaVersion", SCHEMA_VERSION))
        try:
            visit = cls.model_validate(data)
        except ValidationError as error:
            raise InvalidMessage(_describe(error)) from error
        return visit._normalised()

    def _normalised(self) -> Self:
        if self.coordinateSystem is not CoordinateSystem.ICRS:
            return self
        ra, dec = self.position
        # The second modulo turns the 360.0 that rounding leaves of a tiny
        # negative angle into 0.
        return self.model_copy(update={"position": (math.fmod(ra % 360.0, 360.0), dec)})

    @property
    def has_position(self) -> bool:
        """Whether `position` is an ICRS position."""
        return self.coordinateSystem is CoordinateSystem.ICRS

    @property
    def has_footprint(self) -> bool:
        """Whether the area of sky that a detector covers is known: both an
        ICRS position and a SKY rotation.
        """
        return self.has_position and self.rotationSystem is RotationSystem.SKY

    def check_usable(self) -> None:
        """Check that this kind of visit can be processed.

        Raises
        ------
        models.errors.UnusableVisit
            Raised for coordinate systems other than NONE and ICRS, rotation
            systems other than NONE and SKY.
        """
        if self.coordinateSystem not in (CoordinateSystem.NONE, CoordinateSystem.ICRS):
            raise UnusableVisit(
                f"coordinateSystem {self.coordinateSystem.name} cannot be processed; use NONE (1) or ICRS (2)"
            )
        if self.rotationSystem not in (RotationSystem.NONE, RotationSystem.SKY):
            raise UnusableVisit(
                f"rotationSystem {self.rotationSystem.name} cannot be processed; use NONE (1) or SKY (2)"
            )


class SummitVisit(NextVisit):
    """A nextVisit as the summit publishes it, with the transport's fields.

    Further fields may appear and are ignored.
    """

    private_efdStamp: float = 0.0
    private_kafkaStamp: float = 0.0
    private_identity: str = ""
    private_revCode: str = ""
    private_origin: int = 0
    private_seqNum: int = 0
    private_rcvStamp: float = 0.0

    def fan_out(self, detector: int) -> FannedOutVisit:
        """Copy this visit for one detector, dropping the transport's fields."""
        fields = {name: getattr(self, name) for name in NextVisit.model_fields}
        return FannedOutVisit(**fields, detector=detector)


class FannedOutVisit(NextVisit):
    """One detector's copy of a visit: the unit of work.

    Attributes
    ----------
    detector : `int`
        The detector's id in the instrument.
    """

    detector: int = Field(ge=0, lt=2**31)

    @property
    def key(self) -> VisitKey:
        """What identifies this unit of work within a deployment."""
        return VisitKey(self.instrument, self.groupId, self.detector)

    def to_message(self) -> dict[str, Any]:
        """Return exactly the fields that are sent, as JSON values."""
        return self.model_dump(mode="json")

    def __str__(self) -> str:
        return f"{self.instrument} group {self.groupId} detector {self.detector}"


def _check_version(version: object) -> None:
    accepted = {SCHEMA_VERSION, SCHEMA_VERSION - 1} - {0}
    if isinstance(version, bool) or not isinstance(version, int) or version not in accepted:
        raise InvalidMessage(
            f"schemaVersion {version!r} is not understood; this service reads {sorted(accepted)}"
        )


def _describe(error: ValidationError) -> str:
    """Name every missing or wrong field of a message in one line."""
    faults = []
    for item in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in item["loc"])
        faults.append(f"{field}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(faults)
