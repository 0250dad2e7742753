"""The speech service over any engine."""
