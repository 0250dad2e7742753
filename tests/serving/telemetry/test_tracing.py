"""Traces over real servers, channels and processes, with a real collector."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serving import fake_service, recordings
from tests.serving.collector import Collector, Kept, collecting
from tests.serving.process.test_server import Running, detect, load, serving, transcribe, unload
from tests.serving.tiny_app import ASR_NAME, MODELS_NAME, SECRET
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_orchestrator.client.calling import in_job
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect, is_serving
from voxroute_serving.device.batcher import Batcher, DeviceThread
from voxroute_serving.telemetry import request_ids, tracing
from voxroute_serving.testing.served import until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Collector]:
    """A collector, and tracing of this process that sends to it."""
    async with collecting() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        tracing.start("the-test", "1")
        try:
            yield running
        finally:
            await asyncio.to_thread(tracing.stop, 10)


async def flushed() -> None:
    """Returns when all spans that have ended are with the collector."""
    await asyncio.to_thread(tracing.stop, 20)


def connected(running: Running) -> Any:
    """The command's own channel to the server."""
    return connect(Endpoint("service", running.server.addresses[0]), CallPolicy())


def pair(collector: Collector, name: str) -> tuple[Kept, Kept]:
    """The client's and the server's span of the one call of that name."""
    [client] = [one for one in collector.named(name) if one.kind == "client"]
    [server] = [one for one in collector.named(name) if one.kind == "server"]
    return client, server


@pytest.mark.parametrize(
    ("name", "call"),
    [
        (f"{MODELS_NAME}/UnloadModel", unload),
        (f"{MODELS_NAME}/LoadModel", load),
        (f"{ASR_NAME}/DetectLanguage", detect),
        (f"{ASR_NAME}/Transcribe", transcribe),
    ],
)
async def test_the_four_kinds_of_call_are_one_trace_with_the_job(
    collector: Collector, name: str, call: Callable[..., Any]
) -> None:
    """Job -> client -> server, each the parent of the next, with ids and status, and no failure."""
    async with serving() as running, connected(running) as channel:
        with in_job("job-7", {"voxroute.media_s": 1.5}):
            await call(channel, "ok")
    await flushed()
    [job] = collector.named("job")
    client, server = pair(collector, name)
    assert {job.trace_id} == {client.trace_id, server.trace_id}
    assert (job.parent_id, client.parent_id, server.parent_id) == ("", job.span_id, client.span_id)
    assert job.attributes == {"voxroute.job_id": "job-7", "voxroute.media_s": 1.5}
    for span in (client, server):
        assert span.attributes["rpc.method"] == name
        assert span.attributes["rpc.response.status_code"] == "OK"
        assert span.attributes["voxroute.job_id"] == "job-7"
        assert not span.failed
        assert span.end_ns > span.start_ns


@pytest.mark.parametrize(
    ("order", "code", "reason", "fault"),
    [
        ("crash", "INTERNAL", "RuntimeError", True),
        ("EngineError", "INTERNAL", "ENGINE_FAILED", True),
        ("NotReadyError", "UNAVAILABLE", "NOT_READY", True),
        ("InvalidInputError", "INVALID_ARGUMENT", "INVALID_INPUT", False),
        ("QueueFullError", "RESOURCE_EXHAUSTED", "QUEUE_FULL", False),
        ("abort", "OUT_OF_RANGE", "OUT_OF_RANGE", False),
    ],
)
@pytest.mark.parametrize("call", [unload, transcribe])
async def test_a_failure_is_told_by_its_status_and_its_reason(  # noqa: PLR0917 - a table
    collector: Collector,
    call: Callable[..., Any],
    order: str,
    code: str,
    reason: str,
    fault: bool,  # noqa: FBT001 - pytest passes parameters by name
) -> None:
    """The client's span fails always, the server's where it is at fault; no message is in them."""
    async with serving() as running, connected(running) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, order)
    await flushed()
    [client] = [one for one in collector.spans if one.kind == "client"]
    [server] = [one for one in collector.spans if one.kind == "server"]
    assert client.attributes["rpc.response.status_code"] == code
    assert server.attributes["rpc.response.status_code"] == code
    assert server.attributes["error.type"] == reason
    assert client.failed
    assert server.failed == fault
    assert not any(SECRET in span.raw or "a sentence" in span.raw for span in collector.spans)


async def test_a_cancelled_call_ends_its_spans(collector: Collector) -> None:
    """Both sides say CANCELLED, and the server's is no failure of it."""
    async with serving() as running, connected(running) as channel:
        stub = models_pb2_grpc.ModelServiceStub(channel)
        call = stub.UnloadModel(models_pb2.UnloadModelRequest(model="wait"))
        assert await until(lambda: running.server.gate.open_calls > 0)
        call.cancel()
        await running.server.gate.idle()
    await flushed()
    client, server = pair(collector, f"{MODELS_NAME}/UnloadModel")
    assert client.attributes["rpc.response.status_code"] == "CANCELLED"
    assert server.attributes["rpc.response.status_code"] == "CANCELLED"
    assert not server.failed


async def test_each_attempt_has_a_span_and_health_has_none(collector: Collector) -> None:
    """Two tries of a call are two spans below one job; questions for health are not traced."""
    async with serving() as running, connected(running) as channel:
        with in_job("", {}):
            assert await is_serving(channel)
            with pytest.raises(grpc.aio.AioRpcError):
                await unload(channel, "NotReadyError")
            await unload(channel, "ok")
    await flushed()
    [job] = collector.named("job")
    attempts = [one for one in collector.spans if one.kind == "client"]
    assert [one.attributes["rpc.response.status_code"] for one in attempts] == ["UNAVAILABLE", "OK"]
    assert {one.parent_id for one in attempts} == {job.span_id}
    assert not any("grpc.health" in one.name for one in collector.spans)


async def test_a_batch_belongs_to_the_first_call_and_is_linked_to_the_others(
    collector: Collector,
) -> None:
    """Each call has a span of its wait, with its number of items; the batch counts all."""
    device = DeviceThread()
    running, go = threading.Event(), threading.Event()
    seen: list[str] = []

    def run_batch(key: Hashable, items: Sequence[int], stop: Callable[[], bool]) -> Sequence[int]:
        del key, stop
        seen.append(request_ids.request_id())
        running.set()
        assert go.wait(10)
        return items

    batcher: Batcher[int, int] = Batcher(
        device, run_batch, lambda _: 4, task="count", model_of=lambda key: f"model {key}"
    )

    async def call(name: str, items: Sequence[int]) -> None:
        request_ids.bind(name)
        with tracing.span(name, root=True):
            await asyncio.gather(*(batcher.submit("k", item) for item in items))

    first = asyncio.create_task(call("first", [0]))
    await asyncio.to_thread(running.wait, 10)
    others = [asyncio.create_task(call("a", [1, 2])), asyncio.create_task(call("b", [3]))]
    assert await until(lambda: batcher.queued == 3)
    go.set()
    await asyncio.gather(first, *others)
    await device.close(5)
    await flushed()
    [a], [b] = collector.named("a"), collector.named("b")
    [_, batch] = sorted(collector.named("batch"), key=lambda one: one.start_ns)
    assert batch.parent_id == a.span_id
    assert batch.links == (b.span_id,)
    assert batch.attributes == {
        "voxroute.task": "count",
        "voxroute.model": "model k",
        "voxroute.items": 3,
        "voxroute.calls": 2,
    }
    waits = {one.parent_id: one for one in collector.named("queue")}
    assert waits[a.span_id].attributes["voxroute.items"] == 2
    assert waits[b.span_id].attributes["voxroute.items"] == 1
    assert a.start_ns <= waits[a.span_id].start_ns <= waits[a.span_id].end_ns <= batch.end_ns
    assert seen == ["first", "a"]  # log lines of the device thread are those of the first call


async def test_work_of_the_service_itself_is_no_trace(collector: Collector) -> None:
    """What no call asked for, such as the first batch of a model, begins no trace."""
    device = DeviceThread()
    batcher: Batcher[int, int] = Batcher(device, lambda _key, items, _stop: items, lambda _: 4)
    await batcher.submit("k", 1)
    await device.close(5)
    await flushed()
    assert collector.spans == []


async def test_off_nothing_is_added_to_calls() -> None:
    """The service sees the job's id, and no trace."""
    seen: dict[str, Any] = {}

    class Watching(grpc.aio.ServerInterceptor):
        async def intercept_service(
            self, continuation: Any, handler_call_details: grpc.HandlerCallDetails
        ) -> Any:
            seen.update(cast("Any", handler_call_details.invocation_metadata))
            return await continuation(handler_call_details)

    server = grpc.aio.server(interceptors=[Watching()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connect(Endpoint("service", f"127.0.0.1:{port}"), CallPolicy()) as channel:
            with in_job("job-8", {}), pytest.raises(grpc.aio.AioRpcError):
                await unload(channel, "ok")
    finally:
        await server.stop(None)
    assert seen["x-voxroute-job"] == "job-8"
    assert "traceparent" not in seen


def test_off_the_api_of_opentelemetry_alone_is_imported() -> None:
    """By the command as by the services' runtime: what is slow, or reads variables, is not."""
    code = (
        "import sys, voxroute_orchestrator.cli.run, voxroute_orchestrator.cli.models;"
        "import voxroute_orchestrator.cli.jobs, voxroute_orchestrator.cli.serve;"
        "import voxroute_serving.process.main, voxroute_serving.asr.service;"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    names = [name for name in done.stdout.split() if name.startswith("opentelemetry.")]
    slow = ("opentelemetry.exporter", "opentelemetry.propagate", "opentelemetry.sdk")
    assert names
    assert not [name for name in names if name.startswith(slow)]


def requests(seconds: float) -> AsyncIterator[asr_pb2.TranscribeRequest]:
    """A tone, all of which is transcribed."""

    async def sent() -> AsyncIterator[asr_pb2.TranscribeRequest]:
        pcm = asr_pb2.PcmFormat(sample_rate_hz=16_000, channels=1)
        yield asr_pb2.TranscribeRequest(
            config=asr_pb2.TranscribeConfig(
                audio=asr_pb2.AudioFormat(pcm=pcm),
                language="en",
                vad=asr_pb2.VadOptions(disabled=True),
            )
        )
        yield asr_pb2.TranscribeRequest(audio=recordings.s16le(recordings.tone(seconds)))
        yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())

    return sent()


async def until_serving(channel: grpc.aio.Channel) -> None:
    """Returns once the service says SERVING."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
        pass
    watch.cancel()


async def spoken(process: fake_service.Process, job: str = "job-9") -> list[str]:
    """The text of a call for a job to a process; its request id is r-1."""
    async with grpc.aio.insecure_channel(process.address) as channel:
        await until_serving(channel)
        call = asr_pb2_grpc.AsrServiceStub(channel).Transcribe(
            requests(2.0), timeout=60, metadata=(("x-request-id", "r-1"), ("x-voxroute-job", job))
        )
        return [answer.segment.text async for answer in call if answer.HasField("segment")]


async def test_a_service_delivers_its_spans_when_it_is_stopped(tmp_path: Path) -> None:
    """decode, queue and batch below the call; SIGTERM right after it loses none of them."""
    async with collecting() as collector:
        # the SDK's own delay, so that nothing is sent before the end
        environment = collector.environment | {"OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with fake_service.running(tmp_path, **environment) as process:
            assert await spoken(process)
            assert await asyncio.to_thread(process.stop) == 0
    [call] = collector.named(f"{ASR_NAME}/Transcribe")
    assert call.service == "voxroute-serving"
    assert call.attributes["voxroute.request_id"] == "r-1"
    for name in ("decode", "queue", "batch"):
        [span] = collector.named(name)
        assert span.parent_id == call.span_id, name
    [batch] = collector.named("batch")
    assert batch.attributes["voxroute.task"] == "transcribe"
    assert len({span.trace_id for span in collector.spans}) == 1


async def test_a_collector_that_refuses_stops_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go well, and the end does not wait for the ten minutes of the exporter."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: connections are refused
        port = taken.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
        tracing.start("the-test", "1")
        async with serving() as running, connected(running) as channel:
            with in_job("", {}):
                assert await transcribe(channel, "ok")
        await asyncio.wait_for(asyncio.to_thread(tracing.stop), 60)


async def test_a_collector_that_hangs_stops_no_process(tmp_path: Path) -> None:
    """The process ends with 0, and the log says that traces are lost."""
    async with collecting(hangs=True) as collector:
        environment = collector.environment | {"OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
        with fake_service.running(tmp_path, **environment) as process:
            assert await spoken(process)
            assert await until(lambda: collector.calls > 0)
            assert await asyncio.wait_for(asyncio.to_thread(process.stop), 60) == 0
    assert "the collector takes no traces" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


async def test_every_line_of_a_call_tells_call_job_and_trace(tmp_path: Path) -> None:
    """Texts are there because --log-text says so; a job's id that is unfit for a log is not."""
    async with collecting() as collector:
        flags = ("--log-level=debug", "--log-text")
        with fake_service.running(tmp_path, *flags, **collector.environment) as process:
            [text] = await spoken(process)
            await spoken(process, job="x" * 65)
            await asyncio.to_thread(process.stop)
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    calls = [line for line in lines if line.get("request_id") == "r-1"]
    assert [line["event"] for line in calls] == ["segment", "call"] * 2
    first, second = collector.named(f"{ASR_NAME}/Transcribe")
    for line, span in zip(calls, [first, first, second, second], strict=True):
        assert (line["trace_id"], line["span_id"]) == (span.trace_id, span.span_id)
    assert [line.get("job") for line in calls] == ["job-9", "job-9", None, None]
    assert calls[0]["text"] == text


async def test_wrong_variables_are_told_and_the_service_goes_on(tmp_path: Path) -> None:
    """A compression that does not exist: calls are served, without traces."""
    environment = {"VOXROUTE_TRACING": "true", "OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}
    with fake_service.running(tmp_path, **environment) as process:
        assert await spoken(process)
        assert process.stop() == 0
    assert "an OTEL_* variable is wrong" in process.log.read_text()
    assert "trace_id" not in process.log.read_text()
