"""Real service processes on unix sockets, and plain clients to talk to them."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import psutil
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import forking
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
ASR_MODEL = MODELS / "asr-tiny-hi-en"
TRANSLATE_MODEL = MODELS / "translate-tiny-hi-en"
CHUNK_BYTES = 64 * 1024
STARTUP_S = 300.0  # a busy machine with two cores; normally a few seconds


@dataclass
class Service:
    """A running service process and where it listens."""

    process: forking.Process
    target: str
    log: Path
    """What it writes to stderr."""
    output: Path
    """What it writes to stdout."""

    @contextlib.contextmanager
    def channel(self) -> Generator[grpc.Channel]:
        """A channel to the service, closed at the end."""
        with grpc.insecure_channel(self.target) as channel:
            yield channel

    def health(self, service: str = "") -> int:
        """The health status right now; raises grpc.RpcError where nobody listens."""
        with self.channel() as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=service)
            return stub.Check(request, timeout=5).status

    def wait_until_serving(self) -> None:
        """Returns once health is SERVING. Raises with the log where the process ends before."""
        until = time.monotonic() + STARTUP_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(grpc.RpcError):
                if self.health() == health_pb2.HealthCheckResponse.SERVING:
                    return
            time.sleep(0.1)
        raise AssertionError(f"not SERVING (exit {self.process.poll()}):\n{self.log.read_text()}")

    def calls_in_flight(self) -> int:
        """What GetCapabilities says of the queue."""
        with self.channel() as channel:
            stub = asr_pb2_grpc.AsrServiceStub(channel)
            answer = stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest(), timeout=10)
            return answer.queue.calls_in_flight

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code; kills after a minute."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def service(
    module: str, *arguments: str, wait: bool = True, **variables: str
) -> Generator[Service]:
    """Starts `python -m module` on a unix socket of its own and stops it at the end."""
    # pytest's own temporary paths can be longer than the 107 bytes of a unix socket's address
    with tempfile.TemporaryDirectory(prefix="vx") as directory:
        socket = Path(directory) / "s.sock"
        log, output = Path(directory) / "service.log", Path(directory) / "service.out"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("VOXROUTE_")
        }
        with log.open("wb") as errors, output.open("wb") as lines:
            process = forking.start(
                module, "--listen", f"unix:{socket}", "--metrics-listen", "", *arguments,
                environment=environment | variables, stdout=lines, stderr=errors,
            )  # fmt: skip
        running = Service(process, f"unix:{socket}", log, output)
        try:
            if wait:
                running.wait_until_serving()
            yield running
        finally:
            running.stop()


def asr_service(*arguments: str, wait: bool = True) -> contextlib.AbstractContextManager[Service]:
    """The WhisperX service with the bundled model on the CPU."""
    return service(
        "voxroute_asr_whisperx",
        "--model",
        str(ASR_MODEL),
        "--device",
        "cpu",
        *arguments,
        wait=wait,
    )


def translate_service(*arguments: str) -> contextlib.AbstractContextManager[Service]:
    """The translation service with the bundled model on the CPU."""
    return service(
        "voxroute_translate", "--models", str(TRANSLATE_MODEL), "--device", "cpu", *arguments
    )


_ports: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on now, which is given once.

    It is below those that the kernel gives to connections and to who asks for any port.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _ports:
                _ports.add(port)
                return port


def chunks(data: bytes, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The data in pieces."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def container_config(language: str = "hi") -> asr_pb2.TranscribeConfig:
    """The config for the bytes of a media file."""
    return asr_pb2.TranscribeConfig(
        audio=asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat()), language=language
    )


def pcm_config(language: str = "hi", rate: int = 16_000) -> asr_pb2.TranscribeConfig:
    """The config for raw samples."""
    return asr_pb2.TranscribeConfig(
        audio=asr_pb2.AudioFormat(
            pcm=asr_pb2.PcmFormat(sample_rate_hz=rate, channels=1),
            start_offset=Duration(seconds=0),
        ),
        language=language,
    )


def requests(
    config: asr_pb2.TranscribeConfig | None, audio: Iterable[bytes], *, finish: bool = True
) -> Iterator[asr_pb2.TranscribeRequest]:
    """The client's side of Transcribe."""
    if config is not None:
        yield asr_pb2.TranscribeRequest(config=config)
    for chunk in audio:
        yield asr_pb2.TranscribeRequest(audio=chunk)
    if finish:
        yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())


def of_samples(
    config: asr_pb2.TranscribeConfig, samples: npt.NDArray[np.float32]
) -> Iterator[asr_pb2.TranscribeRequest]:
    """The same of samples at 16 kHz."""
    config.audio.pcm.sample_rate_hz = 16_000
    return requests(config, chunks((samples * 32767).astype("<i2").tobytes()))


def transcribe(
    running: Service, config: asr_pb2.TranscribeConfig, data: bytes, timeout_s: float = 240
) -> list[asr_pb2.TranscribeResponse]:
    """All answers to one whole recording."""
    with running.channel() as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        return list(stub.Transcribe(requests(config, chunks(data)), timeout=timeout_s))
