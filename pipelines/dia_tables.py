"""Tables of DIA objects and sources, in the form the APDB takes."""

from __future__ import annotations

__all__ = [
    "TableShape",
    "conform",
    "empty_table",
    "match_to_objects",
    "rows_of",
    "summarise_objects",
    "table_shape",
]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from lsst.dax.apdb import Apdb, ApdbTables
from scipy.spatial import KDTree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: numpy types by the names of felis, in which the APDB's schema is written.
_TYPES: Mapping[str, str] = {
    "bool": "bool",
    "byte": "int8",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
}


@dataclass(frozen=True)
class TableShape:
    """Columns of an APDB table.

    Attributes
    ----------
    types : `dict` [`str`, `str`]
        numpy type by column; ``object`` for text and the like.
    required : `frozenset` [`str`]
        Columns that must not be null.
    """

    types: Mapping[str, str]
    required: frozenset[str]


def table_shape(apdb: Apdb, table: ApdbTables) -> TableShape:
    """Return the columns of a table, those left out that the APDB fills in."""
    definition = apdb.tableDef(table)
    if definition is None:
        raise ValueError(f"the APDB has no table {table.name}")
    columns = [c for c in definition.columns if c.name not in ("pixelId", "validityEndMjdTai")]
    return TableShape(
        types={c.name: _TYPES.get(c.datatype.name, "object") for c in columns},
        required=frozenset(c.name for c in columns if not c.nullable),
    )


def conform(table: pd.DataFrame, shape: TableShape) -> pd.DataFrame:
    """Give a table the columns and types of the APDB's.

    Columns that the APDB does not know are dropped, required ones that are
    missing become 0 (they are counts), the others stay out.
    """
    columns: dict[str, Any] = {}
    for name, kind in shape.types.items():
        if name in table:
            column = table[name]
            integral = kind.startswith(("int", "bool"))
            nullable = integral and bool(column.isna().any())
            columns[name] = column if nullable or kind == "object" else column.astype(np.dtype(kind))
        elif name in shape.required:
            columns[name] = np.zeros(len(table), kind)
    return pd.DataFrame(columns, index=table.index).reset_index(drop=True)


def empty_table(shape: TableShape) -> pd.DataFrame:
    """Return a table without rows."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in shape.types.items()})


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, each with its values by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _unit_vectors(ra: FloatArray, dec: FloatArray) -> FloatArray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def match_to_objects(
    sources: tuple[FloatArray, FloatArray], objects: tuple[FloatArray, FloatArray], radius: float
) -> IntArray:
    """Match sources one-to-one to the nearest objects.

    The closest pair is matched first, then the closest of what is left.

    Parameters
    ----------
    sources, objects : `tuple` [`numpy.ndarray`, `numpy.ndarray`]
        Right ascension and declination, degrees.
    radius : `float`
        Arcseconds.

    Returns
    -------
    matches : `numpy.ndarray`, (sources,)
        Index of the object, or -1.
    """
    matches = np.full(len(sources[0]), -1)
    if not len(matches) or not len(objects[0]):
        return matches
    chord = 2 * np.sin(np.radians(radius / 3600.0) / 2)
    ours, theirs = KDTree(_unit_vectors(*sources)), KDTree(_unit_vectors(*objects))
    pairs = ours.sparse_distance_matrix(theirs, chord, output_type="ndarray")
    taken: set[int] = set()
    for pair in pairs[np.lexsort((pairs["j"], pairs["i"], pairs["v"]))]:
        i, j = int(pair["i"]), int(pair["j"])
        if matches[i] < 0 and j not in taken:
            matches[i] = j
            taken.add(j)
    return matches


def summarise_objects(
    previous: pd.DataFrame, history: pd.DataFrame, sources: pd.DataFrame, mjd: float
) -> pd.DataFrame:
    """Return new versions of the objects that have a new source.

    Parameters
    ----------
    previous : `pandas.DataFrame`
        Known objects; those without a new source are left out of the result.
    history : `pandas.DataFrame`
        Their DIA sources so far.
    sources : `pandas.DataFrame`
        The visit's DIA sources, with ``diaObjectId``.
    mjd : `float`
        Time of the visit, MJD TAI.

    Returns
    -------
    objects : `pandas.DataFrame`
        In the order of `sources`.
    """
    wanted = sources["diaObjectId"].to_numpy(np.int64)
    updated = previous[previous["diaObjectId"].isin(wanted)]
    known = {int(row["diaObjectId"]): row for row in rows_of(updated)}
    past = history[history["diaObjectId"].isin(wanted)]
    # One array a column: a table per object would take a millisecond each.
    points = {
        name: np.concatenate([t[name].to_numpy(kind) for t in (past, sources) if len(t)])
        for name, kind in _LIGHT_CURVE.items()
    }
    members: dict[int, list[int]] = {}
    for index, object_id in enumerate(points["diaObjectId"].tolist()):
        members.setdefault(object_id, []).append(index)
    rows = []
    for object_id in dict.fromkeys(wanted.tolist()):
        curve = {name: values[members[object_id]] for name, values in points.items()}
        row: dict[str, Any] = dict(known.get(object_id, {}))
        row |= {
            "diaObjectId": object_id,
            "validityStartMjdTai": mjd,
            "nDiaSources": len(curve["ra"]),
            "firstDiaSourceMjdTai": float(curve["midpointMjdTai"].min()),
            "lastDiaSourceMjdTai": float(curve["midpointMjdTai"].max()),
        }
        row |= _position(curve["ra"], curve["dec"])
        for band in sorted(set(curve["band"].tolist())):
            row |= _fluxes(str(band), {name: values[curve["band"] == band] for name, values in curve.items()})
        rows.append(row)
    result = pd.DataFrame(rows)
    counts = [c for c in result.columns if c.endswith("_psfFluxNdata")]
    return result.fillna(dict.fromkeys(counts, 0))


#: What is needed of a light curve, and as which type.
_LIGHT_CURVE: Mapping[str, type] = {
    "diaObjectId": np.int64,
    "ra": float,
    "dec": float,
    "band": object,
    "midpointMjdTai": float,
    "psfFlux": float,
    "psfFluxErr": float,
    "scienceFlux": float,
}


def _position(ra: FloatArray, dec: FloatArray) -> dict[str, float]:
    # Relative to the first, so that the mean does not break at 0 hours.
    offset = (ra - ra[0] + 180.0) % 360.0 - 180.0
    position = {"ra": float((ra[0] + offset.mean()) % 360.0), "dec": float(dec.mean())}
    if len(ra) > 1:
        position["raErr"] = float(offset.std(ddof=1) / np.sqrt(len(ra)))
        position["decErr"] = float(dec.std(ddof=1) / np.sqrt(len(ra)))
    return position


def _fluxes(band: str, curve: Mapping[str, npt.NDArray[Any]]) -> dict[str, float | int]:
    flux, error = curve["psfFlux"], curve["psfFluxErr"]
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    result: dict[str, float | int] = {f"{band}_psfFluxNdata": int(good.sum())}
    if not good.any():
        return result
    flux, error = flux[good], error[good]
    weight = error**-2.0
    result[f"{band}_psfFluxMean"] = float((flux * weight).sum() / weight.sum())
    result[f"{band}_psfFluxMeanErr"] = float(weight.sum() ** -0.5)
    result[f"{band}_psfFluxMin"] = float(flux.min())
    result[f"{band}_psfFluxMax"] = float(flux.max())
    result[f"{band}_psfFluxErrMean"] = float(error.mean())
    if len(flux) > 1:
        result[f"{band}_psfFluxSigma"] = float(flux.std(ddof=1))
    science = curve["scienceFlux"]
    science = science[np.isfinite(science)]
    if len(science):
        result[f"{band}_scienceFluxMean"] = float(science.mean())
    return result
