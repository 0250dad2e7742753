"""The metrics of the gateway, in a registry of their own."""

import asyncio
import contextlib
from collections.abc import Generator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from voxroute_serving.metrics import CALL_BUCKETS


class GatewayMetrics:
    """Counts requests; every label takes a bounded set of values."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "voxroute_gateway_requests",
            "Requests ended, by route and status; 499 where the client left.",
            ("route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "voxroute_gateway_request_seconds",
            "Time from the start to the end of a request.",
            ("route",),
            buckets=CALL_BUCKETS,
            registry=self.registry,
        )
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = Gauge(
            "voxroute_gateway_requests_in_flight",
            "Requests begun and not ended.",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "voxroute_gateway_requests_waiting",
            "Requests that wait for a service that is full.",
            registry=self.registry,
        )
        self.live = Gauge(
            "voxroute_gateway_live_connections",
            "Connections for live speech that are open, by kind: realtime, wyoming.",
            ("kind",),
            registry=self.registry,
        )
        for kind in ("realtime", "wyoming"):
            self.live.labels(kind)
        Gauge(
            "voxroute_gateway_info", "1, with the version.", ("version",), registry=self.registry
        ).labels(version).set(1)

    @contextlib.contextmanager
    def request(self) -> Generator[None]:
        """Counts a request as one in flight while the block lasts."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self._open += more
        self._in_flight.set(self._open)
        if self._open:
            self._idle.clear()
        else:
            self._idle.set()

    async def idle(self) -> None:
        """Returns once no request is in flight."""
        await self._idle.wait()
