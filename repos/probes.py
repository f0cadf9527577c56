"""Looks at brokers and servers: are they there, and have they what we need?

Nothing is changed, and nothing is made: a topic that is missing stays so.
"""

from __future__ import annotations

__all__ = ["probe_bucket", "probe_datastore", "probe_http", "probe_place", "probe_stream", "probe_topics"]

from collections.abc import Iterable

import httpx
from kafka.errors import KafkaError
from redis.exceptions import RedisError

from models.errors import TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from repos.kafka_clients import create_admin
from repos.s3_client import ObjectAbsent, PassingTrouble, create_s3_client, s3_errors
from repos.visit_stream import RedisAccess

#: Seconds that a server may take to answer.
_TIMEOUT = 5.0


def probe_topics(access: KafkaAccess, topics: Iterable[str]) -> list[str]:
    """Return what is wrong with a cluster and its topics.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the cluster cannot be reached or refuses us.
    """
    admin = create_admin(access, bootstrap_timeout_ms=int(1000 * _TIMEOUT))
    try:
        there = set(admin.list_topics())
    except KafkaError as error:
        raise TemporarilyUnavailable(
            f"Kafka at {access.bootstrap} does not tell its topics: {type(error).__name__}: {error}"
        ) from error
    finally:
        admin.close()
    return [
        f"Kafka at {access.bootstrap} has no topic {topic}, or we may not see it; "
        "create it, or check its name and the user's rights"
        for topic in topics
        if topic not in there
    ]


def probe_bucket(endpoint_url: str | None, bucket: str, *, validate: bool) -> list[str]:
    """Return what is wrong with a bucket that is to be read.

    Parameters
    ----------
    endpoint_url : `str` or `None`
        The S3 server, if it is not AWS.
    bucket : `str`
    validate : `bool`
        Whether its name is held to AWS's rules.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if it may not be read.
    """
    client = create_s3_client(endpoint_url, validate_buckets=validate, read_timeout=_TIMEOUT)
    try:
        with s3_errors(f"the bucket {bucket}"):
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except (ObjectAbsent, PassingTrouble) as error:
        return [f"{error}; check IMAGE_BUCKET and S3_ENDPOINT_URL"]
    return []


def probe_datastore(repo: str) -> list[str]:
    """Return what is wrong with the place of a repository's files."""
    from lsst.daf.butler import ButlerConfig

    config = ButlerConfig(repo)
    root = str(config["datastore", "root"]).replace("<butlerRoot>", str(config.configDir))
    return probe_place(f"the datastore of {repo}", root)


def probe_place(what: str, uri: str) -> list[str]:
    """Return what is wrong with a directory, or a prefix in a bucket.

    Parameters
    ----------
    what : `str`
        What it is, for people.
    uri : `str`
    """
    from lsst.resources import ResourcePath
    from lsst.resources.s3utils import getS3Client

    place = ResourcePath(uri, forceDirectory=True)
    try:
        if place.isLocal:
            return [] if place.exists() else [f"{what} is not there: {place.ospath}"]
        if place.scheme == "s3":
            # A prefix without objects looks the same whether there is a bucket or not.
            client = getS3Client()
            try:
                client.list_objects_v2(Bucket=place.netloc, MaxKeys=1)
            except client.exceptions.NoSuchBucket:
                return [f"{what} is not there: no bucket {place.netloc}"]
            return []
        place.exists()
    except Exception as error:  # of whatever client the scheme has
        return [f"{what} at {place} cannot be read: {type(error).__name__}: {error}"]
    return []


def probe_stream(access: RedisAccess, stream: str | None = None) -> list[str]:
    """Return what is wrong with a Redis server and a stream there.

    A stream that does not exist yet is no fault: whoever comes first makes it.
    """
    where = f"Redis at {access.host}:{access.port}"
    client = access.client(_TIMEOUT)
    try:
        client.ping()
        kind = str(client.type(stream), "ascii") if stream is not None else "none"  # type: ignore[arg-type]
    except (RedisError, OSError) as error:
        return [f"{where} cannot be used: {type(error).__name__}: {error}; check host, port and password"]
    finally:
        client.close()
    if kind not in ("none", "stream"):
        return [f"{where}: {stream} is no stream but a {kind}; check the name"]
    return []


def probe_http(url: str, *, path: str = "", must_know: bool = False) -> list[str]:
    """Return what is wrong with an HTTP server.

    Parameters
    ----------
    url : `str`
    path : `str`, optional
        What is asked for, after the URL.
    must_know : `bool`, optional
        Whether the answer must be a good one; otherwise any will do, as long
        as somebody is there.
    """
    try:
        answer = httpx.get(f"{url.rstrip('/')}{path}", timeout=_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [f"{url} does not answer: {type(error).__name__}: {error}"]
    if must_know and not answer.is_success:
        return [f"{url}{path} answered {answer.status_code}"]
    return []
