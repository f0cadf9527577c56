"""Preload: decide which datasets a visit needs, before its image exists."""

from __future__ import annotations

__all__ = ["InputSource", "PreloadPlan", "Preloader", "RunnablePipeline"]

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.errors import NoPipelineBuilt
from models.inputs import InputKind, InputNeed
from models.visits import FannedOutVisit

_log = logging.getLogger(__name__)

#: Kinds of input that depend on where the telescope points.
_SKY_KINDS = frozenset({InputKind.REFCAT, InputKind.TEMPLATE})


class InputSource(Protocol):
    """Finds datasets in the central repo."""

    def find(
        self, need: InputNeed, data_id: Mapping[str, Any], *, valid_at: float, region: Any
    ) -> Sequence[Any]:
        """Return the datasets of one type that a visit needs."""


class RunnablePipeline(Protocol):
    """A pipeline, as far as preload is concerned."""

    @property
    def stem(self) -> str:
        """File stem."""

    @property
    def needs(self) -> Sequence[InputNeed]:
        """What it reads and does not make itself."""

    @property
    def products(self) -> frozenset[str]:
        """Names of the dataset types that it makes."""


@dataclass
class PreloadPlan:
    """What is to be fetched for a visit.

    Attributes
    ----------
    found : `dict` [`str`, `list`]
        Datasets of the central repo, by dataset type.
    warnings : `list` [`str`]
        Types of which nothing was found.
    """

    found: dict[str, Sequence[Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def has(self, dataset_type: str) -> bool:
        """Say whether anything of a type was found."""
        return bool(self.found.get(dataset_type))


class Preloader:
    """Chooses the inputs of visits.

    Parameters
    ----------
    source : `InputSource`
    """

    def __init__(self, *, source: InputSource) -> None:
        self._source = source

    def plan(
        self,
        visit: FannedOutVisit,
        pipelines: Iterable[RunnablePipeline],
        data_id: Mapping[str, Any],
        region: Any,
    ) -> PreloadPlan:
        """Find everything that some pipelines may need for a visit.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
        pipelines : iterable of `RunnablePipeline`
        data_id : `dict`
            What is known of the visit's data id.
        region : region or `None`
            Padded footprint of the detector; None if it is not known.
        """
        pipelines = list(pipelines)
        made = frozenset[str]().union(*(p.products for p in pipelines))
        needs = {n.dataset_type: n for p in pipelines for n in p.needs if n.dataset_type not in made}
        plan = PreloadPlan()
        for name, need in needs.items():
            if not need.preloadable:
                continue
            reason = _unobtainable(need, visit, data_id, region)
            if reason is None:
                plan.found[name] = self._source.find(
                    need, data_id, valid_at=visit.private_sndStamp, region=region
                )
                reason = "the central repo has none for it"
            if not plan.found.get(name):
                plan.warnings.append(f"no {name} for this visit: {reason}")
                _log.warning("No %s for %s: %s.", name, visit, reason)
        return plan

    @staticmethod
    def feasible(
        main: Sequence[RunnablePipeline],
        available: Iterable[str],
        expected: Iterable[str],
    ) -> list[RunnablePipeline]:
        """Choose the pipelines that can still run.

        Parameters
        ----------
        main : `list` [`RunnablePipeline`]
            In order of preference.
        available : iterable of `str`
            Dataset types that are here.
        expected : iterable of `str`
            Dataset types that the service or preprocessing will make.

        Raises
        ------
        models.errors.NoPipelineBuilt
            Raised if none can; the text says what each lacks.
        """
        known = {*available, *expected}
        chosen, lacking = [], []
        for pipeline in main:
            missing = [
                need.dataset_type
                for need in pipeline.needs
                if need.required and need.kind is not InputKind.VISIT and need.dataset_type not in known
            ]
            if missing:
                lacking.append(f"{pipeline.stem} lacks {', '.join(missing)}")
            else:
                chosen.append(pipeline)
        if not chosen:
            raise NoPipelineBuilt(f"no main pipeline has its required inputs: {'; '.join(lacking)}")
        return chosen


def _unobtainable(
    need: InputNeed, visit: FannedOutVisit, data_id: Mapping[str, Any], region: Any
) -> str | None:
    """Say why a kind of input cannot exist for a visit."""
    if need.filter_dependent or need.kind is InputKind.TEMPLATE:
        if not visit.filters:
            return "the visit names no filter"
        if "physical_filter" not in data_id:
            return f"the repo does not know filter {visit.filters!r}"
    if need.kind in _SKY_KINDS and region is None:
        return "its footprint on the sky is not known"
    return None
