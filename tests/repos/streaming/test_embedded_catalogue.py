"""The embedded catalogue, on both databases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.datasets import CatalogueFile, DatasetId
from repos.streaming.catalogue_tables import CATALOGUE_DATASETS
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from tests.servers import unique_name

DATASET = DatasetId("group.daq", "swf.1.run")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> sa.Engine:
    if request.param == "sqlite":
        return create_streaming_engine(f"sqlite:///{tmp_path}/catalogue.db")
    server = request.getfixturevalue("postgresql")
    name = unique_name()
    server.create_database(name)
    return create_streaming_engine(server.url(name))


@pytest.fixture
def catalogue(engine: sa.Engine) -> EmbeddedCatalogue:
    catalogue = EmbeddedCatalogue(engine)
    catalogue.create_dataset(DATASET, lifetime=604800.0)
    return catalogue


def file(number: int) -> CatalogueFile:
    return CatalogueFile(
        name=f"swf.1.{number:06d}.stf",
        path=Path(f"/data/swf.1.run/swf.1.{number:06d}.stf"),
        size_bytes=250,
        adler32=f"{number:08x}",
        guid=str(uuid4()),
        metadata={"run_number": 1},
    )


def test_files_are_as_they_were_added_in_order(catalogue: EmbeddedCatalogue) -> None:
    files = [file(number) for number in (3, 1, 2)]
    catalogue.add_files(DATASET, files)
    catalogue.add_files(DATASET, [file(4)])
    assert catalogue.files(DATASET)[:3] == files
    assert [found.name for found in catalogue.files(DATASET, after=2)] == [file(2).name, file(4).name]


def test_what_is_asked_twice_has_one_effect(catalogue: EmbeddedCatalogue, engine: sa.Engine) -> None:
    files = [file(1), file(2)]
    catalogue.add_files(DATASET, files)
    catalogue.create_dataset(DATASET, lifetime=1.0)
    catalogue.add_files(DATASET, [*files, file(3), file(3)])
    assert len(catalogue.files(DATASET)) == 3
    catalogue.close_dataset(DATASET)
    with engine.connect() as connection:
        closed = connection.execute(sa.select(CATALOGUE_DATASETS.c.closed)).scalar_one()
    catalogue.close_dataset(DATASET)
    catalogue.create_dataset(DATASET, lifetime=1.0)
    with engine.connect() as connection:
        row = connection.execute(sa.select(CATALOGUE_DATASETS)).mappings().one()
    assert (row["closed"], row["open"]) == (closed, False)
    assert (row["expires"] - row["created"]).total_seconds() == 604800.0


def test_a_closed_dataset_takes_nothing_new(catalogue: EmbeddedCatalogue) -> None:
    catalogue.add_files(DATASET, [file(1)])
    catalogue.close_dataset(DATASET)
    assert catalogue.is_open(DATASET) is False
    catalogue.add_files(DATASET, [file(1)])
    with pytest.raises(InvalidMessage, match=r"000002.stf: the dataset group.daq:swf.1.run is closed"):
        catalogue.add_files(DATASET, [file(1), file(2)])
    assert len(catalogue.files(DATASET)) == 1


def test_a_file_of_the_same_name_must_be_the_same(catalogue: EmbeddedCatalogue) -> None:
    catalogue.add_files(DATASET, [file(2)])
    for other in (replace(file(2), size_bytes=1), replace(file(2), adler32="00000000")):
        with pytest.raises(InvalidMessage, match="000002"):
            catalogue.add_files(DATASET, [file(1), other, file(3)])
    assert [found.name for found in catalogue.files(DATASET)] == [file(2).name, file(1).name]
    with pytest.raises(InvalidMessage, match="000005"):
        catalogue.add_files(DATASET, [file(5), replace(file(5), size_bytes=1)])
    catalogue.create_dataset(DatasetId("group.daq", "other"), lifetime=1.0)
    with pytest.raises(InvalidMessage, match="another dataset"):
        catalogue.add_files(DatasetId("group.daq", "other"), [file(2)])


def test_datasets_that_are_not_there(catalogue: EmbeddedCatalogue) -> None:
    nothing = DatasetId("group.daq", "nothing")
    assert catalogue.is_open(nothing) is None
    assert catalogue.files(nothing) == []
    with pytest.raises(InvalidMessage, match="no dataset"):
        catalogue.add_files(nothing, [file(1)])
    with pytest.raises(InvalidMessage, match="no dataset"):
        catalogue.close_dataset(nothing)


def test_more_files_than_one_question_may_name(catalogue: EmbeddedCatalogue) -> None:
    files = [file(number) for number in range(2500)]
    catalogue.add_files(DATASET, files)
    catalogue.add_files(DATASET, files)
    assert len(catalogue.files(DATASET)) == 2500


def test_a_database_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_streaming_engine(f"sqlite:///{tmp_path}/catalogue.db")
    catalogue = EmbeddedCatalogue(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE catalogue_files")
    for ask in (lambda: catalogue.files(DATASET), lambda: catalogue.add_files(DATASET, [file(1)])):
        with pytest.raises(TemporarilyUnavailable):
            ask()
