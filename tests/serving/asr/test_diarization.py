"""Diarize over a real server and real sockets, with a diarizer that tells tones apart."""

import asyncio
import contextlib
import re
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.recordings import Media, chunks, faststart, media, s16le, silence, tone
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_serving.asr.diarizing import Recording, Turn, in_order_of_speech
from voxroute_serving.asr.engine import Feature
from voxroute_serving.device.batcher import Admission
from voxroute_serving.errors import (
    EngineError,
    ModelNotFoundError,
    ModelUnavailableError,
    OutOfMemoryError,
)
from voxroute_serving.testing.fake_diarizer import FakeDiarizer
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.served import serving_engine, until

# grpcio 1.85 leaves the request stream of a call that failed to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine '_MessageReceiver._async_message_receiver' was never awaited:RuntimeWarning"
)

Request = asr_pb2.DiarizeRequest
Reply = asr_pb2.DiarizeResponse
CONTAINER = asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())
PATIENCE_S = 30.0


@dataclass
class Service:
    """A running service and what a test looks at."""

    admission: Admission
    address: str

    async def call(self, use: Callable[[Any], Any]) -> Any:
        """What a use of the blocking stub gives; that of aio may lose a refusal (grpcio 1.85)."""

        def run() -> Any:
            with grpc.insecure_channel(self.address) as channel:
                return use(asr_pb2_grpc.AsrServiceStub(channel))

        return await asyncio.to_thread(run)

    async def diarize(self, messages: Iterable[Request]) -> list[Reply]:
        """All answers to the messages."""
        return await self.call(lambda stub: list(stub.Diarize(iter(messages), timeout=60)))

    async def refusal(self, messages: Iterable[Request]) -> Any:
        """The error that the messages end with."""
        with pytest.raises(grpc.RpcError) as caught:
            await self.diarize(messages)
        return caught.value

    async def features(self) -> set[int]:
        """What the service says that it can do."""
        request = asr_pb2.GetCapabilitiesRequest()
        return set((await self.call(lambda stub: stub.GetCapabilities(request))).features)


@contextlib.asynccontextmanager
async def serving(
    diarizer: FakeDiarizer | None, *, workers: int = 1, **settings: Any
) -> AsyncGenerator[Service]:
    """A service on a free port."""
    engine = FakeEngine(workers=workers)
    async with serving_engine(engine, diarizer, **settings) as served:
        yield Service(served.runtime.admission, served.address)


def config(**fields: Any) -> asr_pb2.DiarizeConfig:
    """Raw 16 kHz samples."""
    fields.setdefault("audio", asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000)))
    return asr_pb2.DiarizeConfig(**fields)


def messages(
    data: bytes, conf: asr_pb2.DiarizeConfig | None = None, *, finish: bool = True
) -> Iterator[Request]:
    """A whole recording as a client sends it."""
    yield Request(config=conf or config())
    for chunk in chunks(data, 64_000):
        yield Request(audio=chunk)
    if finish:
        yield Request(finish=common_pb2.Finish())


def turns(replies: Iterable[Reply]) -> list[tuple[float, float, str]]:
    """The turns among the answers: start and end in seconds, speaker."""
    return [
        (
            reply.turn.start.ToMilliseconds() / 1000,
            reply.turn.end.ToMilliseconds() / 1000,
            reply.turn.speaker,
        )
        for reply in replies
        if reply.HasField("turn")
    ]


def reason(error: Any) -> str:
    """The stable reason of an error."""
    info = error_details_pb2.ErrorInfo()
    status: Any = rpc_status.from_call(error)
    assert any(detail.Unpack(info) for detail in status.details)
    return info.reason


PAUSE = silence(0.5)
TALK = np.concatenate(
    [PAUSE, tone(1.0, 600.0), PAUSE, tone(1.0, 300.0), PAUSE, tone(1.0, 600.0), PAUSE]
)


async def test_speakers_are_named_in_the_order_of_their_first_words() -> None:
    """Accepted first, turns by their start in media time, done last with the counts."""
    diarizer = FakeDiarizer()
    conf = config(min_speakers=2, max_speakers=3)
    conf.audio.start_offset.CopyFrom(Duration(seconds=100))
    async with serving(diarizer) as service:
        replies = await service.diarize(messages(s16le(TALK), conf))
    assert replies[0].accepted.model.id == "pitch"
    assert replies[0].accepted.request_id
    found = turns(replies)
    assert [speaker for *_, speaker in found] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_00"]
    assert [start for start, *_ in found] == pytest.approx([100.5, 102.0, 103.5], abs=0.01)
    assert [end for _, end, _ in found] == pytest.approx([101.5, 103.0, 104.5], abs=0.01)
    assert replies[-1].done == asr_pb2.DiarizeDone(speakers=2, turns=3)
    assert diarizer.asked == [(5.0, 2, 3)]
    assert diarizer.threads == {"device"}


async def test_the_sound_of_a_film_is_diarized() -> None:
    """A container is decoded as it comes, and its own start is added."""
    film = faststart(media(Media("mp4", "aac", video=True, start_s=1.5)))
    async with serving(FakeDiarizer()) as service:
        replies = await service.diarize(messages(film, config(audio=CONTAINER)))
    ((start_s, end_s, speaker),) = turns(replies)
    assert (start_s, end_s) == pytest.approx((1.5, 6.5), abs=0.1)
    assert speaker == "SPEAKER_00"


async def test_the_guides_program_prints_the_turns(tmp_path: Path) -> None:
    """docs/integrating.md, as a reader would run it."""
    guide = (Path(__file__).parents[3] / "docs" / "integrating.md").read_text(encoding="utf-8")
    (program,) = [
        found
        for found in re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
        if "Diarize" in found
    ]
    film = tmp_path / "film.mp4"
    film.write_bytes(faststart(media(Media("mp4", "aac", start_s=1.5))))
    async with serving(FakeDiarizer()) as service:
        command = [sys.executable, "-c", program, service.address, str(film)]
        run = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await run.communicate()
    start, speaker = printed.decode().split()
    assert run.returncode == 0
    assert float(start) == pytest.approx(1.5, abs=0.1)
    assert speaker == "SPEAKER_00"


async def test_silence_is_no_error() -> None:
    """Done without turns and one NO_SPEECH warning."""
    async with serving(FakeDiarizer()) as service:
        replies = await service.diarize(messages(s16le(silence(2.0))))
    assert [reply.WhichOneof("event") for reply in replies] == ["accepted", "warning", "done"]
    assert replies[1].warning.code == "NO_SPEECH"


async def test_a_service_without_a_diarizer_says_so() -> None:
    """UNIMPLEMENTED, with where to go instead; the feature is not claimed."""
    async with serving(None) as service:
        error = await service.refusal(messages(s16le(TALK)))
        assert asr_pb2.FEATURE_DIARIZATION not in await service.features()
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "FEATURE_DIARIZATION" in error.details()


async def test_a_model_that_is_here_is_claimed() -> None:
    """Beside all that the engine itself can do."""
    async with serving(FakeDiarizer()) as service:
        assert await service.features() == {
            *(feature.value for feature in Feature),
            asr_pb2.FEATURE_LIVE,
            asr_pb2.FEATURE_DIARIZATION,
        }


async def test_a_model_that_can_be_had_is_fetched_at_the_start() -> None:
    """So that it is claimed before the first call asks for it."""
    async with serving(FakeDiarizer(here=False)) as service:
        assert asr_pb2.FEATURE_DIARIZATION in await service.features()


async def test_a_model_that_does_not_exist_is_told_at_the_start() -> None:
    """A slip in the settings is not found out after the first film."""
    missing = ModelNotFoundError("there is no config.yaml in it")
    with pytest.raises(ModelNotFoundError, match=r"no config\.yaml"):
        async with serving(FakeDiarizer(here=False, fetch_failure=missing)):
            pass


async def test_a_model_that_cannot_be_had_costs_nothing_but_diarization() -> None:
    """The service starts, claims nothing, and each call hears what to do."""
    gated = ModelUnavailableError("the model is gated: set HF_TOKEN")
    async with serving(FakeDiarizer(here=False, fetch_failure=gated)) as service:
        assert asr_pb2.FEATURE_DIARIZATION not in await service.features()
        error = await service.refusal(messages(s16le(TALK)))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(error) == "MODEL_UNAVAILABLE"
    assert "HF_TOKEN" in error.details()


BAD_REQUESTS: dict[str, tuple[list[Request], str]] = {
    "more at least than at most": (
        list(messages(b"", config(min_speakers=3, max_speakers=2))), "not below min_speakers",
    ),
    "a crowd": (list(messages(b"", config(min_speakers=101))), "at most 100"),
    "no format": (list(messages(b"", asr_pb2.DiarizeConfig())), "say how the audio is encoded"),
    "no audio": (list(messages(b"")), "has no audio"),
    "odd bytes": (list(messages(bytes(4097))), "odd number of bytes"),
    "no config": (list(messages(b""))[1:], "came before `config`"),
    "two configs": ([Request(config=config())] * 2, "was sent twice"),
    "no finish": (list(messages(s16le(TALK), finish=False)), "without `finish`"),
    "nothing": ([Request()], "is not set"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_REQUESTS)
async def test_a_bad_request_is_refused_with_a_reason(what: str) -> None:
    """INVALID_ARGUMENT, a sentence, and a place that is free again."""
    requests, words = BAD_REQUESTS[what]
    diarizer = FakeDiarizer()
    async with serving(diarizer) as service:
        error = await service.refusal(requests)
        assert await until(lambda: service.admission.in_flight == 0)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.details()
    assert not diarizer.asked


async def test_a_model_that_the_service_lacks_is_not_found() -> None:
    """NOT_FOUND names the one that there is."""
    async with serving(FakeDiarizer()) as service:
        error = await service.refusal(messages(s16le(TALK), config(model="other")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "pitch" in error.details()


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (OutOfMemoryError("too small"), grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
        (EngineError("it failed"), grpc.StatusCode.INTERNAL, "ENGINE_FAILED"),
        (ValueError("secret"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
async def test_a_failure_on_the_device_has_its_status(
    failure: Exception, code: grpc.StatusCode, said: str
) -> None:
    """Memory, the library's own failures and defects; the next call goes well."""
    diarizer = FakeDiarizer(failure=failure)
    async with serving(diarizer) as service:
        error = await service.refusal(messages(s16le(TALK)))
        diarizer.failure = None
        assert len(turns(await service.diarize(messages(s16le(TALK))))) == 3
    assert error.code() is code
    assert reason(error) == said
    assert "secret" not in error.details()


async def test_a_recording_beyond_the_limit_is_refused_while_it_comes() -> None:
    """RESOURCE_EXHAUSTED before the device hears of it: all of it would have to be kept."""
    diarizer = FakeDiarizer()
    async with serving(diarizer, max_audio_s=3.0) as service:
        error = await service.refusal(messages(s16le(TALK)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(error) == "LIMIT_EXCEEDED"
    assert not diarizer.asked


async def test_a_call_takes_a_place_and_a_cancelled_one_stops_the_device() -> None:
    """A second call is refused meanwhile; after the cancel the place is free and work stopped."""
    diarizer = FakeDiarizer(released=threading.Event())
    async with (
        serving(diarizer, max_concurrent_calls=1) as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        stub: Any = asr_pb2_grpc.AsrServiceStub(channel)  # pyright: ignore[reportArgumentType]
        call = stub.Diarize(messages(s16le(TALK)))
        assert (await call.read()).HasField("accepted")
        assert await until(lambda: bool(diarizer.asked))
        error = await service.refusal(messages(s16le(TALK)))
        assert reason(error) == "QUEUE_FULL"
        call.cancel()
        assert await until(lambda: diarizer.stopped == 1)
        assert await until(lambda: service.admission.in_flight == 0)


async def test_one_recording_at_a_time_is_told_apart_while_others_are_transcribed() -> None:
    """A pipeline holds one recording, and the other threads of the device are for windows."""
    diarizer = FakeDiarizer(released=threading.Event())
    async with serving(diarizer, workers=3) as service:
        calls = [asyncio.create_task(service.diarize(messages(s16le(tone(1.0))))) for _ in range(3)]
        until = time.monotonic() + PATIENCE_S
        while service.admission.in_flight < 3 and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert len(diarizer.asked) == 1
        pcm = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000))
        asked = [
            asr_pb2.TranscribeRequest(
                config=asr_pb2.TranscribeConfig(
                    audio=pcm, language="hi", vad=asr_pb2.VadOptions(disabled=True)
                )
            ),
            asr_pb2.TranscribeRequest(audio=s16le(tone(1.0))),
            asr_pb2.TranscribeRequest(finish=common_pb2.Finish()),
        ]
        replies = await service.call(lambda stub: list(stub.Transcribe(iter(asked), timeout=60)))
        assert replies[-1].done.segments == 1
        assert diarizer.released is not None
        diarizer.released.set()
        assert [len(turns(replies)) for replies in await asyncio.gather(*calls)] == [1, 1, 1]


def test_a_recording_is_kept_as_it_came() -> None:
    """16-bit samples come back to the last bit; what is too loud is clipped, not wrapped."""
    recording = Recording()
    exact = (np.arange(-32768, 32768, 7) / 32768).astype(np.float32)
    for block in np.array_split(exact, 5):
        recording.append(block)
    assert np.array_equal(recording.samples(), exact)
    loud = Recording()
    loud.append(np.array([1.5, -1.5], np.float32))
    assert loud.samples() == pytest.approx([1.0, -1.0], abs=1e-4)


@given(
    st.lists(st.tuples(st.floats(-1, 12), st.floats(-1, 12), st.sampled_from("abcd")), max_size=12)
)
def test_turns_are_in_order_within_the_recording_and_named_as_they_come(
    raw: list[tuple[float, float, str]],
) -> None:
    """Whatever a library gives: sorted, cut to 0..10 s, each with a length, names in order."""
    given_turns = [Turn(*one) for one in raw]
    found = in_order_of_speech(given_turns, 10.0)
    assert [turn.start_s for turn in found] == sorted(turn.start_s for turn in found)
    assert all(0 <= turn.start_s < turn.end_s <= 10 for turn in found)
    names = list(dict.fromkeys(turn.speaker for turn in found))
    assert names == [f"SPEAKER_{number:02d}" for number in range(len(names))]
    kept = [turn for turn in given_turns if min(10, turn.end_s) - max(0, turn.start_s) > 1e-5]
    assert len(names) <= len({turn.speaker for turn in given_turns})
    assert len(found) >= len(kept)
