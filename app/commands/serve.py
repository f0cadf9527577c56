"""``prompt-processing serve``: run the service under Gunicorn."""

from __future__ import annotations

__all__ = ["serve"]

from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of PP_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, instead of PP_PORT.")] = None,
) -> None:
    """Run the service: nextVisits in over HTTP, alerts out.

    Settings come from the environment and from the YAML file that
    PP_SETTINGS_FILE names; `prompt-processing check` looks at them. SIGTERM,
    SIGHUP or Ctrl-C ends the service after its visits have been told to stop;
    a second Ctrl-C does not wait.

    For example:

      PP_SETTINGS_FILE=settings.yaml prompt-processing serve

      WORKER_COUNT=4 prompt-processing serve --host 127.0.0.1 --port 8080
    """
    # Gunicorn and the service take a moment to import; `--help` does without.
    from app.server_process import run_server
    from config.environment import apply_library_variables
    from config.settings import load_service_settings

    # Before anything is imported that reads them; the template process and
    # its slots inherit them.
    apply_library_variables("service")
    settings = load_service_settings()
    chosen = {"host": host, "port": port}
    run_server(settings.model_copy(update={k: v for k, v in chosen.items() if v is not None}))
