"""Structured logs on stderr; the lines of a call carry its request id, its job's id, its trace's.

Texts that people speak or have translated are not logged unless `log_text` is set: neither as what
a line tells, nor in what an exception quotes.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal

import structlog

from voxroute_serving import tracing
from voxroute_serving.errors import ServingError

TEXT_FIELDS = ("text", "translation")
"""What a log statement calls what people say; left out unless asked for."""
# Exceptions whose messages tell of hardware, files and connections. Any other may quote the value
# that it fails on, and values are what people say.
_TELLING = (ServingError, OSError, MemoryError, ImportError, RuntimeError)

_EventDict = MutableMapping[str, Any]
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def _add_trace_ids(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    ids = tracing.ids()
    if ids is not None:
        event["trace_id"], event["span_id"] = ids
    return event


def _without_text(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    """Drops the fields of texts, and what asyncio quotes of exceptions that nobody has awaited."""
    for name in TEXT_FIELDS:
        event.pop(name, None)
    if event.get("logger") == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    _add_trace_ids,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _with_all_messages(exc_info: _ExcInfo) -> str:
    return "".join(traceback.format_exception(*exc_info)).rstrip()


def _without_quotes(exc_info: _ExcInfo) -> str:
    """The traceback, with the messages of those exceptions only that quote nobody."""
    return "\n".join(_described(exc_info[1]))


def _described(error: BaseException) -> list[str]:
    lines: list[str] = []
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        lines += [*_described(earlier), "", "Then:", ""]
    lines.append("Traceback (most recent call last):")
    lines += "".join(traceback.format_tb(error.__traceback__)).splitlines()
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    told = str(error) if isinstance(error, _TELLING) else "(--log-text tells the message)"
    lines.append(f"{kind}: {told}")
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            lines += ["", "Part of it:", "", *_described(part)]  # pyright: ignore[reportUnknownArgumentType]
    return lines


def _is_ours(record: logging.LogRecord) -> bool:
    """Lets FFmpeg's lines pass at debug only: what a client's file is like is no error here."""
    if not record.name.startswith("libav"):
        return True
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return logging.getLogger("voxroute_serving").isEnabledFor(logging.DEBUG)


def set_up_logs(
    level: str, log_format: Literal["json", "console"], *, log_text: bool = False
) -> None:
    """Sends every log line, structlog's and the standard library's, to stderr in one format.

    `level` counts for the product's own loggers; those of libraries write warnings and worse.
    With `log_text` lines may hold what people say.
    """
    # never structlog's own tracebacks: they print local variables, and with them what people said
    formatter: Any = _with_all_messages if log_text else _without_quotes
    last: list[Any] = [
        *([] if log_text else [_without_text]),
        structlog.processors.ExceptionRenderer(formatter),
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    # it quotes the segments that it cannot align, as warnings
    logging.getLogger("whisperx.alignment").setLevel(logging.WARNING if log_text else logging.ERROR)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_ours)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    own = getattr(logging, level.upper())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(max(own, logging.WARNING))
    for name in ("voxroute_serving", "voxroute_asr_whisperx", "voxroute_asr_mlx"):
        logging.getLogger(name).setLevel(own)
    logging.getLogger("voxroute_translate").setLevel(own)
    logging.getLogger("voxroute_orchestrator").setLevel(own)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
