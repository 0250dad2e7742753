"""How the log's lines are written: structlog's processors, and what they leave out.

Imported with the first line: structlog, with rich, takes a third of a second, and most commands
write none.
"""

import logging
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal

import structlog  # noqa: TID251 - here alone

from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import TEXT_FIELDS, fields_of

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


def _add_fields(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    return {**fields_of(event["_record"]), **event}


def _without_text(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    """Drops the fields of texts, and what asyncio quotes of exceptions that nobody has awaited."""
    for name in TEXT_FIELDS:
        event.pop(name, None)
    if event.get("logger") == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


_SHARED: list[Any] = [
    _add_fields,
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


def _described(error: BaseException, told_already: frozenset[int] = frozenset()) -> list[str]:
    """Its lines after those of what came before; exceptions may come before each other."""
    lines: list[str] = []
    known = told_already | {id(error)}
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in known:
        lines += [*_described(earlier, known), "", "Then:", ""]
    lines.append("Traceback (most recent call last):")
    lines += "".join(traceback.format_tb(error.__traceback__)).splitlines()
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    told = str(error) if isinstance(error, _TELLING) else "(--log-text tells the message)"
    lines.append(f"{kind}: {told}")
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            lines += ["", "Part of it:", "", *_described(part, known)]  # pyright: ignore[reportUnknownArgumentType]
    return lines


def formatter(
    log_format: Literal["json", "console"], *, log_text: bool, colors: bool
) -> logging.Formatter:
    """What writes the lines of all loggers; with `log_text` they may hold what people say."""
    # never structlog's own tracebacks: they print local variables, and with them what people said
    exceptions: Any = _with_all_messages if log_text else _without_quotes
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if log_text else [_without_text]),
            structlog.processors.ExceptionRenderer(exceptions),
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if log_format == "json"
            else structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
    )
