"""The APDB, as the service asks it."""

from __future__ import annotations

from pathlib import Path

import astropy.time
import pandas as pd
import pytest
from lsst.dax.apdb import Apdb, ApdbTables

from init_job.new_repository import create_apdb
from models.errors import TemporarilyUnavailable
from repos.apdb import ApdbClient, check_apdb


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "apdb.yaml"
    create_apdb(f"sqlite:///{tmp_path / 'apdb.db'}", path)
    return str(path)


def store(config: str, visit: int, detector: int) -> None:
    """Store that a visit was processed, and found nothing."""
    apdb = Apdb.from_uri(config)
    objects = pd.DataFrame({c.name: [] for c in apdb.tableDef(ApdbTables.DiaObject).columns})
    sources = pd.DataFrame({c.name: [] for c in apdb.tableDef(ApdbTables.DiaSource).columns})
    row = {"diaSourceId": 1, "diaObjectId": 1, "visit": visit, "detector": detector, "ra": 1.0, "dec": 1.0}
    row |= {"midpointMjdTai": 61000.0, "timeProcessedMjdTai": 61000.0}
    for column in apdb.tableDef(ApdbTables.DiaSource).columns:
        if not column.nullable and column.name not in row:
            row[column.name] = 0
    sources = pd.DataFrame([row], columns=[c for c in sources.columns if c in row])
    apdb.store(astropy.time.Time.now(), objects, sources)


def test_before_and_after(config: str) -> None:
    client = ApdbClient(config)
    assert client.contains([11, 12], 3) is False
    store(config, 12, 3)
    assert client.contains([11, 12], 3) is True
    assert client.contains([11], 3) is False
    assert client.contains([12], 4) is False
    assert client.contains([], 3) is False


def test_there_is_no_apdb() -> None:
    assert ApdbClient("").contains([1], 1) is False
    assert check_apdb("") == []


def test_it_cannot_be_asked_now(config: str, tmp_path: Path) -> None:
    client = ApdbClient(config)
    database, away = tmp_path / "apdb.db", tmp_path / "away.db"
    database.rename(away)
    with pytest.raises(TemporarilyUnavailable, match=r"apdb\.yaml"):
        client.contains([1], 1)
    database.unlink(missing_ok=True)
    away.rename(database)
    assert client.contains([1], 1) is False


def test_faults(config: str, tmp_path: Path) -> None:
    assert check_apdb(config) == []
    (fault,) = check_apdb(str(tmp_path / "absent.yaml"))
    assert "absent.yaml" in fault
