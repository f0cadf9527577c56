"""Names in the streaming workflow: runs, datasets, files, executions, agents.

They are those of the system in the field: a run's dataset is
``swf.<run>.run``, its files ``swf.<run>.<sequence>.stf``.
"""

from __future__ import annotations

__all__ = [
    "DAQ_TYPE",
    "DEFAULT_SCOPE",
    "agent_name",
    "dataset_name",
    "execution_id",
    "output_dataset_name",
    "parse_stf_filename",
    "stf_filename",
]

import re
from typing import NamedTuple

#: Type of the agent that takes data, at the monitor.
DAQ_TYPE = "DAQ_Simulator"
#: Rucio scope of datasets and files if none is configured.
DEFAULT_SCOPE = "group.daq"

_STF = re.compile(r"swf\.(?P<run>[0-9]+)\.(?P<sequence>[0-9]{6,})\.stf")


class StfName(NamedTuple):
    """What the name of an STF file says.

    Attributes
    ----------
    run_id : `str`
        Digits.
    sequence : `int`
        Of the file in its run, from 1.
    """

    run_id: str
    sequence: int


def dataset_name(run_id: str) -> str:
    """Return the name of a run's dataset."""
    return f"swf.{run_id}.run"


def output_dataset_name(run_id: str, nickname: str) -> str:
    """Return the name of the dataset of what a run's task makes."""
    return f"user.{nickname}.swf.{run_id}.processed"


def stf_filename(run_id: str, sequence: int) -> str:
    """Return the name of an STF file; sequences count from 1."""
    return f"swf.{run_id}.{sequence:06d}.stf"


def parse_stf_filename(name: str) -> StfName | None:
    """Return what a file's name says; None if it is no STF file's."""
    match = _STF.fullmatch(name)
    return StfName(match["run"], int(match["sequence"])) if match else None


def execution_id(workflow_name: str, user: str, sequence: int) -> str:
    """Return the id of an execution of a workflow."""
    return f"{workflow_name}-{user}-{sequence:04d}"


def agent_name(agent_type: str, user: str, number: int | str) -> str:
    """Return the name by which an agent signs what it sends."""
    return f"{agent_type.lower()}-agent-{user}-{number}"
