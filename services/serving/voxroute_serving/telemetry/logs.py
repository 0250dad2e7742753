"""Structured logs on stderr; the lines of a call carry its request id, its job's id, its trace's.

Texts that people speak or have translated are not logged unless `log_text` is set: neither as what
a line tells, nor in what an exception quotes. `log_lines` writes the lines.
"""

import contextlib
import logging
import sys
from collections.abc import Generator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

TEXT_FIELDS = ("text", "translation")
"""What a log statement calls what people say; left out unless asked for."""

_level = logging.NOTSET  # of the product's own loggers; until it is set, that of the others
_packages: dict[str, logging.Logger] = {}

ExcInfo = bool | BaseException | None

# of the call or the job that lines are written for
_context: ContextVar[Mapping[str, Any]] = ContextVar("log", default=MappingProxyType({}))


class Logger:
    """A logger of the standard library whose lines have fields: `info("done", took_s=2.5)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: Any) -> None:
        """Tells what only somebody who looks for a defect wants to know."""
        self._write(logging.DEBUG, event, None, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Tells what happens."""
        self._write(logging.INFO, event, None, fields)

    def warning(self, event: str, /, *, exc_info: ExcInfo = None, **fields: Any) -> None:
        """Tells what somebody should look at."""
        self._write(logging.WARNING, event, exc_info, fields)

    def error(self, event: str, /, *, exc_info: ExcInfo = None, **fields: Any) -> None:
        """Tells what went wrong."""
        self._write(logging.ERROR, event, exc_info, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """Tells what went wrong, with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, True, fields)

    def _write(self, level: int, event: str, exc_info: ExcInfo, fields: dict[str, Any]) -> None:
        # one attribute: the names of fields are not to be mistaken for those of the record
        self._logger.log(level, event, exc_info=exc_info, extra={"fields": fields})


def get_logger(name: str) -> Logger:
    """The logger of a module, whose package writes what the level of set_up_logs lets pass."""
    package = name.partition(".")[0]
    if package not in _packages:
        _packages[package] = logging.getLogger(package)
        _packages[package].setLevel(_level)
    return Logger(name)


@contextlib.contextmanager
def bound(**fields: Any) -> Generator[None]:
    """Gives the lines of the block more fields."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def bind(**fields: Any) -> None:
    """Gives the lines of this task more fields from here on."""
    _context.set({**_context.get(), **fields})


def bind_only(**fields: Any) -> None:
    """As bind, without those that it had."""
    _context.set(fields)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a line that is being written, and those of what it is written for."""
    return {**_context.get(), **getattr(record, "fields", {})}


class _LateFormatter(logging.Formatter):
    """Imports what writes lines with the first one."""

    def __init__(self, log_format: Literal["json", "console"], *, log_text: bool) -> None:
        super().__init__()
        self._log_format: Literal["json", "console"] = log_format
        self._log_text = log_text
        self._colors = sys.stderr.isatty()
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        if self._formatter is None:
            from voxroute_serving.telemetry import log_lines  # noqa: PLC0415 - see there

            self._formatter = log_lines.formatter(
                self._log_format, log_text=self._log_text, colors=self._colors
            )
        return self._formatter.format(record)


def _is_ours(record: logging.LogRecord) -> bool:
    """Lets FFmpeg's lines pass at debug only: what a client's file is like is no error here."""
    if not record.name.startswith("libav"):
        return True
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return _level <= logging.DEBUG


def set_up_logs(
    level: str, log_format: Literal["json", "console"], *, log_text: bool = False
) -> None:
    """Sends every log line, ours and those of libraries, to stderr in one format.

    `level` counts for packages that log by get_logger; libraries write warnings and worse.
    With `log_text` lines may hold what people say.
    """
    global _level  # noqa: PLW0603 - one for the process
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_ours)
    handler.setFormatter(_LateFormatter(log_format, log_text=log_text))
    _level = getattr(logging, level.upper())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(max(_level, logging.WARNING))
    for logger in _packages.values():
        logger.setLevel(_level)
    logging.captureWarnings(True)
