"""Settings of the streaming workflow: the field's names and defaults."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from config.environment import OTHER_VARIABLES
from config.settings import ServiceSettings
from config.streaming.settings import StreamingSettings, load_streaming_settings
from config.writer_settings import load_writer_settings
from models.errors import InvalidConfiguration


def test_defaults_are_the_fields() -> None:
    settings = load_streaming_settings({})
    assert (settings.activemq_host, settings.activemq_port) == ("localhost", 61612)
    assert (settings.activemq_user, settings.activemq_password.get_secret_value()) == ("admin", "admin")
    assert settings.run_topic == "/topic/epictopic"
    assert settings.monitor_url == settings.logs_url == "http://localhost:8002"
    assert settings.testbed_directory == Path("testbed-out").absolute()
    assert not settings.has_broker
    assert not settings.has_monitor
    assert settings.log_levels["agents"] == logging.INFO


def test_a_broker_that_is_named_is_used_even_if_it_is_the_default() -> None:
    settings = load_streaming_settings({"ACTIVEMQ_HOST": "localhost", "ACTIVEMQ_USE_SSL": "true"})
    assert settings.has_broker
    assert settings.activemq_use_ssl


def test_databases_are_files_of_the_directory_unless_named(tmp_path: Path) -> None:
    settings = load_streaming_settings({"PP_TESTBED_DIRECTORY": str(tmp_path)})
    urls = {
        settings.monitor_database_url,
        settings.catalogue_database_url,
        settings.agent_database_url("data-agent"),
        settings.agent_database_url("processing-agent"),
    }
    assert len(urls) == 4
    assert all(url.startswith(f"sqlite:///{tmp_path}/") for url in urls)
    named = load_streaming_settings({"PP_STREAMING_DATABASE": "postgresql://db/x"})
    assert named.agent_database_url("data-agent") == "postgresql://db/x"
    assert "postgresql" not in repr(named)


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        ("ACTIVEMQ_PORT", "0", "greater than or equal to 1"),
        ("ACTIVEMQ_HEARTBEAT_TOPIC", "epictopic", "begins with neither"),
        ("PP_MONITOR_TIMEZONE", "Atlantis", "no time zone"),
        ("PANDA_NICKNAME", "alice b/c", "should match pattern"),
        ("PP_EXECUTOR", "batch", "'local' or 'panda'"),
        ("PP_MONITOR_DATABASE", "monitor.db", "PP_MONITOR_DATABASE"),
        ("SWF_MONITOR_URL", "localhost:8002", "http://"),
        ("SWF_PANDA_POLL_INTERVAL", "0", "greater than 0"),
        ("ACTIVEMQ_SSL_KEY_FILE", "/key", "ACTIVEMQ_SSL_CERT_FILE: is not set"),
    ],
)
def test_what_is_wrong_is_named(variable: str, value: str, what: str) -> None:
    with pytest.raises(InvalidConfiguration, match=what) as caught:
        load_streaming_settings({variable: value})
    assert variable in str(caught.value)


def test_every_setting_says_what_it_is_for_by_an_example_that_is_valid() -> None:
    fields = StreamingSettings.model_fields
    assert all(field.description for field in fields.values())
    names = StreamingSettings.variables()
    load_streaming_settings({v: (fields[n].examples or [""])[0].strip("'") for v, n in names.items()})


def test_one_file_serves_all_components(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "BUTLER_REPOSITORY: /repo\nKAFKA_CLUSTER: kafka:9092\nKAFKA_TOPIC: t\nKAFKA_OUTPUT_TOPIC: e\n"
        "OUTPUT_DATASET_LIST_DIRECTORY: /lists\nACTIVEMQ_HOST: broker\ntestbed:\n  PP_EXECUTOR: panda\n"
    )
    settings = load_streaming_settings({}, path)
    assert (settings.activemq_host, settings.executor) == ("broker", "panda")
    load_writer_settings({}, path)
    known = {*OTHER_VARIABLES, *ServiceSettings.variables()}
    assert set(StreamingSettings.variables()) <= known


def test_a_testbed_in_one_process_shares_its_monitor_only() -> None:
    given = {"PP_TESTBED_DIRECTORY": "/t", "PP_STREAMING_DATABASE": "postgresql://a/b"}
    alone = load_streaming_settings(given).in_one_process
    assert alone.monitor_database_url == "sqlite:////t/monitor.db"
    assert alone.agent_database_url("data-agent") == "sqlite:////t/embedded/data-agent.db"
    assert alone.catalogue_database_url == "sqlite:////t/embedded/catalogue.db"
    assert not alone.has_broker
    named = load_streaming_settings({"PP_MONITOR_DATABASE": "postgresql://a/m"}).in_one_process
    assert named.monitor_database_url == "postgresql://a/m"
