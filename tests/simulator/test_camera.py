"""The camera: what goes in comes out, with the noise that is claimed."""

from __future__ import annotations

import numpy as np
import pytest

from config.instruments import Detector, InstrumentConfig
from models.geometry import pixel_to_sky
from simulator.camera import (
    EXPOSURE_TIME,
    Conditions,
    Readout,
    background_rate,
    expose,
    flux_error,
    throughput,
)
from simulator.profiles import PsfModel, draw_sources
from simulator.signature import DARK_CURRENT, Signature, make_signature
from simulator.sky import Galaxies, Sky, Stars
from simulator.transients import Transients, merge_transients

CONDITIONS = Conditions(ra=10.0, dec=-30.0, angle=20.0, psf=PsfModel(fwhm=3.0))
NOTHING = np.zeros(0)
DARKNESS = Sky(10.0, -30.0, 0.1, Stars(*[NOTHING] * 6), Galaxies(*[NOTHING] * 8))


def one_transient(
    camera: InstrumentConfig, detector: Detector, x: float, y: float, flux: float
) -> Transients:
    ra, dec = pixel_to_sky(camera, detector, 10.0, -30.0, 20.0, [x], [y])
    return Transients(ra, dec, np.array([flux]), np.zeros(1), np.zeros(1, bool))


def perfect(detector: Detector) -> Signature:
    shape = detector.shape
    return Signature(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.ones(shape, np.float32), ())


def take(
    camera: InstrumentConfig,
    detector: Detector,
    *,
    seed: int = 1,
    sky: Sky = DARKNESS,
    transients: Transients | None = None,
    signature: Signature | None = None,
    conditions: Conditions = CONDITIONS,
    exposure_time: float = EXPOSURE_TIME,
) -> Readout:
    return expose(
        camera,
        detector,
        sky=sky,
        transients=merge_transients([]) if transients is None else transients,
        signature=perfect(detector) if signature is None else signature,
        conditions=conditions,
        band="r",
        visit=0,
        exposure_time=exposure_time,
        rng=np.random.default_rng(seed),
    )


def assemble(raw: np.ndarray, detector: Detector) -> np.ndarray:
    """Return electrons above overscan."""
    image = np.zeros(detector.shape)
    for amplifier in detector.amplifiers:
        assert amplifier.raw_data is not None
        assert amplifier.raw_overscan is not None
        values = raw[amplifier.raw_data.slices].astype(float)
        image[amplifier.data.slices] = (values - raw[amplifier.raw_overscan.slices].mean()) * amplifier.gain
    return image


def test_the_blank_sky_has_its_level_and_its_noise(camera: InstrumentConfig) -> None:
    detector = camera.by_id[1]
    readout = take(camera, detector)
    assert readout.raw.dtype == np.uint16
    assert readout.raw.shape == detector.raw_shape
    image = assemble(readout.raw, detector)
    level = EXPOSURE_TIME * background_rate("r", camera.pixel_scale)
    assert np.median(image) == pytest.approx(level, rel=0.01)
    for amplifier in detector.amplifiers:
        part = image[amplifier.data.slices]
        rms = 1.4826 * np.median(np.abs(part - np.median(part)))
        # Digitisation adds gain^2 / 12.
        assert rms == pytest.approx(
            np.sqrt(level + amplifier.read_noise**2 + amplifier.gain**2 / 12), rel=0.03
        )


def test_the_overscan_has_the_read_noise_alone(camera: InstrumentConfig) -> None:
    detector = camera.by_id[2]
    raw = take(camera, detector).raw
    for amplifier in detector.amplifiers:
        assert amplifier.raw_overscan is not None
        overscan = raw[amplifier.raw_overscan.slices].astype(float)
        assert overscan.std() == pytest.approx(
            np.hypot(amplifier.read_noise / amplifier.gain, 12**-0.5), rel=0.05
        )


def test_the_calibrations_undo_the_signature(camera: InstrumentConfig) -> None:
    detector = camera.by_id[0]
    signature = make_signature(camera, detector, physical_filter="r_01", seed=3)
    stack = np.mean(
        [assemble(take(camera, detector, seed=n, signature=signature).raw, detector) for n in range(8)],
        axis=0,
    )
    gain = np.zeros(detector.shape)
    for amplifier in detector.amplifiers:
        gain[amplifier.data.slices] = amplifier.gain
    flattened = (stack - signature.bias * gain - signature.dark * EXPOSURE_TIME) / signature.flat
    good = ~signature.bad
    level = EXPOSURE_TIME * background_rate("r", camera.pixel_scale)
    assert np.median(flattened[good]) == pytest.approx(level, rel=0.005)
    scatter = 1.4826 * np.median(np.abs(flattened[good] - np.median(flattened[good])))
    assert scatter == pytest.approx(np.sqrt((level + 34) / 8), rel=0.06)
    # Without them it is not flat.
    raw_scatter = 1.4826 * np.median(np.abs(stack[good] - np.median(stack[good])))
    assert raw_scatter > 1.2 * scatter


def test_signatures_belong_to_sensor_filter_and_seed(camera: InstrumentConfig) -> None:
    def make(detector: int = 0, name: str = "r_01", seed: int = 1) -> Signature:
        return make_signature(camera, camera.by_id[detector], physical_filter=name, seed=seed)

    same, one = make(), make()
    np.testing.assert_array_equal(same.flat, one.flat)
    np.testing.assert_array_equal(same.bias, make(name="g_01").bias)
    assert not np.array_equal(same.flat, make(name="g_01").flat)
    assert same.defects != make(detector=1).defects
    assert same.defects != make(seed=2).defects
    assert same.flat.mean() == pytest.approx(1.0, abs=1e-4)
    assert np.median(same.dark[-40:, -40:]) == pytest.approx(DARK_CURRENT, rel=0.3)
    assert (same.flat[~same.bad] > 0.5).all()


def test_the_true_signal_to_noise_is_that_of_a_matched_filter(camera: InstrumentConfig) -> None:
    """Measure the same transient on 150 frames with the true profile."""
    detector = camera.by_id[0]
    flux = 20.0 * flux_error(camera, detector, "r", CONDITIONS, EXPOSURE_TIME)
    transients = one_transient(camera, detector, 60.3, 71.8, flux)
    profile = np.zeros(detector.shape, np.float32)
    draw_sources(
        profile,
        x=np.array([60.3]),
        y=np.array([71.8]),
        flux=np.ones(1),
        psf_shape=CONDITIONS.psf.shape_at([0], [0]),
        floor=1e-6,
    )
    box = (slice(56, 88), slice(45, 76))
    level = EXPOSURE_TIME * background_rate("r", camera.pixel_scale)
    weights = profile[box] / (profile[box] ** 2).sum()
    measured = []
    for seed in range(150):
        readout = take(camera, detector, seed=seed, transients=transients)
        image = assemble(readout.raw, detector)[box] - level
        # Cosmic rays are not part of the claim.
        if np.abs(image - profile[box] * flux * throughput("r", EXPOSURE_TIME)).max() < 250:
            measured.append((weights * image).sum() / throughput("r", EXPOSURE_TIME))
    snr = readout.injected.snr[0]
    assert 17 < snr < 20
    assert np.mean(measured) == pytest.approx(flux, rel=0.015)
    assert np.std(measured) == pytest.approx(flux / snr, rel=0.2)
    assert readout.injected.x[0] == pytest.approx(60.3)
    assert readout.injected.y[0] == pytest.approx(71.8)


def test_defects_and_edges_take_signal_away(camera: InstrumentConfig) -> None:
    detector = camera.by_id[0]
    transients = one_transient(camera, detector, 60.0, 70.0, 1e4)
    whole = take(camera, detector, transients=transients).injected.snr[0]
    sensor = perfect(detector)
    broken = Signature(sensor.bias, sensor.dark, sensor.flat, ((60, 0, 1, 192),))
    assert take(camera, detector, transients=transients, signature=broken).injected.snr[0] < 0.85 * whole
    at_edge = one_transient(camera, detector, 0.0, 70.0, 1e4)
    assert take(camera, detector, transients=at_edge).injected.snr[0] < 0.9 * whole
    outside = one_transient(camera, detector, -3.0, 70.0, 1e4)
    assert len(take(camera, detector, transients=outside).injected.snr) == 0


def test_clouds_dim_and_moonlight_blinds(camera: InstrumentConfig) -> None:
    detector = camera.by_id[0]
    transients = one_transient(camera, detector, 60.0, 70.0, 1e4)

    def snr(**changes: float) -> float:
        conditions = Conditions(**{**vars(CONDITIONS), **changes})
        return float(take(camera, detector, transients=transients, conditions=conditions).injected.snr[0])

    assert snr(transparency=0.5) < 0.6 * snr()
    assert snr(sky_factor=4.0) < 0.6 * snr()


def test_a_bright_star_saturates_and_bleeds(camera: InstrumentConfig) -> None:
    detector = camera.by_id[0]
    left = detector.amplifiers[0]
    flux = 1e7 / throughput("r", EXPOSURE_TIME)
    readout = take(camera, detector, transients=one_transient(camera, detector, 40.0, 96.0, flux))
    image = assemble(readout.raw, detector) / left.gain
    full = image[:, 40] >= left.saturation
    assert full.sum() > 20
    assert full[96]
    assert (image[:, 30] < left.saturation).all()
    assert image.max() < left.saturation * 1.03


def test_cameras_that_begin_after_isr_cannot_be_read_out(camera: InstrumentConfig) -> None:
    amplifier = camera.detectors[0].amplifiers[0].model_copy(update={"raw_data": None})
    detector = camera.detectors[0].model_copy(update={"amplifiers": (amplifier,)})
    with pytest.raises(ValueError, match="no raw_data"):
        take(camera, detector)
