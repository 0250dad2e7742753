"""A job service as a real process, with stand-in services that live in a thread of the test."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import forking
from tests.orchestrator.stand_in import Speech, Translation, serve
from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.jobs.v1 import jobs_pb2, jobs_pb2_grpc

ENDED = {
    jobs_pb2.JOB_STATE_SUCCEEDED,
    jobs_pb2.JOB_STATE_FAILED,
    jobs_pb2.JOB_STATE_CANCELLED,
}


def wait(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Returns once the condition holds."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


@dataclass
class CountingSpeech(Speech):
    """The speech stand-in; knows how many of its calls are open, and what it has decoded."""

    open_calls: int = 0
    decoded: int = 0
    """Windows, in all of its calls."""
    asked: int = 0
    """How often it was asked what it can do."""

    async def GetCapabilities(  # noqa: N802 - the contract's name
        self, request: asr_pb2.GetCapabilitiesRequest, context: Any
    ) -> asr_pb2.GetCapabilitiesResponse:
        self.asked += 1
        return await super().GetCapabilities(request, context)

    async def Transcribe(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: Any
    ) -> AsyncIterator[asr_pb2.TranscribeResponse]:
        self.open_calls += 1
        try:
            async for response in super().Transcribe(request_iterator, context):
                self.decoded += response.HasField("segment")
                yield response
        finally:
            self.open_calls -= 1


@dataclass
class Services:
    """The stand-ins and their addresses."""

    speech: CountingSpeech
    translation: Translation
    asr: str
    translate: str


@contextlib.contextmanager
def stand_in_services(
    asr_address: str = "127.0.0.1:0",
    translate_address: str = "127.0.0.1:0",
    pairs: tuple[tuple[str, str], ...] = Translation.pairs,
) -> Generator[Services]:
    """Speech and translation on ports, served by a thread of their own."""
    loop = asyncio.new_event_loop()
    speech = CountingSpeech()
    thread = threading.Thread(target=loop.run_forever, name="stand-ins")
    thread.start()

    def act(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    asr, asr_port = act(serve(asr_address, speech=speech))
    translation = Translation(pairs=pairs)
    translate, translate_port = act(serve(translate_address, translation=translation))
    try:
        yield Services(speech, translation, f"127.0.0.1:{asr_port}", f"127.0.0.1:{translate_port}")
    finally:
        act(asr.stop(0))
        act(translate.stop(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def _channel(target: str) -> grpc.Channel:
    """A connection of its own: grpc's shared ones wait long after a service was killed."""
    return grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])


@dataclass
class Daemon:
    """`voxroute serve` on one data folder; may be killed and started again."""

    folder: Path
    flags: tuple[str, ...]
    target: str = "127.0.0.1:0"
    metrics: str = ""
    before: Sequence[str] = ()
    """The command that starts it elsewhere, as in a network of its own."""
    process: forking.Process | None = None
    _channels: list[grpc.Channel] = field(default_factory=list[grpc.Channel])

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def start(self) -> None:
        """Returns once it serves, at the address that it had before."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
        environment |= {
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
            "VOXROUTE_LOCAL_IDLE_S": "0",
        }
        command = [
            "voxroute_orchestrator", "serve", "--listen", self.target,
            "--metrics-listen", "127.0.0.1:0", "--data-dir", str(self.data), *self.flags,
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            if self.before:
                self.process = subprocess.Popen(
                    [*self.before, sys.executable, "-m", *command],
                    env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True,
                )  # fmt: skip
            else:
                self.process = forking.start(
                    *command, environment=environment, folder=self.folder, stderr=log
                )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / "log").read_text()
        self.target, self.metrics = json.loads(line)["addresses"][0], json.loads(line)["metrics"]
        with _channel(self.target) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            request = health_pb2.HealthCheckRequest()
            wait(lambda: check(request).status == health_pb2.HealthCheckResponse.SERVING)

    def stub(self) -> "jobs_pb2_grpc.JobServiceStub":
        """A client on a connection of its own."""
        self._channels.append(_channel(self.target))
        return jobs_pb2_grpc.JobServiceStub(self._channels[-1])

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Waits until it has ended; the exit code."""
        assert self.process is not None
        assert self.process.stdout is not None
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def close(self) -> None:
        """Ends it whatever happened."""
        for channel in self._channels:
            channel.close()
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)


def config(**fields: Any) -> jobs_pb2.JobConfig:
    """The usual job: Hindi speech, English subtitles."""
    usual: dict[str, Any] = {"source_languages": ["hi"], "target_languages": ["en"]}
    return jobs_pb2.JobConfig(**(usual | fields))


def messages(
    job: jobs_pb2.JobConfig, data: bytes = b"", *, key: str = "", finish: bool = True
) -> Iterator[jobs_pb2.SubmitJobRequest]:
    """What a client sends to submit a job."""
    opening = jobs_pb2.SubmitJobConfig(idempotency_key=key, job=job)
    yield jobs_pb2.SubmitJobRequest(config=opening)
    for begin in range(0, len(data), 64 * 1024):
        yield jobs_pb2.SubmitJobRequest(data=data[begin : begin + 64 * 1024])
    if finish:
        yield jobs_pb2.SubmitJobRequest(finish=common_pb2.Finish())


def job(stub: Any, job_id: str) -> jobs_pb2.Job:
    """The job as it is now."""
    return stub.GetJob(jobs_pb2.GetJobRequest(job_id=job_id), timeout=30).job


def ended(stub: Any, job_id: str) -> jobs_pb2.Job:
    """The job, once it has ended."""
    wait(lambda: job(stub, job_id).state in ENDED, 120)
    return job(stub, job_id)


def texts_of(stub: Any, job_id: str) -> list[str]:
    """The texts of the film's segments, once the job has succeeded."""
    done = ended(stub, job_id)
    assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
    transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
    return [segment["text"] for segment in transcript["segments"]]


def artifact(stub: Any, job_id: str, name: str, offset: int = 0, length: int = 0) -> bytes:
    """The bytes of a result."""
    request = jobs_pb2.GetArtifactRequest(job_id=job_id, name=name, offset=offset, length=length)
    return b"".join(reply.data for reply in stub.GetArtifact(request, timeout=30))


def media(stub: Any, job_id: str, **asked: Any) -> tuple[jobs_pb2.MediaFile, bytes]:
    """What a job's recording is, and the bytes of it that were asked for."""
    request = jobs_pb2.GetMediaRequest(job_id=job_id, **asked)
    first, *rest = stub.GetMedia(request, timeout=60)
    return first.file, b"".join(reply.data for reply in rest)
