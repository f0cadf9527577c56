"""Bars of the demo on real frames."""

from __future__ import annotations

__all__ = ["agreed_positions", "expected_rms", "real_frames"]

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lsst.daf.butler import Butler
from scipy import ndimage

from benchmarks.bar import Bar, at_least, at_most, say, skipped
from benchmarks.bar_demo import run_demo
from benchmarks.scene import PROJECT
from models.images import PromptImage

_DATA = PROJECT.parent / "shared" / "data" / "decam_two_epochs"
_VISITS = (1801, 1802, 1803, 1804, 1805)
_DETECTOR = 37
#: Lag up to which the template's noise is taken as correlated, pixels.
_REACH = 8
#: Pixels at the border of a frame that are not looked at.
_BORDER = 14
#: Arcsec within which sources of two visits are the same.
_RADIUS = 1.0
#: Visits that must agree on a source.
_AGREE = 3

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def real_frames(scratch: Path) -> Iterator[Bar]:
    """Five visits of one epoch against the stack of the other."""
    if not _DATA.is_dir():
        yield skipped("demo --data: visits processed", ">= 5", "decam_two_epochs is not here")
        return
    out = scratch / "real"
    figures = run_demo(out, "--data", str(_DATA))
    yield at_least("demo --data: visits processed", figures["processed"], 5, f"{figures['alerts']} alerts")
    ratios, sources = [], []
    with Butler.from_config(str(out / "central")) as butler:
        run = sorted(
            {r.run for r in butler.query_all_datasets("DecamStamps/prompt/*", find_first=False, limit=None)}
        )
        for visit in _VISITS:
            data_id = {"instrument": "DecamStamps", "visit": visit, "detector": _DETECTOR}

            def get(name: str, data_id: dict[str, object] = data_id) -> Any:
                return butler.get(name, data_id, collections=run)

            measured, expected = expected_rms(
                get("preliminary_visit_image"), get("template_detector"), get("difference_image")
            )
            say(f"visit {visit}: blank sky has rms {measured:.2f} nJy, expected {expected:.2f}")
            ratios.append(measured / expected)
            table = get("dia_source")
            sources.append(np.column_stack([table["ra"], table["dec"]]).astype(float))
    worst = max(abs(ratio - 1) for ratio in ratios)
    note = "measured over expected: " + ", ".join(f"{ratio:.3f}" for ratio in ratios)
    yield at_most("demo --data: rms of blank sky off its prediction", worst, 0.1, note)
    agreed = agreed_positions(sources)
    listed = "; ".join(f"{ra:.5f} {dec:+.5f} ({count} of 5)" for ra, dec, count in agreed)
    note = f"ra dec, DIA sources within {_RADIUS:g} arcsec: {listed}"
    yield Bar("demo --data: sources that visits agree on", len(agreed), "listed", bool(agreed), note)


def expected_rms(science: PromptImage, template: PromptImage, difference: PromptImage) -> tuple[float, float]:
    """Return the rms of a difference's blank sky, and what is expected of it.

    The formula is sqrt(sigma^2 + sum_ab K_a K_b A(a - b)) with the science
    image's sigma, the matching kernel K and the autocovariance A of the
    template's blank sky; nothing of the pipeline's own estimate is used.

    Parameters
    ----------
    science, template, difference : `models.images.PromptImage`
        On the same pixels; the template not yet matched.
    """
    assert difference.kernel is not None
    sky = _blank(science, template, difference)
    sigma = _clipped_std(science.image[sky])
    covariance = _autocovariance(template.image.astype(float), sky)
    ny, nx = science.shape
    variances = []
    for x in (0.25, 0.5, 0.75):
        for y in (0.25, 0.5, 0.75):
            kernel = difference.kernel.at(x * nx, y * ny).astype(float)
            own = ndimage.correlate(
                np.pad(kernel, _REACH), kernel, mode="constant", origin=(0, 0)
            )  # autocorrelation of the kernel, lag 0 in the middle
            middle = own.shape[0] // 2
            part = own[middle - _REACH : middle + _REACH + 1, middle - _REACH : middle + _REACH + 1]
            variances.append(float((part * covariance).sum()))
    return _clipped_std(difference.image[sky]), float(np.sqrt(sigma**2 + np.mean(variances)))


def agreed_positions(sources: Sequence[FloatArray]) -> list[tuple[float, float, int]]:
    """Return (ra, dec, visits) of what enough visits have in common.

    Parameters
    ----------
    sources : sequence of `numpy.ndarray`, (n, 2)
        Right ascension and declination of each visit's sources, degrees.
    """
    agreed: list[tuple[float, float, int]] = []
    for positions in sources:
        for ra, dec in positions:
            if any(_distance(ra, dec, np.array([[a, d]]))[0] < _RADIUS for a, d, _ in agreed):
                continue
            near = [p[_distance(ra, dec, p) < _RADIUS] for p in sources]
            count = sum(len(p) > 0 for p in near)
            if count >= _AGREE:
                mean = np.concatenate(near).mean(axis=0)
                agreed.append((float(mean[0]), float(mean[1]), count))
    return sorted(agreed)


def _distance(ra: float, dec: float, positions: FloatArray) -> FloatArray:
    """Return distances in arcsec; for small ones, far from the poles' points."""
    dx = (positions[:, 0] - ra) * np.cos(np.deg2rad(dec))
    return np.asarray(3600.0 * np.hypot(dx, positions[:, 1] - dec))


def _blank(science: PromptImage, template: PromptImage, difference: PromptImage) -> BoolArray:
    """Return where there is nothing but sky in either image."""
    assert difference.mask is not None
    bad = science.unusable() | template.unusable() | difference.unusable()
    blank = ~ndimage.binary_dilation(bad, iterations=2)
    for image in (science.image, template.image):
        smooth = ndimage.gaussian_filter(np.where(bad, 0.0, image), 1.5)
        scale = 1.4826 * np.median(np.abs(smooth[~bad] - np.median(smooth[~bad])))
        blank &= ~ndimage.binary_dilation(np.abs(smooth - np.median(smooth[~bad])) > 3 * scale, iterations=8)
    blank[:_BORDER] = blank[-_BORDER:] = False
    blank[:, :_BORDER] = blank[:, -_BORDER:] = False
    return np.asarray(blank)


def _clipped_std(values: npt.NDArray[np.float32]) -> float:
    """Return the rms about the mean without what is beyond 4.5 sigma."""
    kept = values.astype(float)
    for _ in range(5):
        centre, spread = np.median(kept), kept.std()
        kept = kept[np.abs(kept - centre) <= 4.5 * spread]
    return float(kept.std())


def _autocovariance(image: FloatArray, sky: BoolArray) -> FloatArray:
    """Return the autocovariance of blank sky by lag, lag 0 in the middle."""
    values = np.where(sky, image - image[sky].mean(), 0.0)
    size = 2 * _REACH + 1
    found = np.zeros((size, size))
    inner = slice(_REACH, -_REACH)
    for dy in range(-_REACH, _REACH + 1):
        for dx in range(-_REACH, _REACH + 1):
            both = sky[inner, inner] & np.roll(sky, (-dy, -dx), (0, 1))[inner, inner]
            product = values[inner, inner] * np.roll(values, (-dy, -dx), (0, 1))[inner, inner]
            found[dy + _REACH, dx + _REACH] = product[both].mean()
    return found
