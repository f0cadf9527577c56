"""Settings of the writer: every fault by name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from config.writer_settings import load_writer_settings
from models.errors import InvalidConfiguration

NEEDED = {
    "BUTLER_REPOSITORY": "/repo",
    "KAFKA_CLUSTER": "kafka:9092",
    "KAFKA_TOPIC": "messages",
    "KAFKA_OUTPUT_TOPIC": "events",
    "OUTPUT_DATASET_LIST_DIRECTORY": "s3://lists/prompt",
}


def test_defaults() -> None:
    settings = load_writer_settings(NEEDED)
    assert (settings.batch_size, settings.metrics_port) == (500, 8000)
    assert settings.dead_letters == "messages-dead-letter"
    assert not settings.register_dataset_types
    assert settings.log_levels["services"] == logging.INFO
    assert settings.log_levels["kafka"] == settings.log_levels[""] == logging.WARNING


def test_everything_may_be_set() -> None:
    more = {
        "PP_WRITER_DEAD_LETTER_TOPIC": "letters",
        "PP_WRITER_BATCH_SIZE": "7",
        "WRITER_DEBUG_LEVEL": "debug",
        "KAFKA_DEBUG": "1",
        "SERVICE_LOG_LEVELS": ".=ERROR",
    }
    settings = load_writer_settings({**NEEDED, **more})
    assert (settings.dead_letters, settings.batch_size) == ("letters", 7)
    levels = settings.log_levels
    assert levels["repos"] == levels["kafka"] == logging.DEBUG
    assert levels[""] == logging.ERROR


def test_one_file_for_all_components(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("KAFKA_CLUSTER: ours:1\nCENTRAL_REPO: /repo\nwriter:\n  KAFKA_CLUSTER: writers:1\n")
    rest = {name: value for name, value in NEEDED.items() if name != "KAFKA_CLUSTER"}
    assert load_writer_settings(rest, path).kafka_cluster == "writers:1"


@pytest.mark.parametrize("missing", NEEDED)
def test_what_is_missing_is_named(missing: str) -> None:
    rest = {name: value for name, value in NEEDED.items() if name != missing}
    with pytest.raises(InvalidConfiguration, match=f"{missing}: is not set .*for example"):
        load_writer_settings(rest)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PP_WRITER_BATCH_SIZE", "0"),
        ("PP_WRITER_BATCH_WAIT", "-1"),
        ("WRITER_DEBUG_LEVEL", "loud"),
        ("PP_METRICS_PORT", "99999"),
        ("KAFKA_SECURITY_PROTOCOL", "telnet"),
    ],
)
def test_what_is_wrong_is_named(variable: str, value: str) -> None:
    with pytest.raises(InvalidConfiguration, match=variable):
        load_writer_settings({**NEEDED, variable: value})


def test_a_user_has_a_password() -> None:
    with pytest.raises(InvalidConfiguration, match="KAFKA_PASSWORD: is not set but KAFKA_USERNAME is"):
        load_writer_settings({**NEEDED, "KAFKA_USERNAME": "writer"})
