"""What pipelines read, as the services see it."""

from __future__ import annotations

__all__ = ["InputKind", "InputNeed"]

from dataclasses import dataclass
from enum import StrEnum


class InputKind(StrEnum):
    """How the datasets of a type are found for a visit."""

    CALIBRATION = "calibration"
    """By validity date, in the instrument's calibration collection."""
    REFCAT = "refcat"
    """By sky pixel overlapping the detector's footprint."""
    TEMPLATE = "template"
    """By sky map patch overlapping the detector's footprint."""
    SKYMAP = "skymap"
    """By the configured sky map's name."""
    OTHER = "other"
    """By data id, in the instrument's umbrella collection."""
    GROUP = "group"
    """Made for this group by the service or by preprocessing."""
    VISIT = "visit"
    """Raw images and what is made of them."""


@dataclass(frozen=True)
class InputNeed:
    """One dataset type that a pipeline reads and does not make itself.

    Attributes
    ----------
    dataset_type : `str`
    kind : `InputKind`
    required : `bool`
        Whether some task cannot run without one.
    prerequisite : `bool`
        Whether it must exist before the pipeline is built.
    constrains : `bool`
        Whether the pipeline's graph is empty without one.
    filter_dependent : `bool`
        Whether its dimensions include the filter or band.
    """

    dataset_type: str
    kind: InputKind
    required: bool
    prerequisite: bool
    constrains: bool
    filter_dependent: bool = False

    @property
    def preloadable(self) -> bool:
        """Whether it can be fetched from the central repo before the image."""
        return self.kind not in (InputKind.GROUP, InputKind.VISIT)
