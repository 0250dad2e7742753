"""A collector of traces: the OTLP service, real on a free port, that keeps what it is sent."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from google.protobuf import text_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Kept:
    """A span, by names instead of the protocol's bytes and numbers."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """Ids of spans."""
    raw: str
    """All of it but the ids, as text."""


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """`spans` is what has come so far."""

    address: str = ""
    hangs: bool = False
    """Whether it takes calls and never answers them."""
    calls: int = 0
    spans: list[Kept] = field(default_factory=list[Kept])

    async def Export(  # noqa: N802 - the protocol's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        del context
        self.calls += 1
        if self.hangs:
            await asyncio.sleep(3600)
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_kept(service, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that send traces here, soon after they are made."""
        return {
            "VOXROUTE_TRACING": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.address}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def named(self, name: str, service: str = "") -> list[Kept]:
        """The spans of a name, of one service where it is given."""
        return [one for one in self.spans if one.name == name and service in ("", one.service)]


@contextlib.asynccontextmanager
async def collecting(*, hangs: bool = False) -> AsyncGenerator[Collector]:
    """A collector that takes spans while the block runs."""
    collector = Collector(hangs=hangs)
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(None)


def _kept(service: str, span: trace_pb2.Span) -> Kept:
    return Kept(
        service=service,
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
        links=tuple(link.span_id.hex() for link in span.links),
        raw=_raw(span),
    )


def _raw(span: trace_pb2.Span) -> str:
    rest = trace_pb2.Span()
    rest.CopyFrom(span)
    for name in ("trace_id", "span_id", "parent_span_id", "links"):
        rest.ClearField(name)
    return text_format.MessageToString(rest, as_utf8=True)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
