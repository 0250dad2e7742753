"""A worker in a network that nobody can reach, here a network namespace.

Needs root, `ip` of iproute2, and a kernel that makes namespaces and veth pairs. Everything is made
by the test and taken away by it; the host's own network is not touched.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, free_port
from tests.orchestrator import recordings
from tests.orchestrator.daemon import artifact, ended, messages
from tests.orchestrator.jobs.nats_server import nats_server
from tests.orchestrator.jobs.test_two_services import Sharing
from voxroute.jobs.v1 import jobs_pb2

pytestmark = pytest.mark.slow  # half a minute

SECONDS = 20
NATS_PORT = 4222
# the server's addresses in both networks, between which it passes nothing on
SERVERS = {"office": "10.78.1.1", "home": "10.78.2.1"}
HOSTS = {"office": "10.78.1.2", "home": "10.78.2.2"}
SERVER = "between"
STAND_IN = "from tests.orchestrator.stand_in import main; main('asr')"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _name(host: str) -> str:
    return f"vxw{os.getpid()}-{host}"


def _inside(host: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", _name(host))


def _build() -> None:
    """Raises OSError."""
    _ip("netns", "add", _name(SERVER))
    forward = "echo 0 > /proc/sys/net/ipv4/ip_forward"
    subprocess.run([*_inside(SERVER), "sh", "-c", forward], check=True)
    for host, address in HOSTS.items():
        namespace, port = _name(host), f"to-{host}"
        _ip("netns", "add", namespace)
        _ip("-n", _name(SERVER), "link", "add", port, "type", "veth", "peer", "eth0",
            "netns", namespace)  # fmt: skip
        _ip("-n", _name(SERVER), "addr", "add", f"{SERVERS[host]}/24", "dev", port)
        _ip("-n", _name(SERVER), "link", "set", port, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", namespace, "link", "set", device, "up")
        _ip("-n", namespace, "route", "add", "default", "via", SERVERS[host])


@pytest.fixture
def network() -> Iterator[None]:
    """Two hosts, and the server between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and `ip` (Debian: iproute2)")
    try:
        try:
            _build()
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield
    finally:
        for host in (*HOSTS, SERVER):
            with contextlib.suppress(OSError):
                _ip("netns", "del", _name(host))


@contextlib.contextmanager
def _runs(host: str, log: Path, *command: str) -> Generator["subprocess.Popen[bytes]"]:
    """A process on a host."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    own = {"HOME": str(log.parent), "XDG_CONFIG_HOME": str(log.parent)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_inside(host), *command],
            cwd=ROOT,
            env=inherited | own | {"STAND_IN_DIR": str(log.parent)},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _reached(host: str, address: str, port: int) -> bool:
    """Whether a connection from a host comes about."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), 2)"
    done = subprocess.run([*_inside(host), sys.executable, "-c", code], check=False,
                          capture_output=True)  # fmt: skip
    return done.returncode == 0


def _until_reached(host: str, address: str, port: int) -> None:
    until = time.monotonic() + 60
    while not _reached(host, address, port):
        assert time.monotonic() < until


@pytest.mark.usefixtures("network")
def test_a_worker_that_nobody_can_reach_takes_part(tmp_path: Path) -> None:
    """It reaches the server, as the service that has the job does; neither reaches the other."""
    film = recordings.write(tmp_path / "film.wav", recordings.steps(SECONDS)).read_bytes()
    speech = str(free_port())
    config = tmp_path / "nats.conf"
    config.write_text(f'jetstream {{ store_dir: "{tmp_path}", sync_interval: always }}\n')
    voxroute = (sys.executable, "-m", "voxroute_orchestrator")
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            _runs(SERVER, tmp_path / "nats.log", str(nats_server()), "-c", str(config))
        )
        stand_in = (sys.executable, "-c", STAND_IN, "--listen", f"0.0.0.0:{speech}")
        stack.enter_context(_runs("home", tmp_path / "asr.log", *stand_in))
        for host, address in SERVERS.items():
            _until_reached(host, address, NATS_PORT)
        _until_reached("home", HOSTS["home"], int(speech))
        assert not _reached("office", HOSTS["home"], int(speech))
        worker = stack.enter_context(
            _runs(
                "home",
                tmp_path / "worker.log",
                *voxroute,
                "worker",
                "--name",
                "worker",
                "--engine",
                f"nats://{SERVERS['home']}:{NATS_PORT}",
                "--asr-endpoint",
                f"127.0.0.1:{speech}",
            )
        )
        flags = ("--engine", f"nats://{SERVERS['office']}:{NATS_PORT}", "--workers")
        (tmp_path / "office").mkdir()
        daemon = Sharing(
            tmp_path / "office", flags, f"unix:{tmp_path}/jobs.sock", before=_inside("office"),
            shared=tmp_path / "shared",
        )  # fmt: skip
        stack.callback(daemon.close)
        daemon.start()
        stub = daemon.stub()
        job = jobs_pb2.JobConfig(upload_name="film.wav", source_languages=["hi"])
        job_id = stub.SubmitJob(messages(job, film), timeout=60).job.id
        done = ended(stub, job_id)
        assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
        transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
        assert [one["text"] for one in transcript["segments"]] == [
            f"word{k}" for k in range(SECONDS)
        ]
        report = json.loads(artifact(stub, job_id, "film.run.json"))
        assert report["recognition"]["endpoints"] == ["worker"]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
