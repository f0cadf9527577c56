"""The alert production database, as the service itself uses it: only to ask
whether a visit is already in it. Tasks talk to it on their own.
"""

from __future__ import annotations

__all__ = ["ApdbClient", "check_apdb"]

from collections.abc import Callable, Iterable

from lsst.dax.apdb import Apdb

from models.errors import TemporarilyUnavailable


class ApdbClient:
    """Asks an APDB about visits.

    Parameters
    ----------
    config_uri : `str`
        ``CONFIG_APDB``: a configuration file or ``label:`` name; empty if
        there is no APDB, and then it never holds anything.
    connect : callable, optional
        Opens an APDB by its configuration; one that tasks have open already
        may be shared.
    """

    def __init__(self, config_uri: str, *, connect: Callable[[str], Apdb] = Apdb.from_uri) -> None:
        self._uri = config_uri
        self._connect = connect
        self._apdb: Apdb | None = None

    def contains(self, visits: Iterable[int], detector: int) -> bool:
        """Say whether the APDB holds anything of a detector in any of some
        visits.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be asked.
        """
        if not self._uri:
            return False
        try:
            if self._apdb is None:
                self._apdb = self._connect(self._uri)
            return any(self._apdb.containsVisitDetector(visit, detector) for visit in visits)
        except Exception as error:  # SQL, Cassandra and file errors, by back end
            self._apdb = None
            raise TemporarilyUnavailable(
                f"the APDB {self._uri} cannot be asked: {type(error).__name__}: {error}"
            ) from error


def check_apdb(config_uri: str) -> list[str]:
    """Return what is wrong with an APDB, if anything."""
    try:
        ApdbClient(config_uri).contains([0], 0)
    except TemporarilyUnavailable as error:
        return [str(error)]
    return []
