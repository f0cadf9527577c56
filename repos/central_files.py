"""Files of a central repo's datastore, written straight to their final place.

The registry learns of them later, from the writer's message or by direct
insertion. Paths and formatters are those that the Butler itself would choose;
writing does not go through the datastore's own ``put``, because that keeps
records that nobody needs here and replaces files in a way that readers can
see.
"""

from __future__ import annotations

__all__ = ["CentralFiles"]

import logging
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lsst.daf.butler import (
    Butler,
    ButlerConfig,
    DatasetRef,
    DimensionUniverse,
    FileDataset,
    FileDescriptor,
    Formatter,
    FormatterNotImplementedError,
    FormatterV1inV2,
    FormatterV2,
    Location,
    StorageClass,
)
from lsst.daf.butler._standalone_datastore import instantiate_standalone_datastore
from lsst.daf.butler.datastores.fileDatastore import FileDatastore
from lsst.resources import ResourcePath

from models.errors import InvalidConfiguration
from repos.atomic_files import replace_file
from repos.memory_butler import StoredDataset
from repos.retry import retry_connections
from repos.uploads import Uploads

_log = logging.getLogger(__name__)


class CentralFiles:
    """Writes dataset files into a central repo's datastore.

    Parameters
    ----------
    uri : `str`
        Root or configuration of the central repo. No connection to its
        registry is made.
    universe : `lsst.daf.butler.DimensionUniverse`
    retry_delay : `float`
        Mean pause before the second try after an error of an object store,
        seconds.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the datastore does not keep files.
    """

    def __init__(self, uri: str, universe: DimensionUniverse, *, retry_delay: float = 30.0) -> None:
        config = ButlerConfig(Butler.get_repo_uri(uri, return_label=True))
        datastore, database = instantiate_standalone_datastore(config, universe)
        database.dispose()
        if not isinstance(datastore, FileDatastore):
            raise InvalidConfiguration(
                f"the datastore of {uri} is a {type(datastore).__name__}; outputs need a file datastore"
            )
        self._datastore = datastore
        self._retry_delay = retry_delay
        self._uploads = Uploads()

    def together(self) -> AbstractContextManager[None]:
        """Return a context in which files go to an object store side by side;
        at its end all are there.
        """
        return self._uploads.together()

    def write(self, dataset: StoredDataset) -> FileDataset:
        """Write a dataset that is in memory, replacing an older file at once.

        Returns
        -------
        file_dataset : `lsst.daf.butler.FileDataset`
            With a path relative to the datastore's root.
        """
        ref = dataset.ref
        location, formatter = self._choose(ref, dataset)
        value = self._accepted(dataset.value, ref, formatter)
        value = formatter.add_provenance(value, provenance=dataset.provenance)
        try:
            content = formatter.to_bytes(value)
        except FormatterNotImplementedError:
            self._write_through_file(formatter, value, location)
        else:
            self._replace(location.uri, content)
        return self._file_dataset(ref, location, formatter)

    def copy(self, source: ResourcePath, ref: DatasetRef) -> FileDataset:
        """Copy a dataset's file, replacing an older one at once."""
        location, formatter = self._choose(ref, None)
        location.updateExtension(source.getExtension())
        self._replace(location.uri, source.read())
        return self._file_dataset(ref, location, formatter)

    def _choose(self, ref: DatasetRef, dataset: StoredDataset | None) -> tuple[Location, FormatterV2]:
        store = self._datastore
        template = store.templates.getTemplate(ref)
        location = store.locationFactory.fromPath(template.format(ref), trusted_path=True)
        formatter = store.formatterFactory.getFormatter(
            ref,
            FileDescriptor(location, storageClass=ref.datasetType.storageClass),
            dataId=ref.dataId,
            ref=ref,
            provenance=dataset.provenance if dataset is not None else None,
        )
        location = formatter.make_updated_location(location)
        return location, formatter if isinstance(formatter, FormatterV2) else _as_v2(formatter, ref)

    @staticmethod
    def _accepted(value: Any, ref: DatasetRef, formatter: FormatterV2) -> Any:
        if formatter.can_accept(value):
            return value
        storage_class: StorageClass = ref.datasetType.storageClass
        return storage_class.coerce_type(value)

    @staticmethod
    def _file_dataset(ref: DatasetRef, location: Location, formatter: FormatterV2) -> FileDataset:
        return FileDataset(path=str(location.pathInStore), refs=[ref], formatter=formatter.name())

    def _write_through_file(self, formatter: FormatterV2, value: Any, location: Location) -> None:
        def write(path: Path) -> None:
            formatter.write_local_file(value, ResourcePath(str(path), forceAbsolute=True))

        if location.uri.isLocal:
            replace_file(Path(location.uri.ospath), write)
            return
        with tempfile.TemporaryDirectory(prefix="pp-write-") as directory:
            local = Path(directory) / f"dataset{formatter.get_write_extension()}"
            write(local)
            self._replace(location.uri, local.read_bytes())

    def _replace(self, uri: ResourcePath, content: bytes) -> None:
        if uri.isLocal:
            replace_file(Path(uri.ospath), lambda path: path.write_bytes(content))
        else:
            # An object store replaces whole objects, in one request.
            self._uploads.do(
                lambda: retry_connections(lambda: uri.write(content, overwrite=True), delay=self._retry_delay)
            )


def _as_v2(formatter: Formatter, ref: DatasetRef) -> FormatterV2:
    return FormatterV1inV2(
        formatter.file_descriptor,
        ref=ref,
        formatter=formatter,
        write_parameters=formatter.write_parameters,
        write_recipes=formatter.write_recipes,
    )
