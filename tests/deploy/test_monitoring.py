"""Rules, dashboards and pages of metrics before the real Prometheus, after a real load.

promtool, prometheus, amtool: Debian's packages prometheus and prometheus-alertmanager.
"""

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from tests.deploy.test_dashboards import FILES, expressions, rules
from tests.e2e import processes
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc
from voxroute_orchestrator.fleet.routing import Candidate, Decision
from voxroute_orchestrator.jobs.metrics import JobMetrics

DEPLOY = processes.ROOT / "deploy"
WITHIN_S = 240.0  # for the series of a loaded machine to appear

pytestmark = [
    pytest.mark.slow,  # needs programs that are no Python packages, real services, and minutes
    pytest.mark.timeout(900),
]


def program(name: str) -> str:
    """The path of a program; skips where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (apt-get install prometheus prometheus-alertmanager)")
    return path


def told(*command: str, **options: Any) -> str:
    """What a command says; fails with it where the command fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_rules_and_configurations_are_valid() -> None:
    """Promtool and amtool read every file of theirs."""
    folder = DEPLOY / "prometheus"
    told(program("promtool"), "check", "rules", *map(str, (folder / "rules").glob("*.yaml")))
    told(program("promtool"), "check", "config", "prometheus.yaml", cwd=folder)
    told(program("amtool"), "check-config", str(folder / "alertmanager.yaml"))


def test_each_alert_is_silent_before_and_fires_after() -> None:
    """The unit tests of the rules."""
    tests = DEPLOY / "prometheus" / "tests" / "alerts.yaml"
    assert "SUCCESS" in told(program("promtool"), "test", "rules", str(tests))


# --- a fleet under Prometheus


@dataclass(frozen=True)
class Fleet:
    """Running services with their pages of metrics, and the Prometheus that reads them."""

    asr: processes.Service
    translation: processes.Service
    pages: dict[str, str]
    """Job to HOST:PORT."""
    prometheus: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of Prometheus's API; fails with what it says."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(
                f"http://{self.prometheus}/api/v1/{path}?{query}", timeout=30
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error

    def values(self, expr: str) -> list[float]:
        """The values that an expression has now, NaN among them."""
        found = self.ask("query", query=expr)["result"]
        return [float(series["value"][1]) for series in found]


def _announced(running: processes.Service) -> str:
    """The address of the metrics in the line that a service writes when it listens."""
    for line in running.log.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if event.get("event") == "listening" and "pid" in event:
                return str(event["metrics"])
    raise AssertionError(running.log.read_text())


def _config(folder: Path, pages: dict[str, str]) -> Path:
    """The configuration of this repository beside targets of the test; scraped each second."""
    shutil.copytree(DEPLOY / "prometheus" / "rules", folder / "rules")
    (folder / "targets").mkdir()
    for job, address in pages.items():
        group = {"targets": [address], "labels": {"accelerator": "cpu"}}
        (folder / "targets" / f"{job}.yaml").write_text(yaml.safe_dump([group]))
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    del config["alerting"]
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.contextmanager
def _prometheus(config: Path) -> Generator[str]:
    """A Prometheus on a free port; its address."""
    address = f"127.0.0.1:{processes.free_port()}"
    log = config.with_name("prometheus.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={config.with_name('data')}",
                f"--web.listen-address={address}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(lambda: _ready(address), f"Prometheus: {log.read_text()}")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _ready(address: str) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).close()
        return True
    return False


def _wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < until, f"not in time: {what}"
        time.sleep(0.5)


def _translate(running: processes.Service, texts: list[str]) -> None:
    config = translate_pb2.TranslateConfig(source_language="hi", target_language="en")

    def requests() -> Iterator[translate_pb2.TranslateRequest]:
        yield translate_pb2.TranslateRequest(config=config)
        for index, text in enumerate(texts):
            item = translate_pb2.TranslateItem(id=str(index), text=text)
            yield translate_pb2.TranslateRequest(item=item)
        yield translate_pb2.TranslateRequest(finish=common_pb2.Finish())

    with running.channel() as channel:
        stub = translate_pb2_grpc.TranslateServiceStub(channel)
        for answer in stub.Translate(requests(), timeout=240):
            del answer


def _load(fleet: Fleet, clip: bytes, jobs: JobMetrics) -> None:
    """One round of what a day brings: good calls, a wrong one, and jobs that end either way."""
    processes.transcribe(fleet.asr, processes.container_config(), clip)
    with pytest.raises(grpc.RpcError):
        processes.transcribe(fleet.asr, processes.container_config(), b"no media file" * 1000)
    _translate(fleet.translation, ["तुम कहाँ जा रहे हो?", "दरवाज़ा खोलो!", "123"])
    usable = Candidate("asr:50051", "cpu", usable=True, reason="answers", local=False)
    for job, state in (("good", "succeeded"), ("bad", "failed")):
        jobs.observe_route("asr", Decision((usable,), (usable,)))
        jobs.observe_state(job, "queued")
        jobs.observe_state(job, "running")
        for stage in ("transcribing", "translating to en"):
            jobs.observe_progress(job, stage)
            jobs.observe_progress(job, stage, finished=True)
        jobs.observe_state(job, "succeeded" if state == "succeeded" else "failed")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Speech, translation and jobs with Prometheus beside them, after some load."""
    program("prometheus")
    registry = CollectorRegistry()
    jobs = JobMetrics(registry)
    server, thread = start_http_server(0, "127.0.0.1", registry=registry)
    clip = next((processes.ROOT / "examples").glob("*.mp4")).read_bytes()
    own = ("--metrics-listen", "127.0.0.1:0")
    try:
        with processes.asr_service(*own) as asr, processes.translate_service(*own) as translation:
            pages = {
                "asr": _announced(asr),
                "translate": _announced(translation),
                "jobs": f"127.0.0.1:{server.server_port}",
            }
            config = _config(tmp_path_factory.mktemp("prometheus"), pages)
            with _prometheus(config) as address:
                fleet = Fleet(asr, translation, pages, address)
                _wait(lambda: fleet.values("sum(up)") == [3.0], "three targets that are up")
                for _ in range(2):  # a rate needs two values
                    _load(fleet, clip, jobs)
                    time.sleep(2)
                yield fleet
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(expr: str, fleet: Fleet, job: str) -> str:
    """A dashboard's expression with Grafana's variables put in."""
    expr = expr.replace("$__rate_interval", "1m").replace("$job", job)
    return expr.replace("$instance", fleet.pages.get(job, ""))


def test_every_expression_parses(fleet: Fleet) -> None:
    """Prometheus itself formats each expression of the rules and the dashboards."""
    wanted = [rule["expr"] for rule in rules()]
    wanted += [asked(expr, fleet, "asr") for path in FILES for expr in expressions(path)]
    for expr in wanted:
        assert fleet.ask("format_query", query=expr)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_panel_has_data_after_a_load(path: Path, fleet: Fleet) -> None:
    """An expression that stays empty would be an empty panel; a rate needs its time."""
    job = {"speech": "asr", "translation": "translate"}.get(path.stem, "")
    for expr in expressions(path):
        query = asked(expr, fleet, job)
        _wait(lambda query=query: bool(fleet.values(query)), query)


def test_rules_are_evaluated_without_errors_and_a_healthy_fleet_is_silent(fleet: Fleet) -> None:
    """Each rule is healthy, recorded series are there, and only the failed jobs raise an alert."""
    for rule in rules():
        if "record" in rule:
            _wait(lambda name=rule["record"]: bool(fleet.values(name)), rule["record"])
    groups = fleet.ask("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    firing = {a["labels"]["alertname"] for a in fleet.ask("alerts")["alerts"]}
    assert firing <= {"VoxrouteJobsFail"}


def test_what_was_done_is_what_is_counted(fleet: Fleet) -> None:
    """Two recordings, two that are none, two times three items."""
    transcriptions = 'sum by (grpc_code) (grpc_server_handled_total{grpc_method="Transcribe"})'
    found = fleet.ask("query", query=transcriptions)["result"]
    codes = {series["metric"]["grpc_code"]: float(series["value"][1]) for series in found}
    assert codes == {"OK": 2, "INVALID_ARGUMENT": 2}
    assert sum(fleet.values("sum(voxroute_translate_items_total)")) == 6
    [audio] = fleet.values('voxroute_asr_audio_seconds_total{grpc_method="Transcribe"}')
    [speech] = fleet.values("voxroute_asr_speech_seconds_total")
    assert 0 < speech <= audio


@pytest.mark.parametrize("job", ["asr", "translate", "jobs"])
def test_promtool_finds_nothing_wrong_with_a_page(job: str, fleet: Fleet) -> None:
    """Names, types and help are as Prometheus wants them; foreign names are not ours to change."""
    with urllib.request.urlopen(f"http://{fleet.pages[job]}/metrics", timeout=30) as answer:
        page = answer.read()
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=page, capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode().splitlines()
    assert [line for line in said if not re.match(r"python_|process_", line)] == []


def test_an_alert_fires_for_a_service_that_is_killed(fleet: Fleet) -> None:
    """The last test of the fleet. The rules are as they are: their two minutes are waited for.

    Only scrapes and evaluations come sooner than in the configuration.
    """
    assert _down(fleet) == {}
    fleet.translation.process.kill()
    _wait(lambda: _down(fleet).get("translate") == "pending", "a pending alert")
    _wait(lambda: _down(fleet).get("translate") == "firing", "a firing alert")
    assert set(_down(fleet)) == {"translate"}


def _down(fleet: Fleet) -> dict[str, str]:
    """The state of VoxrouteServiceDown for each job that it is about."""
    return {
        alert["labels"]["job"]: alert["state"]
        for alert in fleet.ask("alerts")["alerts"]
        if alert["labels"]["alertname"] == "VoxrouteServiceDown"
    }
