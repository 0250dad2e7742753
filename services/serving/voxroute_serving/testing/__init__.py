"""Fakes that are shipped, and that most tests use."""
