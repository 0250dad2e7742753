"""One service's process: settings, health, metrics, signals, drain."""
