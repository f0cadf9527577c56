"""Matching kernel between two images of one patch of sky.

Alard & Lupton 1998 (ApJ 503, 325) with the spatial variation of Alard 2000
(A&AS 144, 363): a sum of Gaussians times polynomials, convolved with one image
to look like the other. It is fitted to stamps around stars only. The basis is
separable, so convolving a stamp is two small matrix products; each stamp's
normal matrix is computed once, so clipping and spatial terms cost nearly
nothing. The first basis function, which carries the photometric scale, does
not vary over the field.
"""

from __future__ import annotations

__all__ = ["KernelFit", "fit_kernel"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.images import SpatialKernel, field_terms

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

#: Half sides of the kernel and of the part of a stamp that is fitted, pixels.
_HALF, _FIT = 10, 12
#: Added to the diagonal of the normalised normal matrix: the basis is far from
#: orthogonal, and with few stars unbounded combinations fit noise.
_RIDGE = 1e-6
#: Error, as a part of the flux, of the best model a kernel can give: keeps
#: bright stars from deciding alone.
_MODEL_ERROR = 0.005


@dataclass
class KernelFit:
    """A matching kernel and how well it fits.

    Attributes
    ----------
    kernel : `models.images.SpatialKernel`
        Convolve the reference image with it.
    background : `numpy.ndarray`
        Coefficients of `models.images.field_terms` of degree
        `background_degree`: science minus convolved reference.
    background_degree : `int`
    scale : `float`
        Sum of the kernel: flux in the science image over flux in the other.
    stars : `int`
        Stamps that were used.
    chi2 : `float`
        Median reduced chi squared of their residuals.
    """

    kernel: SpatialKernel
    background: FloatArray
    background_degree: int
    scale: float
    stars: int
    chi2: float


def fit_kernel(
    science: Float32Array,
    reference: Float32Array,
    variance: Float32Array,
    bad: npt.NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    *,
    sigmas: tuple[float, ...] = (0.8, 1.6, 3.0),
    degree: int = 1,
    background_degree: int = 1,
    max_stars: int = 100,
) -> KernelFit | None:
    """Fit the kernel that takes the reference to the science image.

    Parameters
    ----------
    science, reference : `numpy.ndarray`
        Sky-subtracted images on one grid, 0 (or repaired) where bad.
    variance : `numpy.ndarray`
        Of their difference.
    bad : `numpy.ndarray`
        Pixels to leave out, of either image.
    x, y : `numpy.ndarray`
        Positions of stars, best first.
    sigmas : `tuple` [`float`, ...], optional
        Widths of the Gaussians, pixels.
    degree : `int`, optional
        Of the kernel's variation over the detector; few stars lower it.
    background_degree : `int`, optional
        Of the difference in sky.
    max_stars : `int`, optional
        Use no more than this.

    Returns
    -------
    fit : `KernelFit` or `None`
        None without a usable star.
    """
    ny, nx = science.shape
    reach = _HALF + _FIT
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (ix >= reach) & (ix < nx - reach) & (iy >= reach) & (iy < ny - reach)
    use = np.flatnonzero(inside)
    use = use[[not bad[iy[i] - 5 : iy[i] + 6, ix[i] - 5 : ix[i] + 6].any() for i in use]][:max_stars]
    if not len(use):
        return None
    ix, iy = ix[use], iy[use]
    degrees, degree, background_degree = _complexity(len(use), len(sigmas), degree, background_degree)
    basis = _Basis(sigmas, degrees)
    size = float(max(ny, nx))

    stamps = _Stamps(science, reference, variance, bad, ix, iy, basis)
    terms = np.column_stack(field_terms(ix, iy, size, degree))
    sky = np.column_stack(field_terms(ix, iy, size, background_degree))
    count, terms_count = len(basis), terms.shape[1]
    # Columns: the constant first basis function, the others times each field
    # term, the sky. `place` spreads a star's own coefficients over them.
    split = 1 + (count - 1) * terms_count
    place = np.zeros((len(ix), count + 1, split + sky.shape[1]))
    place[:, 0, 0] = 1
    for k in range(1, count):
        place[:, k, 1 + (k - 1) * terms_count : 1 + k * terms_count] = terms
    place[:, count, split:] = sky

    good = np.ones(len(ix), bool)
    for _ in range(4):
        solution = _solve(stamps, place, good)
        chi2 = stamps.chi2(place @ solution)
        middle = float(np.median(chi2[good]))
        spread = 1.4826 * float(np.median(np.abs(chi2[good] - middle)))
        kept = chi2 < middle + 3.5 * max(spread, 0.05)
        if (kept == good).all() or kept.sum() < min(5, good.sum()):
            break
        good = kept
    coefficients = np.zeros((count, terms_count))
    coefficients[0, 0] = solution[0]
    coefficients[1:] = solution[1:split].reshape(count - 1, terms_count)
    images = np.tensordot(coefficients.T, basis.images(), 1)
    return KernelFit(
        kernel=SpatialKernel(images.astype(np.float32), degree, size),
        background=solution[split:],
        background_degree=background_degree,
        scale=float(solution[0]),
        stars=int(good.sum()),
        chi2=float(np.median(chi2[good])),
    )


def _complexity(
    stars: int, widths: int, degree: int, background_degree: int
) -> tuple[tuple[int, ...], int, int]:
    """Choose polynomial degrees that this many stars can bear."""
    if stars < 4:
        return (2,) + (0,) * (widths - 1), 0, 0
    if stars < 10:
        return (3, 2) + (0,) * (widths - 2), 0, 0
    if stars < 25:
        return (4, 2) + (2,) * (widths - 2), min(degree, 1), min(background_degree, 1)
    if stars < 50:
        degree = min(degree, 1)
    return (4, 3) + (2,) * (widths - 2), degree, background_degree


class _Basis:
    """Separable basis functions; all but the first have sum 0."""

    def __init__(self, sigmas: tuple[float, ...], degrees: tuple[int, ...]) -> None:
        offsets = np.arange(-_HALF, _HALF + 1)
        self.along_x: list[FloatArray] = []
        self.along_y: list[FloatArray] = []
        for sigma, degree in zip(sigmas, degrees, strict=True):
            profile = np.exp(-0.5 * (offsets / sigma) ** 2)
            powers = [(offsets / max(sigma, 1.0)) ** p * profile for p in range(degree + 1)]
            for p in range(degree + 1):
                for q in range(degree + 1 - p):
                    self.along_x.append(powers[p])
                    self.along_y.append(powers[q])
        sums = np.array([a.sum() * b.sum() for a, b in zip(self.along_x, self.along_y, strict=True)])
        norms = np.array(
            [np.sqrt((a**2).sum() * (b**2).sum()) for a, b in zip(self.along_x, self.along_y, strict=True)]
        )
        self.scale = 1.0 / norms
        self.scale[0] = 1.0 / sums[0]
        #: How much of the first function to take off each other one.
        self.remove = sums * self.scale
        self.remove[0] = 0.0

    def __len__(self) -> int:
        return len(self.along_x)

    def images(self) -> FloatArray:
        """Return the functions as images, (n, side, side)."""
        result = np.array([np.outer(b, a) for a, b in zip(self.along_x, self.along_y, strict=True)])
        result *= self.scale[:, None, None]
        result -= self.remove[:, None, None] * result[0]
        return result


def _toeplitz(profile: FloatArray, length: int) -> Float32Array:
    """Return the matrix that convolves length + 2 * _HALF numbers."""
    matrix = np.zeros((length, length + 2 * _HALF), np.float32)
    for i in range(length):
        matrix[i, i : i + 2 * _HALF + 1] = profile[::-1]
    return matrix


class _Stamps:
    """Stars cut out, convolved with each basis function, and their normal
    matrices.
    """

    def __init__(
        self,
        science: Float32Array,
        reference: Float32Array,
        variance: Float32Array,
        bad: npt.NDArray[np.bool_],
        ix: npt.NDArray[np.int64],
        iy: npt.NDArray[np.int64],
        basis: _Basis,
    ) -> None:
        side = 2 * _FIT + 1
        stars = len(ix)

        def cut(image: npt.NDArray[Any], reach: int) -> npt.NDArray[Any]:
            return np.stack(
                [
                    image[j - reach : j + reach + 1, i - reach : i + reach + 1]
                    for i, j in zip(ix, iy, strict=True)
                ]
            )

        target = cut(science, _FIT)
        noise = cut(variance, _FIT) + (np.float32(_MODEL_ERROR) * target) ** 2
        self._weight = np.where(cut(bad, _FIT), np.float32(0), 1 / noise).reshape(stars, -1)
        self._target = target.reshape(stars, -1)
        wide = cut(reference, _HALF + _FIT)
        design = np.empty((stars, len(basis) + 1, side, side), np.float32)
        rows: dict[int, Float32Array] = {}
        for k, (a, b) in enumerate(zip(basis.along_x, basis.along_y, strict=True)):
            if id(b) not in rows:
                rows[id(b)] = np.matmul(_toeplitz(b, side), wide)
            design[:, k] = np.matmul(rows[id(b)], _toeplitz(a, side).T) * np.float32(basis.scale[k])
        design[:, 1:-1] -= design[:, :1] * basis.remove[1:, None, None].astype(np.float32)
        design[:, -1] = 1
        self._design = design.reshape(stars, len(basis) + 1, side * side)
        root = np.sqrt(self._weight)
        weighted = self._design * root[:, None]
        self.normal = np.matmul(weighted, weighted.transpose(0, 2, 1)).astype(float)
        self.right = np.matmul(weighted, (self._target * root)[:, :, None])[:, :, 0].astype(float)

    def chi2(self, coefficients: FloatArray) -> FloatArray:
        """Return each stamp's reduced chi squared, given its coefficients."""
        model = np.matmul(coefficients[:, None, :].astype(np.float32), self._design)[:, 0]
        total = ((self._target - model) ** 2 * self._weight).sum(axis=1, dtype=float)
        return total / np.maximum((self._weight > 0).sum(axis=1), 1)


def _solve(stamps: _Stamps, place: FloatArray, good: npt.NDArray[np.bool_]) -> FloatArray:
    spread = place[good]
    half = np.matmul(spread.transpose(0, 2, 1), stamps.normal[good])
    columns = spread.shape[2]
    normal = half.transpose(1, 0, 2).reshape(columns, -1) @ spread.reshape(-1, columns)
    right = np.einsum("sij,si->j", spread, stamps.right[good])
    norm = np.sqrt(np.diag(normal))
    norm[norm == 0] = 1
    normal = normal / norm / norm[:, None]
    normal[np.diag_indices_from(normal)] += _RIDGE
    return np.linalg.solve(normal, right / norm) / norm
