"""``prompt-processing writer``: register the outputs of finished visits."""

from __future__ import annotations

__all__ = ["writer"]


def writer() -> None:
    """Write the outputs of finished visits into the central registry.

    Takes the services' messages from Kafka in batches, inserts them into the
    repo and tells of each batch once. Settings come from the environment and
    from the YAML file that PP_SETTINGS_FILE names. Run one replica; SIGTERM,
    SIGHUP or Ctrl-C ends it after the batch in hand, and it may be killed at
    any moment without harm.

    For example:

      BUTLER_REPOSITORY=/repo/main KAFKA_CLUSTER=kafka:9092
      KAFKA_TOPIC=butler-writer KAFKA_OUTPUT_TOPIC=batches
      OUTPUT_DATASET_LIST_DIRECTORY=/data/lists prompt-processing writer
    """
    # The middleware takes a moment to import; `--help` does without.
    from app.logging import configure_logging
    from config.environment import apply_library_variables
    from config.writer_settings import load_writer_settings

    # Before anything is imported that reads them.
    apply_library_variables("writer")
    settings = load_writer_settings()
    configure_logging(settings.log_levels)
    from app.writer_factory import build_writer

    build_writer(settings).run()
