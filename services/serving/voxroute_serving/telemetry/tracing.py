"""Traces: where the time of a job goes, over all its processes, as OpenTelemetry spans.

Off, which is the default, OpenTelemetry's API alone is imported, whose spans do nothing. On, the
spans of a job are one trace:

    job                                  the command, or the job service
      +-- AsrService/Transcribe          one for each attempt at a call: the client's side
            +-- AsrService/Transcribe    and the service's
                  +-- decode             the thread that decodes audio and cuts windows
                  +-- load model
                  +-- queue              the wait of the call's items for a batch
                  +-- batch              the device; linked to the other calls that it worked for

Where a worker fetches the call (`voxroute worker`), its own call is between the two.

A span holds numbers, languages, ids and names of models: never what is said, nor the name of a
recording. Exceptions are therefore told by their class, without their message.
"""

import contextlib
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Link, NoOpTracer, Span, SpanKind, StatusCode, Tracer

from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

if TYPE_CHECKING:
    from voxroute_serving.telemetry.otlp import Tracing

FLUSH_S = 2.0
"""How long an end of a process waits for the collector."""
NO_SPAN: Span = trace.INVALID_SPAN
"""Takes attributes and a status, and keeps none."""

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
    tracer: Tracer = NoOpTracer()


_switch = _Switch()


def start(service_name: str, version: str) -> None:
    """Turns tracing on for this process, as the standard OTEL_* variables say.

    Where they make no sense the log says so, and the process goes on without traces.
    """
    # it takes half a second, which nobody without traces should wait for
    from voxroute_serving.telemetry.otlp import Tracing  # noqa: PLC0415

    try:
        _switch.tracing = Tracing(service_name, version)
        _switch.tracer = _switch.tracing.tracer
    except Exception as error:  # noqa: BLE001 - traces are not worth a failed job
        _log.error("no traces: an OTEL_* variable is wrong", error=str(error))


def stop(limit_s: float = FLUSH_S) -> None:
    """Delivers what is left and turns tracing off; returns after `limit_s` whatever happens."""
    tracing, _switch.tracing, _switch.tracer = _switch.tracing, None, NoOpTracer()
    if tracing is not None:
        tracing.close(limit_s)


def here() -> Span:
    """The current span; NO_SPAN outside of any."""
    return trace.get_current_span()


def ids() -> tuple[str, str] | None:
    """Trace id and span id of the current span, in hexadecimal; None where there is none."""
    context = here().get_span_context()
    if not context.is_valid:
        return None
    return format(context.trace_id, "032x"), format(context.span_id, "016x")


@contextlib.contextmanager
def span(name: str, attributes: Attributes | None = None, *, root: bool = False) -> Generator[Span]:
    """A span around the block, below the current one.

    NO_SPAN where tracing is off, and where there is no current span unless it may be a `root`.
    What the block raises makes it an error, except a cancellation.
    """
    if not (root or here().get_span_context().is_valid):
        yield NO_SPAN
        return
    with _current(name, attributes=attributes) as current, _failing(current):
        yield current


def server_span(
    method: str, metadata: Mapping[str, str], attributes: Attributes
) -> contextlib.AbstractContextManager[Span]:
    """The service's span of a call "package.Service/Method", below the client's if it has one.

    `end_call` tells how it ended.
    """
    about = {"rpc.system.name": "grpc", "rpc.method": method, **attributes}
    return _served(method, metadata, about)


@contextlib.contextmanager
def request_span(method: str, route: str, headers: Mapping[str, str]) -> Generator[Span]:
    """The span of a request by HTTP, likewise; `end_request` tells how it ended."""
    carrier = {name.lower(): value for name, value in headers.items()}
    about = {"http.request.method": method, "http.route": route}
    with _served(f"{method} {route}", carrier, about) as current:
        yield current


def end_request(span: Span, status: int) -> None:
    """Notes the status of a request."""
    span.set_attribute("http.response.status_code", status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(StatusCode.ERROR)


def _served(
    name: str, metadata: Mapping[str, str], about: Attributes
) -> contextlib.AbstractContextManager[Span]:
    if _switch.tracing is None:
        return contextlib.nullcontext(NO_SPAN)
    from opentelemetry import propagate  # noqa: PLC0415 - finds propagators among all packages

    parent = propagate.extract(metadata)
    return _current(name, context=parent, kind=SpanKind.SERVER, attributes=about)


def client_span(method: str, attributes: Attributes) -> tuple[Span, dict[str, str]]:
    """A span that has begun for a call, and the metadata that tells the service.

    `end_call` tells how it ended, and `end()` ends it.
    """
    carrier: dict[str, str] = {}
    if _switch.tracing is None:
        return NO_SPAN, carrier
    from opentelemetry import propagate  # noqa: PLC0415 - as above

    about = {"rpc.system.name": "grpc", "rpc.method": method, **attributes}
    begun = _switch.tracer.start_span(method, kind=SpanKind.CLIENT, attributes=about)
    propagate.inject(carrier, trace.set_span_in_context(begun))
    return begun, carrier


@contextlib.contextmanager
def below(carrier: Mapping[str, str]) -> Generator[None]:
    """Has spans in the block be below the one of which `client_span` has told another process."""
    if _switch.tracing is None:
        yield
        return
    from opentelemetry import context, propagate  # noqa: PLC0415 - as above

    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)


def end_call(span: Span, code: str, error_type: str = "", *, server: bool) -> None:
    """Notes the status of a call, and the reason or the class of its error."""
    span.set_attribute("rpc.response.status_code", code)
    if code == "OK":
        return
    span.set_attribute("error.type", error_type or code)
    if not server or code in _SERVER_FAULTS:
        span.set_status(StatusCode.ERROR)  # without a description, which could quote what was said


@contextlib.contextmanager
def batch(task: str, model: str, waits: Iterable[tuple[Span, float]]) -> Generator[None]:
    """The span of a batch of the device around the block, and what its items waited before.

    `waits` has for each item the span of its call and how long it waited, seconds. The batch
    belongs to the first call that is traced and is linked to the others; each gets a `queue` span.
    """
    calls: dict[int, Span] = {}
    waited: dict[int, list[float]] = {}
    for span, waited_s in waits:
        if span.get_span_context().is_valid:
            calls[span.get_span_context().span_id] = span
            waited.setdefault(span.get_span_context().span_id, []).append(waited_s)
    if not calls:
        yield
        return
    now = time.time_ns()
    for identity, span in calls.items():
        times_s = waited[identity]
        _switch.tracer.start_span(
            "queue",
            trace.set_span_in_context(span),
            attributes={"voxroute.task": task, "voxroute.items": len(times_s)},
            start_time=now - round(max(times_s) * 1e9),
        ).end(now)
    # below a call that is not sampled it would not be seen by those that are
    sampled = (one for one in calls.values() if one.get_span_context().trace_flags.sampled)
    first = next(sampled, next(iter(calls.values())))
    about: Attributes = {
        "voxroute.task": task,
        "voxroute.model": model,
        "voxroute.items": sum(map(len, waited.values())),
        "voxroute.calls": len(calls),
    }
    links = [Link(one.get_span_context()) for one in calls.values() if one is not first]
    parent = trace.set_span_in_context(first)
    with (
        _current("batch", context=parent, attributes=about, links=links) as current,
        _failing(current),
    ):
        yield


def _current(name: str, **about: Any) -> contextlib.AbstractContextManager[Span]:
    """A span that is the current one; no exception is recorded, as it may quote what was said."""
    return _switch.tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False, **about
    )


@contextlib.contextmanager
def _failing(span: Span) -> Generator[None]:
    """Tells in the span what the block raises, by its class or reason."""
    try:
        yield
    except Exception as error:
        reason = error.reason if isinstance(error, ServingError) else type(error).__name__
        span.set_attribute("error.type", reason)
        span.set_status(StatusCode.ERROR)
        raise
