"""Messages of version 1: we send exactly these, and we read them.

A test here that fails means that other programs will break; see
``docs/coordination.md`` before anything in ``tests/golden/v1`` is changed.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
from lsst.daf.butler import DatasetType, DimensionUniverse, MissingDatasetTypeError

from app.web import events
from app.web.problems import PROBLEM_TYPE, problem_for_error, problem_for_outcome
from models import errors
from models.events import BatchFile, BatchIngested, PromptOutput
from models.notifications import read_notification
from models.outcomes import Result, VisitOutcome
from models.raws import parse_raw_key
from models.stream_entries import from_stream_entry, to_stream_entry
from models.visits import FannedOutVisit, SummitVisit
from repos.image_store import DirectoryImageStore
from repos.registry_writer import Outputs
from repos.schema_registry import NextVisitReader
from repos.visit_posts import CloudEventPoster
from repos.writer_batches import BatchFiles
from repos.writer_messages import MessageReader
from simulator.io.bucket_delivery import notification
from tests.golden.generate import BATCH_FILE_NAME, DIRECTORY, RAW_KEY, SCHEMA_ID, generate, stock_outputs
from tests.repos.answering_server import answer, answering_server


def golden(name: str) -> Any:
    return json.loads((DIRECTORY / f"{name}.json").read_bytes())


VISIT = FannedOutVisit.parse(golden("fanned_out_visit"))
SUMMIT_VISIT = SummitVisit.parse(golden("next_visit"))


def test_the_script_still_writes_what_is_frozen(tmp_path: Path) -> None:
    generate(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in DIRECTORY.iterdir()}


class Registry:
    """Knows the summit's schema."""

    async def schema(self, schema_id: int) -> Any:
        assert schema_id == SCHEMA_ID
        return fastavro.parse_schema(golden("next_visit_schema"))


@pytest.mark.parametrize("form", ["avro", "json"])
def test_next_visits_are_read(form: str) -> None:
    reader = NextVisitReader(registry=Registry())  # type: ignore[arg-type]
    fields = asyncio.run(reader.decode((DIRECTORY / f"next_visit.{form}").read_bytes()))
    assert fields == golden("next_visit")
    assert SummitVisit.parse(fields).model_dump(mode="json") == golden("next_visit")


def test_a_fanned_out_visit_has_exactly_the_golden_fields() -> None:
    assert SUMMIT_VISIT.fan_out(94).to_message() == golden("fanned_out_visit")
    assert list(SUMMIT_VISIT.fan_out(94).to_message()) == list(golden("fanned_out_visit"))


def sent() -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body that the fan-out sends."""

    async def run() -> tuple[dict[str, str], dict[str, Any]]:
        async with answering_server(answer()) as server:
            poster = CloudEventPoster(topic=golden("cloud_event_structured")["body"]["source"])
            await poster.post(f"http://127.0.0.1:{server.port}/next-visit", VISIT, on_sent=lambda: None)
            [(_, headers, body)] = server.requests
            return headers, json.loads(body)

    return asyncio.run(run())


def test_the_event_is_sent_in_structured_mode_with_a_string() -> None:
    headers, body = sent()
    expected = golden("cloud_event_structured")
    assert headers["content-type"] == expected["headers"]["content-type"]
    assert body.keys() == expected["body"].keys()
    assert uuid.UUID(body["id"])
    assert datetime.fromisoformat(body["time"]).utcoffset() is not None
    for name in body.keys() - {"id", "time", "data"}:
        assert body[name] == expected["body"][name]
    assert isinstance(body["data"], str)
    assert json.loads(body["data"]) == json.loads(expected["body"]["data"])


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_events_are_read(mode: str) -> None:
    message = golden(f"cloud_event_{mode}")
    assert events.read_visit(message["headers"], json.dumps(message["body"]).encode()) == VISIT


def test_stream_entries_in_both_directions() -> None:
    assert to_stream_entry(VISIT) == golden("redis_entry")
    assert from_stream_entry(golden("redis_entry")) == VISIT
    assert from_stream_entry({k.encode(): v.encode() for k, v in golden("redis_entry").items()}) == VISIT


def test_notifications_are_read_and_the_simulator_sends_them() -> None:
    message = golden("notification")
    (created,) = read_notification(json.dumps(message).encode())
    assert (created.bucket, created.key) == ("rubin-summit", RAW_KEY)
    assert parse_raw_key(created.key).detector_name == "R22_S11"
    (simulated,) = notification("rubin-summit", RAW_KEY, size=1, etag="e", at=0.0)["Records"]
    (expected,) = message["Records"]
    assert simulated["eventName"] == expected["eventName"]
    assert simulated["s3"]["bucket"].items() >= expected["s3"]["bucket"].items()
    assert simulated["s3"]["object"].items() >= expected["s3"]["object"].items()


def test_sidecars_are_read(tmp_path: Path) -> None:
    raw = parse_raw_key(RAW_KEY)
    assert raw.sidecar_key is not None
    path = tmp_path / raw.sidecar_key
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(golden("sidecar")))
    assert DirectoryImageStore(tmp_path).read_sidecar_group(raw) == VISIT.groupId


OUTPUTS = {False: "pp_output", True: "pp_output_with_dataset_types"}


@pytest.mark.parametrize("with_types", OUTPUTS)
def test_outputs_are_told_as_the_stock_butler_tells_them(tmp_path: Path, with_types: bool) -> None:
    stock = stock_outputs(tmp_path / "repo")
    payload = Outputs(stock.records, stock.files, stock.dataset_types).to_message(
        with_dataset_types=with_types
    )
    assert json.loads(payload) == golden(OUTPUTS[with_types])


@pytest.mark.parametrize("with_types", OUTPUTS)
def test_outputs_are_read(tmp_path: Path, with_types: bool) -> None:
    stock = stock_outputs(tmp_path / "repo")
    known = {} if with_types else {t.name: t for t in stock.dataset_types}

    def find(name: str) -> DatasetType:
        if name not in known:
            raise MissingDatasetTypeError(f"no dataset type {name}")
        return known[name]

    payload = (DIRECTORY / f"{OUTPUTS[with_types]}.json").read_bytes()
    outputs = MessageReader(DimensionUniverse(), find).read(payload)
    assert [r.toDict() for r in outputs.records] == [r.toDict() for r in stock.records]
    assert [(f.path, f.formatter) for f in outputs.files] == [
        (str(f.path), f.to_simple().formatter) for f in stock.files
    ]
    for ours, theirs in zip(outputs.files, stock.files, strict=True):
        assert [(r.id, r.run, r.datasetType, dict(r.dataId.required)) for r in ours.refs] == [
            (r.id, r.run, r.datasetType, dict(r.dataId.required)) for r in theirs.refs
        ]
    assert PromptOutput.parse(payload).to_message() == golden(OUTPUTS[with_types])


def test_batches(tmp_path: Path) -> None:
    event, content = golden("batch_ingested"), golden("batch_file")
    batch_id = uuid.UUID(event["batch_id"])
    made = BatchIngested(batch_id=batch_id, batch_file=event["batch_file"])
    assert made.model_dump(mode="json") == json.loads(made.model_dump_json()) == event
    assert BatchIngested.model_validate(event) == made
    batch = BatchFile(batch_id=batch_id, datasets=tuple(uuid.UUID(id_) for id_ in content["datasets"]))
    now = datetime(2025, 4, 1, 3, 1, 12, 345, tzinfo=UTC)
    assert BatchFiles(str(tmp_path), now=lambda: now).write(batch) == BATCH_FILE_NAME == event["batch_file"]
    assert json.loads((tmp_path / BATCH_FILE_NAME).read_bytes()) == content
    assert BatchFile.model_validate(content) == batch


@pytest.mark.parametrize("name", golden("problems"))
def test_problems(name: str) -> None:
    expected = golden("problems")[name]
    if name in {result.value for result in Result}:
        detail = expected["detail"].removesuffix(". This visit should NOT be retried.")
        outcome = VisitOutcome(result=Result(name), title=expected["reason"], detail=detail)
        problem = problem_for_outcome(outcome).about(VISIT)
    else:
        problem = problem_for_error(getattr(errors, name)(expected["detail"]))
        # Of what is not a visit nobody knows which one it is.
        problem = problem.about(VISIT if "group" in expected else None)
    assert json.loads(problem.model_dump_json(exclude_none=True)) == expected
    assert (problem.retry_after is not None) == (expected["status"] == 503)
    assert PROBLEM_TYPE == "application/problem+json"


@pytest.mark.parametrize("name", golden("problems"))
def test_problems_are_understood_by_the_sender(name: str) -> None:
    expected = golden("problems")[name]
    body = json.dumps(expected).encode()

    async def run() -> None:
        said = answer(f"{expected['status']} x", body, Content_Type=PROBLEM_TYPE, Retry_After="30")
        async with answering_server(said) as server:
            url = f"http://127.0.0.1:{server.port}/next-visit"
            result = await CloudEventPoster(topic="t").post(url, VISIT, on_sent=lambda: None)
        assert (result.status, result.retry_after) == (expected["status"], 30.0)
        assert expected["detail"] in result.detail

    asyncio.run(run())
