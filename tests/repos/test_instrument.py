"""Butler instruments made from camera files."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsst.daf.butler import Butler
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.pipe.base import Instrument

import repos.instrument
from config.instruments import find_instrument_file, load_instrument
from models.errors import InvalidConfiguration
from repos.formatters import RawFormatter
from repos.instrument import class_name, instrument_class, register_instrument
from tests.repos.raw_files import make_camera

SHIPPED = ["DemoCam", "DecamStamps"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_butler_finds_the_class_by_its_name(tmp_path: Path, name: str) -> None:
    camera = load_instrument(find_instrument_file(name))
    Butler.makeRepo(str(tmp_path))
    with Butler.from_config(str(tmp_path), writeable=True) as butler:
        register_instrument(butler.registry, camera)
        found = Instrument.fromName(camera.name, butler.registry)
        assert found.getName() == camera.name
        assert issubclass(found.getRawFormatter({}), RawFormatter)
        detectors = butler.query_dimension_records("detector", instrument=camera.name)
        assert {d.id: d.full_name for d in detectors} == {d.id: d.name for d in camera.detectors}
        filters = butler.query_dimension_records("physical_filter", instrument=camera.name)
        assert {f.name: f.band for f in filters} == {f.name: f.band for f in camera.filters}
        # Safe to repeat.
        found.register(butler.registry)
        assert butler.query_dimension_records("detector", instrument=camera.name) == detectors


def test_a_changed_camera_must_be_asked_for(tmp_path: Path) -> None:
    Butler.makeRepo(str(tmp_path))
    filters = [{"name": "g_01", "band": "r"}]
    with Butler.from_config(str(tmp_path), writeable=True) as butler:
        register_instrument(butler.registry, make_camera())
        with pytest.raises(ConflictingDefinitionError, match="physical_filter"):
            register_instrument(butler.registry, make_camera(filters=filters))
        register_instrument(butler.registry, make_camera(filters=filters), update=True)
        (record,) = butler.query_dimension_records(
            "physical_filter", instrument="TestCam", physical_filter="g_01"
        )
        assert record.band == "r"


def test_class_names() -> None:
    assert class_name(make_camera()) == "repos.instrument.TestCam"
    assert instrument_class(make_camera()).getName() == "TestCam"
    with pytest.raises(InvalidConfiguration, match="too long"):
        class_name(make_camera(name="X" * 60))


def test_there_is_no_such_camera() -> None:
    with pytest.raises(AttributeError, match="NoSuchCam"):
        _ = repos.instrument.NoSuchCam
    with pytest.raises(AttributeError):
        _ = repos.instrument._private
