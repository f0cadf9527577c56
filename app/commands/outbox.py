"""``prompt-processing outbox``: messages that wait for a broker, or were refused."""

from __future__ import annotations

__all__ = ["outbox"]

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.tables import print_rows
from config.values import expand_user
from models.held_messages import HeldMessage, Holding, Selection

if TYPE_CHECKING:
    from repos.outbox_desk import OutboxDesk

_COLUMNS = ("id", "state", "stored", "kind", "topic", "bytes", "of", "reason")


class Agent(StrEnum):
    """Agents that have an outbox, by their role."""

    DATA = "data"
    PROCESSING = "processing"


_Settings = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the environment wins over it.")
]
_Agent = Annotated[
    Agent | None,
    typer.Option("--agent", help="An agent of the streaming workflow, instead of the service's ledger."),
]
_Database = Annotated[
    str | None, typer.Option("--database", help="File or URL of the database, instead of the settings'.")
]
_Kind = Annotated[
    str | None, typer.Option("--kind", help="Only messages of this kind: alert, butler-writer or stomp.")
]
_Topic = Annotated[str | None, typer.Option("--topic", help="Only messages to this topic.")]
_State = Annotated[Holding | None, typer.Option("--state", help="Only messages in this state.")]
_Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]", help="Messages, as `list` numbers them.")]

outbox = typer.Typer(
    no_args_is_help=True,
    help="Messages on their way to a broker: list them, have refused ones sent again, throw some away.",
)


@outbox.command("list")
def list_messages(
    *,
    settings_file: _Settings = None,
    agent: _Agent = None,
    database: _Database = None,
    kind: _Kind = None,
    topic: _Topic = None,
    state: _State = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="The oldest so many; 0 for all.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List the messages of an outbox, the oldest first.

    A message waits for its broker; is leaving, while a process sends it; or
    is refused, when the broker said that it will never have it as it is.
    """
    with _desk(settings_file, agent, database, read_only=True) as desk:
        selection = _selection(None, kind, topic, state)
        messages = desk.messages(selection, limit or None)
        count = desk.count(selection) if limit else len(messages)
    if as_json:
        typer.echo(json.dumps({"count": count, "messages": [_as_json(message) for message in messages]}))
        return
    _show(messages)
    more = f", of which {len(messages)} are listed" if len(messages) < count else ""
    typer.echo(f"{_messages(count)}{more}.")


@outbox.command()
def requeue(
    ids: _Ids = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that were refused.")] = False,
    settings_file: _Settings = None,
    agent: _Agent = None,
    database: _Database = None,
    kind: _Kind = None,
    topic: _Topic = None,
) -> None:
    """Have refused messages sent again, once the cause is removed.

    A service or agent that runs sends them within half a minute; others do
    when they start. What waits is sent anyway.

    Exit codes: 0 done, 1 a message that was named was not refused.
    """
    _check_choice(ids, every=every, narrowed=kind is not None or topic is not None)
    with _desk(settings_file, agent, database) as desk:
        done = desk.requeue(_selection(ids, kind, topic, None))
    typer.echo(f"{_messages(done)} will be sent again.")
    _complain(ids, done, "not there, or not refused")


@outbox.command()
def drop(
    ids: _Ids = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All refused ones, or all in --state.")] = False,
    settings_file: _Settings = None,
    agent: _Agent = None,
    database: _Database = None,
    kind: _Kind = None,
    topic: _Topic = None,
    state: _State = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Directory for what they say, a file for each message.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Throw messages away, for good.

    Nobody makes them again: the outputs of a dropped butler-writer message
    stay out of the registry, though their files are there.

    Without IDs, refused ones are meant, unless --state says otherwise. What is
    just leaving stays.

    Exit codes: 0 done, 1 not done, or a message that was named is not there.
    """
    _check_choice(ids, every=every, narrowed=kind is not None or topic is not None or state is not None)
    if state is None and not ids:
        state = Holding.REFUSED
    with _desk(settings_file, agent, database) as desk:
        selection = _selection(ids, kind, topic, state)
        found = desk.messages(selection)
        _show(found)
        if found and not yes:
            typer.confirm(f"Throw away {_messages(len(found))}, for good?", abort=True)
        if save is not None:
            _save(desk, selection, save)
        done = desk.drop([message.id for message in found])
    typer.echo(f"{_messages(done)} thrown away{f', saved in {save}' if save and done else ''}.")
    if found and done < len(found):
        typer.echo(f"{_messages(len(found) - done)} left, or is just leaving.", err=True)
        raise typer.Exit(1)
    _complain(ids, done, "not there")


@contextmanager
def _desk(
    settings_file: Path | None, agent: Agent | None, database: str | None, *, read_only: bool = False
) -> Iterator[OutboxDesk]:
    # `--help` does without these.
    from config.settings import load_ledger_settings
    from config.streaming.settings import load_streaming_settings
    from repos.outbox_desk import open_agent_outbox, open_ledger_outbox

    url = database if database is None or "://" in database else f"sqlite:///{expand_user(database)}"
    if agent is None:
        found = url or load_ledger_settings(file=settings_file).ledger_url
        desk = open_ledger_outbox(found, read_only=read_only)
    else:
        setting = "PP_STREAMING_DATABASE" if url is None else "--database"
        found = url or load_streaming_settings(file=settings_file).agent_database_url(f"{agent}-agent")
        desk = open_agent_outbox(found, setting=setting, role=agent, read_only=read_only)
    try:
        yield desk
    finally:
        desk.close()


def _selection(
    ids: Sequence[int] | None, kind: str | None, topic: str | None, state: Holding | None
) -> Selection:
    return Selection(ids=tuple(ids) if ids else None, kind=kind, topic=topic, holding=state)


def _check_choice(ids: Sequence[int] | None, *, every: bool, narrowed: bool) -> None:
    if ids and every:
        raise typer.BadParameter("give IDs, or --all, and not both")
    if not ids and not every and not narrowed:
        raise typer.BadParameter("say which messages: their IDs, --kind or --topic, or --all")


def _complain(ids: Sequence[int] | None, done: int, why: str) -> None:
    missing = len(set(ids or ())) - done
    if missing > 0:
        typer.echo(f"{_messages(missing)} of those named: {why}.", err=True)
        raise typer.Exit(1)


def _save(desk: OutboxDesk, selection: Selection, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number, payload in desk.payloads(selection):
            (directory / f"message-{number}").write_bytes(payload)
    except OSError as error:
        typer.echo(f"error: nothing is thrown away, for it cannot be saved: {error}", err=True)
        raise typer.Exit(1) from error


def _show(messages: Sequence[HeldMessage]) -> None:
    styles = ["red" if message.reason is not None else None for message in messages]
    # Where the terminal is narrow, long names go over several lines.
    foldable = {"topic": 12, "of": 12}
    print_rows(_COLUMNS, [_row(message) for message in messages], styles, foldable=foldable, notes="reason")


def _row(message: HeldMessage) -> tuple[str, ...]:
    return (
        str(message.id),
        message.holding,
        f"{message.created:%Y-%m-%d %H:%M:%S}",
        message.kind,
        message.topic,
        str(message.size),
        message.about,
        " ".join((message.reason or "").split()),
    )


def _as_json(message: HeldMessage) -> dict[str, object]:
    return {
        "id": message.id,
        "state": message.holding,
        "created": message.created.isoformat(),
        "kind": message.kind,
        "topic": message.topic,
        "key": message.key,
        "bytes": message.size,
        "of": message.about,
        "reason": message.reason,
    }


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
