"""NATS JetStream, where `--engine` names it."""
