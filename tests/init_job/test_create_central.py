"""A central repo from a directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.table import Table
from astropy.time import Time
from lsst.daf.butler import Butler, Timespan

from init_job.create_central import create_central
from models.errors import InvalidConfiguration
from repos.central import CentralRepo
from repos.footprint import CameraGeometry
from repos.index import CentralIndex
from repos.instrument import class_name
from tests.init_job.seed import SKY_MAP, write_image, write_seed
from tests.repos.raw_files import make_camera


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("seed") / "seed"
    write_seed(directory)
    return directory


@pytest.fixture(scope="module")
def made(seed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "central"
    create_central(str(root), seed)
    return root


@pytest.fixture
def own_seed(seed: Path, tmp_path: Path) -> Path:
    """A directory of the test's own, to spoil."""
    return Path(shutil.copytree(seed, tmp_path / "seed"))


def test_everything_is_there(made: Path) -> None:
    with Butler.from_config(str(made)) as butler:
        at = Timespan.fromInstant(Time("2026-01-01", scale="tai"))
        bias = butler.find_dataset(
            "bias", instrument="TestCam", detector=1, collections="TestCam/calib", timespan=at
        )
        assert bias is not None and butler.get(bias).image.mean() == 1.0
        flat = {"instrument": "TestCam", "detector": 0, "physical_filter": "r_01"}
        assert butler.find_dataset("flat", flat, collections="TestCam/defaults", timespan=at) is not None
        assert butler.get("defects", instrument="TestCam", detector=0, collections="TestCam/calib/run")["x0"]
        assert butler.get("camera", instrument="TestCam", collections="TestCam/calib/run").name == "TestCam"
        shards = butler.query_datasets("refcat", "refcats")
        assert sum(len(butler.get(ref)) for ref in shards) == 4
        assert len(shards) == 3
        assert butler.get("skyMap", skymap="tiny", collections="skymaps") == SKY_MAP
        templates = butler.query_datasets("template_coadd", "TestCam/templates")
        assert {(r.dataId["tract"], r.dataId["patch"]) for r in templates} == {
            (t.id, p) for t in SKY_MAP.tracts for p in t.patches
        }
        chain = butler.collections.get_info("TestCam/defaults").children
        assert chain == ("TestCam/calib", "TestCam/templates", "refcats", "skymaps", "TestCam/raw/all")
        (instrument,) = butler.query_dimension_records("instrument", instrument="TestCam")
        assert instrument.class_name.startswith("repos.instrument.")
        assert len(butler.query_dimension_records("detector", instrument="TestCam")) == 4


def test_regions_are_where_the_sky_map_says(made: Path) -> None:
    central = CentralRepo(uri=str(made))
    geometry = CameraGeometry(make_camera())
    template = central.dataset_type("template_coadd")
    assert template is not None
    index = CentralIndex(central.read_butler, max_age=1.0)
    for ra, tracts in ((10.0, {0}), (90.0, set())):
        region = geometry.visit_region(ra, -5.0, 0.0, 0.0)
        found = index.overlapping(template, "TestCam/templates", region, {"band": "g"})
        assert {ref.dataId["tract"] for ref in found} == tracts
    central.close()


def test_an_instrument_file_alone(seed: Path, tmp_path: Path) -> None:
    camera = create_central(str(tmp_path / "central"), seed / "instrument.yaml")
    assert class_name(camera) == "repos.instrument.TestCam"
    with Butler.from_config(str(tmp_path / "central")) as butler:
        assert len(butler.query_dimension_records("detector", instrument="TestCam")) == 4
        assert not butler.query_datasets("bias", "TestCam/calib/run", explain=False)
        assert butler.collections.get_info("TestCam/defaults").children


def test_progress_is_told(seed: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    create_central(str(tmp_path / "central"), seed, progress=lambda *step: told.append(step))
    assert [step for step in told if step[1] == step[2]] == [
        ("calibrations", 9, 9),
        ("reference catalogue", 3, 3),
        ("templates", 5, 5),
    ]


def test_there_is_one_already(made: Path, seed: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="already"):
        create_central(str(made), seed)
    with Butler.from_config(str(made)) as butler:
        assert butler.query_datasets("template_coadd", "TestCam/templates")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def without_column(path: Path) -> None:
    table = Table.read(path)
    table.remove_column(table.colnames[1])
    table.write(path, overwrite=True)


SPOILT: dict[str, Callable[[Path], None]] = {
    "instrument.yaml": lambda path: path.write_text("name: [") and None,
    "calibrations/bias/1.fits": cut,
    "calibrations/flat/0_g_01.fits": lambda path: path.write_bytes(b"not FITS") and None,
    "calibrations/defects/0.ecsv": without_column,
    "refcat.ecsv": without_column,
    "skymap.json": lambda path: path.write_text('{"name": "x"}') and None,
    "templates/g/0_1.fits": cut,
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_file_that_cannot_be_used_is_named(own_seed: Path, tmp_path: Path, name: str) -> None:
    whole = (own_seed / name).read_bytes()
    SPOILT[name](own_seed / name)
    root = tmp_path / "central"
    with pytest.raises(InvalidConfiguration) as caught:
        create_central(str(root), own_seed)
    assert str(own_seed / name) in str(caught.value)
    # Once it is put right, nothing is in the way.
    assert not root.exists()
    if name == "refcat.ecsv":
        (own_seed / name).write_bytes(whole)
        create_central(str(root), own_seed)


@pytest.mark.parametrize("name", ["0_99.fits", "7_0.fits", "a_b.fits", "0_1_2.fits"])
def test_a_template_that_is_no_patch(own_seed: Path, tmp_path: Path, name: str) -> None:
    write_image(own_seed / "templates" / "g" / name)
    with pytest.raises(InvalidConfiguration, match=name):
        create_central(str(tmp_path / "central"), own_seed)


def test_a_table_that_is_none(own_seed: Path, tmp_path: Path) -> None:
    (own_seed / "refcat.parquet").write_bytes(b"not parquet")
    with pytest.raises(InvalidConfiguration, match=r"refcat\.parquet"):
        create_central(str(tmp_path / "central"), own_seed)


def test_there_is_no_instrument_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"instrument\.yaml"):
        create_central(str(tmp_path / "central"), tmp_path)


def test_a_directory_that_was_there_is_not_removed(own_seed: Path, tmp_path: Path) -> None:
    root = tmp_path / "central"
    root.mkdir()
    (root / "notes.txt").write_text("mine")
    cut(own_seed / "templates/g/0_1.fits")
    with pytest.raises(InvalidConfiguration):
        create_central(str(root), own_seed)
    assert (root / "notes.txt").read_text() == "mine"
