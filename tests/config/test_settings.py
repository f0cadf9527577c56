"""Settings: defaults, environment and file, and every fault at once."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config.environment import OTHER_VARIABLES, library_variables
from config.loading import SETTINGS_FILE
from config.settings import (
    PROJECT,
    LocalRepoForm,
    ServiceSettings,
    load_ledger_settings,
    load_service_settings,
)
from config.values import CacheLimits
from models.errors import InvalidConfiguration
from tests.conftest import SHARED

ENOUGH = {
    "RUBIN_INSTRUMENT": "DemoCam",
    "SKYMAP": "demo",
    "CENTRAL_REPO": "/data/central",
    "CONFIG_APDB": "/data/apdb.yaml",
    "MAIN_PIPELINES_CONFIG": "- pipelines: [/p/ApPipe.yaml]",
    "PREPROCESSING_PIPELINES_CONFIG": "- pipelines: null",
    "PP_IMAGE_DIRECTORY": "/data/raws",
}
IN_SERVICE = {
    **{k: v for k, v in ENOUGH.items() if k != "PP_IMAGE_DIRECTORY"},
    "IMAGE_BUCKET": "raws",
    "KAFKA_CLUSTER": "kafka:9092",
}


def load(
    changes: Mapping[str, str | None] | None = None, base: Mapping[str, str] = ENOUGH
) -> ServiceSettings:
    variables = {**base, **(changes or {})}
    return load_service_settings({k: v for k, v in variables.items() if v is not None})


def faults(changes: Mapping[str, str | None], base: Mapping[str, str] = ENOUGH) -> list[str]:
    with pytest.raises(InvalidConfiguration) as caught:
        load(changes, base)
    head, *lines = str(caught.value).splitlines()
    assert head == "settings that are missing or wrong:"
    return [line.strip() for line in lines]


def test_defaults_are_those_of_the_contract() -> None:
    settings = load()
    expected = {
        "read_central_repo": "/data/central",
        "local_repos": Path("/tmp"),
        "local_repo_config": None,
        "local_repo_cache_size": CacheLimits(default=3),
        "preload_padding": 30.0,
        "repo_retry_delay": 30.0,
        "export_type_regexp": (".*",),
        "debug_export_outputs": True,
        "message_expiration": 3600.0,
        "worker_count": 1,
        "worker_timeout": 900.0,
        "worker_grace_period": 30.0,
        "worker_restart_freq": 0,
        "image_bucket": None,
        "image_timeout": 20.0,
        "raw_microservice": None,
        "bucket_topic": "rubin-prompt-processing",
        "bucket_notification_kafka_offset_reset": "latest",
        "use_kafka_butler_writer": False,
        "sasquatch_url": None,
        "daf_butler_sasquatch_namespace": "lsst.prompt",
        "port": 8080,
        "metrics_port": 8000,
        "image_memory": 600.0,
        "index_max_age": 60.0,
        "local_repo_form": LocalRepoForm.AUTO,
        "slot_memory_limit": 4096,
        "deployment_id": None,
        "instrument_path": (),
        "register_dataset_types": True,
    }
    assert {name: getattr(settings, name) for name in expected} == expected
    assert settings.token.get_secret_value() == ""
    assert settings.embedded


def test_every_variable_of_the_contract_has_a_place() -> None:
    contract = SHARED / "contract.md"
    if not contract.exists():
        pytest.skip("the contract is not here")
    section = contract.read_text().split("## 9.")[1].split("## 10.")[0]
    names = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", section))
    names -= {"PP_", "DEBUG", "WARNING", "INFO"}
    assert len(names) > 70
    assert names <= {*ServiceSettings.variables(), *OTHER_VARIABLES}


def test_fields_are_named_as_their_variables() -> None:
    for variable, field in ServiceSettings.variables().items():
        assert variable.removeprefix("PP_").lower() == field


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in ServiceSettings.model_fields.items():
        assert field.description, name
        assert field.examples, name


def test_examples_are_valid() -> None:
    examples = {
        variable: (ServiceSettings.model_fields[name].examples or [""])[0].strip("'")
        for variable, name in ServiceSettings.variables().items()
        if variable != "PP_IMAGE_DIRECTORY"
    }
    settings = load_service_settings(examples)
    assert settings.main_pipelines_config.pipelines
    assert settings.local_repo_cache_size.limit("refcat") == 40


def test_every_missing_variable_is_named() -> None:
    lines = faults(dict.fromkeys(ENOUGH))
    assert [line.split(":")[0] for line in lines] == [
        "IMAGE_BUCKET or PP_IMAGE_DIRECTORY",
        "RUBIN_INSTRUMENT",
        "SKYMAP",
        "CENTRAL_REPO",
        "CONFIG_APDB",
        "MAIN_PIPELINES_CONFIG",
        "PREPROCESSING_PIPELINES_CONFIG",
    ]
    assert lines[1] == (
        "RUBIN_INSTRUMENT: is not set (short name of the camera; for example RUBIN_INSTRUMENT=DemoCam)"
    )


def test_faults_of_every_kind_are_named_together() -> None:
    lines = faults(
        {
            "RUBIN_INSTRUMENT": None,
            "WORKER_COUNT": "0",
            "MAIN_PIPELINES_CONFIG": "- pipelines: one.yaml\n- {}",
            "EXPORT_TYPE_REGEXP": "- '('",
            "USE_KAFKA_BUTLER_WRITER": "1",
        }
    )
    assert {line.split(":")[0] for line in lines} == {
        "RUBIN_INSTRUMENT",
        "WORKER_COUNT",
        "MAIN_PIPELINES_CONFIG",
        "EXPORT_TYPE_REGEXP",
        "BUTLER_WRITER_KAFKA_CLUSTER",
        "BUTLER_WRITER_KAFKA_TOPIC",
    }
    (pipelines,) = [line for line in lines if line.startswith("MAIN")]
    assert "entry 1" in pipelines
    assert "entry 2" in pipelines


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKER_COUNT", "many"),
        ("WORKER_COUNT", "-1"),
        ("WORKER_COUNT", ""),
        ("WORKER_TIMEOUT", "0"),
        ("WORKER_TIMEOUT", "nan"),
        ("IMAGE_TIMEOUT", "-1"),
        ("IMAGE_TIMEOUT", "inf"),
        ("PRELOAD_PADDING", "wide"),
        ("DEBUG_EXPORT_OUTPUTS", "perhaps"),
        ("PP_PORT", "70000"),
        ("PP_LOCAL_REPO_FORM", "half"),
        ("PP_DEPLOYMENT_ID", "two words"),
        ("PP_DEPLOYMENT_ID", "a/b"),
        ("PP_LEDGER_URL", "/var/lib/ledger"),
        ("LOCAL_REPO_CACHE_SIZE", "few"),
        ("LOCAL_REPO_CACHE_SIZE", "-1"),
        ("LOCAL_REPO_CACHE_SIZE", "{refcat: some}"),
        ("LOCAL_REPO_CACHE_SIZE", "{"),
        ("EXPORT_TYPE_REGEXP", ".*"),
        ("EXPORT_TYPE_REGEXP", "- {}"),
        ("EXPORT_TYPE_REGEXP", "["),
        ("SERVICE_LOG_LEVELS", "lsst"),
        ("SERVICE_LOG_LEVELS", "lsst=LOUD"),
        ("SERVICE_LOG_LEVELS", "=INFO"),
        ("BUCKET_NOTIFICATION_KAFKA_OFFSET_RESET", "middle"),
        ("BUTLER_WRITER_KAFKA_SECURITY_PROTOCOL", "none"),
        ("PLATFORM", "mainframe"),
        ("RUBIN_INSTRUMENT", ""),
        ("CENTRAL_REPO", ""),
        ("MAIN_PIPELINES_CONFIG", "[]"),
        ("MAIN_PIPELINES_CONFIG", ""),
        ("MAIN_PIPELINES_CONFIG", "- pipelines: ['${NOWHERE}/x.yaml']"),
        ("MAIN_PIPELINES_CONFIG", "/nowhere/main.yaml"),
    ],
)
def test_a_malformed_value_is_named(variable: str, value: str) -> None:
    (line,) = faults({variable: value})
    assert line.startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("WORKER_COUNT", " 4 ", 4),
        ("DEBUG_EXPORT_OUTPUTS", "0", False),
        ("DEBUG_EXPORT_OUTPUTS", "true", True),
        ("PP_LOCAL_REPO_FORM", "Memory", LocalRepoForm.MEMORY),
        ("LOCAL_REPO_CACHE_SIZE", "7", CacheLimits(default=7)),
        ("LOCAL_REPO_CACHE_SIZE", "{default: 7, refcat: 9}", CacheLimits(default=7, types={"refcat": 9})),
        ("LOCAL_REPO_CACHE_SIZE", "refcat: 9", CacheLimits(default=3, types={"refcat": 9})),
        ("EXPORT_TYPE_REGEXP", "[a.*, b]", ("a.*", "b")),
        ("PP_INSTRUMENT_PATH", "/a:/b/c.yaml", (Path("/a"), Path("/b/c.yaml"))),
        ("PLATFORM", "KEDA", "keda"),
        ("PLATFORM", "", None),
        ("RAW_MICROSERVICE", "", None),
        ("PP_DEPLOYMENT_ID", "", None),
        ("READ_CENTRAL_REPO", "label:replica", "label:replica"),
        ("BUTLER_WRITER_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "sasl_ssl"),
        ("REGISTER_DATASET_TYPES", "0", False),
    ],
)
def test_values_are_read(variable: str, value: str, expected: object) -> None:
    assert getattr(load({variable: value}), ServiceSettings.variables()[variable]) == expected


def test_secrets_are_never_shown() -> None:
    secrets = {
        "PP_TOKEN": "hidden-1",
        "AP_KAFKA_PRODUCER_USERNAME": "u",
        "AP_KAFKA_PRODUCER_PASSWORD": "hidden-2",
        "PP_LEDGER_URL": "postgresql://u:hidden-3@host/db",
    }
    settings = load(secrets)
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings.model_dump(exclude={"ledger_url"}))
    assert settings.token.get_secret_value() == "hidden-1"
    lines = faults({**secrets, "PP_LEDGER_URL": "u:hidden-3@host", "WORKER_COUNT": "x"})
    assert len(lines) == 2
    assert "hidden" not in "".join(lines)


def test_a_user_needs_a_password_and_the_other_way_round() -> None:
    (line,) = faults({"AP_KAFKA_PRODUCER_USERNAME": "u"})
    assert line.startswith("AP_KAFKA_PRODUCER_PASSWORD: is not set but AP_KAFKA_PRODUCER_USERNAME is")
    (line,) = faults({"BUTLER_WRITER_KAFKA_PASSWORD": "p"})
    assert line.startswith("BUTLER_WRITER_KAFKA_USERNAME: is not set")


def test_images_come_from_one_place() -> None:
    (line,) = faults({"IMAGE_BUCKET": "raws", "KAFKA_CLUSTER": "kafka:9092"})
    assert "both are set" in line
    (line,) = faults({"KAFKA_CLUSTER": None}, IN_SERVICE)
    assert line.startswith("KAFKA_CLUSTER: is not set but IMAGE_BUCKET is")


def test_in_service_nothing_is_registered_silently() -> None:
    settings = load({}, IN_SERVICE)
    assert not settings.embedded
    assert not settings.register_dataset_types
    assert load({"REGISTER_DATASET_TYPES": "1"}, IN_SERVICE).register_dataset_types
    writer = {
        "USE_KAFKA_BUTLER_WRITER": "1",
        "BUTLER_WRITER_KAFKA_CLUSTER": "k:9092",
        "BUTLER_WRITER_KAFKA_TOPIC": "t",
    }
    assert not load(writer).register_dataset_types


def test_what_the_service_keeps_lies_in_its_state_directory(tmp_path: Path) -> None:
    settings = load({"PP_STATE_DIR": str(tmp_path)})
    assert settings.ledger_url == f"sqlite:///{tmp_path}/ledger.sqlite3"
    assert settings.alert_files == tmp_path / "alerts"
    kafka = load({"AP_KAFKA_SERVER": "k:9092", "AP_KAFKA_TOPIC": "alerts"})
    assert kafka.alert_files is None
    assert load({"PP_ALERT_DIRECTORY": "~/alerts"}).alert_files == Path.home() / "alerts"


def test_log_levels() -> None:
    assert load().log_levels[""] == 30
    assert load().log_levels["lsst"] == 20
    assert load().log_levels["services"] == 10
    levels = load({"SERVICE_LOG_LEVELS": ".=ERROR lsst.daf.butler=verbose\tservices=INFO"}).log_levels
    assert (levels[""], levels["lsst.daf.butler"], levels["services"], levels["lsst"]) == (40, 15, 20, 20)


def test_export_patterns_match_fully() -> None:
    settings = load({"EXPORT_TYPE_REGEXP": "[dia_.*, isr]"})
    names = ("dia_source", "isr", "isr_log", "my_dia_source")
    assert [name for name in names if settings.exports(name)] == ["dia_source", "isr"]
    assert not load({"EXPORT_TYPE_REGEXP": "[]"}).exports("isr")


def test_settings_survive_a_pipe() -> None:
    settings = load({"PP_TOKEN": "t"})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_constructing_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENOUGH.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORKER_COUNT", "9")
    assert load_service_settings().worker_count == 9
    given = {field: ENOUGH[name] for name, field in ServiceSettings.variables().items() if name in ENOUGH}
    assert ServiceSettings(**given).worker_count == 1


class TestPipelines:
    """The pipelines configurations within the settings."""

    def test_paths_may_use_any_variable(self) -> None:
        text = "- pipelines: ['${PROMPT_PROCESSING_DIR}/${RUBIN_INSTRUMENT}/${MINE}.yaml']"
        settings = load({"MAIN_PIPELINES_CONFIG": text, "MINE": "ApPipe"})
        assert settings.main_pipelines_config.pipelines == (f"{PROJECT}/DemoCam/ApPipe.yaml",)

    def test_the_environment_may_move_the_project(self) -> None:
        text = "- pipelines: ['${PROMPT_PROCESSING_DIR}/x.yaml']"
        settings = load({"MAIN_PIPELINES_CONFIG": text, "PROMPT_PROCESSING_DIR": "/elsewhere"})
        assert settings.main_pipelines_config.pipelines == ("/elsewhere/x.yaml",)

    def test_a_configuration_may_be_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "main.yaml").write_text(ENOUGH["MAIN_PIPELINES_CONFIG"])
        settings = load({"MAIN_PIPELINES_CONFIG": "${HERE}/main.yaml", "HERE": str(tmp_path)})
        assert settings.main_pipelines_config == load().main_pipelines_config

    def test_outputs_of_different_pipelines_never_mix(self) -> None:
        (line,) = faults({"PREPROCESSING_PIPELINES_CONFIG": "- pipelines: [/q/ApPipe.yaml]"})
        assert "/p/ApPipe.yaml and /q/ApPipe.yaml" in line

    def test_the_shipped_configuration_is_valid(self) -> None:
        defaults = PROJECT / "config" / "defaults"
        settings = load(
            {
                "MAIN_PIPELINES_CONFIG": str(defaults / "main.yaml"),
                "PREPROCESSING_PIPELINES_CONFIG": str(defaults / "preprocessing.yaml"),
            }
        )
        for config in (settings.main_pipelines_config, settings.preprocessing_pipelines_config):
            assert config.maps
            for path in (*config.maps, *config.pipelines):
                assert Path(path).is_file(), path


class TestFile:
    """The one settings file."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    **ENOUGH,
                    "MAIN_PIPELINES_CONFIG": [{"pipelines": ["${RUBIN_INSTRUMENT}.yaml"], "survey": "deep"}],
                    "WORKER_COUNT": 2,
                    "IMAGE_TIMEOUT": 5,
                    "DEBUG_EXPORT_OUTPUTS": False,
                    "EXPORT_TYPE_REGEXP": ["isr.*"],
                    "LOCAL_REPO_CACHE_SIZE": {"refcat": 40},
                    "SERVICE_LOG_LEVELS": {".": "info"},
                    "PP_INSTRUMENT_PATH": ["/a", "/b"],
                    "KAFKA_TOPIC": "for the writer",
                    "OMP_NUM_THREADS": 1,
                    "AWS_REGION": "here",
                    "PP_TOKEN": None,
                    "service": {"IMAGE_TIMEOUT": 6},
                    "writer": {"KAFKA_CLUSTER": "another:9092"},
                }
            )
        )
        return path

    def test_values_may_be_yaml_of_their_own(self, file: Path) -> None:
        settings = load_service_settings({SETTINGS_FILE: str(file)})
        assert settings.main_pipelines_config.pipelines == ("DemoCam.yaml",)
        assert settings.worker_count == 2
        assert not settings.debug_export_outputs
        assert settings.export_type_regexp == ("isr.*",)
        assert settings.local_repo_cache_size.limit("refcat") == 40
        assert settings.log_levels[""] == 20
        assert settings.instrument_path == (Path("/a"), Path("/b"))
        assert settings.token.get_secret_value() == ""

    def test_the_section_wins_over_the_rest(self, file: Path) -> None:
        settings = load_service_settings({}, file)
        assert settings.image_timeout == 6
        assert settings.kafka_cluster is None

    def test_the_environment_wins(self, file: Path) -> None:
        env = {
            "WORKER_COUNT": "3",
            "LOCAL_REPO_CACHE_SIZE": "5",
            "MAIN_PIPELINES_CONFIG": "- pipelines: [b.yaml]",
        }
        settings = load_service_settings(env, file)
        assert settings.worker_count == 3
        assert settings.local_repo_cache_size == CacheLimits(default=5)
        assert settings.main_pipelines_config.pipelines == ("b.yaml",)

    def test_libraries_get_theirs(self, file: Path) -> None:
        found = library_variables("service", env={"AWS_REGION": "there"}, file=file)
        assert found == {"OMP_NUM_THREADS": "1"}

    def test_slips_of_the_pen_are_named(self, tmp_path: Path) -> None:
        file = tmp_path / "settings.yaml"
        file.write_text("WORKER_CUONT: 2\n")
        with pytest.raises(InvalidConfiguration, match=r"WORKER_CUONT: .* did you mean WORKER_COUNT"):
            load_service_settings(ENOUGH, file)

    @pytest.mark.parametrize("text", ["- a", "{", "service: 3", "text"])
    def test_malformed_files(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "settings.yaml"
        file.write_text(text)
        with pytest.raises(InvalidConfiguration, match="the settings file"):
            load_service_settings(ENOUGH, file)

    @pytest.mark.parametrize(
        "value", ["hunter2: more", "*hunter2", "!hunter2 x", "'hunter2", "@hunter2", "[hunter2"]
    )
    def test_what_a_malformed_file_holds_is_not_repeated(self, tmp_path: Path, value: str) -> None:
        file = tmp_path / "settings.yaml"
        file.write_text(f"SKYMAP: x\nSASQUATCH_TOKEN: {value}\n")
        with pytest.raises(InvalidConfiguration, match=r"cannot be read, line \d, column \d+: ") as caught:
            load_service_settings(ENOUGH, file)
        assert "hunter2" not in str(caught.value)

    def test_an_empty_file(self, tmp_path: Path) -> None:
        file = tmp_path / "settings.yaml"
        file.write_text("")
        assert load_service_settings(ENOUGH, file) == load()

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidConfiguration, match="cannot be read"):
            load_service_settings(ENOUGH, tmp_path / "none.yaml")

    def test_the_ledger_alone(self, file: Path) -> None:
        assert load_ledger_settings({"PP_STATE_DIR": "/s"}).ledger_url == "sqlite:////s/ledger.sqlite3"
        assert load_ledger_settings({"PP_LEDGER_URL": "sqlite:////x"}, file).ledger_url == "sqlite:////x"


@given(st.dictionaries(st.sampled_from(sorted(ServiceSettings.variables())), st.text(max_size=30)))
def test_any_text_gives_settings_or_named_faults(changes: dict[str, str]) -> None:
    try:
        load_service_settings({**ENOUGH, **changes})
    except InvalidConfiguration as error:
        _, *lines = str(error).split("\n  ")
        assert lines
        assert all(re.match(r"[A-Z0-9_]+( (or|and) [A-Z0-9_]+)?: ", line) for line in lines), lines


@given(
    st.dictionaries(
        st.from_regex(r"[a-z.]{1,20}", fullmatch=True), st.sampled_from(["DEBUG", "info", "Trace"])
    )
)
def test_log_levels_go_there_and_back(levels: dict[str, str]) -> None:
    text = " ".join(f"{name}={level}" for name, level in levels.items())
    assert load({"SERVICE_LOG_LEVELS": text}).service_log_levels == {k: v.upper() for k, v in levels.items()}


def test_a_path_of_an_unknown_user_is_the_name_of_a_file() -> None:
    settings = load_service_settings({**ENOUGH, "LOCAL_REPOS": "~nobody-of-that-name/scratch"})
    assert settings.local_repos.is_absolute()
    assert settings.local_repos.name == "scratch"
