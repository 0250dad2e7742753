"""Services for live streams whose answers are what the test says.

The speech service hears text: the bytes of an audio message are words, each a second long.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.orchestrator.stand_in import Break, Speech, Translation, abort, serving
from voxroute.asr.v1 import asr_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.client.messages import duration, seconds

Reply = asr_pb2.TranscribeLiveResponse
Requests = AsyncIterator[asr_pb2.TranscribeLiveRequest]
Script = Callable[[Requests, Any], AsyncIterator[Reply]]
POLICY = CallPolicy(retry_s=5.0)


async def hears(requests: Requests, context: Any) -> AsyncIterator[Reply]:
    """Commits what it is sent, word for word; "LANGUAGE:hi" detects, "BREAK" breaks the call."""
    utterance, now_s, said = 0, 0.0, asr_pb2.Utterance()
    async for request in requests:
        kind = request.WhichOneof("request")
        if kind == "config":
            now_s = seconds(request.config.audio.start_offset)
            said.language = request.config.language
            yield Reply(accepted=asr_pb2.LiveAccepted(request_id="r1", config=request.config))
        elif kind == "audio":
            text = request.audio.decode()
            if text == "BREAK":
                await abort(context, Break(0, grpc.StatusCode.UNAVAILABLE))
            if not said.segments:
                utterance += 1
                said.segments.add(start=duration(now_s))
                said.utterance = utterance
                said.start.CopyFrom(duration(now_s))
                started = asr_pb2.SpeechStarted(utterance=utterance, at=duration(now_s))
                yield Reply(speech_started=started)
            if text.startswith("LANGUAGE:"):
                said.language = text.partition(":")[2]
                found = asr_pb2.LanguageProbability(language=said.language, probability=1.0)
                yield Reply(language_detected=asr_pb2.LanguageDetected(languages=[found]))
                continue
            words = [
                asr_pb2.Word(
                    text=f" {word}", start=duration(now_s + n), end=duration(now_s + n + 1)
                )
                for n, word in enumerate(text.split())
            ]
            now_s += len(words)
            text = "".join(word.text for word in words)
            said.segments[0].text += text
            said.segments[0].words.extend(words)
            said.segments[0].end.CopyFrom(duration(now_s))
            yield Reply(committed=asr_pb2.Committed(utterance=utterance, text=text, words=words))
            yield Reply(tentative=asr_pb2.Tentative(utterance=utterance, text=" maybe"))
        elif said.segments:
            said.segments[0].text = said.segments[0].text.strip()
            said.end.CopyFrom(duration(now_s))
            yield Reply(utterance=said)
            said = asr_pb2.Utterance(language=said.language)
        if kind == "finish":
            yield done()


@dataclass
class LiveSpeech(Speech):
    """Answers every live stream by `script`, of its messages and context."""

    script: Script = hears
    features: tuple[asr_pb2.Feature, ...] = (asr_pb2.FEATURE_LIVE,)
    requests: list[asr_pb2.TranscribeLiveRequest] = field(
        default_factory=list[asr_pb2.TranscribeLiveRequest]
    )
    open_streams: int = 0

    async def GetCapabilities(  # noqa: N802 - the contract's name
        self, request: asr_pb2.GetCapabilitiesRequest, context: Any
    ) -> asr_pb2.GetCapabilitiesResponse:
        reply = await super().GetCapabilities(request, context)
        reply.features.extend(self.features)
        return reply

    async def TranscribeLive(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeLiveRequest], context: Any
    ) -> AsyncIterator[Reply]:
        async def noted() -> AsyncIterator[asr_pb2.TranscribeLiveRequest]:
            async for request in request_iterator:
                self.requests.append(request)
                yield request

        self.open_streams += 1
        try:
            async for reply in self.script(noted(), context):
                yield reply
        finally:
            self.open_streams -= 1


@dataclass
class SlowTranslation(Translation):
    """Translates to each language once that may go on; notes how many items each call had."""

    pairs: tuple[tuple[str, str], ...] = (("hi", "en"), ("hi", "ta"), ("es", "en"))
    may: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    calls: list[list[str]] = field(default_factory=list[list[str]])

    async def Translate(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[translate_pb2.TranslateRequest], context: Any
    ) -> AsyncIterator[translate_pb2.TranslateResponse]:
        call: list[str] = []
        self.calls.append(call)
        target = ""

        async def held() -> AsyncIterator[translate_pb2.TranslateRequest]:
            nonlocal target
            async for request in request_iterator:
                target = request.config.target_language or target
                if request.HasField("item"):
                    call.append(request.item.text)
                    if target in self.may:
                        await self.may[target].wait()
                yield request

        async for reply in super().Translate(held(), context):
            yield reply


@contextlib.asynccontextmanager
async def client_of(speech: Speech, policy: CallPolicy = POLICY) -> AsyncGenerator[AsrClient]:
    """A client of the service, served until the block ends."""
    async with serving(speech) as address:
        endpoint = Endpoint("speech service", address)
        async with connect(endpoint, policy) as channel:
            yield AsrClient(endpoint, channel, policy)


def accepted() -> Reply:
    """The stream is admitted."""
    return Reply(accepted=asr_pb2.LiveAccepted(request_id="r1"))


def committed(text: str, utterance: int = 1) -> Reply:
    """Settled text without words."""
    return Reply(committed=asr_pb2.Committed(utterance=utterance, text=text))


def done() -> Reply:
    """The end."""
    return Reply(done=asr_pb2.LiveDone())


async def forever() -> None:
    """Does not return."""
    await asyncio.Event().wait()
