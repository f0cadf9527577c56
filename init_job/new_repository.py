"""Make an empty repository, and an APDB, on whatever databases and stores."""

from __future__ import annotations

__all__ = ["create_apdb", "new_repository"]

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsst.daf.butler import Butler, Config
from lsst.daf.butler.registry.interfaces import SchemaAlreadyDefinedError
from lsst.dax.apdb.sql import ApdbSql
from lsst.resources import ResourcePath
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from models.errors import InvalidConfiguration
from repos.central import open_butler
from repos.formatters import repository_config
from repos.postgresql import refusal, use_installed_driver

_log = logging.getLogger(__name__)


def create_apdb(url: str, config_file: Path, *, namespace: str | None = None) -> None:
    """Make an APDB and write its configuration.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL of the database, such as ``sqlite:////data/apdb.db``.
    config_file : `pathlib.Path`
        Written; its path is the value for ``CONFIG_APDB``.
    namespace : `str`, optional
        Database schema; made if it is not there.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the database cannot be reached or refuses us.
    """
    use_installed_driver()
    try:
        # Slots wait as `pipelines.apdb_access` says; this is for other programs.
        timeout = 120 if make_url(url).get_backend_name() == "sqlite" else None
        config = ApdbSql.init_database(db_url=url, namespace=namespace, connection_timeout=timeout)
    except SQLAlchemyError as error:
        reason = refusal(error) or " ".join(str(getattr(error, "orig", None) or error).split())
        raise InvalidConfiguration(f"no APDB can be made in {make_url(url)!r}: {reason}") from error
    config.save(str(config_file))


@contextmanager
def new_repository(
    root: str, *, registry: str | None = None, namespace: str | None = None, datastore: str | None = None
) -> Iterator[Butler]:
    """Make a repository and open it, to be filled.

    If it is not filled to the end, it is removed; all but the tables of a
    registry on a server, which may be shared.

    Parameters
    ----------
    root, registry, namespace, datastore
        See `init_job.create_central.create_central`.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is a repository already, or database or bucket cannot
        be used.
    """
    place = ResourcePath(root, forceDirectory=True)
    if registry is None and not place.isLocal:
        raise InvalidConfiguration(
            f"a repository at {root} needs a registry on a server: --registry postgresql://user@host/database"
        )
    was_there = place.isLocal and place.exists()
    if _exists(place):
        raise InvalidConfiguration(f"there is a repository at {root} already")
    try:
        _make(place, _configuration(registry, namespace, datastore))
        with open_butler(root, writeable=True) as butler:
            yield butler
    except BaseException:
        # Half a repo would be in the way of the next attempt.
        if not place.isLocal:
            _remove(place.join("butler.yaml"))
        elif not was_there:
            shutil.rmtree(place.ospath, ignore_errors=True)
        raise


def _exists(place: ResourcePath) -> bool:
    try:
        return place.join("butler.yaml").exists()
    except Exception as error:  # of the store, whichever it is
        raise InvalidConfiguration(f"{place} cannot be read: {type(error).__name__}: {error}") from error


def _configuration(registry: str | None, namespace: str | None, datastore: str | None) -> Config:
    config = repository_config()
    for key, value in (("db", registry), ("namespace", namespace)):
        if value is not None:
            config["registry", key] = value
    if datastore is not None:
        config["datastore", "root"] = datastore
    return config


def _make(place: ResourcePath, config: Config) -> None:
    use_installed_driver()
    try:
        # What is configured stays; what is not gets its default.
        Butler.makeRepo(place, config=config, forceConfigRoot=False)
    except SchemaAlreadyDefinedError as error:
        raise InvalidConfiguration(
            f"the registry's database holds a repository already ({error}); choose another --namespace, or "
            "drop its schema"
        ) from error
    except Exception as error:  # of databases, buckets and the Butler itself
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        if "btree_gist" in text:
            raise InvalidConfiguration(
                "the registry's database lacks the extension btree_gist; its owner must run once: "
                f"psql -d {make_url(config['registry', 'db']).database} -c 'CREATE EXTENSION btree_gist'"
            ) from error
        raise InvalidConfiguration(
            f"no repository can be made at {place}: {refusal(error) or f'{type(error).__name__}: {text}'}"
        ) from error


def _remove(file: ResourcePath) -> None:
    try:
        file.remove()
    except Exception as error:  # whatever kept the repo from being made may keep this too
        _log.warning("%s may have to be removed by hand: %s", file, error)
