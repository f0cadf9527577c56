"""Alerts as messages for Kafka."""

from __future__ import annotations

__all__ = ["AlertFraming", "AlertTopicSink", "alert_key"]

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from models.alerts import AlertPackets
from models.events import ALERT, OutboxMessage
from models.visits import FannedOutVisit
from repos.alert_encoding import alert_datums, datums_to_file, with_schema_id


class AlertFraming(StrEnum):
    """What is around an alert in its message."""

    CONFLUENT = "confluent"
    """The schema's id in a registry, as Confluent's clients expect it."""
    PLAIN = "plain"
    """Nothing; readers must know the schema."""
    CONTAINER = "container"
    """An object container file of one alert, which holds the schema too."""


class AlertTopicSink:
    """Makes each alert a message.

    Parameters
    ----------
    topic : `str`
        Kafka topic.
    framing : `AlertFraming`
    schema_id : `int`, optional
        Id of the schema in the registry of those who read; by default that of
        the observatory's registry, 704 for version 7.4.
    """

    def __init__(
        self,
        topic: str,
        *,
        framing: AlertFraming = AlertFraming.CONFLUENT,
        schema_id: int | None = None,
    ) -> None:
        self._topic = topic
        self._framing = framing
        self._schema_id = schema_id

    def send(
        self,
        packets: AlertPackets,
        visit: FannedOutVisit,
        exposure: int,
        outlet: Callable[[Sequence[OutboxMessage]], None],
    ) -> str:
        """Give the alerts of an exposure to the outlet, in their order."""
        messages = tuple(
            OutboxMessage(
                kind=ALERT, topic=self._topic, key=alert_key(packet), payload=self._frame(datum, packets)
            )
            for packet, datum in zip(packets, alert_datums(packets), strict=True)
        )
        outlet(messages)
        return ""

    def _frame(self, datum: bytes, packets: AlertPackets) -> bytes:
        match self._framing:
            case AlertFraming.CONFLUENT:
                return with_schema_id(
                    datum, packets.schema_id if self._schema_id is None else self._schema_id
                )
            case AlertFraming.CONTAINER:
                return datums_to_file([datum], packets.schema_version)
            case AlertFraming.PLAIN:
                return datum


def alert_key(packet: Mapping[str, Any]) -> str:
    """Return the key of an alert's message: the id of what was seen.

    All alerts of one object are in one partition then, in order: the DIA
    object, else the solar-system object, else the DIA source itself.
    """
    source = packet["diaSource"]
    dia_object = packet.get("diaObject") or {}
    ids = (dia_object.get("diaObjectId"), source.get("diaObjectId"), source.get("ssObjectId"))
    # Older schemas write 0 where later ones write null.
    return str(next((i for i in ids if i), source["diaSourceId"]))
