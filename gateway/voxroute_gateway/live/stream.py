"""What one client says, through as many calls of a service as it takes."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import grpc.aio

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_gateway.errors import RequestError
from voxroute_gateway.recognition import call_failure, model_of
from voxroute_gateway.upstream import SpeechVisit, Upstream
from voxroute_orchestrator.client import live
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.failures import CallFailedError, details_of
from voxroute_orchestrator.client.messages import duration, seconds
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_serving.telemetry.logs import get_logger

_PIECE_S = 0.2  # of a message's audio, as the contract likes it
_WAITING_S = 30.0  # of audio that no service has taken; then the client is not read
_HELD_S = 60.0  # of audio whose text is still to come; longer than the longest utterance
_COMMAND_BYTES = 256  # what a message without audio counts, so that those are bounded too
_PATIENCE_S = 10.0  # a person who speaks does not wait longer for a service
_CHANNEL_BYTES = 2
_G711_RATE = 8_000
_IDLE = "IDLE_STREAM"  # the reason of a service that has been sent nothing for long

_log = get_logger(__name__)
Reply = asr_pb2.TranscribeLiveResponse


@dataclass(frozen=True, slots=True)
class _Piece:
    """A message, and the time of the stream at its end."""

    request: asr_pb2.TranscribeLiveRequest
    start_s: float
    end_s: float

    @property
    def size(self) -> int:
        return len(self.request.audio) or _COMMAND_BYTES

    @property
    def is_last(self) -> bool:
        return self.request.HasField("finish")


def _sizes(audio: asr_pb2.AudioFormat) -> tuple[int, int]:
    """How many bytes a sample of all channels has, and how many a second has."""
    if audio.HasField("g711"):
        return 1, _G711_RATE
    sample = audio.pcm.channels * _CHANNEL_BYTES
    return sample, audio.pcm.sample_rate_hz * sample


class LiveStream:
    """A client's audio, and what is told about it.

    A call begins with the first audio. Where it breaks while nobody's words are half told, another
    one goes on with the audio that has no text yet; numbers and times go on too.
    """

    def __init__(
        self, upstream: Upstream, config: asr_pb2.LiveConfig, start_s: float = 0.0
    ) -> None:
        """`config` says how the audio is to be read; its first sample is at `start_s`."""
        self.position_s = start_s
        """The time up to which audio has come from the client."""
        self._upstream = upstream
        self._config = config
        self._sample_bytes, self._rate = _sizes(config.audio)
        self._rest = b""  # of a sample that the client has cut
        self._waiting: deque[_Piece] = deque()
        self._held: deque[_Piece] = deque()  # sent, and needed again if the call breaks
        self._held_bytes = 0
        self._n_waiting = 0  # bytes
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._open: set[int] = set()  # utterances that are half told
        self._told = 0  # the highest number of an utterance
        self._before = 0  # utterances of earlier calls
        self._gap = False  # in what is held
        self._was_idle = False  # the client, so that the last call has ended
        self._failing_since: float | None = None

    async def audio(self, samples: bytes) -> None:
        """The next samples, cut anywhere; returns once there is room for more."""
        # a later call may begin with any piece, so each begins with a whole sample
        whole = self._rest + samples
        n_bytes = len(whole) - len(whole) % self._sample_bytes
        whole, self._rest = whole[:n_bytes], whole[n_bytes:]
        size = int(self._rate * _PIECE_S) // self._sample_bytes * self._sample_bytes
        for begin in range(0, len(whole), size):
            piece = whole[begin : begin + size]
            until_s = self.position_s + len(piece) / self._rate
            await self._put(asr_pb2.TranscribeLiveRequest(audio=piece), until_s)

    async def end_utterance(self) -> None:
        """Ends the utterance here."""
        await self._put(asr_pb2.TranscribeLiveRequest(end_utterance=asr_pb2.EndUtterance()))

    async def drop_utterance(self) -> None:
        """Drops what came since the last utterance."""
        await self._put(asr_pb2.TranscribeLiveRequest(drop_utterance=asr_pb2.DropUtterance()))

    async def finish(self) -> None:
        """Tells that nothing follows; `events` end once all is told."""
        await self._put(asr_pb2.TranscribeLiveRequest(finish=common_pb2.Finish()))

    async def _put(
        self, request: asr_pb2.TranscribeLiveRequest, until_s: float | None = None
    ) -> None:
        while self._n_waiting > _WAITING_S * self._rate:
            self._taken.clear()
            await self._taken.wait()
        end_s = self.position_s if until_s is None else until_s
        piece = _Piece(request, self.position_s, end_s)
        self.position_s = end_s
        self._waiting.append(piece)
        self._n_waiting += piece.size
        self._changed.set()

    async def events(self) -> AsyncGenerator[Reply]:
        """What services tell, until all is told.

        Raises RequestError, VoxrouteError or CallFailedError.
        """
        with self._upstream.speech_visit() as visit:
            while await self._has_work():
                try:
                    async with contextlib.AsyncExitStack() as stack:
                        speech = await self._service(visit, stack)
                        replies = self._replies(speech)
                        stack.push_async_callback(replies.aclose)
                        async for reply in replies:
                            if reply.HasField("accepted"):
                                visit.served()
                            self._note(reply)
                            yield reply
                except (CallFailedError, VoxrouteError) as error:
                    failure = call_failure(error)
                else:
                    return
                await self._again(visit, failure)

    async def _service(self, visit: SpeechVisit, stack: contextlib.AsyncExitStack) -> AsrClient:
        """A service, for as long as the stack. Raises RequestError, VoxrouteError."""
        # one that is configured is there or is not; one of this host may have to be started
        is_elsewhere = bool(self._upstream.settings.asr_endpoints)
        try:
            async with asyncio.timeout(_PATIENCE_S if is_elsewhere else None):
                return await stack.enter_async_context(visit.service())
        except TimeoutError:
            raise RequestError(503, "no service can take the request now", "unavailable") from None

    async def _has_work(self) -> bool:
        """Waits for something that is worth a call; false where the end comes first."""
        while not self._waiting and (not self._held or self._was_idle):
            self._changed.clear()
            await self._changed.wait()
        return bool(self._held) or not self._waiting[0].is_last

    async def _again(self, visit: SpeechVisit, failure: CallFailedError) -> None:
        """Returns when another call may be made. Raises the failure where it may not."""
        cause = failure.__cause__
        reason = details_of(cause).reason if isinstance(cause, grpc.aio.AioRpcError) else ""
        self._was_idle = reason == _IDLE and not self._open
        if self._was_idle:
            return
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        left_s = self._failing_since + _PATIENCE_S - now
        if self._open or self._gap or left_s <= 0:
            raise failure
        try:
            async with asyncio.timeout(left_s):
                await visit.wait(failure)
        except TimeoutError:
            raise failure from failure.__cause__
        _log.info("a live call goes on with another one", why=str(failure))

    async def _replies(self, speech: AsrClient) -> AsyncGenerator[Reply]:
        config = asr_pb2.LiveConfig()
        config.CopyFrom(self._config)
        config.model = await model_of(speech, config.model)
        first = self._held[0] if self._held else self._waiting[0]
        config.audio.start_offset.CopyFrom(duration(first.start_s))
        self._before = self._told
        async with live.call(speech, config) as call:
            sender = asyncio.ensure_future(self._send(call))
            try:
                async with contextlib.aclosing(call.replies()) as replies:
                    async for reply in replies:
                        yield reply
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, call: live.LiveCall) -> None:
        for piece in tuple(self._held):
            if not await _sent(call, piece):
                return
        while not (self._held and self._held[-1].is_last):
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            piece = self._waiting.popleft()
            self._hold(piece)
            sent = await _sent(call, piece)
            self._n_waiting -= piece.size
            self._taken.set()
            if not sent:
                return

    def _hold(self, piece: _Piece) -> None:
        self._held.append(piece)
        self._held_bytes += piece.size
        while self._held_bytes > _HELD_S * self._rate:
            self._held_bytes -= self._held.popleft().size
            self._gap = True

    def _note(self, reply: Reply) -> None:
        """Follows what is told, and makes the numbers of a later call go on."""
        match reply.WhichOneof("event"):
            case "speech_started" | "committed" as name:
                told = getattr(reply, name)
                told.utterance += self._before
                self._open.add(told.utterance)
                self._told = max(self._told, told.utterance)
            case "tentative" | "speech_stopped" as name:
                getattr(reply, name).utterance += self._before
            case "utterance":
                reply.utterance.utterance += self._before
                self._open.discard(reply.utterance.utterance)
                self._told = max(self._told, reply.utterance.utterance)
                self._settled(seconds(reply.utterance.end))
            case "progress":
                self._settled(seconds(reply.progress.settled))
            case _:
                pass

    def _settled(self, until_s: float) -> None:
        """Forgets what nothing more will be told of."""
        while self._held and self._held[0].end_s <= until_s and not self._held[0].is_last:
            self._held_bytes -= self._held.popleft().size
            self._gap, self._failing_since = False, None


async def _sent(call: live.LiveCall, piece: _Piece) -> bool:
    return await (call.finish() if piece.is_last else call.send(piece.request))
