"""How clients of an S3 server are made, and what their errors mean."""

from __future__ import annotations

__all__ = ["ObjectAbsent", "StoreRefused", "StoreUnavailable", "create_s3_client", "s3_errors"]

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.handlers import validate_bucket_name

from models.errors import TemporarilyUnavailable

#: Seconds to wait for a connection, and for the next bytes of an answer.
_CONNECT_TIMEOUT = 3.0
_READ_TIMEOUT = 20.0
#: What servers call an object that is not there.
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
#: What will not pass by waiting, and what to look at.
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket; check IMAGE_BUCKET and S3_ENDPOINT_URL",
    "InvalidBucketName": "that is no name of a bucket; check IMAGE_BUCKET, and if it names a tenant, "
    "set LSST_DISABLE_BUCKET_VALIDATION=1",
    "AccessDenied": "access is denied; check the credentials (AWS_*) and the bucket's policy",
    "InvalidAccessKeyId": "the access key is not known; check the credentials (AWS_*)",
    "SignatureDoesNotMatch": "the secret key is wrong; check the credentials (AWS_*)",
    "ExpiredToken": "the credentials (AWS_*) have expired",
    "403": "access is denied; check the credentials (AWS_*) and the bucket's policy",
}


class ObjectAbsent(Exception):
    """There is no such object."""


class StoreRefused(TemporarilyUnavailable):
    """The server answered, and waiting will not change its mind."""


class StoreUnavailable(TemporarilyUnavailable):
    """The server did not answer, or not well; it may soon."""


def create_s3_client(endpoint_url: str | None, *, validate_buckets: bool = True) -> Any:
    """Make a client; nothing is sent yet.

    Parameters
    ----------
    endpoint_url : `str` or `None`
        The server, for other than AWS; may hold credentials
        (``https://key:secret@host``), as in `lsst.resources`. Otherwise they
        come from where boto3 looks for them.
    validate_buckets : `bool`, optional
        Whether bucket names are held to AWS's rules, which know no tenants.
    """
    options: dict[str, Any] = {}
    if endpoint_url:
        parts = urlsplit(endpoint_url)
        if parts.username and parts.password:
            options["aws_access_key_id"] = unquote(parts.username)
            options["aws_secret_access_key"] = unquote(parts.password)
        address = parts.netloc.rpartition("@")[2]
        options["endpoint_url"] = parts._replace(netloc=address).geturl()
    client = boto3.Session().client(
        "s3",
        config=Config(
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": 2},
            tcp_keepalive=True,
            # Older servers know no checksums, and a raw that is cut or damaged
            # shows when it is read.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
        **options,
    )
    if not validate_buckets:
        client.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
    return client


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Translate a client's errors.

    Parameters
    ----------
    what : `str`
        What is read, for the text of errors.

    Raises
    ------
    ObjectAbsent
        Raised if the object is not there.
    StoreRefused
        Raised if bucket, credentials or permissions are wrong.
    StoreUnavailable
        Raised for everything that may pass.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _ABSENT:
            raise ObjectAbsent(f"{what} does not exist") from error
        if code in _REFUSALS:
            raise StoreRefused(f"{what} cannot be read: {_REFUSALS[code]}") from error
        raise StoreUnavailable(f"{what} cannot be read now: {error}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreRefused(f"{what} cannot be read: {error}; set the credentials (AWS_*)") from error
    except ParamValidationError as error:
        hint = _REFUSALS["InvalidBucketName"]
        raise StoreRefused(f"{what} cannot be read: {hint} ({error})") from error
    except (BotoCoreError, OSError) as error:
        raise StoreUnavailable(f"{what} cannot be read now: {error}") from error
