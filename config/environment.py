"""Variables that are not the service's own settings.

Some are those of the other components; some are read by libraries and
pipelines straight from the environment, so that a value in the settings file
must be put there before they are imported.
"""

from __future__ import annotations

__all__ = ["LIBRARY_VARIABLES", "OTHER_VARIABLES", "apply_library_variables", "library_variables"]

import os
from collections.abc import Mapping
from pathlib import Path

from config.loading import merge_variables

#: Variables that libraries and pipelines read themselves; AWS_* as well.
LIBRARY_VARIABLES = frozenset(
    {
        "DAF_BUTLER_SASQUATCH_NAMESPACE",
        "DAX_APDB_MONITOR_CONFIG",
        "LSST_DB_AUTH",
        "LSST_DISABLE_BUCKET_VALIDATION",
        "LSST_RESOURCES_NUM_WORKERS",
        "MKL_NUM_THREADS",
        "MP_SKY_URL",
        "OMP_NUM_THREADS",
        "PANDACACHE_URL",
        "PANDAMON_URL",
        "PANDA_AUTH",
        "PANDA_AUTH_VO",
        "PANDA_BEHIND_REAL_LB",
        "PANDA_CONFIG_ROOT",
        "PANDA_URL",
        "PANDA_URL_SSL",
        "PANDA_USE_NATIVE_HTTPLIB",
        "RUCIO_ACCOUNT",
        "RUCIO_CONFIG",
        "RUCIO_HOME",
        "S3_ENDPOINT_URL",
        "SATTLE_URI_BASE",
        "SSL_CERT_FILE",
    }
)

_STREAM_WORKER = frozenset(
    {
        "FANNED_OUT_MSG_LISTEN_TIMEOUT",
        "PP_REDIS_STREAM_PASSWORD",
        "PP_REDIS_STREAM_TLS",
        "PP_REDIS_STREAM_USERNAME",
        "REDIS_CLAIM_IDLE",
        "REDIS_RETRY_DELAY",
        "REDIS_STREAM_CONSUMER_GROUP",
        "REDIS_STREAM_HOST",
        "REDIS_STREAM_NAME",
    }
)
_FAN_OUT = frozenset(
    {
        "CONSUMER_GROUP",
        "DEBUG_LOGS",
        "INSTRUMENT_CONFIG_FILE",
        "KAFKA_SCHEMA_REGISTRY_URL",
        "MAX_FAN_OUT_MESSAGES",
        "NEXT_VISIT_TOPIC",
        "OFFSET",
        "PP_ANSWER_TIMEOUT",
        "PP_DELIVERY_PATIENCE",
        "PP_FAN_OUT_GRACE_PERIOD",
        "PP_REDIS_PASSWORD",
        "PP_REDIS_TLS",
        "PP_REDIS_USERNAME",
        "REDIS_HEALTH_CHECK_INTERVAL",
        "REDIS_HOST",
        "REDIS_RETRY_COUNT",
        "REDIS_RETRY_DELAY_CAP",
        "REDIS_RETRY_INITIAL_DELAY",
        "RETRY_KNATIVE_REQUESTS",
        "SASL_MECHANISM",
        "SASL_PASSWORD",
        "SASL_USERNAME",
        "SECURITY_PROTOCOL",
        "SUPPORTED_INSTRUMENTS",
    }
)
_WRITER = frozenset(
    {
        "BUTLER_REPOSITORY",
        "KAFKA_DEBUG",
        "KAFKA_OUTPUT_TOPIC",
        "KAFKA_PASSWORD",
        "KAFKA_TOPIC",
        "KAFKA_USERNAME",
        "OUTPUT_DATASET_LIST_DIRECTORY",
        "PP_WRITER_BATCH_SIZE",
        "PP_WRITER_BATCH_WAIT",
        "PP_WRITER_DEAD_LETTER_TOPIC",
        "KAFKA_SECURITY_PROTOCOL",
        "WRITER_DEBUG_LEVEL",
    }
)
_TESTBED = frozenset(
    {
        "ACTIVEMQ_HEARTBEAT_TOPIC",
        "ACTIVEMQ_HOST",
        "ACTIVEMQ_PASSWORD",
        "ACTIVEMQ_PORT",
        "ACTIVEMQ_SSL_CA_CERTS",
        "ACTIVEMQ_SSL_CERT_FILE",
        "ACTIVEMQ_SSL_KEY_FILE",
        "ACTIVEMQ_USER",
        "ACTIVEMQ_USE_SSL",
        "PANDA_NICKNAME",
        "PP_AGENT_KEEP_DAYS",
        "PP_CATALOGUE",
        "PP_CATALOGUE_DATABASE",
        "PP_EXECUTOR",
        "PP_MCP_TOKEN",
        "PP_MONITOR_DATABASE",
        "PP_MONITOR_KEEP_DAYS",
        "PP_MONITOR_TIMEZONE",
        "PP_PAYLOAD",
        "PP_PAYLOAD_ATTEMPTS",
        "PP_PAYLOAD_KEEP_DAYS",
        "PP_PAYLOAD_TIMEOUT",
        "PP_PAYLOAD_WORKERS",
        "PP_RUCIO_UPLOADS",
        "PP_RUN_DEADLINE",
        "PP_RUN_SILENCE",
        "PP_STREAMING_DATABASE",
        "PP_TASK_SUBMISSIONS",
        "PP_TESTBED_DIRECTORY",
        "PP_XROOTD_DOOR",
        "PP_XROOTD_FOLDER",
        "SWF_API_TOKEN",
        "SWF_MONITOR_HTTP_URL",
        "SWF_MONITOR_URL",
        "SWF_PANDA_POLL_INTERVAL",
        "SWF_PANDA_POLL_TIMEOUT",
        "SWF_PROMPT_PROCESSING_CONTAINER",
        "SWF_TESTBED_CONFIG",
    }
)

#: Variables, not the service's own, that one settings file may hold.
OTHER_VARIABLES = LIBRARY_VARIABLES | _STREAM_WORKER | _FAN_OUT | _WRITER | _TESTBED


def library_variables(
    component: str, *, env: Mapping[str, str] | None = None, file: str | Path | None = None
) -> dict[str, str]:
    """Return the libraries' variables that only the settings file holds.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the settings file cannot be read.
    """
    environment, from_file = merge_variables(component, env=env, file=file)
    return {
        name: _as_text(value)
        for name, value in from_file.items()
        if (name in LIBRARY_VARIABLES or name.startswith("AWS_"))
        and name not in environment
        and value is not None
    }


def apply_library_variables(component: str, *, file: str | Path | None = None) -> None:
    """Put those variables into the environment of this process.

    Called first thing by a command, before libraries are imported.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the settings file cannot be read.
    """
    os.environ.update(library_variables(component, file=file))


def _as_text(value: object) -> str:
    # Programs in the field read switches as numbers.
    return str(int(value)) if isinstance(value, bool) else str(value)
