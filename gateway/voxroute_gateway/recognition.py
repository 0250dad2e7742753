"""One recording through the speech service, however often a call has to be made for it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.upstream import Upstream
from voxroute_orchestrator.client.asr import AsrClient, AsrRequest, Audio
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.messages import Accepted, AsrEvent, Detected, FinishedWindow
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.transcript import (
    AsrStats,
    LanguageProbability,
    Note,
    Segment,
    Untranscribed,
)

IGNORED = "OPTION_IGNORED"
"""The code of an option that was asked for and is not honoured."""


async def recognise(
    upstream: Upstream, audio: Audio, options: asr_pb2.TranscribeConfig
) -> AsyncGenerator[AsrEvent]:
    """What happens until all is transcribed: services that are full or away are waited for.

    Raises RequestError, VoxrouteError or CallFailedError.
    """
    config = asr_pb2.TranscribeConfig()
    config.CopyFrom(options)
    done_s = 0.0
    with upstream.speech_visit() as visit:
        while True:
            try:
                async with visit.service() as speech:
                    config.model = await model_of(speech, options.model)
                    request = AsrRequest(audio, done_s, config)
                    async with contextlib.aclosing(speech.transcribe(request)) as events:
                        async for event in events:
                            visit.served()
                            if isinstance(event, FinishedWindow):
                                done_s = event.resume_from_s
                            elif isinstance(event, Detected):
                                # a call that goes on must not detect another one
                                config.language = event.languages[0].language
                            yield event
            except (CallFailedError, VoxrouteError) as error:
                failure = call_failure(error)
            else:
                return
            await visit.wait(failure)


async def languages_of(upstream: Upstream, audio: Audio) -> list[LanguageProbability]:
    """The likely languages of a recording, the most likely one first.

    Waits, and raises, as `recognise`.
    """
    with upstream.speech_visit() as visit:
        while True:
            try:
                async with visit.service() as speech:
                    found = await speech.detect_language(audio)
                    visit.served()
                    return found
            except (CallFailedError, VoxrouteError) as error:
                failure = call_failure(error)
            await visit.wait(failure)


def call_failure(error: CallFailedError | VoxrouteError) -> CallFailedError:
    """The call's failure behind an error. Raises the error where there is none."""
    if isinstance(error, CallFailedError):
        return error
    if isinstance(error.__cause__, CallFailedError):
        return error.__cause__
    raise error


async def model_of(speech: AsrClient, asked: str) -> str:
    """The model that is named, where the service has it; else its own."""
    if not asked:
        return speech.model
    known = [one.model.id for one in (await speech.capabilities()).models]
    return asked if asked in known else speech.model


@dataclass(slots=True)
class Heard:
    """What is known of a recording; all of it once the call has ended."""

    model: str = ""
    languages: list[LanguageProbability] = field(default_factory=list[LanguageProbability])
    segments: list[Segment] = field(default_factory=list[Segment])
    untranscribed: list[Untranscribed] = field(default_factory=list[Untranscribed])
    warnings: dict[str, str] = field(default_factory=dict[str, str])
    """What a person should know, a sentence by its code."""
    duration_s: float = 0.0

    @property
    def language(self) -> str:
        """The language that is spoken, "" where nobody spoke and nobody said."""
        if self.languages:
            return self.languages[0].language
        return self.segments[0].language if self.segments else ""

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(segment.text for segment in self.segments)

    def take(self, event: AsrEvent) -> list[Segment]:
        """Adds what an event tells; the segments that are new."""
        match event:
            case Accepted():
                self.model = event.model.id
                for option in event.ignored:
                    if option.was_asked_for:
                        self.warnings[IGNORED] = f"{option.field}: {option.reason}"
            case Detected():
                self.languages = event.languages
            case FinishedWindow():
                first = len(self.segments) + 1
                new = [
                    segment.model_copy(update={"id": number})
                    for number, segment in enumerate(event.segments, first)
                ]
                self.segments += new
                self.untranscribed += event.untranscribed
                return new
            case Note():
                self.warnings[event.code] = event.message
            case AsrStats():
                self.duration_s = max(event.audio_s, self.duration_s)
            case _:
                pass
        return []


class Call:
    """A recognition that runs while its audio still comes in."""

    def __init__(self, events: AsyncGenerator[AsrEvent]) -> None:
        self.heard = Heard()
        self._events: asyncio.Queue[AsrEvent | None] = asyncio.Queue()
        self._task = asyncio.ensure_future(self._run(events))

    async def _run(self, events: AsyncGenerator[AsrEvent]) -> None:
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    self._events.put_nowait(event)
        finally:
            self._events.put_nowait(None)

    async def accepted(self) -> None:
        """Returns once a service has taken the call. Raises what ended it before."""
        while not self.heard.model:
            event = await self._events.get()
            if event is None:
                return await self._task
            self.heard.take(event)
        return None

    async def segments(self) -> AsyncGenerator[list[Segment]]:
        """The segments, by the windows that are finished; `heard` has them too.

        Raises what ended the call.
        """
        while (event := await self._events.get()) is not None:
            new = self.heard.take(event)
            if isinstance(event, FinishedWindow):
                yield new
        await self._task

    async def finish(self) -> Heard:
        """All of it. Raises what ended the call."""
        async for _ in self.segments():
            pass
        return self.heard

    async def stop(self) -> None:
        """Ends the call, at the service too."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
