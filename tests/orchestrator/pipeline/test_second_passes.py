"""Alignment and diarization of a transcript that is there: real calls, breaks included."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from tests.orchestrator import recordings
from tests.orchestrator.stand_in import Speech
from tests.serving.recordings import silence, tone
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.client.messages import duration
from voxroute_orchestrator.client.uploads.align import align
from voxroute_orchestrator.client.uploads.diarize import diarize
from voxroute_orchestrator.client.uploads.upload import Recording
from voxroute_orchestrator.errors import RefusedError, ServiceUnavailableError
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_orchestrator.transcript import Note, Segment, Turn
from voxroute_serving.testing.fake_diarizer import FakeDiarizer
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.served import serving_engine

POLICY = CallPolicy(retry_s=10.0, stall_timeout_s=60.0)
START_S = 2.0  # the recording's audio begins here, as that of many films


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Two tones with a pause between, the audio's start not zero."""
    talk = np.concatenate([tone(1.0, 300.0), silence(1.0), tone(1.0, 600.0), silence(0.5)])
    path = tmp_path / "film.mka"
    recordings.write(path, (talk * 32767).astype(np.int16), start_s=START_S)
    media = probe(path)
    return Recording(media.duration_s, lambda: PcmReader(media))


def segment(number: int, start_s: float, end_s: float, text: str) -> Segment:
    """A segment without words."""
    return Segment(
        id=number, start_s=start_s, end_s=end_s, text=text, language="hi", avg_log_prob=-0.1
    )


TRANSCRIPT = [
    segment(1, 1.9, 3.1, "one two"),
    segment(2, 3.2, 3.8, "nobody says this"),
    segment(3, 3.9, 5.1, "three"),
]


@contextlib.asynccontextmanager
async def serving(
    engine: FakeEngine | None = None, diarizer: FakeDiarizer | None = None
) -> AsyncGenerator[AsrClient]:
    """A real speech service around a fake engine, and a channel to it."""
    async with serving_engine(engine or FakeEngine(), diarizer) as served:
        endpoint = Endpoint("speech service", served.address)
        async with connect(endpoint, POLICY) as channel:
            yield AsrClient(endpoint, channel, POLICY)


@dataclass
class Unsteady(Speech):
    """Breaks a number of calls after their first answer, then does them; counts the audio."""

    broken_calls: int = 0
    ends_early: bool = False
    """Whether a broken call looks like one that ended well, without its last message."""
    calls: int = 0
    bytes_heard: list[int] = field(default_factory=list[int])

    async def _hear(self, requests: AsyncIterator[Any]) -> int:
        heard = 0
        async for request in requests:
            heard += len(request.audio)
        self.bytes_heard.append(heard)
        return heard

    async def Align(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.AlignRequest], context: Any
    ) -> AsyncIterator[asr_pb2.AlignResponse]:
        self.calls += 1
        await self._hear(request_iterator)
        word = asr_pb2.Word(text=f"call{self.calls}", start=duration(2), end=duration(3))
        yield asr_pb2.AlignResponse(segment=asr_pb2.Segment(id=0, words=[word]))
        if await self._broken(context):
            return
        yield asr_pb2.AlignResponse(
            warning=common_pb2.Warning(code="OTHER", message="something else")
        )
        yield asr_pb2.AlignResponse(done=asr_pb2.AlignDone())

    async def Diarize(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.DiarizeRequest], context: Any
    ) -> AsyncIterator[asr_pb2.DiarizeResponse]:
        self.calls += 1
        await self._hear(request_iterator)
        turn = asr_pb2.SpeakerTurn(start=duration(2), end=duration(3), speaker="SPEAKER_00")
        yield asr_pb2.DiarizeResponse(turn=turn)
        if await self._broken(context):
            return
        yield asr_pb2.DiarizeResponse(done=asr_pb2.DiarizeDone())

    async def _broken(self, context: Any) -> bool:
        if self.calls <= self.broken_calls and not self.ends_early:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        return self.calls <= self.broken_calls


@contextlib.asynccontextmanager
async def unsteady(servicer: Unsteady, policy: CallPolicy = POLICY) -> AsyncGenerator[AsrClient]:
    """A channel to an unsteady service."""
    server = grpc.aio.server()
    asr_pb2_grpc.add_AsrServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    endpoint = Endpoint("speech service", f"127.0.0.1:{port}")
    async with connect(endpoint, policy) as channel:
        yield AsrClient(endpoint, channel, policy)
    await server.stop(0)


class Notes(list[Note]):
    """Takes what is told."""

    async def tell(self, note: Note) -> None:
        """Keeps it."""
        self.append(note)


async def test_a_transcript_gets_its_words(recording: Recording) -> None:
    """In media time; nothing else changes, and what has no words is told once."""
    notes = Notes()
    async with serving() as service:
        found = await align(service, recording, TRANSCRIPT, "hi", notes.tell)
    words = [[(w.text, w.start_s, w.end_s) for w in s.words] for s in found]
    assert [[text for text, *_ in of_segment] for of_segment in words] == [
        ["one", "two"], [], ["three"]
    ]  # fmt: skip
    assert words[0][0][1] == pytest.approx(START_S, abs=0.05)
    assert words[2][0][1:] == pytest.approx((START_S + 2, START_S + 3), abs=0.05)
    assert [s.model_copy(update={"words": ()}) for s in found] == TRANSCRIPT
    ((code, message),) = [(note.code, note.message) for note in notes]
    assert code == "ALIGNMENT_FAILED"
    assert message.startswith("1 of 3 segments")
    assert message.endswith(": 2")


async def test_segments_that_no_aligner_takes_are_left_out_of_the_call(
    recording: Recording,
) -> None:
    """One longer than 30 s, one without text and one out of order do not cost the others."""
    long = segment(8, 0.0, 31.0, "for ever")
    empty = segment(9, 2.0, 2.5, " ")
    notes = Notes()
    async with serving() as service:
        found = await align(
            service, recording, [TRANSCRIPT[2], long, empty, TRANSCRIPT[0]], "hi", notes.tell
        )
    assert [s.id for s in found] == [3, 8, 9, 1]
    assert [len(s.words) for s in found] == [1, 0, 0, 2]
    assert [note.message.rpartition(": ")[2] for note in notes] == ["8"]


async def test_a_transcript_with_nothing_to_align_makes_no_call(recording: Recording) -> None:
    """An empty one is whole as it is."""
    servicer, notes = Unsteady(broken_calls=0), Notes()
    async with unsteady(servicer) as service:
        assert await align(service, recording, [], "hi", notes.tell) == []
    assert servicer.calls == 0
    assert not notes


async def test_a_language_without_an_aligner_is_refused(recording: Recording) -> None:
    """With the languages that there are; no retry."""
    async with serving() as service:
        with pytest.raises(RefusedError, match="hi, en"):
            await align(service, recording, TRANSCRIPT, "ta", Notes().tell)


async def test_a_recording_gets_its_speakers(recording: Recording) -> None:
    """In media time, the numbers of speakers passed on."""
    diarizer, notes = FakeDiarizer(), Notes()
    async with serving(diarizer=diarizer) as service:
        turns = await diarize(service, recording, notes.tell, min_speakers=1, max_speakers=2)
    assert [turn.speaker for turn in turns] == ["SPEAKER_00", "SPEAKER_01"]
    assert [turn.start_s for turn in turns] == pytest.approx([START_S, START_S + 2], abs=0.05)
    assert diarizer.asked[0][1:] == (1, 2)
    assert not notes


async def test_a_warning_of_the_diarization_is_told(tmp_path: Path) -> None:
    """Silence has no speakers, and the result says why there are none."""
    path = recordings.write(tmp_path / "quiet.wav", np.zeros(32_000, np.int16))
    media, notes = probe(path), Notes()
    async with serving(diarizer=FakeDiarizer()) as service:
        recording = Recording(media.duration_s, lambda: PcmReader(media))
        assert await diarize(service, recording, notes.tell) == []
    assert [note.code for note in notes] == ["NO_SPEECH"]


async def test_a_service_without_diarization_is_refused(recording: Recording) -> None:
    """One call, and a sentence that says what to look for."""
    async with serving() as service:
        with pytest.raises(RefusedError, match="FEATURE_DIARIZATION"):
            await diarize(service, recording, Notes().tell)


@pytest.mark.parametrize("ends_early", [False, True])
async def test_a_call_that_breaks_is_made_again_from_its_start(
    recording: Recording, *, ends_early: bool
) -> None:
    """What the broken one answered is forgotten; the audio is sent whole each time."""
    servicer, notes = Unsteady(broken_calls=2, ends_early=ends_early), Notes()
    async with unsteady(servicer) as service:
        turns = await diarize(service, recording, notes.tell)
    assert turns == [Turn(2.0, 3.0, "SPEAKER_00")]
    assert servicer.calls == 3
    assert len(set(servicer.bytes_heard)) == 1
    servicer = Unsteady(broken_calls=1, ends_early=ends_early)
    async with unsteady(servicer) as service:
        (found,) = await align(service, recording, TRANSCRIPT[:1], "hi", notes.tell)
    assert [word.text for word in found.words] == ["call2"]
    assert [note.code for note in notes] == ["OTHER"]


async def test_retries_end(recording: Recording) -> None:
    """A service that stays away is given up with a sentence."""
    async with unsteady(Unsteady(broken_calls=1000), CallPolicy(retry_s=1.0)) as service:
        with pytest.raises(ServiceUnavailableError, match="draining"):
            await diarize(service, recording, Notes().tell)
