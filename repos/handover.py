"""The last step of a visit: outputs handed over to the central registry."""

from __future__ import annotations

__all__ = ["DirectHandover", "WriterHandover"]

from models.events import OutboxMessage
from repos.registry_writer import Outputs, RegistryWriter


class DirectHandover:
    """Inserts outputs into the central registry at once.

    For one machine; at survey scale this is what brings the registry down.

    Parameters
    ----------
    writer : `repos.registry_writer.RegistryWriter`
    """

    def __init__(self, writer: RegistryWriter) -> None:
        self._writer = writer

    def hand_over(self, outputs: Outputs) -> tuple[OutboxMessage, ...]:
        """Insert outputs; nothing remains to be sent."""
        self._writer.ingest([outputs])
        return ()


class WriterHandover:
    """Leaves the registry to the writer service.

    Parameters
    ----------
    topic : `str`
        Kafka topic that the writer reads.
    with_dataset_types : `bool`
        Whether the message also defines the dataset types.
    """

    def __init__(self, *, topic: str, with_dataset_types: bool = False) -> None:
        self._topic = topic
        self._with_dataset_types = with_dataset_types

    def hand_over(self, outputs: Outputs) -> tuple[OutboxMessage, ...]:
        """Return the message for the outbox, which is stored with the visit's
        result in one transaction.
        """
        payload = outputs.to_message(with_dataset_types=self._with_dataset_types)
        return (OutboxMessage(kind="butler-writer", topic=self._topic, key=None, payload=payload),)
