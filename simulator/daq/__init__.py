"""A simulated data acquisition: runs, their states, their STF files."""
