"""What `tracing` does while it is on: OpenTelemetry's SDK, and OTLP to a collector.

The standard variables set it: OTEL_EXPORTER_OTLP_ENDPOINT and its relatives, OTEL_TRACES_SAMPLER,
OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_BSP_*, OTEL_PROPAGATORS. The tracer is this
module's own, not the global one: libraries that bring instrumentation of theirs would write what
we do not.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Generator, Mapping, Sequence

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger
from voxroute_serving.telemetry.tracing import Attributes, Kind

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_ABANDON_S = 1.0  # for the exporter to leave a call to the collector that was ended

_log = get_logger(__name__)


class _Exporter(SpanExporter):
    """The OTLP exporter, which tells once that the collector is away, instead of all the time."""

    def __init__(self) -> None:
        self._exporter = OTLPSpanExporter()
        self.failing = False
        # it writes a line for every try
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - a channel that is closed under it, say
            result = SpanExportResult.FAILURE
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self.failing:
            _log.warning("the collector takes no traces; they are lost until it does")
        elif self.failing and not failing:
            _log.info("the collector takes traces again")
        self.failing = failing
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # pyright: ignore[reportUnknownMemberType]


class Tracing:
    """The tracing of a process."""

    def __init__(self, service_name: str, version: str) -> None:
        """Raises what the SDK raises for variables that make no sense."""
        own = Resource.create({SERVICE_NAME: service_name, SERVICE_VERSION: version})
        resource = own.merge(OTELResourceDetector().detect())  # an operator's names win
        self._exporter = _Exporter()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("voxroute", version)

    def close(self, limit_s: float) -> None:
        """Delivers what is left, for at most `limit_s`; where the collector is away, not at all."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(0.0 if self._exporter.failing else limit_s)
        if ending.is_alive():
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what follows is known
            self._exporter.shutdown()
            ending.join(_ABANDON_S)

    def here(self) -> Span | None:
        """The current span, None outside of any."""
        current = trace.get_current_span()
        return current if current.get_span_context().is_valid else None

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes | None,
        *,
        kind: Kind = "internal",
        carrier: Mapping[str, str] | None = None,
    ) -> Generator[Span]:
        """The current span of the block, below that of the carrier, else below the current one."""
        with self._tracer.start_as_current_span(
            name,
            context=None if carrier is None else propagate.extract(carrier),
            kind=_KINDS[kind],
            attributes=attributes,
            record_exception=False,  # its message may quote what was said
            set_status_on_exception=False,
        ) as current:
            try:
                yield current
            except Exception as error:
                if kind == "internal":  # a call has a status, which `tracing.end_call` tells
                    self._fail(current, error)
                raise

    def client_span(self, method: str, attributes: Attributes) -> tuple[Span, dict[str, str]]:
        """A begun span below the current one, and the metadata for the service."""
        begun = self._tracer.start_span(method, kind=SpanKind.CLIENT, attributes=attributes)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(begun))
        return begun, carrier

    def mark_failed(self, span: Span) -> None:
        """Makes a span an error, without a description: it could quote what was said."""
        span.set_status(StatusCode.ERROR)

    @contextlib.contextmanager
    def batch(self, task: str, model: str, waits: Sequence[tuple[Span, float]]) -> Generator[None]:
        """See `tracing.batch`."""
        calls = {span.get_span_context().span_id: span for span, _ in waits}
        waited: dict[int, list[float]] = {identity: [] for identity in calls}
        for span, waited_s in waits:
            waited[span.get_span_context().span_id].append(waited_s)
        now = time.time_ns()
        for identity, span in calls.items():
            times_s = waited[identity]
            self._tracer.start_span(
                "queue",
                trace.set_span_in_context(span),
                attributes={"voxroute.task": task, "voxroute.items": len(times_s)},
                start_time=now - round(max(times_s) * 1e9),
            ).end(now)
        # below a call that is not sampled it would not be seen by those that are
        sampled = (one for one in calls.values() if one.get_span_context().trace_flags.sampled)
        first = next(sampled, waits[0][0])
        with self._tracer.start_as_current_span(
            "batch",
            trace.set_span_in_context(first),
            attributes={
                "voxroute.task": task,
                "voxroute.model": model,
                "voxroute.items": len(waits),
                "voxroute.calls": len(calls),
            },
            links=[Link(one.get_span_context()) for one in calls.values() if one is not first],
            record_exception=False,
            set_status_on_exception=False,
        ) as current:
            try:
                yield
            except Exception as error:
                self._fail(current, error)
                raise

    def _fail(self, span: Span, error: Exception) -> None:
        reason = error.reason if isinstance(error, ServingError) else type(error).__name__
        span.set_attribute("error.type", reason)
        self.mark_failed(span)
