"""A central repo on PostgreSQL and S3, for tests with real servers."""

from __future__ import annotations

__all__ = ["RUN", "TYPES", "ServerRepo"]

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from lsst.daf.butler import Butler, DatasetRef, DatasetType

from init_job.create_central import create_central
from repos.central import CentralRepo
from repos.data_ids import VisitDataIds, output_ref
from repos.memory_butler import StoredDataset
from repos.postgresql import use_installed_driver
from repos.registry_writer import Outputs
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.s3 import S3Server
from tests.init_job.seed import write_seed
from tests.repos.raw_files import make_camera
from tests.servers import unique_name

INSTRUMENT = make_camera().name
RUN = f"{INSTRUMENT}/prompt/output-2025-06-13/Test/d1"
TYPES = ("first_output", "second_output")


@dataclass
class ServerRepo:
    """Where the parts of a repo are.

    Attributes
    ----------
    uri : `str`
        Root in a bucket.
    bucket, database, schema : `str`
    server : `simulator.servers.postgresql.PostgreSQLServer`
    """

    uri: str
    bucket: str
    database: str
    schema: str
    server: PostgreSQLServer

    @classmethod
    def create(cls, server: PostgreSQLServer, s3: S3Server, directory: Path) -> ServerRepo:
        """Make a repo with the seed of the tests of ``create-central``."""
        bucket, database = unique_name("b"), unique_name("d")
        s3.create_bucket(bucket)
        server.create_database(database)
        made = cls(f"s3://{bucket}/deep/central", bucket, database, "camera_repo", server)
        write_seed(directory / "seed")
        create_central(made.uri, directory / "seed", registry=server.url(database), namespace=made.schema)
        with Butler.from_config(made.uri, writeable=True) as butler:
            butler.collections.register(RUN)
            for dataset_type in made.output_types(butler):
                butler.registry.registerDatasetType(dataset_type)
        return made

    def execute(self, statement: str) -> Any:
        """Run a statement in the registry's database."""
        use_installed_driver()
        engine = sa.create_engine(self.server.url(self.database), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement))
            rows = result.all() if result.returns_rows else []
        engine.dispose()
        return rows

    @staticmethod
    def output_types(butler: Butler) -> list[DatasetType]:
        """Return the dataset types of outputs."""
        dimensions = ("instrument", "group", "detector")
        return [DatasetType(n, dimensions, "StructuredDataDict", universe=butler.dimensions) for n in TYPES]

    def outputs(self, central: CentralRepo, group: str, value: str = "") -> Outputs:
        """Write the outputs of a group to their final place."""
        known = central.instrument_records(INSTRUMENT, 1)
        record = central.universe["group"].RecordClass(instrument=INSTRUMENT, name=group)
        values = {"instrument": INSTRUMENT, "detector": 1, "group": group}
        data_ids = VisitDataIds(central.universe, values, [*known["instrument"], *known["detector"], record])
        refs = [
            output_ref(t, data_ids.get(t.dimensions), RUN) for t in self.output_types(central.read_butler)
        ]
        files = [central.files.write(StoredDataset(ref, {"group": group, "value": value})) for ref in refs]
        return Outputs([record], files, [ref.datasetType for ref in refs])

    def held(self) -> dict[str, Any]:
        """Return the values of the first output by group, as a fresh client reads them."""
        with Butler.from_config(self.uri) as fresh:
            refs: list[DatasetRef] = fresh.query_datasets(TYPES[0], RUN, explain=False, limit=None)
            return {str(ref.dataId["group"]): json.loads(json.dumps(fresh.get(ref))) for ref in refs}
