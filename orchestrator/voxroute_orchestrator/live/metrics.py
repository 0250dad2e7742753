"""The Prometheus metrics of captions."""

from prometheus_client import CollectorRegistry, Gauge, Histogram

# seconds; from a model on a GPU to a service that is away
_LAG_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)


class LiveMetrics:
    """The metrics of LiveService."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge(
            "voxroute_caption_streams", "Streams of live captions that are open.", registry=registry
        )
        self.translation_lag = Histogram(
            "voxroute_caption_translation_seconds",
            "Time from a whole sentence to its translation, a failed one included.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
