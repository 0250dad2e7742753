"""The Prometheus metrics of a service, and the port that serves them.

The names of the call metrics are those of go-grpc-prometheus, so that dashboards and rules made
for it work here. Every label takes a bounded set of values: methods are those the server has.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from voxroute_serving.device.batcher import Admission, BatchRecord
from voxroute_serving.device.memory import with_memory
from voxroute_serving.device.pool import ModelState, ModelStatus, UnloadReason
from voxroute_serving.domain import DeviceInfo
from voxroute_serving.errors import ServingError

# seconds; calls last from a health check's millisecond to a film's hour
CALL_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
WORK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds
LOAD_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)  # seconds; a download included
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)  # items

_METHOD = ("grpc_type", "grpc_service", "grpc_method")


MethodType = Literal["unary", "client_stream", "server_stream", "bidi_stream"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the server, as the labels name it."""

    type: MethodType
    service: str
    name: str

    @property
    def labels(self) -> tuple[str, str, str]:
        """The values of the labels that all call metrics have."""
        return self.type, self.service, self.name


UNKNOWN_METHOD = Method("unary", "unknown", "unknown")
"""All calls of methods that the server does not have: a client chooses their names."""


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self, *, service_version: str = "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.started = counter("grpc_server_started", "Calls started.", _METHOD)
        self.handled = counter(
            "grpc_server_handled", "Calls ended, by status.", (*_METHOD, "grpc_code")
        )
        self.handling_seconds = histogram(
            "grpc_server_handling_seconds",
            "Time from the start to the end of a call.",
            _METHOD,
            buckets=CALL_BUCKETS,
        )
        self.messages_received = counter(
            "grpc_server_msg_received", "Messages received from clients.", _METHOD
        )
        self.messages_sent = counter("grpc_server_msg_sent", "Messages sent to clients.", _METHOD)
        self.calls_in_flight = gauge("voxroute_calls_in_flight", "Calls admitted and not ended.")
        self.calls_capacity = gauge("voxroute_calls_capacity", "Calls admitted at once at most.")
        self.work_queued = gauge(
            "voxroute_work_queued", "Pieces of work (windows, sentences) that wait for the device."
        )
        self.ready = gauge(
            "voxroute_ready", "1 while the service takes calls, 0 while it loads or drains."
        )
        self.batch_size = histogram(
            "voxroute_batch_size", "Pieces of work in a batch.", buckets=BATCH_BUCKETS
        )
        self.batch_queue_seconds = histogram(
            "voxroute_batch_queue_seconds",
            "Longest wait of a batch's pieces of work for the device.",
            buckets=WORK_BUCKETS,
        )
        self.batch_inference_seconds = histogram(
            "voxroute_batch_inference_seconds",
            "Time that the device took for a batch.",
            buckets=WORK_BUCKETS,
        )
        self.fallbacks = counter(
            "voxroute_fallbacks",
            "Steps taken because the device's memory ran out: batch, compute_type.",
            ("kind",),
        )
        for kind in ("batch", "compute_type"):  # zero is a value that an alert can compare with
            self.fallbacks.labels(kind)
        self.errors = counter(
            "voxroute_errors",
            "Calls that failed, by the reason of google.rpc.ErrorInfo; DEFECT where nobody foresaw"
            " it.",
            ("reason",),
        )
        for reason in ("QUEUE_FULL", "OUT_OF_MEMORY", "ENGINE_FAILED", "DEFECT"):
            self.errors.labels(reason)
        self.model_loads = counter(
            "voxroute_model_loads",
            "Models loaded into the device's memory, by outcome: loaded, failed.",
            ("outcome",),
        )
        for outcome in ("loaded", "failed"):
            self.model_loads.labels(outcome)
        self.model_load_seconds = histogram(
            "voxroute_model_load_seconds",
            "Time that a model took to load, downloads and conversions included.",
            buckets=LOAD_BUCKETS,
        )
        self.model_unloads = counter(
            "voxroute_model_unloads",
            "Models freed, by reason: request (UnloadModel), idle (no call for the time to live),"
            " memory (room for another).",
            ("reason",),
        )
        for reason in get_args(UnloadReason):
            self.model_unloads.labels(reason)
        self.model_memory = gauge(
            "voxroute_model_memory_bytes",
            "Device memory that the loaded models take, as far as it is known.",
        )
        self.models = gauge(
            "voxroute_models", "Models of the pool, by state: loading, loaded.", ("state",)
        )
        for state in (ModelState.LOADING, ModelState.LOADED):
            self.models.labels(state.name.lower())
        gauge("voxroute_build_info", "1, with the version.", ("version",)).labels(
            service_version
        ).set(1)

    def observe_admission(self, admission: Admission) -> None:
        """Lets the gauges of calls follow an admission."""
        self.calls_in_flight.set_function(lambda: admission.in_flight)
        self.calls_capacity.set_function(lambda: admission.capacity)

    def observe_queue(self, queued: Callable[[], int]) -> None:
        """Lets the gauge of waiting work follow a function, such as a batcher's `queued`."""
        self.work_queued.set_function(queued)

    def observe_batch(self, record: BatchRecord) -> None:
        """Counts one batch; meant as a batcher's `on_batch`, callable from any thread."""
        self.batch_size.observe(record.size)
        self.batch_queue_seconds.observe(record.queue_s)
        self.batch_inference_seconds.observe(record.inference_s)

    def observe_error(self, error: Exception | None) -> None:
        """Counts how a call ended, where it failed. Reasons are those of the classes of errors."""
        if error is not None:
            reason = error.reason if isinstance(error, ServingError) else "DEFECT"
            self.errors.labels(reason).inc()

    def observe_load(self, took_s: float | None) -> None:
        """Counts a load, in seconds; None for one that failed."""
        self.model_loads.labels("failed" if took_s is None else "loaded").inc()
        if took_s is not None:
            self.model_load_seconds.observe(took_s)

    def observe_unload(self, reason: UnloadReason) -> None:
        """Counts a model that was freed."""
        self.model_unloads.labels(reason).inc()

    def observe_models(self, states: Callable[[], Sequence[ModelStatus]]) -> None:
        """Lets the gauges of models follow a pool's `states`."""

        def count(wanted: ModelState) -> int:
            return sum(status.state is wanted for status in states())

        self.models.labels("loading").set_function(lambda: count(ModelState.LOADING))
        self.models.labels("loaded").set_function(lambda: count(ModelState.LOADED))
        self.model_memory.set_function(lambda: sum(status.memory_bytes for status in states()))

    def observe_device(self, device: Callable[[], DeviceInfo]) -> None:
        """Adds the gauges of the device; `device` is asked when the page is, and on any thread."""
        self.registry.register(_DeviceCollector(device))

    def observe_fallback(self, kind: str) -> None:
        """Counts one step of a kind; callable from any thread."""
        self.fallbacks.labels(kind).inc()


class _DeviceCollector(Collector):
    """The device as it is at the moment of looking; what nobody knows is left out."""

    def __init__(self, device: Callable[[], DeviceInfo]) -> None:
        self._device = device

    def describe(self) -> Iterator[Metric]:
        """The names without values: registering must not ask a device that is not set up yet."""
        return iter(self._families())

    def collect(self) -> Iterator[Metric]:
        """The gauges with values."""
        info, total, free = self._families()
        device = with_memory(self._device())
        info.add_metric((device.kind, device.name, device.compute_type), 1)
        if device.memory_total_bytes is not None:
            total.add_metric((), device.memory_total_bytes)
        if device.memory_free_bytes is not None:
            free.add_metric((), device.memory_free_bytes)
        yield from (info, total, free)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "voxroute_device_info",
                "1, with what runs the models: cpu, cuda or mps, its name, the numeric type.",
                labels=("kind", "name", "compute_type"),
            ),
            GaugeMetricFamily(
                "voxroute_device_memory_size_bytes",
                "Memory of the device; of the host where the device is its processor.",
                labels=(),
            ),
            GaugeMetricFamily(
                "voxroute_device_memory_free_bytes",
                "Memory of the device that no process uses.",
                labels=(),
            ),
        )
