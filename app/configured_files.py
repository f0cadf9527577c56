"""Files that the settings name: looked at before anything is started."""

from __future__ import annotations

__all__ = ["check_configured_files", "find_camera"]

from collections.abc import Iterator

from config.binary_maps import load_binary_map
from config.instruments import InstrumentConfig, find_instrument_file, load_instrument
from config.settings import ServiceSettings
from models.errors import InvalidConfiguration


def check_configured_files(settings: ServiceSettings) -> None:
    """Read the camera file and the sky maps, so that one that is missing or
    damaged stops the start, and not every process that would need it later.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if one cannot be used; the text names each with its setting.
    """
    faults = list(_faults(settings))
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise InvalidConfiguration(f"files of the settings that are missing or wrong:{lines}")


def find_camera(settings: ServiceSettings) -> InstrumentConfig:
    """Read the camera file.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is none, or it is damaged.
    """
    name = settings.rubin_instrument
    try:
        return load_instrument(find_instrument_file(name, settings.instrument_path))
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"RUBIN_INSTRUMENT={name}: {error}") from error


def _faults(settings: ServiceSettings) -> Iterator[str]:
    try:
        find_camera(settings)
    except InvalidConfiguration as error:
        yield str(error)
    configs = {
        "MAIN_PIPELINES_CONFIG": settings.main_pipelines_config,
        "PREPROCESSING_PIPELINES_CONFIG": settings.preprocessing_pipelines_config,
    }
    for variable, config in configs.items():
        for path in config.maps:
            try:
                load_binary_map(path)
            except InvalidConfiguration as error:
                yield f"{variable}: {error}"
