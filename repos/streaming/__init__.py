"""What the streaming workflow keeps, and whom it talks to."""
