"""How the sky is cut into the pixel grids on which templates are stored.

A `SkyMap` is a set of *tracts*, each a gnomonic projection about its own
centre with north up and east to the left, cut into a grid of equal *patches*.
A patch is stored with a border that it shares with its neighbours, so that
whatever straddles an edge is whole in at least one of them.
"""

from __future__ import annotations

__all__ = ["SkyMap", "Tract"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.geometry import plane_to_sky, sky_to_plane

Corners = list[tuple[float, float]]


class Tract(BaseModel):
    """One projection of the sky, cut into patches.

    Attributes
    ----------
    id : `int`
    ra, dec : `float`
        Tangent point, in the middle of the tract; degrees ICRS.
    nx, ny : `int`
        Patches along x (west) and y (north). A patch is numbered
        ``iy * nx + ix``.
    patch_size : `int`
        Side of a patch without its border, pixels.
    overlap : `int`
        Width of the border on each side, pixels.
    pixel_scale : `float`
        Arcseconds per pixel at the tangent point.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int = Field(ge=0)
    ra: float = Field(ge=0, lt=360)
    dec: float = Field(ge=-90, le=90)
    nx: int = Field(gt=0)
    ny: int = Field(gt=0)
    patch_size: int = Field(gt=0)
    overlap: int = Field(ge=0)
    pixel_scale: float = Field(gt=0)

    @property
    def patches(self) -> range:
        """Numbers of all patches."""
        return range(self.nx * self.ny)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of every patch's image, border included."""
        side = self.patch_size + 2 * self.overlap
        return side, side

    def patch_index(self, patch: int) -> tuple[int, int]:
        """Return the patch's place (ix, iy) in the grid.

        Raises
        ------
        IndexError
            Raised if the tract has no such patch.
        """
        if patch not in self.patches:
            raise IndexError(f"tract {self.id} has patches 0 to {len(self.patches) - 1}, not {patch}")
        return patch % self.nx, patch // self.nx

    def patch_wcs_header(self, patch: int) -> dict[str, Any]:
        """Return the patch's WCS (TAN, with its border) as FITS keywords."""
        ix, iy = self.patch_index(patch)
        step = self.pixel_scale / 3600.0
        return {
            "WCSAXES": 2,
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": self.ra,
            "CRVAL2": self.dec,
            "CRPIX1": self.nx * self.patch_size / 2 - ix * self.patch_size + self.overlap + 0.5,
            "CRPIX2": self.ny * self.patch_size / 2 - iy * self.patch_size + self.overlap + 0.5,
            "CD1_1": -step,
            "CD1_2": 0.0,
            "CD2_1": 0.0,
            "CD2_2": step,
            "RADESYS": "ICRS",
            "LONPOLE": 180.0,
        }

    def patch_corners(self, patch: int) -> Corners:
        """Return the four (ra, dec) around a patch with its border, degrees."""
        return self._box_corners(*self._patch_box(patch))

    def tract_corners(self) -> Corners:
        """Return the four (ra, dec) around all patches with borders, degrees."""
        return self._box_corners(*self._tract_box())

    def patches_overlapping(self, corners: Sequence[tuple[float, float]]) -> list[int]:
        """Find the patches that a convex polygon on the sky touches.

        Parameters
        ----------
        corners : sequence of `tuple` [`float`, `float`]
            (ra, dec) in degrees, in order around the polygon.

        Returns
        -------
        patches : `list` [`int`]
            Patch numbers, ascending; borders count. Empty for a polygon that
            does not lie within 90 degrees of the tract's centre.
        """
        xi, eta = sky_to_plane(self.ra, self.dec, [c[0] for c in corners], [c[1] for c in corners])
        polygon = np.column_stack([xi, eta])
        if not np.isfinite(polygon).all():
            return []
        return [patch for patch in self.patches if _overlap(polygon, *self._patch_box(patch))]

    def _patch_box(self, patch: int) -> tuple[float, float, float, float]:
        """Return (west, east, south, north) of a patch on the plane, degrees."""
        ix, iy = self.patch_index(patch)
        step = self.pixel_scale / 3600.0
        x0 = (ix - self.nx / 2) * self.patch_size
        y0 = (iy - self.ny / 2) * self.patch_size
        return (
            -(x0 + self.patch_size + self.overlap) * step,
            -(x0 - self.overlap) * step,
            (y0 - self.overlap) * step,
            (y0 + self.patch_size + self.overlap) * step,
        )

    def _tract_box(self) -> tuple[float, float, float, float]:
        step = self.pixel_scale / 3600.0
        half_x = (self.nx * self.patch_size / 2 + self.overlap) * step
        half_y = (self.ny * self.patch_size / 2 + self.overlap) * step
        return -half_x, half_x, -half_y, half_y

    def _box_corners(self, xi0: float, xi1: float, eta0: float, eta1: float) -> Corners:
        # From the pixel (0, 0), which lies to the east, along increasing x.
        ra, dec = plane_to_sky(self.ra, self.dec, [xi1, xi0, xi0, xi1], [eta0, eta0, eta1, eta1])
        return list(zip(ra.tolist(), dec.tolist(), strict=True))


class SkyMap(BaseModel):
    """A named set of tracts, as stored in the dataset type ``skyMap``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    tracts: tuple[Tract, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_ids(self) -> SkyMap:
        ids = [tract.id for tract in self.tracts]
        if len(set(ids)) != len(ids):
            raise ValueError("tract ids must differ from each other")
        return self

    def tract(self, tract_id: int) -> Tract:
        """Return one tract.

        Raises
        ------
        KeyError
            Raised if the map has no such tract.
        """
        for tract in self.tracts:
            if tract.id == tract_id:
                return tract
        raise KeyError(f"sky map {self.name} has no tract {tract_id}")

    def patches_overlapping(self, corners: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
        """Find the (tract, patch) pairs that a convex polygon on the sky touches.

        Parameters
        ----------
        corners : sequence of `tuple` [`float`, `float`]
            (ra, dec) in degrees, in order around the polygon.
        """
        return [(tract.id, patch) for tract in self.tracts for patch in tract.patches_overlapping(corners)]


def _overlap(polygon: np.ndarray, xi0: float, xi1: float, eta0: float, eta1: float) -> bool:
    """Whether a convex polygon and a rectangle touch (separating axis theorem)."""
    box = np.array([[xi0, eta0], [xi1, eta0], [xi1, eta1], [xi0, eta1]])
    edges = np.roll(polygon, -1, axis=0) - polygon
    axes = np.vstack([[[1.0, 0.0], [0.0, 1.0]], np.column_stack([-edges[:, 1], edges[:, 0]])])
    a, b = axes @ polygon.T, axes @ box.T
    return bool(np.all((a.max(axis=1) >= b.min(axis=1)) & (b.max(axis=1) >= a.min(axis=1))))
