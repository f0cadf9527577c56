"""Settings of the service: what it is called in the environment, and defaults.

The fan-out's and the writer's settings are classes of their own, made the
same way; see `config.loading` for how values are read.
"""

from __future__ import annotations

__all__ = [
    "LedgerSettings",
    "LocalRepoForm",
    "ServiceSettings",
    "load_ledger_settings",
    "load_service_settings",
    "load_visit_settings",
]

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, SecretStr

from config.broker_settings import BrokerSettings
from config.environment import OTHER_VARIABLES
from config.ledger_settings import LedgerSettings
from config.loading import given, load_settings, merge_variables, setting
from config.pipelines_config import PipelinesConfig, parse_pipelines_config, pipelines_by_stem
from config.values import (
    AbsolutePath,
    CacheLimits,
    CacheLimitsField,
    LogLevels,
    OptionalPath,
    OptionalText,
    Patterns,
    SearchPath,
    Seconds,
    Text,
    logging_levels,
    lower_case,
)
from models.errors import InvalidConfiguration

#: Where the project is installed; ``${PROMPT_PROCESSING_DIR}`` in paths.
PROJECT = Path(__file__).resolve().parents[1]

#: Variables that hold a pipelines configuration.
_PIPELINES = ("MAIN_PIPELINES_CONFIG", "PREPROCESSING_PIPELINES_CONFIG")


class LocalRepoForm(StrEnum):
    """Which form the local repo of a slot has."""

    AUTO = "auto"
    """In memory if the pipelines allow it."""
    MEMORY = "memory"
    FULL = "full"


def _parse_pipelines(value: Any) -> Any:
    if isinstance(value, PipelinesConfig):
        return value
    try:
        return parse_pipelines_config(value, env={"PROMPT_PROCESSING_DIR": str(PROJECT)})
    except InvalidConfiguration as error:
        raise ValueError(str(error)) from error


PipelinesField = Annotated[PipelinesConfig, BeforeValidator(_parse_pipelines)]
Platform = Annotated[Literal["knative", "keda"] | None, BeforeValidator(lower_case)]


class ServiceSettings(BrokerSettings, LedgerSettings):
    """Settings of the service, the initializer and the stream worker.

    Each field is named as its variable, in lower case and without ``PP_``;
    `config.loading.setting` says what it is for.
    """

    rubin_instrument: Text = setting(
        "RUBIN_INSTRUMENT", purpose="short name of the camera", example="DemoCam"
    )
    instrument_path: SearchPath = setting(
        "PP_INSTRUMENT_PATH",
        (),
        purpose="directories with instrument files, or such files, separated by colons",
        example="/etc/prompt-processing/instruments",
    )
    skymap: Text = setting("SKYMAP", purpose="name of the sky map of the templates", example="demo")
    central_repo: Text = setting(
        "CENTRAL_REPO", purpose="the central repository, as URI or label", example="/data/central"
    )
    read_central_repo: Text = setting(
        "READ_CENTRAL_REPO",
        default_factory=lambda data: data.get("central_repo"),
        purpose="a replica of the central repository to read from",
        example="label:replica",
    )
    config_apdb: Text = setting(
        "CONFIG_APDB", purpose="configuration of the APDB, as URI or label", example="/data/apdb/apdb.yaml"
    )
    main_pipelines_config: PipelinesField = setting(
        "MAIN_PIPELINES_CONFIG",
        purpose="which pipelines process which images: a YAML list, or the path of a YAML file",
        example="'- pipelines: [/pipelines/ApPipe.yaml]'",
    )
    preprocessing_pipelines_config: PipelinesField = setting(
        "PREPROCESSING_PIPELINES_CONFIG",
        purpose="which pipelines run before the image: a YAML list, or the path of a YAML file",
        example="'- pipelines: [/pipelines/Preprocessing.yaml]'",
    )

    local_repos: AbsolutePath = setting(
        "LOCAL_REPOS",
        Path("/tmp"),  # noqa: S108 (the field's default)
        purpose="directory for the slots' local repos",
        example="/scratch",
    )
    local_repo_config: OptionalText = setting(
        "LOCAL_REPO_CONFIG", None, purpose="Butler configuration of the local repos", example="butler.yaml"
    )
    local_repo_form: Annotated[LocalRepoForm, BeforeValidator(lower_case)] = setting(
        "PP_LOCAL_REPO_FORM",
        LocalRepoForm.AUTO,
        purpose="form of the local repos: auto, memory or full",
        example="auto",
    )
    local_repo_cache_size: CacheLimitsField = setting(
        "LOCAL_REPO_CACHE_SIZE",
        CacheLimits(),
        purpose="datasets of each type to keep between visits: a number, or YAML by dataset type",
        example="'{default: 3, refcat: 40}'",
    )
    index_max_age: Seconds = setting(
        "PP_INDEX_MAX_AGE", 60.0, purpose="seconds after which a slot looks for new inputs", example="60"
    )
    preload_padding: Seconds = setting(
        "PRELOAD_PADDING", 30.0, purpose="margin around a detector for preload, arcsec", example="30"
    )
    repo_retry_delay: Seconds = setting(
        "REPO_RETRY_DELAY", 30.0, purpose="seconds between two tries of a repository", example="30"
    )
    export_type_regexp: Patterns = setting(
        "EXPORT_TYPE_REGEXP",
        (".*",),
        purpose="dataset types to export: a YAML list of regular expressions that match fully",
        example="'- .*'",
    )
    debug_export_outputs: bool = setting(
        "DEBUG_EXPORT_OUTPUTS", True, purpose="whether outputs are exported at all", example="1"
    )
    deployment_id: OptionalText = setting(
        "PP_DEPLOYMENT_ID",
        None,
        purpose="deployment id to use instead of the computed one",
        example="night-12",
        pattern="^[A-Za-z0-9_-]+$",
    )

    host: Text = setting(
        "PP_HOST",
        "0.0.0.0",  # noqa: S104 (it runs in a container)
        purpose="address to listen on",
        example="127.0.0.1",
    )
    port: int = setting("PP_PORT", 8080, purpose="port of the service", example="8080", ge=0, le=65535)
    metrics_port: int = setting(
        "PP_METRICS_PORT", 8000, purpose="port of the metrics, 0 for none", example="8000", ge=0, le=65535
    )
    token: SecretStr = setting(
        "PP_TOKEN",
        SecretStr(""),
        purpose="token that requests must carry; empty for none",
        example="9c1f...",
    )
    queue_timeout: Seconds = setting(
        "PP_QUEUE_TIMEOUT", 30.0, purpose="seconds that a visit waits for a free slot", example="30"
    )
    message_expiration: float = setting(
        "MESSAGE_EXPIRATION",
        3600.0,
        purpose="seconds after which an announcement is stale",
        example="3600",
        gt=0,
        allow_inf_nan=False,
    )
    worker_count: int = setting("WORKER_COUNT", 1, purpose="number of slots", example="4", ge=1)
    worker_timeout: float = setting(
        "WORKER_TIMEOUT",
        900.0,
        purpose="seconds that a visit may take",
        example="900",
        gt=0,
        allow_inf_nan=False,
    )
    worker_grace_period: Seconds = setting(
        "WORKER_GRACE_PERIOD", 30.0, purpose="seconds that a slot has to stop", example="30"
    )
    worker_restart_freq: int = setting(
        "WORKER_RESTART_FREQ", 0, purpose="visits before a slot is renewed, 0 for never", example="100", ge=0
    )
    slot_memory_limit: int = setting(
        "PP_SLOT_MEMORY_LIMIT", 4096, purpose="memory limit of a slot, MiB, 0 for none", example="4096", ge=0
    )
    platform: Platform = setting("PLATFORM", None, purpose="what scales the workers", example="keda")

    image_bucket: OptionalText = setting(
        "IMAGE_BUCKET", None, purpose="bucket in which raw images arrive", example="raws"
    )
    image_directory: OptionalPath = setting(
        "PP_IMAGE_DIRECTORY", None, purpose="directory in which raw images arrive", example="/data/raws"
    )
    image_timeout: Seconds = setting(
        "IMAGE_TIMEOUT", 20.0, purpose="seconds beyond twice the duration to wait for images", example="20"
    )
    image_memory: Seconds = setting(
        "PP_IMAGE_MEMORY", 600.0, purpose="seconds for which arrivals are remembered", example="600"
    )
    image_polling: bool = setting(
        "PP_IMAGE_POLLING",
        False,
        purpose="look for images again and again, for file systems that report no changes (NFS)",
        example="1",
    )
    raw_microservice: OptionalText = setting(
        "RAW_MICROSERVICE", None, purpose="service that tells where raws are", example="https://raws/presence"
    )

    register_dataset_types: bool = setting(
        "REGISTER_DATASET_TYPES",
        default_factory=lambda data: (
            data.get("image_bucket") is None and not data.get("use_kafka_butler_writer")
        ),
        purpose="whether missing dataset types are registered in the central repository",
        example="1",
    )

    alert_directory: OptionalPath = setting(
        "PP_ALERT_DIRECTORY", None, purpose="directory for alerts in files", example="/data/alerts"
    )
    monitor_database: OptionalText = setting(
        "PP_MONITOR_DATABASE",
        None,
        purpose="database of the streaming workflow's monitor, as SQLAlchemy URL; if set, its pages "
        "are shown beside the visits",
        example="postgresql://monitor@db/monitor",
        repr=False,
    )
    service_log_levels: LogLevels = setting(
        "SERVICE_LOG_LEVELS",
        default_factory=dict,
        purpose="levels of loggers, '.' for the root; the others keep theirs",
        example="'.=WARNING lsst=INFO services=DEBUG'",
    )
    central_iers_cache: OptionalText = setting(
        "CENTRAL_IERS_CACHE",
        None,
        purpose="zip file of Earth-orientation data, imported at start",
        example="/data/iers.zip",
    )

    @property
    def embedded(self) -> bool:
        """Whether images come from a directory and outputs are registered directly."""
        return self.image_bucket is None and not self.use_kafka_butler_writer

    @property
    def log_levels(self) -> dict[str, int]:
        """Level by logger ("" is the root), the defaults included."""
        return logging_levels("DEBUG", {"lsst": "INFO"}, self.service_log_levels)

    @property
    def alert_files(self) -> Path | None:
        """Directory for alerts in files.

        By default it is one in `state_dir`, unless alerts go to Kafka.
        """
        if self.alert_directory is None and self.ap_kafka_server is None:
            return self.state_dir / "alerts"
        return self.alert_directory

    def exports(self, dataset_type: str) -> bool:
        """Whether datasets of this type are exported, by their name."""
        return any(re.fullmatch(pattern, dataset_type) for pattern in self.export_type_regexp)

    @classmethod
    def check_together(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the variables taken together."""
        there = given(values)
        faults = []
        if not there & {"IMAGE_BUCKET", "PP_IMAGE_DIRECTORY"}:
            faults.append(
                "IMAGE_BUCKET or PP_IMAGE_DIRECTORY: neither is set (where raw images arrive; "
                "for example PP_IMAGE_DIRECTORY=/data/raws)"
            )
        if {"IMAGE_BUCKET", "PP_IMAGE_DIRECTORY"} <= there:
            faults.append(
                "IMAGE_BUCKET and PP_IMAGE_DIRECTORY: both are set; set the one where images arrive"
            )
        return faults + super().check_together(values)


ServiceSettingsT = TypeVar("ServiceSettingsT", bound=ServiceSettings)


def load_service_settings(
    env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> ServiceSettings:
    """Read the settings of the service from the environment and a file.

    Parameters
    ----------
    env : mapping, optional
        The environment; that of the process by default.
    file : path-like, optional
        The settings file; by default what ``PP_SETTINGS_FILE`` names, if set.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if anything is missing or wrong; the text has a line for each
        fault, with what the variable is for and an example.
    """
    return load_visit_settings(ServiceSettings, env=env, file=file)


def load_visit_settings(
    cls: type[ServiceSettingsT], *, env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> ServiceSettingsT:
    """Read the settings of something that processes visits.

    Parameters
    ----------
    cls : `type`
        `ServiceSettings`, or a class that adds to them.
    env, file
        See `load_service_settings`.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if anything is missing or wrong.
    """
    environment, from_file = merge_variables("service", env=env, file=file)
    parsed: dict[str, Any] = dict(environment)
    faults = []
    # Paths may use any variable, so they are expanded here, where the whole
    # environment is known.
    usable = {"PROMPT_PROCESSING_DIR": str(PROJECT)}
    usable |= {name: str(value) for name, value in from_file.items() if isinstance(value, str | int)}
    usable |= environment
    for name in _PIPELINES:
        value = environment.get(name, from_file.get(name))
        if value is None:
            continue
        try:
            parsed[name] = parse_pipelines_config(value, env=usable, name=name)
        except InvalidConfiguration as error:
            faults.append(str(error))
            # The fault is known; what stands here is never seen.
            parsed[name] = PipelinesConfig.model_construct(entries=())
    configs = [parsed[name] for name in _PIPELINES if name in parsed]
    faults += [
        f"{' and '.join(_PIPELINES)}: two pipelines have one name: {' and '.join(paths)}"
        for paths in pipelines_by_stem(configs).values()
        if len(paths) > 1
    ]
    return load_settings(
        cls,
        environment=parsed,
        from_file=from_file,
        known=OTHER_VARIABLES,
        faults=faults,
    )


def load_ledger_settings(
    env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> LedgerSettings:
    """Read the settings that say where the ledger is, and no others.

    Parameters are those of `load_service_settings`.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if any of them is wrong.
    """
    environment, from_file = merge_variables("service", env=env, file=file)
    return load_settings(
        LedgerSettings,
        environment=environment,
        from_file=from_file,
        known=OTHER_VARIABLES.union(ServiceSettings.variables()),
    )
