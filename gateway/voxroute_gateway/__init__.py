"""HTTP in front of the speech and translation services."""
