"""Lists of batches: whole, named as readers expect, wherever they go."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from lsst.resources import ResourcePath

from models.errors import TemporarilyUnavailable
from models.events import BatchFile
from repos.writer_batches import BatchFiles
from simulator.servers.s3 import S3Server
from tests.servers import unique_name

ID = UUID("e47db0a0-2e89-47af-886c-d2a98764a1a8")
BATCH = BatchFile(batch_id=ID, datasets=(UUID(int=1), UUID(int=2)))
NAME = f"2026-11-21T05-42-02-000047-{ID}.json"
CONTENT = {"batch_id": str(ID), "datasets": [str(UUID(int=1)), str(UUID(int=2))]}


def files(directory: str) -> BatchFiles:
    east = timezone(timedelta(hours=2))
    return BatchFiles(directory, now=lambda: datetime(2026, 11, 21, 7, 42, 2, 47, tzinfo=east))


def test_in_a_directory(tmp_path: Path) -> None:
    batches = files(str(tmp_path / "new" / "lists"))
    assert batches.write(BATCH) == NAME
    (written,) = (tmp_path / "new" / "lists").iterdir()
    assert written.name == NAME and json.loads(written.read_text()) == CONTENT
    batches.remove(NAME)
    assert not written.exists()
    # Whether it is there or not is no matter.
    batches.remove(NAME)


def test_the_time_is_now(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    name = BatchFiles(str(tmp_path)).write(BATCH)
    assert (
        before <= datetime.strptime(name[:19], "%Y-%m-%dT%H-%M-%S").replace(tzinfo=UTC) <= datetime.now(UTC)
    )


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TemporarilyUnavailable, match="file/lists"):
        files(str(tmp_path / "file" / "lists")).write(BATCH)


@pytest.mark.servers
def test_in_a_bucket(s3: S3Server) -> None:
    bucket = unique_name()
    batches = files(f"s3://{bucket}/lists")
    with pytest.raises(TemporarilyUnavailable, match=bucket):
        batches.write(BATCH)
    s3.create_bucket(bucket)
    assert batches.write(BATCH) == NAME
    uri = ResourcePath(f"s3://{bucket}/lists/{NAME}")
    assert json.loads(uri.read()) == CONTENT
    batches.remove(NAME)
    assert not uri.exists()
