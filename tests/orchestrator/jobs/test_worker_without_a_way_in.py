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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.networks import ip
from tests.e2e.processes import ROOT, free_port
from tests.orchestrator import recordings
from tests.orchestrator.daemon import artifact, ended, messages
from tests.orchestrator.jobs.nats_server import nats_server
from tests.orchestrator.jobs.test_two_services import Sharing
from voxroute.jobs.v1 import jobs_pb2

pytestmark = pytest.mark.slow  # a minute and a half

SECONDS = 20
LONG_SECONDS = 1200  # sixteen spans
MOST_STEPS = 300  # louder than that is not to be had
DECODING_S = 0.03  # for each second
NATS_PORT = 4222
# the server's addresses in both networks, between which it passes nothing on
SERVERS = {"office": "10.78.1.1", "home": "10.78.2.1"}
HOSTS = {"office": "10.78.1.2", "home": "10.78.2.2"}
SERVER = "between"
STAND_IN = "from tests.orchestrator.stand_in import main; main('{}')"


def _name(host: str) -> str:
    return f"vxw{os.getpid()}-{host}"


def _inside(host: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", _name(host))


def _build() -> None:
    """Raises OSError."""
    ip("netns", "add", _name(SERVER))
    forward = "echo 0 > /proc/sys/net/ipv4/ip_forward"
    subprocess.run([*_inside(SERVER), "sh", "-c", forward], check=True)
    for host, address in HOSTS.items():
        namespace, port = _name(host), f"to-{host}"
        ip("netns", "add", namespace)
        ip("-n", _name(SERVER), "link", "add", port, "type", "veth", "peer", "eth0",
            "netns", namespace)  # fmt: skip
        ip("-n", _name(SERVER), "addr", "add", f"{SERVERS[host]}/24", "dev", port)
        ip("-n", _name(SERVER), "link", "set", port, "up")
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", namespace, "route", "add", "default", "via", SERVERS[host])


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
                ip("netns", "del", _name(host))


@contextlib.contextmanager
def _runs(
    host: str, log: Path, *command: str, **variables: str
) -> Generator["subprocess.Popen[bytes]"]:
    """A process on a host."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    own = {"HOME": str(log.parent), "XDG_CONFIG_HOME": str(log.parent)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_inside(host), *command],
            cwd=ROOT,
            env=inherited | own | {"STAND_IN_DIR": str(log.parent)} | variables,
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


@dataclass
class Hosts:
    """A job service in the office, a worker beside a speech service at home, the server between."""

    folder: Path
    stack: contextlib.ExitStack

    def service(self, host: str, kind: str = "asr", **variables: str) -> str:
        """A service of speech or translation, and where its own host finds it."""
        port = free_port()
        command = (sys.executable, "-c", STAND_IN.format(kind), "--listen", f"0.0.0.0:{port}")
        log = self.folder / f"{kind}-{host}.log"
        self.stack.enter_context(_runs(host, log, *command, **variables))
        _until_reached(host, HOSTS[host], port)
        return f"127.0.0.1:{port}"

    def worker(self, service: str, kind: str = "asr") -> "subprocess.Popen[bytes]":
        """The worker, started, beside that service."""
        command = (
            sys.executable, "-m", "voxroute_orchestrator", "worker", "--name", "worker",
            "--engine", f"nats://{SERVERS['home']}:{NATS_PORT}", f"--{kind}-endpoint",
            service,
        )  # fmt: skip
        return self.stack.enter_context(_runs("home", self.folder / "worker.log", *command))

    def jobs(self, *flags: str) -> Any:
        """A client of the job service, started."""
        all_flags = ("--engine", f"nats://{SERVERS['office']}:{NATS_PORT}", "--workers", *flags)
        (self.folder / "office").mkdir()
        daemon = Sharing(
            self.folder / "office", all_flags, f"unix:{self.folder}/jobs.sock",
            before=_inside("office"), shared=self.folder / "shared",
        )  # fmt: skip
        self.stack.callback(daemon.close)
        daemon.start()
        return daemon.stub()


@pytest.fixture
def hosts(tmp_path: Path, network: None) -> Iterator[Hosts]:
    """The server alone runs."""
    del network
    config = tmp_path / "nats.conf"
    config.write_text(f'jetstream {{ store_dir: "{tmp_path}", sync_interval: always }}\n')
    with contextlib.ExitStack() as stack:
        command = (str(nats_server()), "-c", str(config))
        stack.enter_context(_runs(SERVER, tmp_path / "nats.log", *command))
        for host, address in SERVERS.items():
            _until_reached(host, address, NATS_PORT)
        yield Hosts(tmp_path, stack)


def _film(path: Path, seconds: int) -> bytes:
    """A recording whose seconds tell their number, again from 0 after `MOST_STEPS`."""
    whole = np.tile(recordings.steps(MOST_STEPS), -(-seconds // MOST_STEPS))
    return recordings.write(path, whole[: seconds * recordings.RATE]).read_bytes()


def _submitted(stub: Any, film: bytes, *targets: str) -> jobs_pb2.Job:
    """The job, once it has succeeded."""
    config = jobs_pb2.JobConfig(
        upload_name="film.wav", source_languages=["hi"], target_languages=targets
    )
    job_id = stub.SubmitJob(messages(config, film), timeout=60).job.id
    done = ended(stub, job_id)
    assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
    return done


def _texts(stub: Any, job_id: str) -> list[str]:
    transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
    return [one["text"] for one in transcript["segments"]]


def _endpoints(stub: Any, job_id: str) -> list[str]:
    report = json.loads(artifact(stub, job_id, "film.run.json"))
    return sorted(report["recognition"]["endpoints"])


def test_a_worker_that_nobody_can_reach_takes_part(hosts: Hosts) -> None:
    """It reaches the server, as the service that has the job does; neither reaches the other."""
    film = _film(hosts.folder / "film.wav", SECONDS)
    speech = hosts.service("home")
    assert not _reached("office", HOSTS["home"], int(speech.rpartition(":")[2]))
    worker = hosts.worker(speech)
    stub = hosts.jobs()
    done = _submitted(stub, film)
    assert _texts(stub, done.id) == [f"word{k}" for k in range(SECONDS)]
    assert _endpoints(stub, done.id) == ["worker"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def _translations(stub: Any, job_id: str) -> list[str]:
    transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
    return [one["text"] for one in transcript["translations"]["en"]["items"]]


def test_a_translating_worker_that_nobody_can_reach_takes_part(hosts: Hosts) -> None:
    """Where it is alone it does all; what a service that is called would have answered."""
    film = _film(hosts.folder / "film.wav", SECONDS)
    speech, translation = hosts.service("office"), hosts.service("home", "translate")
    assert not _reached("office", HOSTS["home"], int(translation.rpartition(":")[2]))
    worker = hosts.worker(translation, "translate")
    stub = hosts.jobs("--asr-endpoint", speech)
    done = _submitted(stub, film, "en")
    expected = ["" if k == 5 else f"en:word{k}" for k in range(SECONDS)]
    assert _translations(stub, done.id) == expected
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_a_worker_beside_a_service_that_is_called_makes_a_film_faster(hosts: Hosts) -> None:
    """Where the devices are what takes the time, two of them take less than 1/1.6 of it."""
    film = _film(hosts.folder / "film.wav", LONG_SECONDS)
    slow = {"STAND_IN_DELAY_S": str(DECODING_S), "STAND_IN_ONE_DEVICE": "1"}
    direct, own = hosts.service("office", **slow), hosts.service("home", **slow)
    stub = hosts.jobs("--asr-endpoint", direct)
    alone = _submitted(stub, film)
    assert _endpoints(stub, alone.id) == [direct]
    hosts.worker(own)
    time.sleep(3)  # it looks for work
    both = _submitted(stub, film)
    assert _endpoints(stub, both.id) == sorted([direct, "worker"])
    assert _texts(stub, both.id) == _texts(stub, alone.id)
    took_s, alone_s = (
        (one.end_time.ToDatetime() - one.start_time.ToDatetime()).total_seconds()
        for one in (both, alone)
    )
    assert alone_s / took_s > 1.6, (alone_s, took_s)
