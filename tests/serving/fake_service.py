"""The speech service with the engine that writes down tones, as a process.

FAKE_BATCH_S is how long a batch takes its device, seconds; nothing by default.
"""

import contextlib
import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import forking
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.process.main import run_service
from voxroute_serving.process.settings import AsrSettings
from voxroute_serving.testing.fake_engine import FakeEngine

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Process:
    """A running service."""

    process: forking.Process
    address: str
    log: Path

    def stop(self) -> int:
        """Ends it; the exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextlib.contextmanager
def running(folder: Path, *flags: str, **environment: str) -> Generator[Process]:
    """A process that serves on a free port, its log in a file of the folder."""
    inherited = {name: value for name, value in os.environ.items() if "VOXROUTE" not in name}
    log = folder / "service.log"
    given = [*flags] if any(flag.startswith("--listen") for flag in flags) else []
    listen = [] if given else ["--listen=127.0.0.1:0"]
    with log.open("w") as errors:
        process = forking.start(
            __name__, *listen, "--metrics-listen=", *flags,
            environment=inherited | environment, folder=ROOT, stderr=errors,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line: dict[str, Any] = json.loads(process.stdout.readline() or "{}")
        assert line, log.read_text()
        address = line["addresses"][0]
        _wait_until_serving(address)
        yield Process(process, address, log)
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def _wait_until_serving(address: str) -> None:
    """Returns once the model is loaded: calls before that are refused."""
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, own_connection) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        for answer in watch(health_pb2.HealthCheckRequest(), timeout=60):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
    raise AssertionError(f"{address} does not serve")


if __name__ == "__main__":
    engine = FakeEngine(delay_s=float(os.environ.get("FAKE_BATCH_S", "0")))
    run_service(AsrSettings, lambda s, r: AsrApp(engine, s, r))
