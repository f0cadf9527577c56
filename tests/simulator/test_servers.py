"""Servers: they serve, keep their data over a restart, and end with their starter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import boto3
import botocore.exceptions
import psycopg2
import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from simulator.servers.errors import ServerFailed, ServerUnavailable
from simulator.servers.everything import ServerSet
from simulator.servers.kafka import KafkaServer
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.process import HOST, Server, free_port
from simulator.servers.redis import RedisServer
from simulator.servers.s3 import S3Server
from simulator.servers.schema_registry import SchemaRegistryServer
from tests.servers import had_or_skipped, unique_name

ROOT = Path(__file__).resolve().parents[2]


class Echo(Server):
    """A server that only lives: enough to try how one is started and ended."""

    def __init__(self, script: str, directory: Path, **options: object) -> None:
        super().__init__(name="echo", directory=directory, **options)  # type: ignore[arg-type]
        self._script = script

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-I", "-S", "-c", self._script, str(self.directory / "pid")]

    def answers(self) -> bool:
        return (self.directory / "pid").exists()

    @property
    def pid(self) -> int:
        return int((self.directory / "pid").read_text())


LIVES = (
    "import os, sys, time; open(sys.argv[1] + '.new', 'w').write(str(os.getpid())); "
    "os.rename(sys.argv[1] + '.new', sys.argv[1]); time.sleep(600)"
)
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + LIVES


def state(pid: int) -> str:
    """Return the kernel's letter for what a process does; Z also for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def is_alive(pid: int) -> bool:
    return state(pid) != "Z"


def wait_for_end(pid: int, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_a_server_runs_until_it_is_stopped(tmp_path: Path) -> None:
    server = Echo(LIVES, tmp_path)
    server.start()
    first = server.pid
    assert is_alive(first) and server.running
    server.start()
    assert server.pid == first, "one that runs is not started again"
    server.stop()
    assert not is_alive(first) and not server.running
    server.stop()


def test_a_server_that_does_not_want_to_end_is_killed(tmp_path: Path) -> None:
    server = Echo(STUBBORN, tmp_path)
    server.start()
    server.stop(timeout=0.3)
    assert wait_for_end(server.pid)


def test_a_server_hangs_while_it_is_paused(tmp_path: Path) -> None:
    server = Echo(LIVES, tmp_path)
    server.start()
    server.pause()
    deadline = time.monotonic() + 60.0
    while state(server.pid) != "T" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state(server.pid) == "T"
    server.resume()
    server.kill()
    assert wait_for_end(server.pid)


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no such luck"):
        Echo("raise SystemExit('no such luck')", tmp_path).start()


def test_a_server_that_does_not_come_up_is_ended(tmp_path: Path) -> None:
    server = Echo("import time; print('thinking', flush=True); time.sleep(600)", tmp_path, start_timeout=0.5)
    with pytest.raises(ServerFailed, match=r"within 0\.5 s.*\n.*thinking"):
        server.start()
    assert not server.running


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    class Missing(Echo):
        def command(self) -> Sequence[str | Path]:
            return ["/no/such/program"]

    with pytest.raises(ServerFailed, match="cannot run /no/such/program"):
        Missing("", tmp_path).start()


@pytest.mark.parametrize("script", [LIVES, STUBBORN], ids=["obedient", "stubborn"])
def test_a_server_ends_with_its_starter_even_if_that_is_killed(tmp_path: Path, script: str) -> None:
    program = (
        "import sys, threading; sys.path.insert(0, '.'); from pathlib import Path\n"
        "from tests.simulator.test_servers import Echo\n"
        f"server = Echo({script!r}, Path(sys.argv[1]))\n"
        "thread = threading.Thread(target=server.start); thread.start(); thread.join()\n"
        "print(server.pid, flush=True)\nthreading.Event().wait()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    time.sleep(0.5)
    assert is_alive(pid), "the end of the thread that started it is no reason to end"
    starter.kill()
    starter.wait()
    starter.stdout.close()
    assert wait_for_end(pid)


def test_a_temporary_directory_goes_with_its_server() -> None:
    server = SchemaRegistryServer(places=ServerSet()._places)
    server.start()
    assert server.directory.is_dir()
    server.close()
    assert not server.directory.exists()


def test_a_temporary_directory_goes_with_a_killed_starter() -> None:
    program = (
        "import sys, threading; sys.path.insert(0, '.')\n"
        "from simulator.servers.everything import ServerSet\n"
        "print(ServerSet().schema_registry.directory, flush=True)\nthreading.Event().wait()\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    directory = Path(starter.stdout.readline().strip())
    assert directory.is_dir()
    starter.kill()
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 60.0
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()


def test_ports_are_below_those_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < free_port() < lowest for _ in range(20))


def test_a_server_that_cannot_be_had_is_skipped_by_name_but_not_under_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start() -> None:
        raise ServerUnavailable("no such thing here")

    monkeypatch.setenv("CI", "true")
    with pytest.raises(ServerUnavailable):
        had_or_skipped("Hal", start)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no Hal here: no such thing here"):
        had_or_skipped("Hal", start)


def test_postgresql_keeps_databases_over_a_restart(postgresql: PostgreSQLServer) -> None:
    url = postgresql.create_database(unique_name())
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE visit (night int4range, EXCLUDE USING gist (night WITH &&))")
        cursor.execute("INSERT INTO visit VALUES ('[1, 3)')")
        cursor.execute("SHOW max_connections")
        assert cursor.fetchone() == ("100",)
    connection.close()
    postgresql.stop()
    assert not postgresql.answers()
    postgresql.start()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT lower(night), upper(night) FROM visit")
        assert cursor.fetchall() == [(1, 3)]
        cursor.execute("SHOW server_version_num")
        (version,) = cursor.fetchone() or ("0",)
        assert 150_000 <= int(version) < 180_000
    connection.close()


def test_postgresql_says_whether_it_waits_for_the_disk(postgresql: PostgreSQLServer) -> None:
    options = " ".join(map(str, postgresql.command()))
    durable = PostgreSQLServer(places=ServerSet()._places, durable=True)
    try:
        assert "fsync=off" in options
        assert "fsync=on" in " ".join(map(str, durable.command()))
    finally:
        durable.close()


def test_redis_keeps_streams_over_a_restart(redis_server: RedisServer) -> None:
    client = redis.Redis(host=HOST, port=redis_server.port)
    stream = unique_name()
    client.xadd(stream, {"detector": "3"})
    redis_server.stop()
    with pytest.raises(redis.exceptions.ConnectionError):
        client.ping()
    redis_server.start()
    assert [fields for _, fields in client.xrange(stream)] == [{b"detector": b"3"}]
    assert redis_server.host_port == f"{HOST}:{redis_server.port}"


def test_kafka_keeps_topics_over_a_restart_and_asks_for_passwords(kafka: KafkaServer) -> None:
    topic = kafka.create_topic(unique_name(), partitions=2)
    assert kafka.create_topic(topic) == topic, "one that is there stays"
    producer = KafkaProducer(
        bootstrap_servers=kafka.sasl_bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username=kafka.username,
        sasl_plain_password=kafka.password,
        enable_idempotence=True,
        acks="all",
    )
    producer.send(topic, b"before").get(20)
    producer.close()
    kafka.stop()
    kafka.start()
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=20_000
    )
    assert next(consumer).value == b"before"
    assert consumer.partitions_for_topic(topic) == {0, 1}
    consumer.close()
    with pytest.raises(KafkaError):
        KafkaProducer(
            bootstrap_servers=kafka.sasl_bootstrap,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_plain_username=kafka.username,
            sasl_plain_password="wrong",
            bootstrap_timeout_ms=3000,
            max_block_ms=3000,
        ).send(topic, b"x").get(5)


def test_s3_takes_objects_and_lists_them(s3: S3Server) -> None:
    bucket = unique_name()
    assert s3.create_bucket(bucket) == f"s3://{bucket}/"
    client = boto3.client("s3", endpoint_url=s3.endpoint_url)
    client.put_object(Bucket=bucket, Key="DemoCam/0/g/0/raw.fits", Body=b"pixels")
    assert client.get_object(Bucket=bucket, Key="DemoCam/0/g/0/raw.fits")["Body"].read() == b"pixels"
    listed = client.list_objects_v2(Bucket=bucket, Prefix="DemoCam/0/")["Contents"]
    assert [entry["Key"] for entry in listed] == ["DemoCam/0/g/0/raw.fits"]
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchBucket"):
        client.list_objects_v2(Bucket="no-such-bucket")
    with pytest.raises(ServerFailed, match="bucket x could not be made"):
        s3.create_bucket("x")


def test_the_registry_knows_schemas_by_id_also_after_a_restart(
    schema_registry: SchemaRegistryServer,
) -> None:
    subject = unique_name()
    schema = {"type": "record", "name": subject, "fields": [{"name": "a", "type": "int"}]}
    first = schema_registry.register(subject, schema)
    assert schema_registry.register(unique_name(), schema) == first
    second = schema_registry.register(subject, {**schema, "doc": "newer"})
    assert second != first
    schema_registry.stop()
    schema_registry.start()

    def get(path: str) -> tuple[int, object]:
        try:
            with urllib.request.urlopen(f"{schema_registry.url}{path}") as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    status, answer = get(f"/schemas/ids/{first}")
    assert status == 200 and isinstance(answer, dict) and json.loads(answer["schema"]) == schema
    status, answer = get(f"/subjects/{subject}/versions/latest")
    assert isinstance(answer, dict) and (answer["id"], answer["version"]) == (second, 2)
    assert get(f"/subjects/{subject}/versions") == (200, [1, 2])
    for path, code in (
        ("/schemas/ids/99999", 40403),
        ("/subjects/none/versions", 40401),
        (f"/subjects/{subject}/versions/9", 40402),
        ("/elsewhere", 404),
    ):
        status, answer = get(path)
        assert status == 404 and isinstance(answer, dict) and answer["error_code"] == code
    with pytest.raises(ServerFailed, match="Invalid schema"):
        schema_registry.register(subject, "{not JSON")


@pytest.mark.slow
def test_the_set_for_people_says_what_to_put_into_the_environment() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator.servers"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = []
    while not (line := process.stdout.readline()).startswith("# Ctrl-C"):
        assert line, "it ended"
        lines.append(line)
    assert lines.pop().startswith("# prompt-processing create-central")
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    assert {"KAFKA_CLUSTER", "S3_ENDPOINT_URL", "REDIS_STREAM_HOST", "PP_LEDGER_URL"} <= set(variables)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(120) == 0
    process.stdout.close()
