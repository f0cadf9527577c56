"""Sections and keys that a testbed's TOML files may have.

Every file is checked by itself, so that a fault is named with the file it is
in. All keys are optional here; what must be there in the end is checked after
the files have been merged.
"""

from __future__ import annotations

__all__ = ["AGENTS", "PARAMETER_KEYS", "AgentSection", "check_agents", "check_file", "check_parameters"]

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import InvalidConfiguration

_Seconds = Annotated[int | float, Field(ge=0, le=1e7, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=100_000_000)]


#: It stands in headers, names of files and lines for people.
_Namespace = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class _Section(BaseModel):
    # Strict: "3" is no number, and 1 is no truth.
    model_config = ConfigDict(extra="forbid", strict=True)


class _Testbed(_Section):
    namespace: _Namespace | None = None


class _Workflow(_Section):
    # Ids of executions begin with it, and stand in URLs.
    name: Annotated[str, Field(max_length=80, pattern=r"^[\w.-]+$")] | None = None
    version: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    description: str | None = None
    includes: list[str] | None = None
    config: Annotated[str, Field(min_length=1)] | None = None
    realtime: bool | None = None


class AgentSection(_Section):
    """An agent that takes part.

    Attributes
    ----------
    enabled : `bool`
    script : `str` or `None`
        What it is started by, for people.
    """

    enabled: bool = True
    script: str | None = None


class _StateMachine(_Section):
    no_beam_not_ready_delay: _Seconds | None = None
    beam_not_ready_delay: _Seconds | None = None
    beam_ready_delay: _Seconds | None = None
    beam_not_ready_end_delay: _Seconds | None = None
    broadcast_delay: _Seconds | None = None
    stf_interval: _Seconds | None = None
    stf_generation_time: _Seconds | None = None
    stf_count: _Count | None = None
    physics_period_duration: _Seconds | None = None
    physics_period_count: _Count | None = None
    standby_duration: _Seconds | None = None


class _Simulation(_StateMachine):
    realtime: bool | None = None
    duration: _Seconds | None = None


class _PromptProcessing(_Section):
    container: str | None = None
    panda_poll_interval_seconds: Annotated[int | float, Field(gt=0, allow_inf_nan=False)] | None = None
    panda_poll_timeout_seconds: _Seconds | None = None


class _Parameters(_Simulation, _PromptProcessing):
    """What may be given for one execution, whatever section it is of."""

    namespace: Annotated[_Namespace, Field(min_length=1)] | None = None


class _File(_Section):
    testbed: _Testbed | None = None
    workflow: _Workflow | None = None
    agents: dict[str, AgentSection] | None = None
    daq_state_machine: _StateMachine | None = None
    simulation: _Simulation | None = None
    prompt_processing: _PromptProcessing | None = None
    parameters: _Parameters | None = None


#: Section by key, of what may be given for one execution.
PARAMETER_KEYS: Mapping[str, str] = {
    "namespace": "testbed",
    **dict.fromkeys(_Simulation.model_fields, "simulation"),
    **dict.fromkeys(_PromptProcessing.model_fields, "prompt_processing"),
}
#: Agents that there are.
AGENTS = ("stf-data", "stf-processing")
_SECTIONS: Mapping[str, type[BaseModel]] = {
    "testbed": _Testbed,
    "workflow": _Workflow,
    "agents": AgentSection,
    "daq_state_machine": _StateMachine,
    "simulation": _Simulation,
    "prompt_processing": _PromptProcessing,
    "parameters": _Parameters,
}


def check_file(where: str, data: Mapping[str, Any]) -> None:
    """Check one file.

    Parameters
    ----------
    where : `str`
        The file, for people.
    data : mapping
        What it holds.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it has sections or keys that are not known, or values of
        another kind; the text has a line for each.
    """
    try:
        _File.model_validate(dict(data))
    except ValidationError as error:
        faults = "".join(f"\n  {where}: {_in_file(item)}" for item in error.errors(include_url=False))
        raise InvalidConfiguration(f"the testbed's configuration is wrong:{faults}") from error


def check_parameters(where: str, parameters: Mapping[str, Any]) -> None:
    """Check what is given for one execution.

    Parameters
    ----------
    where : `str`
        Who gives it, for people.
    parameters : mapping
        Values by key.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is no such key, or a value is of another kind.
    """
    try:
        _Parameters.model_validate(dict(parameters))
    except ValidationError as error:
        items = error.errors(include_url=False)
        faults = "".join(f"\n  {where}: {_of_key(i, str(i['loc'][0]), PARAMETER_KEYS)}" for i in items)
        raise InvalidConfiguration(f"parameters that are wrong:{faults}") from error


def check_agents(agents: Mapping[str, AgentSection], *, all_needed: bool) -> None:
    """Check that the agents that are to take part are there.

    Parameters
    ----------
    agents : mapping
        Sections by the agents' names.
    all_needed : `bool`
        Whether none may be left out.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if one is not known, or is left out though it may not.
    """
    for name, agent in agents.items():
        if agent.enabled and name not in AGENTS:
            raise InvalidConfiguration(
                f"[agents.{name}]: there is no program for it; known are {', '.join(AGENTS)}"
            )
        if all_needed and name in AGENTS and not agent.enabled:
            raise InvalidConfiguration(
                f"[agents.{name}] enabled: is false, but a run in one process needs {' and '.join(AGENTS)}; "
                "agents are left out over a broker only"
            )


def _in_file(item: Any) -> str:
    section, *rest = (str(part) for part in item["loc"])
    if section not in _SECTIONS:
        if section in PARAMETER_KEYS:
            return f"{section}: stands outside of any section; it belongs to [{PARAMETER_KEYS[section]}]"
        return f"[{section}]: there is no such section{_meant(section, _SECTIONS)}"
    if section == "agents" and rest:
        section = f"agents.{rest.pop(0)}"
    if not rest:
        return f"{section}: is {item['input']!r}, and not a section; it begins with a line [{section}]"
    known = _SECTIONS[section.partition(".")[0]].model_fields
    return f"[{section}] {_of_key(item, rest[0], known)}"


def _of_key(item: Any, key: str, known: Mapping[str, Any]) -> str:
    if item["type"] != "extra_forbidden":
        return f"{key}: {item['msg']}, not {item['input']!r}"
    if key not in known and key in PARAMETER_KEYS:
        return f"{key}: does not belong here but to [{PARAMETER_KEYS[key]}]"
    return f"{key}: there is no such key{_meant(key, known)}"


def _meant(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
