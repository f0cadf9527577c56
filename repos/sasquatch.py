"""Metrics to Sasquatch, the observatory's telemetry, through its Kafka REST proxy.

What is sent is what the observatory's own ``SasquatchDispatcher``
(``lsst.analysis.tools``) sends, so that what reads it there need not know the
difference. The Butler could do the same by a ``SasquatchDatastore`` in a
chained datastore, but then each `put` would wait for the proxy, and one that
is away would fail the visit's export.
"""

from __future__ import annotations

__all__ = ["SasquatchClient", "sasquatch_record"]

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from models.errors import TemporarilyUnavailable
from models.metrics import MeasuredBundle

#: Coordinates that every record has, as text; empty if they do not apply.
_IDENTIFIERS = (
    "detector",
    "patch",
    "skymap",
    "visit",
    "tract",
    "physical_filter",
    "instrument",
    "band",
    "exposure",
    "group",
    "day_obs",
)
#: How topics are made, as the observatory makes them.
_PARTITIONS = 1
_REPLICATION_FACTOR = 3
#: Last part of a run's name that tells when it was begun.
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")
_AVRO_TYPES = {str: "string", int: "long", float: "double"}


class SasquatchClient:
    """Sends metrics, one record an action, each to the action's own topic.

    Parameters
    ----------
    url : `str`
        Root of the REST proxy.
    token : `str`
        Bearer token; empty for none.
    namespace : `str`
        What topics begin with.
    timeout : `float`
        Seconds for one request.
    """

    def __init__(self, url: str, *, token: str = "", namespace: str, timeout: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._namespace = namespace
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(headers=headers, timeout=timeout)
        self._cluster: str | None = None
        self._topics: set[str] = set()

    def send(self, bundle: MeasuredBundle) -> None:
        """Send a bundle; each action is tried once, whatever became of others.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if any of it was not taken.
        """
        faults = []
        for action, values in bundle.values.items():
            try:
                self._create_topic(action)
                self._post(
                    f"/topics/{self._namespace}.{action}",
                    self._body(action, sasquatch_record(bundle, values)),
                    "application/vnd.kafka.avro.v2+json",
                )
            except (httpx.HTTPError, httpx.InvalidURL, LookupError, ValueError) as error:
                faults.append(f"{action}: {_describe(error)}")
                if isinstance(error, httpx.TransportError | httpx.InvalidURL):
                    break  # The others would fare no better, each after a while.
        if faults:
            raise TemporarilyUnavailable(
                f"{bundle.dataset_type} was not taken by Sasquatch at {self._url}: {'; '.join(faults)}; "
                "check SASQUATCH_URL and SASQUATCH_TOKEN"
            )

    def check(self) -> None:
        """Ask the proxy for its cluster.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it does not answer as it should.
        """
        try:
            self._find_cluster()
        except (httpx.HTTPError, httpx.InvalidURL, LookupError, ValueError) as error:
            raise TemporarilyUnavailable(
                f"Sasquatch at {self._url}: {_describe(error)}; check SASQUATCH_URL and SASQUATCH_TOKEN"
            ) from error

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def _body(self, action: str, record: Mapping[str, Any]) -> dict[str, Any]:
        schema = {
            "type": "record",
            "namespace": self._namespace,
            "name": action,
            "fields": [{"name": name, "type": _AVRO_TYPES[type(value)]} for name, value in record.items()],
        }
        # The schema is text within the JSON.
        return {"value_schema": json.dumps(schema), "records": [{"value": dict(record)}]}

    def _create_topic(self, action: str) -> None:
        if action in self._topics:
            return
        topic = {
            "topic_name": f"{self._namespace}.{action}",
            "partitions_count": _PARTITIONS,
            "replication_factor": _REPLICATION_FACTOR,
        }
        try:
            self._post(f"/v3/clusters/{self._find_cluster()}/topics", topic, "application/json")
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.BAD_REQUEST:
                raise
            # That is what the proxy says of a topic that exists.
        self._topics.add(action)

    def _find_cluster(self) -> str:
        if self._cluster is None:
            response = self._client.get(f"{self._url}/v3/clusters")
            response.raise_for_status()
            try:
                self._cluster = str(response.json()["data"][0]["cluster_id"])
            except (LookupError, TypeError) as error:
                raise ValueError("the answer of /v3/clusters has no data[0].cluster_id") from error
        return self._cluster

    def _post(self, path: str, body: Mapping[str, Any], content_type: str) -> None:
        content = json.dumps(body).encode()
        response = self._client.post(
            f"{self._url}{path}", content=content, headers={"content-type": content_type}
        )
        response.raise_for_status()


def sasquatch_record(bundle: MeasuredBundle, values: Mapping[str, float]) -> dict[str, Any]:
    """Return the record of one action: what it belongs to, and its metrics.

    Times are UTC unix seconds.
    """
    run_time = bundle.unix_time
    last = bundle.run.rpartition("/")[2]
    if _TIMESTAMP.fullmatch(last):
        run_time = datetime.strptime(last, "%Y%m%dT%H%M%S%z").timestamp()
    return {
        "id": bundle.id,
        "run": bundle.run,
        "dataset_type": bundle.dataset_type,
        "reference_package": "",
        "reference_package_version": "",
        "reference_package_timestamp": 0.0,
        "run_timestamp": run_time,
        "timestamp": run_time,
        "dataset_tag": bundle.tag or "Generic",
        **{name: str(bundle.data_id.get(name, "")) for name in _IDENTIFIERS},
        **values,
    }


def _describe(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.request.url.path} answered {error.response.status_code}: {error.response.text[:200]}"
    return f"{type(error).__name__}: {error}"
