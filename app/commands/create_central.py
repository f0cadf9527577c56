"""``prompt-processing create-central``: make a central repo for a camera."""

from __future__ import annotations

__all__ = ["create_central"]

from pathlib import Path
from typing import Annotated

import typer

from app.progress import progress_reporter

_EXAMPLES = """
For example:

  prompt-processing create-central /data/central ./mycam --apdb /data/apdb.yaml

  prompt-processing create-central /data/central config/instruments/DemoCam.yaml

  prompt-processing create-central s3://bucket/central ./mycam --registry postgresql://me@host/butler
      --namespace mycam --apdb apdb.yaml --apdb-url postgresql://me@host/apdb --apdb-namespace mycam
"""


def create_central(
    repo: Annotated[str, typer.Argument(help="Where the repo is made: a directory, or s3://bucket/prefix.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="Directory with instrument.yaml and, as far as there are any, calibrations/, refcat.ecsv or "
            "refcat.parquet, skymap.json and templates/; or an instrument file alone.",
            exists=True,
        ),
    ],
    *,
    registry: Annotated[
        str | None, typer.Option("--registry", help="SQLAlchemy URL of the registry; SQLite in REPO.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="Schema of the registry's database.")
    ] = None,
    datastore: Annotated[
        str | None, typer.Option("--datastore", help="Root of the datastore, s3://bucket/prefix; REPO.")
    ] = None,
    apdb: Annotated[
        Path | None, typer.Option("--apdb", help="Also make an APDB; its configuration file.")
    ] = None,
    apdb_url: Annotated[
        str | None, typer.Option("--apdb-url", help="SQLAlchemy URL of the APDB; SQLite beside its file.")
    ] = None,
    apdb_namespace: Annotated[
        str | None, typer.Option("--apdb-namespace", help="Schema of the APDB's database.")
    ] = None,
) -> None:
    """Make a central repo for an instrument file, and fill it with what its
    directory holds. The layout is described in docs/adding-a-camera.md.

    Registry and APDB may be on PostgreSQL, files in a bucket (S3_ENDPOINT_URL
    and AWS_* as usual).
    """
    # The middleware is heavy; `--help` does without.
    from init_job.create_central import create_central as create
    from init_job.new_repository import create_apdb

    with progress_reporter() as report:
        camera = create(
            repo, source, registry=registry, namespace=namespace, datastore=datastore, progress=report
        )
    if apdb is not None:
        database = apdb.with_suffix(".db").absolute()
        create_apdb(apdb_url or f"sqlite:///{database}", apdb, namespace=apdb_namespace)
    typer.echo(f"{repo} is ready for {camera.name} with {len(camera.detectors)} detectors.")


create_central.__doc__ = f"{create_central.__doc__}\n{_EXAMPLES}"
