"""Which pipelines a visit runs."""

from __future__ import annotations

__all__ = ["SelectedPipelines"]

from dataclasses import dataclass


@dataclass(frozen=True)
class SelectedPipelines:
    """Pipelines to try for one visit, as paths, most preferred first."""

    preprocessing: tuple[str, ...]
    """Pipelines to run before the image arrives; may be empty."""
    main: tuple[str, ...]
    """Pipelines to run on the image; never empty."""
