"""Payloads are programs of users: no passwords for them."""

from __future__ import annotations

from config.streaming.payload_environment import payload_environment


def test_nothing_that_opens_doors() -> None:
    secrets = {
        "ACTIVEMQ_PASSWORD",
        "SWF_API_TOKEN",
        "PP_MCP_TOKEN",
        "PP_STREAMING_DATABASE",
        "PP_MONITOR_DATABASE",
        "PP_CATALOGUE_DATABASE",
    }
    others = {"PATH": "/bin", "ACTIVEMQ_HOST": "broker", "MINE": "x"}
    assert payload_environment({**dict.fromkeys(secrets, "hidden"), **others}) == others
