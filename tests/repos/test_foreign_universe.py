"""Visits in a repo whose dimension universe is that of the field, not ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest
from lsst.daf.butler import Butler, DimensionConfig

from repos.writer_messages import MessageReader
from tests.repos.sketch_repo import Observatory, build_central
from tests.repos.test_local_repo_forms import PIPELINES, in_both

UNIVERSE = "resource://lsst.daf.butler/configs/old_dimensions/daf_butler_universe7.yaml"


@pytest.fixture(scope="module")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    place = tmp_path_factory.mktemp("universe7")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Butler, "makeRepo", partial(Butler.makeRepo, dimensionConfig=DimensionConfig(UNIVERSE)))
        build_central(place / "central")
    pipelines = {"sketch": PIPELINES["sketch"]}
    made = Observatory(place / "central", place / "work", pipelines, initialise=["sketch"])
    yield made
    made.close()


def test_a_visit_in_both_forms(observatory: Observatory) -> None:
    central = observatory.central
    assert central.universe.version == 7
    observed = in_both(observatory, "sketch")
    assert observed.types >= {"visit_image", "dia_source"}
    assert observatory.full.butler.dimensions == central.universe
    # And into the registry, by the message alone.
    types = {ref.datasetType.name: ref.datasetType for ref in observed.refs}
    reader = MessageReader(central.universe, types.__getitem__)
    central.registry_writer.ingest([reader.read(json.dumps(observed.message))])
    (ref,) = (r for r in observed.refs if r.datasetType.name == "dia_source")
    with Butler.from_config(str(observatory.root)) as fresh:
        assert fresh.find_dataset(ref.datasetType, ref.dataId, collections=ref.run) == ref
        assert len(fresh.get(ref)) >= 0
