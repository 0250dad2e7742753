"""A transcript of one service gets its words from another: two engines behind two servers."""

# pyright: basic

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.engines.conftest import installed, settings_of
from tests.engines.pipelines import EVENING
from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.client.uploads.align import align
from voxroute_orchestrator.client.uploads.upload import Recording
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_orchestrator.transcript import Note, Segment
from voxroute_serving.asr.engine import AsrEngine
from voxroute_serving.testing.served import serving_engine

POLICY = CallPolicy()


@contextlib.asynccontextmanager
async def serving(engine: AsrEngine) -> AsyncGenerator[AsrClient]:
    """A server with the engine, and a channel to it."""
    async with serving_engine(engine) as served:
        endpoint = Endpoint("speech service", served.address)
        async with connect(endpoint, POLICY) as channel:
            yield AsrClient(endpoint, channel, POLICY)


async def transcribed(service: AsrClient) -> list[Segment]:
    """The example as a service writes it down, without words."""
    container = asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())
    config = asr_pb2.TranscribeConfig(audio=container, language="en")
    messages = [
        asr_pb2.TranscribeRequest(config=config),
        asr_pb2.TranscribeRequest(audio=EVENING.read_bytes()),
        asr_pb2.TranscribeRequest(finish=common_pb2.Finish()),
    ]
    replies = service.stub.Transcribe(iter(messages), timeout=240)
    return [
        convert.segment(reply.segment, reply.segment.id)
        async for reply in replies
        if reply.HasField("segment")
    ]


@pytest.mark.slow  # a minute where MLX has no fast matrix products
@pytest.mark.skipif(not installed("mlx_whisper"), reason="mlx-whisper is not installed")
async def test_an_mlx_transcript_gets_its_words_from_whisperx(
    bundled_asr: Path, random_checkpoint: Path, bundled_aligner: Path, tmp_path: Path
) -> None:
    """Every word of every segment, in order and inside it; text, times and ids are MLX's own."""
    from voxroute_asr_mlx.engine import MlxWhisperEngine  # noqa: PLC0415 - not on every machine
    from voxroute_asr_mlx.settings import MlxSettings  # noqa: PLC0415 - as above

    mlx = MlxSettings.model_validate(
        {"offline": True, "model_cache_dir": tmp_path, "model": str(bundled_asr)}
    )
    async with serving(MlxWhisperEngine(mlx)) as service:
        segments = await transcribed(service)
    assert "doctor" in " ".join(segment.text for segment in segments)
    assert not any(segment.words for segment in segments)
    whisperx = settings_of(
        tmp_path, model=str(random_checkpoint), align_models=f"en={bundled_aligner}"
    )
    media, notes = probe(EVENING), list[Note]()

    async def tell(note: Note) -> None:
        notes.append(note)

    recording = Recording(media.duration_s, lambda: PcmReader(media))
    async with serving(WhisperXEngine(whisperx)) as service:
        aligned = await align(service, recording, segments, "en", tell)
    assert [s.model_copy(update={"words": ()}) for s in aligned] == segments
    assert not notes
    for segment in aligned:
        assert [word.text for word in segment.words] == segment.text.split()
        floor_s = segment.start_s - 1e-6
        for word in segment.words:
            assert floor_s <= word.start_s <= word.end_s <= segment.end_s + 1e-6
            floor_s = word.start_s
