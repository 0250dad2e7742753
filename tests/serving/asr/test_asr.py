"""The speech service over a real server and real sockets, with an engine that writes down tones."""

import asyncio
import contextlib
import resource
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.serving.recordings import Media, chunks, faststart, media, s16le, silence, speech, tone
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.asr.engine import Feature, WindowSegment
from voxroute_serving.asr.messages import transcribe_options
from voxroute_serving.audio.samples import Samples
from voxroute_serving.device.batcher import Admission
from voxroute_serving.domain import IgnoredOption
from voxroute_serving.errors import InvalidInputError
from voxroute_serving.languages import match_language
from voxroute_serving.metrics import Metrics
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.served import serving_engine, until

# grpcio 1.85 leaves the request stream of a call that failed to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine '_MessageReceiver._async_message_receiver' was never awaited:RuntimeWarning"
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Request = asr_pb2.TranscribeRequest
Replies = list[asr_pb2.TranscribeResponse]


@dataclass
class Service:
    """A running service and what a test looks at."""

    engine: FakeEngine
    app: AsrApp
    admission: Admission
    metrics: Metrics
    channel: grpc.aio.Channel
    address: str

    @property
    def stub(self) -> Any:
        """The client's side; Any, because the stub of aio has other types than that of sync."""
        return asr_pb2_grpc.AsrServiceStub(cast("Any", self.channel))

    async def transcribe(self, messages: Iterable[Request]) -> Replies:
        """All answers to the messages."""
        return await self.answers("Transcribe", messages)

    async def answers(self, method: str, messages: Iterable[Any]) -> list[Any]:
        """All answers of a method, by the client of blocking calls.

        That of aio reports INTERNAL instead of the service's status where the service ends a call
        while a message is being sent (grpcio 1.85).
        """

        def call() -> list[Any]:
            with grpc.insecure_channel(self.address) as channel:
                stub = asr_pb2_grpc.AsrServiceStub(channel)
                return list(getattr(stub, method)(iter(messages), timeout=30))

        return await asyncio.to_thread(call)


@contextlib.asynccontextmanager
async def serving(engine: FakeEngine | None = None, **settings: Any) -> AsyncGenerator[Service]:
    """A service on a free port."""
    engine = engine or FakeEngine()
    async with serving_engine(engine, **settings) as served:
        engine.batches.clear()
        async with grpc.aio.insecure_channel(served.address) as channel:
            admission, metrics = served.runtime.admission, served.metrics
            yield Service(engine, served.app, admission, metrics, channel, served.address)


def config(language: str = "hi", **fields: Any) -> asr_pb2.TranscribeConfig:
    """Raw 16 kHz samples, everything transcribed: tones are no speech."""
    fields.setdefault("audio", asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000)))
    fields.setdefault("vad", asr_pb2.VadOptions(disabled=True))
    return asr_pb2.TranscribeConfig(language=language, **fields)


def messages(
    data: bytes, conf: asr_pb2.TranscribeConfig | None = None, *, finish: bool = True
) -> Iterator[Request]:
    """A whole recording as a client sends it."""
    yield Request(config=conf or config())
    for chunk in chunks(data, 64_000):
        yield Request(audio=chunk)
    if finish:
        yield Request(finish=common_pb2.Finish())


def segments(replies: Replies) -> list[asr_pb2.Segment]:
    """The segments among the answers."""
    return [reply.segment for reply in replies if reply.HasField("segment")]


def warnings(replies: Replies) -> list[str]:
    """The codes of the warnings among the answers."""
    return [reply.warning.code for reply in replies if reply.HasField("warning")]


def seconds(message: Duration) -> float:
    """A duration in seconds."""
    return message.seconds + message.nanos / 1e9


def decoders() -> list[threading.Thread]:
    """The threads that decode recordings."""
    return [thread for thread in threading.enumerate() if thread.name == "decode"]


DIALOGUE = np.concatenate([tone(2.0, 300.0), silence(1.0), tone(2.0, 800.0), silence(0.5)])


async def test_a_recording_becomes_segments_in_media_time() -> None:
    """Accepted first, done last, segments in order with their times; the offset is added."""
    async with serving() as service:
        conf = config(
            audio=asr_pb2.AudioFormat(
                pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000), start_offset=Duration(seconds=100)
            )
        )
        replies = await service.transcribe(messages(s16le(DIALOGUE), conf))
    assert replies[0].HasField("accepted")
    assert replies[-1].HasField("done")
    found = segments(replies)
    assert [(s.id, s.text, s.language) for s in found] == [
        (1, "tone 300", "hi"),
        (2, "tone 800", "hi"),
    ]
    assert [seconds(s.start) for s in found] == pytest.approx([100.0, 103.0], abs=0.01)
    assert [seconds(s.end) for s in found] == pytest.approx([102.0, 105.0], abs=0.01)
    done = replies[-1].done
    assert done.segments == 2
    assert seconds(done.stats.audio_duration) == pytest.approx(5.5)
    assert done.stats.windows == 1
    assert not found[0].flags


async def test_what_is_accepted_tells_the_options_in_effect() -> None:
    """Every default is filled in; numbers come back as they were sent."""
    async with serving() as service:
        conf = config("hi-IN", vad=asr_pb2.VadOptions(), decoding=asr_pb2.DecodingOptions())
        conf.decoding.temperatures.extend([0.0, 0.2])
        accepted = (await service.transcribe(messages(s16le(silence(1.0)), conf)))[0].accepted
    assert accepted.model == common_pb2.ModelRef(
        engine="fake", id="tones", revision="sha256:000000000000"
    )
    assert accepted.request_id
    applied = accepted.options.config
    assert applied.language == "hi"
    assert applied.model == "tones"
    assert applied.task == asr_pb2.TASK_TRANSCRIBE
    assert applied.vad.threshold == pytest.approx(0.5)
    assert seconds(applied.vad.min_silence) == 0.5
    assert seconds(applied.vad.padding) == 0.2
    assert applied.decoding.beam_size == 1
    assert list(applied.decoding.temperatures) == pytest.approx([0.0, 0.2])


def container(stream: int = 0) -> asr_pb2.AudioFormat:
    """A media file's bytes."""
    return asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat(audio_stream=stream))


@pytest.mark.parametrize("place", ["front", "end"])
async def test_a_film_is_transcribed(place: str) -> None:
    """An mp4 with picture, its index in front or at the end; the start of its audio is added."""
    film = media(Media("mp4", "aac", video=True, start_s=1.5))
    data = faststart(film) if place == "front" else film
    async with serving() as service:
        replies = await service.transcribe(messages(data, config(audio=container())))
    (segment,) = segments(replies)
    assert segment.text == "tone 440"
    assert seconds(segment.start) == pytest.approx(1.5, abs=0.05)


async def test_speech_is_found_before_it_is_transcribed() -> None:
    """With voice activity on, only the windows around speech reach the engine."""
    samples = np.concatenate([silence(20.0), speech(3.0), silence(20.0), speech(2.0)])
    async with serving() as service:
        conf = config(vad=asr_pb2.VadOptions())
        replies = await service.transcribe(messages(s16le(samples), conf))
        lengths = [n / 16_000 for batch in service.engine.batches for n in batch.n_samples]
    assert lengths == pytest.approx([3.0, 2.2], abs=0.5)
    stats = replies[-1].done.stats
    assert seconds(stats.speech_duration) == pytest.approx(5.0, abs=0.7)
    assert segments(replies)


async def test_silence_is_no_error() -> None:
    """Done, no segment and one NO_SPEECH warning, with voice activity and without."""
    async with serving() as service:
        for vad in (asr_pb2.VadOptions(), asr_pb2.VadOptions(disabled=True)):
            replies = await service.transcribe(messages(s16le(silence(10.0)), config(vad=vad)))
            assert not segments(replies)
            assert warnings(replies) == ["NO_SPEECH"]
            assert replies[-1].done.segments == 0


@pytest.mark.parametrize(("hz", "language"), [(300.0, "hi"), (900.0, "en")])
async def test_a_language_that_is_not_named_is_detected(hz: float, language: str) -> None:
    """Told once, before the first segment, and used for all of them."""
    async with serving() as service:
        replies = await service.transcribe(messages(s16le(tone(70.0, hz)), config("")))
        assert {batch.options.language for batch in service.engine.batches} == {language}
    kinds = [reply.WhichOneof("event") for reply in replies]
    assert kinds.count("language_detected") == 1
    assert kinds.index("language_detected") < kinds.index("segment")
    detected = next(r.language_detected for r in replies if r.HasField("language_detected"))
    assert detected.languages[0].language == language
    assert detected.languages[0].probability == pytest.approx(0.9)
    assert {s.language for s in segments(replies)} == {language}


async def test_the_first_segment_comes_before_the_last_audio() -> None:
    """A client that goes on sending gets text meanwhile."""
    async with serving() as service:
        heard = asyncio.Event()

        async def client() -> AsyncIterator[Request]:
            yield Request(config=config())
            for chunk in chunks(s16le(tone(65.0)), 64_000):
                yield Request(audio=chunk)
            await asyncio.wait_for(heard.wait(), 10)  # sends no more before it has a segment
            yield Request(audio=s16le(tone(1.0)))
            yield Request(finish=common_pb2.Finish())

        replies: Replies = []
        async for reply in service.stub.Transcribe(client(), timeout=30):
            replies.append(reply)
            if reply.HasField("segment"):
                heard.set()
        assert replies[-1].HasField("done")


def _code(error: Any) -> grpc.StatusCode:
    return error.code()


def _details(error: Any) -> str:
    return error.details()


def violations(error: Any) -> list[str]:
    """The fields that the error names."""
    status = cast("Any", rpc_status).from_call(error)
    found = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(found):
            return [violation.field for violation in found.field_violations]
    return []


ONE_SECOND = s16le(silence(1.0))
FILM = media(Media("mp4", "aac", video=True))
IN_FILE = config(audio=container())
BAD_REQUESTS: dict[str, tuple[list[Request], grpc.StatusCode, str, list[str]]] = {
    "no audio": (list(messages(b"")), INVALID, "has no audio", []),
    "odd bytes": (list(messages(bytes(4097))), INVALID, "odd number of bytes (4097)", []),
    "a film cut off": (
        list(messages(faststart(FILM)[: len(FILM) // 2], IN_FILE)), INVALID, "cut off", [],
    ),
    "a text file": (list(messages(b"Dear diary\n" * 99, IN_FILE)), INVALID, "no media file", []),
    "a film without sound": (
        list(messages(media(Media("mp4", "aac", video=True, tones_hz=[])), IN_FILE)),
        INVALID, "no audio stream", [],
    ),
    "no such audio stream": (
        list(messages(FILM, config(audio=container(3)))),
        INVALID, "has 1 audio stream", ["audio.container.audio_stream"],
    ),
    "unknown language": (
        list(messages(ONE_SECOND, config("tlh"))), INVALID, "'tlh'; it has hi, en", ["language"],
    ),
    "unknown model": (
        list(messages(ONE_SECOND, config(model="enormous"))),
        grpc.StatusCode.NOT_FOUND, "'enormous'", [],
    ),
    "config twice": (
        [Request(config=config()), Request(config=config())], INVALID, "sent twice", ["config"],
    ),
    "audio before config": ([Request(audio=b"ab")], INVALID, "before `config`", ["audio"]),
    "no finish": (list(messages(ONE_SECOND, finish=False)), INVALID, "without `finish`", []),
    "nothing at all": ([], INVALID, "without `finish`", []),
    "an empty message": (
        [Request(config=config()), Request()], INVALID, "is not set", ["request"],
    ),
    "no encoding": (
        list(messages(ONE_SECOND, config(audio=asr_pb2.AudioFormat()))),
        INVALID, "pcm for raw", ["audio.encoding"],
    ),
    "many wrong options": (
        list(
            messages(
                ONE_SECOND,
                config(
                    audio=asr_pb2.AudioFormat(
                        pcm=asr_pb2.PcmFormat(sample_rate_hz=4_000, channels=9),
                        start_offset=Duration(seconds=-1),
                    ),
                    vad=asr_pb2.VadOptions(
                        threshold=float("nan"),
                        min_silence=Duration(seconds=60),
                        padding=Duration(seconds=60),
                    ),
                    task=cast("Any", 17),
                    decoding=asr_pb2.DecodingOptions(
                        beam_size=0,
                        temperatures=[2.0],
                        compression_ratio_threshold=-1,
                        log_prob_threshold=1,
                        no_speech_threshold=2,
                        initial_prompt="x" * 20_000,
                        hotwords=["x"] * 300,
                    ),
                    expected_duration=Duration(seconds=-1),
                ),
            )
        ),
        INVALID, "must be 8000 to 384000",
        [
            "audio.pcm.sample_rate_hz", "audio.pcm.channels", "audio.start_offset",
            "vad.threshold", "vad.min_silence", "vad.padding", "task", "decoding.beam_size",
            "decoding.temperatures", "decoding.compression_ratio_threshold",
            "decoding.log_prob_threshold", "decoding.no_speech_threshold",
            "decoding.initial_prompt", "decoding.hotwords", "expected_duration",
        ],
    ),
    "too long": (
        list(messages(s16le(silence(100.0)))),
        grpc.StatusCode.RESOURCE_EXHAUSTED, "longer than the 90 s", [],
    ),
    "too large a message": (
        [Request(config=config()), Request(audio=bytes(5_000_000))],
        grpc.StatusCode.RESOURCE_EXHAUSTED, "", [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_bad_requests_are_refused_with_a_sentence_that_helps(name: str) -> None:
    """Each has its status, its sentence and its fields; the service then still answers."""
    requests, status, words, fields = BAD_REQUESTS[name]
    async with serving(max_audio_s=90.0) as service:
        with pytest.raises(grpc.RpcError) as caught:
            await service.transcribe(requests)
        assert _code(caught.value) == status
        assert words in _details(caught.value)
        if fields:
            assert violations(caught.value) == fields[:8]  # what fits into a client's metadata
        assert await until(lambda: service.admission.in_flight == 0)
        good = await service.transcribe(messages(s16le(DIALOGUE)))
        assert len(segments(good)) == 2
        assert await until(lambda: not decoders())


def test_every_wrong_option_is_named() -> None:
    """One look tells all that is wrong with a config."""
    requests, _, _, fields = BAD_REQUESTS["many wrong options"]
    with pytest.raises(InvalidInputError) as caught:
        transcribe_options(requests[0].config)
    assert [violation.field for violation in caught.value.violations] == fields
    assert all(field in caught.value.message for field in fields)


@pytest.mark.parametrize(
    ("tag", "languages", "language"),
    [
        ("hi", ["hi", "en"], "hi"),
        ("hi-IN", ["hi", "en"], "hi"),
        ("HI_in", ["hi", "en"], "hi"),
        ("zh-Hant-TW", ["zh", "zh-Hant"], "zh-Hant"),
        ("cmn-Hans", ["zh"], "zh"),
        ("nb", ["no"], "no"),
        ("no", ["nb"], "nb"),
        ("iw", ["he"], "he"),
        ("tlh", ["hi", "en"], None),
        ("Hindi", ["hi", "en"], None),
        ("-", ["hi", "en"], None),
    ],
)
def test_languages_are_looked_up_by_their_tags(
    tag: str, languages: list[str], language: str | None
) -> None:
    """Region and script fall away where the model does not tell them apart."""
    assert match_language(tag, languages) == language


async def test_a_cancelled_call_frees_its_place_and_stops_the_device() -> None:
    """Place, queue and decoder are free at once, and the running batch is told to stop."""
    engine = FakeEngine()
    async with serving(engine) as service:
        engine.released = threading.Event()  # the device does not get done by itself
        call = service.stub.Transcribe(messages(s16le(tone(200.0))), timeout=30)
        assert (await call.read()).HasField("accepted")
        batches = service.app.servicer._queues._transcribing
        assert await until(lambda: batches._running > 0 and batches.queued > 0)
        call.cancel()
        assert await until(lambda: service.admission.in_flight == 0, 10.0)
        assert service.app.servicer.queued == 0
        assert await until(lambda: bool(engine.batches) and engine.batches[-1].stopped, 10.0)
        assert await until(lambda: not decoders(), 10.0)
        engine.released.set()
        assert segments(await service.transcribe(messages(s16le(DIALOGUE))))


async def test_windows_of_two_calls_share_a_batch() -> None:
    """What waits while the device is busy is one batch, whoever sent it."""
    engine = FakeEngine(delay_s=0.5, max_batch=8)
    async with serving(engine) as service:
        calls = [service.transcribe(messages(s16le(tone(3.0 + n)))) for n in range(4)]
        await asyncio.gather(*calls)
    together = [batch for batch in engine.batches if len(set(batch.n_samples)) > 1]
    assert together
    assert len(engine.batches) < 4
    assert {batch.thread for batch in engine.batches} == {"device"}


async def test_a_full_service_refuses_at_the_door() -> None:
    """The call beyond the last place ends at once with RESOURCE_EXHAUSTED."""
    engine = FakeEngine()
    async with serving(engine, max_concurrent_calls=1) as service:
        engine.released = threading.Event()
        held = service.stub.Transcribe(messages(s16le(tone(40.0))), timeout=30)
        await held.read()  # it is accepted, so it has the place
        with pytest.raises(grpc.RpcError) as caught:
            await service.transcribe(messages(ONE_SECOND))
        assert _code(caught.value) == grpc.StatusCode.RESOURCE_EXHAUSTED
        held.cancel()
        engine.released.set()


async def test_a_fast_client_waits_for_the_device() -> None:
    """Back-pressure: what a stuck device does not take is not read from the client."""
    engine = FakeEngine()
    async with serving(engine) as service:
        engine.released = threading.Event()
        sent = 0

        async def client() -> AsyncIterator[Request]:
            nonlocal sent
            yield Request(config=config())
            for _ in range(1000):
                yield Request(audio=bytes(1_000_000))
                sent += 1_000_000

        call = service.stub.Transcribe(client(), timeout=30)
        await call.read()
        before = -1
        while sent > before:  # until it stands still
            before = sent
            await asyncio.sleep(1.0)
        # 8 windows in flight, 3 that wait, the one being cut, and the buffers of the connection:
        # 26 MB, or some more, as grpc makes those larger where a busy machine takes long to answer
        assert sent < 60_000_000
        call.cancel()
        engine.released.set()


async def test_options_that_the_engine_ignores_are_told_or_refused() -> None:
    """Listed in `accepted`; with strict_options the call ends instead and names them."""
    ignored = IgnoredOption("decoding.beam_size", "decoding is greedy")
    async with serving(FakeEngine(ignored=(ignored,))) as service:
        replies = await service.transcribe(messages(ONE_SECOND))
        assert [o.field for o in replies[0].accepted.options.ignored] == ["decoding.beam_size"]
        with pytest.raises(grpc.RpcError, match="decoding is greedy") as caught:
            await service.transcribe(messages(ONE_SECOND, config(strict_options=True)))
        assert _code(caught.value) == INVALID
        assert violations(caught.value) == ["decoding.beam_size"]


async def test_segments_have_text_length_and_order_whatever_the_engine_says() -> None:
    """Times are clamped to the window, put in order, and segments without text are left out."""

    def heard(_: Samples) -> tuple[WindowSegment, ...]:
        return (
            WindowSegment(-1.0, 2.0, " a "),
            WindowSegment(1.5, 1.0, "b"),
            WindowSegment(2.5, 3.0, "  "),
            WindowSegment(3.0, 99.0, "c", avg_log_prob=-2.0, no_speech_prob=0.9,
                          compression_ratio=3.0),
        )  # fmt: skip

    async with serving(FakeEngine(segments=heard)) as service:
        found = segments(await service.transcribe(messages(s16le(tone(5.0)))))
    assert [(s.id, s.text) for s in found] == [(1, "a"), (2, "b"), (3, "c")]
    times = [time for s in found for time in (seconds(s.start), seconds(s.end))]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] == 5.0
    assert all(seconds(s.end) > seconds(s.start) for s in found)
    assert list(found[2].flags) == [1, 2, 3]
    assert not found[0].HasField("avg_log_prob")


async def test_a_model_that_loads_is_told_as_progress() -> None:
    """The first use of another model takes a while; the client sees why."""
    engine = FakeEngine()
    async with serving(engine) as service:
        engine.load_delay_s = 1.0
        replies = await service.transcribe(messages(ONE_SECOND, config(model="more-tones")))
    assert replies[0].progress.stage == asr_pb2.STAGE_LOADING
    events = [reply for reply in replies if reply.progress.stage != asr_pb2.STAGE_LOADING]
    assert events[0].accepted.model.id == "more-tones"


async def test_an_engine_that_fails_ends_the_call_with_internal() -> None:
    """The client learns nothing of the exception; the service goes on."""
    engine = FakeEngine()
    async with serving(engine) as service:
        engine.failure = ValueError("a secret of the engine")
        with pytest.raises(grpc.RpcError) as caught:
            await service.transcribe(messages(s16le(DIALOGUE)))
        assert _code(caught.value) == grpc.StatusCode.INTERNAL
        assert "secret" not in _details(caught.value)
        engine.failure = None
        assert segments(await service.transcribe(messages(s16le(DIALOGUE))))


async def test_capabilities_tell_what_the_service_is_and_does() -> None:
    """Engine, device, models with what is loaded, languages, limits, the queue and its speed."""
    async with serving(max_concurrent_calls=3) as service:
        before = await service.stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())
        assert not before.HasField("real_time_factor")
        await service.transcribe(messages(s16le(DIALOGUE)))
        after = await service.stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())
    assert after.engine == "fake"
    assert after.service_version == "1.2.3"
    assert [(m.model.id, m.loaded) for m in after.models] == [
        ("tones", True),
        ("more-tones", False),
    ]
    assert list(after.languages) == ["hi", "en"]
    assert set(after.features) == {*(feature.value for feature in Feature), asr_pb2.FEATURE_LIVE}
    assert after.limits.max_concurrent_calls == after.queue.calls_capacity == 3
    assert after.HasField("real_time_factor")


def detection(data: bytes, **fields: Any) -> Iterator[asr_pb2.DetectLanguageRequest]:
    """The messages of a language detection."""
    fields.setdefault("vad", asr_pb2.VadOptions(disabled=True))
    pcm = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000))
    yield asr_pb2.DetectLanguageRequest(config=asr_pb2.DetectLanguageConfig(audio=pcm, **fields))
    for chunk in chunks(data, 500_000):
        yield asr_pb2.DetectLanguageRequest(audio=chunk)
    yield asr_pb2.DetectLanguageRequest(finish=common_pb2.Finish())


async def test_a_language_is_detected_over_the_whole_recording() -> None:
    """Music at the start does not decide: windows are spread over the recording."""
    film = np.concatenate([tone(60.0, 300.0), tone(240.0, 900.0)])
    async with serving() as service:
        answer = await service.stub.DetectLanguage(detection(s16le(film)), timeout=30)
    assert answer.languages[0].language == "en"
    assert 2 <= answer.windows <= 4
    assert answer.model.id == "tones"


async def test_silence_has_no_language() -> None:
    """FAILED_PRECONDITION, with what to do."""
    async with serving() as service:
        requests = detection(s16le(silence(5.0)), vad=asr_pb2.VadOptions())
        with pytest.raises(grpc.RpcError, match="no speech") as caught:
            await service.stub.DetectLanguage(requests, timeout=30)
    assert _code(caught.value) == grpc.StatusCode.FAILED_PRECONDITION


def alignment(
    known: Iterable[tuple[int, float, float, str]], samples: Samples, language: str = "hi"
) -> Iterator[asr_pb2.AlignRequest]:
    """The messages of an alignment."""
    pcm = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000))
    yield asr_pb2.AlignRequest(config=asr_pb2.AlignConfig(audio=pcm, language=language))
    for number, start_s, end_s, text in known:
        start, end = Duration(), Duration()
        start.FromMilliseconds(round(start_s * 1000))
        end.FromMilliseconds(round(end_s * 1000))
        segment = asr_pb2.AlignSegment(id=number, start=start, end=end, text=text)
        yield asr_pb2.AlignRequest(segment=segment)
    for chunk in chunks(s16le(samples), 50_000):
        yield asr_pb2.AlignRequest(audio=chunk)
    yield asr_pb2.AlignRequest(finish=common_pb2.Finish())


async def test_a_known_transcript_gets_the_times_of_its_words() -> None:
    """Words in media time, in the request's order; a segment beyond the audio has none."""
    known = [(7, 0.0, 2.5, "one two"), (8, 2.5, 5.5, "three"), (9, 50.0, 51.0, "four")]
    async with serving() as service:
        call = service.stub.Align(alignment(known, DIALOGUE, "hi-IN"), timeout=30)
        replies = [reply async for reply in call]
    assert replies[0].HasField("accepted")
    found = [reply.segment for reply in replies if reply.HasField("segment")]
    assert [s.id for s in found] == [7, 8, 9]
    times = [[(w.text, seconds(w.start), seconds(w.end)) for w in s.words] for s in found]
    assert times[0] == [
        ("one", pytest.approx(0.0, abs=0.01), pytest.approx(1.0, abs=0.01)),
        ("two", pytest.approx(1.0, abs=0.01), pytest.approx(2.0, abs=0.01)),
    ]
    assert times[1] == [("three", pytest.approx(3.0, abs=0.01), pytest.approx(5.0, abs=0.01))]
    assert times[2] == []
    assert [reply.warning.code for reply in replies if reply.HasField("warning")] == [
        "ALIGNMENT_FAILED"
    ]
    assert (replies[-1].done.aligned, replies[-1].done.failed) == (2, 1)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([(1, 5.0, 6.0, "a"), (2, 4.0, 5.0, "b")], "segment 2"),
        ([(1, 5.0, 5.0, "a")], "after `start`"),
        ([(1, 0.0, 31.0, "a")], "at most 30 s"),
        ([(1, 0.0, 1.0, " ")], "must not be empty"),
        ([], "before the audio"),
    ],
)
async def test_a_transcript_that_cannot_be_aligned_is_refused(
    known: list[tuple[int, float, float, str]], words: str
) -> None:
    """The error names the segment and what is wrong with it."""
    async with serving() as service:
        with pytest.raises(grpc.RpcError) as caught:
            await service.answers("Align", alignment(known, DIALOGUE))
    assert _code(caught.value) == INVALID
    assert words in _details(caught.value)


@pytest.mark.parametrize(
    "engine", [FakeEngine(features=frozenset()), FakeEngine(alignable_languages=("en",))]
)
async def test_what_the_engine_cannot_align_is_unimplemented(engine: FakeEngine) -> None:
    """No aligner at all, or none for the language."""
    async with serving(engine) as service:
        with pytest.raises(grpc.RpcError, match="aligner") as caught:
            await service.answers("Align", alignment([], DIALOGUE))
    assert _code(caught.value) == grpc.StatusCode.UNIMPLEMENTED


async def test_memory_does_not_grow_with_the_recording() -> None:
    """Forty minutes take at most 60 MB more than two, voice activity included."""
    minute = s16le(np.concatenate([speech(25.0), silence(5.0), speech(20.0, 1), silence(10.0)]))

    def recording(minutes: int) -> Iterator[Request]:
        yield Request(config=config(vad=asr_pb2.VadOptions()))
        for _ in range(minutes):
            for chunk in chunks(minute, 256_000):
                yield Request(audio=chunk)
        yield Request(finish=common_pb2.Finish())

    async with serving() as service:

        async def peak_kib(minutes: int) -> int:
            async for _ in service.stub.Transcribe(recording(minutes), timeout=200):
                pass
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        short = await peak_kib(2)
        assert await peak_kib(40) - short < 60_000
