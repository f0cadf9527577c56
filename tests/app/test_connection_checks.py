"""``check`` looks at real brokers and servers, and names everything wrong at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import typer
import yaml
from typer.testing import CliRunner

from app.check_runs import run_checks
from app.commands.check import check
from app.component_checks import component_checks, configured_components
from app.connection_checks import service_connection_checks
from config.fan_out_settings import FanOutSettings
from config.settings import ServiceSettings, load_service_settings
from config.stream_settings import StreamSettings
from config.writer_settings import WriterSettings
from repos.probes import probe_http
from simulator.servers.kafka import KafkaServer
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.process import free_port
from simulator.servers.redis import RedisServer
from simulator.servers.s3 import S3Server
from simulator.servers.schema_registry import SchemaRegistryServer
from tests.config.test_settings import ENOUGH
from tests.repos.http_recorder import Recorder, recorder
from tests.servers import unique_name


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def http() -> Iterator[Recorder]:
    with recorder() as record:
        record.answers["/v3/clusters"] = 200, {"data": [{"cluster_id": "c1"}]}
        yield record


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (ServiceSettings, StreamSettings, FanOutSettings, WriterSettings):
        for name in cls.variables():
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def variables(tmp_path: Path, kafka: KafkaServer, s3: S3Server, http: Recorder) -> dict[str, str]:
    """A service whose connections are all there."""
    enough = {name: value for name, value in ENOUGH.items() if name != "PP_IMAGE_DIRECTORY"}
    bucket = unique_name("raws")
    s3.create_bucket(bucket)
    return {
        **enough,
        "PP_STATE_DIR": str(tmp_path),
        "IMAGE_BUCKET": bucket,
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "KAFKA_CLUSTER": kafka.sasl_bootstrap,
        "PP_BUCKET_KAFKA_USERNAME": kafka.username,
        "PP_BUCKET_KAFKA_PASSWORD": kafka.password,
        "BUCKET_TOPIC": kafka.create_topic(unique_name("notifications")),
        "USE_KAFKA_BUTLER_WRITER": "1",
        "BUTLER_WRITER_KAFKA_CLUSTER": kafka.sasl_bootstrap,
        "BUTLER_WRITER_KAFKA_TOPIC": kafka.create_topic(unique_name("writer")),
        "BUTLER_WRITER_KAFKA_USERNAME": kafka.username,
        "BUTLER_WRITER_KAFKA_PASSWORD": kafka.password,
        "AP_KAFKA_SERVER": kafka.bootstrap,
        "AP_KAFKA_TOPIC": kafka.create_topic(unique_name("alerts")),
        "SASQUATCH_URL": http.url,
        "RAW_MICROSERVICE": http.url,
    }


def service_faults(variables: dict[str, str]) -> list[str]:
    return run_checks(service_connection_checks(load_service_settings(variables)))


@pytest.mark.servers
class TestService:
    def test_all_is_there(self, variables: dict[str, str]) -> None:
        assert service_faults(variables) == []

    def test_nothing_is_made(self, variables: dict[str, str]) -> None:
        name = unique_name("missing")
        for _ in range(2):
            (fault,) = service_faults({**variables, "AP_KAFKA_TOPIC": name})
            assert f"has no topic {name}" in fault

    def test_everything_that_is_wrong(self, variables: dict[str, str], nobody: str) -> None:
        wrong = {
            "IMAGE_BUCKET": unique_name("b"),
            "BUCKET_TOPIC": unique_name("missing"),
            "BUTLER_WRITER_KAFKA_PASSWORD": "guess",
            "AP_KAFKA_SERVER": nobody,
            "SASQUATCH_URL": f"http://{nobody}",
            "RAW_MICROSERVICE": f"http://{nobody}/presence",
        }
        faults = service_faults({**variables, **wrong})
        assert len(faults) == 6
        text = "\n".join(faults)
        assert "there is no such bucket; check IMAGE_BUCKET" in text
        assert f"has no topic {wrong['BUCKET_TOPIC']}" in text
        assert "check address, user and password" in text and "guess" not in text
        assert f"Kafka at {nobody} cannot be used" in text
        assert "check SASQUATCH_URL and SASQUATCH_TOKEN" in text
        assert f"http://{nobody}/presence does not answer" in text

    def test_keys_of_the_bucket(self, variables: dict[str, str], nobody: str) -> None:
        (fault,) = service_faults({**variables, "S3_ENDPOINT_URL": f"http://{nobody}"})
        assert f"the bucket {variables['IMAGE_BUCKET']} cannot be read" in fault

    @pytest.mark.usefixtures("no_settings")
    def test_a_ledger_that_is_not_made_yet(
        self, postgresql: PostgreSQLServer, variables: dict[str, str], tmp_path: Path
    ) -> None:
        faults = {}
        urls = {
            "new": postgresql.create_database(unique_name("d")),
            "absent": postgresql.url(unique_name("d")),
        }
        for name, url in urls.items():
            file = tmp_path / f"{name}.yaml"
            file.write_text(yaml.safe_dump({**variables, "PP_LEDGER_URL": url}))
            checks = [c for c in component_checks("service", file) if c.name == "ledger"]
            faults[name] = run_checks(checks)
        assert faults["new"] == []
        assert len(faults["absent"]) == 1 and "does not exist" in faults["absent"][0]


@pytest.mark.servers
class TestOtherComponents:
    @pytest.fixture
    def settings(
        self,
        tmp_path: Path,
        kafka: KafkaServer,
        redis_server: RedisServer,
        schema_registry: SchemaRegistryServer,
        http: Recorder,
        no_settings: None,
    ) -> dict[str, dict[str, str]]:
        """Sections of a settings file, all well."""
        routes = tmp_path / "routes.yaml"
        routes.write_text(
            yaml.safe_dump(
                {
                    "knative-urls": {"DemoCam": http.url},
                    "redis-streams": {"DemoCam": "s"},
                    "detectors": {"DemoCam": {0: True}},
                }
            )
        )
        return {
            "service": {
                "REDIS_STREAM_HOST": redis_server.host_port,
                "REDIS_STREAM_NAME": unique_name("stream"),
                "REDIS_STREAM_CONSUMER_GROUP": "g",
                **ENOUGH,
                "PP_STATE_DIR": str(tmp_path),
            },
            "fan-out": {
                "KAFKA_CLUSTER": kafka.sasl_bootstrap,
                "SASL_USERNAME": kafka.username,
                "SASL_PASSWORD": kafka.password,
                "NEXT_VISIT_TOPIC": kafka.create_topic(unique_name("visits")),
                "CONSUMER_GROUP": "g",
                "SUPPORTED_INSTRUMENTS": "DemoCam",
                "INSTRUMENT_CONFIG_FILE": str(routes),
                "KAFKA_SCHEMA_REGISTRY_URL": schema_registry.url,
                "REDIS_HOST": redis_server.host_port,
            },
            "writer": {
                "BUTLER_REPOSITORY": str(tmp_path / "nowhere"),
                "KAFKA_CLUSTER": kafka.bootstrap,
                "KAFKA_TOPIC": kafka.create_topic(unique_name("writer")),
                "KAFKA_OUTPUT_TOPIC": kafka.create_topic(unique_name("events")),
                "PP_WRITER_DEAD_LETTER_TOPIC": kafka.create_topic(unique_name("letters")),
                "OUTPUT_DATASET_LIST_DIRECTORY": str(tmp_path),
            },
        }

    @staticmethod
    def faults(settings: dict[str, dict[str, str]], component: str, directory: Path) -> list[str]:
        file = directory / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        return run_checks(component_checks(component, file, alone=False))

    def test_all_is_there(self, settings: dict[str, dict[str, str]], tmp_path: Path, http: Recorder) -> None:
        assert self.faults(settings, "worker", tmp_path) == []
        assert self.faults(settings, "fan-out", tmp_path) == []
        # Somebody was asked where the visits go.
        assert http.paths() == ["GET /health"]
        settings["fan-out"]["PLATFORM"] = "keda"
        assert self.faults(settings, "fan-out", tmp_path) == []
        # The writer has all but its repo.
        (fault,) = self.faults(settings, "writer", tmp_path)
        assert "nowhere" in fault

    def test_everything_that_is_wrong(
        self, settings: dict[str, dict[str, str]], tmp_path: Path, nobody: str, redis_server: RedisServer
    ) -> None:
        host, _, port = redis_server.host_port.rpartition(":")
        with redis.Redis(host, int(port)) as client:
            client.set(settings["service"]["REDIS_STREAM_NAME"], "text")
        (fault,) = self.faults(settings, "worker", tmp_path)
        assert "is no stream but a string" in fault
        settings["service"]["REDIS_STREAM_HOST"] = nobody
        (fault,) = self.faults(settings, "worker", tmp_path)
        assert f"Redis at {nobody} cannot be used" in fault

        settings["fan-out"] |= {
            "PLATFORM": "keda",
            "REDIS_HOST": nobody,
            "NEXT_VISIT_TOPIC": unique_name("missing"),
            "KAFKA_SCHEMA_REGISTRY_URL": f"http://{nobody}",
            "SUPPORTED_INSTRUMENTS": "DemoCam HillCam",
        }
        text = "\n".join(self.faults(settings, "fan-out", tmp_path))
        for part in ("detectors.HillCam is missing", "has no topic missing", "does not answer", "Redis at"):
            assert part in text

        settings["writer"]["KAFKA_TOPIC"] = unique_name("missing")
        settings["writer"]["KAFKA_OUTPUT_TOPIC"] = unique_name("absent")
        text = "\n".join(self.faults(settings, "writer", tmp_path))
        assert "has no topic missing" in text and "has no topic absent" in text

    def test_where_the_writer_writes(
        self, settings: dict[str, dict[str, str]], tmp_path: Path, s3: S3Server
    ) -> None:
        bucket = unique_name("lists")
        s3.create_bucket(bucket)
        for place, part in (
            (str(tmp_path / "lists"), "OUTPUT_DATASET_LIST_DIRECTORY is not there"),
            (f"s3://{unique_name('b')}/lists", "OUTPUT_DATASET_LIST_DIRECTORY is not there: no bucket"),
            (f"s3://{bucket}/lists", None),
        ):
            settings["writer"]["OUTPUT_DATASET_LIST_DIRECTORY"] = place
            faults = [f for f in self.faults(settings, "writer", tmp_path) if "DATASET_LIST" in f]
            assert len(faults) == (part is not None)
            assert part is None or part in faults[0]

    def test_by_default_what_is_configured(self, settings: dict[str, dict[str, str]], tmp_path: Path) -> None:
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        assert configured_components(file) == ["service", "worker", "fan-out", "writer"]
        del settings["writer"], settings["fan-out"]
        file.write_text(yaml.safe_dump(settings))
        assert configured_components(file) == ["service", "worker"]


def test_a_url_that_knows_nothing(http: Recorder) -> None:
    http.answers["/subjects"] = 404, {}
    assert probe_http(http.url, path="/subjects") == []
    (fault,) = probe_http(http.url, path="/subjects", must_know=True)
    assert "/subjects answered 404" in fault


@pytest.mark.usefixtures("no_settings")
def test_faults_in_the_settings_of_each_component(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        yaml.safe_dump({"fan-out": {"NEXT_VISIT_TOPIC": "t"}, "writer": {"BUTLER_REPOSITORY": "/r"}})
    )
    app = typer.Typer()
    app.command()(check)
    result = CliRunner().invoke(app, ["--settings", str(file)])
    assert result.exit_code == 1
    for part in ("service: settings", "CENTRAL_REPO: is not set", "fan-out: settings", "writer: settings"):
        assert part in result.output
    assert "3 things to put right." in result.output
    only = CliRunner().invoke(app, ["--settings", str(file), "--component", "writer"])
    assert "KAFKA_OUTPUT_TOPIC: is not set" in only.output and "CENTRAL_REPO" not in only.output
