"""Delivers raw images into a bucket, and says so on Kafka."""

from __future__ import annotations

__all__ = ["BucketDelivery", "StagedObject"]

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import boto3


@dataclass(frozen=True)
class StagedObject:
    """An image that is rendered, but not in the bucket yet.

    Attributes
    ----------
    key : `str`
    content : `bytes`
    deliver : callable
        Takes both; returns the time at which the object was there.
    """

    key: str
    content: bytes
    deliver: Callable[[str, bytes], float]

    def release(self) -> float:
        """Put the object and tell of it.

        Returns
        -------
        time : `float`
            UTC unix time at which the object was there.
        """
        return self.deliver(self.key, self.content)

    def discard(self) -> None:
        """Nothing was stored before the release."""


class BucketDelivery:
    """Puts raw images into a bucket, for whoever listens to its notifications.

    Stores in the field send notifications to Kafka themselves. The servers
    that can be had for tests do not, so the record that such a store would
    send is written here.

    Parameters
    ----------
    bucket : `str`
    notify : callable
        Sends a notification.
    endpoint_url : `str`, optional
        S3 server; the environment's if not given.
    """

    def __init__(
        self, *, bucket: str, notify: Callable[[bytes], None], endpoint_url: str | None = None
    ) -> None:
        self._bucket = bucket
        self._notify = notify
        self._client = boto3.client("s3", endpoint_url=endpoint_url)

    def stage(self, key: str, content: bytes) -> StagedObject:
        """Keep an image until it is to be seen."""
        return StagedObject(key, content, self.deliver)

    def deliver(self, key: str, content: bytes) -> float:
        """Put an object and send its notification.

        Returns
        -------
        time : `float`
            UTC unix time at which the object was there.
        """
        answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=content)
        there = time.time()
        self._notify(
            json.dumps(
                notification(self._bucket, key, size=len(content), etag=answer["ETag"].strip('"'), at=there)
            ).encode()
        )
        return there


def notification(bucket: str, key: str, *, size: int, etag: str, at: float) -> dict[str, Any]:
    """Return the record that a store sends for a new object.

    The form is that of Amazon S3's event messages, version 2.1, in which the
    key is URL-encoded; https://docs.aws.amazon.com/AmazonS3/latest/userguide/
    notification-content-structure.html.

    Parameters
    ----------
    bucket, key : `str`
    size : `int`
        Bytes.
    etag : `str`
    at : `float`
        UTC unix time.
    """
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "",
        "eventTime": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key, safe="/"), "size": size, "eTag": etag},
        },
    }
    return {"Records": [record]}
