"""Delivers raw images into a bucket, and says so on Kafka."""

from __future__ import annotations

__all__ = ["BucketDelivery", "StagedObject"]

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, unquote, urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from models.errors import InvalidConfiguration, TemporarilyUnavailable


class StagedObject:
    """An image that is rendered, but not in the bucket yet.

    Parameters
    ----------
    key : `str`
    content : `bytes`
        Kept no longer than needed: a night's images do not fit into memory.
    deliver : callable
        Takes both; returns the time at which the object was there.
    """

    def __init__(self, key: str, content: bytes, deliver: Callable[[str, bytes], float]) -> None:
        self._key = key
        self._content: bytes | None = content
        self._deliver = deliver

    def release(self) -> float:
        """Put the object and tell of it.

        Returns
        -------
        time : `float`
            UTC unix time at which the object was there.

        Raises
        ------
        RuntimeError
            Raised if that was done, or the object discarded, before.
        """
        if self._content is None:
            raise RuntimeError(f"{self._key} cannot be delivered again")
        content, self._content = self._content, None
        return self._deliver(self._key, content)

    def discard(self) -> None:
        """Forget the image; nothing was stored before the release."""
        self._content = None


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
        S3 server; the environment's if not given. May hold credentials
        (``https://key:secret@host``).
    """

    def __init__(
        self, *, bucket: str, notify: Callable[[bytes], None], endpoint_url: str | None = None
    ) -> None:
        self._bucket = bucket
        self._notify = notify
        self._client = _create_client(endpoint_url)

    def check(self) -> None:
        """Look whether the bucket is there.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if it is not.
        models.errors.TemporarilyUnavailable
            Raised if the server does not answer, or refuses to.
        """
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
                raise InvalidConfiguration(
                    f"there is no bucket {self._bucket} on {self._client.meta.endpoint_url}"
                ) from error
            raise self._trouble(error) from error
        except BotoCoreError as error:
            raise self._trouble(error) from error

    def stage(self, key: str, content: bytes) -> StagedObject:
        """Keep an image until it is to be seen."""
        return StagedObject(key, content, self.deliver)

    def deliver(self, key: str, content: bytes) -> float:
        """Put an object and send its notification.

        Returns
        -------
        time : `float`
            UTC unix time at which the object was there.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the server does not take it.
        """
        try:
            answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=content)
        except (ClientError, BotoCoreError) as error:
            raise self._trouble(error) from error
        there = time.time()
        self._notify(
            json.dumps(
                notification(self._bucket, key, size=len(content), etag=answer["ETag"].strip('"'), at=there)
            ).encode()
        )
        return there

    def _trouble(self, error: Exception) -> TemporarilyUnavailable:
        return TemporarilyUnavailable(
            f"bucket {self._bucket} on {self._client.meta.endpoint_url} takes no images: {error}"
        )


def _create_client(endpoint_url: str | None) -> Any:
    options: dict[str, Any] = {}
    if endpoint_url:
        parts = urlsplit(endpoint_url)
        if parts.username and parts.password:
            options["aws_access_key_id"] = unquote(parts.username)
            options["aws_secret_access_key"] = unquote(parts.password)
        options["endpoint_url"] = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return boto3.client("s3", **options)


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
