"""Raw images in a bucket of a real S3 server."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self

import botocore.loaders
import botocore.session
import pytest

from models.errors import TemporarilyUnavailable, UnreadableImage
from models.raws import FoundImage, RawKey, parse_raw_key
from repos.bucket_images import BucketImageStore
from repos.raw_presence import RawPresence
from repos.s3_client import create_s3_client, load_service_description
from repos.scratch import PREFIX
from simulator.servers.s3 import S3Server
from tests.servers import unique_name

pytestmark = pytest.mark.servers

GROUP = "2026-11-21T02:47:26.177"
KEY = f"Cam/3/{GROUP}/0/17/r_01/Cam_17.fits"
STEM = "LSSTCam/20260301/MC_O_20260301_000012/MC_O_20260301_000012_R22_S11"


class Bucket:
    """A bucket of its own, and stores on it."""

    def __init__(self, server: S3Server, client: Any, name: str, scratch: Path) -> None:
        self.server = server
        self.client = client
        self.name = name
        self.scratch = scratch
        self.stores: list[BucketImageStore] = []
        self.handlers: list[tuple[str, Callable[..., None]]] = []
        client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes = b"pixels") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def store(self, **options: Any) -> BucketImageStore:
        options = {"client": self.client, "bucket": self.name, "retry_delay": 0.01, **options}
        self.stores.append(BucketImageStore(directory=self.scratch, **options))
        return self.stores[-1]

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self.client.meta.events.register(event, handler)
        self.handlers.append((event, handler))

    def count(self) -> list[str]:
        """Return the operations that are asked for from now on."""
        asked: list[str] = []

        def note(model: Any, **_: Any) -> None:
            asked.append(model.name)

        self.on("before-call.s3", note)
        return asked


@pytest.fixture(scope="module")
def client(s3_server: S3Server) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        # Kept for the whole module: the libraries take long to make one.
        yield create_s3_client(s3_server.endpoint_url, validate_buckets=False)


@pytest.fixture
def bucket(s3: S3Server, client: Any, tmp_path: Path) -> Iterator[Bucket]:
    made = Bucket(s3, client, unique_name("raws-"), tmp_path)
    yield made
    for event, handler in made.handlers:
        client.meta.events.unregister(event, handler)
    for store in made.stores:
        store.close()
    # Nothing stays behind.
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


def image(bucket: Bucket, key: str = KEY, landed: float | None = None) -> FoundImage:
    return FoundImage(raw=parse_raw_key(key), location=f"s3://{bucket.name}/{key}", landed=landed)


def test_found_by_prefix(bucket: Bucket) -> None:
    second = f"Cam/3/{GROUP}/0/18/r_01/Cam_18.fits.fz"
    for key in (
        KEY,
        second,
        f"Cam/3/{GROUP}/0/17/r_01/Cam_17.json",
        f"Cam/3/{GROUP}/0/notes.txt",
        f"Cam/3/{GROUP}/1/19/r_01/Cam_19.fits",
        f"Cam/30/{GROUP}/0/20/r_01/Cam_20.fits",
    ):
        bucket.put(key)
    found = bucket.store().find_existing("Cam", 3, GROUP, 0)
    assert found == [image(bucket), image(bucket, second)]
    assert all(f.landed is not None and f.landed > 1e9 for f in found)
    assert bucket.store().find_existing("Cam", 3, "another", 0) == []


def test_many_pages(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        bucket.put(f"Cam/3/g/0/{number}/r_01/x.fits")
    original = bucket.client.get_paginator

    def small_pages(name: str) -> Any:
        paginator = original(name)
        paginate = paginator.paginate
        paginator.paginate = lambda **kw: paginate(**kw, PaginationConfig={"PageSize": 2})
        return paginator

    monkeypatch.setattr(bucket.client, "get_paginator", small_pages)
    assert len(bucket.store().find_existing("Cam", 3, "g", 0)) == 7


@pytest.mark.parametrize("instrument", ["LSSTCam", "LATISS", "LSSTComCam", "LSSTCam-imSim"])
def test_keys_without_a_group_are_not_looked_for(bucket: Bucket, instrument: str) -> None:
    asked = bucket.count()
    assert bucket.store().find_existing(instrument, 94, "g", 0) == []
    assert asked == []


def test_fetched_once_and_with_one_request(bucket: Bucket) -> None:
    content = bytes(range(256)) * 9000
    bucket.put(KEY, content)
    asked = bucket.count()
    local = bucket.store().fetch(image(bucket))
    assert local.path.read_bytes() == content
    assert local.path.name == "Cam_17.fits"
    assert asked == ["GetObject"]


def test_when_it_landed(bucket: Bucket) -> None:
    bucket.put(KEY)
    store = bucket.store()
    written = bucket.client.head_object(Bucket=bucket.name, Key=KEY)["LastModified"].timestamp()
    assert store.fetch(image(bucket)).landed == written
    # What the notification said is finer.
    assert store.fetch(image(bucket, landed=written + 0.177)).landed == written + 0.177


def test_one_image_at_a_time_stays(bucket: Bucket) -> None:
    other = f"Cam/3/{GROUP}/1/18/r_01/Cam_18.fits"
    bucket.put(KEY)
    bucket.put(other, b"others")
    store = bucket.store()
    first = store.fetch(image(bucket)).path
    second = store.fetch(image(bucket, other)).path
    assert not first.exists()
    assert second.read_bytes() == b"others"
    # Again, as after a rejection: what it is now counts.
    bucket.put(other, b"new")
    assert store.fetch(image(bucket, other)).path.read_bytes() == b"new"


def test_deleted_between_notification_and_read(bucket: Bucket) -> None:
    bucket.put(KEY)
    bucket.client.delete_object(Bucket=bucket.name, Key=KEY)
    asked = bucket.count()
    with pytest.raises(UnreadableImage, match=rf"s3://{bucket.name}/{KEY} is not in the bucket: deleted"):
        bucket.store().fetch(image(bucket))
    # Nobody waits for what is not there.
    assert asked == ["GetObject"]


def test_key_that_exists_only_decoded(bucket: Bucket) -> None:
    bucket.put("Cam/3/g/0/17/r_01/a b.fits", b"decoded")
    encoded = image(bucket, "Cam/3/g/0/17/r%5F01/a+b.fits")
    store = bucket.store()
    assert store.fetch(encoded).path.read_bytes() == b"decoded"
    bucket.put(encoded.raw.key, b"as sent")
    assert store.fetch(encoded).path.read_bytes() == b"as sent"


class TestSidecar:
    def group(self, bucket: Bucket, content: bytes | None, key: str = f"{STEM}.fits.fz") -> str | None:
        if content is not None:
            bucket.put(f"{STEM}.json", content)
        return bucket.store().read_sidecar_group(parse_raw_key(key))

    def test_tells_the_group(self, bucket: Bucket) -> None:
        assert self.group(bucket, b'{"GROUPID": "g1", "more": 1}') == "g1"

    @pytest.mark.parametrize("content", [None, b"", b'{"GRO', b"[1]", b"{}", b'{"GROUPID": 5}', b"\xff"])
    def test_that_does_not_tell(self, bucket: Bucket, content: bytes | None) -> None:
        assert self.group(bucket, content) is None

    def test_is_read_once(self, bucket: Bucket) -> None:
        bucket.put(f"{STEM}.json", b'{"GROUPID": "g1"}')
        store, asked = bucket.store(), bucket.count()
        for _ in range(2):
            assert store.read_sidecar_group(parse_raw_key(f"{STEM}.fits")) == "g1"
        assert asked == ["GetObject"]

    def test_is_looked_for_until_it_is_there(self, bucket: Bucket) -> None:
        store = bucket.store()
        assert store.read_sidecar_group(parse_raw_key(f"{STEM}.fits")) is None
        bucket.put(f"{STEM}.json", b'{"GROUPID": "g1"}')
        assert store.read_sidecar_group(parse_raw_key(f"{STEM}.fits")) == "g1"

    def test_key_that_tells_it_itself(self, bucket: Bucket) -> None:
        asked = bucket.count()
        assert bucket.store().read_sidecar_group(parse_raw_key(KEY)) == GROUP
        assert asked == []

    def test_server_that_does_not_answer(self, bucket: Bucket) -> None:
        store = bucket.store(client=create_s3_client("http://127.0.0.1:1"))
        with pytest.raises(TemporarilyUnavailable, match=r"sidecar .* cannot be read now"):
            store.read_sidecar_group(parse_raw_key(f"{STEM}.fits"))


class TestFaults:
    def calls(self, store: BucketImageStore, found: FoundImage) -> list[Callable[[], object]]:
        raw: RawKey = parse_raw_key(f"{STEM}.fits")
        return [
            lambda: store.find_existing("Cam", 3, GROUP, 0),
            lambda: store.fetch(found),
            lambda: store.read_sidecar_group(raw),
        ]

    def test_bucket_missing(self, bucket: Bucket) -> None:
        asked = bucket.count()
        store = bucket.store(bucket="not-there")
        for call in self.calls(store, image(bucket)):
            with pytest.raises(TemporarilyUnavailable, match=r"no such bucket; check IMAGE_BUCKET"):
                call()
        # Waiting makes no buckets.
        assert asked == ["ListObjectsV2", "GetObject", "GetObject"]

    @pytest.mark.parametrize(
        ("code", "status", "text"),
        [
            ("AccessDenied", 403, "access is denied; check the credentials"),
            ("InvalidAccessKeyId", 403, "access key is not known"),
            ("SignatureDoesNotMatch", 403, "secret key is wrong"),
        ],
    )
    def test_credentials_wrong(self, bucket: Bucket, code: str, status: int, text: str) -> None:
        with Refusing(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>") as server:
            store = bucket.store(client=create_s3_client(server.url))
            for call in self.calls(store, image(bucket)):
                with pytest.raises(TemporarilyUnavailable, match=text):
                    call()
            assert len(server.requests) == 3

    def test_no_credentials(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = bucket.store(client=create_s3_client(bucket.server.endpoint_url))
        with pytest.raises(TemporarilyUnavailable, match=r"set the credentials \(AWS_\*\)"):
            store.fetch(image(bucket))

    def test_credentials_in_the_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        client = create_s3_client("https://the%2Fkey:the%2Fsecret@s3.example.org:9000/")
        assert client.meta.endpoint_url == "https://s3.example.org:9000/"
        credentials = client._request_signer._credentials
        assert (credentials.access_key, credentials.secret_key) == ("the/key", "the/secret")

    def test_the_description_of_s3_is_shared(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        description = load_service_description()
        bucket.put(KEY, b"pixels")
        # Whatever a slot reads again, it has for itself alone.
        monkeypatch.setattr(botocore.loaders.JSONFileLoader, "load_file", None)
        with pytest.raises(TypeError):
            create_s3_client(bucket.server.endpoint_url)
        store = bucket.store(client=create_s3_client(bucket.server.endpoint_url, description=description))
        assert store.fetch(image(bucket)).path.read_bytes() == b"pixels"

    def test_no_credentials_are_looked_for_to_read_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(botocore.session.Session, "get_credentials", None)
        assert load_service_description() is not None

    def test_server_that_recovers(self, bucket: Bucket) -> None:
        bucket.put(KEY, b"pixels")
        failures = iter([1, 1, 1])

        def fail(**_: Any) -> None:
            if next(failures, None):
                raise ConnectionResetError("reset by peer")

        bucket.on("before-send.s3", fail)
        assert bucket.store().fetch(image(bucket)).path.read_bytes() == b"pixels"

    def test_server_that_does_not(self, bucket: Bucket) -> None:
        store = bucket.store(client=create_s3_client("http://127.0.0.1:1"))
        asked = []
        store._client.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
        with pytest.raises(TemporarilyUnavailable, match=r"cannot be read now: Could not connect"):
            store.fetch(image(bucket))
        assert asked == ["GetObject"] * 4
        with pytest.raises(TemporarilyUnavailable, match=r"what is under .* cannot be read now"):
            store.find_existing("Cam", 3, GROUP, 0)

    def test_tenant_without_the_setting(self, bucket: Bucket) -> None:
        store = bucket.store(client=create_s3_client(bucket.server.endpoint_url), bucket="tenant:raws")
        with pytest.raises(TemporarilyUnavailable, match="LSST_DISABLE_BUCKET_VALIDATION=1"):
            store.find_existing("Cam", 3, GROUP, 0)


def test_bucket_of_a_tenant(s3: S3Server, client: Any, tmp_path: Path) -> None:
    bucket = Bucket(s3, client, f"tenant:{unique_name('raws-')}", tmp_path)
    bucket.put(KEY, b"pixels")
    store = bucket.store()
    [found] = store.find_existing("Cam", 3, GROUP, 0)
    assert found.location == f"s3://{bucket.name}/{KEY}"
    assert store.fetch(found).path.read_bytes() == b"pixels"


class Refusing:
    """An HTTP server with one answer; a context manager."""

    def __init__(self, status: int, body: str, content_type: str = "application/xml") -> None:
        outer = self
        self.requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                content = body.encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class TestMicroservice:
    def ask(
        self, bucket: Bucket, body: Any, *, instrument: str = "LSSTCam", status: int = 200
    ) -> list[FoundImage]:
        text = body if isinstance(body, str) else json.dumps(body)
        with Refusing(status, text, "application/json") as server:
            presence = RawPresence(f"{server.url}/presence/")
            store = bucket.store(presence=presence, detector_names={94: "R22_S11"})
            found = store.find_existing(instrument, 94, GROUP, 0)
            assert server.requests == [f"/presence/{instrument}/{GROUP}/0/R22_S11"]
            return found

    def test_says_where_it_is(self, bucket: Bucket) -> None:
        # The service may know the bucket by another name.
        uri = f"s3://another/{STEM}.fits.fz"
        [found] = self.ask(bucket, {"error": False, "message": "", "present": True, "uri": uri})
        assert found.location == f"s3://{bucket.name}/{STEM}.fits.fz"
        assert found.raw.exposure_id == 2026030100012
        # It was asked for the group, so nobody needs a sidecar.
        assert found.raw.group == GROUP

    def test_says_that_there_is_none(self, bucket: Bucket) -> None:
        bucket.put(f"Cam/94/{GROUP}/0/17/r_01/x.fits")
        absent = {"error": False, "message": "", "present": False, "uri": ""}
        assert self.ask(bucket, absent, instrument="Cam") == []

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"error": True, "message": "out of order", "present": False, "uri": ""}, 200),
            ({"error": False, "message": "", "present": True, "uri": "s3://raws"}, 200),
            ({"error": False, "message": "", "present": True, "uri": None}, 200),
            ({"error": False, "message": "", "present": True, "uri": "s3://raws/what/is/this.txt"}, 200),
            ({"error": False}, 200),
            ({"present": "perhaps"}, 200),
            ("not JSON", 200),
            ("[]", 200),
            ({"error": False, "message": "", "present": False, "uri": ""}, 500),
            ({"error": False, "message": "", "present": False, "uri": ""}, 404),
        ],
        ids=str,
    )
    def test_any_failure_falls_back(self, bucket: Bucket, body: Any, status: int) -> None:
        bucket.put(f"Cam/94/{GROUP}/0/17/r_01/x.fits")
        [found] = self.ask(bucket, body, instrument="Cam", status=status)
        assert found.raw.exposure_id == 17

    def test_is_away(self, bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
        bucket.put(f"Cam/94/{GROUP}/0/17/r_01/x.fits")
        store = bucket.store(presence=RawPresence("http://127.0.0.1:1"), detector_names={94: "R22_S11"})
        assert len(store.find_existing("Cam", 94, GROUP, 0)) == 1
        assert "http://127.0.0.1:1/Cam/" in caplog.text

    def test_is_slow(self, bucket: Bucket) -> None:
        bucket.put(f"Cam/94/{GROUP}/0/17/r_01/x.fits")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            store = bucket.store(presence=RawPresence(url, timeout=0.1), detector_names={94: "R22_S11"})
            assert len(store.find_existing("Cam", 94, GROUP, 0)) == 1

    def test_detector_without_a_name(self, bucket: Bucket) -> None:
        bucket.put(KEY)
        store = bucket.store(presence=RawPresence("http://127.0.0.1:1"), detector_names={})
        assert len(store.find_existing("Cam", 3, GROUP, 0)) == 1

    def test_answers_with_an_encoded_key(self, bucket: Bucket) -> None:
        uri = f"s3://raws/{STEM}.fits".replace("/MC_O", "%2FMC_O")
        [found] = self.ask(bucket, {"error": False, "message": "", "present": True, "uri": uri})
        assert found.raw.key == f"{STEM}.fits"
