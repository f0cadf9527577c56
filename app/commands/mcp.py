"""``prompt-processing mcp``: answer assistants about workflows."""

from __future__ import annotations

__all__ = ["mcp"]

from typing import Annotated

import typer


def mcp(
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="HOST:PORT", help="Serve over HTTP, at /mcp, on this address."),
    ] = None,
) -> None:
    """Answer questions about streaming workflows over MCP.

    Serves the client that started it over standard input and output; with
    --http any number of them. Whoever is not on this machine is served only
    if PP_MCP_TOKEN is set, and clients present it as bearer token. What is
    known comes from the monitor's database, PP_MONITOR_DATABASE.

    For example:

      prompt-processing mcp

      PP_MCP_TOKEN=... prompt-processing mcp --http 0.0.0.0:8010
    """
    # Libraries take a moment to import; `--help` does without.
    from app.logging import configure_logging
    from app.streaming.mcp_factory import parse_address, run_over_http, run_over_stdio
    from config.environment import apply_library_variables
    from config.streaming.settings import load_streaming_settings

    # Before anything is imported that reads them.
    apply_library_variables("testbed")
    settings = load_streaming_settings()
    # To standard error: standard output belongs to the client.
    configure_logging(settings.log_levels)
    if http is None:
        run_over_stdio(settings)
    else:
        run_over_http(settings, parse_address(http))
