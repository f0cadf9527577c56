"""Runs and their files, as the data agent keeps them."""

from __future__ import annotations

__all__ = ["Changes", "DataFile", "DataRun", "FileState", "FoundFile"]

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.streaming.messages import StfReady


class FileState(StrEnum):
    """How far a file has come."""

    ANNOUNCED = "announced"
    """It is said to be there, or was found."""
    CATALOGUED = "catalogued"
    """It is in the catalogue's dataset."""
    REGISTERED = "registered"
    """The monitor knows it too: done."""
    MISSING = "missing"
    """It was announced and never appeared, or never as announced."""
    FAILED = "failed"
    """The catalogue or the monitor refuses it."""
    LATE = "late"
    """It came when its dataset was closed."""


@dataclass(frozen=True)
class DataRun:
    """A run.

    Attributes
    ----------
    run_id : `str`
        Digits.
    scope, dataset : `str`
        The dataset's DID.
    execution_id : `str` or `None`
        The execution that it belongs to, as far as it is known.
    container : `str` or `None`
        The directory in which the dataset's folder is; None: not told.
    announced : `bool`
        Whether its run_imminent came.
    run_conditions : `dict`
        As run_imminent has them.
    first_seen, last_sign : `datetime.datetime`
        When the first and the last message came, or file was found.
    ended : `datetime.datetime` or `None`
        When its end became known.
    end_assumed : `bool`
        Whether end_run never came.
    total : `int` or `None`
        Number of files that end_run told.
    dataset_created, run_opened : `bool`
        Whether the catalogue has the dataset, and the monitor the run.
    ready : `bool`
        Whether stf_ready is sent, or stored to be sent.
    ready_heard : `bool`
        Whether it came back from the bus.
    closed : `datetime.datetime` or `None`
        When the dataset was closed.
    finished : `datetime.datetime` or `None`
        When all was done, the monitor told.
    complete : `bool` or `None`
        Whether the closed dataset has all files of the run.
    note : `str` or `None`
        What went wrong, for people.
    """

    run_id: str
    scope: str
    dataset: str
    first_seen: datetime
    last_sign: datetime
    execution_id: str | None = None
    container: str | None = None
    announced: bool = False
    run_conditions: Mapping[str, Any] = field(default_factory=dict)
    ended: datetime | None = None
    end_assumed: bool = False
    total: int | None = None
    dataset_created: bool = False
    run_opened: bool = False
    ready: bool = False
    ready_heard: bool = False
    closed: datetime | None = None
    finished: datetime | None = None
    complete: bool | None = None
    note: str | None = None

    def noting(self, said: str) -> DataRun:
        """Return the run with something more in its note."""
        return replace(self, note=f"{self.note}; {said}" if self.note else said)


@dataclass(frozen=True)
class DataFile:
    """A file of a run.

    Attributes
    ----------
    sequence : `int` or `None`
        Of the file in its run.
    machine_state, substate : `str` or `None`
        Of the detector, as the message has them.
    expected_size, expected_checksum
        As the message has them.
    size_bytes, adler32
        As they are.
    guid : `str`
        A UUID, fixed at first sight.
    attempts : `int`
        How often it was looked for in vain.
    due : `datetime.datetime` or `None`
        When to look for it again; None: now.
    error : `str` or `None`
        What is wrong with it.
    """

    run_id: str
    filename: str
    guid: str
    state: FileState = FileState.ANNOUNCED
    sequence: int | None = None
    machine_state: str | None = None
    substate: str | None = None
    expected_size: int | None = None
    expected_checksum: str | None = None
    size_bytes: int | None = None
    adler32: str | None = None
    attempts: int = 0
    due: datetime | None = None
    error: str | None = None


@dataclass(frozen=True)
class Changes:
    """What is stored at once, or not at all.

    Attributes
    ----------
    runs : collection of `DataRun`
        New, or in place of what is there.
    new_files : collection of `DataFile`
        Those that are there already stay as they are.
    files : collection of `DataFile`
        In place of what is there, but for what was announced of them.
    corrected : collection of `DataFile`
        Waited for as announced anew; all else of them stays.
    send : collection of `models.streaming.messages.StfReady`
        Messages to send to the runs' topic.
    heard : collection of `str`
        Runs whose stf_ready was heard: one that waits to be sent is dropped.
    """

    runs: Collection[DataRun] = ()
    new_files: Collection[DataFile] = ()
    files: Collection[DataFile] = ()
    corrected: Collection[DataFile] = ()
    send: Collection[StfReady] = ()
    heard: Collection[str] = ()


@dataclass(frozen=True)
class FoundFile:
    """A file that is there.

    Attributes
    ----------
    path : `pathlib.Path`
    size_bytes : `int`
    adler32 : `str`
        Eight hexadecimal digits.
    """

    path: Path
    size_bytes: int
    adler32: str
