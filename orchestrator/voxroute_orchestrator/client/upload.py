"""A recording sent to a service whose answer counts as a whole: aligned words, or speakers.

Unlike a transcription such a call is not resumed. One that breaks is made again from its start,
with its audio read again, and what the broken one answered is forgotten.
"""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, new_request_id
from voxroute_orchestrator.client.failures import broken_stream, of_rpc_error
from voxroute_orchestrator.client.retry import Retry
from voxroute_orchestrator.client.stream import Watchdog, close_writing, read_all, write
from voxroute_orchestrator.errors import NoAudioError
from voxroute_orchestrator.media import PcmReader
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.transcript import Note
from voxroute_serving.audio.media import SAMPLE_RATE

Tell = Callable[[Note], Awaitable[None]]
"""Takes a warning for the result."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where a call goes, and how patient it is."""

    endpoint: Endpoint
    channel: grpc.aio.Channel
    policy: CallPolicy


@dataclass(frozen=True, slots=True)
class Recording:
    """The audio of a call: the media's length on its timeline, and how to read it all."""

    duration_s: float | None
    open_audio: Callable[[], PcmReader]


@dataclass(frozen=True, slots=True)
class Upload:
    """What a method is sent."""

    method: Any
    """The stub's."""
    opening: Callable[[asr_pb2.AudioFormat], Iterable[Message]]
    """The messages before the audio, given its format."""
    audio: Callable[[bytes], Message]
    finish: Message
    answers_at_the_end: bool = False
    """Whether the service is silent while it works, so that silence tells nothing."""


async def exchange(
    service: Service,
    recording: Recording,
    upload: Upload,
    begin: Callable[[], Callable[[Any], bool]],
) -> list[Note]:
    """Makes a call until it goes well; what the media reader had to note.

    `begin` gives, for each attempt, what takes its answers and says with which the call is done.
    Raises VoxrouteError.
    """
    notes: list[Note] = []

    async def attempt() -> None:
        reader = recording.open_audio()
        try:
            first = await reading(reader.watch, reader.read)
            if not first:
                raise NoAudioError("the file holds no audio that can be decoded")
            deadline_s = service.policy.deadline_s(recording.duration_s)
            await _call(service, upload, begin(), _Audio(reader, first), deadline_s)
        finally:
            reader.close()
        notes[:] = reader.notes

    await Retry(service.endpoint, service.policy).run(attempt)
    return notes


@dataclass(frozen=True, slots=True)
class _Audio:
    """A reader that has read its first chunk, so that the media time of its start is known."""

    reader: PcmReader
    first: bytes

    async def messages(self, upload: Upload) -> AsyncGenerator[Message]:
        """All that the service is sent."""
        pcm = asr_pb2.PcmFormat(sample_rate_hz=SAMPLE_RATE, channels=1)
        start = convert.duration(self.reader.first_s)
        for message in upload.opening(asr_pb2.AudioFormat(pcm=pcm, start_offset=start)):
            yield message
        chunk = self.first
        while chunk:
            yield upload.audio(chunk)
            chunk = await reading(self.reader.watch, self.reader.read)
        yield upload.finish


async def _call(
    service: Service,
    upload: Upload,
    take: Callable[[Any], bool],
    audio: _Audio,
    deadline_s: float | None,
) -> None:
    """One attempt. Raises CallFailedError where it did not end well."""
    name, request_id = str(service.endpoint), new_request_id()
    call = upload.method(timeout=deadline_s, metadata=(("x-request-id", request_id),))
    stall_s = service.policy.stall_timeout_s
    watchdog = Watchdog(call, stall_s, lambda: not upload.answers_at_the_end)
    done = False

    async def send() -> None:
        async with contextlib.aclosing(audio.messages(upload)) as messages:
            async for message in messages:
                if not await write(call, message):
                    return
        await close_writing(call)

    async def receive(reply: Any) -> None:
        nonlocal done
        done = take(reply) or done

    try:
        await read_all(call, send, receive, watchdog)
    except grpc.aio.AioRpcError as error:
        if watchdog.fired:
            raise broken_stream(name, f"has sent nothing for {stall_s:.0f} s") from error
        raise of_rpc_error(error, name, request_id) from error
    if not done:
        raise broken_stream(name, "ended the call before it was done")


def warning(source: str, message: common_pb2.Warning) -> Note:
    """A service's warning."""
    return Note(source=source, code=message.code, message=message.message)
