"""Which components are configured, and what can be checked of each."""

from __future__ import annotations

__all__ = ["component_checks", "configured_components"]

from collections.abc import Callable
from pathlib import Path

from app.checks import Check, create_checks
from app.connection_checks import fan_out_checks, service_connection_checks, worker_checks, writer_checks
from app.streaming.agent_checks import agent_checks
from config.environment import apply_library_variables
from config.fan_out_settings import load_fan_out_settings
from config.loading import given, merge_variables
from config.settings import load_service_settings
from config.stream_settings import load_stream_settings
from config.streaming.settings import load_streaming_settings
from config.writer_settings import load_writer_settings
from models.errors import InvalidConfiguration

#: Whose section of the settings file holds for a component.
_SECTIONS = {
    "service": "service",
    "worker": "service",
    "fan-out": "fan-out",
    "writer": "writer",
    "agents": "testbed",
}
#: Variables that only this component has, and has to have.
_MARKS = {
    "worker": ("REDIS_STREAM_HOST", "REDIS_STREAM_NAME", "REDIS_STREAM_CONSUMER_GROUP"),
    "fan-out": ("NEXT_VISIT_TOPIC", "INSTRUMENT_CONFIG_FILE", "SUPPORTED_INSTRUMENTS"),
    "writer": ("BUTLER_REPOSITORY", "KAFKA_OUTPUT_TOPIC", "OUTPUT_DATASET_LIST_DIRECTORY"),
    "agents": ("ACTIVEMQ_HOST", "SWF_MONITOR_URL", "PP_TESTBED_DIRECTORY", "PP_STREAMING_DATABASE"),
}


def configured_components(file: Path | None) -> list[str]:
    """Return the service, and what else has settings.

    Parameters
    ----------
    file : `pathlib.Path` or `None`
        The settings file.
    """
    found = ["service"]
    for name, marks in _MARKS.items():
        try:
            environment, from_file = merge_variables(_SECTIONS[name], file=file)
        except InvalidConfiguration:
            break  # The service's own check says so.
        if (given(environment) | given(from_file)).intersection(marks):
            found.append(name)
    return found


def component_checks(name: str, file: Path | None, *, alone: bool = True) -> list[Check]:
    """Read a component's settings and return what can be checked.

    Parameters
    ----------
    name : `str`
        ``service``, ``worker``, ``fan-out``, ``writer`` or ``agents``.
    file : `pathlib.Path` or `None`
        The settings file.
    alone : `bool`, optional
        Whether no other component is checked; a worker is a service, too.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if settings are missing or wrong.
    """
    apply_library_variables(_SECTIONS[name], file=file)

    def service() -> list[Check]:
        settings = load_service_settings(file=file)
        return [*service_connection_checks(settings), *create_checks(settings)]

    def worker() -> list[Check]:
        settings = load_stream_settings(file=file)
        return [*worker_checks(settings), *(service() if alone else ())]

    makers: dict[str, Callable[[], list[Check]]] = {
        "service": service,
        "worker": worker,
        "fan-out": lambda: fan_out_checks(load_fan_out_settings(file=file)),
        "writer": lambda: writer_checks(load_writer_settings(file=file)),
        "agents": lambda: agent_checks(load_streaming_settings(file=file)),
    }
    return makers[name]()
