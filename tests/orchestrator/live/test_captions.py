"""LiveService over real services: every sentence in every language, in order, nothing held up."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from tests.orchestrator.live_stand_in import LiveSpeech, SlowTranslation
from tests.orchestrator.marked import said, service, texts
from tests.orchestrator.stand_in import Break, Translation
from tests.orchestrator.stand_in import serving as stand_ins
from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.live.v1 import live_pb2, live_pb2_grpc
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.live import translating
from voxroute_orchestrator.live.metrics import LiveMetrics
from voxroute_orchestrator.live.service import SERVICE_NAME, LiveServicer, Offered
from voxroute_orchestrator.settings import Settings
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.process.settings import ServerSettings
from voxroute_serving.testing.served import Served, serving, until

OK = translate_pb2.ITEM_STATUS_OK
FAILED = translate_pb2.ITEM_STATUS_FAILED


@dataclass
class _App:
    """LiveService alone."""

    servicer: LiveServicer
    service_names: Sequence[str] = (SERVICE_NAME,)

    def register(self, server: grpc.aio.Server) -> None:
        live_pb2_grpc.add_LiveServiceServicer_to_server(self.servicer, server)

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Likewise."""


@dataclass
class _Answer:
    """What a client was told, by kind."""

    events: list[live_pb2.CaptionResponse] = field(default_factory=list[live_pb2.CaptionResponse])

    @property
    def kinds(self) -> list[str]:
        return [
            event.speech.WhichOneof("event") or ""
            if event.HasField("speech")
            else event.WhichOneof("event") or ""
            for event in self.events
        ]

    @property
    def sentences(self) -> list[str]:
        return [event.sentence.text for event in self.events if event.HasField("sentence")]

    def translated(self, target: str) -> list[live_pb2.Translated]:
        found = [event.translated for event in self.events if event.HasField("translated")]
        return [one for one in found if one.target_language == target]


class _Client:
    """A stream of captions; the text is sent as audio, which the stand-in hears."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        stub: Any = live_pb2_grpc.LiveServiceStub(self._channel)
        self.call = stub.Caption()
        self.answer = _Answer()
        self._reading: asyncio.Task[None] | None = None

    async def open(self, *targets: str, language: str = "hi", **more: Any) -> None:
        pcm = asr_pb2.PcmFormat(sample_rate_hz=16_000, channels=1)
        audio = asr_pb2.AudioFormat(pcm=pcm)
        speech = asr_pb2.LiveConfig(language=language, audio=audio, **more)
        config = live_pb2.CaptionConfig(speech=speech, target_languages=targets)
        await self.call.write(live_pb2.CaptionRequest(config=config))
        self._reading = asyncio.ensure_future(self._read())

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.call.write(live_pb2.CaptionRequest(audio=text.encode()))

    async def play(self, sound: bytes) -> None:
        for begin in range(0, len(sound), 3200):
            await self.call.write(live_pb2.CaptionRequest(audio=sound[begin : begin + 3200]))

    async def end_utterance(self) -> None:
        end = asr_pb2.EndUtterance()
        await self.call.write(live_pb2.CaptionRequest(end_utterance=end))

    async def finish(self) -> _Answer:
        await self.call.write(live_pb2.CaptionRequest(finish=common_pb2.Finish()))
        await self.call.done_writing()
        return await self.ended()

    async def ended(self) -> _Answer:
        assert self._reading is not None
        await self._reading
        return self.answer

    async def close(self) -> None:
        self.call.cancel()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._channel.close()

    async def _read(self) -> None:
        async for event in self.call:
            self.answer.events.append(event)


@dataclass
class _World:
    """The services, and what is told of them."""

    address: str
    registry: CollectorRegistry
    servicer: LiveServicer

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncGenerator[_Client]:
        client = _Client(self.address)
        try:
            yield client
        finally:
            await client.close()

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0


@contextlib.asynccontextmanager
async def _world(
    speech: LiveSpeech | str, translation: Translation, retry_s: float = 0.5
) -> AsyncGenerator[_World]:
    """LiveService before stand-ins, or before a speech service at an address."""
    stand_in = speech if isinstance(speech, LiveSpeech) else None
    async with stand_ins(stand_in, translation) as address:
        chosen = Settings(
            asr_endpoints=(speech if isinstance(speech, str) else address,),
            translate_endpoints=(address,),
            retry_s=retry_s,
        )
        offered = Offered(chosen, only_asr_endpoints=True, only_translate_endpoints=True)
        registry = CollectorRegistry()
        servicer = LiveServicer(offered, LiveMetrics(registry))
        listening = ServerSettings(listen=["127.0.0.1:0"], metrics_listen="")
        async with serving(lambda *_: _App(servicer), listening) as served:
            yield _World(served.address, registry, servicer)


async def test_every_sentence_is_told_and_translated_in_order() -> None:
    """With two sentences of context; `done` is last."""
    speech, translation = LiveSpeech(), SlowTranslation()
    async with _world(speech, translation) as world, world.client() as client:
        await client.open("en", "ta")
        await client.say("one two.", "three. four", "five! six")
        await client.end_utterance()
        await client.say("seven.")
        answer = await client.finish()
        assert world.metric("voxroute_caption_translation_seconds_count") == 10
        assert world.metric("voxroute_caption_streams") == 0
    said = ["one two.", "three.", "four five!", "six", "seven."]
    assert answer.sentences == said
    for target in ("en", "ta"):
        told = answer.translated(target)
        assert [one.text for one in told] == [f"{target}:{text}" for text in said]
        assert [one.sentence for one in told] == [1, 2, 3, 4, 5]
        assert {one.status for one in told} == {OK}
    assert translation.contexts["4"] == ["three.", "four five!"]
    assert answer.kinds[0] == "accepted"
    assert answer.kinds[-1] == "done"
    assert answer.kinds.count("utterance") == 2
    sentence = next(e.sentence for e in answer.events if e.HasField("sentence"))
    assert (sentence.utterance, sentence.language, sentence.end.seconds) == (1, "hi", 2)


async def test_a_slow_language_holds_up_nothing_else() -> None:
    """What has waited for it goes out together, in one call."""
    translation = SlowTranslation(may={"ta": asyncio.Event()})
    async with _world(LiveSpeech(), translation) as world, world.client() as client:
        await client.open("en", "ta")
        await client.say(*[f"word {n}." for n in range(20)])
        answer = client.answer
        assert await until(lambda: len(answer.translated("en")) == 20, 5.0)
        assert not answer.translated("ta")
        translation.may["ta"].set()
        await client.finish()
    assert [one.sentence for one in answer.translated("ta")] == list(range(1, 21))
    assert len(translation.calls) == 2


async def test_silence_leaves_no_call_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits for nothing would have to give way; the next sentence opens another."""
    monkeypatch.setattr(translating, "LINGER_S", 0.2)
    translation = SlowTranslation()
    async with _world(LiveSpeech(), translation) as world, world.client() as client:
        await client.open("en")
        answer = client.answer
        for number in (1, 2):
            await client.say(f"word {number}.")
            assert await until(lambda n=number: len(answer.translated("en")) == n, 5.0)
            await asyncio.sleep(0.6)
        await client.finish()
    assert translation.calls == [["word 1."], ["word 2."]]


async def test_a_sentence_that_fails_is_told_and_the_stream_goes_on() -> None:
    """The stand-in fails at "word5"."""
    async with _world(LiveSpeech(), SlowTranslation()) as world, world.client() as client:
        await client.open("en")
        await client.say("word4")
        await client.end_utterance()
        await client.say("word5")
        await client.end_utterance()
        await client.say("word7")
        answer = await client.finish()
    told = answer.translated("en")
    assert [(one.text, one.status, one.detail) for one in told] == [
        ("en:word4", OK, ""),
        ("", FAILED, "it is five"),
        ("en:word7", OK, ""),
    ]


async def test_a_translator_that_is_away_is_tried_again() -> None:
    """Its sentences fail when patience ends; the next one finds it back."""
    away = [Break(0, message="gone") for _ in range(4)]  # two tries each
    translation = SlowTranslation(breaks=away)
    async with (
        _world(LiveSpeech(), translation, retry_s=0.0) as world,
        world.client() as client,
    ):
        await client.open("en")
        answer = client.answer
        for number in (1, 2, 3):
            await client.say(f"word {number}.")
            assert await until(lambda n=number: len(answer.translated("en")) == n, 10.0)
        await client.finish()
    told = answer.translated("en")
    assert [one.status for one in told] == [FAILED, FAILED, OK]
    assert "not available" in told[0].detail


async def test_a_detected_language_is_that_of_its_sentences() -> None:
    """What is in the wanted language already passes through."""
    async with _world(LiveSpeech(), SlowTranslation()) as world, world.client() as client:
        await client.open("en", language="")
        await client.say("LANGUAGE:hi", "ek.")
        await client.end_utterance()
        await client.say("LANGUAGE:en", "two.")
        await client.end_utterance()
        await client.say("LANGUAGE:es", "tres.")
        answer = await client.finish()
    told = answer.translated("en")
    assert [one.text for one in told] == ["en:ek.", "two.", "en:tres."]
    assert told[1].status == translate_pb2.ITEM_STATUS_PASSTHROUGH


async def test_a_pair_that_nobody_translates_is_refused() -> None:
    """Before anything is heard, with the field's reason."""
    async with _world(LiveSpeech(), SlowTranslation()) as world, world.client() as client:
        await client.open("fr")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.ended()
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "hi to fr" in (refusal.value.details() or "")


@pytest.mark.parametrize(
    ("opening", "field"),
    [
        ({"language": "klingonish"}, "config.speech.language"),
        ({"model": "/etc"}, "config.speech.model"),
        ({"vad": asr_pb2.VadOptions(disabled=True)}, "vad.disabled"),
    ],
)
async def test_what_cannot_be_meant_is_refused(opening: dict[str, Any], field: str) -> None:
    """The reason names the field; no service is asked."""
    speech = LiveSpeech()
    async with _world(speech, SlowTranslation()) as world, world.client() as client:
        await client.open("en", **opening)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.ended()
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.value.details() or "").startswith(field)
    assert not speech.requests


async def test_without_a_service_for_live_speech_the_reason_is_told() -> None:
    """One that is too old says so."""
    async with (
        _world(LiveSpeech(features=()), SlowTranslation()) as world,
        world.client() as client,
    ):
        await client.open("en")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.ended()
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "cannot transcribe speech while it is spoken" in (refusal.value.details() or "")


async def test_a_speech_service_that_breaks_ends_the_stream_after_its_translations() -> None:
    """What was committed is never taken back."""
    async with _world(LiveSpeech(), SlowTranslation()) as world, world.client() as client:
        await client.open("en")
        await client.say("one. two", "BREAK")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.ended()
        answer = client.answer
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [one.text for one in answer.translated("en")] == ["en:one.", "en:two"]


async def test_a_service_that_ends_closes_the_utterance_first() -> None:
    """Then it warns, and the stream is UNAVAILABLE: nothing that was said is lost."""
    speech = LiveSpeech()
    async with _world(speech, SlowTranslation()) as world, world.client() as client:
        await client.open("en")
        await client.say("one two")
        assert await until(lambda: "committed" in client.answer.kinds, 5.0)
        world.servicer.leave()
        with pytest.raises(grpc.aio.AioRpcError) as ending:
            await client.ended()
        answer = client.answer
    assert ending.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [one.text for one in answer.translated("en")] == ["en:one two"]
    assert "utterance" in answer.kinds
    assert "done" not in answer.kinds
    assert answer.events[-1].warning.code == "SERVICE_STOPPING"


async def test_a_client_that_leaves_frees_the_services() -> None:
    """The stream's, and what translates for it."""
    speech, translation = LiveSpeech(), SlowTranslation(may={"en": asyncio.Event()})
    async with _world(speech, translation) as world:
        async with world.client() as client:
            await client.open("en")
            await client.say("one.")
            assert await until(lambda: bool(translation.calls and translation.calls[0]), 5.0)
            assert speech.open_streams == 1
            assert world.metric("voxroute_caption_streams") == 1
        assert await until(lambda: speech.open_streams == 0, 2.0)
        assert await until(lambda: world.metric("voxroute_caption_streams") == 0, 2.0)


async def test_a_client_that_does_not_finish_is_told() -> None:
    """What it has sent may not be whole."""
    async with _world(LiveSpeech(), SlowTranslation()) as world, world.client() as client:
        await client.open("en")
        await client.say("one.")
        await client.call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError, match="without `finish`"):
            await client.ended()


@pytest.mark.parametrize("refine", [False, True])
async def test_what_a_real_service_commits_is_cut_and_translated(*, refine: bool) -> None:
    """Also faster than it is spoken, where utterances are told far behind their sound."""
    async with (
        service() as served,
        _world(served.address, SlowTranslation()) as world,
        world.client() as client,
    ):
        await client.open("en", refine=refine)
        await client.play(said(4).tobytes())
        answer = await client.finish()
    assert answer.sentences == texts(4)
    assert [one.text for one in answer.translated("en")] == [f"en:{text}" for text in texts(4)]
    sentences = [event.sentence for event in answer.events if event.HasField("sentence")]
    assert [one.utterance for one in sentences] == [1, 2, 3, 4]
    assert [round(one.start.ToMilliseconds() / 5500) for one in sentences] == [0, 1, 2, 3]
    closed = [e.speech.utterance for e in answer.events if e.speech.HasField("utterance")]
    assert ["".join(s.text for s in one.segments).strip() for one in closed] == texts(4)
    assert answer.kinds[-1] == "done"


async def test_a_client_that_leaves_frees_a_real_service() -> None:
    """Its live stream ends."""
    async with service() as served, _world(served.address, SlowTranslation()) as world:
        async with world.client() as client:
            await client.open("en")
            await client.play(said(1).tobytes())
            assert await until(lambda: bool(client.answer.sentences), 10.0)
            assert _streams(served) == 1
        assert await until(lambda: _streams(served) == 0, 5.0)


def _streams(served: Served[AsrApp]) -> float:
    return served.metrics.registry.get_sample_value("voxroute_asr_live_streams") or 0.0
