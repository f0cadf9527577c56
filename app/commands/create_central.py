"""``prompt-processing create-central``: make a central repo for a camera."""

from __future__ import annotations

__all__ = ["create_central"]

from pathlib import Path
from typing import Annotated

import typer

from app.progress import progress_reporter


def create_central(
    repo: Annotated[str, typer.Argument(help="Where the repo is made.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="Directory with instrument.yaml and, as far as there are any, calibrations/, refcat.ecsv or "
            "refcat.parquet, skymap.json and templates/; or an instrument file alone.",
            exists=True,
        ),
    ],
    apdb: Annotated[
        Path | None, typer.Option("--apdb", help="Also make an APDB on SQLite; its configuration file.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", help="SQLAlchemy URL of the registry; SQLite in REPO.")
    ] = None,
) -> None:
    """Make a central repo for an instrument file, and fill it with what its
    directory holds. The layout is described in docs/adding-a-camera.md.

    For example:

      prompt-processing create-central /data/central ./mycam --apdb /data/apdb.yaml

      prompt-processing create-central /data/central config/instruments/DemoCam.yaml
    """
    # The middleware is heavy; `--help` does without.
    from init_job import create_central as central

    with progress_reporter() as report:
        camera = central.create_central(
            repo, source, registry={"db": registry} if registry else None, progress=report
        )
    if apdb is not None:
        database = apdb.with_suffix(".db").absolute()
        central.create_apdb(f"sqlite:///{database}", apdb)
    typer.echo(f"{repo} is ready for {camera.name} with {len(camera.detectors)} detectors.")
