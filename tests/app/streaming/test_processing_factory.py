"""Wiring of the processing agent's executors."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.streaming.processing_factory import ProcessingOptions, create_executor, submit_once
from config.streaming.settings import StreamingSettings, load_streaming_settings
from models.errors import InvalidConfiguration
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.tasks import TaskSpec, TaskState
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from repos.streaming.panda_executor import PandaExecutor
from tests.repos.streaming.executing import ended

DATASET = DatasetId("group.daq", "swf.100010.run")


def settings_of(directory: Path, **more: str) -> StreamingSettings:
    return load_streaming_settings(env={"PP_TESTBED_DIRECTORY": str(directory), **more})


def test_a_script_whose_path_has_blanks_and_quotes(tmp_path: Path) -> None:
    script = tmp_path / 'user\'s own "script" \u00fc.sh'
    script.write_text('#!/bin/sh\ncp "$SWF_STF_FILE" copy\n')
    script.chmod(0o755)
    settings = settings_of(tmp_path, PP_PAYLOAD="no-such-program")
    catalogue = EmbeddedCatalogue(create_streaming_engine(settings.catalogue_database_url))
    stf = tmp_path / "swf.100010.000001.stf"
    stf.write_text("{}")
    catalogue.create_dataset(DATASET, lifetime=60.0)
    catalogue.add_files(DATASET, [CatalogueFile(stf.name, stf, 2, "00f600fb", "a-guid")])
    executor = create_executor(
        settings, namespace="n", catalogue=catalogue, options=ProcessingOptions(script=script)
    )
    task = TaskSpec("out", "100010", None, DATASET, "out", "n", until_closed=False)
    assert ended(executor, executor.submit(task)) is TaskState.DONE
    executor.close()
    assert (tmp_path / "outputs" / "out" / stf.name / "copy").read_text() == "{}"


def test_files_of_rucio_are_processed_by_panda_only(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, PP_CATALOGUE="rucio")
    with pytest.raises(InvalidConfiguration, match="PP_EXECUTOR=local: Rucio does not say where files are"):
        create_executor(settings, namespace="n")
    panda = settings_of(tmp_path, PP_CATALOGUE="rucio", PP_EXECUTOR="panda")
    assert isinstance(create_executor(panda, namespace="n"), PandaExecutor)


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    options = ProcessingOptions(script=tmp_path / "none.sh")
    for executor, error in (("panda", "-s: there is no file"), ("local", "there is no program")):
        with pytest.raises(InvalidConfiguration, match=error):
            create_executor(settings_of(tmp_path, PP_EXECUTOR=executor), namespace="n", options=options)


@pytest.mark.parametrize(
    ("given", "output"), [("", "user.alice.x"), ("group.daq:", "user.alice.x"), ("swf", "")]
)
def test_a_task_for_a_dataset_without_a_name_is_not_submitted(
    tmp_path: Path, given: str, output: str
) -> None:
    with pytest.raises(InvalidConfiguration, match="a dataset has no name"):
        submit_once(settings_of(tmp_path), ProcessingOptions(), input_name=given, output=output)
