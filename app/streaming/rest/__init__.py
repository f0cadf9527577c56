"""The monitor's REST resources."""
