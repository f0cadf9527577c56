"""Tables of the monitor.

Tables and columns have the names of those of the monitor in the field, so
that what reads its database reads this one; columns that are ours say so.
"""

from __future__ import annotations

__all__ = [
    "AGENTS",
    "DEFINITIONS",
    "EXECUTIONS",
    "LOGS",
    "MESSAGES",
    "NAMESPACES",
    "PERSISTENT_STATE",
    "RUNS",
    "RUN_STATES",
    "STATE_EVENTS",
    "STF_FILES",
    "SUBSCRIBERS",
]

import sqlalchemy as sa

from repos.ledger_tables import UtcDateTime
from repos.streaming.tables import metadata


def _number(name: str) -> sa.Column[int]:
    # SQLite numbers rows by itself only in columns of just this type.
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, default=0, server_default="0")


def _json(name: str, *, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(none_as_null=True), comment=comment)


#: One row: the numbers that were given out.
PERSISTENT_STATE = sa.Table(
    "swf_persistent_state",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state_data", sa.JSON, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

NAMESPACES = sa.Table(
    "swf_namespaces",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False, default=""),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

DEFINITIONS = sa.Table(
    "swf_workflow_definitions",
    metadata,
    _number("id"),
    sa.Column("workflow_name", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("workflow_type", sa.Text, nullable=False, default=""),
    sa.Column("definition", sa.Text, nullable=False, default=""),
    _json("parameter_values"),
    sa.Column("created_by", sa.Text, nullable=False, default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("workflow_name", "version", name="swf_workflow_definition_once"),
)

EXECUTIONS = sa.Table(
    "swf_workflow_executions",
    metadata,
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("workflow_definition", sa.BigInteger, sa.ForeignKey(DEFINITIONS.c.id)),
    sa.Column("namespace", sa.Text),
    _json("parameter_values"),
    _json("performance_metrics"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("start_time", UtcDateTime, nullable=False),
    sa.Column("end_time", UtcDateTime),
    sa.Column("executed_by", sa.Text, nullable=False, default=""),
    sa.Index("swf_workflow_executions_status", "namespace", "status"),
    sa.Index("swf_workflow_executions_start", "start_time"),
)

#: ``run_id`` is the monitor's own key.
RUNS = sa.Table(
    "swf_runs",
    metadata,
    _number("run_id"),
    sa.Column("run_number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("start_time", UtcDateTime, nullable=False),
    sa.Column("end_time", UtcDateTime),
    _json("run_conditions"),
)

STF_FILES = sa.Table(
    "swf_stf_files",
    metadata,
    sa.Column("file_id", sa.Uuid, primary_key=True),
    sa.Column("run", sa.BigInteger, sa.ForeignKey(RUNS.c.run_id), nullable=False),
    sa.Column("machine_state", sa.Text, nullable=False, default="physics"),
    sa.Column("stf_filename", sa.Text, nullable=False, unique=True),
    sa.Column("file_size_bytes", sa.BigInteger),
    sa.Column("checksum", sa.Text, comment="Adler-32, eight hexadecimal digits."),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    _json("metadata"),
    sa.Column("workflow_id", sa.Uuid),
    sa.Column("daq_state", sa.Text),
    sa.Column("daq_substate", sa.Text),
    sa.Column("workflow_status", sa.Text),
    _count("tf_count"),
    sa.Index("swf_stf_files_status", "run", "status", "created_at", "stf_filename"),
    sa.Index("swf_stf_files_recent", "run", "created_at", "stf_filename"),
    sa.Index("swf_stf_files_created", "created_at"),
)

RUN_STATES = sa.Table(
    "swf_run_state",
    metadata,
    sa.Column("run_number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("phase", sa.Text),
    sa.Column("state", sa.Text),
    sa.Column("substate", sa.Text),
    _count("target_worker_count"),
    _count("active_worker_count"),
    _count("stf_samples_received"),
    _count("slices_created"),
    _count("slices_queued"),
    _count("slices_processing"),
    _count("slices_completed"),
    _count("slices_failed"),
    sa.Column("state_changed_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    _json("metadata"),
    _json("latest", comment="Ours: what orders the message that was applied last."),
)

#: Every message of the bus, once.
MESSAGES = sa.Table(
    "swf_workflow_messages",
    metadata,
    sa.Column("message_id", sa.Uuid, nullable=False, unique=True),
    sa.Column("message_type", sa.Text),
    sa.Column("sender_agent", sa.Text),
    sa.Column("recipient_agent", sa.Text),
    sa.Column("namespace", sa.Text),
    sa.Column("execution_id", sa.Text),
    sa.Column("run_id", sa.Text),
    _json("message_content"),
    _json("message_metadata"),
    sa.Column("sent_at", UtcDateTime, nullable=False, comment="When the monitor received it."),
    sa.Column("queue_name", sa.Text),
    sa.Column("is_successful", sa.Boolean),
    sa.Column("error_message", sa.Text),
    _number("received_order"),
    sa.Column("broker_id", sa.Text, unique=True, comment="Ours: the broker's name for it."),
    sa.Index("swf_workflow_messages_execution", "execution_id", "received_order"),
    sa.Index("swf_workflow_messages_run", "run_id", "received_order"),
    sa.Index("swf_workflow_messages_sent", "sent_at"),
)

LOGS = sa.Table(
    "swf_applog",
    metadata,
    _number("id"),
    sa.Column("app_name", sa.Text, nullable=False),
    sa.Column("instance_name", sa.Text, nullable=False),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("levelname", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("module", sa.Text),
    sa.Column("funcname", sa.Text),
    sa.Column("lineno", sa.BigInteger),
    sa.Column("process", sa.BigInteger),
    sa.Column("thread", sa.BigInteger),
    _json("extra_data"),
    sa.Column("execution_id", sa.Text, comment="Ours: that of extra_data, to look for."),
    sa.Index("swf_applog_timestamp", "timestamp"),
    sa.Index("swf_applog_execution", "execution_id", "level"),
)

AGENTS = sa.Table(
    "swf_systemagent",
    metadata,
    _number("id"),
    sa.Column("instance_name", sa.Text, nullable=False, unique=True),
    sa.Column("agent_type", sa.Text, nullable=False, default="other"),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("last_heartbeat", UtcDateTime),
    sa.Column("agent_url", sa.Text),
    sa.Column("workflow_enabled", sa.Boolean, nullable=False, default=True),
    _count("current_stf_count"),
    _count("total_stf_processed"),
    sa.Column("last_stf_processed", UtcDateTime),
    sa.Column("pid", sa.BigInteger),
    sa.Column("hostname", sa.Text),
    sa.Column("operational_state", sa.Text),
    sa.Column("namespace", sa.Text),
    _json("metadata"),
    sa.Column("mq_connected", sa.Boolean, comment="Ours: whether it hears the bus."),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Index("swf_systemagent_status", "namespace", "status", "last_heartbeat"),
)

SUBSCRIBERS = sa.Table(
    "swf_subscribers",
    metadata,
    _number("subscriber_id"),
    sa.Column("subscriber_name", sa.Text, nullable=False, unique=True),
    sa.Column("fraction", sa.Double),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("is_active", sa.Boolean, nullable=False, default=True),
    sa.Column("delivery_type", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

STATE_EVENTS = sa.Table(
    "swf_system_state_events",
    metadata,
    _number("event_id"),
    sa.Column("timestamp", UtcDateTime, nullable=False),
    sa.Column("run_number", sa.BigInteger),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("state", sa.Text),
    sa.Column("substate", sa.Text),
    _json("event_data"),
    sa.Column("created_at", UtcDateTime, nullable=False),
)
