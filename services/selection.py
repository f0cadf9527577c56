"""Which pipelines run for a visit."""

from __future__ import annotations

__all__ = ["PipelineSelector"]

from collections.abc import Callable

from config.binary_maps import BinaryMap, load_binary_map
from config.pipelines_config import CoordinateType, PipelineEntry, PipelinesConfig
from models.errors import NoPipelineApplies
from models.pipelines import SelectedPipelines
from models.visits import FannedOutVisit


class PipelineSelector:
    """Finds the entry of a pipelines configuration that a visit matches.

    Parameters
    ----------
    main, preprocessing : `config.pipelines_config.PipelinesConfig`
        Pipelines for images, and to run before them.
    detector_center : callable
        Returns the (ra, dec) of the centre of a visit's detector (ICRS,
        degrees), or `None` if it is not known. Called only where asked for.
    load_map : callable, optional
        Reads a map; each is read once, here.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a map cannot be read.
    """

    def __init__(
        self,
        *,
        main: PipelinesConfig,
        preprocessing: PipelinesConfig,
        detector_center: Callable[[FannedOutVisit], tuple[float, float] | None],
        load_map: Callable[[str], BinaryMap] = load_binary_map,
    ) -> None:
        self._main = main
        self._preprocessing = preprocessing
        self._detector_center = detector_center
        self._maps = {path: load_map(path) for path in dict.fromkeys([*main.maps, *preprocessing.maps])}

    def select(self, visit: FannedOutVisit) -> SelectedPipelines:
        """Choose the pipelines of a visit.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
            The visit.

        Returns
        -------
        pipelines : `models.pipelines.SelectedPipelines`
            Pipelines to try, most preferred first; those for preprocessing
            may be none.

        Raises
        ------
        models.errors.NoPipelineApplies
            Raised if no entry of the main configuration matches, or the one
            that does says to run nothing.
        """
        entry = self._match(self._main, visit)
        if entry is None:
            raise NoPipelineApplies(
                f"no entry of MAIN_PIPELINES_CONFIG matches {visit} (survey {visit.survey!r}, "
                f"position {visit.position} {visit.coordinateSystem.name})"
            )
        if not entry.pipelines:
            raise NoPipelineApplies(f"MAIN_PIPELINES_CONFIG says to run nothing for {visit}")
        before = self._match(self._preprocessing, visit)
        return SelectedPipelines(
            preprocessing=before.pipelines if before is not None else (), main=entry.pipelines
        )

    def _match(self, config: PipelinesConfig, visit: FannedOutVisit) -> PipelineEntry | None:
        return next((entry for entry in config.entries if self._matches(entry, visit)), None)

    def _matches(self, entry: PipelineEntry, visit: FannedOutVisit) -> bool:
        if entry.survey is not None and entry.survey != visit.survey:
            return False
        if not entry.needs_position:
            return True
        position = self._position(entry.coord_type, visit)
        if position is None:
            return False
        ra, dec = position
        if entry.ra is not None and not entry.ra.contains_wrapped(ra):
            return False
        if entry.dec is not None and not entry.dec.contains(dec):
            return False
        return entry.binary_map is None or self._maps[entry.binary_map].contains(ra, dec)

    def _position(self, kind: CoordinateType, visit: FannedOutVisit) -> tuple[float, float] | None:
        if kind is CoordinateType.BORESIGHT:
            return visit.position if visit.has_position else None
        # A detector's place on the sky also depends on the camera's rotation.
        return self._detector_center(visit) if visit.has_footprint else None
