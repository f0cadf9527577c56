"""Messages and values of the streaming workflow."""
