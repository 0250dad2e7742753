"""Writes the tables of docs/metrics.md from the metrics themselves; --check only compares.

Each table stands between `<!-- NAME -->` and `<!-- end -->`; what is around them is prose.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric

from voxroute_gateway.metrics import GatewayMetrics
from voxroute_orchestrator.jetstream.worker_metrics import WorkerMetrics
from voxroute_orchestrator.jobs.metrics import JobMetrics
from voxroute_orchestrator.jobs.stores.engine_metrics import EngineMetrics
from voxroute_orchestrator.live.metrics import LiveMetrics
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.domain import DeviceInfo
from voxroute_serving.metrics import UNKNOWN_METHOD, Metrics
from voxroute_translate.metrics import TranslateMetrics

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
_FOREIGN = ("process_", "python_")  # prometheus-client's own
_TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def registries() -> dict[str, CollectorRegistry]:
    """A registry for each table, with every metric that its part of the product has."""
    common = Metrics()
    common.started.labels(*UNKNOWN_METHOD.labels)
    common.handled.labels(*UNKNOWN_METHOD.labels, "OK")
    common.handling_seconds.labels(*UNKNOWN_METHOD.labels)
    common.messages_received.labels(*UNKNOWN_METHOD.labels)
    common.messages_sent.labels(*UNKNOWN_METHOD.labels)
    common.observe_device(lambda: DeviceInfo("cpu", "", "", 1, 1))
    speech, translation = CollectorRegistry(), CollectorRegistry()
    jobs, engine, captions = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    AsrMetrics(speech)
    TranslateMetrics(translation)
    JobMetrics(jobs)
    EngineMetrics(engine, files=True)
    LiveMetrics(captions)
    gateway = GatewayMetrics("")
    gateway.requests.labels("/health", "200")
    gateway.seconds.labels("/health")
    return {
        "common": common.registry,
        "speech": speech,
        "translation": translation,
        "jobs": jobs,
        "engine": engine,
        "worker": WorkerMetrics("").registry,
        "captions": captions,
        "gateway": gateway.registry,
    }


def families(registry: CollectorRegistry) -> list[Metric]:
    """The product's own metrics of a registry, by name."""
    own = (metric for metric in registry.collect() if not metric.name.startswith(_FOREIGN))
    return sorted(own, key=lambda metric: metric.name)


def exposed_name(metric: Metric) -> str:
    """The name that a query uses; a histogram's own, without _bucket, _sum and _count."""
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def table(metrics: Iterable[Metric]) -> str:
    """A Markdown table: name, type, labels, meaning."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in metrics:
        labels = dict.fromkeys(label for sample in metric.samples for label in sample.labels)
        labels.pop("le", None)
        names = ", ".join(f"`{label}`" for label in labels)
        lines.append(
            f"| `{exposed_name(metric)}` | {metric.type} | {names} | {metric.documentation} |"
        )
    return "\n".join(lines) + "\n"


def rendered(page: str) -> str:
    """The page with its tables as they ought to be."""
    tables = {name: table(families(registry)) for name, registry in registries().items()}

    def replace(match: re.Match[str]) -> str:
        return match[1] + tables.pop(match[2]) + match[3]

    text = _TABLE.sub(replace, page)
    if tables:
        raise SystemExit(f"{PAGE} has no table for {', '.join(tables)}")
    return text


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8")
    after = rendered(before)
    if "--check" in sys.argv[1:]:
        sys.exit(f"{PAGE} is out of date; run scripts/metrics_page.py" if before != after else 0)
    PAGE.write_text(after, encoding="utf-8")
