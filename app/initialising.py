"""Wiring of the initializer."""

from __future__ import annotations

__all__ = ["initialise", "nights_to_prepare"]

import time
from collections.abc import Sequence
from datetime import date, timedelta

from app.deployment import deployment_id_of, load_library
from config.settings import ServiceSettings
from init_job.initialise import Initializer
from models.errors import PromptProcessingError, TemporarilyUnavailable
from models.times import output_date, tai_from_unix
from repos.central import open_butler, sqlite_lock
from repos.pipeline_library import PipelineLibrary
from repos.retry import is_outage, retry_connections


def initialise(
    settings: ServiceSettings, dates: Sequence[str], library: PipelineLibrary | None = None
) -> list[str]:
    """Prepare a central repo for some nights of a deployment.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`
        Those of the service.
    dates : `list` [`str`]
        TAI dates, YYYY-MM-DD.
    library : `repos.pipeline_library.PipelineLibrary`, optional
        The deployment's pipelines, if they are loaded already.

    Returns
    -------
    runs : `list` [`str`]
        Output runs that are ready.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the repo cannot be opened, or dataset types are missing.
    models.errors.PipelineUnreadable
        Raised if a pipeline cannot be loaded.
    models.errors.TemporarilyUnavailable
        Raised if database or object store cannot be reached.
    """
    library = library if library is not None else load_library(settings)
    if faults := library.faults():
        raise faults[0]
    try:
        return _initialise(settings, library, dates)
    except PromptProcessingError:
        raise
    except Exception as error:  # drivers and clients raise many types
        if is_outage(error):
            cause = " ".join(str(error).split())
            raise TemporarilyUnavailable(f"the central repo {settings.central_repo}: {cause}") from error
        raise


def _initialise(settings: ServiceSettings, library: PipelineLibrary, dates: Sequence[str]) -> list[str]:
    by_path = {p.path: p for p in library.loaded()}
    butler = retry_connections(
        lambda: open_butler(settings.central_repo, writeable=True), delay=settings.repo_retry_delay
    )
    with butler:
        initializer = Initializer(
            butler=butler,
            instrument=settings.rubin_instrument,
            deployment_id=deployment_id_of(settings, library),
            register_dataset_types=settings.register_dataset_types,
            lock=sqlite_lock(settings.central_repo),
        )
        return retry_connections(
            lambda: initializer.run(
                preprocessing=[by_path[p] for p in settings.preprocessing_pipelines_config.pipelines],
                main=[by_path[p] for p in settings.main_pipelines_config.pipelines],
                dates=dates,
            ),
            delay=settings.repo_retry_delay,
        )


def nights_to_prepare() -> list[str]:
    """Return the TAI dates of tonight's output collections and tomorrow's: a
    night may run past the change of date.
    """
    today = output_date(tai_from_unix(time.time()))
    return [today, str(date.fromisoformat(today) + timedelta(days=1))]
