"""Wiring, web pages and commands of the streaming workflow."""
