"""A gateway process in front of real services with the bundled models."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import psutil
import pytest

from tests import forking
from tests.e2e import processes
from tests.e2e.conftest import clip, translation
from tests.orchestrator.daemon import Daemon
from voxroute.asr.v1 import asr_pb2_grpc

__all__ = ["clip", "translation"]

START_S = 60.0
CLIENTS = Path(__file__).parent / "node"


@dataclass
class Gateway:
    """A running gateway and where it answers."""

    process: forking.Process
    url: str
    metrics: str
    output: IO[str]
    """What it writes to stderr."""
    told: dict[str, Any]
    """What it has said about where it listens."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.rpartition("/")[2].rpartition(":")
        return host, int(port)

    def log(self) -> list[dict[str, Any]]:
        """The lines of its log so far."""
        self.output.flush()
        text = Path(f"/proc/self/fd/{self.output.fileno()}").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextlib.contextmanager
def gateway(*arguments: str, **variables: str) -> Generator[Gateway]:
    """`python -m voxroute_gateway` on a free port; it ends with the block, with exit code 0."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    with tempfile.TemporaryFile("w+") as log:
        process = forking.start(
            "voxroute_gateway", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
            *arguments,
            environment=clean | {"VOXROUTE_LOCAL_IDLE_S": "0"} | variables, stderr=log,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise AssertionError(f"it does not listen:\n{log.read()}")
            told = json.loads(line)
            url = f"http://{told['addresses'][0]}"
            yield Gateway(process, url, f"http://{told['metrics']}/metrics", log, told)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            process.stdout.close()
            log.seek(0)
            text = log.read()
        assert code == 0, text
        assert "request failed" not in text, text


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the clients are installed, as locked."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)}")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(
        CLIENTS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
    )
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        check=False, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def short() -> Path:
    """The bundled monologue: some seconds of English, as a wave file."""
    return processes.ROOT / "examples" / "evening.wav"


@pytest.fixture(scope="session")
def samples(clip: Path) -> bytes:
    """Fifteen seconds of the clip as Bazarr sends it: s16le, 16 kHz, mono, without a header."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(str(clip)) as media:
        frames = [f for packet in media.decode(audio=0) for f in resampler.resample(packet)]
        frames += resampler.resample(None)
    whole = b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in frames)
    return whole[: 15 * 32_000]


@pytest.fixture(scope="session")
def asr() -> Iterator[processes.Service]:
    """The WhisperX service with the bundled model, which times words too."""
    aligner = processes.MODELS / "align-tiny-hi-en"
    aligners = f"hi={aligner},en={aligner}"
    with processes.asr_service("--align-models", aligners, wait=False) as running:
        yield running  # `server` waits for it, so that it and the other service start at once


@pytest.fixture(scope="module")
def one_place() -> Iterator[processes.Service]:
    """A speech service with one place."""
    with processes.asr_service("--max-concurrent-calls", "1") as running:
        yield running


@pytest.fixture(scope="session")
def server(asr: processes.Service, translation: processes.Service) -> Iterator[Gateway]:
    """A gateway in front of both."""
    asr.wait_until_serving()
    with gateway(
        "--asr-endpoint", asr.target, "--translate-endpoint", translation.target
    ) as running:
        yield running


@contextlib.contextmanager
def place_taken(service: processes.Service, samples: bytes) -> Generator[None]:
    """A place of a service is taken while the block lasts, by an hour of speech."""
    config, hour = processes.pcm_config(), itertools.repeat(samples, 240)
    with service.channel() as channel:
        call: Any = asr_pb2_grpc.AsrServiceStub(channel).Transcribe(
            processes.requests(config, hour), timeout=600
        )
        assert next(call).HasField("accepted")
        try:
            yield
        finally:
            call.cancel()


def wait_until_busy(service: processes.Service) -> None:
    """Returns once the service has a call."""
    until = time.monotonic() + 60
    while not service.calls_in_flight():
        assert time.monotonic() < until, "the service has no call"
        time.sleep(0.05)


def wait_until_free(service: processes.Service, within_s: float = 20.0) -> None:
    """Returns once the service has no call. Raises AssertionError where it keeps one."""
    until = time.monotonic() + within_s
    while service.calls_in_flight():
        assert time.monotonic() < until, "the service still has a call"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def job_service(
    asr: processes.Service,
    translation: processes.Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Daemon]:
    """A job service whose jobs those two do."""
    asr.wait_until_serving()
    endpoints = ("--asr-endpoint", asr.target, "--translate-endpoint", translation.target)
    running = Daemon(tmp_path_factory.mktemp("jobs"), endpoints)
    try:
        running.start()
        yield running
        assert running.end() == 0
    finally:
        running.close()


@pytest.fixture(scope="session")
def all_three(
    asr: processes.Service, translation: processes.Service, job_service: Daemon
) -> list[str]:
    """The flags that name all services."""
    return [
        "--asr-endpoint", asr.target, "--translate-endpoint", translation.target,
        "--jobs-endpoint", job_service.target,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def whole(all_three: list[str]) -> Iterator[Gateway]:
    """A gateway in front of all three."""
    with gateway(*all_three, "--heartbeat-s", "0.3") as running:
        yield running
