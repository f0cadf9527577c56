"""The demo: a small observatory observes, and the real service processes."""
