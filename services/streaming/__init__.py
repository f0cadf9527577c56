"""What the streaming workflow's agents do."""
