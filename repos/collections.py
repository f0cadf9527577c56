"""Names of collections in a central repo: pure functions of strings.

The scheme is that of the observatory's prompt processing (DMTN-167).
"""

from __future__ import annotations

__all__ = [
    "NO_PIPELINE",
    "REFCATS",
    "SKYMAPS",
    "calib_collection",
    "defaults_collection",
    "output_chain",
    "output_run",
    "pipeline_stem",
    "preload_run",
    "raw_run",
    "templates_collection",
]

from pathlib import PurePosixPath

#: Stem under which the products of preload are kept.
NO_PIPELINE = "NoPipeline"
#: Collection of reference catalogues.
REFCATS = "refcats"
#: Collection of sky maps.
SKYMAPS = "skymaps"


def pipeline_stem(path: str) -> str:
    """Return the stem of a pipeline file, which names its output run."""
    return PurePosixPath(path.partition("#")[0]).stem


def output_chain(instrument: str, date: str) -> str:
    """Return the chain that gathers all output runs of a night.

    Parameters
    ----------
    instrument : `str`
    date : `str`
        TAI date 12 h before processing began, ``YYYY-MM-DD``.
    """
    return f"{instrument}/prompt/output-{date}"


def output_run(instrument: str, date: str, stem: str, deployment_id: str) -> str:
    """Return the run that one pipeline of one deployment writes to."""
    return f"{output_chain(instrument, date)}/{stem}/{deployment_id}"


def preload_run(instrument: str, date: str, deployment_id: str) -> str:
    """Return the run of the datasets that the service itself writes."""
    return output_run(instrument, date, NO_PIPELINE, deployment_id)


def calib_collection(instrument: str) -> str:
    """Return the collection of certified calibrations."""
    return f"{instrument}/calib"


def templates_collection(instrument: str) -> str:
    """Return the collection of templates."""
    return f"{instrument}/templates"


def defaults_collection(instrument: str) -> str:
    """Return the umbrella collection, for all other inputs."""
    return f"{instrument}/defaults"


def raw_run(instrument: str) -> str:
    """Return the run that holds raw images."""
    return f"{instrument}/raw/all"
