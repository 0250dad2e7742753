"""Writes the dashboards in deploy/grafana/dashboards/ as JSON; --check only compares.

For the schema of Grafana 11.6 (grafana-foundation-sdk has a version for each schema); newer ones
migrate it when they load it. What a panel asks is in docs/metrics.md; recorded series are those of
deploy/prometheus/rules/recording.yaml.
"""

# ruff: noqa: INP001 - a script, no package
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FOLDER = Path(__file__).resolve().parent / "dashboards"
PLUGIN = "prometheus"
SOURCE = models.DataSourceRef(type_val=PLUGIN, uid="${datasource}")
WIDTH = 24  # columns of Grafana's grid

SERVICE = 'job="$job", instance="$instance"'


Panel = stat.Panel | timeseries.Panel


@dataclass(frozen=True)
class Row:
    """Panels beside each other."""

    title: str
    panels: tuple[Panel, ...]


def _graph(
    title: str,
    unit: str,
    *queries: tuple[str, str],
    note: str = "",
    stacked: bool = False,
    bad_from: float | None = None,
) -> timeseries.Panel:
    """A graph; at `bad_from` stands the line of what is too much."""
    graph = timeseries.Panel().title(title).unit(unit).height(8).min(0)
    if stacked:
        graph = graph.fill_opacity(30).stacking(
            common.StackingConfig().mode(common_models.StackingMode.NORMAL)
        )
    if bad_from is not None:
        graph = graph.thresholds(_thresholds(bad_from)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.LINE)
        )
    for ref, (expr, legend) in zip("ABCD", queries, strict=False):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref)
        graph = graph.with_target(query.range())
    return graph.datasource(SOURCE).description(note)


def _thresholds(bad_from: float) -> builders.ThresholdsConfig:
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(None, "green"), models.Threshold(bad_from, "red")])
    )


_stack = partial(_graph, stacked=True)


def _number(title: str, unit: str, expr: str, note: str = "") -> stat.Panel:
    """The latest value alone."""
    query = prometheus.Dataquery().expr(expr).legend_format("__auto").ref_id("A").instant()
    panel = stat.Panel().title(title).unit(unit).height(4).with_target(query)
    return panel.datasource(SOURCE).description(note)


def _quantiles(title: str, metric: str, matchers: str, by: str) -> timeseries.Panel:
    """The median, 95th and 99th percentile of a histogram of seconds."""
    buckets = f"sum by (le) (rate({metric}_bucket{{{matchers}}}[$__rate_interval]))"
    queries = (
        (f"histogram_quantile({share}, {buckets})", f"{by} p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    )
    return _graph(title, "s", *queries)


FLEET = (
    Row(
        "Now",
        (
            _number("Services up", "short", 'sum(up{job=~"asr|translate|jobs|gateway"})'),
            _number("Services ready", "short", "sum(voxroute_ready)"),
            _number("Calls in flight", "short", "sum(voxroute_calls_in_flight)"),
            _number("Places", "short", "sum(voxroute_calls_capacity)"),
            _number("Alerts", "short", 'count(ALERTS{alertstate="firing"}) or vector(0)'),
            _number(
                "Speech per second",
                "s",
                "sum(rate(voxroute_asr_speech_seconds_total[$__rate_interval]))",
                "Seconds of speech that the fleet transcribes in a second.",
            ),
        ),
    ),
    Row(
        "Load",
        (
            _graph(
                "Places taken",
                "percentunit",
                ("instance:voxroute_calls_saturation:ratio", "{{job}} {{instance}}"),
                note="Calls are refused at 100 %.",
                bad_from=0.9,
            ),
            _graph(
                "Device busy",
                "percentunit",
                ("instance:voxroute_device_busy:ratio_rate5m", "{{job}} {{instance}}"),
                note="The share of time in which the device runs a batch.",
            ),
            _graph("Work that waits", "short", ("voxroute_work_queued", "{{job}} {{instance}}")),
        ),
    ),
    Row(
        "Calls",
        (
            _graph("Calls", "reqps", ("instance:voxroute_calls:rate5m", "{{job}} {{instance}}")),
            _graph(
                "Failures",
                "percentunit",
                ("instance:voxroute_call_failures:ratio_rate5m", "{{job}} {{instance}}"),
                note="Failures of the service itself; wrong requests and full queues are none.",
                bad_from=0.05,
            ),
            _stack(
                "Errors by reason",
                "reqps",
                ("sum by (reason) (rate(voxroute_errors_total[$__rate_interval]))", "{{reason}}"),
            ),
        ),
    ),
    Row(
        "Speed and memory",
        (
            _graph(
                "Real-time factor",
                "none",
                ("instance:voxroute_asr_real_time_factor:rate5m", "{{instance}}"),
                note="Seconds of the device for a second of speech; above 1 it is slower than"
                " speech.",
                bad_from=1,
            ),
            _graph(
                "Wait for the device, p95",
                "s",
                ("instance:voxroute_batch_queue_seconds:p95_rate5m", "{{job}} {{instance}}"),
            ),
            _graph(
                "Device memory in use",
                "percentunit",
                ("instance:voxroute_device_memory_used:ratio", "{{job}} {{instance}}"),
                bad_from=0.95,
            ),
        ),
    ),
    Row(
        "What there is",
        (
            _graph(
                "Devices",
                "short",
                (
                    "count by (kind, compute_type) (voxroute_device_info)",
                    "{{kind}} {{compute_type}}",
                ),
            ),
            _graph(
                "Versions", "short", ("count by (version) (voxroute_build_info)", "{{version}}")
            ),
            _graph(
                "Fallbacks within 30 minutes",
                "short",
                (
                    "sum by (instance, kind) (increase(voxroute_fallbacks_total[30m]))",
                    "{{instance}} {{kind}}",
                ),
            ),
        ),
    ),
    Row(
        "HTTP",
        (
            _stack(
                "Requests to gateways",
                "reqps",
                (
                    "sum by (status) (rate(voxroute_gateway_requests_total[$__rate_interval]))",
                    "{{status}}",
                ),
                note="499: the client left.",
            ),
            _quantiles("Seconds of a request", "voxroute_gateway_request_seconds", "", "request"),
            _graph(
                "Under way",
                "short",
                ("voxroute_gateway_requests_in_flight", "{{instance}} in all"),
                ("voxroute_gateway_requests_waiting", "{{instance}} wait for a place"),
            ),
        ),
    ),
)

ONE_SERVICE = (
    Row(
        "Now",
        (
            _number("Ready", "short", f"voxroute_ready{{{SERVICE}}}"),
            _number("Calls in flight", "short", f"voxroute_calls_in_flight{{{SERVICE}}}"),
            _number("Places", "short", f"voxroute_calls_capacity{{{SERVICE}}}"),
            _number("Work that waits", "short", f"voxroute_work_queued{{{SERVICE}}}"),
            _number("Models", "short", f'voxroute_models{{{SERVICE}, state="loaded"}}'),
            _number("Up for", "s", f"time() - process_start_time_seconds{{{SERVICE}}}"),
        ),
    ),
    Row(
        "Calls",
        (
            _stack(
                "Calls by method and status",
                "reqps",
                (
                    (
                        "sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total"
                        f'{{{SERVICE}, grpc_service=~"voxroute[.].+"}}[$__rate_interval]))'
                    ),
                    "{{grpc_method}} {{grpc_code}}",
                ),
            ),
            _graph(
                "Time of a call, p95",
                "s",
                (
                    (
                        "histogram_quantile(0.95, sum by (grpc_method, le) (rate("
                        "grpc_server_handling_seconds_bucket"
                        f'{{{SERVICE}, grpc_service=~"voxroute[.].+"}}[$__rate_interval])))'
                    ),
                    "{{grpc_method}}",
                ),
            ),
            _stack(
                "Errors by reason",
                "reqps",
                (
                    f"sum by (reason) (rate(voxroute_errors_total{{{SERVICE}}}[$__rate_interval]))",
                    "{{reason}}",
                ),
            ),
        ),
    ),
    Row(
        "The device",
        (
            _quantiles("Wait for the device", "voxroute_batch_queue_seconds", SERVICE, "wait"),
            _quantiles("Time of a batch", "voxroute_batch_inference_seconds", SERVICE, "batch"),
            _graph(
                "Pieces of work in a batch",
                "short",
                (
                    (
                        f"rate(voxroute_batch_size_sum{{{SERVICE}}}[$__rate_interval])"
                        f" / rate(voxroute_batch_size_count{{{SERVICE}}}[$__rate_interval])"
                    ),
                    "mean",
                ),
                note="Larger under load; 1 means that batches have nothing to be made of.",
            ),
        ),
    ),
    Row(
        "Memory and models",
        (
            _graph(
                "Device memory",
                "bytes",
                (f"voxroute_device_memory_size_bytes{{{SERVICE}}}", "size"),
                (f"voxroute_device_memory_free_bytes{{{SERVICE}}}", "free"),
            ),
            _graph(
                "Process",
                "bytes",
                (f"process_resident_memory_bytes{{{SERVICE}}}", "resident"),
            ),
            _graph(
                "Loads of models within an hour",
                "short",
                (f"increase(voxroute_model_loads_total{{{SERVICE}}}[1h])", "{{outcome}}"),
                (f"increase(voxroute_fallbacks_total{{{SERVICE}}}[1h])", "fallback: {{kind}}"),
            ),
            _graph(
                "Time of a load, mean within an hour",
                "s",
                (
                    (
                        f"increase(voxroute_model_load_seconds_sum{{{SERVICE}}}[1h])"
                        f" / increase(voxroute_model_load_seconds_count{{{SERVICE}}}[1h])"
                    ),
                    "mean",
                ),
            ),
        ),
    ),
)

SPEECH = Row(
    "Speech",
    (
        _graph(
            "Seconds per second",
            "s",
            (
                (
                    "sum by (grpc_method) (rate(voxroute_asr_audio_seconds_total"
                    f"{{{SERVICE}}}[$__rate_interval]))"
                ),
                "audio in: {{grpc_method}}",
            ),
            (
                f"rate(voxroute_asr_speech_seconds_total{{{SERVICE}}}[$__rate_interval])",
                "speech transcribed",
            ),
        ),
        _graph(
            "Cost of a second of speech",
            "s",
            (f"instance:voxroute_asr_real_time_factor:rate5m{{{SERVICE}}}", "device"),
            (
                (
                    f"rate(voxroute_asr_queue_seconds_total{{{SERVICE}}}[5m])"
                    f" / (rate(voxroute_asr_speech_seconds_total{{{SERVICE}}}[5m]) > 0)"
                ),
                "wait",
            ),
            note="The wait sums over windows that wait side by side, so it may be above 1.",
        ),
        _graph(
            "Real-time factor of finished calls, median",
            "none",
            (
                (
                    "histogram_quantile(0.5, sum by (le) (rate(voxroute_asr_real_time_factor_bucket"
                    f"{{{SERVICE}}}[30m])))"
                ),
                "median",
            ),
        ),
        _stack(
            "Segments",
            "short",
            (f"rate(voxroute_asr_segments_total{{{SERVICE}}}[$__rate_interval])", "all"),
            (
                (
                    "sum by (flag) (rate(voxroute_asr_flagged_segments_total"
                    f"{{{SERVICE}}}[$__rate_interval]))"
                ),
                "flag: {{flag}}",
            ),
            note="Flags on top of all segments, not parts of them.",
        ),
    ),
)

LIVE = Row(
    "Live speech",
    (
        _graph("Streams", "short", (f"voxroute_asr_live_streams{{{SERVICE}}}", "open")),
        _quantiles(
            "Seconds from a word to its text",
            "voxroute_asr_live_commit_latency_seconds",
            SERVICE,
            "committed",
        ),
        _graph(
            "Interval of updates",
            "s",
            (f"voxroute_asr_live_update_interval_seconds{{{SERVICE}}}", "at the last update"),
            note="It grows where the device has too much to do.",
        ),
        _graph(
            "Tentative words that changed",
            "percentunit",
            (
                (
                    "sum(rate(voxroute_asr_live_tentative_words_total"
                    f'{{{SERVICE}, outcome="changed"}}[5m])) / (sum(rate('
                    f"voxroute_asr_live_tentative_words_total{{{SERVICE}}}[5m])) > 0)"
                ),
                "share",
            ),
        ),
    ),
)

TRANSLATION = Row(
    "Translation",
    (
        _stack(
            "Items by status",
            "short",
            (
                (
                    f"sum by (status) (rate(voxroute_translate_items_total{{{SERVICE}}}"
                    "[$__rate_interval]))"
                ),
                "{{status}}",
            ),
        ),
        _graph(
            "Sentences",
            "short",
            (
                f"rate(voxroute_translate_sentences_total{{{SERVICE}}}[$__rate_interval])",
                "sentences",
            ),
        ),
        _graph(
            "Cost of a sentence",
            "s",
            (
                (
                    f"rate(voxroute_translate_inference_seconds_total{{{SERVICE}}}[5m])"
                    f" / (rate(voxroute_translate_sentences_total{{{SERVICE}}}[5m]) > 0)"
                ),
                "device",
            ),
            (
                (
                    f"rate(voxroute_translate_queue_seconds_total{{{SERVICE}}}[5m])"
                    f" / (rate(voxroute_translate_sentences_total{{{SERVICE}}}[5m]) > 0)"
                ),
                "wait",
            ),
        ),
    ),
)

JOBS = (
    Row(
        "Now",
        (
            _number("Running", "short", 'sum(voxroute_jobs{state="running"})'),
            _number("Waiting", "short", 'sum(voxroute_jobs{state="queued"})'),
            _number("Standing still for", "s", "max(voxroute_job_stalled_seconds)"),
            _number(
                "Failed within a day",
                "short",
                'sum(increase(voxroute_jobs_ended_total{state="failed"}[1d]))',
            ),
        ),
    ),
    Row(
        "Jobs",
        (
            _stack("Jobs by state", "short", ("sum by (state) (voxroute_jobs)", "{{state}}")),
            _stack(
                "Ended within an hour",
                "short",
                ("sum by (state) (increase(voxroute_jobs_ended_total[1h]))", "{{state}}"),
            ),
            _graph(
                "Wait and run, median within a day",
                "s",
                (
                    (
                        "histogram_quantile(0.5, sum by (le)"
                        " (increase(voxroute_job_queue_seconds_bucket[1d])))"
                    ),
                    "wait",
                ),
                (
                    (
                        "histogram_quantile(0.5, sum by (le)"
                        ' (increase(voxroute_job_seconds_bucket{state="succeeded"}[1d])))'
                    ),
                    "run",
                ),
            ),
        ),
    ),
    Row(
        "Stages and routing",
        (
            _graph(
                "Stages, mean within an hour",
                "s",
                (
                    (
                        "sum by (stage) (increase(voxroute_job_stage_seconds_sum[1h]))"
                        " / (sum by (stage) (increase(voxroute_job_stage_seconds_count[1h])) > 0)"
                    ),
                    "{{stage}}",
                ),
            ),
            _stack(
                "Routing decisions within an hour",
                "short",
                (
                    "sum by (work, reason) (increase(voxroute_routing_decisions_total[1h])) > 0",
                    "{{work}}: {{reason}}",
                ),
            ),
        ),
    ),
)

ENGINE = (
    Row(
        "Now",
        (
            _number(
                "Job services without the servers", "short", "sum(voxroute_engine_up == bool 0)"
            ),
            _number("Servers away or behind", "short", "max(voxroute_engine_replicas_missing)"),
            _number("Oldest job that waits", "s", "max(voxroute_engine_oldest_seconds)"),
            _number("Workers with a service", "short", "sum(voxroute_worker_service_up)"),
        ),
    ),
    Row(
        "NATS servers",
        (
            _graph(
                "Bytes of those that there may be",
                "percentunit",
                ("max by (of) (voxroute_engine_bytes / voxroute_engine_limit_bytes)", "{{of}}"),
            ),
            _graph(
                "Messages that the slowest server lacks",
                "short",
                ("max by (stream) (voxroute_engine_replicas_behind)", "{{stream}}"),
            ),
            _graph(
                "Within an hour",
                "short",
                ("sum(increase(voxroute_engine_taken_over_total[1h]))", "jobs taken over"),
                (
                    "sum(increase(voxroute_engine_leases_lost_total[1h]))",
                    "attempts that lost theirs",
                ),
                ("sum(increase(voxroute_engine_conflicts_total[1h]))", "writes refused"),
                ("sum(increase(voxroute_engine_reconnects_total[1h]))", "servers changed"),
            ),
        ),
    ),
    Row(
        "Workers",
        (
            _graph(
                "Spans under way and lanes",
                "short",
                ("sum(voxroute_worker_spans_in_flight)", "spans"),
                ("sum(voxroute_worker_lanes)", "lanes"),
            ),
            _graph(
                "Seconds of recordings in a second",
                "short",
                (
                    "rate(voxroute_worker_decoded_seconds_total[$__rate_interval])",
                    "{{instance}}",
                ),
            ),
            _stack(
                "Spans ended within an hour",
                "short",
                (
                    "sum by (outcome) (increase(voxroute_worker_spans_total[1h]))",
                    "{{outcome}}",
                ),
            ),
        ),
    ),
)


def _dashboard(uid: str, title: str, description: str, rows: Sequence[Row]) -> builders.Dashboard:
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["voxroute"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("voxroute")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["voxroute"])
            .as_dropdown(as_dropdown=True)
        )
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type(PLUGIN))
    )
    for row in rows:
        made = made.with_row(builders.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(panel.span(WIDTH // len(row.panels)))
    return made


def _with_service(made: builders.Dashboard, job: str) -> builders.Dashboard:
    """The dashboard with variables for one service of a kind."""
    return made.with_variable(builders.ConstantVariable("job").value(job)).with_variable(
        builders.QueryVariable("instance")
        .label("Service")
        .datasource(SOURCE)
        .query(f'label_values(voxroute_ready{{job="{job}"}}, instance)')
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def dashboards() -> dict[str, models.Dashboard]:
    """The dashboards by the name of their file."""
    return {
        "fleet": _dashboard(
            "voxroute-fleet", "voxroute: fleet", "All services at a glance.", FLEET
        ).build(),
        "speech": _with_service(
            _dashboard(
                "voxroute-speech",
                "voxroute: one speech service",
                "Calls, device, memory and speed of one speech service.",
                (*ONE_SERVICE, SPEECH, LIVE),
            ),
            "asr",
        ).build(),
        "translation": _with_service(
            _dashboard(
                "voxroute-translation",
                "voxroute: one translation service",
                "Calls, device, memory and speed of one translation service.",
                (*ONE_SERVICE, TRANSLATION),
            ),
            "translate",
        ).build(),
        "jobs": _dashboard(
            "voxroute-jobs", "voxroute: jobs", "What runs, what waits, and where it went.", JOBS
        ).build(),
        "engine": _dashboard(
            "voxroute-engine",
            "voxroute: several job services and workers",
            "The NATS servers that keep the jobs, and the workers that take parts of them.",
            ENGINE,
        ).build(),
    }


def files() -> Iterator[tuple[Path, str]]:
    """Each file with what ought to be in it."""
    for name, made in dashboards().items():
        text = JSONEncoder(sort_keys=True, indent=2).encode(made)
        yield FOLDER / f"{name}.json", text + "\n"


def _main() -> None:
    stale: list[str] = []
    for path, text in files():
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run deploy/grafana/dashboards.py")


if __name__ == "__main__":
    _main()
