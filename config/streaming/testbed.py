"""The testbed's configuration: TOML files and how they are merged.

The rule, from what counts least to what counts most; always key by key:

1. what the files in ``[workflow].includes`` say, of which the first that says
   something counts. They fill in what is missing and change nothing; their
   own ``[workflow]`` is not used. An include is looked for beside the file that
   names it, then among the packaged files, and may have includes itself.
2. the file that ``[workflow].config`` names (`prompt_processing.toml` lies over
   `prompt_processing_default.toml` in this way), with its includes;
3. the workflow's file itself;
4. the active testbed file: ``SWF_TESTBED_CONFIG``, else ``workflows/testbed.toml``
   if it is there. Its ``[workflow]`` is not used: which workflow runs is for
   whoever asks for it to say. Its namespace is used, by all programs alike;
5. ``[parameters]`` of 2. to 4.;
6. parameters of the command or options of the command line.

Among the sections, ``[simulation]`` wins over ``[daq_state_machine]``, and
``[workflow].realtime`` over ``[simulation].realtime``. A section, key or kind
of value that is not known is an error, in every file. Paths are taken from
the working directory in which a program starts.
"""

from __future__ import annotations

__all__ = ["PACKAGED", "TestbedConfig", "load_testbed_config", "packaged_workflows"]

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.streaming.sections import PARAMETER_KEYS, AgentSection, check_file, check_parameters
from config.streaming.settings import StreamingSettings
from models.errors import InvalidConfiguration

#: Directory of the files that come with the project.
PACKAGED = Path(__file__).resolve().parent / "workflows"
#: Directory, in the working directory, of the files of others.
_LOCAL = Path("workflows")
#: The testbed file where none is named.
_TESTBED_FILE = "testbed.toml"
#: A variable that was not replaced by its value.
_VARIABLE = re.compile(r"\$\{?(\w+)")

_Data = dict[str, Any]


@dataclass(frozen=True)
class TestbedConfig:
    """What holds for an execution of a workflow.

    Attributes
    ----------
    workflow, version, description : `str`
        The workflow.
    config : `str`
        By which a runner, wherever it works, finds the same file: the name
        of a packaged one, or an absolute path.
    namespace : `str`
        Whose messages these are.
    agents : `dict` [`str`, `AgentSection`]
        Who takes part.
    daq : `dict`
        Parameters of the simulated DAQ, fields of `models.streaming.daq.DaqParameters`.
    container : `pathlib.Path` or `None`
        Directory of the runs' folders, absolute; None if nobody names one.
    poll_interval, poll_timeout : `float` or `None`
        Seconds between looks at a task and until it is given up, 0 for never.
    parameters : `dict`
        What was given for this execution: ``[parameters]`` and options.
    values : `dict`
        All sections, merged; JSON.
    sources : `tuple` [`pathlib.Path`, ...]
        The files that were read.
    testbed_file : `pathlib.Path` or `None`
        The active testbed file, absolute.
    """

    workflow: str
    version: str
    description: str
    config: str
    namespace: str
    agents: Mapping[str, AgentSection] = field(default_factory=dict)
    daq: Mapping[str, Any] = field(default_factory=dict)
    container: Path | None = None
    poll_interval: float | None = None
    poll_timeout: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()
    testbed_file: Path | None = None


def load_testbed_config(
    asked: str = "prompt_processing",
    *,
    settings: StreamingSettings,
    workflow: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    directory: Path | None = None,
) -> TestbedConfig:
    """Read and merge the files, by the rule above.

    Parameters
    ----------
    asked : `str`
        Name of a workflow or path of its file: ``X`` stands for the path ``X``,
        else for ``X``, ``X.toml`` or ``X_default.toml`` in ``workflows/``, else for
        one of these among the packaged files.
    settings : `config.streaming.settings.StreamingSettings`
    workflow : `str`, optional
        Name of the workflow if it is known; by default what the file says.
    parameters : mapping, optional
        What is given for this execution; None is left out.
    directory : `pathlib.Path`, optional
        What relative paths are taken from; by default the working directory.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a file is missing or wrong, or there is no namespace.
    """
    reader = _Reader((directory or Path.cwd()).absolute())
    path = reader.find_workflow(asked)
    own = reader.read_workflow(path)
    testbed_file = reader.find_testbed(settings.testbed_config)
    active = reader.read(testbed_file) if testbed_file else {}
    active.pop("workflow", None)
    merged = _over(active, own)
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    check_parameters("parameters", given)
    given = {**merged.get("parameters", {}), **given}
    merged["parameters"] = given
    for key, value in given.items():
        merged.setdefault(PARAMETER_KEYS[key], {})[key] = value
    head: _Data = merged.setdefault("workflow", {})
    head["name"] = workflow or head.get("name") or path.stem.removesuffix("_default")
    processing: _Data = merged.get("prompt_processing", {})
    return TestbedConfig(
        workflow=head["name"],
        version=head.get("version", "1.0"),
        description=head.get("description", ""),
        config=path.stem if path.parent == PACKAGED else str(path),
        namespace=_namespace(merged, reader.sources),
        agents={name: AgentSection(**entry) for name, entry in merged.get("agents", {}).items()},
        daq=_daq_parameters(merged),
        container=_directory(processing.get("container") or settings.container, reader.directory),
        poll_interval=settings.panda_poll_interval or processing.get("panda_poll_interval_seconds"),
        poll_timeout=processing.get("panda_poll_timeout_seconds")
        if settings.panda_poll_timeout is None
        else settings.panda_poll_timeout,
        parameters=given,
        values=merged,
        sources=tuple(reader.sources),
        testbed_file=testbed_file,
    )


def packaged_workflows() -> list[str]:
    """Return the names of the workflows that come with the project."""
    return sorted(p.stem for p in PACKAGED.glob("*.toml") if "[workflow]" in p.read_text(encoding="utf-8"))


def _daq_parameters(merged: Mapping[str, Any]) -> _Data:
    simulation = merged.get("simulation", {})
    realtime = merged["workflow"].get("realtime", simulation.get("realtime", True))
    given = merged["parameters"].get("realtime", realtime)
    return {**merged.get("daq_state_machine", {}), **simulation, "realtime": given}


def _namespace(merged: Mapping[str, Any], sources: Sequence[Path]) -> str:
    namespace = merged.get("testbed", {}).get("namespace", "").strip()
    if not namespace:
        files = ", ".join(map(str, sources))
        raise InvalidConfiguration(
            f"[testbed] namespace: is missing or empty in all of {files}; "
            'give one there, for example namespace = "alice", or by --namespace'
        )
    return str(namespace)


def _directory(text: str | None, start: Path) -> Path | None:
    if not text:
        return None
    path = os.path.expandvars(text)
    if left := _VARIABLE.search(path):
        raise InvalidConfiguration(
            f"[prompt_processing] container, or SWF_PROMPT_PROCESSING_CONTAINER: {text!r}: "
            f"the environment has no variable {left[1]}"
        )
    return _from(start, path)


def _from(start: Path, text: str) -> Path:
    return Path(os.path.abspath(start / os.path.expanduser(text)))


def _over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> _Data:
    """Merge tables key by key; what `upper` says counts."""
    merged = {key: _over(value, {}) if isinstance(value, dict) else value for key, value in lower.items()}
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(value, dict):
            merged[key] = _over(value, below if isinstance(below, dict) else {})
        else:
            merged[key] = value
    return merged


class _Reader:
    """Finds, reads and checks files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.local = directory / _LOCAL
        self.sources: list[Path] = []

    def find_workflow(self, asked: str) -> Path:
        """Return the file of a workflow."""
        candidates = [_from(self.directory, asked)] if _is_path(asked) else []
        candidates += [self.local / name for name in _names(asked)]
        candidates += [PACKAGED / name for name in _names(asked)]
        found = _first(candidates)
        if found is None:
            there = sorted(
                {*packaged_workflows(), *(p.stem for p in self.local.glob("*.toml") if p.is_file())}
            )
            close = difflib.get_close_matches(asked, there, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(there)}"
            names = ", ".join(_names(asked))
            nor = f", nor {names} in {self.local} or among the packaged ones" if names else ""
            raise InvalidConfiguration(f"no workflow {asked!r}: there is no such file{nor}; {hint}")
        return found

    def find_testbed(self, named: str | None) -> Path | None:
        """Return the active testbed file; None if there is none."""
        if not named:
            return _first([self.local / _TESTBED_FILE])
        places = [_from(self.directory, named)]
        if "/" not in named:
            places = [self.local / named, *places, PACKAGED / named]
        found = _first(places)
        if found is None:
            tried = ", ".join(map(str, places))
            raise InvalidConfiguration(f"SWF_TESTBED_CONFIG: there is no file {named}; looked for {tried}")
        return found

    def read_workflow(self, path: Path, chain: tuple[Path, ...] = ()) -> _Data:
        """Return what a file says, with what lies beneath it and its includes."""
        if path in chain:
            names = " -> ".join(part.name for part in (*chain, path))
            raise InvalidConfiguration(f"{chain[0]}: files that name each other: {names}")
        chain = (*chain, path)
        data = self.read(path)
        head = dict(data.get("workflow", {}))
        includes, base = head.pop("includes", []), head.pop("config", None)
        if "workflow" in data:
            data["workflow"] = head
        if base is not None:
            data = _over(data, self.read_workflow(self._beside(path, base, "config"), chain))
        for include in includes:
            filling = self.read_workflow(self._beside(path, include, "includes"), chain)
            filling.pop("workflow", None)
            filling.pop("parameters", None)
            data = _over(data, filling)
        return data

    def _beside(self, path: Path, named: str, key: str) -> Path:
        names = (named,) if named.endswith(".toml") else (named, f"{named}.toml")
        places = [directory / name for directory in (path.parent, PACKAGED) for name in names]
        found = _first(places)
        if found is None:
            raise InvalidConfiguration(
                f"{path}: [workflow] {key}: there is no file {named} in {path.parent}, nor a packaged one"
            )
        return found

    def read(self, path: Path) -> _Data:
        """Return what a file says, checked."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InvalidConfiguration(f"{path}: cannot be read as TOML: {error}") from error
        check_file(str(path), data)
        if path not in self.sources:
            self.sources.append(path)
        return data


def _is_path(asked: str) -> bool:
    return "/" in asked or asked.endswith(".toml")


def _names(asked: str) -> tuple[str, ...]:
    if "/" in asked or not asked.strip("."):
        return ()
    return (asked,) if asked.endswith(".toml") else (f"{asked}.toml", f"{asked}_default.toml")


def _first(places: Sequence[Path]) -> Path | None:
    return next((Path(os.path.abspath(place)) for place in places if place.is_file()), None)
