"""The compose file itself: its images built, its services started, watched by its Prometheus.

Needs what tests.deploy.test_containers needs, and compose: docker's plugin, or Debian's
docker-compose. No registry of images is asked: the base is a Debian of the tests' own, which holds
Prometheus too. Alertmanager and Grafana, of which there is no such package, stay away.
"""

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import metrics_page
from tests.deploy.engine import Engine, compose_command, wait
from tests.deploy.test_compose import COMPOSE, DEPLOY
from tests.deploy.test_dashboards import rules
from tests.e2e import processes

ROOT = processes.ROOT
SERVICES = ("asr-cpu", "translate-cpu", "jobs")
PROMETHEUS = "voxroute-prometheus:test"
PROJECT = "voxroute-test"
SCRAPED_S = 90.0  # some scrapes at the file's own interval, on a busy machine
FIRES_S = 420.0  # the alert's own two minutes, and scrapes and evaluations around them

pytestmark = [
    pytest.mark.slow,  # builds three images, of gigabytes each: a quarter of an hour
    pytest.mark.timeout(3600),
]


@dataclass(frozen=True)
class Fleet:
    """What compose started."""

    engine: Engine
    compose: list[str]
    ports: dict[str, int]
    """Service to its port on 127.0.0.1."""

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.engine.run([*self.compose, "ps", "-q", service])

    def health(self, service: str) -> str:
        """What the engine's own check of it says."""
        state = "{{.State.Status}} {{.State.Health.Status}}"
        return self.engine("inspect", "-f", state, self.container(service))

    def logs(self, service: str) -> str:
        """What a service wrote."""
        return self.engine("logs", "--tail", "50", self.container(service))

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of Prometheus's API."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expr: str) -> dict[str, float]:
        """The values of an expression by job."""
        found = self.ask("query", query=expr)["result"]
        return {one["metric"].get("job", ""): float(one["value"][1]) for one in found}

    def voxroute(self, *arguments: str) -> str:
        """What the command says; fails with it where it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "voxroute_orchestrator", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


def _rendered(folder: Path, ports: dict[str, int]) -> Path:
    """The compose file for a host whose ports others use; the old compose knows no `name`."""
    file: dict[str, Any] = {key: one for key, one in COMPOSE.items() if key != "name"}
    for service, port in ports.items():
        [published] = file["services"][service]["ports"]
        file["services"][service]["ports"] = [f"127.0.0.1:{port}:{published.split(':')[2]}"]
    path = folder / "compose.yaml"
    path.write_text(yaml.safe_dump(file))
    return path


@pytest.fixture(scope="module")
def fleet(
    docker: Engine, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """The fleet of processors with the bundled models, healthy."""
    command = compose_command()
    if command is None:
        pytest.skip("compose is not installed (apt-get install docker-compose)")
    folder = tmp_path_factory.mktemp("compose")
    for service in SERVICES:
        wanted = COMPOSE["services"][service]
        docker.build(wanted["build"]["args"]["SERVICE"], wanted["image"])
    (folder / "Dockerfile").write_text(f'FROM {base_image}\nENTRYPOINT ["/usr/bin/prometheus"]\n')
    docker("build", "-t", PROMETHEUS, str(folder))
    ports = {service: processes.free_port() for service in (*SERVICES, "prometheus")}
    environment = {
        "FLEET": "cpu",
        "ASR_MODEL": "/models/asr-tiny-hi-en",
        "TRANSLATE_MODELS": "/models/translate-tiny-hi-en",
        "VOXROUTE_OFFLINE": "true",
        "PROMETHEUS_IMAGE": PROMETHEUS,
    }
    compose = [*command, "-p", PROJECT, "-f", str(_rendered(folder, ports))]
    compose += ["--project-directory", str(DEPLOY), "--profile", "cpu", "--profile", "monitoring"]
    docker.run([*compose, "up", "-d", "--no-build", *ports], more=environment)
    started = Fleet(docker, compose, ports)
    try:
        for service in SERVICES:
            wait(
                lambda service=service: started.health(service) == "running healthy",
                300,
                lambda service=service: started.logs(service),
            )
        yield started
    finally:
        docker.run([*compose, "down", "-v", "-t", "30"], more=environment)


def test_the_example_goes_through_the_containers(fleet: Fleet, tmp_path: Path) -> None:
    """By the job service, from its media root, and by the command: the same subtitles."""
    server = ("--server", f"127.0.0.1:{fleet.ports['jobs']}")
    media = next((ROOT / "examples").glob("*.mp4"))
    job = fleet.voxroute(
        "jobs", "submit", media.name, "--on-server", "-s", "hi", "-t", "en", "--quiet", "--watch",
        *server,
    )  # fmt: skip
    fleet.voxroute("jobs", "fetch", job, "-o", str(tmp_path / "job"), *server)
    fleet.voxroute(
        "run", str(media), "-s", "hi", "-t", "en", "-o", str(tmp_path / "run"), "--quiet",
        "--asr-endpoint", f"127.0.0.1:{fleet.ports['asr-cpu']}",
        "--translate-endpoint", f"127.0.0.1:{fleet.ports['translate-cpu']}",
    )  # fmt: skip
    for language in ("hi", "en"):
        name = f"{media.stem}.{language}.srt"
        text = (tmp_path / "job" / name).read_text()
        assert "-->" in text
        assert text == (tmp_path / "run" / name).read_text()


def test_prometheus_reads_every_metric(fleet: Fleet) -> None:
    """All three are up, each metric of the product is known by them, and rules have results."""
    wait(
        lambda: fleet.values("up == 1").keys() >= {"asr", "translate", "jobs"},
        SCRAPED_S,
        lambda: json.dumps(fleet.ask("targets")),
    )
    wanted = {
        metrics_page.exposed_name(metric).removesuffix("_total")
        for registry in metrics_page.registries().values()
        for metric in metrics_page.families(registry)
    }

    def missing() -> set[str]:
        return wanted - {name.removesuffix("_total") for name in fleet.ask("metadata")}

    wait(lambda: not missing(), SCRAPED_S, lambda: f"never scraped: {sorted(missing())}")
    assert fleet.values("voxroute_ready") == {"asr": 1.0, "translate": 1.0, "jobs": 1.0}
    ended = 'sum by (job) (voxroute_jobs_ended_total{state="succeeded"})'
    wait(lambda: fleet.values(ended) == {"jobs": 1.0}, SCRAPED_S, lambda: str(fleet.values(ended)))
    groups = fleet.ask("rules")["groups"]
    evaluated = [rule for group in groups for rule in group["rules"]]
    assert len(evaluated) == len(rules())
    assert {rule["health"] for rule in evaluated} == {"ok"}


def test_an_alert_fires_for_a_service_that_is_killed(fleet: Fleet) -> None:
    """By the rules as they are: VoxrouteServiceDown for the speech service, and for no other."""
    assert _down(fleet, "firing") == set()
    fleet.engine("kill", fleet.container("asr-cpu"))
    wait(
        lambda: _down(fleet, "firing") == {"asr"},
        FIRES_S,
        lambda: json.dumps(fleet.ask("alerts")),
    )


def _down(fleet: Fleet, state: str) -> set[str]:
    """The jobs for which VoxrouteServiceDown is in a state."""
    return {
        alert["labels"]["job"]
        for alert in fleet.ask("alerts")["alerts"]
        if (alert["labels"]["alertname"], alert["state"]) == ("VoxrouteServiceDown", state)
    }
