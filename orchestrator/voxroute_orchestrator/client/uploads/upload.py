"""A recording sent to a service whose answer counts as a whole: aligned words, or speakers.

Unlike a transcription such a call is not resumed. One that breaks is made again from its start,
with its audio read again, and what the broken one answered is forgotten.
"""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import new_request_id
from voxroute_orchestrator.client.retry import Retry
from voxroute_orchestrator.client.stream import Exchange
from voxroute_orchestrator.errors import NoAudioError
from voxroute_orchestrator.media import PcmReader
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.transcript import Note
from voxroute_serving.audio.media import SAMPLE_RATE

Tell = Callable[[Note], Awaitable[None]]
"""Takes a warning for the result."""


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


class Answers(Protocol):
    """What one attempt was answered, and the warnings in it."""

    notes: list[Note]

    def take(self, reply: Any) -> None:
        """Takes an answer."""
        ...


A = TypeVar("A", bound=Answers)


async def answered(
    service: AsrClient, recording: Recording, upload: Upload, empty: Callable[[], A], tell: Tell
) -> A:
    """Makes a call until it goes well; the answers of that attempt, which begins with none.

    `tell` gets what the media reader had to note, and the service's warnings. Raises VoxrouteError.
    """

    async def attempt() -> tuple[list[Note], A]:
        answers = empty()
        reader = recording.open_audio()
        try:
            first = await reading(reader.watch, reader.read)
            if not first:
                raise NoAudioError("the file holds no audio that can be decoded")
            audio = _Audio(reader, first)
            await _call(service, upload, answers.take, audio, recording.duration_s)
        finally:
            reader.close()
        return reader.notes, answers

    notes, answers = await Retry(service.endpoint, service.policy).run(attempt)
    for note in (*notes, *answers.notes):
        await tell(note)
    return answers


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
    service: AsrClient,
    upload: Upload,
    take: Callable[[Any], None],
    audio: _Audio,
    length_s: float | None,
) -> None:
    """One attempt. Raises CallFailedError where it did not end well."""
    exchange = Exchange(
        upload.method,
        audio.messages(upload),
        lambda reply: reply.HasField("done"),
        service=str(service.endpoint),
        policy=service.policy,
        length_s=length_s,
        request_id=new_request_id(),
        waits=lambda: not upload.answers_at_the_end,
    )
    async with contextlib.aclosing(exchange.replies()) as replies:
        async for reply in replies:
            take(reply)
