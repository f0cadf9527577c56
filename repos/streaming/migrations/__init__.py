"""Versions of the streaming workflow's tables."""
