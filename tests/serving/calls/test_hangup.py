"""SIGHUP: a terminal that closes drains a service, and nohup keeps it."""

import asyncio
import os
import pty
import signal
import subprocess
import sys

import grpc
import pytest

from tests.serving import tiny_app
from tests.serving.process.test_process import LIMIT_S, ROOT, channel, requests, started
from voxroute.asr.v1 import asr_pb2_grpc


async def test_hangups_let_an_open_stream_finish() -> None:
    """However many come: only another signal hurries. The exit code is 0."""
    go = asyncio.Event()
    async with started() as running, channel(running) as open_channel:
        call = asr_pb2_grpc.AsrServiceStub(open_channel).Transcribe(requests(go))
        answers = aiter(call)
        await anext(answers)
        for _ in range(3):
            running.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.2)
        assert running.process.returncode is None
        go.set()
        assert [answer async for answer in answers][-1].done.segments == 1
        assert await call.code() is grpc.StatusCode.OK
        assert await running.exit_code() == 0
        assert "freed" in await running.stderr()


async def test_a_signal_after_a_hangup_hurries() -> None:
    """Who closed the terminal may still end the drain by hand."""
    async with started("--drain-s", "600") as running, channel(running) as open_channel:
        call = asr_pb2_grpc.AsrServiceStub(open_channel).Transcribe(requests(asyncio.Event()))
        await anext(aiter(call))
        running.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.2)
        running.process.send_signal(signal.SIGTERM)
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert await running.exit_code() == 0


def test_a_service_outlives_its_terminal_by_the_drain() -> None:
    """Its log goes nowhere then, which is no reason to end otherwise than with 0."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", tiny_app.__name__, "--listen=127.0.0.1:0", "--metrics-listen="],
        cwd=ROOT,
        stdin=its_end,
        stdout=subprocess.PIPE,
        stderr=its_end,
        start_new_session=True,
        # makes it the session's terminal
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # noqa: PLW1509 - no threads
    )
    os.close(its_end)
    assert process.stdout is not None
    with process.stdout:
        assert b"listening" in process.stdout.readline()
    os.close(terminal)  # the kernel sends SIGHUP
    assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("wait", [True, False])
async def test_nohup_keeps_a_service(wait: bool) -> None:  # noqa: FBT001 - a parameter
    """What was to be ignored from the start stays ignored, also while a model loads."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with started(start="" if wait else "hang", wait=wait) as running:
            running.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.5)
            assert running.process.returncode is None
            running.process.send_signal(signal.SIGTERM)
            assert await running.exit_code() == 0
    finally:
        signal.signal(signal.SIGHUP, before)
