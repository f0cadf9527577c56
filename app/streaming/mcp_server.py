"""The MCP server: what is known of workflows, for assistants that ask.

Tools have the names of the field's documents, and each a second one with the
prefix ``swf_`` that the field's server really uses.
"""

from __future__ import annotations

__all__ = ["PREFIX", "create_mcp_server", "http_application"]

import hmac
from collections.abc import Callable
from difflib import get_close_matches
from importlib import metadata
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from services.streaming.workflow_queries import WorkflowQueries

#: Every tool is there with and without it.
PREFIX = "swf_"
#: Where the server is on HTTP.
PATH = "/mcp"

Answer = dict[str, Any]

_INSTRUCTIONS = """\
Prompt processing of STF (Super Time Frame) files. An execution of the workflow
takes data in a run; the run's files are registered in a dataset and processed
by one task, whose jobs panda_list_jobs lists. Begin with list_messages to learn
what happened lately, then get_workflow_monitor for an execution. All times are
UTC. An answer with "error" says what was wrong with the question."""

_Execution = Annotated[
    str | None, Field(description="Of this execution only, for example prompt_processing-alice-0001.")
]
_Start = Annotated[str | None, Field(description="From this time on, ISO 8601; UTC if it has no zone.")]
_End = Annotated[str | None, Field(description="Before this time, ISO 8601; UTC if it has no zone.")]
_Limit = Annotated[int | None, Field(description="How many to return, at most 1000.")]
_Offset = Annotated[int, Field(description="How many to leave out from the beginning of the list.")]


class _Tools:
    """The tools; their docstrings are what clients read."""

    def __init__(self, queries: WorkflowQueries) -> None:
        self._queries = queries

    def get_workflow_monitor(
        self,
        execution_id: Annotated[str, Field(description="For example prompt_processing-alice-0001.")],
    ) -> Answer:
        """How an execution of a workflow stands: status, phase, run, number of
        STF files by status, when the run was announced, started and ended, and
        the last errors.
        """
        return self._queries.workflow_monitor(execution_id)

    def list_messages(
        self,
        namespace: Annotated[str | None, Field(description="Of this namespace only.")] = None,
        execution_id: _Execution = None,
        agent: Annotated[str | None, Field(description="Sent by the agent of this name.")] = None,
        message_type: Annotated[str | None, Field(description="Such as run_imminent or stf_gen.")] = None,
        start_time: _Start = None,
        end_time: _End = None,
        limit: _Limit = None,
        offset: _Offset = 0,
    ) -> Answer:
        """Messages that agents sent each other, the newest first: 200 unless
        limit says otherwise. Without execution_id, start_time and end_time,
        those of the last hour; older_count says how many are older.
        """
        return self._queries.messages(
            namespace=namespace,
            execution_id=execution_id,
            agent=agent,
            message_type=message_type,
            start_time=start_time,
            end_time=end_time,
            limit=limit,
            offset=offset,
        )

    def list_stf_files(
        self,
        run_number: Annotated[int | None, Field(description="Of this run only.")] = None,
        status: Annotated[
            str | None, Field(description="registered, processing, processed, failed or done.")
        ] = None,
        machine_state: Annotated[str | None, Field(description="State of the machine, such as run.")] = None,
        start_time: _Start = None,
        end_time: _End = None,
        limit: _Limit = None,
        offset: _Offset = 0,
    ) -> Answer:
        """STF files, those registered last first: 100 unless limit says
        otherwise. Without run_number, start_time and end_time, those of the
        last 24 hours; older_count says how many are older.
        """
        return self._queries.stf_files(
            run_number=run_number,
            status=status,
            machine_state=machine_state,
            start_time=start_time,
            end_time=end_time,
            limit=limit,
            offset=offset,
        )

    def list_logs(
        self,
        app_name: Annotated[str | None, Field(description="Of this application only.")] = None,
        instance_name: Annotated[str | None, Field(description="Of the agent of this name only.")] = None,
        execution_id: _Execution = None,
        level: Annotated[
            str | int | None, Field(description="The lowest level: DEBUG, INFO, WARNING, ERROR or CRITICAL.")
        ] = None,
        search: Annotated[str | None, Field(description="Text that the message contains.")] = None,
        start_time: _Start = None,
        end_time: _End = None,
        limit: _Limit = None,
        offset: _Offset = 0,
    ) -> Answer:
        """Lines that agents logged, the newest first: 200 unless limit says
        otherwise. Without execution_id, start_time and end_time, those of the
        last 24 hours; older_count says how many are older.
        """
        return self._queries.logs(
            app_name=app_name,
            instance_name=instance_name,
            execution_id=execution_id,
            level=level,
            search=search,
            start_time=start_time,
            end_time=end_time,
            limit=limit,
            offset=offset,
        )

    def panda_list_jobs(
        self,
        days: Annotated[
            float | None,
            Field(description="Jobs that changed within so many days; 7, and all of them with taskid."),
        ] = None,
        status: Annotated[
            str | None, Field(description="Such as activated, running, finished or failed.")
        ] = None,
        username: Annotated[str | None, Field(description="Of this user only.")] = None,
        site: Annotated[str | None, Field(description="At this site only.")] = None,
        taskid: Annotated[int | None, Field(description="Of this task only (jediTaskID).")] = None,
        reqid: Annotated[int | None, Field(description="Of this request only.")] = None,
        limit: Annotated[
            int | None, Field(description="How many to return: 200, and all of them with taskid.")
        ] = None,
        before_id: Annotated[
            int | None, Field(description="Jobs with smaller ids: next_before_id of the last answer.")
        ] = None,
    ) -> Answer:
        """Jobs that process STF files, those with the greatest ids first, and
        how many there are of each status. They are the local executor's, or
        come from PanDA's API.
        """
        return self._queries.jobs(
            days=days,
            status=status,
            username=username,
            site=site,
            taskid=taskid,
            reqid=reqid,
            limit=limit,
            before_id=before_id,
        )


def create_mcp_server(queries: WorkflowQueries) -> MCPServer[Any]:
    """Build the server.

    Parameters
    ----------
    queries : `services.streaming.workflow_queries.WorkflowQueries`
        Called from threads, several at once.
    """
    functions = _Tools(queries)
    tools = [
        _tool(function, name)
        for function in (
            functions.get_workflow_monitor,
            functions.list_messages,
            functions.list_stf_files,
            functions.list_logs,
            functions.panda_list_jobs,
        )
        for name in (function.__name__, PREFIX + function.__name__)
    ]
    return MCPServer(
        "prompt-processing",
        title="Prompt processing",
        instructions=_INSTRUCTIONS,
        version=metadata.version("prompt-processing"),
        tools=tools,
        log_level="WARNING",
    )


class _PlainTool(Tool):
    """A tool that says in plain words which arguments are wrong, and which
    there are: who asks can mend it at once.
    """

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the tool."""
        try:
            return await super().run(*args, **kwargs)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            said = {str(fault["loc"][:1]): self._said(fault) for fault in error.__cause__.errors()}
            known = ", ".join(self.parameters["properties"])
            text = f"{self.name}: {'; '.join(said.values())}. Its arguments are: {known}."
            raise ToolError(text) from error.__cause__

    def _said(self, fault: ErrorDetails) -> str:
        name = fault["loc"][0] if fault["loc"] else "arguments"
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(str(name), self.parameters["properties"], 1)
            return f"there is no argument {name}{f' (is it {near[0]}?)' if near else ''}"
        if fault["type"] == "missing":
            return f"{name} is needed"
        return f"{name} cannot be {fault['input']!r:.100} ({fault['msg']})"


def _tool(function: Callable[..., Answer], name: str) -> Tool:
    # The docstring's line breaks are those of the source.
    description = " ".join((function.__doc__ or "").split())
    look_only = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    tool = _PlainTool.from_function(function, name=name, description=description, annotations=look_only)
    # A filter with its name misspelt would otherwise be no filter, unnoticed.
    arguments = tool.fn_metadata.arg_model
    arguments.model_config["extra"] = "forbid"
    arguments.model_rebuild(force=True)
    tool.parameters = arguments.model_json_schema(by_alias=True)
    return tool


def http_application(server: MCPServer[Any], *, host: str, token: str | None) -> ASGIApp:
    """Return the server as it is reached over HTTP, at `PATH`.

    Parameters
    ----------
    server : `mcp.server.MCPServer`
    host : `str`
        Address that will be listened on. On a loopback address, requests
        that a browser was tricked into are refused by their Host and Origin.
    token : `str` or `None`
        What clients must present.
    """
    # Nothing is kept between requests, so that any replica may answer.
    application = server.streamable_http_app(
        streamable_http_path=PATH, host=host, stateless_http=True, json_response=True
    )
    if token is None:
        return application
    guarded = AuthenticationMiddleware(
        RequireAuthMiddleware(application, required_scopes=[]), backend=BearerAuthBackend(_OneToken(token))
    )

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        # Only requests have credentials; start and end of the server have not.
        await (guarded if scope["type"] in {"http", "websocket"} else application)(scope, receive, send)

    return route


class _OneToken:
    """Knows one token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what the token is good for; None if it is another one."""
        # Bytes of headers are given as Latin-1, whatever the client meant.
        presented = token.strip().encode("latin-1", "replace")
        if not hmac.compare_digest(presented, self._token):
            return None
        return AccessToken(token=token, client_id="mcp-client", scopes=[])
