"""An image of a service, built and run by a real container engine, as compose would run it.

Needs root, dockerd, a docker client that can build (20.10, or a later one with buildx) and
debootstrap: Debian's packages docker.io and debootstrap. The engine is the test's own; nothing of
the host's is touched. The MLX service stands for all: it is the smallest.
"""

import subprocess
import urllib.request

import grpc
import pytest

from tests.deploy.engine import Engine, compose_command, wait
from tests.deploy.test_compose import COMPOSE, FLEETS
from tests.e2e import processes
from voxroute.asr.v1 import asr_pb2_grpc

ROOT = processes.ROOT
IMAGE = "voxroute-asr-mlx:test"

pytestmark = [
    pytest.mark.slow,  # installs a base system and builds an image: ten minutes
    pytest.mark.timeout(2400),
]


@pytest.fixture(scope="module")
def image(docker: Engine, base_image: str) -> str:
    """The image of the MLX service."""
    assert base_image
    docker.build("asr_mlx", IMAGE)
    return IMAGE


def test_a_container_serves_is_checked_and_drains(docker: Engine, image: str) -> None:
    """Locked down as in compose: healthy, transcribes, shows its metrics, and exits 0 when told."""
    port, metrics = processes.free_port(), processes.free_port()
    service = COMPOSE["services"]["asr-cpu"]
    writable = [part for mount in service["tmpfs"] for part in ("--tmpfs", mount)]
    settings = {
        "VOXROUTE_LISTEN": f"127.0.0.1:{port},unix:/run/voxroute/health.sock",
        "VOXROUTE_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "VOXROUTE_MODEL": "/models/asr-tiny-hi-en",
        "VOXROUTE_DEVICE": "cpu",
        "VOXROUTE_OFFLINE": "true",
    }
    given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
    container = docker(
        *("run", "-d", "--network", "host", "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", *writable, "-v", f"{ROOT / 'models'}:/models:ro"),
        *(*given, image),
    )

    def health() -> str:
        return docker("inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", container)

    wait(lambda: health() == "running healthy", 300, lambda: docker("logs", container))
    assert docker("exec", container, "id", "-u") == "10001"
    clip = next((ROOT / "examples").glob("*.mp4")).read_bytes()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        requests = processes.requests(processes.container_config(), processes.chunks(clip))
        replies = list(stub.Transcribe(requests, timeout=300))
    assert replies[-1].done.segments > 0
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    assert "voxroute_ready 1.0" in page
    assert 'voxroute_asr_audio_seconds_total{grpc_method="Transcribe"}' in page
    docker("stop", "-t", "90", container)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"
    docker("rm", container)


@pytest.mark.parametrize("fleet", FLEETS)
def test_compose_reads_the_file(fleet: str) -> None:
    """The real program resolves every profile."""
    command = compose_command()
    if command is None or len(command) == 1:
        pytest.skip("docker has no compose plugin: the compose file was only read as YAML")
    file = str(ROOT / "deploy" / "compose.yaml")
    profiles = ["--profile", fleet, "--profile", "monitoring"]
    done = subprocess.run(
        [*command, "-f", file, *profiles, "config", "--services"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = {
        name
        for name, one in COMPOSE["services"].items()
        if {fleet, "monitoring"} & set(one["profiles"])
    }
    assert set(done.stdout.split()) == expected
