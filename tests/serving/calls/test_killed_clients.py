"""Clients that are killed in the middle of a call, many of them."""

import asyncio
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.serving.fake_service import ROOT, running
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc

CLIENTS = 200
AT_ONCE = 10
CLIENT = """
import sys, time
import grpc
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc

def requests():
    pcm = asr_pb2.PcmFormat(sample_rate_hz=16_000)
    config = asr_pb2.TranscribeConfig(language="hi", audio=asr_pb2.AudioFormat(pcm=pcm))
    yield asr_pb2.TranscribeRequest(config=config)
    for _ in range(100):
        yield asr_pb2.TranscribeRequest(audio=bytes(32_000))
    time.sleep(600)

with grpc.insecure_channel(sys.argv[1]) as channel:
    for answer in asr_pb2_grpc.AsrServiceStub(channel).Transcribe(requests()):
        print("open", flush=True)
"""


async def _killed(address: str, places: asyncio.Semaphore) -> None:
    """One client that is killed once its call is accepted, most with audio on its way."""
    async with places:
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, address, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert client.stdout is not None
        try:
            assert await asyncio.wait_for(client.stdout.readline(), 300) == b"open\n"
        finally:
            client.kill()
            await client.wait()


@pytest.mark.slow  # 200 processes
@pytest.mark.timeout(1200)
async def test_200_killed_clients_lose_no_place(tmp_path: Path) -> None:
    """Every place is free afterwards, those of one client's share too."""
    limit = AT_ONCE + 10
    flags = (f"--max-concurrent-calls={limit}", f"--max-calls-per-client={limit}")
    with running(tmp_path, *flags) as service:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = asr_pb2_grpc.AsrServiceStub(channel)
            places = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(_killed(service.address, places))
            async with asyncio.timeout(60):
                while True:
                    about = await stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())
                    if not about.queue.calls_in_flight and not about.queue.work_queued:
                        break
                    await asyncio.sleep(0.1)
            # as many calls as one client may have, at once
            calls = [stub.Transcribe(timeout=60) for _ in range(limit)]
            for call in calls:
                await call.write(_config())
                assert (await call.read()).HasField("accepted")
            for call in calls:
                call.cancel()


def _config() -> asr_pb2.TranscribeRequest:
    pcm = asr_pb2.PcmFormat(sample_rate_hz=16_000)
    audio = asr_pb2.AudioFormat(pcm=pcm)
    return asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(language="hi", audio=audio))
