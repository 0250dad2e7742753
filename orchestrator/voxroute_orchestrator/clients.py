"""Calls to the services: kept alive, and never taken for done when they are not.

A transcription tells each window as it is finished, so that a later call can go on there; a
translation that breaks sends again what has no answer.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import grpc
import grpc.aio
import tenacity
from google.protobuf.message import Message
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc
from voxroute_orchestrator import convert
from voxroute_orchestrator.channels import of_job
from voxroute_orchestrator.credentials import NO_CREDENTIALS, Credentials
from voxroute_orchestrator.errors import RefusedError, VoxrouteError
from voxroute_orchestrator.failures import CallFailedError, broken_stream, of_rpc_error
from voxroute_orchestrator.glossary import GlossaryTerm, to_messages
from voxroute_orchestrator.items import ItemHolder, ItemPool, TranslateItem
from voxroute_orchestrator.transcript import (
    AsrStats,
    Device,
    IgnoredOption,
    LanguageProbability,
    Model,
    Note,
    Segment,
    TranslatedSegment,
    TranslationStats,
    Untranscribed,
    same_language,
)
from voxroute_serving.media import SAMPLE_BYTES, SAMPLE_RATE

RESUMED = "RESUMED"
"""The code of the note that a connection was lost and the work went on."""

Reply = TypeVar("Reply", bound=Message)

_SEND_ERROR = cast("type[Exception]", cast("Any", cygrpc).InternalError)  # what _write meets
_KEEPALIVE_TIMEOUT_MS = 15_000
_MESSAGE_BYTES = 512 * 1024  # of samples, 16 s; small ones cost both interpreters time
_MAX_REPLY_BYTES = 16 * 1024 * 1024  # a segment of 30 s with its words is some 10 KB
_UNARY_TIMEOUT_S = 30.0
_BASE_DEADLINE_S = 900.0  # a model may have to be loaded first
_MAX_ADVICE_S = 60.0  # a longer RetryInfo than this is not waited for in one piece
_ROUNDING_S = 0.001  # times of messages are rounded
_RESOLVED = ("dns:", "ipv4:", "ipv6:")  # grpc's own addresses, which may stand for many servers


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How patient calls are, seconds; see Settings for what each does."""

    retry_s: float = 120.0
    stall_timeout_s: float = 600.0
    deadline_factor: float = 20.0
    keepalive_s: float = 30.0

    def deadline_s(self, media_s: float | None) -> float | None:
        """The deadline of a call on so much media; none where its length is not known."""
        return None if media_s is None else _BASE_DEADLINE_S + self.deadline_factor * media_s


async def _nothing() -> None:
    """Does nothing: what recovers an endpoint that others look after."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is, what to call it, and how to bring it back where that is ours to do."""

    name: str
    """For people: "speech service", "translation service"."""
    target: str
    recover: Callable[[], Awaitable[None]] = _nothing

    def __str__(self) -> str:
        return f"the {self.name} at {self.target}"


@contextlib.asynccontextmanager
async def connect(
    endpoint: Endpoint, policy: CallPolicy, credentials: Credentials = NO_CREDENTIALS
) -> AsyncGenerator[grpc.aio.Channel]:
    """A channel that notices a dead peer, closed at the end. Raises UsageError."""
    options: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", int(policy.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # grpc 1.85 waits this long for the answer to a ping, whatever the keepalive's time-out says
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", _MAX_REPLY_BYTES),
        # a restarted service should be found again within seconds, not after two minutes
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if endpoint.target.startswith(_RESOLVED):
        # else every call would go to the first server that answers
        options.append(("grpc.lb_policy_name", "round_robin"))
    async with credentials.open(endpoint.target, options) as channel:
        yield of_job(channel, endpoint.target)


def new_request_id() -> str:
    """An id for a call, in the logs of both sides."""
    return uuid.uuid4().hex[:16]


async def unary(endpoint: Endpoint, call: Callable[..., Any], request: Message) -> Any:
    """The reply to a unary call. Raises VoxrouteError."""
    try:
        return await call_unary(endpoint, call, request)
    except CallFailedError as failure:
        raise failure.error from failure


async def call_unary(endpoint: Endpoint, call: Callable[..., Any], request: Message) -> Any:
    """As unary. Raises CallFailedError, which tells whether to try again."""
    request_id = new_request_id()
    try:
        return await call(
            request, timeout=_UNARY_TIMEOUT_S, metadata=(("x-request-id", request_id),)
        )
    except grpc.aio.AioRpcError as error:
        raise of_rpc_error(error, str(endpoint), request_id) from error


async def is_serving(channel: grpc.aio.Channel, timeout_s: float = 5.0) -> bool:
    """Whether the server says that it serves. Raises grpc.aio.AioRpcError where nobody answers."""
    stub: Any = cast("Any", health_pb2_grpc).HealthStub(channel)  # its types know no aio
    reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


class Retry:
    """Tries a call again while it makes sense, for at most `retry_s` without progress.

    The service's own advice (RetryInfo) is followed; without it the wait doubles from half a
    second to 15, with jitter so that many clients do not come back at once.
    """

    def __init__(self, endpoint: Endpoint, policy: CallPolicy) -> None:
        self._endpoint = endpoint
        self._retry_s = policy.retry_s
        self._failures = 0
        self._since: float | None = None
        self.retries: list[str] = []

    def progress(self) -> None:
        """Tells that something new was achieved: patience begins afresh."""
        self._failures = 0
        self._since = None

    async def run(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Runs the attempt until it returns. Raises VoxrouteError."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, CallFailedError) and error.retryable
            ),
            wait=self._wait,
            stop=self._exhausted,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            await retrying(self._recovering(attempt))
        except CallFailedError as failure:
            raise failure.error from failure

    def _recovering(self, attempt: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def recover_and_try() -> None:
            if self._failures:
                await self._endpoint.recover()
            await attempt()

        return recover_and_try

    def _exhausted(self, state: tenacity.RetryCallState) -> bool:
        now = time.monotonic()
        self._failures += 1
        self._since = now if self._since is None else self._since
        failure = state.outcome.exception() if state.outcome else None
        advised_s = failure.retry_after_s if isinstance(failure, CallFailedError) else None
        return now - self._since + (advised_s or 0.0) > self._retry_s

    def _wait(self, state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, CallFailedError) and failure.retry_after_s is not None:
            return min(failure.retry_after_s, _MAX_ADVICE_S) + random.uniform(0.0, 0.25)  # noqa: S311 - jitter is no secret
        longest = min(15.0, 0.5 * 2.0 ** max(0, self._failures - 1))
        return random.uniform(longest / 2, longest)  # noqa: S311 - jitter is no secret

    async def _note(self, state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        self.retries.append(str(failure))


class _Watchdog:
    """Cancels a call whose service has work and sends nothing for too long."""

    def __init__(
        self, call: Any, stall_timeout_s: float, waiting: Callable[[], bool] = lambda: True
    ) -> None:
        self._call = call
        self._stall_timeout_s = stall_timeout_s
        self._waiting = waiting
        self._heard_at = time.monotonic()
        self.fired = False

    def heard(self) -> None:
        """Tells that the service is alive."""
        self._heard_at = time.monotonic()

    async def watch(self) -> None:
        """Returns after it has cancelled the call."""
        while True:
            silent_s = time.monotonic() - self._heard_at
            if not self._waiting():
                self.heard()
            elif silent_s >= self._stall_timeout_s:
                self.fired = True
                self._call.cancel()
                return
            await asyncio.sleep(min(1.0, self._stall_timeout_s / 4))


async def _read_all(
    call: Any,
    send: Callable[[], Awaitable[None]],
    receive: Callable[[Any], Awaitable[None]],
    watchdog: _Watchdog,
) -> None:
    """Sends and receives at once until the service ends the call.

    Raises what sending, receiving or the call raised; the call is over in every case.
    """
    sender = asyncio.ensure_future(send())
    guard = asyncio.ensure_future(watchdog.watch())

    def end_call(task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            call.cancel()  # what could not be sent will never be finished

    sender.add_done_callback(end_call)
    try:
        while True:
            reply = await call.read()
            if reply is grpc.aio.EOF:
                await call.code()  # cancelling before the status is there would change it
                break
            watchdog.heard()
            await receive(reply)
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        # the sender's own failure has ended the call, and says more than the call does
        if sender.done() and not sender.cancelled() and (cause := sender.exception()) is not None:
            raise cause from None
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        if not call.done():
            raise
    finally:
        guard.cancel()
        sender.cancel()
        call.cancel()
        await asyncio.gather(sender, guard, return_exceptions=True)
    code = await call.code()
    if code != grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code,
            await call.initial_metadata(),
            await call.trailing_metadata(),
            await call.details(),
        )


async def write(call: Any, message: Message) -> bool:
    """Sends a message; false once the call is over, whose status then tells why.

    The message goes past grpc.aio's own `write` (1.85): that one replaces the service's status by
    INTERNAL "Internal error from Core" when the service ends the call while a message is on its
    way, so a refusal and its details would be lost.
    """
    try:
        await call.wait_for_connection()
        if call.done():
            return False
        await call._cython_call.send_serialized_message(message.SerializeToString())  # noqa: SLF001 - see above
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, _SEND_ERROR):
        return False
    return True


async def close_writing(call: Any) -> None:
    """Tells the service that no message follows."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, _SEND_ERROR):
        await call.done_writing()


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
        watchdog = _Watchdog(call, self._policy.stall_timeout_s)

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
            await _read_all(call, send, self._receive, watchdog)
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


class TranslateEvents(Protocol):
    """What happens to a translation, in order."""

    async def accepted(
        self,
        request_id: str,
        model: Model,
        device: Device,
        options: dict[str, Any],
        ignored: list[IgnoredOption],
    ) -> None:
        """A call was admitted; once for each call."""
        ...

    async def result(self, item: TranslatedSegment) -> None:
        """The next item's translation."""
        ...

    async def note(self, note: Note) -> None:
        """A warning."""
        ...

    async def done(self, stats: TranslationStats) -> None:
        """A call was completed."""
        ...


@dataclass(slots=True)
class TranslateRequest:
    """What is to be translated, and how."""

    source_language: str
    target_language: str
    items: ItemPool
    model: str = ""
    media_s: float | None = None
    """How long items may keep coming, for the deadline."""
    strict_options: bool = False
    glossary: tuple[GlossaryTerm, ...] = ()


class TranslateClient:
    """A translation service."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel, policy: CallPolicy) -> None:
        self.endpoint = endpoint
        self._stub = translate_pb2_grpc.TranslateServiceStub(channel)
        self._policy = policy

    async def capabilities(self) -> translate_pb2.GetCapabilitiesResponse:
        """What the service is and can do. Raises VoxrouteError."""
        reply: translate_pb2.GetCapabilitiesResponse = await unary(
            self.endpoint, self._stub.GetCapabilities, translate_pb2.GetCapabilitiesRequest()
        )
        return reply

    async def pairs(self) -> list[tuple[str, str]]:
        """The (source, target) pairs that the service offers, also of one that is just restarted.

        Raises VoxrouteError.
        """
        pairs: list[tuple[str, str]] = []

        async def attempt() -> None:
            pairs[:] = await self._pairs()

        await Retry(self.endpoint, self._policy).run(attempt)
        return pairs

    async def _pairs(self) -> list[tuple[str, str]]:
        """As pairs, asked once. Raises CallFailedError."""
        reply: translate_pb2.ListLanguagePairsResponse = await call_unary(
            self.endpoint, self._stub.ListLanguagePairs, translate_pb2.ListLanguagePairsRequest()
        )
        return [(pair.source_language, pair.target_language) for pair in reply.pairs]

    async def translate(self, request: TranslateRequest, events: TranslateEvents) -> None:
        """Translates items of the pool until all are answered, by this service or by others.

        What has no answer when it fails goes back into the pool. Raises VoxrouteError, RefusedError
        where no model is named and the service's own has not the languages.
        """
        retry = Retry(self.endpoint, self._policy)
        calls = 0

        async def attempt() -> None:
            nonlocal calls
            if request.items.finished:
                return  # only `done` was missing
            if not request.model and not calls:
                source, target = request.source_language, request.target_language
                check_pair(await self._pairs(), source, target, self.endpoint, same_language)
            if calls:
                await events.note(
                    Note(
                        source="orchestrator",
                        code=RESUMED,
                        message=f"the connection to {self.endpoint} was lost; translation to"
                        f" {request.target_language} went on",
                    )
                )
            calls += 1
            with request.items.holder() as items:
                call = _TranslationCall(self._stub, self.endpoint, self._policy, request, events)
                await call.run(items, retry)

        await retry.run(attempt)


class _TranslationCall:
    """One call of Translate."""

    def __init__(
        self,
        stub: translate_pb2_grpc.TranslateServiceStub,
        endpoint: Endpoint,
        policy: CallPolicy,
        request: TranslateRequest,
        events: TranslateEvents,
    ) -> None:
        self._stub = stub
        self._endpoint = endpoint
        self._policy = policy
        self._request = request
        self._events = events
        self._request_id = new_request_id()
        self._finishing = False
        self._done = False

    async def run(self, items: ItemHolder, retry: Retry) -> None:
        """Raises CallFailedError where the call did not end well."""
        translate: Any = self._stub.Translate  # as for Transcribe
        call = translate(
            timeout=self._policy.deadline_s(self._request.media_s),
            metadata=(("x-request-id", self._request_id),),
        )
        watchdog = _Watchdog(
            call, self._policy.stall_timeout_s, lambda: items.n_held > 0 or self._finishing
        )

        async def receive(reply: translate_pb2.TranslateResponse) -> None:
            await self._receive(reply, items, retry)

        try:
            await _read_all(call, lambda: self._send(call, items), receive, watchdog)
        except grpc.aio.AioRpcError as error:
            if watchdog.fired:
                silent = f"has sent nothing for {self._policy.stall_timeout_s:.0f} s"
                raise broken_stream(str(self._endpoint), silent) from error
            raise of_rpc_error(error, str(self._endpoint), self._request_id) from error
        if not self._done or items.n_held:
            raise broken_stream(str(self._endpoint), "ended the call before it was done")

    async def _send(self, call: Any, items: ItemHolder) -> None:
        config = translate_pb2.TranslateConfig(
            source_language=self._request.source_language,
            target_language=self._request.target_language,
            model=self._request.model,
            strict_options=self._request.strict_options,
            glossary=to_messages(self._request.glossary),
        )
        if not await write(call, translate_pb2.TranslateRequest(config=config)):
            return
        while (item := await items.take()) is not None:
            if not await write(call, _item(item)):
                return
        self._finishing = True
        if await write(call, translate_pb2.TranslateRequest(finish=common_pb2.Finish())):
            await close_writing(call)

    async def _receive(
        self, reply: translate_pb2.TranslateResponse, items: ItemHolder, retry: Retry
    ) -> None:
        events = self._events
        match reply.WhichOneof("event"):
            case "accepted":
                await events.accepted(
                    reply.accepted.request_id,
                    convert.model(reply.accepted.model),
                    convert.device(reply.accepted.device),
                    convert.options(reply.accepted.config),
                    [convert.ignored(option) for option in reply.accepted.ignored],
                )
                if self._request.glossary and not reply.accepted.config.glossary:
                    await events.note(
                        Note(
                            source=f"translate {self._request.target_language}",
                            code="GLOSSARY_IGNORED",
                            message=f"{self._endpoint} is too old to know glossaries; its"
                            " translations are the model's own",
                        )
                    )
            case "result":
                self._check_asked(reply.result.id, items)
                retry.progress()
                await events.result(convert.translated(reply.result, self._request.glossary))
            case "warning":
                source = f"translate {self._request.target_language}"
                warning = reply.warning
                await events.note(Note(source=source, code=warning.code, message=warning.message))
            case "done":
                self._done = True
                await events.done(convert.translation_stats(reply.done))
            case _:
                pass  # an event of a newer contract

    def _check_asked(self, item_id: str, items: ItemHolder) -> None:
        """Takes a result's item off what is held. Raises VoxrouteError for one nobody asked."""
        if not item_id.isdecimal() or not items.answered(int(item_id)):
            raise VoxrouteError(
                f'{self._endpoint} answered "{item_id}", which was not asked; this is a defect of'
                " it"
            )


def _item(item: TranslateItem) -> translate_pb2.TranslateRequest:
    return translate_pb2.TranslateRequest(
        item=translate_pb2.TranslateItem(
            id=str(item.segment_id), text=item.text, context=item.context
        )
    )


def check_pair(
    pairs: list[tuple[str, str]], source: str, target: str, endpoint: Endpoint, same: Any
) -> None:
    """Raises RefusedError where the service does not offer the pair; `same` compares tags."""
    if any(same(source, s) and same(target, t) for s, t in pairs):
        return
    offered = ", ".join(f"{s}-{t}" for s, t in pairs[:20]) or "none"
    more = f" and {len(pairs) - 20} more" if len(pairs) > 20 else ""  # noqa: PLR2004 - as cut above
    raise RefusedError(
        f"{endpoint} has no model for {source} to {target}; it offers {offered}{more}. Name a"
        " model with --translate-model, or another service with --translate-endpoint"
    )
