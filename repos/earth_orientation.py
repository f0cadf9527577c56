"""Earth-orientation data for astropy, without the network."""

from __future__ import annotations

__all__ = ["configure_earth_orientation"]

import logging
import zipfile

from astropy.utils import data, iers

from models.errors import InvalidConfiguration

_log = logging.getLogger(__name__)


def configure_earth_orientation(cache: str | None) -> None:
    """Make astropy use data that are here, and never fetch any.

    Parameters
    ----------
    cache : `str` or `None`
        Zip file of a download cache (`astropy.utils.data.export_download_cache`)
        to import. None: what ships with astropy is used, however old.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the file cannot be imported.
    """
    # The process's own cache comes from here alone.
    data.conf.allow_internet = False
    iers.conf.auto_max_age = None
    if cache is None:
        _log.warning(
            "CENTRAL_IERS_CACHE is not set: Earth orientation comes from the tables that ship with astropy."
        )
        iers.conf.auto_download = False
        return
    try:
        data.import_download_cache(cache, update_cache=True)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise InvalidConfiguration(f"CENTRAL_IERS_CACHE {cache} cannot be imported: {error}") from error
    # astropy looks into an imported cache only while it believes that it may
    # download; that it may not is said above.
    iers.conf.auto_download = True
