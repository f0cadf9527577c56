"""Rucio's own configuration, without which its clients cannot be imported."""

from __future__ import annotations

__all__ = ["require_rucio_configuration"]

from rucio.common import exception as rucio
from rucio.common.config import get_config

from models.errors import InvalidConfiguration


def require_rucio_configuration() -> None:
    """Read Rucio's configuration, before anything is asked of its server.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be found or read.
    """
    try:
        get_config()
    except rucio.RucioException as error:
        raise InvalidConfiguration(
            f"PP_CATALOGUE=rucio needs Rucio's configuration; RUCIO_CONFIG names its file: {error}"
        ) from error
