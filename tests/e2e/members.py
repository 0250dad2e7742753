"""Members of a fleet: services that listen on TCP, and come back where they were."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.processes import ROOT, STARTUP_S
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc
from voxroute_serving import healthcheck


@dataclass
class Member:
    """A service process with an address and a log; may be stopped and started again."""

    module: str
    address: str
    """What it listens on; asked by way of a unix socket where one is among several."""
    log: Path
    flags: Sequence[str] = ()
    prefix: Sequence[str] = ()
    """What runs the command, such as `ip netns exec NAME`."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    token: str = ""
    """What it asks of its clients."""
    process: "subprocess.Popen[bytes] | None" = None

    def begin(self) -> None:
        """Starts the process; it may still be loading."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(*self.prefix, sys.executable, "-m", self.module),
                    *("--listen", self.address, "--metrics-listen", "", *self.flags),
                ],
                cwd=ROOT,
                env=inherited | self.environment,
                stdout=output,
                stderr=output,
            )

    def ready(self) -> None:
        """Returns once it serves. Raises with the log where the process ends before."""
        until = time.monotonic() + STARTUP_S
        while time.monotonic() < until:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            if self._serves():
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.address} does not serve:\n{self.log.read_text()}")

    def open_calls(self) -> int:
        """Calls that it is at, by its own word."""
        metadata = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        with self._channel() as channel:
            if self.module == "voxroute_translate":
                translation = translate_pb2_grpc.TranslateServiceStub(channel).GetCapabilities
                request = translate_pb2.GetCapabilitiesRequest()
                return translation(request, timeout=10, metadata=metadata).queue.calls_in_flight
            speech = asr_pb2_grpc.AsrServiceStub(channel).GetCapabilities
            asked = speech(asr_pb2.GetCapabilitiesRequest(), timeout=10, metadata=metadata)
            return asked.queue.calls_in_flight

    def _channel(self) -> grpc.Channel:
        # a connection of its own: grpc's shared ones wait long after a service has gone
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(healthcheck.target(self.address) or "", options)

    def _serves(self) -> bool:
        with self._channel() as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            try:
                answer = check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def end(self, number: int = signal.SIGTERM, within_s: float = 90) -> int:
        """Sends the signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def close(self) -> None:
        """Ends it whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
