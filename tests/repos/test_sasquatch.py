"""Metrics to a Sasquatch REST proxy: what is asked, and what may go wrong.

The golden requests are written by hand from what the observatory's own
``SasquatchDispatcher`` sends.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fastavro
import pytest

from models.errors import TemporarilyUnavailable
from models.metrics import MeasuredBundle
from repos.sasquatch import SasquatchClient, sasquatch_record
from simulator.servers.process import free_port
from tests.repos.http_recorder import Recorder, recorder

GOLDEN = Path(__file__).parents[1] / "golden" / "sasquatch" / "requests.json"
BUNDLE = MeasuredBundle(
    id="e4771179-0a8e-5898-8808-e20e3c8d24a7",
    dataset_type="promptPreload_metrics",
    run="DemoCam/prompt/output-2026-11-20/NoPipeline/d0",
    data_id={"instrument": "DemoCam", "group": "2026-11-21T02:47:26.177", "detector": 0},
    values={
        "prepButlerTimeMetric": {
            "prep_butlerTotalTime": 0.75,
            "prep_butlerSearchTime": 0.25,
            "prep_butlerTransferTime": 0.5,
            "prep_butlerPreprocessTime": 0.0,
        },
        "otherMetric": {"other_count": 3.0},
    },
    unix_time=1795229200.5,
)
CLUSTERS = {"data": [{"kind": "KafkaCluster", "cluster_id": "c1"}]}


@pytest.fixture
def proxy() -> Iterator[Recorder]:
    with recorder() as record:
        record.answers["/v3/clusters"] = 200, CLUSTERS
        yield record


@pytest.fixture
def client(proxy: Recorder) -> Iterator[SasquatchClient]:
    client = SasquatchClient(proxy.url + "/", token="t0ken", namespace="lsst.prompt", timeout=60.0)
    yield client
    client.close()


def test_requests_are_the_golden_ones(proxy: Recorder, client: SasquatchClient) -> None:
    client.send(BUNDLE)
    assert [request.golden for request in proxy.requests] == json.loads(GOLDEN.read_text())


def test_topics_are_made_once(proxy: Recorder, client: SasquatchClient) -> None:
    client.send(BUNDLE)
    proxy.requests.clear()
    client.send(BUNDLE)
    assert proxy.paths() == [
        "POST /topics/lsst.prompt.prepButlerTimeMetric",
        "POST /topics/lsst.prompt.otherMetric",
    ]


def test_topics_that_exist(proxy: Recorder, client: SasquatchClient) -> None:
    proxy.answers["/v3/clusters/c1/topics"] = 400, {"error_code": 40002, "message": "already exists"}
    client.send(BUNDLE)
    assert sum(r.path.startswith("/topics/") for r in proxy.requests) == 2


def test_records_fit_their_schema(proxy: Recorder, client: SasquatchClient) -> None:
    client.send(BUNDLE)
    for request in proxy.requests:
        if not request.path.startswith("/topics/"):
            continue
        schema = fastavro.parse_schema(json.loads(request.body["value_schema"]))
        (record,) = request.body["records"]
        file = io.BytesIO()
        fastavro.schemaless_writer(file, schema, record["value"], strict=True)
        assert len(file.getvalue()) > 100


def test_no_token_no_header(proxy: Recorder) -> None:
    client = SasquatchClient(proxy.url, namespace="n")
    client.send(BUNDLE)
    client.close()
    assert not any("authorization" in request.headers for request in proxy.requests)


def test_a_run_that_tells_its_time() -> None:
    bundle = replace(BUNDLE, run="u/someone/20260301T000010Z", tag="HSC")
    record = sasquatch_record(bundle, {})
    assert record["timestamp"] == record["run_timestamp"] == 1772323210.0
    assert record["dataset_tag"] == "HSC"


@pytest.mark.parametrize("status", [401, 403, 404, 422, 500, 503])
def test_a_record_that_is_refused(proxy: Recorder, client: SasquatchClient, status: int) -> None:
    path = "/topics/lsst.prompt.prepButlerTimeMetric"
    proxy.answers[path] = status, {"error_code": status, "message": "no such thing"}
    with pytest.raises(TemporarilyUnavailable, match=rf"{path} answered {status}: .*no such thing") as raised:
        client.send(BUNDLE)
    assert "promptPreload_metrics" in str(raised.value) and "t0ken" not in str(raised.value)
    # The other action was sent, and nothing twice.
    paths = proxy.paths()
    assert paths.count(f"POST {path}") == 1
    assert paths[-1] == "POST /topics/lsst.prompt.otherMetric"


def test_a_topic_that_cannot_be_made(proxy: Recorder, client: SasquatchClient) -> None:
    proxy.answers["/v3/clusters/c1/topics"] = 500, {}
    with pytest.raises(TemporarilyUnavailable, match="/v3/clusters/c1/topics answered 500"):
        client.send(BUNDLE)
    assert not any(r.path.startswith("/topics/") for r in proxy.requests)
    # It is tried again with the next bundle.
    del proxy.answers["/v3/clusters/c1/topics"]
    client.send(BUNDLE)


@pytest.mark.parametrize("answer", [{}, {"data": []}, [], {"data": [{}]}, b"<html>"])
def test_an_answer_that_makes_no_sense(proxy: Recorder, client: SasquatchClient, answer: object) -> None:
    proxy.answers["/v3/clusters"] = 200, answer
    with pytest.raises(TemporarilyUnavailable, match=r"cluster_id|JSON"):
        client.send(BUNDLE)
    with pytest.raises(TemporarilyUnavailable, match="check SASQUATCH_URL and SASQUATCH_TOKEN"):
        client.check()


def test_a_proxy_that_is_too_slow(proxy: Recorder) -> None:
    proxy.open.clear()
    client = SasquatchClient(proxy.url, namespace="n", timeout=0.1)
    with pytest.raises(TemporarilyUnavailable, match="ReadTimeout"):
        client.send(BUNDLE)
    client.close()
    # The second action did not wait for the same thing.
    assert proxy.paths() in ([], ["GET /v3/clusters"])


def test_nobody_there() -> None:
    client = SasquatchClient(f"http://127.0.0.1:{free_port()}", namespace="n", timeout=60.0)
    with pytest.raises(TemporarilyUnavailable, match="ConnectError"):
        client.send(BUNDLE)
    client.close()


@pytest.mark.parametrize("url", ["sasquatch", "http://", "http://a:b:c", "ftp://x"])
def test_no_url(url: str) -> None:
    client = SasquatchClient(url, namespace="n", timeout=1.0)
    with pytest.raises(TemporarilyUnavailable, match="check SASQUATCH_URL"):
        client.send(BUNDLE)
    client.close()


def test_a_check(proxy: Recorder, client: SasquatchClient) -> None:
    client.check()
    assert proxy.paths() == ["GET /v3/clusters"]
    proxy.answers["/v3/clusters"] = 401, {}
    other = SasquatchClient(proxy.url, namespace="n")
    with pytest.raises(TemporarilyUnavailable, match="answered 401"):
        other.check()
    other.close()
