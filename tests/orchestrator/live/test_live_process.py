"""LiveService in the process of `voxroute serve`: found, counted, and ended with it."""

import asyncio
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.orchestrator.daemon import Daemon
from tests.orchestrator.live_stand_in import LiveSpeech, SlowTranslation
from tests.orchestrator.stand_in import serve
from voxroute.asr.v1 import asr_pb2
from voxroute.live.v1 import live_pb2, live_pb2_grpc


async def test_serve_captions_beside_the_jobs_and_ends_them_in_order(tmp_path: Path) -> None:
    """SIGTERM closes the utterance, with its translation; the exit code is 0."""
    upstream, port = await serve("127.0.0.1:0", speech=LiveSpeech(), translation=SlowTranslation())
    address = f"127.0.0.1:{port}"
    flags = ("--asr-endpoints", address, "--translate-endpoints", address)
    daemon = Daemon(tmp_path, flags)
    try:
        await asyncio.to_thread(daemon.start)
        async with grpc.aio.insecure_channel(daemon.target) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
            named = health_pb2.HealthCheckRequest(service="voxroute.live.v1.LiveService")
            assert (await health.Check(named)).status == health_pb2.HealthCheckResponse.SERVING
            stub: Any = live_pb2_grpc.LiveServiceStub(channel)
            call = stub.Caption()
            speech = asr_pb2.LiveConfig(language="hi")
            speech.audio.pcm.sample_rate_hz = 16_000
            config = live_pb2.CaptionConfig(speech=speech, target_languages=["en"])
            await call.write(live_pb2.CaptionRequest(config=config))
            await call.write(live_pb2.CaptionRequest(audio=b"one two"))
            events: list[live_pb2.CaptionResponse] = []
            while not (events and events[-1].speech.HasField("tentative")):
                events.append(await call.read())
            page = await asyncio.to_thread(_page, daemon.metrics)
            assert "voxroute_caption_streams 1.0" in page
            ending = asyncio.ensure_future(asyncio.to_thread(daemon.end))
            with pytest.raises(grpc.aio.AioRpcError) as end:
                await _read_to_the_end(call, events)
            assert end.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await ending == 0
    finally:
        await asyncio.to_thread(daemon.close)
        await upstream.stop(0)
    assert any(event.speech.HasField("utterance") for event in events)
    assert [event.translated.text for event in events if event.HasField("translated")] == [
        "en:one two"
    ]


async def _read_to_the_end(call: Any, events: list[live_pb2.CaptionResponse]) -> None:
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)


def _page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return answer.read().decode()
