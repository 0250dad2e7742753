"""What `tracing` does while it is on: OpenTelemetry's SDK, and OTLP to a collector.

The standard variables set it: OTEL_EXPORTER_OTLP_ENDPOINT and its relatives, OTEL_TRACES_SAMPLER,
OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_BSP_*, OTEL_PROPAGATORS. The tracer is this
module's own, not the global one: libraries that bring instrumentation of theirs would write what
we do not.
"""

import logging
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from voxroute_serving.telemetry.logs import get_logger

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
        self.tracer = self._provider.get_tracer("voxroute", version)

    def close(self, limit_s: float) -> None:
        """Delivers what is left, for at most `limit_s`; where the collector is away, not at all."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(0.0 if self._exporter.failing else limit_s)
        if ending.is_alive():
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what follows is known
            self._exporter.shutdown()
            ending.join(_ABANDON_S)
