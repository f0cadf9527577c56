"""What will be observed: visits, and the frames that come of them.

A plan is the one form in which simulated nights and recorded frames reach the
observatory, so that both take the same path through the service.
"""

from __future__ import annotations

__all__ = ["Frame", "Plan", "PlannedVisit", "SeedProgress", "raw_key"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from config.instruments import InstrumentConfig
from models.visits import FannedOutVisit, SummitVisit
from simulator.camera import Injected
from simulator.profiles import FloatArray

#: Told what is being written, how many of it are done, and of how many.
SeedProgress = Callable[[str, int, int], None]


class Frame(Protocol):
    """One raw frame of a planned visit."""

    @property
    def detector(self) -> int:
        """Detector id."""

    @property
    def snap(self) -> int:
        """Number of the exposure within its visit, from 0."""

    @property
    def exposure_id(self) -> int:
        """The Butler's exposure id, and the visit's."""

    @property
    def key(self) -> str:
        """Where the frame belongs, relative to the image directory or bucket."""

    @property
    def injected(self) -> Injected | None:
        """The transients on the frame; None if the truth is not known."""

    def read(self) -> bytes:
        """Return the frame as the bytes of a FITS file."""


@dataclass(frozen=True)
class PlannedVisit:
    """One visit of a plan.

    Attributes
    ----------
    visit : `models.visits.SummitVisit`
        The announcement, with nominal times; the observatory puts in the time
        at which it really publishes it.
    detectors : `tuple` [`int`, ...]
        Active detectors.
    frames : `tuple` [`Frame`, ...]
        All frames, of all detectors and snaps.
    """

    visit: SummitVisit
    detectors: tuple[int, ...]
    frames: tuple[Frame, ...]

    @property
    def snaps(self) -> tuple[int, ...]:
        """Snaps that will be taken."""
        return tuple(sorted({frame.snap for frame in self.frames}))

    def fan_out(self) -> tuple[FannedOutVisit, ...]:
        """Return the announcement's copies, one a detector."""
        return tuple(self.visit.fan_out(detector) for detector in self.detectors)


class SeedWriter(Protocol):
    """Writes what the service must know before the night."""

    def __call__(self, directory: Path, progress: SeedProgress | None) -> None:
        """Write calibrations, reference catalogue, sky map and templates."""


@dataclass(frozen=True)
class Plan:
    """A night, or the part of it that is observed.

    Attributes
    ----------
    instrument : `config.instruments.InstrumentConfig`
    visits : `tuple` [`PlannedVisit`, ...]
    seed_writer : `SeedWriter`
        How the seed directory of this night is made.
    variables : `tuple` [`numpy.ndarray`, `numpy.ndarray`]
        (ra, dec) of variable stars, degrees; empty if not known.
    """

    instrument: InstrumentConfig
    visits: tuple[PlannedVisit, ...]
    seed_writer: SeedWriter
    variables: tuple[FloatArray, FloatArray] | None = field(default=None)

    @property
    def frames(self) -> Iterator[Frame]:
        """All frames of all visits."""
        return (frame for planned in self.visits for frame in planned.frames)

    @property
    def detectors(self) -> tuple[int, ...]:
        """Detectors that take part, ascending."""
        return tuple(sorted({d for planned in self.visits for d in planned.detectors}))

    @property
    def filters(self) -> tuple[str, ...]:
        """Physical filters that are used, in order of first use."""
        return tuple(dict.fromkeys(p.visit.filters for p in self.visits if p.visit.filters))

    @property
    def has_truth(self) -> bool:
        """Whether transients were injected, or known not to be there."""
        return self.variables is not None

    def write_seed_directory(self, directory: str | Path, progress: SeedProgress | None = None) -> Path:
        """Write what ``create-central`` makes a central repo from.

        Parameters
        ----------
        directory : path-like
            Created if need be; files in it are replaced.
        progress : callable, optional
            Told what is written.

        Returns
        -------
        directory : `pathlib.Path`
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.seed_writer(directory, progress)
        return directory


def raw_key(
    instrument: str,
    *,
    detector: int,
    group: str,
    snap: int,
    exposure_id: int,
    physical_filter: str,
    file_name: str,
) -> str:
    """Return where a raw belongs: the generic form of keys."""
    return f"{instrument}/{detector}/{group}/{snap}/{exposure_id}/{physical_filter}/{file_name}"
