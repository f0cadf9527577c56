"""Wiring of the data agent."""

from __future__ import annotations

__all__ = ["DataOptions", "build_data_agent", "create_catalogue", "create_data_agent"]

from dataclasses import dataclass, replace
from pathlib import Path

from app.streaming.agent_parts import agent_key, connect_monitor, create_agent
from app.streaming.bus_factory import create_stomp_bus
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import load_testbed_config
from models.streaming.names import DEFAULT_SCOPE
from repos.streaming.data_store import DataStore
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from repos.streaming.stf_folders import StfFolders
from services.streaming.agent import Agent
from services.streaming.bus import Bus
from services.streaming.catalogue import Catalogue
from services.streaming.data_agent import AGENT_TYPE, DataAgent
from services.streaming.data_progress import DataLimits
from services.streaming.monitor import Monitor

#: Names its database, journal and subscription.
ROLE = "data"
#: Files that Rucio is given in one go, times how many it gets at once: each
#: takes several requests and the copy of its content.
_RUCIO_ROUNDS = 8
#: As agents in the field have it.
_CONTAINER = "/tmp"  # noqa: S108 (read only, and named by the field)
_RSE = "DAQ_DISK_3"


@dataclass(frozen=True)
class DataOptions:
    """What the data agent's command line says.

    Attributes
    ----------
    scope : `str`
        Rucio scope of datasets and files.
    container : `str` or `None`
        Directory of the folders of runs that do not say where theirs is.
    rse : `str`
        Rucio storage element that files are uploaded to.
    xrootd : `bool`
        Whether they are copied with XRootD and then registered, instead of
        uploaded by Rucio.
    """

    scope: str = DEFAULT_SCOPE
    container: str | None = None
    rse: str = _RSE
    xrootd: bool = False


def create_catalogue(settings: StreamingSettings, options: DataOptions = DataOptions()) -> Catalogue:
    """Return the catalogue that the settings name.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if its database cannot be used, or Rucio's configuration
        or what XRootD needs is not there.
    models.errors.TemporarilyUnavailable
        Raised if its database is away.
    """
    if settings.catalogue == "embedded":
        return EmbeddedCatalogue(
            create_streaming_engine(settings.catalogue_database_url, setting="PP_CATALOGUE_DATABASE")
        )
    # Rucio's clients take a second to import, and read their configuration.
    from repos.streaming.rucio_configuration import require_rucio_configuration

    require_rucio_configuration()
    from repos.streaming.rucio_catalogue import RucioCatalogue
    from repos.streaming.rucio_storage import RucioUpload, XrootdCopy

    kind = XrootdCopy if options.xrootd else RucioUpload
    storage = kind(rse=options.rse, door=settings.xrootd_door, folder=settings.xrootd_folder)
    return RucioCatalogue(storage, uploads=settings.rucio_uploads)


def create_data_agent(
    *,
    settings: StreamingSettings,
    namespace: str,
    bus: Bus,
    monitor: Monitor,
    catalogue: Catalogue,
    container: str | Path,
    scope: str = DEFAULT_SCOPE,
    limits: DataLimits | None = None,
) -> Agent:
    """Return a data agent, not started yet.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
        Name its database and the deadline of runs.
    namespace : `str`
    bus : `services.streaming.bus.Bus`
        Not started yet either.
    monitor : `services.streaming.monitor.Monitor`
    catalogue : `services.streaming.catalogue.Catalogue`
    container : path-like
        Directory of the folders of runs that do not say where theirs is.
    scope : `str`, optional
        Of datasets and files.
    limits : `services.streaming.data_progress.DataLimits`, optional

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if its database cannot be used.
    models.errors.TemporarilyUnavailable
        Raised if its database is away.
    """
    engine = create_streaming_engine(settings.agent_database_url("data-agent"))
    if limits is None:
        limits = DataLimits(deadline=settings.run_deadline, silence=settings.run_silence)

    def logic(name: str) -> DataAgent:
        return DataAgent(
            name=name,
            namespace=namespace,
            store=DataStore(engine, namespace=namespace, agent=agent_key(ROLE, namespace)),
            catalogue=catalogue,
            monitor=monitor,
            folders=StfFolders(),
            container=str(container),
            scope=scope,
            limits=limits,
        )

    return create_agent(
        engine=engine,
        role=ROLE,
        agent_type=AGENT_TYPE,
        namespace=namespace,
        bus=bus,
        monitor=monitor,
        logic=logic,
        keep=settings.agent_keep,
    )


def build_data_agent(settings: StreamingSettings, options: DataOptions) -> Agent:
    """Return the data agent of a process of its own: over the broker, with
    the monitor that the settings name.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a setting or the testbed's file is wrong.
    models.errors.TemporarilyUnavailable
        Raised if its database is away.
    """
    config = load_testbed_config(settings=settings)
    container = options.container or config.container or _CONTAINER
    limits = DataLimits(deadline=settings.run_deadline, silence=settings.run_silence)
    if settings.catalogue == "rucio":
        limits = replace(limits, batch=_RUCIO_ROUNDS * settings.rucio_uploads)
    return create_data_agent(
        settings=settings,
        namespace=config.namespace,
        bus=create_stomp_bus(settings, client_id=f"{ROLE}-agent-{config.namespace}"),
        monitor=connect_monitor(settings),
        catalogue=create_catalogue(settings, options),
        container=container,
        scope=options.scope,
        limits=limits,
    )
