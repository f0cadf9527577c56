"""Settings and workflow files of the streaming workflow."""
