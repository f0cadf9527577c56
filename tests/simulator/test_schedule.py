"""Plans: the same seed gives the same night, whatever the date."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from config.instruments import InstrumentConfig
from models.geometry import angular_separation
from models.raws import RawForm, parse_raw_key
from models.times import day_obs, tai_from_unix
from models.visits import NextVisit
from repos.observation import ObservationReader, sky_angle
from simulator.plan import Plan
from simulator.schedule import plan_simulated
from tests.simulator.conftest import START


def plan(camera: InstrumentConfig, **changes: Any) -> Plan:
    options: dict[str, Any] = {"seed": 7, "visits": 2, "transients": 3, "start": START, **changes}
    return plan_simulated(instrument=camera, **options)


def pixels(content: bytes) -> np.ndarray:
    with fits.open(io.BytesIO(content)) as hdus:
        return np.asarray(hdus[1].data)


def test_the_same_seed_gives_the_same_bytes(camera: InstrumentConfig) -> None:
    first, again = plan(camera), plan(camera)
    for one, other in zip(first.frames, again.frames, strict=True):
        assert one.key == other.key
        assert one.read() == other.read()


def test_the_date_changes_ids_and_headers_but_no_pixel(camera: InstrumentConfig) -> None:
    first, later = next(plan(camera).frames), next(plan(camera, start=START + 86_400 * 3).frames)
    assert first.exposure_id != later.exposure_id
    assert first.key != later.key
    np.testing.assert_array_equal(pixels(first.read()), pixels(later.read()))


def test_another_seed_gives_another_night(camera: InstrumentConfig) -> None:
    first, other = plan(camera), plan(camera, seed=8)
    assert first.visits[0].visit.position != other.visits[0].visit.position
    assert not np.array_equal(pixels(next(first.frames).read()), pixels(next(other.frames).read()))


def test_fewer_detectors_leave_the_frames_of_the_others_alone(camera: InstrumentConfig) -> None:
    few, all_of_them = plan(camera, detectors=1, transients=0), plan(camera, transients=0)
    assert few.detectors == (0,)
    assert all_of_them.detectors == (0, 1, 2, 3)
    np.testing.assert_array_equal(pixels(next(few.frames).read()), pixels(next(all_of_them.frames).read()))


def test_announcements_are_valid_and_point_at_the_field(camera: InstrumentConfig) -> None:
    made = plan(camera, visits=3)
    positions = np.array([p.visit.position for p in made.visits])
    for planned in made.visits:
        message = planned.visit.model_dump(mode="json")
        assert NextVisit.parse(message).has_footprint
        planned.visit.check_usable()
        assert [v.detector for v in planned.fan_out()] == [0, 1, 2, 3]
    assert angular_separation(*positions[0], *positions[1:].T).max() * 3600 < 2 * 17 + 1
    assert len({p.visit.groupId for p in made.visits}) == 3
    # Nominally 20 s before the exposure.
    first = made.visits[0].visit
    assert first.startTime - first.private_sndStamp == pytest.approx(20.0)
    assert first.private_sndStamp == pytest.approx(tai_from_unix(START))


def test_keys_say_what_the_frames_are(camera: InstrumentConfig) -> None:
    made = plan(camera, snaps=2)
    for planned in made.visits:
        assert planned.snaps == (0, 1)
        assert planned.visit.nimages == 2
        for frame in planned.frames:
            key = parse_raw_key(frame.key)
            assert key.form is RawForm.GENERIC
            assert (
                key.instrument,
                key.detector,
                key.group,
                key.snap,
                key.exposure_id,
                key.physical_filter,
            ) == (
                "SmallCam",
                frame.detector,
                planned.visit.groupId,
                frame.snap,
                frame.exposure_id,
                "r_01",
            )
    assert len({frame.exposure_id for frame in made.frames}) == 4


def test_the_number_of_snaps_may_be_left_open(camera: InstrumentConfig) -> None:
    assert plan(camera, announce_snaps=False).visits[0].visit.nimages == 0


def test_headers_say_what_the_camera_file_promises(camera: InstrumentConfig, tmp_path: Any) -> None:
    made = plan(camera)
    planned = made.visits[1]
    frame = planned.frames[2]
    path = tmp_path / frame.key.rpartition("/")[2]
    path.write_bytes(frame.read())
    reader = ObservationReader(camera)
    info = reader.observation_info(
        reader.read_header(path),
        parse_raw_key(frame.key),
        group=planned.visit.groupId,
        detector=frame.detector,
        file_name=path.name,
    )
    assert info.exposure_id == info.visit_id == frame.exposure_id
    assert info.exposure_group == planned.visit.groupId
    assert info.detector_num == 2
    assert info.physical_filter == "r_01"
    assert info.exposure_time.to_value("s") == 30.0
    assert info.datetime_begin.unix_tai == pytest.approx(planned.visit.startTime, abs=1e-3)
    assert info.datetime_end.unix_tai == pytest.approx(planned.visit.startTime + 30, abs=1e-3)
    assert info.observing_day == day_obs(planned.visit.startTime)
    assert info.exposure_id == info.observing_day * 100_000 + info.observation_counter
    assert (info.tracking_radec.ra.deg, info.tracking_radec.dec.deg) == pytest.approx(planned.visit.position)
    assert sky_angle(info) == pytest.approx(planned.visit.cameraAngle)
    assert info.observation_type == "science"


def test_every_frame_has_its_transients(camera: InstrumentConfig) -> None:
    for frame in plan(camera, transients=4).frames:
        truth = frame.injected
        assert truth is not None
        assert 3 <= len(truth.snr) <= 8
        for coordinate in (truth.x, truth.y):
            assert coordinate.min() > 15
            assert coordinate.max() < 176
        assert (truth.flux > 0).all()


def test_no_transients_may_be_wanted(camera: InstrumentConfig) -> None:
    made = plan(camera, transients=0)
    assert made.has_truth
    assert all(len(frame.injected.snr) == 0 for frame in made.frames if frame.injected is not None)


def test_filters_are_used_in_turn(camera: InstrumentConfig) -> None:
    made = plan(camera, visits=3, filters=["g_01", "i_01"])
    assert [p.visit.filters for p in made.visits] == ["g_01", "i_01", "g_01"]
    assert made.filters == ("g_01", "i_01")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"visits": 0}, "0 visits"),
        ({"transients": -1}, "-1 transients"),
        ({"detectors": 5}, "has 4 detectors, not 5"),
        ({"detectors": [1, 9]}, r"not \[9\]"),
        ({"detectors": []}, "not none"),
        ({"filters": ["z_01"]}, "z_01"),
        ({"snaps": 0}, "0 snaps"),
    ],
)
def test_nonsense_is_refused(camera: InstrumentConfig, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(camera, **changes)


def test_a_camera_that_cannot_be_simulated_is_refused(camera: InstrumentConfig) -> None:
    with pytest.raises(ValueError, match="raw_form calibrated"):
        plan(camera.model_copy(update={"raw_form": "calibrated"}))
    content = camera.model_dump(mode="json", exclude_none=True)
    strange = InstrumentConfig.model_validate({**content, "filters": [{"name": "Ha", "band": "narrow"}]})
    with pytest.raises(ValueError, match="not in bands narrow"):
        plan(strange)
