"""The first tables of agents, catalogue, local executor and monitor."""

from __future__ import annotations

__all__ = ["downgrade", "upgrade"]

import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    time = sa.DateTime(timezone=True)
    # SQLite numbers rows by itself only in columns of just this type.
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "agent_memory",
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("agent", "name"),
    )
    op.create_table(
        "agent_outbox",
        sa.Column("id", number, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("acknowledged", time),
        sa.Column("owner", sa.Text),
        sa.Column("leased_until", time),
        sa.Column("refused", sa.Text),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("agent_outbox_lanes", "agent_outbox", ["kind", "topic", "id"])
    op.create_table(
        "catalogue_datasets",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("closed", time),
        sa.Column("expires", time, nullable=False),
        sa.PrimaryKeyConstraint("scope", "name"),
    )
    op.create_table(
        "catalogue_files",
        sa.Column("id", number, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("adler32", sa.Text, nullable=False),
        sa.Column("guid", sa.Text, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("added", time, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("scope", "name", name="catalogue_file_once"),
    )
    op.create_index("catalogue_files_of_dataset", "catalogue_files", ["scope", "dataset", "id"])
    op.create_table(
        "data_files",
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("guid", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger),
        sa.Column("machine_state", sa.Text),
        sa.Column("substate", sa.Text),
        sa.Column("expected_size", sa.BigInteger),
        sa.Column("expected_checksum", sa.Text),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("adler32", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due", time),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("namespace", "run_id", "filename"),
    )
    op.create_index("data_files_by_state", "data_files", ["namespace", "run_id", "state"])
    op.create_table(
        "data_runs",
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("execution_id", sa.Text),
        sa.Column("container", sa.Text),
        sa.Column("announced", sa.Boolean, nullable=False),
        sa.Column("run_conditions", sa.JSON, nullable=False),
        sa.Column("first_seen", time, nullable=False),
        sa.Column("last_sign", time, nullable=False),
        sa.Column("ended", time),
        sa.Column("end_assumed", sa.Boolean, nullable=False),
        sa.Column("total", sa.BigInteger),
        sa.Column("dataset_created", sa.Boolean, nullable=False),
        sa.Column("run_opened", sa.Boolean, nullable=False),
        sa.Column("ready", sa.Boolean, nullable=False),
        sa.Column("ready_heard", sa.Boolean, nullable=False),
        sa.Column("closed", time),
        sa.Column("finished", time),
        sa.Column("complete", sa.Boolean),
        sa.Column("note", sa.Text),
        sa.PrimaryKeyConstraint("namespace", "run_id"),
    )
    op.create_index("data_runs_unfinished", "data_runs", ["namespace", "finished"])
    op.create_table(
        "inbox",
        sa.Column("id", number, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("received", time, nullable=False),
        sa.Column("refused", sa.Text),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("agent", "message_id", name="inbox_message_once"),
    )
    op.create_index("inbox_waiting", "inbox", ["agent", "refused", "id"])
    op.create_table(
        "local_jobs",
        sa.Column("id", number, nullable=False),
        sa.Column("task", sa.BigInteger, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("adler32", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("created", time, nullable=False),
        sa.Column("started", time),
        sa.Column("ended", time),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task", "filename", name="local_job_once"),
    )
    op.create_index("local_jobs_by_change", "local_jobs", ["task", "change"])
    op.create_table(
        "local_tasks",
        sa.Column("id", number, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("execution_id", sa.Text),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("until_closed", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("ended", time),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("namespace", "name", name="local_task_once"),
    )
    op.create_index("local_tasks_by_state", "local_tasks", ["namespace", "state"])
    op.create_table(
        "run_tasks",
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("execution_id", sa.Text),
        sa.Column("dataset", sa.Text),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("task_id", sa.Text),
        sa.Column("task_state", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("due", time, nullable=False),
        sa.Column("submitted", time),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("total_files", sa.Integer),
        sa.Column("processed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "run_id"),
    )
    op.create_index("run_tasks_by_execution", "run_tasks", ["namespace", "execution_id"])
    op.create_index("run_tasks_by_phase", "run_tasks", ["namespace", "phase"])
    op.create_table(
        "swf_applog",
        sa.Column("id", number, nullable=False),
        sa.Column("app_name", sa.Text, nullable=False),
        sa.Column("instance_name", sa.Text, nullable=False),
        sa.Column("timestamp", time, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("levelname", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("module", sa.Text),
        sa.Column("funcname", sa.Text),
        sa.Column("lineno", sa.BigInteger),
        sa.Column("process", sa.BigInteger),
        sa.Column("thread", sa.BigInteger),
        sa.Column("extra_data", sa.JSON(none_as_null=True)),
        sa.Column("execution_id", sa.Text),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("swf_applog_execution", "swf_applog", ["execution_id", "level"])
    op.create_index("swf_applog_timestamp", "swf_applog", ["timestamp"])
    op.create_table(
        "swf_namespaces",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "swf_persistent_state",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("state_data", sa.JSON, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "swf_run_state",
        sa.Column("run_number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("phase", sa.Text),
        sa.Column("state", sa.Text),
        sa.Column("substate", sa.Text),
        sa.Column("target_worker_count", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("active_worker_count", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("stf_samples_received", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("slices_created", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("slices_queued", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("slices_processing", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("slices_completed", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("slices_failed", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("state_changed_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True)),
        sa.Column("latest", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("run_number"),
    )
    op.create_table(
        "swf_runs",
        sa.Column("run_id", number, nullable=False),
        sa.Column("run_number", sa.BigInteger, nullable=False),
        sa.Column("start_time", time, nullable=False),
        sa.Column("end_time", time),
        sa.Column("run_conditions", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("run_id"),
        sa.UniqueConstraint("run_number"),
    )
    op.create_table(
        "swf_subscribers",
        sa.Column("subscriber_id", number, nullable=False),
        sa.Column("subscriber_name", sa.Text, nullable=False),
        sa.Column("fraction", sa.Double()),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("delivery_type", sa.Text),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("subscriber_id"),
        sa.UniqueConstraint("subscriber_name"),
    )
    op.create_table(
        "swf_system_state_events",
        sa.Column("event_id", number, nullable=False),
        sa.Column("timestamp", time, nullable=False),
        sa.Column("run_number", sa.BigInteger),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("state", sa.Text),
        sa.Column("substate", sa.Text),
        sa.Column("event_data", sa.JSON(none_as_null=True)),
        sa.Column("created_at", time, nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_table(
        "swf_systemagent",
        sa.Column("id", number, nullable=False),
        sa.Column("instance_name", sa.Text, nullable=False),
        sa.Column("agent_type", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("last_heartbeat", time),
        sa.Column("agent_url", sa.Text),
        sa.Column("workflow_enabled", sa.Boolean, nullable=False),
        sa.Column("current_stf_count", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("total_stf_processed", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("last_stf_processed", time),
        sa.Column("pid", sa.BigInteger),
        sa.Column("hostname", sa.Text),
        sa.Column("operational_state", sa.Text),
        sa.Column("namespace", sa.Text),
        sa.Column("metadata", sa.JSON(none_as_null=True)),
        sa.Column("mq_connected", sa.Boolean),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("instance_name"),
    )
    op.create_index("swf_systemagent_status", "swf_systemagent", ["namespace", "status", "last_heartbeat"])
    op.create_table(
        "swf_workflow_definitions",
        sa.Column("id", number, nullable=False),
        sa.Column("workflow_name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("workflow_type", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("parameter_values", sa.JSON(none_as_null=True)),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("workflow_name", "version", name="swf_workflow_definition_once"),
    )
    op.create_table(
        "swf_workflow_messages",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("message_type", sa.Text),
        sa.Column("sender_agent", sa.Text),
        sa.Column("recipient_agent", sa.Text),
        sa.Column("namespace", sa.Text),
        sa.Column("execution_id", sa.Text),
        sa.Column("run_id", sa.Text),
        sa.Column("message_content", sa.JSON(none_as_null=True)),
        sa.Column("message_metadata", sa.JSON(none_as_null=True)),
        sa.Column("sent_at", time, nullable=False),
        sa.Column("queue_name", sa.Text),
        sa.Column("is_successful", sa.Boolean),
        sa.Column("error_message", sa.Text),
        sa.Column("received_order", number, nullable=False),
        sa.Column("broker_id", sa.Text),
        sa.PrimaryKeyConstraint("received_order"),
        sa.UniqueConstraint("broker_id"),
        sa.UniqueConstraint("message_id"),
    )
    op.create_index(
        "swf_workflow_messages_execution", "swf_workflow_messages", ["execution_id", "received_order"]
    )
    op.create_index("swf_workflow_messages_run", "swf_workflow_messages", ["run_id", "received_order"])
    op.create_index("swf_workflow_messages_sent", "swf_workflow_messages", ["sent_at"])
    op.create_table(
        "swf_stf_files",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("run", sa.BigInteger, nullable=False),
        sa.Column("machine_state", sa.Text, nullable=False),
        sa.Column("stf_filename", sa.Text, nullable=False),
        sa.Column("file_size_bytes", sa.BigInteger),
        sa.Column("checksum", sa.Text),
        sa.Column("created_at", time, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True)),
        sa.Column("workflow_id", sa.Uuid()),
        sa.Column("daq_state", sa.Text),
        sa.Column("daq_substate", sa.Text),
        sa.Column("workflow_status", sa.Text),
        sa.Column("tf_count", sa.BigInteger, server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["run"],
            ["swf_runs.run_id"],
        ),
        sa.PrimaryKeyConstraint("file_id"),
        sa.UniqueConstraint("stf_filename"),
    )
    op.create_index("swf_stf_files_created", "swf_stf_files", ["created_at"])
    op.create_index("swf_stf_files_run", "swf_stf_files", ["run", "status"])
    op.create_table(
        "swf_workflow_executions",
        sa.Column("execution_id", sa.Text, nullable=False),
        sa.Column("workflow_definition", sa.BigInteger),
        sa.Column("namespace", sa.Text),
        sa.Column("parameter_values", sa.JSON(none_as_null=True)),
        sa.Column("performance_metrics", sa.JSON(none_as_null=True)),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("start_time", time, nullable=False),
        sa.Column("end_time", time),
        sa.Column("executed_by", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["workflow_definition"],
            ["swf_workflow_definitions.id"],
        ),
        sa.PrimaryKeyConstraint("execution_id"),
    )
    op.create_index("swf_workflow_executions_start", "swf_workflow_executions", ["start_time"])
    op.create_index("swf_workflow_executions_status", "swf_workflow_executions", ["namespace", "status"])


def downgrade() -> None:
    """Drop them."""
    for table in (
        "swf_workflow_executions",
        "swf_stf_files",
        "swf_workflow_messages",
        "swf_workflow_definitions",
        "swf_systemagent",
        "swf_system_state_events",
        "swf_subscribers",
        "swf_runs",
        "swf_run_state",
        "swf_persistent_state",
        "swf_namespaces",
        "swf_applog",
        "run_tasks",
        "local_tasks",
        "local_jobs",
        "inbox",
        "data_runs",
        "data_files",
        "catalogue_files",
        "catalogue_datasets",
        "agent_outbox",
        "agent_memory",
    ):
        op.drop_table(table)
