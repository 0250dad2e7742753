"""The client of AsrService: calls that can be gone on with, and that say when they are not done.

Each window is told as it is finished, so that a later call can go on there.
"""

import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc.aio

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, new_request_id, unary
from voxroute_orchestrator.client.failures import of_rpc_error
from voxroute_orchestrator.client.messages import (
    AsrEvent,
    Detected,
    FinishedWindow,
    Loading,
)
from voxroute_orchestrator.client.stream import Exchange, answer
from voxroute_orchestrator.transcript import LanguageProbability, Segment, Untranscribed
from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE

_MESSAGE_BYTES = 512 * 1024  # of samples, 16 s; small ones cost both interpreters time
_ROUNDING_S = 0.001  # times of messages are rounded


@dataclass(frozen=True, slots=True)
class PcmAudio:
    """Samples that are at hand."""

    pcm: bytes
    """16 kHz mono s16le."""
    start_s: float = 0.0
    """Media time of the first sample."""

    @property
    def length_s(self) -> float:
        """How long they last."""
        return len(self.pcm) / (SAMPLE_RATE * SAMPLE_BYTES)

    def format(self) -> asr_pb2.AudioFormat:
        """How the chunks are to be read."""
        return asr_pb2.AudioFormat(
            pcm=asr_pb2.PcmFormat(sample_rate_hz=SAMPLE_RATE, channels=1),
            start_offset=convert.duration(self.start_s),
        )

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, in the size of a message."""
        pcm = memoryview(self.pcm)
        for begin in range(0, len(pcm), _MESSAGE_BYTES):
            yield bytes(pcm[begin : begin + _MESSAGE_BYTES])


class Audio(Protocol):
    """Bytes that a service is to decode, from their start however often they are asked for."""

    @property
    def start_s(self) -> float:
        """Media time of the first sample."""
        ...

    @property
    def length_s(self) -> float | None:
        """How long they last, seconds; None where that is not known."""
        ...

    def format(self) -> asr_pb2.AudioFormat:
        """How the chunks are to be read."""
        ...

    def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, as they come."""
        ...


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """What is to be transcribed, and how."""

    audio: Audio
    resume_from_s: float = 0.0
    """Up to where an earlier call with the same samples and options has finished them."""
    options: asr_pb2.TranscribeConfig = field(default_factory=asr_pb2.TranscribeConfig)
    """What is asked for, but for the audio's own."""


class AsrClient:
    """A speech service; `model` is what requests to it are to name, "" for its own."""

    def __init__(
        self, endpoint: Endpoint, channel: grpc.aio.Channel, policy: CallPolicy, model: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.policy = policy
        self.model = model
        self.stub: Any = asr_pb2_grpc.AsrServiceStub(channel)

    async def capabilities(self) -> asr_pb2.GetCapabilitiesResponse:
        """What the service is and can do. Raises VoxrouteError."""
        return await unary(
            self.endpoint, self.stub.GetCapabilities, asr_pb2.GetCapabilitiesRequest()
        )

    async def transcribe(self, request: AsrRequest) -> AsyncGenerator[AsrEvent]:
        """What happens to one call, whose windows are told as they are finished.

        Raises CallFailedError.
        """
        call = Transcription(request, new_request_id())
        exchange = Exchange(
            self.stub.Transcribe,
            call.messages(),
            lambda reply: reply.HasField("done"),
            service=str(self.endpoint),
            policy=self.policy,
            length_s=request.audio.length_s,
            request_id=call.request_id,
            waits=lambda: call.sent or request.audio.length_s is not None,
        )
        async with contextlib.aclosing(exchange.replies()) as replies:
            async for reply in replies:
                for event in call.events(reply):
                    yield event

    async def detect_language(self, audio: Audio) -> list[LanguageProbability]:
        """The likely languages of a recording, the most likely one first.

        Raises CallFailedError; its error is RefusedError where nobody speaks.
        """
        request_id = new_request_id()
        call = self.stub.DetectLanguage(
            timeout=self.policy.deadline_s(audio.length_s),
            metadata=(("x-request-id", request_id),),
        )
        try:
            found = await answer(call, self._to_detect(audio))
        except grpc.aio.AioRpcError as error:
            raise of_rpc_error(error, str(self.endpoint), request_id) from error
        return list(map(_probability, found.languages))

    async def _to_detect(self, audio: Audio) -> AsyncGenerator[asr_pb2.DetectLanguageRequest]:
        config = asr_pb2.DetectLanguageConfig(audio=audio.format(), model=self.model)
        yield asr_pb2.DetectLanguageRequest(config=config)
        async with contextlib.aclosing(audio.chunks()) as chunks:
            async for chunk in chunks:
                yield asr_pb2.DetectLanguageRequest(audio=chunk)
        yield asr_pb2.DetectLanguageRequest(finish=common_pb2.Finish())


class Transcription:
    """One call of Transcribe."""

    def __init__(self, request: AsrRequest, request_id: str) -> None:
        self.request_id = request_id
        self.sent = False
        """Whether all audio is on its way, so that the service owes an answer."""
        self._request = request
        self._segments: list[Segment] = []  # of the window that is not finished
        self._untranscribed: list[Untranscribed] = []  # likewise

    async def messages(self) -> AsyncGenerator[asr_pb2.TranscribeRequest]:
        """What is sent."""
        yield asr_pb2.TranscribeRequest(config=self._config())
        async with contextlib.aclosing(self._request.audio.chunks()) as chunks:
            async for chunk in chunks:
                yield asr_pb2.TranscribeRequest(audio=chunk)
        self.sent = True
        yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())

    def _config(self) -> asr_pb2.TranscribeConfig:
        request = self._request
        length_s = request.audio.length_s
        config = asr_pb2.TranscribeConfig(
            audio=request.audio.format(),
            expected_duration=convert.duration(length_s) if length_s else None,
        )
        if request.resume_from_s > request.audio.start_s:
            config.resume_from.CopyFrom(convert.duration(request.resume_from_s))
        config.MergeFrom(request.options)
        return config

    def events(self, reply: asr_pb2.TranscribeResponse) -> Iterator[AsrEvent]:
        """What an answer tells."""
        match reply.WhichOneof("event"):
            case "accepted":
                options = reply.accepted.options
                yield convert.accepted(
                    reply.accepted, options.config, options.ignored, self.request_id
                )
            case "progress":
                yield from self._progress(reply.progress)
            case "language_detected" if reply.language_detected.languages:
                yield Detected(list(map(_probability, reply.language_detected.languages)))
            case "segment":
                segment = convert.segment(reply.segment, 0)
                # a service that knows no `resume_from` sends everything again
                if segment.start_s >= self._request.resume_from_s - _ROUNDING_S:
                    self._segments.append(segment)
            case "untranscribed":
                self._untranscribed.append(convert.untranscribed(reply.untranscribed))
            case "warning":
                yield convert.warning("asr", reply.warning)
            case "done":
                if self._segments:  # of a service that does not tell where its windows end
                    audio = self._request.audio
                    length_s = math.inf if audio.length_s is None else audio.length_s
                    yield from self._window(audio.start_s + length_s)
                yield convert.asr_stats(reply.done)
            case _:
                pass  # an event of a newer contract

    def _progress(self, progress: asr_pb2.Progress) -> Iterator[AsrEvent]:
        if progress.stage == asr_pb2.STAGE_LOADING:
            yield Loading()
        elif progress.HasField("resume_from"):
            yield from self._window(convert.seconds(progress.resume_from))

    def _window(self, resume_from_s: float) -> Iterator[AsrEvent]:
        segments, self._segments = self._segments, []
        untranscribed, self._untranscribed = self._untranscribed, []
        if resume_from_s > self._request.resume_from_s:
            yield FinishedWindow(segments, untranscribed, resume_from_s)


def _probability(one: asr_pb2.LanguageProbability) -> LanguageProbability:
    return LanguageProbability(language=one.language, probability=round(one.probability, 6))


NextService = Callable[[], Awaitable[AsrClient | None]]
"""What finds another speech service where the last one has given up; None where none is left."""
