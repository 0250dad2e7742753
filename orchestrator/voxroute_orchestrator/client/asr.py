"""The client of AsrService: calls that can be gone on with, and that say when they are not done.

Each window is told as it is finished, so that a later call can go on there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, new_request_id, unary
from voxroute_orchestrator.client.failures import broken_stream, of_rpc_error
from voxroute_orchestrator.client.stream import Watchdog, close_writing, read_all, write
from voxroute_orchestrator.transcript import (
    AsrStats,
    Device,
    IgnoredOption,
    LanguageProbability,
    Model,
    Note,
    Segment,
    Untranscribed,
)
from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE

_MESSAGE_BYTES = 512 * 1024  # of samples, 16 s; small ones cost both interpreters time
_ROUNDING_S = 0.001  # times of messages are rounded


class AsrEvents(Protocol):
    """What happens to one transcription, in order."""

    async def accepted(
        self,
        request_id: str,
        model: Model,
        device: Device,
        options: dict[str, Any],
        ignored: list[IgnoredOption],
    ) -> None:
        """The call was admitted."""
        ...

    async def loading(self) -> None:
        """The service is loading its model."""
        ...

    async def progress(self, done_s: float) -> None:
        """The recording is finished up to this time of its timeline."""
        ...

    async def language(self, languages: list[LanguageProbability]) -> None:
        """The language was detected, the chosen one first; before the first segment."""
        ...

    async def window(
        self, segments: list[Segment], untranscribed: list[Untranscribed], resume_from_s: float
    ) -> None:
        """A window is finished; a later call goes on from `resume_from_s`. Their ids are 0."""
        ...

    async def note(self, note: Note) -> None:
        """A warning."""
        ...

    async def done(self, stats: AsrStats) -> None:
        """The call is complete."""
        ...


@dataclass(frozen=True, slots=True)
class AsrOptions:
    """How recordings are to be transcribed."""

    language: str = ""
    """Empty to detect it."""
    allowed_languages: tuple[str, ...] = ()
    """Two or more where the language changes; `language` is then empty."""
    model: str = ""
    word_timestamps: bool = False
    strict_options: bool = False
    vad_disabled: bool = False
    hotwords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """What is to be transcribed, and how."""

    pcm: bytes
    """16 kHz mono s16le."""
    start_s: float
    """Media time of the first sample."""
    resume_from_s: float = 0.0
    """Up to where an earlier call with the same samples and options has finished them."""
    options: AsrOptions = AsrOptions()


class AsrClient:
    """A speech service."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel, policy: CallPolicy) -> None:
        self.endpoint = endpoint
        self.policy = policy
        self._stub = asr_pb2_grpc.AsrServiceStub(channel)

    async def capabilities(self) -> asr_pb2.GetCapabilitiesResponse:
        """What the service is and can do. Raises VoxrouteError."""
        reply: asr_pb2.GetCapabilitiesResponse = await unary(
            self.endpoint, self._stub.GetCapabilities, asr_pb2.GetCapabilitiesRequest()
        )
        return reply

    async def transcribe(self, request: AsrRequest, events: AsrEvents) -> None:
        """One call, whose windows are told as they are finished.

        Raises CallFailedError, and what the events raise.
        """
        await _Transcription(self._stub, self.endpoint, self.policy, request, events).run()


class _Transcription:
    """One call of Transcribe."""

    def __init__(
        self,
        stub: asr_pb2_grpc.AsrServiceStub,
        endpoint: Endpoint,
        policy: CallPolicy,
        request: AsrRequest,
        events: AsrEvents,
    ) -> None:
        self._stub = stub
        self._policy = policy
        self._service = str(endpoint)
        self._request = request
        self._events = events
        self._request_id = new_request_id()
        self._length_s = len(request.pcm) / (SAMPLE_RATE * SAMPLE_BYTES)
        self._segments: list[Segment] = []  # of the window that is not finished
        self._untranscribed: list[Untranscribed] = []  # likewise
        self._done = False

    async def run(self) -> None:
        """Raises CallFailedError where the call did not end well."""
        # without an iterator of requests the call is written to; the stub's type does not know
        transcribe: Any = self._stub.Transcribe
        call = transcribe(
            timeout=self._policy.deadline_s(self._length_s),
            metadata=(("x-request-id", self._request_id),),
        )
        watchdog = Watchdog(call, self._policy.stall_timeout_s)

        async def send() -> None:
            if not await write(call, asr_pb2.TranscribeRequest(config=self._config())):
                return
            pcm = memoryview(self._request.pcm)
            for begin in range(0, len(pcm), _MESSAGE_BYTES):
                audio = bytes(pcm[begin : begin + _MESSAGE_BYTES])
                if not await write(call, asr_pb2.TranscribeRequest(audio=audio)):
                    return
            if await write(call, asr_pb2.TranscribeRequest(finish=common_pb2.Finish())):
                await close_writing(call)

        try:
            await read_all(call, send, self._receive, watchdog)
        except grpc.aio.AioRpcError as error:
            if watchdog.fired:
                silent = f"has sent nothing for {self._policy.stall_timeout_s:.0f} s"
                raise broken_stream(self._service, silent) from error
            raise of_rpc_error(error, self._service, self._request_id) from error
        if not self._done:
            raise broken_stream(self._service, "ended the call before it was done")

    def _config(self) -> asr_pb2.TranscribeConfig:
        request, options = self._request, self._request.options
        resumed = request.resume_from_s > request.start_s
        return asr_pb2.TranscribeConfig(
            audio=asr_pb2.AudioFormat(
                pcm=asr_pb2.PcmFormat(sample_rate_hz=SAMPLE_RATE, channels=1),
                start_offset=convert.duration(request.start_s),
            ),
            model=options.model,
            language=options.language,
            allowed_languages=options.allowed_languages,
            word_timestamps=options.word_timestamps,
            strict_options=options.strict_options,
            vad=asr_pb2.VadOptions(disabled=True) if options.vad_disabled else None,
            decoding=(
                asr_pb2.DecodingOptions(hotwords=options.hotwords) if options.hotwords else None
            ),
            expected_duration=convert.duration(self._length_s) if self._length_s else None,
            resume_from=convert.duration(request.resume_from_s) if resumed else None,
        )

    async def _receive(self, reply: asr_pb2.TranscribeResponse) -> None:
        match reply.WhichOneof("event"):
            case "accepted":
                accepted = reply.accepted
                await self._events.accepted(
                    accepted.request_id or self._request_id,
                    convert.model(accepted.model),
                    convert.device(accepted.device),
                    convert.options(accepted.options.config),
                    [convert.ignored(option) for option in accepted.options.ignored],
                )
            case "progress":
                await self._progress(reply.progress)
            case "language_detected":
                await self._language(reply.language_detected)
            case "segment":
                segment = convert.segment(reply.segment, 0)
                # a service that knows no `resume_from` sends everything again
                if segment.start_s >= self._request.resume_from_s - _ROUNDING_S:
                    self._segments.append(segment)
            case "untranscribed":
                self._untranscribed.append(convert.untranscribed(reply.untranscribed))
            case "warning":
                warning = reply.warning
                await self._events.note(
                    Note(source="asr", code=warning.code, message=warning.message)
                )
            case "done":
                self._done = True
                if self._segments:  # of a service that does not tell where its windows end
                    await self._window(self._request.start_s + self._length_s)
                await self._events.done(convert.asr_stats(reply.done))
            case _:
                pass  # an event of a newer contract

    async def _progress(self, progress: asr_pb2.Progress) -> None:
        if progress.stage == asr_pb2.STAGE_LOADING:
            await self._events.loading()
            return
        if progress.HasField("resume_from"):
            await self._window(convert.seconds(progress.resume_from))
        done_s = self._request.start_s + convert.seconds(progress.done)
        await self._events.progress(done_s)

    async def _window(self, resume_from_s: float) -> None:
        segments, self._segments = self._segments, []
        untranscribed, self._untranscribed = self._untranscribed, []
        if resume_from_s > self._request.resume_from_s:
            await self._events.window(segments, untranscribed, resume_from_s)

    async def _language(self, detected: asr_pb2.LanguageDetected) -> None:
        if detected.languages:
            await self._events.language(
                [
                    LanguageProbability(language=p.language, probability=round(p.probability, 6))
                    for p in detected.languages
                ]
            )


@dataclass(frozen=True, slots=True)
class Speech:
    """A speech service, and what requests to it are to name as the model."""

    client: AsrClient
    model: str = ""


NextService = Callable[[], Awaitable[Speech | None]]
"""What finds another speech service where the last one has given up; None where none is left."""
