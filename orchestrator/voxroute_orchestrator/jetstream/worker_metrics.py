"""The Prometheus metrics of a worker."""

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

Outcome = Literal["done", "failed", "left", "lost"]
"""How a worker's span has ended; see the metric."""
_OUTCOMES: tuple[Outcome, ...] = ("done", "failed", "left", "lost")


class WorkerMetrics:
    """What an operator sees of a worker, in a registry of its own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"voxroute_worker_{name}", text, registry=self.registry)

        Gauge(
            "voxroute_worker_info", "1, with the version.", ("version",), registry=self.registry
        ).labels(version).set(1)
        self._connected = gauge("connected", "1 while a NATS server is connected, else 0.")
        self._service_up = gauge(
            "service_up", "1 while the service beside it says that it takes calls, else 0."
        )
        self.lanes = gauge(
            "lanes",
            "Spans, or turns at translations, at once at most, as far as the service has told.",
        )
        self.in_flight = gauge("spans_in_flight", "Spans, or turns, begun and not ended.")
        self._spans = Counter(
            "voxroute_worker_spans",
            "Spans, or turns of at most 64 texts, ended, by outcome: done, failed (the service has"
            " ended the call with an error), left (given back because the worker was told to end),"
            " lost (nobody waited for it any more, or nobody could be told).",
            ("outcome",),
            registry=self.registry,
        )
        self.decoded_seconds = Counter(
            "voxroute_worker_decoded_seconds",
            "Seconds of recordings in the windows that the service has finished.",
            registry=self.registry,
        )
        self.translated_texts = Counter(
            "voxroute_worker_translated_texts",
            "Texts that the service has translated.",
            registry=self.registry,
        )
        for outcome in _OUTCOMES:
            self._spans.labels(outcome)

    def follow(self, connected: Callable[[], bool], service_up: Callable[[], bool]) -> None:
        """Has what is there told by functions, whenever somebody asks."""
        self._connected.set_function(connected)
        self._service_up.set_function(service_up)

    def ended(self, outcome: Outcome) -> None:
        """Counts a span that has ended."""
        self._spans.labels(outcome).inc()
