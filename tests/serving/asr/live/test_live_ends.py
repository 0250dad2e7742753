"""How live streams are refused, and how they end when something goes wrong."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.serving.asr.live.streams import (
    FINISH,
    Request,
    Service,
    check_order,
    check_whole,
    committed,
    config,
    fields_of,
    kinds,
    messages,
    of,
    pcm,
    retry_s,
    said,
    serving,
)
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute_serving.asr.engine import WindowSegment
from voxroute_serving.audio.samples import Samples
from voxroute_serving.domain import IgnoredOption
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.marked_speech import heard
from voxroute_serving.testing.served import until

# grpcio leaves the request stream of a call that failed to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine '_MessageReceiver._async_message_receiver' was never awaited:RuntimeWarning"
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SHORT = said(2.0, -1.0)


def seconds_of(value: float) -> Duration:
    """A duration."""
    return Duration(seconds=int(value), nanos=round((value - int(value)) * 1e9))


def endpoint(**fields: float) -> asr_pb2.EndpointOptions:
    """When utterances end, seconds."""
    options = asr_pb2.EndpointOptions()
    for name, value in fields.items():
        getattr(options, name).CopyFrom(seconds_of(value))
    return options


WRONG: dict[str, tuple[asr_pb2.LiveConfig, list[str]]] = {
    "no encoding": (config(audio=asr_pb2.AudioFormat()), ["audio.encoding"]),
    "a container": (
        config(audio=asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())), ["audio.container"],
    ),
    "the rate": (config(audio=pcm(4_000)), ["audio.pcm.sample_rate_hz"]),
    "the channels": (config(audio=pcm(16_000, 9)), ["audio.pcm.channels"]),
    "no law": (
        config(audio=asr_pb2.AudioFormat(g711=asr_pb2.G711Format())), ["audio.g711.law"],
    ),
    "the vad disabled": (config(vad=asr_pb2.VadOptions(disabled=True)), ["vad.disabled"]),
    "the vad's own silence": (
        config(vad=asr_pb2.VadOptions(min_silence=seconds_of(0.5))), ["vad.min_silence"],
    ),
    "a short silence": (config(endpoint=endpoint(silence=0.09)), ["endpoint.silence"]),
    "no silence": (config(endpoint=endpoint(silence=0)), ["endpoint.silence"]),
    "a long silence": (config(endpoint=endpoint(silence=5.1)), ["endpoint.silence"]),
    "short utterances": (config(endpoint=endpoint(max_utterance=4.9)), ["endpoint.max_utterance"]),
    "long utterances": (config(endpoint=endpoint(max_utterance=28.1)), ["endpoint.max_utterance"]),
    "quick updates": (config(update_interval=seconds_of(0.1)), ["update_interval"]),
    "slow updates": (config(update_interval=seconds_of(10.1)), ["update_interval"]),
    "updates in the past": (config(update_interval=Duration(seconds=-1)), ["update_interval"]),
    "the beam": (config(decoding=asr_pb2.DecodingOptions(beam_size=0)), ["decoding.beam_size"]),
    "language and languages": (config(allowed_languages=["hi", "en"]), ["language"]),
    "an unknown language": (config("tlh"), ["language"]),
    "one of several": (config("", allowed_languages=["hi", "tlh"]), ["allowed_languages"]),
    "everything": (
        config(
            audio=pcm(4_000),
            vad=asr_pb2.VadOptions(disabled=True, threshold=2),
            endpoint=endpoint(silence=9, max_utterance=99),
            update_interval=seconds_of(99),
        ),
        ["audio.pcm.sample_rate_hz", "vad.threshold", "vad.disabled", "endpoint.silence",
         "endpoint.max_utterance", "update_interval"],
    ),
}  # fmt: skip


async def test_every_wrong_option_is_named() -> None:
    """The field, and its sentence; the service then still answers."""
    async with serving() as service:
        for name, (conf, fields) in WRONG.items():
            error, replies = await service.fails(messages(SHORT.data, conf))
            assert error.code() == INVALID, name
            assert not replies
            assert fields_of(error) == fields, name
        assert await until(lambda: service.streams == 0)
        check_whole(await service.live(messages(SHORT.data)), SHORT)


def test_the_ends_of_ranges_are_valid() -> None:
    """Each of them."""
    from voxroute_serving.asr.live.messages import live_options  # noqa: PLC0415

    for silence, longest, update in ((0.1, 5, 0.2), (5, 28, 10)):
        ends = endpoint(silence=silence, max_utterance=longest)
        options = live_options(config(endpoint=ends, update_interval=seconds_of(update)))
        assert options.endpoint.silence_s == silence
        assert options.endpoint.max_utterance_s == longest
        assert options.update_s == update


MESSAGES: dict[str, tuple[list[Request], str, list[str]]] = {
    "audio first": ([Request(audio=b"ab")], "before `config`", ["audio"]),
    "config twice": ([Request(config=config())] * 2, "sent twice", ["config"]),
    "no finish": (list(messages(SHORT.data, finish=False)), "without `finish`", []),
    "nothing": ([], "without `finish`", []),
    "an empty message": ([Request(config=config()), Request()], "is not set", ["request"]),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_messages_out_of_order_are_refused(name: str) -> None:
    """With a sentence that helps."""
    sent, words, fields = MESSAGES[name]
    async with serving() as service:
        error, _ = await service.fails(sent)
        assert error.code() == INVALID
        assert words in error.details()
        assert fields_of(error) == fields
        assert await until(lambda: service.streams == 0)


async def test_an_unknown_model_is_not_found() -> None:
    """As for a recording."""
    async with serving() as service:
        error, _ = await service.fails(messages(SHORT.data, config(model="enormous")))
        assert error.code() == grpc.StatusCode.NOT_FOUND
        assert await until(lambda: service.streams == 0)


async def test_what_is_accepted_tells_the_options_in_effect() -> None:
    """Every default is filled in."""
    async with serving() as service:
        (accepted,) = of(await service.live(messages(b"", config("hi-IN"))), "accepted")
    conf = accepted.config
    assert accepted.request_id
    assert (conf.model, conf.language) == ("tones", "hi")
    assert conf.vad.padding == seconds_of(0.3)
    assert conf.vad.threshold == 0.5
    assert conf.endpoint.silence == seconds_of(0.6)
    assert conf.endpoint.max_utterance == seconds_of(28)
    assert conf.update_interval == seconds_of(1)
    flags = conf.endpoint.manual, conf.refine, conf.tentative, conf.strict_options
    assert not any(flags)
    assert conf.audio.pcm.sample_rate_hz == 16_000


async def test_options_that_the_engine_ignores_are_told_or_refused() -> None:
    """By strict_options."""
    ignored = (IgnoredOption("decoding.hotwords", "has no such thing"),)
    async with serving(FakeEngine(segments=heard, ignored=ignored)) as service:
        (accepted,) = of(await service.live(messages(b"", config())), "accepted")
        assert [one.field for one in accepted.ignored] == ["decoding.hotwords"]
        error, replies = await service.fails(messages(b"", config(strict_options=True)))
        assert error.code() == INVALID
        assert fields_of(error) == ["decoding.hotwords"]
        assert not replies


class Open:
    """A stream that goes on until a test lets it go on, or ends it."""

    def __init__(self, service: Service, data: bytes = b"", conf: Any = None) -> None:
        self.replies: list[Any] = []
        self.error: Any = None
        self._go = threading.Event()
        self._channel = grpc.insecure_channel(service.address)
        stub = asr_pb2_grpc.AsrServiceStub(self._channel)
        self.call = cast("Any", stub.TranscribeLive(self._requests(data, conf), timeout=30))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _requests(self, data: bytes, conf: Any) -> Iterator[Request]:
        yield from messages(data, conf, finish=False)
        self._go.wait(30)
        yield FINISH

    def _read(self) -> None:
        try:
            self.replies.extend(iter(self._one_by_one()))
        except grpc.RpcError as error:
            self.error = error

    def _one_by_one(self) -> Iterator[Any]:
        for reply in self.call:
            self.replies.append(reply)
        return iter(())

    async def until(self, condition: Callable[[], bool]) -> None:
        assert await until(condition, 15)

    async def accepted(self) -> "Open":
        await self.until(lambda: "accepted" in kinds(self.replies))
        return self

    async def ended(self) -> "Open":
        """Once all answers are there."""
        await self.until(lambda: not self._thread.is_alive())
        self._go.set()
        self._channel.close()
        return self

    async def finish(self) -> "Open":
        self._go.set()
        return await self.ended()


async def test_a_stream_too_many_is_refused() -> None:
    """With the time after which it is worth trying again; a place is free when another ends."""
    async with serving(max_live_streams=2) as service:
        one, other = await Open(service).accepted(), await Open(service).accepted()
        assert service.metric("live_streams") == 2
        assert service.streams == 2
        error, _ = await service.fails(messages(SHORT.data))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 places for live streams" in error.details()
        assert retry_s(error) == [5.0]
        assert service.admission.in_flight == 0
        await one.finish()
        check_whole(await service.live(messages(SHORT.data)), SHORT)
        await other.finish()
        assert await until(lambda: service.streams == 0)
        assert service.metric("live_streams") == 0


async def test_live_streams_take_no_place_of_recordings() -> None:
    """One call at once, and two streams beside it."""
    async with serving(max_concurrent_calls=1, max_live_streams=2) as service:
        one, other = await Open(service).accepted(), await Open(service).accepted()
        async with service.admission.permit():
            check = await service.capabilities()
        assert check.queue.calls_in_flight == 1
        assert check.limits.max_live_streams == 2
        await one.finish()
        await other.finish()


async def test_a_service_without_live_streams_says_so() -> None:
    """UNIMPLEMENTED, and no feature."""
    async with serving(max_live_streams=0) as service:
        error, _ = await service.fails(messages(SHORT.data))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        about = await service.capabilities()
        assert asr_pb2.FEATURE_LIVE not in about.features
        assert not about.limits.max_live_streams
    async with serving() as service:
        await service.live(messages(SHORT.data))
        about = await service.capabilities()
        assert asr_pb2.FEATURE_LIVE in about.features
        assert about.limits.max_live_streams == 64
        assert about.limits.HasField("live_update_time")


async def test_a_cancelled_stream_frees_its_place_at_once() -> None:
    """Amid a decoding, which is stopped, and amid what waits."""
    async with serving(max_live_streams=1) as service:
        service.engine.released = threading.Event()
        stream = await Open(service, said(4.0).data).accepted()
        live = service.app.servicer._queues._live
        await stream.until(lambda: service.heard_s > 3 and live._running == 1)
        stream.call.cancel()
        assert await until(lambda: service.streams == 0, 5)
        assert service.metric("live_streams") == 0
        assert await until(lambda: live._running == 0, 5)
        assert service.engine.batches[-1].stopped
        await stream.ended()
        service.engine.released = None
        check_whole(await service.live(messages(SHORT.data)), SHORT)


async def test_an_engine_that_fails_ends_the_streams_of_its_batch_alone() -> None:
    """With a clear status; the others go on, and later ones find a service that works."""
    bad, good = said(4.0, first=5001), said(4.0, -1.0, 2.0, -1.0)

    def fails(window: Samples) -> tuple[WindowSegment, ...]:
        found = heard(window)
        if any("word50" in segment.text for segment in found):
            raise ValueError("no such word")
        return found

    async with serving(FakeEngine(segments=fails, max_batch=1)) as service:
        fine = asyncio.ensure_future(service.live(messages(good.data, pace=4)))
        error, replies = await service.fails(messages(bad.data, pace=4))
        assert error.code() == grpc.StatusCode.INTERNAL
        assert kinds(replies)[0] == "accepted"
        check_whole(await fine, good)
        assert await until(lambda: service.streams == 0)
        assert service.metric("live_streams") == 0


async def test_a_service_that_leaves_closes_what_was_said() -> None:
    """The utterance, a warning, and UNAVAILABLE with the time to come back."""
    spoken = said(3.0)
    async with serving() as service:
        stream = await Open(service, spoken.data).accepted()
        idle = await Open(service).accepted()
        await stream.until(lambda: service.heard_s == 3.0)
        service.app.leave()
        for one in (await stream.ended(), await idle.ended()):
            assert one.error.code() == grpc.StatusCode.UNAVAILABLE
            assert retry_s(one.error) == [1.0]
            assert [w.code for w in of(one.replies, "warning")] == ["SERVICE_STOPPING"]
            assert kinds(one.replies)[-1] == "warning"
        assert committed(stream.replies) == spoken.texts
        (utterance,) = of(stream.replies, "utterance")
        assert utterance.reason == asr_pb2.END_REASON_FINISH
        check_order(stream.replies)
        assert await until(lambda: service.streams == 0)
        late, _ = await service.fails(messages(SHORT.data))
        assert late.code() == grpc.StatusCode.UNAVAILABLE


async def test_an_idle_client_keeps_its_place_for_so_long() -> None:
    """Then its stream ends, as any call does."""
    async with serving(idle_timeout_s=1) as service:
        begun = time.monotonic()
        stream = await (await Open(service).accepted()).ended()
        assert stream.error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.9 < time.monotonic() - begun < 10
        assert await until(lambda: service.streams == 0)


async def test_a_client_that_sends_silence_is_not_idle() -> None:
    """Somebody who listens, and says nothing."""
    async with serving(idle_timeout_s=0.5) as service:
        replies = await service.live(messages(bytes(32_000 * 3), pace=2))
    assert kinds(replies) == ["accepted", "done"]


async def test_a_stream_is_measured() -> None:
    """Audio, updates, windows, the time to a word's text, and what becomes of tentative words."""
    spoken = said(5.0, -1.0, 2.0, -1.0)
    async with serving() as service:
        replies = await service.live(messages(spoken.data, pace=8))
        check_whole(replies, spoken)
        (done,) = of(replies, "done")
        assert service.metric("live_streams") == 0
        assert service.metric("live_updates_total") == done.updates
        assert service.heard_s == pytest.approx(spoken.duration_s)
        assert service.metric("live_commit_latency_seconds_count") == len(spoken.words)
        assert service.metric("live_commit_latency_seconds_sum") < 1.0 * len(spoken.words)
        kept = service.metric("live_tentative_words_total", outcome="kept")
        changed = service.metric("live_tentative_words_total", outcome="changed")
        assert kept >= len(spoken.words) / 2
        assert changed < kept
        assert service.metric("live_update_interval_seconds") >= 1.0
        assert service.metric("speech_seconds_total") == pytest.approx(7.0, abs=0.8)
        assert service.metric("segments_total") == sum(
            len(one.segments) for one in of(replies, "utterance")
        )


async def test_a_text_in_doubt_is_told_as_untranscribed() -> None:
    """A loop is decoded once more; if it stays one, the voice is told, and no text."""

    def loops(window: Samples) -> tuple[WindowSegment, ...]:
        length_s = len(window) / 16_000
        return (WindowSegment(0.0, length_s, " over and over" * 20, compression_ratio=9.0),)

    async with serving(FakeEngine(segments=loops)) as service:
        replies = await service.live(messages(SHORT.data))
        asked = [batch.options.temperatures for batch in service.engine.batches]
    assert not committed(replies)
    (utterance,) = of(replies, "utterance")
    assert not utterance.segments
    (missing,) = utterance.untranscribed
    assert missing.reason == asr_pb2.UNTRANSCRIBED_REASON_DOUBTFUL
    assert set(asked) == {(0.0,), (0.4,)}
    assert all(one != other for one, other in itertools.pairwise(asked))
