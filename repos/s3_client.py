"""How clients of an S3 server are made, and what their errors mean."""

from __future__ import annotations

__all__ = [
    "ObjectAbsent",
    "PassingTrouble",
    "create_s3_client",
    "load_service_description",
    "retry_s3",
    "s3_errors",
]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import boto3
import botocore.session
import stamina
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.handlers import validate_bucket_name
from botocore.loaders import Loader

from models.errors import TemporarilyUnavailable

T = TypeVar("T")

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


class PassingTrouble(Exception):
    """The server did not answer, or not well; it may soon."""


def load_service_description() -> Loader:
    """Read what the library knows of S3: 15 MB of Python objects, which forked
    processes can share if it is read before. Nothing is connected.
    """
    session = botocore.session.get_session()
    # Credentials may be looked for on the network, so this one goes without.
    anonymous = Config(signature_version=UNSIGNED)
    session.create_client("s3", region_name="us-east-1", config=anonymous).close()
    loader: Loader = session.get_component("data_loader")
    return loader


def create_s3_client(
    endpoint_url: str | None,
    *,
    validate_buckets: bool = True,
    description: Loader | None = None,
    read_timeout: float = _READ_TIMEOUT,
) -> Any:
    """Make a client; nothing is sent yet.

    Parameters
    ----------
    endpoint_url : `str` or `None`
        The server, for other than AWS; may hold credentials
        (``https://key:secret@host``), as in `lsst.resources`. Otherwise they
        come from where boto3 looks for them.
    validate_buckets : `bool`, optional
        Whether bucket names are held to AWS's rules, which know no tenants.
    description : `botocore.loaders.Loader`, optional
        Of `load_service_description`; read anew if not given.
    read_timeout : `float`, optional
        Seconds to wait for the next bytes of an answer.
    """
    session = botocore.session.get_session()
    if description is not None:
        session.register_component("data_loader", description)
    options: dict[str, Any] = {}
    if endpoint_url:
        parts = urlsplit(endpoint_url)
        if parts.username and parts.password:
            options["aws_access_key_id"] = unquote(parts.username)
            options["aws_secret_access_key"] = unquote(parts.password)
        address = parts.netloc.rpartition("@")[2]
        options["endpoint_url"] = parts._replace(netloc=address).geturl()
    client = boto3.Session(botocore_session=session).client(
        "s3",
        config=Config(
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=read_timeout,
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


def retry_s3(action: Callable[[], T], what: str, *, attempts: int = 1, delay: float = 0.0) -> T:
    """Do something with a server, again after a pause if it fails for now.

    Parameters
    ----------
    action : callable
        Takes no arguments; must be safe to repeat.
    what : `str`
        What is read, for the text of errors.
    attempts : `int`, optional
    delay : `float`, optional
        Seconds between two of them.

    Returns
    -------
    result
        What the action returned.

    Raises
    ------
    ObjectAbsent
        Raised if the object is not there.
    models.errors.TemporarilyUnavailable
        Raised at once if bucket, credentials or permissions are wrong, and
        after the last attempt for everything else.
    """
    try:
        for attempt in stamina.retry_context(
            on=PassingTrouble,
            attempts=attempts,
            timeout=None,
            wait_initial=delay,
            wait_max=delay,
            wait_exp_base=1,
            wait_jitter=0,
        ):
            with attempt, s3_errors(what):
                return action()
    except PassingTrouble as error:
        raise TemporarilyUnavailable(str(error)) from error
    raise AssertionError("stamina ran no attempt")


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
    PassingTrouble
        Raised for everything that may pass by waiting a little.
    models.errors.TemporarilyUnavailable
        Raised if bucket, credentials or permissions are wrong.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _ABSENT:
            raise ObjectAbsent(f"{what} does not exist") from error
        if code in _REFUSALS:
            raise TemporarilyUnavailable(f"{what} cannot be read: {_REFUSALS[code]}") from error
        raise PassingTrouble(f"{what} cannot be read now: {error}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise TemporarilyUnavailable(
            f"{what} cannot be read: {error}; set the credentials (AWS_*)"
        ) from error
    except ParamValidationError as error:
        hint = _REFUSALS["InvalidBucketName"]
        raise TemporarilyUnavailable(f"{what} cannot be read: {hint}") from error
    except (BotoCoreError, OSError) as error:
        raise PassingTrouble(f"{what} cannot be read now: {error}") from error
