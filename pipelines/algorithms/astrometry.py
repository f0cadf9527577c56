"""Fit of a WCS to a reference catalogue.

The pointing is known to some arcseconds and the rotation to a fraction of a
degree, so the pattern is found by a histogram of all offsets between bright
detections and bright reference objects, tried at several rotations. An affine
correction in pixel space is then fitted to the nearest pairs. It is folded
into CRPIX and the CD matrix, so any distortion that acts on intermediate
world coordinates (TPV) is kept.
"""

from __future__ import annotations

__all__ = ["AstrometricFit", "fit_astrometry", "shift_wcs_header"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS
from scipy.spatial import KDTree

from models.images import HeaderValue

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Detections and reference objects used to find the pattern.
_BRIGHT = 120
#: Rotations that are tried, degrees.
_ROTATIONS = np.array([0.0, -0.15, 0.15, -0.3, 0.3, -0.5, 0.5, -0.75, 0.75, -1.0, 1.0])
#: Side of a cell of the histogram of offsets, pixels.
_CELL = 2.0
#: Radii, in pixels, of the rounds in which pairs are matched and fitted.
_ROUNDS = (6.0, 3.0, 2.0, 1.5, 1.0)
#: Pairs needed for a shift alone, with a rotation and scale, for all six terms.
_FOR_SHIFT, _FOR_SIMILARITY, _FOR_AFFINE = 3, 6, 15


@dataclass
class AstrometricFit:
    """A WCS and the pairs it was fitted to.

    Attributes
    ----------
    header : `dict`
        FITS keywords of the fitted WCS.
    detections, references : `numpy.ndarray`
        Indices of the paired detections and reference objects.
    rms : `float`
        Of the pairs' residuals in one coordinate, pixels.
    shift : `float`
        How far the predicted WCS was off in the middle of the pairs, pixels.
    """

    header: dict[str, HeaderValue]
    detections: IntArray
    references: IntArray
    rms: float
    shift: float


def fit_astrometry(
    header: dict[str, HeaderValue],
    shape: tuple[int, int],
    detected: tuple[FloatArray, FloatArray],
    reference: tuple[FloatArray, FloatArray],
    *,
    reference_order: FloatArray,
    max_shift: float,
) -> AstrometricFit | None:
    """Fit the WCS.

    Parameters
    ----------
    header : `dict`
        FITS keywords of the predicted WCS.
    shape : `tuple` [`int`, `int`]
        Rows and columns of the image.
    detected : `tuple` [`numpy.ndarray`, `numpy.ndarray`]
        x and y of the detections, brightest first.
    reference : `tuple` [`numpy.ndarray`, `numpy.ndarray`]
        Right ascension and declination, degrees ICRS, at the date of the
        observation.
    reference_order : `numpy.ndarray`
        Brightness of the reference objects, in any unit.
    max_shift : `float`
        How far the prediction may be off, pixels.

    Returns
    -------
    fit : `AstrometricFit` or `None`
        None if no pattern was found.
    """
    wcs = WCS(fits.Header(header), fix=False)
    rx, ry = wcs.wcs_world2pix(*reference, 0)
    ny, nx = shape
    near = np.isfinite(rx) & np.isfinite(ry)
    near &= (rx > -max_shift) & (rx < nx + max_shift) & (ry > -max_shift) & (ry < ny + max_shift)
    candidates = np.flatnonzero(near)
    if len(candidates) < _FOR_SHIFT or len(detected[0]) < _FOR_SHIFT:
        return None
    predicted = np.column_stack([rx[candidates], ry[candidates]])
    found = np.column_stack(detected)
    order = np.argsort(-reference_order[candidates], kind="stable")
    centre = np.array([(nx - 1) / 2.0, (ny - 1) / 2.0])
    start = _find_pattern(found[:_BRIGHT], predicted[order[:_BRIGHT]], centre, max_shift)
    if start is None:
        return None
    matrix, offset = start
    pairs = _Pairs(np.empty(0, int), np.empty(0, int), np.nan)
    tree = KDTree(found)
    for radius in _ROUNDS:
        pairs = _match(predicted @ matrix.T + offset, found, tree, radius)
        if len(pairs.detections) < _FOR_SHIFT:
            return None
        matrix, offset = _fit(predicted[pairs.references], found[pairs.detections], centre)
    pairs = _match(predicted @ matrix.T + offset, found, tree, _ROUNDS[-1])
    if len(pairs.detections) < _FOR_SHIFT:
        return None
    middle = predicted[pairs.references].mean(axis=0)
    return AstrometricFit(
        header=shift_wcs_header(header, matrix, offset),
        detections=pairs.detections,
        references=candidates[pairs.references],
        rms=pairs.rms,
        shift=float(np.hypot(*(matrix @ middle + offset - middle))),
    )


def shift_wcs_header(
    header: dict[str, HeaderValue], matrix: FloatArray, offset: FloatArray
) -> dict[str, HeaderValue]:
    """Return a WCS for pixels that an affine map takes from the old ones.

    Parameters
    ----------
    header : `dict`
        FITS keywords of the old WCS.
    matrix, offset : `numpy.ndarray`, (2, 2) and (2,)
        New position = matrix @ old position + offset, zero-based.
    """
    wcs = WCS(fits.Header(header), fix=False)
    inverse = np.linalg.inv(matrix)
    cd = wcs.pixel_scale_matrix @ inverse
    crpix = matrix @ (wcs.wcs.crpix - 1.0) + offset + 1.0
    result = {
        k: v
        for k, v in header.items()
        if not k.startswith(("CD1_", "CD2_", "PC1_", "PC2_", "CDELT", "CRPIX"))
    }
    for i in range(2):
        result[f"CRPIX{i + 1}"] = float(crpix[i])
        for j in range(2):
            result[f"CD{i + 1}_{j + 1}"] = float(cd[i, j])
    return result


@dataclass
class _Pairs:
    detections: IntArray
    references: IntArray
    rms: float


def _rotation(degrees: float) -> FloatArray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _find_pattern(
    found: FloatArray, predicted: FloatArray, centre: FloatArray, max_shift: float
) -> tuple[FloatArray, FloatArray] | None:
    """Return matrix and offset of the rotation whose offsets pile up most."""
    bins = int(np.ceil(2 * max_shift / _CELL))
    best: tuple[float, FloatArray, FloatArray] | None = None
    for degrees in _ROTATIONS:
        matrix = _rotation(degrees)
        turned = (predicted - centre) @ matrix.T + centre
        delta = (found[:, None, :] - turned[None, :, :]).reshape(-1, 2)
        delta = delta[(np.abs(delta) < max_shift).all(axis=1)]
        if not len(delta):
            continue
        cells = np.floor((delta + max_shift) / _CELL).astype(int)
        counts = np.bincount(cells[:, 1] * bins + cells[:, 0], minlength=bins * bins).reshape(bins, bins)
        # A pile may lie across the border of cells: add up two by two.
        piles = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
        height = float(piles.max())
        if best is None or height > best[0]:
            row, column = np.unravel_index(int(piles.argmax()), piles.shape)
            shift = (np.array([column, row]) + 1.0) * _CELL - max_shift
            close = delta[(np.abs(delta - shift) < 1.5 * _CELL).all(axis=1)]
            best = height, matrix, centre - matrix @ centre + np.median(close, axis=0)
            chance = float(piles.mean())
            if height > 0.5 * min(len(found), len(predicted)):
                break  # beyond doubt; no rotation need be tried
    if best is None or best[0] < max(_FOR_SHIFT, chance + 4 * np.sqrt(chance)):
        return None
    return best[1], best[2]


def _match(moved: FloatArray, found: FloatArray, tree: KDTree, radius: float) -> _Pairs:
    """Pair each reference with the nearest detection, each detection once."""
    distance, nearest = tree.query(moved, distance_upper_bound=radius)
    references = np.flatnonzero(np.isfinite(distance))
    order = references[np.argsort(distance[references], kind="stable")]
    detections, first = np.unique(nearest[order], return_index=True)
    references = order[first]
    residual = moved[references] - found[detections]
    if len(references) >= _FOR_SIMILARITY:
        middle = np.median(residual, axis=0)
        size = np.hypot(*(residual - middle).T)
        # 3 sigma of a Rayleigh distribution from its median.
        keep = size < max(3.0 * float(np.median(size)) / 1.1774, 0.05)
        detections, references, residual = detections[keep], references[keep], residual[keep]
    rms = float(np.sqrt((residual**2).mean())) if len(residual) else float("nan")
    return _Pairs(detections, references, rms)


def _fit(source: FloatArray, target: FloatArray, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit target = matrix @ source + offset with as many terms as pairs allow."""
    count = len(source)
    u, v = source - centre, target - centre
    if count < _FOR_SIMILARITY:
        return np.eye(2), (v - u).mean(axis=0)
    if count < _FOR_AFFINE:
        mean_u, mean_v = u.mean(axis=0), v.mean(axis=0)
        a, b = u - mean_u, v - mean_v
        norm = (a**2).sum()
        p = (a * b).sum() / norm
        q = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / norm
        matrix = np.array([[p, -q], [q, p]])
        shift = mean_v - matrix @ mean_u
    else:
        design = np.column_stack([u, np.ones(count)])
        solution = np.linalg.lstsq(design, v, rcond=None)[0]
        matrix, shift = solution[:2].T, solution[2]
    return matrix, centre + shift - matrix @ centre
