"""The lines of the log as dictionaries, whatever is set up to write them."""

import contextlib
import logging
from collections.abc import Generator
from typing import Any

from voxroute_serving.telemetry.logs import fields_of


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        self.lines.append({**fields_of(record), "event": record.getMessage(), "log_level": level})


@contextlib.contextmanager
def captured_logs() -> Generator[list[dict[str, Any]]]:
    """What the product's own loggers tell during the block."""
    handler = _Lines()
    loggers = [logging.getLogger(f"voxroute_{name}") for name in ("serving", "orchestrator")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
