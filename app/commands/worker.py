"""``prompt-processing worker``: take visits from a Redis stream."""

from __future__ import annotations

__all__ = ["worker"]


def worker() -> None:
    """Process visits from a Redis stream, one at a time.

    Settings come from the environment and from the YAML file that
    PP_SETTINGS_FILE names. The worker ends by itself, with exit code 0, when
    no visit has come for FANNED_OUT_MSG_LISTEN_TIMEOUT seconds or after
    WORKER_RESTART_FREQ visits; KEDA starts others as they are needed. SIGTERM,
    SIGHUP or Ctrl-C stops its visit, which another worker takes over.

    For example:

      PP_SETTINGS_FILE=settings.yaml REDIS_STREAM_HOST=redis:6379
      REDIS_STREAM_NAME=instrument:democam
      REDIS_STREAM_CONSUMER_GROUP=democam_consumer_group
      prompt-processing worker
    """
    # The service takes a moment to import; `--help` does without.
    from app.configured_files import check_configured_files
    from app.logging import configure_logging
    from app.worker_factory import build_worker
    from config.environment import apply_library_variables
    from config.stream_settings import load_stream_settings

    # Before anything is imported that reads them; the template process and
    # its slot inherit them.
    apply_library_variables("service")
    settings = load_stream_settings()
    configure_logging(settings.log_levels)
    check_configured_files(settings)
    build_worker(settings).run()
