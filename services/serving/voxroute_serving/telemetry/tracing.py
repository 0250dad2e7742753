"""Traces: where the time of a job goes, over all its processes, as OpenTelemetry spans.

Off, which is the default, nothing of OpenTelemetry is imported and every function here does
nothing. On, the spans of a job are one trace:

    job                                  the command, or the job service
      +-- AsrService/Transcribe          one for each attempt at a call: the client's side
            +-- AsrService/Transcribe    and the service's
                  +-- decode             the thread that decodes audio and cuts windows
                  +-- load model
                  +-- queue              the wait of the call's items for a batch
                  +-- batch              the device; linked to the other calls that it worked for

A span holds numbers, languages, ids and names of models: never what is said, nor the name of a
recording. Exceptions are therefore told by their class, without their message.
"""

import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from voxroute_serving.telemetry.logs import get_logger

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from voxroute_serving.telemetry.otlp import Tracing

FLUSH_S = 2.0
"""How long an end of a process waits for the collector."""

Kind = Literal["internal", "server", "client"]
Attributes = Mapping[str, str | int | float | Sequence[str]]

# A server's span is an error where the server is at fault (OpenTelemetry's conventions for gRPC).
_SERVER_FAULTS = {
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
}

_log = get_logger(__name__)


class _Switch:
    """The tracing of this process, None while it is off."""

    tracing: "Tracing | None" = None


_switch = _Switch()


def start(service_name: str, version: str) -> None:
    """Turns tracing on for this process, as the standard OTEL_* variables say.

    Where they make no sense the log says so, and the process goes on without traces.
    """
    # it takes half a second, which nobody without traces should wait for
    from voxroute_serving.telemetry.otlp import Tracing  # noqa: PLC0415

    try:
        _switch.tracing = Tracing(service_name, version)
    except Exception as error:  # noqa: BLE001 - traces are not worth a failed job
        _log.error("no traces: an OTEL_* variable is wrong", error=str(error))


def stop(limit_s: float = FLUSH_S) -> None:
    """Delivers what is left and turns tracing off; returns after `limit_s` whatever happens."""
    tracing, _switch.tracing = _switch.tracing, None
    if tracing is not None:
        tracing.close(limit_s)


def here() -> "Span | None":
    """The current span; None where off or outside of any."""
    return None if _switch.tracing is None else _switch.tracing.here()


def ids() -> tuple[str, str] | None:
    """Trace id and span id of the current span, in hexadecimal; None where there is none."""
    span = here()
    if span is None:
        return None
    context = span.get_span_context()
    return format(context.trace_id, "032x"), format(context.span_id, "016x")


@contextlib.contextmanager
def span(
    name: str, attributes: Attributes | None = None, *, root: bool = False
) -> Generator["Span | None"]:
    """A span around the block, below the current one.

    None where tracing is off, and where there is no current span unless it may be a `root`. What
    the block raises makes it an error, except a cancellation.
    """
    tracing = _switch.tracing
    if tracing is None or not (root or tracing.here()):
        yield None
        return
    with tracing.span(name, attributes) as current:
        yield current


@contextlib.contextmanager
def server_span(
    method: str, metadata: Mapping[str, str], attributes: Attributes
) -> Generator["Span | None"]:
    """The service's span of a call "package.Service/Method", below the client's if it has one.

    `end_call` tells how it ended.
    """
    tracing = _switch.tracing
    if tracing is None:
        yield None
        return
    rpc: Attributes = {"rpc.system.name": "grpc", "rpc.method": method, **attributes}
    with tracing.span(method, rpc, kind="server", carrier=metadata) as current:
        yield current


def client_span(method: str, attributes: Attributes) -> "tuple[Span, dict[str, str]] | None":
    """A span that has begun for a call, and the metadata that tells the service; None where off.

    `end_call` tells how it ended, and `end()` ends it.
    """
    tracing = _switch.tracing
    if tracing is None:
        return None
    return tracing.client_span(
        method, {"rpc.system.name": "grpc", "rpc.method": method, **attributes}
    )


def end_call(span: "Span | None", code: str, error_type: str = "", *, server: bool) -> None:
    """Notes the status of a call, and the reason or the class of its error."""
    if span is None:
        return
    span.set_attribute("rpc.response.status_code", code)
    if code == "OK":
        return
    span.set_attribute("error.type", error_type or code)
    tracing = _switch.tracing
    if tracing is not None and (not server or code in _SERVER_FAULTS):
        tracing.mark_failed(span)


@contextlib.contextmanager
def batch(task: str, model: str, waits: Iterable[tuple["Span | None", float]]) -> Generator[None]:
    """The span of a batch of the device around the block, and what its items waited before.

    `waits` has for each item the span of its call and how long it waited, seconds. The batch
    belongs to the first call that is traced and is linked to the others; each gets a `queue` span.
    """
    tracing = _switch.tracing
    traced = [(span, waited_s) for span, waited_s in waits if span is not None]
    if tracing is None or not traced:
        yield
        return
    with tracing.batch(task, model, traced):
        yield
