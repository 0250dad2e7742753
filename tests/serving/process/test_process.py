"""A real service process: its start-up line, signals, exit codes and messages."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serving import tiny_app
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 30  # a busy machine; normally a second


@dataclass
class Process:
    """A running process and what it said first."""

    process: asyncio.subprocess.Process
    listening: dict[str, Any]
    errors: "asyncio.Task[bytes]"

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), LIMIT_S)

    async def stderr(self) -> str:
        return (await self.errors).decode()


@contextlib.asynccontextmanager
async def started(*arguments: str, start: str = "", wait: bool = True) -> AsyncGenerator[Process]:
    """The tiny app as a process on a free port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        tiny_app.__name__,
        *("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *arguments),
        cwd=ROOT,
        env={**os.environ, "TINY_START": start},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    try:
        line = await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
        running = Process(process, json.loads(line) if line else {}, errors)
        if wait:
            await until_serving(running)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await errors


def channel(running: Process) -> grpc.aio.Channel:
    """A channel to the process."""
    return grpc.aio.insecure_channel(running.listening["addresses"][0])


async def until_serving(running: Process) -> None:
    """Returns once a watcher of health has seen SERVING."""
    async with channel(running) as open_channel, asyncio.timeout(LIMIT_S):
        watch = health_pb2_grpc.HealthStub(open_channel).Watch(health_pb2.HealthCheckRequest())
        while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
            pass
        watch.cancel()


async def requests(go: asyncio.Event) -> AsyncIterator[asr_pb2.TranscribeRequest]:
    """A call that goes on once it may."""
    yield asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model="ok"))
    await go.wait()
    yield asr_pb2.TranscribeRequest(audio=b"xx")
    yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())


async def test_sigterm_lets_an_open_stream_finish_and_exits_0() -> None:
    """The stream gets its `done`, the model is freed on its thread, the exit code is 0."""
    go = asyncio.Event()

    async with started() as running, channel(running) as open_channel:
        call = asr_pb2_grpc.AsrServiceStub(open_channel).Transcribe(requests(go))
        answers = aiter(call)
        await anext(answers)
        running.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert running.process.returncode is None
        go.set()
        assert [answer async for answer in answers][-1].done.segments == 1
        assert await call.code() is grpc.StatusCode.OK
        assert await running.exit_code() == 0
        assert "freed" in await running.stderr()


@pytest.mark.parametrize("drain_s", ["0.2", "600"])
async def test_a_stream_that_outlives_the_drain_is_cut(drain_s: str) -> None:
    """After drain_s, or after a second signal, the stream ends with UNAVAILABLE; exit code 0."""
    async with started("--drain-s", drain_s) as running, channel(running) as open_channel:
        request = asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model="wait"))
        call = asr_pb2_grpc.AsrServiceStub(open_channel).Transcribe(iter([request]))
        answers = aiter(call)
        await anext(answers)
        running.process.send_signal(signal.SIGTERM)
        if drain_s == "600":
            await asyncio.sleep(0.2)
            running.process.send_signal(signal.SIGINT)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [answer async for answer in answers]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await running.exit_code() == 0


async def test_sigterm_while_a_model_loads_exits_promptly() -> None:
    """A device that is busy for an hour does not keep the process."""
    async with started(start="hang", wait=False) as running:
        async with channel(running) as open_channel:
            health = health_pb2_grpc.HealthStub(open_channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 10) == 0


async def test_threads_in_native_code_do_not_change_the_exit_code() -> None:
    """What a cut call leaves on a thread would abort an interpreter that is being taken down."""
    async with started(start="listen") as running:
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        assert '"stopped"' in (await running.stderr()).splitlines()[-1]


@pytest.mark.parametrize(("start", "words"), [("fail", "set HF_TOKEN"), ("crash", "boom")])
async def test_a_failed_start_says_why_and_exits_1(start: str, words: str) -> None:
    """The last line on stderr is the reason, as a sentence."""
    async with started(start=start, wait=False) as running:
        assert await running.exit_code() == 1
        last = (await running.stderr()).strip().splitlines()
        assert any(line.startswith("cannot start: ") and words in line for line in last)


async def test_settings_that_make_no_sense_exit_2() -> None:
    """Each wrong setting is named by its flag and variable."""
    async with started("--drain-s", "soon", wait=False) as running:
        assert await running.exit_code() == 2
        assert "--drain-s (or VOXROUTE_DRAIN_S)" in await running.stderr()


async def test_logs_are_json_with_the_request_id_and_metrics_are_served() -> None:
    """Each line is JSON; a call's line has its id; /metrics counts the call."""
    async with started() as running, channel(running) as open_channel:
        request = [
            asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model="crash")),
        ]
        call = asr_pb2_grpc.AsrServiceStub(open_channel).Transcribe(
            iter(request), metadata=[("x-request-id", "job-1")]
        )
        with pytest.raises(grpc.aio.AioRpcError):
            _ = [answer async for answer in call]
        url = f"http://{running.listening['metrics']}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        assert re.search(r"grpc_server_handled_total\{.*INTERNAL.*Transcribe.*\} 1\.0", page)
        assert "voxroute_ready 1.0" in page
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        lines = [json.loads(s) for s in (await running.stderr()).splitlines() if s != "freed"]
        (line,) = [line for line in lines if line["event"] == "call"]
        assert (line["request_id"], line["code"], line["level"]) == ("job-1", "INTERNAL", "error")
        assert "RuntimeError" in line["exception"]


async def test_a_unix_socket_is_removed_at_the_end() -> None:
    """The socket exists while the process runs and is gone after it."""
    with tempfile.TemporaryDirectory(prefix="vx") as directory:
        socket = Path(directory) / "s.sock"
        async with started("--listen", f"unix:{socket}") as running:
            assert socket.is_socket()
            running.process.send_signal(signal.SIGINT)
            assert await running.exit_code() == 0
        assert not socket.exists()


async def test_console_logs_are_for_people() -> None:
    """Plain lines with event, id and traceback, without colours where stderr is no terminal."""
    async with started("--log-format", "console") as running, channel(running) as open_channel:
        request = [asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model="crash"))]
        call = asr_pb2_grpc.AsrServiceStub(open_channel).Transcribe(
            iter(request), metadata=[("x-request-id", "job-1")]
        )
        with pytest.raises(grpc.aio.AioRpcError):
            _ = [answer async for answer in call]
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        text = await running.stderr()
        (line,) = [line for line in text.splitlines() if "request_id=job-1" in line]
        assert "error" in line
        assert "code=INTERNAL" in line
        assert "Traceback (most recent call last)" in text
        assert "\x1b[" not in text
        assert not text.startswith("{")


async def test_a_misspelt_variable_is_told_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service starts all the same, and says what was likely meant."""
    monkeypatch.setenv("VOXROUTE_LISTN", "127.0.0.1:1")
    async with started() as running:
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        lines = [json.loads(s) for s in (await running.stderr()).splitlines() if s != "freed"]
        (line,) = [line for line in lines if line["event"] == "unknown variable"]
        assert (line["name"], line["did_you_mean"]) == ("VOXROUTE_LISTN", "VOXROUTE_LISTEN")
