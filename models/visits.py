"""Visits: the announcement of an observation, whole or for one detector.

A *nextVisit* announces the next observation. The fan-out service copies it
once per active detector; each copy, a `FannedOutVisit`, is one unit of work.
Field names are those of the messages in the field; see ``docs/messages.md``.
"""

from __future__ import annotations

__all__ = [
    "CoordinateSystem",
    "Dome",
    "FannedOutVisit",
    "NextVisit",
    "RotationSystem",
    "SummitVisit",
    "VisitKey",
]

import math
from enum import IntEnum
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from models.errors import UnusableVisit
from models.versions import VersionedMessage


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


class NextVisit(VersionedMessage):
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

    message_name: ClassVar[str] = "visit"

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
        """Read a visit; see `models.versions.VersionedMessage.parse`.

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
        return super().parse(data)._normalised()

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

    Further fields may appear and are ignored. A field of the transport that
    is null, as Avro's may be, is as good as absent.
    """

    private_efdStamp: float = 0.0
    private_kafkaStamp: float = 0.0
    private_identity: str = ""
    private_revCode: str = ""
    private_origin: int = 0
    private_seqNum: int = 0
    private_rcvStamp: float = 0.0

    @field_validator(
        "private_efdStamp",
        "private_kafkaStamp",
        "private_identity",
        "private_revCode",
        "private_origin",
        "private_seqNum",
        "private_rcvStamp",
        mode="before",
    )
    @classmethod
    def _null_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name is not None:
            return cls.model_fields[info.field_name].default
        return value

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
        return {**self.model_dump(mode="json"), **self.sent_version()}

    def __str__(self) -> str:
        return f"{self.instrument} group {self.groupId} detector {self.detector}"
