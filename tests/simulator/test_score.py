"""The score counts what the contract says it counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import fastavro
import numpy as np
import pytest

from config.instruments import InstrumentConfig
from models.visits import SummitVisit
from simulator.camera import Injected
from simulator.plan import Plan, PlannedVisit
from simulator.score import FoundAlert, read_alerts, score, score_alerts

ARCSEC = 1 / 3600


@dataclass
class TrueFrame:
    """A frame of which only the truth matters."""

    detector: int
    exposure_id: int
    injected: Injected | None
    snap: int = 0
    key: str = ""

    def read(self) -> bytes:
        raise AssertionError("the score must not need pixels")


def truth(*sources: tuple[float, float, float, float]) -> Injected:
    """Make truth of (ra, dec, flux, snr)."""
    table = np.array(sources, float).reshape(-1, 4)
    return Injected(
        np.arange(len(table)), table[:, 0], table[:, 1], table[:, 0], table[:, 1], table[:, 2], table[:, 3]
    )


def make_plan(
    camera: InstrumentConfig,
    *frames: TrueFrame,
    variables: tuple[list[float], list[float]] | None = ([], []),
) -> Plan:
    visit = SummitVisit.model_construct(groupId="g", filters="r_01")
    return Plan(
        instrument=camera,
        visits=(PlannedVisit(visit=visit, detectors=(0,), frames=frames),),
        seed_writer=lambda *_: None,
        variables=None if variables is None else (np.array(variables[0]), np.array(variables[1])),
    )


def alert(ra: float, dec: float, flux: float = 100.0, detector: int = 0, visit: int = 1) -> FoundAlert:
    return FoundAlert(visit=visit, detector=detector, ra=ra, dec=dec, flux=flux)


def test_a_perfect_night(camera: InstrumentConfig) -> None:
    frame = TrueFrame(0, 1, truth((10, 0, 100, 20), (10.01, 0, 200, 15)))
    result = score_alerts(make_plan(camera, frame), [alert(10, 0), alert(10.01, 0, 200)])
    assert (result.completeness, result.false_alerts_per_detector) == (1.0, 0.0)
    assert (result.position_error_px, result.flux_ratio) == (0.0, 1.0)
    assert (result.injected, result.found, result.false, result.alerts) == (2, 2, 0, 2)


def test_position_and_flux_are_medians_in_pixels_and_ratios(camera: InstrumentConfig) -> None:
    frame = TrueFrame(0, 1, truth((10, 0, 100, 20), (10.01, 0, 200, 15), (10.02, 0, 300, 15)))
    alerts = [alert(10, 0.4 * ARCSEC, 90), alert(10.01, 0.2 * ARCSEC, 200), alert(10.02, 0.8 * ARCSEC, 330)]
    result = score_alerts(make_plan(camera, frame), alerts)
    assert result.position_error_px == pytest.approx(1.0)
    assert result.flux_ratio == pytest.approx(1.0)


def test_faint_transients_are_neither_missed_nor_false(camera: InstrumentConfig) -> None:
    frame = TrueFrame(0, 1, truth((10, 0, 100, 9.99), (10.01, 0, 100, 10.0), (10.02, 0, 100, 8)))
    result = score_alerts(make_plan(camera, frame), [alert(10, 0)])
    assert (result.injected, result.found, result.false) == (1, 0, 0)
    assert result.completeness == 0.0


def test_the_match_radius_is_one_arcsecond(camera: InstrumentConfig) -> None:
    frame = TrueFrame(0, 1, truth((10, 0, 100, 20)))
    near = score_alerts(make_plan(camera, frame), [alert(10, 0.99 * ARCSEC)])
    far = score_alerts(make_plan(camera, frame), [alert(10, 1.01 * ARCSEC)])
    assert (near.found, near.false) == (1, 0)
    assert (far.found, far.false) == (0, 1)


def test_variables_count_neither_way(camera: InstrumentConfig) -> None:
    frame = TrueFrame(0, 1, truth((10, 0, 100, 20)))
    plan = make_plan(camera, frame, variables=([11.0], [0.0]))
    result = score_alerts(plan, [alert(11, 0.5 * ARCSEC), alert(11, 0.6 * ARCSEC), alert(11, 2 * ARCSEC)])
    assert (result.found, result.false, result.alerts) == (0, 1, 3)


def test_a_second_alert_of_a_transient_is_false_and_the_nearest_counts(camera: InstrumentConfig) -> None:
    frame = TrueFrame(0, 1, truth((10, 0, 100, 20)))
    result = score_alerts(
        make_plan(camera, frame), [alert(10, 0.8 * ARCSEC, 50), alert(10, 0.1 * ARCSEC, 100)]
    )
    assert (result.found, result.false, result.flux_ratio) == (1, 1, 1.0)


def test_alerts_of_another_detector_or_visit_do_not_help(camera: InstrumentConfig) -> None:
    frames = (TrueFrame(0, 1, truth((10, 0, 100, 20))), TrueFrame(1, 1, truth()))
    alerts = [alert(10, 0, detector=1), alert(10, 0, visit=99)]
    result = score_alerts(make_plan(camera, *frames), alerts)
    assert (result.found, result.false) == (0, 2)
    assert result.false_alerts_per_detector == 1.0


def test_without_transients_there_is_no_completeness(camera: InstrumentConfig) -> None:
    result = score_alerts(make_plan(camera, TrueFrame(0, 1, truth())), [alert(10, 0)])
    assert result.completeness is None
    assert result.position_error_px is None
    assert result.flux_ratio is None
    assert result.false_alerts_per_detector == 1.0


def test_without_truth_there_is_nothing_but_the_number(camera: InstrumentConfig) -> None:
    plan = make_plan(camera, TrueFrame(0, 1, None), variables=None)
    result = score_alerts(plan, [alert(10, 0)])
    assert result.model_dump(exclude_none=True) == {"alerts": 1}


def test_alerts_are_read_from_container_files(camera: InstrumentConfig, tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "alert",
        "fields": [
            {"name": "diaSourceId", "type": "long"},
            {
                "name": "diaSource",
                "type": {
                    "type": "record",
                    "name": "diaSource",
                    "fields": [
                        {"name": "visit", "type": "long"},
                        {"name": "detector", "type": "int"},
                        {"name": "ra", "type": "double"},
                        {"name": "dec", "type": "double"},
                        {"name": "psfFlux", "type": ["null", "float"]},
                    ],
                },
            },
        ],
    }
    source = {"visit": 1, "detector": 0, "ra": 10.0, "dec": 0.0, "psfFlux": 90.0}
    for name, sources in (("a", [source]), ("b", [{**source, "ra": 11.0, "psfFlux": None}]), ("empty", [])):
        with (tmp_path / f"{name}.avro").open("wb") as stream:
            fastavro.writer(stream, schema, [{"diaSourceId": 1, "diaSource": s} for s in sources])
    files = sorted(tmp_path.iterdir())
    assert len(read_alerts(files)) == 2
    frame = TrueFrame(0, 1, truth((10, 0, 100, 20), (11, 0, 100, 20)))
    result = score(make_plan(camera, frame), files)
    assert (result.found, result.false, result.flux_ratio) == (2, 0, pytest.approx(0.9))
