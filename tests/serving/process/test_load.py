"""64 clients at once before a service with 16 places, for minutes."""

import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.serving import recordings
from tests.serving.fake_service import ROOT, Process, running
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2

MINUTES = float(os.environ.get("VOXROUTE_TEST_LOAD_MINUTES", "5"))
CLIENTS = 64
PLACES = 16
BATCH_S = 0.5  # of the device, for at most four windows
CALL_S = 60.0  # a call that takes longer hangs: 16 places are four batches, two seconds
MAX_CALLS = 2_000  # of one client, if nothing else stops it
HEALTH_S = 0.1  # between two questions, and the bound of an answer
QUIET_S = 0.01  # what 99 of 100 answers of an idle service take at most where nothing else runs
MIB = 2**20

# The times of health's answers, of the loaded and of an idle service in turn, from a process that
# does nothing else. A line for each round: two times in seconds, negative where it was no SERVING.
PROBE = """
import sys, time
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

def asked(stub):
    began = time.perf_counter()
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    except grpc.RpcError:
        return -1.0
    took = time.perf_counter() - began
    return took if answer.status == health_pb2.HealthCheckResponse.SERVING else -1.0

pause_s = float(sys.argv[1])
options = [("grpc.use_local_subchannel_pool", 1)]
channels = [grpc.insecure_channel(address, options) for address in sys.argv[2:]]
stubs = [health_pb2_grpc.HealthStub(channel) for channel in channels]
for stub in stubs:
    asked(stub)  # connects
while True:
    print(*(asked(stub) for stub in stubs), flush=True)
    time.sleep(pause_s)
"""


def probed(output: str) -> list[list[float]]:
    """What the probe has written: of each moment the times of the answers, in seconds."""
    # the last line may end amid a number, where the probe was stopped
    whole = [line for line in output.splitlines(keepends=True) if line.endswith("\n")]
    return [[float(part) for part in line.split()] for line in whole]


@dataclass
class Endings:
    """How the calls of all clients ended."""

    counts: Counter[str] = field(default_factory=Counter[str])
    longest_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, how: str, took_s: float) -> None:
        """Counts one call."""
        with self._lock:
            self.counts[how] += 1
            self.longest_s = max(self.longest_s, took_s)


def _advice_s(error: grpc.RpcError) -> float | None:
    """RetryInfo's seconds of a refusal for want of a place; None of any other end."""
    code = error.code()  # type: ignore[attr-defined]
    if code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found = [detail.Unpack(info) or detail.Unpack(retry) for detail in status.details]
    if not all(found) or info.reason != "QUEUE_FULL" or not status.details:
        return None
    delay = retry.retry_delay
    return delay.seconds + delay.nanos / 1e9 or None


def _requests(audio: bytes) -> Iterator[asr_pb2.TranscribeRequest]:
    pcm = asr_pb2.PcmFormat(sample_rate_hz=16_000, channels=1)
    config = asr_pb2.TranscribeConfig(
        audio=asr_pb2.AudioFormat(pcm=pcm, start_offset=Duration()), language="hi"
    )
    yield asr_pb2.TranscribeRequest(config=config)
    for begin in range(0, len(audio), 64 * 1024):
        yield asr_pb2.TranscribeRequest(audio=audio[begin : begin + 64 * 1024])
    yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())


def _client(address: str, audio: bytes, until: float, endings: Endings) -> None:
    """One client with a connection of its own: call after call, each refusal's advice followed."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        for _ in range(MAX_CALLS):
            began = time.monotonic()
            if began >= until:
                return
            pause_s = 0.0
            try:
                last = None
                for answer in stub.Transcribe(_requests(audio), timeout=CALL_S):
                    last = answer
                how = "OK" if last is not None and last.HasField("done") else "OK without done"
            except grpc.RpcError as error:
                advice_s = _advice_s(error)
                refused = advice_s is not None
                how = "refused" if refused else f"{error.code()}: {error.details()}"  # type: ignore[attr-defined]
                pause_s = advice_s if advice_s is not None else 1.0
            endings.add(how, time.monotonic() - began)
            time.sleep(max(0.0, min(pause_s, until - time.monotonic())))


def _resident_bytes(service: Process, until: float) -> list[int]:
    """Resident memory of the service, once a second."""
    process = psutil.Process(service.process.pid)
    found: list[int] = []
    while time.monotonic() < until:
        found.append(int(process.memory_info().rss))
        time.sleep(1.0)
    return found


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[math.ceil(part * len(values)) - 1]


@pytest.mark.slow  # five minutes; VOXROUTE_TEST_LOAD_MINUTES sets another time
@pytest.mark.timeout(MINUTES * 60 + 300)
def test_a_full_service_refuses_stays_healthy_and_does_not_grow(tmp_path: Path) -> None:
    """Every call ends OK or is refused with RetryInfo; memory is flat; health answers in 100 ms.

    The bound of health is for a machine with room. An idle service is asked at the same moments:
    where 99 of 100 of its answers take longer than QUIET_S, by that factor the bound is larger.
    The longest answer may moreover take what the longest of the idle service took, times the
    factor.
    """
    (tmp_path / "loaded").mkdir()
    (tmp_path / "idle").mkdir()
    audio = recordings.s16le(recordings.speech(6.0))
    endings = Endings()
    with (
        running(
            tmp_path / "loaded", f"--max-concurrent-calls={PLACES}", FAKE_BATCH_S=str(BATCH_S)
        ) as service,
        running(tmp_path / "idle") as idle,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        probe = subprocess.Popen(
            [sys.executable, "-c", PROBE, str(HEALTH_S), service.address, idle.address],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with probe:
            assert probe.stdout is not None
            assert probe.stdout.readline()
            until = time.monotonic() + MINUTES * 60
            for _ in range(CLIENTS):
                clients.submit(_client, service.address, audio, until, endings)
            memory = _resident_bytes(service, until)
            probe.terminate()
            times = probed(probe.stdout.read())
        clients.shutdown()
        with grpc.insecure_channel(service.address) as channel:
            stub = asr_pb2_grpc.AsrServiceStub(channel)
            queue = stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest(), timeout=10).queue
        assert (queue.calls_in_flight, queue.work_queued) == (0, 0)
    loaded_s, idle_s = ([pair[i] for pair in times] for i in (0, 1))
    scale = max(1.0, _percentile(idle_s, 0.99) / QUIET_S)
    early = statistics.median(memory[len(memory) // 5 :][: max(1, len(memory) // 10)])
    late = statistics.median(memory[-max(1, len(memory) // 10) :])
    figures = {
        "calls": dict(endings.counts),
        "longest_call_s": round(endings.longest_s, 2),
        "resident_mib": [round(one / MIB, 1) for one in memory[:: max(1, len(memory) // 10)]],
        "health_answers": len(loaded_s),
        "health_ms": {
            name: {
                "p50": round(1000 * _percentile(values, 0.5), 1),
                "p99": round(1000 * _percentile(values, 0.99), 1),
                "max": round(1000 * max(values), 1),
            }
            for name, values in (("loaded", loaded_s), ("idle", idle_s))
        },
        "bound_ms": round(1000 * HEALTH_S * scale, 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    assert set(endings.counts) == {"OK", "refused"}, figures
    assert endings.longest_s < CALL_S
    assert min(loaded_s) > 0, figures
    assert _percentile(loaded_s, 0.99) <= HEALTH_S * scale, figures
    assert max(loaded_s) <= (HEALTH_S + max(idle_s)) * scale, figures
    assert late <= early * 1.05 + 8 * MIB, figures
