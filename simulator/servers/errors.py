"""What can go wrong with servers."""

from __future__ import annotations

__all__ = ["ServerFailed", "ServerUnavailable"]

from models.errors import PromptProcessingError


class ServerUnavailable(PromptProcessingError):
    """A server is neither installed nor can it be unpacked here."""


class ServerFailed(PromptProcessingError):
    """A server that is there did not start, or did not do as asked."""
