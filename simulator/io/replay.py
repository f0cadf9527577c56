"""Visits and raws of a Butler repository, as a night to be observed again."""

from __future__ import annotations

__all__ = ["RepoFrame", "plan_replay"]

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler, DatasetRef, MissingCollectionError, MissingDatasetTypeError
from lsst.resources import ResourcePath

from config.instruments import InstrumentConfig
from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from models.raws import has_group_prefix, parse_raw_key
from models.visits import CoordinateSystem, Dome, RotationSystem, SummitVisit
from simulator.plan import Plan, PlannedVisit, SeedProgress, raw_key

#: Where raws are, for an instrument.
_RAWS = "{}/raw/all"
#: Exposures that are asked for at once.
_AT_ONCE = 200
#: Seconds that a script takes beside the exposures.
_OVERHEAD = 5.0
#: The camera whose keys have a form of their own.
_IMSIM = "LSSTCam-imSim"
#: Detectors that repositories call otherwise than keys do.
_DETECTOR_NAMES = {"LATISS": "R00_S00"}


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
        """Return the file's bytes.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be read.
        """
        try:
            content: bytes = self.uri.read()
        except Exception as error:  # whatever its store raises
            raise TemporarilyUnavailable(f"the raw {self.uri} cannot be read: {error!r}") from error
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
    groups: Sequence[str] = (),
    day_obs: int | None = None,
    visits: int | None = None,
    detectors: int | None = None,
    survey: str | None = None,
) -> Plan:
    """Plan to observe again what a repository holds.

    Exposures of one group are the snaps of one visit, as they were when they
    were taken. Keys have the form that the camera's raws have; where that has
    no place for the group, `simulator.sidecars` tells it.

    Parameters
    ----------
    repo : `str`
        A Butler repository; it is only read.
    instrument : `config.instruments.InstrumentConfig`
        The camera.
    collections : sequence of `str`, optional
        Where its raws are; ``<instrument>/raw/all``, if left out.
    groups : sequence of `str`, optional
        Which to take; all, if left out.
    day_obs : `int`, optional
        Day of observation to take, YYYYMMDD; all, if left out.
    visits, detectors : `int`, optional
        How many of those to take, the first ones; all, if left out.
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
        they cannot have keys of the camera's form.
    """
    wanted = list(collections) or [_RAWS.format(instrument.name)]
    try:
        butler = Butler.from_config(repo, writeable=False)
    except Exception as error:  # whatever its registry and its store raise
        raise InvalidConfiguration(f"{repo} cannot be read as a Butler repository: {error}") from error
    with butler:
        missing = _find_missing(butler, instrument.name, groups)
        if missing:
            raise InvalidConfiguration(f"{repo} has no {missing}")
        exposures = _find_exposures(butler, instrument.name, wanted, groups=groups, day_obs=day_obs)
        by_group: dict[str, list[Any]] = {}
        for record in exposures:
            by_group.setdefault(record.group, []).append(record)
        chosen = dict(itertools.islice(by_group.items(), visits))
        raws: dict[int, list[tuple[DatasetRef, ResourcePath]]] = {}
        for ref in _find_raws(butler, wanted, [r for records in chosen.values() for r in records]):
            raws.setdefault(int(ref.dataId["exposure"]), []).append((ref, butler.getURI(ref)))
    if not chosen:
        raise InvalidConfiguration(
            f"{repo} has no raws of {instrument.name} in {', '.join(wanted)}"
            f"{_selection(groups, day_obs)}; name their collection, or choose others"
        )
    known = sorted({int(ref.dataId["detector"]) for found in raws.values() for ref, _ in found})
    active = frozenset(known[:detectors])
    planned = [
        _plan_group(instrument.name, number, records, raws, active, survey)
        for number, records in enumerate(chosen.values())
    ]
    return Plan(
        instrument=instrument,
        visits=tuple(visit for visit in planned if visit.frames),
        seed_writer=_RepoSeed(),
    )


def _find_missing(butler: Butler, instrument: str, groups: Sequence[str]) -> str | None:
    """Say what is asked for and not in the repository."""
    names = sorted(r.name for r in butler.query_dimension_records("instrument", explain=False))
    if instrument not in names:
        return f"instrument {instrument}; it has {', '.join(names) or 'none'}"
    for group in groups:
        if not butler.query_dimension_records("group", instrument=instrument, group=group, explain=False):
            return f"group {group} of {instrument}"
    return None


def _find_exposures(
    butler: Butler, instrument: str, collections: list[str], *, groups: Sequence[str], day_obs: int | None
) -> list[Any]:
    """Return the records of exposures that have raws, in the order in which
    they were taken.
    """
    with butler.query() as query:
        try:
            query = query.join_dataset_search("raw", collections).where(instrument=instrument)
            if groups:
                query = query.where("exposure.group IN (wanted)", bind={"wanted": list(groups)})
            if day_obs is not None:
                query = query.where("exposure.day_obs = wanted", bind={"wanted": day_obs})
            found = query.dimension_records("exposure").order_by("exposure.timespan.begin", "exposure.id")
            return list(found)
        except (MissingCollectionError, MissingDatasetTypeError):
            return []


def _find_raws(butler: Butler, collections: list[str], exposures: Sequence[Any]) -> Iterator[DatasetRef]:
    for start in range(0, len(exposures), _AT_ONCE):
        some = exposures[start : start + _AT_ONCE]
        yield from butler.query_datasets(
            "raw",
            collections=collections,
            where="exposure IN (wanted)",
            bind={"wanted": [record.id for record in some]},
            instrument=some[0].instrument,
            with_dimension_records=True,
            limit=None,
            explain=False,
        )


def _selection(groups: Sequence[str], day_obs: int | None) -> str:
    of_groups = f" of group {', '.join(groups)}" if groups else ""
    return of_groups + (f" of day_obs {day_obs}" if day_obs is not None else "")


def _plan_group(
    instrument: str,
    number: int,
    records: Sequence[Any],
    raws: dict[int, list[tuple[DatasetRef, ResourcePath]]],
    detectors: frozenset[int],
    survey: str | None,
) -> PlannedVisit:
    frames = tuple(
        RepoFrame(
            uri=uri,
            detector=int(ref.dataId["detector"]),
            snap=snap,
            exposure_id=record.id,
            key=_key(record, ref.dataId.records["detector"], snap, uri),
        )
        for snap, record in enumerate(records)
        for ref, uri in sorted(raws[record.id], key=lambda found: int(found[0].dataId["detector"]))
        if int(ref.dataId["detector"]) in detectors
    )
    return PlannedVisit(
        visit=_announcement(instrument, number, records, survey),
        detectors=tuple(sorted({frame.detector for frame in frames})),
        frames=frames,
    )


def _key(exposure: Any, detector: Any, snap: int, uri: ResourcePath) -> str:
    """Return the key of a raw, in its camera's form."""
    camera, extension = exposure.instrument, uri.getExtension()
    name = _DETECTOR_NAMES.get(camera, detector.full_name)
    if camera == _IMSIM:
        stem = f"{exposure.id}_{exposure.physical_filter}_{detector.id}_{name}"
        key = f"{camera}/{exposure.day_obs}/{exposure.id}/{stem}{extension}"
    elif not has_group_prefix(camera):
        key = f"{camera}/{exposure.day_obs}/{exposure.obs_id}/{exposure.obs_id}_{name}{extension}"
    else:
        key = raw_key(
            camera,
            detector=detector.id,
            group=exposure.group,
            snap=snap,
            exposure_id=exposure.id,
            physical_filter=exposure.physical_filter,
            file_name=uri.unquoted_path.rpartition("/")[2],
        )
    try:
        parsed = parse_raw_key(key)
    except InvalidMessage as error:
        raise InvalidConfiguration(f"the raw {uri} cannot be replayed: {error}") from error
    if parsed.exposure_id != exposure.id:
        raise InvalidConfiguration(
            f"the raw {uri} cannot be replayed: it is of exposure {exposure.id}, and its key {key} would "
            f"be of {parsed.exposure_id}"
        )
    return key


def _announcement(instrument: str, number: int, records: Sequence[Any], survey: str | None) -> SummitVisit:
    first = records[0]
    taken = first.timespan.begin if first.timespan is not None else None
    begin = taken.unix_tai if taken is not None else 0.0
    pointed = first.tracking_ra is not None and first.tracking_dec is not None
    exposed = sum(record.exposure_time or 0.0 for record in records)
    return SummitVisit(
        salIndex=1,
        scriptSalIndex=100_000 + number,
        groupId=first.group,
        coordinateSystem=CoordinateSystem.ICRS if pointed else CoordinateSystem.NONE,
        position=(first.tracking_ra, first.tracking_dec) if pointed else (0.0, 0.0),
        startTime=begin,
        rotationSystem=RotationSystem.NONE if first.sky_angle is None else RotationSystem.SKY,
        cameraAngle=0.0 if first.sky_angle is None else first.sky_angle,
        filters=first.physical_filter,
        dome=Dome.OPEN if pointed else Dome.EITHER,
        duration=exposed + _OVERHEAD,
        nimages=len(records),
        instrument=instrument,
        survey=survey if survey is not None else first.science_program or "",
        totalCheckpoints=1,
        private_sndStamp=begin - 20.0,
        private_identity="simulator",
    )
