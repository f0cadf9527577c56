"""What can be checked before a night: everything that the service needs."""

from __future__ import annotations

__all__ = ["Check", "check_writable", "create_checks"]

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.configured_files import find_camera
from config.binary_maps import load_binary_map
from config.settings import ServiceSettings


@dataclass(frozen=True)
class Check:
    """Something to look at."""

    name: str
    """What it is, for people."""
    run: Callable[[], list[str]]
    """Returns what is wrong, if anything; may also raise. All checks run at
    once, each in a thread.
    """
    middleware: bool = False
    """Whether it uses the middleware, which is heavy; others do without."""


def create_checks(settings: ServiceSettings) -> list[Check]:
    """Return all checks of a service itself; those of brokers and servers are
    in `app.connection_checks`.
    """
    configs = settings.main_pipelines_config, settings.preprocessing_pipelines_config
    maps = dict.fromkeys(path for config in configs for path in config.maps)
    pipelines = tuple(dict.fromkeys(path for config in configs for path in config.pipelines))
    checks = [
        Check(f"instrument file of {settings.rubin_instrument}", partial(_check_instrument, settings)),
        *(Check(f"sky map {path}", partial(_check_map, path)) for path in maps),
        Check("directories", partial(_check_directories, settings)),
        Check("ledger", partial(_check_ledger, settings.ledger_url)),
    ]
    heavy: dict[str, Callable[[], list[str]]] = {
        "pipelines": partial(_check_pipelines, pipelines, settings.config_apdb)
    }
    for repo in dict.fromkeys((settings.central_repo, settings.read_central_repo)):
        heavy[f"central repo {repo}"] = partial(_check_repo, repo, settings.rubin_instrument)
    heavy[f"APDB {settings.config_apdb}"] = partial(_check_apdb, settings.config_apdb)
    return [*checks, *(Check(name, run, middleware=True) for name, run in heavy.items())]


def _check_instrument(settings: ServiceSettings) -> list[str]:
    find_camera(settings)
    return []


def _check_map(path: str) -> list[str]:
    load_binary_map(path)
    return []


def _check_directories(settings: ServiceSettings) -> list[str]:
    writable = {
        "PP_STATE_DIR": settings.state_dir,
        "LOCAL_REPOS": settings.local_repos,
        "PP_ALERT_DIRECTORY": settings.alert_files,
    }
    faults = [check_writable(name, path) for name, path in writable.items() if path is not None]
    images = settings.image_directory
    if images is not None and not (images.is_dir() and os.access(images, os.R_OK | os.X_OK)):
        faults.append(f"PP_IMAGE_DIRECTORY: {images} is not a directory that can be read; make it")
    if settings.local_repo_config is not None and not Path(settings.local_repo_config).exists():
        faults.append(f"LOCAL_REPO_CONFIG: there is no file {settings.local_repo_config}")
    return [fault for fault in faults if fault is not None]


def check_writable(name: str, path: Path) -> str | None:
    """Return what is wrong with a directory to write to, if anything; one that
    is missing is made when it is needed, so what is above it counts.

    Parameters
    ----------
    name : `str`
        The setting that names it.
    path : `pathlib.Path`
    """
    there = next((p for p in (path, *path.parents) if p.exists()), path)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
    except OSError as error:
        return f"{name}: {path} cannot be written: {error.strerror or error}"
    return None


def _check_ledger(url: str) -> list[str]:
    from repos.ledger import Ledger
    from repos.ledger_database import create_ledger_engine, embedded_ledger_file
    from repos.ledger_schema import UnknownSchema

    file = embedded_ledger_file(url)
    if file is not None and not file.exists():
        return []  # The service makes it; that its directory can be written is another check.
    # The service makes or upgrades tables when it starts.
    with suppress(UnknownSchema):
        Ledger(create_ledger_engine(url, read_only=True)).last_day()
    return []


def _check_pipelines(paths: tuple[str, ...], apdb_config: str) -> list[str]:
    from repos.pipeline_library import PipelineLibrary

    library = PipelineLibrary(apdb_config=apdb_config)
    library.load(paths)
    return [str(fault) for fault in library.faults()]


def _check_repo(uri: str, instrument: str) -> list[str]:
    from repos.central import check_central_repo
    from repos.probes import probe_datastore

    return check_central_repo(uri, instrument) or probe_datastore(uri)


def _check_apdb(uri: str) -> list[str]:
    from repos.apdb import check_apdb

    return check_apdb(uri)
