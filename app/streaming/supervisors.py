"""Which supervisord has the agents of a directory and namespace."""

from __future__ import annotations

__all__ = ["own_supervisor", "running_supervisor"]

from pathlib import Path

from app.streaming.supervisor import Supervisor
from app.streaming.supervisord_file import agents_place, find_supervisord_file, write_supervisord_file
from config.streaming.settings import StreamingSettings
from models.errors import TemporarilyUnavailable


def own_supervisor(settings: StreamingSettings, namespace: str) -> Supervisor:
    """Return the supervisord of a directory and namespace, which need not run.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if others have the directory.
    models.errors.InvalidConfiguration
        Raised if its file cannot be read or written.
    """
    file = find_supervisord_file()
    _check_not_by_hand(Supervisor(file), settings)
    place = agents_place(settings.testbed_directory, namespace)
    if settings.executor == "local":
        _check_alone(place, file.name)
    return Supervisor(write_supervisord_file(file, place))


def _check_alone(place: Path, name: str) -> None:
    """Check that no agents of another namespace have payloads in the same
    directory: one executor has that to itself.
    """
    for other in place.parent.glob(f"*/{name}"):
        if other.parent != place and (supervisor := Supervisor(other)).reachable and supervisor.alive():
            raise TemporarilyUnavailable(
                f"agents of another namespace run in {place.parent.parent} (supervisord of {other}); "
                "choose another place by --directory, or end them with `testbed stop --agents`"
            )


def _check_not_by_hand(supervisor: Supervisor, settings: StreamingSettings) -> None:
    """Check that nobody started the agents of a directory by hand."""
    if not supervisor.reachable:
        return
    there = _directory(supervisor) or supervisor.file.parent / "testbed-out"
    if there.resolve() != settings.testbed_directory.resolve():
        return
    if alive := supervisor.alive():
        raise TemporarilyUnavailable(
            f"{', '.join(alive)} run under supervisord already, started by hand; "
            f"use them with --use-running, end them with `supervisorctl -c {supervisor.file} shutdown`, "
            "or choose another place by --directory"
        )


def running_supervisor(settings: StreamingSettings, namespace: str) -> Supervisor:
    """Return the supervisord of a directory and namespace; if it does not run,
    the one that is started by hand.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if its file cannot be read.
    models.errors.TemporarilyUnavailable
        Raised if the one that is started by hand has another directory.
    """
    file = find_supervisord_file()
    own = agents_place(settings.testbed_directory, namespace) / file.name
    if own.exists() and (supervisor := Supervisor(own)).reachable:
        return supervisor
    supervisor = Supervisor(file)
    there = _directory(supervisor) if supervisor.reachable else None
    if there is not None and there.resolve() != settings.testbed_directory.resolve():
        raise TemporarilyUnavailable(
            f"no agents run in {settings.testbed_directory}; those that were started by hand have {there}: "
            "name that by --directory or PP_TESTBED_DIRECTORY"
        )
    return supervisor


def _directory(supervisor: Supervisor) -> Path | None:
    """Return the directory of agents that were started by hand, as these see
    it, which work where the file is; None if their settings have it.
    """
    named = supervisor.variable("PP_TESTBED_DIRECTORY")
    return supervisor.file.parent / Path(named).expanduser() if named else None
