"""Pages about executions, runs and files."""
