"""What a deployment is: its pipelines, and the id that names it all.

Service and initializer must agree about both.
"""

from __future__ import annotations

__all__ = ["deployment_id_of", "load_library"]

import logging
from contextlib import suppress
from pathlib import Path

from config.instruments import find_instrument_file
from config.settings import PROJECT, ServiceSettings
from models.errors import InvalidConfiguration
from repos.deployment import compute_deployment_id
from repos.pipeline_library import PipelineLibrary

_log = logging.getLogger(__name__)


def load_library(settings: ServiceSettings) -> PipelineLibrary:
    """Load every configured pipeline."""
    library = PipelineLibrary(apdb_config=settings.config_apdb)
    library.load(settings.preprocessing_pipelines_config.pipelines)
    library.load(settings.main_pipelines_config.pipelines)
    for fault in library.faults():
        _log.error("%s", fault)
    return library


def deployment_id_of(settings: ServiceSettings, library: PipelineLibrary) -> str:
    """Return the deployment id, computed or given."""
    if settings.deployment_id:
        return settings.deployment_id
    files = {*settings.main_pipelines_config.maps, *settings.preprocessing_pipelines_config.maps}
    with suppress(InvalidConfiguration):  # without a camera file there is nothing of it to count
        files.add(str(find_instrument_file(settings.rubin_instrument, settings.instrument_path)))
    return compute_deployment_id(
        root=PROJECT,
        pipelines=library.loaded(),
        files=[Path(path).read_bytes() for path in sorted(files)],
        apdb_config=settings.config_apdb,
    )
