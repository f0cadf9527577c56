"""Visits and raws of a Butler repository, as a night to be observed again."""

from __future__ import annotations

__all__ = ["RepoFrame", "plan_replay"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler, MissingCollectionError, MissingDatasetTypeError
from lsst.resources import ResourcePath

from config.instruments import InstrumentConfig
from models.errors import InvalidConfiguration, InvalidMessage
from models.raws import RawForm, RawKey, parse_raw_key
from models.visits import CoordinateSystem, Dome, RotationSystem, SummitVisit
from simulator.plan import Plan, PlannedVisit, SeedProgress, raw_key

#: Where raws are, for an instrument.
_RAWS = "{}/raw/all"
#: Seconds that a script takes beside the exposures.
_OVERHEAD = 5.0


@dataclass(frozen=True)
class RepoFrame:
    """A raw in a repository, which is read when it is sent.

    Attributes
    ----------
    uri : `lsst.resources.ResourcePath`
    detector, snap, exposure_id : `int`
    key : `str`
        Where the frame belongs, relative to the image directory or bucket.
    """

    uri: ResourcePath
    detector: int
    snap: int
    exposure_id: int
    key: str

    @property
    def injected(self) -> None:
        """The truth is not known."""
        return None

    def read(self) -> bytes:
        """Return the file's bytes."""
        content: bytes = self.uri.read()
        return content


class _RepoSeed:
    """What a replayed night does not have: a seed directory."""

    def __call__(self, directory: Path, progress: SeedProgress | None) -> None:
        raise InvalidConfiguration(
            f"{directory} cannot be made of a replayed repository: the service must know its calibrations "
            "and templates already"
        )


def plan_replay(
    repo: str,
    *,
    instrument: InstrumentConfig,
    collections: Sequence[str] = (),
    visits: int | None = None,
    detectors: int | None = None,
    survey: str | None = None,
) -> Plan:
    """Plan to observe again what a repository holds.

    Exposures of one group are the snaps of one visit, as they were when they
    were taken.

    Parameters
    ----------
    repo : `str`
        A Butler repository; it is only read.
    instrument : `config.instruments.InstrumentConfig`
        The camera.
    collections : sequence of `str`, optional
        Where its raws are; ``<instrument>/raw/all``, if left out.
    visits, detectors : `int`, optional
        How many to take, the first ones; all, if left out.
    survey : `str`, optional
        For all visits; that of the exposures' programme, if left out.

    Returns
    -------
    plan : `simulator.plan.Plan`
        Visits in the order of their exposures; the truth is not known.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is no such repository, or no such raws in it, or if
        the files of this camera need more than the repository has.
    """
    if _needs_sidecar(instrument.name):
        raise InvalidConfiguration(
            f"raws of {instrument.name} cannot be replayed: their group is in a sidecar, and a repo has none"
        )
    wanted = list(collections) or [_RAWS.format(instrument.name)]
    groups = _find(repo, instrument.name, wanted)
    if not groups:
        raise InvalidConfiguration(
            f"{repo} has no raws of {instrument.name} in {', '.join(wanted)}; name their collection"
        )
    known = sorted({detector for exposures in groups.values() for _, uris in exposures for detector in uris})
    chosen = frozenset(known[:detectors])
    planned = [
        _plan_group(instrument.name, number, group, exposures, chosen, survey)
        for number, (group, exposures) in enumerate(list(groups.items())[:visits])
    ]
    return Plan(
        instrument=instrument,
        visits=tuple(visit for visit in planned if visit.frames),
        seed_writer=_RepoSeed(),
    )


def _find(
    repo: str, instrument: str, collections: list[str]
) -> dict[str, list[tuple[Any, dict[int, ResourcePath]]]]:
    """Return, by group, its exposures' records and the files by detector."""
    try:
        with Butler.from_config(repo, writeable=False) as butler:
            refs = butler.query_datasets(
                "raw",
                collections=collections,
                instrument=instrument,
                with_dimension_records=True,
                limit=None,
                explain=False,
            )
            found: dict[int, tuple[Any, dict[int, ResourcePath]]] = {}
            for ref in refs:
                record = ref.dataId.records["exposure"]
                _, uris = found.setdefault(record.id, (record, {}))
                uris[int(ref.dataId["detector"])] = butler.getURI(ref)
    except (MissingCollectionError, MissingDatasetTypeError):
        return {}
    except (FileNotFoundError, RuntimeError) as error:
        raise InvalidConfiguration(f"{repo} cannot be read as a Butler repository: {error}") from error
    groups: dict[str, list[tuple[Any, dict[int, ResourcePath]]]] = {}
    for record, uris in sorted(found.values(), key=lambda entry: (entry[0].timespan.begin, entry[0].id)):
        groups.setdefault(record.group, []).append((record, uris))
    return groups


def _plan_group(
    instrument: str,
    number: int,
    group: str,
    exposures: Sequence[tuple[Any, Mapping[int, ResourcePath]]],
    detectors: frozenset[int],
    survey: str | None,
) -> PlannedVisit:
    frames = tuple(
        RepoFrame(
            uri=uri,
            detector=detector,
            snap=snap,
            exposure_id=record.id,
            key=raw_key(
                instrument,
                detector=detector,
                group=group,
                snap=snap,
                exposure_id=record.id,
                physical_filter=record.physical_filter,
                file_name=uri.basename(),
            ),
        )
        for snap, (record, uris) in enumerate(exposures)
        for detector, uri in sorted(uris.items())
        if detector in detectors
    )
    return PlannedVisit(
        visit=_announcement(instrument, number, group, [record for record, _ in exposures], survey),
        detectors=tuple(sorted({frame.detector for frame in frames})),
        frames=frames,
    )


def _announcement(
    instrument: str, number: int, group: str, records: Sequence[Any], survey: str | None
) -> SummitVisit:
    first = records[0]
    begin = first.timespan.begin.unix_tai
    pointed = first.tracking_ra is not None and first.tracking_dec is not None
    exposed = sum(record.exposure_time or 0.0 for record in records)
    return SummitVisit(
        salIndex=1,
        scriptSalIndex=100_000 + number,
        groupId=group,
        coordinateSystem=CoordinateSystem.ICRS if pointed else CoordinateSystem.NONE,
        position=(first.tracking_ra, first.tracking_dec) if pointed else (0.0, 0.0),
        startTime=begin,
        rotationSystem=RotationSystem.NONE if first.sky_angle is None else RotationSystem.SKY,
        cameraAngle=0.0 if first.sky_angle is None else first.sky_angle,
        filters=first.physical_filter,
        dome=Dome.OPEN,
        duration=exposed + _OVERHEAD,
        nimages=len(records),
        instrument=instrument,
        survey=survey if survey is not None else first.science_program or "",
        totalCheckpoints=1,
        private_sndStamp=begin - 20.0,
        private_identity="simulator",
    )


def _needs_sidecar(instrument: str) -> bool:
    """Say whether raws of a camera have a form whose group is in a sidecar."""
    try:
        key: RawKey = parse_raw_key(f"{instrument}/0/group/0/1/filter/raw.fits")
    except InvalidMessage:
        return True
    return key.form is not RawForm.GENERIC
