"""The life of a service process: health, reflection, SIGTERM, clients that die."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.e2e import processes
from voxroute.asr.v1 import asr_pb2_grpc

ASR_NAME = "voxroute.asr.v1.AsrService"


def test_health_turns_serving_only_after_the_model_has_answered() -> None:
    """A watcher sees NOT_SERVING first and SERVING later, for "" and for the service's name."""
    # tries to connect far more often than a model can be loaded
    often = [(f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max")]
    with (
        processes.asr_service(wait=False) as running,
        grpc.insecure_channel(running.target, options=often) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", ASR_NAME):
            seen: list[int] = []
            request = health_pb2.HealthCheckRequest(service=name)
            for answer in stub.Watch(request, timeout=180, wait_for_ready=True):
                seen.append(answer.status)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            if name == "":  # by the time of the second watch the model may be there
                assert seen == [
                    health_pb2.HealthCheckResponse.NOT_SERVING,
                    health_pb2.HealthCheckResponse.SERVING,
                ]
            assert seen[-1] == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("fixture", "expected"),
    [
        ("asr", {ASR_NAME, "voxroute.models.v1.ModelService", "grpc.health.v1.Health"}),
        (
            "translation",
            {
                "voxroute.translate.v1.TranslateService",
                "voxroute.models.v1.ModelService",
                "grpc.health.v1.Health",
            },
        ),
    ],
)
def test_reflection_lists_and_describes_the_services(
    fixture: str, expected: set[str], request: pytest.FixtureRequest
) -> None:
    """A client that knows nothing but reflection finds each service and its methods."""
    running: processes.Service = request.getfixturevalue(fixture)
    with running.channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        names = set(database.get_services())
        assert expected <= names
        for name in expected:
            assert database.FindFileContainingSymbol(name).service


def test_sigterm_with_a_stream_open_finishes_the_stream_and_exits_0(clip: Path) -> None:
    """A drained service answers the open call with `done` and OK, refuses new ones, and exits 0."""
    data = clip.read_bytes()
    started, terminated = threading.Event(), threading.Event()

    def audio() -> Iterator[bytes]:
        pieces = list(processes.chunks(data))
        yield from pieces[: len(pieces) // 2]
        started.set()
        terminated.wait(60)
        yield from pieces[len(pieces) // 2 :]

    with processes.asr_service() as running, running.channel() as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        call = stub.Transcribe(
            processes.requests(processes.container_config(), audio()), timeout=240
        )
        answers = iter(call)
        assert next(answers).HasField("accepted")
        assert started.wait(60)
        running.process.send_signal(signal.SIGTERM)
        refused = _wait_for_refusal(stub)
        terminated.set()
        events = list(answers)
        assert call.code() == grpc.StatusCode.OK
        assert events[-1].done.segments == sum(e.HasField("segment") for e in events) > 0
        assert refused == grpc.StatusCode.UNAVAILABLE
        assert running.process.wait(60) == 0


def _wait_for_refusal(stub: asr_pb2_grpc.AsrServiceStub) -> grpc.StatusCode:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            list(stub.Transcribe(processes.requests(processes.pcm_config(), []), timeout=10))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:  # type: ignore[attr-defined]
                return grpc.StatusCode.UNAVAILABLE
        time.sleep(0.05)
    raise AssertionError("the draining service still took new calls after 30 s")


KILLED_CLIENT = """
import sys, time
import grpc
from pathlib import Path
from voxroute.asr.v1 import asr_pb2_grpc
from tests.e2e import processes

def audio():
    data = Path(sys.argv[2]).read_bytes()
    yield from list(processes.chunks(data))[:-1]
    print("sent", flush=True)
    time.sleep(600)

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = asr_pb2_grpc.AsrServiceStub(channel)
    for answer in stub.Transcribe(processes.requests(processes.container_config(), audio())):
        pass
"""


def test_a_client_killed_mid_stream_frees_its_slot(asr: processes.Service, clip: Path) -> None:
    """After SIGKILL of the client no call is in flight within the time of one window."""
    client = subprocess.Popen(
        [sys.executable, "-c", KILLED_CLIENT, asr.target, str(clip)],
        cwd=processes.ROOT,
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"sent\n"
    assert asr.calls_in_flight() == 1
    client.kill()
    client.wait()
    client.stdout.close()
    until = time.monotonic() + 20  # one window takes about a second; the rest is the machine's
    while asr.calls_in_flight() and time.monotonic() < until:
        time.sleep(0.05)
    assert asr.calls_in_flight() == 0
    answers = processes.transcribe(asr, processes.container_config(), clip.read_bytes())
    assert answers[-1].HasField("done")
