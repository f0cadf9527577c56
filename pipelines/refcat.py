"""Reference catalogue of one detector."""

from __future__ import annotations

__all__ = ["ReferenceCatalog", "load_reference_catalog"]

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from pipelines.errors import CalibrationFailed

FloatArray = npt.NDArray[np.float64]


@dataclass
class ReferenceCatalog:
    """Reference objects.

    Attributes
    ----------
    id : `numpy.ndarray`
    ra, dec : `numpy.ndarray`
        ICRS degrees.
    flux : `numpy.ndarray`
        In the band of the image, nJy.
    star : `numpy.ndarray`
        Whether it is a point source; all are if the catalogue does not say.
    """

    id: npt.NDArray[np.int64]
    ra: FloatArray
    dec: FloatArray
    flux: FloatArray
    star: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.id)


def load_reference_catalog(shards: Iterable[Table], band: str) -> ReferenceCatalog:
    """Put the shards of a reference catalogue together.

    Parameters
    ----------
    shards : iterable of `astropy.table.Table`
        With columns ``id``, ``ra``, ``dec``, ``<band>_flux`` and perhaps
        ``star``.
    band : `str`
        Of the image.

    Raises
    ------
    pipelines.errors.CalibrationFailed
        Raised if the catalogue has no fluxes in this band.
    """
    name = f"{band}_flux"
    columns: dict[str, list[npt.NDArray[np.generic]]] = {
        "id": [],
        "ra": [],
        "dec": [],
        "flux": [],
        "star": [],
    }
    for shard in shards:
        if name not in shard.colnames:
            known = sorted(c.removesuffix("_flux") for c in shard.colnames if c.endswith("_flux"))
            raise CalibrationFailed(
                f"the reference catalogue has no column {name}: it covers the bands {', '.join(known)}, "
                f"not {band!r}"
            )
        for key, column in (("id", "id"), ("ra", "ra"), ("dec", "dec"), ("flux", name)):
            columns[key].append(np.ma.filled(np.ma.asarray(shard[column]), np.nan if key == "flux" else 0))
        columns["star"].append(
            np.asarray(shard["star"], bool) if "star" in shard.colnames else np.ones(len(shard), bool)
        )
    kinds = {"id": np.int64, "ra": float, "dec": float, "flux": float, "star": bool}
    joined = {
        key: np.concatenate([np.asarray(part).astype(kind) for part in columns[key]] or [np.empty(0, kind)])
        for key, kind in kinds.items()
    }
    return ReferenceCatalog(**joined)
