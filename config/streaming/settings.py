"""Settings of the streaming workflow: its agents, its monitor and its testbed."""

from __future__ import annotations

__all__ = ["StreamingSettings", "load_streaming_settings"]

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from config.environment import OTHER_VARIABLES
from config.loading import Settings, load_settings, merge_variables, setting
from config.settings import ServiceSettings
from config.values import (
    AbsolutePath,
    LogLevels,
    OptionalPath,
    OptionalText,
    OptionalUrl,
    Seconds,
    Text,
    logging_levels,
    lower_case,
)

#: Section of the settings file.
_COMPONENT = "testbed"
#: Where a testbed in one process keeps what is its own.
_EMBEDDED = "embedded"


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("is no time zone of the IANA database")
    return value


def _destination(value: str) -> str:
    if not value.startswith(("/topic/", "/queue/")):
        raise ValueError("is no destination: it begins with neither /topic/ nor /queue/")
    return value


_Database = Annotated[
    Annotated[str, Field(pattern="^[a-z0-9+]+://")] | None, BeforeValidator(lambda v: v or None)
]
#: As part of a dataset's name; unset if empty.
_Nickname = Annotated[
    Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None, BeforeValidator(lambda v: v or None)
]


class StreamingSettings(Settings):
    """Settings of the streaming workflow."""

    activemq_host: Text = setting(
        "ACTIVEMQ_HOST",
        "localhost",
        purpose="host of the message broker; once it is set, testbed runs over it, else in one process",
        example="broker.example.org",
    )
    activemq_port: int = setting(
        "ACTIVEMQ_PORT", 61612, purpose="the broker's STOMP port", example="61612", ge=1, le=65535
    )
    activemq_user: str = setting("ACTIVEMQ_USER", "admin", purpose="user at the broker", example="agent")
    activemq_password: SecretStr = setting(
        "ACTIVEMQ_PASSWORD", SecretStr("admin"), purpose="that user's password", example="..."
    )
    activemq_use_ssl: bool = setting(
        "ACTIVEMQ_USE_SSL", False, purpose="whether the broker is reached by TLS", example="true"
    )
    activemq_ssl_ca_certs: OptionalPath = setting(
        "ACTIVEMQ_SSL_CA_CERTS",
        None,
        purpose="certificates of authorities that the broker's is checked against; the system's if unset",
        example="/etc/ssl/broker-ca.pem",
    )
    activemq_ssl_cert_file: OptionalPath = setting(
        "ACTIVEMQ_SSL_CERT_FILE",
        None,
        purpose="certificate that the broker is shown",
        example="/etc/ssl/agent.pem",
    )
    activemq_ssl_key_file: OptionalPath = setting(
        "ACTIVEMQ_SSL_KEY_FILE", None, purpose="that certificate's key", example="/etc/ssl/agent.key"
    )
    run_topic: Annotated[str, AfterValidator(_destination)] = setting(
        "ACTIVEMQ_HEARTBEAT_TOPIC",
        "/topic/epictopic",
        purpose="destination whose messages the monitor records",
        example="/topic/epictopic",
    )
    monitor_url: OptionalUrl = setting(
        "SWF_MONITOR_URL",
        "http://localhost:8002",
        purpose="the monitor",
        example="https://monitor.example.org/swf-monitor",
    )
    monitor_http_url: OptionalUrl = setting(
        "SWF_MONITOR_HTTP_URL",
        None,
        purpose="the monitor as it takes logs; SWF_MONITOR_URL if unset",
        example="http://monitor.example.org/swf-monitor",
    )
    api_token: SecretStr = setting(
        "SWF_API_TOKEN", SecretStr(""), purpose="token of those who write to the monitor", example="..."
    )
    testbed_config: OptionalText = setting(
        "SWF_TESTBED_CONFIG",
        None,
        purpose="the testbed's TOML file: a path, or the name of a file in workflows/",
        example="testbed.toml",
    )
    container: OptionalText = setting(
        "SWF_PROMPT_PROCESSING_CONTAINER",
        None,
        purpose="directory of the runs' folders where the workflow's file names none",
        example="/data/stf",
    )
    panda_poll_interval: Seconds | None = setting(
        "SWF_PANDA_POLL_INTERVAL",
        None,
        purpose="seconds between looks at a task; wins over panda_poll_interval_seconds of the workflow",
        example="60",
        gt=0,
    )
    panda_poll_timeout: Seconds | None = setting(
        "SWF_PANDA_POLL_TIMEOUT",
        None,
        purpose="seconds after which a task is given up, 0 for never; "
        "wins over panda_poll_timeout_seconds of the workflow",
        example="86400",
    )
    panda_nickname: _Nickname = setting(
        "PANDA_NICKNAME", None, purpose="name in output datasets; the user's if unset", example="alice"
    )
    testbed_directory: AbsolutePath = setting(
        "PP_TESTBED_DIRECTORY",
        default_factory=lambda: Path("testbed-out").absolute(),
        purpose="directory for what the testbed and its agents keep",
        example="/var/lib/testbed",
    )
    streaming_database: _Database = setting(
        "PP_STREAMING_DATABASE",
        None,
        purpose="database of agents that are processes of their own, as SQLAlchemy URL; "
        "SQLite in PP_TESTBED_DIRECTORY, one for each agent, if unset",
        example="postgresql://agents@db/streaming",
        repr=False,
    )
    agent_keep_days: int = setting(
        "PP_AGENT_KEEP_DAYS",
        90,
        purpose="days that agents keep messages which they set aside, 0 for ever",
        example="365",
        ge=0,
        le=36500,
    )
    monitor_database: _Database = setting(
        "PP_MONITOR_DATABASE",
        None,
        purpose="database of the monitor, as SQLAlchemy URL; SQLite in PP_TESTBED_DIRECTORY if unset",
        example="postgresql://monitor@db/monitor",
        repr=False,
    )
    monitor_timezone: Annotated[str, AfterValidator(_zone)] = setting(
        "PP_MONITOR_TIMEZONE",
        "UTC",
        purpose="time zone of times that come to the monitor without one",
        example="America/New_York",
    )
    monitor_keep_days: int = setting(
        "PP_MONITOR_KEEP_DAYS",
        90,
        purpose="days that the monitor keeps messages and logs, 0 for ever; all else stays",
        example="365",
        ge=0,
        le=36500,
    )
    catalogue: Annotated[Literal["embedded", "rucio"], BeforeValidator(lower_case)] = setting(
        "PP_CATALOGUE", "embedded", purpose="catalogue of datasets: embedded or rucio", example="rucio"
    )
    catalogue_database: _Database = setting(
        "PP_CATALOGUE_DATABASE",
        None,
        purpose="database of the embedded catalogue, as SQLAlchemy URL; "
        "SQLite in PP_TESTBED_DIRECTORY if unset",
        example="postgresql://catalogue@db/catalogue",
        repr=False,
    )
    executor: Annotated[Literal["local", "panda"], BeforeValidator(lower_case)] = setting(
        "PP_EXECUTOR",
        "local",
        purpose="what processes files: local (processes here) or panda",
        example="panda",
    )
    payload: Text = setting(
        "PP_PAYLOAD",
        "true",
        purpose="command that processes a file locally; the file's and the dataset's names "
        "are in its environment",
        example="./payload.sh",
    )
    payload_workers: int = setting(
        "PP_PAYLOAD_WORKERS",
        default_factory=lambda: os.cpu_count() or 1,
        purpose="payloads that run at once",
        example="4",
        ge=1,
        le=1024,
    )
    payload_attempts: int = setting(
        "PP_PAYLOAD_ATTEMPTS", 3, purpose="attempts that each file is given", example="3", ge=1, le=100
    )
    payload_keep_days: int = setting(
        "PP_PAYLOAD_KEEP_DAYS",
        90,
        purpose="days for which jobs of ended tasks, and what failed payloads left, are kept, 0 for ever; "
        "results stay",
        example="365",
        ge=0,
        le=36500,
    )
    payload_timeout: Seconds = setting(
        "PP_PAYLOAD_TIMEOUT",
        3600.0,
        purpose="seconds after which a payload is killed, 0 for never",
        example="600",
    )
    task_submissions: int = setting(
        "PP_TASK_SUBMISSIONS",
        20,
        purpose="tries to submit a run's task until it is given up, 0 for no limit",
        example="20",
        ge=0,
    )
    run_deadline: Seconds = setting(
        "PP_RUN_DEADLINE",
        60.0,
        purpose="seconds after end_run until a dataset is closed whose files are not all there",
        example="600",
    )
    run_silence: Seconds = setting(
        "PP_RUN_SILENCE",
        3600.0,
        purpose="seconds without a sign of life after which a run is over that no running execution has",
        example="7200",
    )
    xrootd_door: OptionalText = setting(
        "PP_XROOTD_DOOR",
        None,
        purpose="where the data agent has files put, with PP_XROOTD_FOLDER; "
        "Rucio decides on its own if unset, but -x needs both",
        example="root://door.example.org:1094/",
    )
    xrootd_folder: OptionalText = setting(
        "PP_XROOTD_FOLDER",
        None,
        purpose="directory behind PP_XROOTD_DOOR in which each dataset gets its own",
        example="/epic/disk/swf",
    )
    rucio_uploads: int = setting(
        "PP_RUCIO_UPLOADS",
        4,
        purpose="files of a run that are uploaded to Rucio at once",
        example="8",
        ge=1,
        le=64,
    )
    mcp_token: SecretStr = setting(
        "PP_MCP_TOKEN", SecretStr(""), purpose="bearer token of the MCP server's clients", example="..."
    )
    service_log_levels: LogLevels = setting(
        "SERVICE_LOG_LEVELS",
        default_factory=dict,
        purpose="levels of loggers, '.' for the root; the others keep theirs",
        example="'.=WARNING services=DEBUG'",
    )

    @classmethod
    def check_together(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the variables taken together."""
        return cls.explain_missing(values, {"ACTIVEMQ_SSL_KEY_FILE": ["ACTIVEMQ_SSL_CERT_FILE"]})

    @property
    def has_broker(self) -> bool:
        """Whether a broker was named, so that the testbed runs over it."""
        return "activemq_host" in self.model_fields_set

    @property
    def has_monitor(self) -> bool:
        """Whether a monitor was named."""
        return "monitor_url" in self.model_fields_set and self.monitor_url is not None

    @property
    def logs_url(self) -> str | None:
        """URL of the monitor as it takes logs."""
        return self.monitor_http_url or self.monitor_url

    @property
    def zone(self) -> ZoneInfo:
        """Time zone of times without one."""
        return ZoneInfo(self.monitor_timezone)

    @property
    def monitor_keep(self) -> timedelta | None:
        """How long the monitor keeps messages and logs; None for ever."""
        return timedelta(days=self.monitor_keep_days) if self.monitor_keep_days else None

    @property
    def agent_keep(self) -> timedelta | None:
        """How long agents keep messages which they set aside; None for ever."""
        return timedelta(days=self.agent_keep_days) if self.agent_keep_days else None

    @property
    def monitor_database_url(self) -> str:
        """Database of the monitor."""
        return self.monitor_database or self._sqlite("monitor")

    @property
    def catalogue_database_url(self) -> str:
        """Database of the embedded catalogue."""
        return self.catalogue_database or self._sqlite("catalogue")

    def agent_database_url(self, role: str) -> str:
        """Return the database of an agent.

        Parameters
        ----------
        role : `str`
            Such as ``data-agent``; names its file where each has its own.
        """
        return self.streaming_database or self._sqlite(role)

    @property
    def in_one_process(self) -> StreamingSettings:
        """The settings of a testbed in one process. It shares the monitor, and
        so numbers, with agents over a broker that have the same directory, and
        nothing else that is not asked for.
        """
        return self.model_copy(
            update={
                "testbed_directory": self.testbed_directory / _EMBEDDED,
                "monitor_database": self.monitor_database_url,
                # Of the agents that are processes of their own.
                "streaming_database": None,
            }
        )

    @property
    def log_levels(self) -> dict[str, int]:
        """Level by logger ("" is the root), the defaults included."""
        return logging_levels("INFO", {"agents": "INFO"}, self.service_log_levels)

    def _sqlite(self, name: str) -> str:
        return f"sqlite:///{self.testbed_directory}/{name}.db"


def load_streaming_settings(
    env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> StreamingSettings:
    """Read the settings of the streaming workflow from the environment and a file.

    Parameters
    ----------
    env : mapping, optional
        The environment; that of the process by default.
    file : path-like, optional
        The settings file, of which the section ``testbed`` holds for it; by
        default what ``PP_SETTINGS_FILE`` names.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if anything is wrong; the text has a line for each variable.
    """
    environment, from_file = merge_variables(_COMPONENT, env=env, file=file)
    known = {*OTHER_VARIABLES, *ServiceSettings.variables()}
    return load_settings(StreamingSettings, environment=environment, from_file=from_file, known=known)
