"""``prompt-processing monitor``: what runs, and how it stands."""

from __future__ import annotations

__all__ = ["monitor"]

from typing import Annotated

import typer


def monitor(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8002,
) -> None:
    """Run the monitor of the streaming workflow.

    Agents tell it what they do under /api/, and it records the messages of
    the bus if ACTIVEMQ_HOST names one. What it knows is in the database of
    PP_MONITOR_DATABASE. Who writes needs the token of SWF_API_TOKEN, if that
    is set. SIGTERM or Ctrl-C ends it.

    For example:

      prompt-processing monitor

      ACTIVEMQ_HOST=broker SWF_API_TOKEN=... prompt-processing monitor --host 0.0.0.0
    """
    # Gunicorn and the monitor take a moment to import; `--help` does without.
    from app.streaming.monitor_server import run_monitor
    from config.streaming.settings import load_streaming_settings

    run_monitor(load_streaming_settings(), host=host, port=port)
