"""The LSST alert schema, from the package that publishes it."""

from __future__ import annotations

__all__ = ["latest_alert_schema_version", "load_alert_schema"]

from functools import lru_cache
from typing import Any

from lsst.alert.packet import Schema
from lsst.alert.packet.schema import get_latest_schema_version, get_schema_path


@lru_cache(maxsize=1)
def latest_alert_schema_version() -> str:
    """Return the newest version, ``major.minor``.

    Constant for a process; reading it from the package each time would cost
    a file access a visit.
    """
    major, minor = get_latest_schema_version()
    return f"{major}.{minor}"


@lru_cache(maxsize=4)
def load_alert_schema(version: str) -> dict[str, Any]:
    """Return the parsed Avro schema of alerts.

    A pure function of the version: parsing takes 50 ms, alerts must not wait
    for it, and the result is never changed.

    Parameters
    ----------
    version : `str`
        ``major.minor``.
    """
    major, minor = (int(part) for part in version.split("."))
    path = f"{get_schema_path(major, minor)}/lsst.v{major}_{minor}.alert.avsc"
    definition: dict[str, Any] = Schema.from_file(path).definition
    return definition
