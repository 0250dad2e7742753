"""Signs of life: a frozen client loses its place, and one that asks for signs is not sent away."""

import asyncio
import contextlib
import signal
import struct
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.serving.process.test_server import Running, serving
from voxroute_serving.process import server
from voxroute_serving.testing.served import until

ROOT = Path(__file__).resolve().parents[3]
CLIENT = """
import sys, time
import grpc
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc

def requests():
    yield asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model="ok"))
    yield asr_pb2.TranscribeRequest(audio=b"xx")
    time.sleep(600)

with grpc.insecure_channel(sys.argv[1]) as channel:
    for answer in asr_pb2_grpc.AsrServiceStub(channel).Transcribe(requests()):
        if answer.HasField("segment"):
            print("open", flush=True)
"""
PING, GOAWAY, SETTINGS = 6, 7, 4  # RFC 9113, section 6
ACK = 1


@contextlib.asynccontextmanager
async def _client(running: Running) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A client with a call open, killed at the end."""
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", CLIENT, running.server.addresses[0]),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert client.stdout is not None
        assert await asyncio.wait_for(client.stdout.readline(), 30) == b"open\n"
        yield client
    finally:
        client.kill()
        await client.wait()


@pytest.mark.slow
async def test_a_frozen_client_loses_its_place() -> None:
    """A stopped process, whose kernel still acknowledges bytes, is dropped in keepalive + 10 s."""
    async with serving(keepalive_s=1) as running, _client(running) as client:
        assert running.server.gate.open_calls == 1
        client.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        # 2 s for the machine
        async with asyncio.timeout(1 + server.KEEPALIVE_TIMEOUT_S + 2):
            await running.server.gate.idle()
        assert time.monotonic() - stopped > server.KEEPALIVE_TIMEOUT_S - 2
        assert await until(lambda: running.handled("Transcribe", "CANCELLED", "bidi_stream") == 1)


async def test_an_idle_client_that_answers_keeps_its_place() -> None:
    """A call without messages stays open while its client answers the pings of the server."""
    async with serving(keepalive_s=1) as running, _client(running):
        await asyncio.sleep(4)
        assert running.server.gate.open_calls == 1


async def _frames_of_pings(port: int, interval_s: float, pings: int) -> list[int]:
    """The types of the frames that answer pings sent at an interval, with no call open.

    A plain socket instead of a gRPC client: those slow their pings down by rules of their own.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    types: list[int] = []

    async def read() -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(9)
                length = int.from_bytes(header[:3], "big")
                kind, flags = header[3], header[4]
                body = await reader.readexactly(length)
                if kind == SETTINGS and not flags & ACK:
                    writer.write(bytes([0, 0, 0, SETTINGS, ACK, *bytes(4)]))
                elif kind == PING and not flags & ACK:
                    writer.write(struct.pack(">I", 8)[1:] + bytes([PING, ACK, 0, 0, 0, 0]) + body)
                elif kind in (PING, GOAWAY):
                    types.append(kind)

    reading = asyncio.create_task(read())
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, *bytes(5)]))
        for number in range(pings):
            await asyncio.sleep(interval_s)
            writer.write(bytes([0, 0, 8, PING, *bytes(5)]) + struct.pack(">Q", number))
        await asyncio.sleep(0.5)
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return types


async def test_a_flood_of_pings_is_sent_away() -> None:
    """Pings every 50 ms end in GOAWAY: nobody keeps the server busy with them."""
    async with serving() as running:
        port = int(running.server.addresses[0].rpartition(":")[2])
        assert GOAWAY in await _frames_of_pings(port, 0.05, 10)


@pytest.mark.slow
async def test_a_ping_every_10_s_is_answered_for_ever() -> None:
    """Clients may ask for a sign of life every 10 s, calls or none: no ping counts as too many."""
    async with serving() as running:
        port = int(running.server.addresses[0].rpartition(":")[2])
        # the third ping too many is the last; every 30 s is milder still
        assert await _frames_of_pings(port, 10, 5) == [PING] * 5
