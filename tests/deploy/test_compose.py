"""The Dockerfile, the compose file and the systemd units agree with the services."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.orchestrator.jobs.nats_server import nats_server
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_gateway.settings import GatewaySettings
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.server_settings import JobServerSettings
from voxroute_orchestrator.settings import load
from voxroute_serving.process import main
from voxroute_serving.process.settings import ENV_PREFIX, ProcessSettings, misspelt_variables
from voxroute_translate.settings import TranslateSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: one for name, one in COMPOSE["services"].items() if "build" in one}
SETTINGS: dict[str, type[ProcessSettings]] = {
    "asr_whisperx": WhisperXSettings,
    "translate": TranslateSettings,
    "orchestrator": JobServerSettings,
    "gateway": GatewaySettings,
}
# the unit of each, its example settings, and what it runs
UNITS = {
    "asr_whisperx": ("voxroute@.service", "asr_whisperx.env", "python -m voxroute_%i"),
    "translate": ("voxroute@.service", "translate.env", "python -m voxroute_%i"),
    "orchestrator": ("voxroute-jobs.service", "jobs.env", "voxroute serve"),
    "gateway": ("voxroute@.service", "gateway.env", "python -m voxroute_%i"),
}
ON_DEVICES = ("asr_whisperx", "translate")
FLEETS = ("cpu", "cuda", "mac")


def dockerfile() -> str:
    """The Dockerfile without comments, continued lines joined."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(lines).replace("\\\n", " ")


def default(value: str) -> str:
    """A value of the compose file where the host sets no variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def image_variables() -> dict[str, str]:
    """The variables that the image sets for the service."""
    return dict(re.findall(rf"({ENV_PREFIX}\w+)=(\S+)", dockerfile()))


def variables(service: dict[str, Any]) -> dict[str, str]:
    """The service's variables in a container: the image's, then those of the compose file."""
    own = {name: default(value) for name, value in service["environment"].items()}
    return image_variables() | {k: v for k, v in own.items() if k.startswith(ENV_PREFIX)}


def test_the_dockerfile_is_plain() -> None:
    """No syntax line and no heredoc, so that it builds where no registry can be reached."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert not re.search(r"^#\s*syntax\s*=", text, re.MULTILINE)
    assert "<<" not in text
    assert "ARG BASE_IMAGE" in text


def test_the_image_is_not_root_and_is_checked_by_the_services_own_command() -> None:
    """A numeric user, exec as process 1, and the health check of this repository."""
    text = dockerfile()
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    assert re.search(r"HEALTHCHECK .*voxroute_serving\.healthcheck --by .*\$HEALTH", text)
    assert 'ENTRYPOINT ["/bin/sh", "-c", "exec python3' in text


def test_the_image_copies_every_member_of_the_workspace() -> None:
    """A new member without its line here would break the locked install."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    for member in workspace["members"]:
        assert f"COPY {member}/pyproject.toml {member}/" in dockerfile(), member
    makefile = (ROOT / "Makefile").read_text()
    version = re.search(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert version is not None
    assert f"ARG UV_VERSION={version[1]}" in dockerfile()


@pytest.mark.parametrize("name", OURS)
def test_a_container_agrees_with_the_services_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings take the variables; published ports and the socket are those listened on."""
    service = OURS[name]
    settings_class = SETTINGS[service["build"]["args"]["SERVICE"]]
    environment = variables(service)
    assert not misspelt_variables(settings_class, environment)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings = settings_class()
    [published] = service["ports"]
    host, outside, inside = published.split(":")
    assert host == "127.0.0.1"
    assert outside == ("50060" if name == "jobs-2" else inside)
    assert settings.listen[0] == f"0.0.0.0:{inside}"
    assert settings.listen[0].endswith(settings_class().listen[0].rpartition(":")[2])
    socket = Path(settings.listen[1].removeprefix("unix:"))
    assert any(str(socket.parent) in mount for mount in service["tmpfs"])
    grace_s = float(service["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.drain_s + 2 * main._FREE_S


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_locked_down(name: str) -> None:
    """Read-only, no capabilities, and a GPU only where the profile says so."""
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    if service["build"]["args"]["SERVICE"] not in ON_DEVICES:
        assert "deploy" not in service
        return
    assert ("deploy" in service) == ("cuda" in service["profiles"])
    assert service["environment"]["VOXROUTE_DEVICE"] == ("cuda" if "deploy" in service else "cpu")


@pytest.mark.parametrize("fleet", FLEETS)
def test_jobs_go_to_the_services_of_the_profile(
    fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoints are ports that the profile's services listen on, or the Mac's own; data is kept."""
    [service] = [
        one
        for one in OURS.values()
        if fleet in one["profiles"] and one["build"]["args"]["SERVICE"] == "orchestrator"
    ]
    for key, value in variables(service).items():
        monkeypatch.setenv(key, value)
    server, command = JobServerSettings(), load()
    assert service["command"] == ["serve"]
    assert list(command.asr_endpoints) == server.asr_endpoints
    assert list(command.translate_endpoints) == server.translate_endpoints
    listening = {
        one["networks"]["services"]["aliases"][0]: variables(one)["VOXROUTE_LISTEN"].split(",")[0]
        for one in OURS.values()
        if fleet in one["profiles"]
    }
    asr_port = listening.get("asr", ":50052").rpartition(":")[2]
    asr_host = "asr" if "asr" in listening else "host.docker.internal"
    assert server.asr_endpoints == [f"{asr_host}:{asr_port}"]
    translate_port = listening["translate"].rpartition(":")[2]
    assert server.translate_endpoints == [f"translate:{translate_port}"]
    mounts = dict(volume.rsplit(":")[:2] for volume in map(default, service["volumes"]))
    assert mounts["jobs"] == str(server.data_dir)
    assert [str(root) for root in server.media_root] == [mounts["../examples"]]
    assert "jobs" in COMPOSE["volumes"]


@pytest.mark.parametrize("fleet", FLEETS)
def test_the_gateway_is_before_the_services_of_the_profile(
    fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names what the jobs name, and the jobs; it is asked by HTTP, and uploads have a volume."""
    [service, jobs] = [
        next(
            one
            for one in OURS.values()
            if fleet in one["profiles"] and one["build"]["args"]["SERVICE"] == name
        )
        for name in ("gateway", "orchestrator")
    ]
    theirs = variables(jobs)
    for key, value in variables(service).items():
        monkeypatch.setenv(key, value)
    settings = GatewaySettings()
    assert settings.asr_endpoints == [theirs["VOXROUTE_ASR_ENDPOINTS"]]
    assert settings.translate_endpoints == [theirs["VOXROUTE_TRANSLATE_ENDPOINTS"]]
    port = theirs["VOXROUTE_LISTEN"].split(",")[0].rpartition(":")[2]
    assert settings.jobs_endpoint == f"jobs:{port}"
    assert service["build"]["args"]["HEALTH"] == "http"
    assert service["volumes"] == [f"gateway:{service['environment']['TMPDIR']}"]
    assert "gateway" in COMPOSE["volumes"]


@pytest.mark.parametrize("fleet", FLEETS)
def test_prometheus_scrapes_what_the_profile_starts(fleet: str) -> None:
    """Names and metrics ports are those of the profile's services, or of the Mac itself."""
    folder = DEPLOY / "prometheus" / f"targets-{fleet}"
    files = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
    assert set(files) == {"asr", "translate", "jobs", "gateway", "alertmanager"}
    expected: dict[str, str] = {}
    for service in OURS.values():
        if fleet in service["profiles"]:
            [alias] = service["networks"]["services"]["aliases"]
            expected[alias] = variables(service)["VOXROUTE_METRICS_LISTEN"].rpartition(":")[2]
    if fleet == "mac":
        expected["asr"] = "9152"
    for job in ("asr", "translate", "jobs", "gateway"):
        [group] = files[job]
        host = "host.docker.internal" if (fleet, job) == ("mac", "asr") else job
        assert group["targets"] == [f"{host}:{expected[job]}"]
        assert group["labels"]["accelerator"] in {"cpu", "cuda", "mps"}
    assert "host.docker.internal:host-gateway" in COMPOSE["services"]["prometheus"]["extra_hosts"]


def test_the_job_services_of_the_fleet_share_jobs_and_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both name the three servers and get in as their user; Prometheus scrapes each of them.

    Files are on the servers, and each has a volume of its own for copies.
    """
    services = {
        name: one for name, one in COMPOSE["services"].items() if "fleet" in one["profiles"]
    }
    pair = [services[name] for name in ("jobs-1", "jobs-2")]
    assert "jobs" not in services
    own = [service["volumes"][0] for service in pair]
    assert own == ["jobs-1:/var/lib/voxroute", "jobs-2:/var/lib/voxroute"]
    assert pair[0]["volumes"][1:] == pair[1]["volumes"][1:]
    assert {"jobs-1", "jobs-2"} <= COMPOSE["volumes"].keys()
    for service in pair:
        assert service["build"]["args"]["EXTRAS"] == "--extra fleet"
        assert service["networks"]["services"]["aliases"] == ["jobs"]
        for key, value in variables(service).items():
            monkeypatch.setenv(key, value)
        settings = JobServerSettings()
        assert settings.engine == [f"nats://nats-{n}:4222" for n in (1, 2, 3)]
        assert settings.replicas == 3
        assert settings.engine_files == "server"
        [config] = service["configs"]
        assert config["target"] == str(settings.engine_credentials)
        file = tmp_path / "credentials"
        file.write_text(default(COMPOSE["configs"][config["source"]]["content"]))
        password = default(services["nats-1"]["environment"]["JOBS_PASSWORD"])
        identity = Access.read([], credentials=file).identity
        assert identity == {"user": "jobs", "password": password}
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "targets-fleet" / "jobs.yaml").read_text())
    assert group["targets"] == ["jobs-1:9150", "jobs-2:9150"]
    ours = {
        one["networks"]["services"]["aliases"][0] for one in services.values() if "build" in one
    }
    assert ours == {"asr", "translate", "jobs", "gateway"}


@pytest.mark.parametrize("name", ["nats-1", "nats-2", "nats-3"])
def test_nats_server_takes_the_configuration_of_the_fleet(name: str) -> None:
    """Each with a name and a volume of its own; a password that is missing is an error."""
    service = COMPOSE["services"][name]
    assert service["command"] == ["--config", "/etc/nats/nats.conf", "--name", name]
    assert f"{name}:/data" in service["volumes"]
    assert name in COMPOSE["volumes"]
    path = str(DEPLOY / "nats" / "nats.conf")
    command = [str(nats_server()), "-t", "--config", path, "--name", name]
    own = {key: default(value) for key, value in service["environment"].items()}
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert "PASSWORD" in done.stderr


def test_every_mounted_path_exists() -> None:
    """A path that is missing would be made as an empty folder of root's."""
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = default(volume).split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_agrees_with_the_services_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example settings are taken, and the unit lets a service drain before the kill."""
    unit_name, example, command = UNITS[name]
    unit = (DEPLOY / "systemd" / unit_name).read_text()
    lines = (DEPLOY / "systemd" / example).read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert not misspelt_variables(SETTINGS[name], given)
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    settings = SETTINGS[name]()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None
    assert float(stop[1]) > settings.drain_s + 2 * main._FREE_S
    assert settings.listen == SETTINGS[name].model_fields["listen"].default
    assert f"ExecStart=/opt/voxroute/bin/{command}\n" in unit
    assert f"EnvironmentFile=/etc/voxroute/{example.replace(name, '%i')}\n" in unit


@pytest.mark.parametrize("name", sorted({unit for unit, *_ in UNITS.values()}))
def test_systemd_finds_nothing_wrong_with_the_unit(name: str, tmp_path: Path) -> None:
    """systemd-analyze knows every key; the program's absence is all that it may report."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit was not verified")
    unit = tmp_path / name
    shutil.copy(DEPLOY / "systemd" / name, unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    problems = [line for line in done.stderr.splitlines() if "voxroute" in line]
    assert [line for line in problems if "is not executable" not in line] == []
