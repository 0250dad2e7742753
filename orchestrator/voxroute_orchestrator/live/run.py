"""One run: a source's sound through captions to files and to who watches, whatever breaks.

The sound is kept until it is told (`tape.py`). Where a service goes away, the next call begins
there, with times that go on.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.live.v1 import live_pb2
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.messages import STATUSES, duration, seconds
from voxroute_orchestrator.errors import NoAudioError, ServiceUnavailableError
from voxroute_orchestrator.glossary import hotwords
from voxroute_orchestrator.live.captions import Captions
from voxroute_orchestrator.live.files import SubtitleFiles
from voxroute_orchestrator.live.services import found
from voxroute_orchestrator.live.tape import Source, Tape
from voxroute_orchestrator.reporter import clock
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.transcript import TranslatedSegment
from voxroute_serving.audio.media import SAMPLE_RATE

_STOPPING = "SERVICE_STOPPING"  # the code of a speech service's warning
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0  # before a service that is away is tried again


class Display(Protocol):
    """Where a person sees what happens."""

    def take(self, event: live_pb2.CaptionResponse) -> None:
        """Shows a message of the stream; utterances and sentences count on over calls."""
        ...

    def say(self, text: str) -> None:
        """Tells something."""
        ...

    def warn(self, text: str) -> None:
        """Tells something that a person should look at."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks of a run."""

    spec: JobSpec
    update_interval_s: float | None = None
    """None for the service's own; so the next one."""
    silence_s: float | None = None
    refine: bool = False
    tentative: bool = False
    only_asr_endpoints: bool = False
    only_translate_endpoints: bool = False

    def config(self, start_s: float) -> asr_pb2.LiveConfig:
        """What the speech service is asked for sound that begins there."""
        spec = self.spec
        config = asr_pb2.LiveConfig(
            audio=asr_pb2.AudioFormat(
                pcm=asr_pb2.PcmFormat(sample_rate_hz=SAMPLE_RATE, channels=1),
                start_offset=duration(start_s),
            ),
            language=spec.source or "",
            allowed_languages=spec.allowed_languages,
            strict_options=spec.strict,
            refine=self.refine,
            tentative=self.tentative,
            decoding=asr_pb2.DecodingOptions(
                initial_prompt=spec.prompt, hotwords=hotwords(spec.glossary)
            ),
        )
        if self.update_interval_s is not None:
            config.update_interval.CopyFrom(duration(self.update_interval_s))
        if self.silence_s is not None:
            config.endpoint.silence.CopyFrom(duration(self.silence_s))
        return config


_OF_UTTERANCES = (
    asr_pb2.SpeechStarted,
    asr_pb2.Committed,
    asr_pb2.Tentative,
    asr_pb2.SpeechStopped,
    asr_pb2.Utterance,
)


@dataclass(slots=True)
class _Numbers:
    """Numbers of utterances and sentences that count on from call to call."""

    utterances: int = 0
    sentences: int = 0
    _utterances_before: int = 0
    _sentences_before: int = 0

    def call_begins(self) -> None:
        """Lets those of the next call follow."""
        self._utterances_before, self._sentences_before = self.utterances, self.sentences

    def count(self, event: live_pb2.CaptionResponse) -> None:
        """Makes the numbers of a call's message those of the run."""
        if event.HasField("speech"):
            kind = event.speech.WhichOneof("event")
            content: object = getattr(event.speech, kind) if kind else None
            if isinstance(content, _OF_UTTERANCES):
                content.utterance += self._utterances_before
                self.utterances = max(self.utterances, content.utterance)
        elif event.HasField("sentence"):
            event.sentence.utterance += self._utterances_before
            event.sentence.sentence += self._sentences_before
            self.sentences = max(self.sentences, event.sentence.sentence)
        elif event.HasField("translated"):
            event.translated.sentence += self._sentences_before


@dataclass(eq=False)
class LiveRun:
    """Captions of a source, to its end or to `finish`."""

    source: Source
    asked: Asked
    settings: Settings
    display: Display
    files: SubtitleFiles | None
    begun: bool = field(default=False, init=False)
    """Whether a service has listened, so that there is something to finish."""

    def __post_init__(self) -> None:
        self._tape = Tape(self.source, self._missed)
        self._recording: asyncio.Task[None] | None = None
        self._finishing = asyncio.Event()
        self._listening = False
        """Whether a service has accepted the call of now."""
        self._numbers = _Numbers()
        self._language = ""
        self._open: dict[int, asr_pb2.Utterance] = {}  # committed text that is not closed
        self._untranslated: dict[int, tuple[live_pb2.Sentence, set[str]]] = {}

    def finish(self) -> None:
        """Ends the source; what was said is still told."""
        self._finishing.set()
        self.source.stop()

    async def run(self) -> None:
        """Returns once all is told. Raises VoxrouteError."""
        await self.source.open()
        spec = self.asked.spec
        try:
            if self.files is None:
                await self._calls()
            else:
                with self.files.opened(spec.source, spec.target_languages):
                    await self._calls()
        finally:
            if self._recording is not None:
                self._recording.cancel()
                await asyncio.gather(self._recording, return_exceptions=True)

    async def _calls(self) -> None:
        """Calls until one has come to the end. Raises VoxrouteError where patience ends."""
        away_since: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            self._listening = False
            self._numbers.call_begins()
            try:
                await self._call()
            except CallFailedError as failure:
                if not failure.retryable:
                    raise failure.error from failure
                error, advised_s = failure.error, failure.retry_after_s
            except ServiceUnavailableError as unavailable:
                if not self.begun:
                    raise
                error, advised_s = unavailable, None
            else:
                if self._tape.failure is not None:
                    raise self._tape.failure
                return
            now = time.monotonic()
            if self._listening or away_since is None:
                away_since, pause_s = now, _FIRST_PAUSE_S
                self.display.warn(f"{time.strftime('%X')}: {error}; it is tried again")
            pause_s = advised_s or pause_s
            if self._finishing.is_set() or now - away_since + pause_s > self.settings.retry_s:
                self._tape.give_up()
                raise error
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._finishing.wait()
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    async def _call(self) -> None:
        """One call, to the end of the source. Raises CallFailedError, VoxrouteError."""
        asked, display = self.asked, self.display
        async with found(
            self.settings,
            asked.spec,
            display.say,
            display.warn,
            only_asr_endpoints=asked.only_asr_endpoints,
            only_translate_endpoints=asked.only_translate_endpoints,
        ) as connected:
            if self._recording is None:
                self._recording = asyncio.ensure_future(self._tape.record())
            if not await self._tape.begun():
                if self._tape.failure is None and not self._finishing.is_set():
                    raise NoAudioError("no sound has come from the source")
                return
            start_s = self._tape.go_back()
            if self.begun:
                display.say(
                    f"{time.strftime('%X')}: goes on at {clock(start_s)}; a word may be cut"
                )
            captions = Captions(
                connected.speech,
                connected.translators,
                asked.config(start_s),
                asked.spec.target_languages,
                self._take,
                asked.spec.glossary,
            )
            try:
                await captions.run(self._messages())
            finally:
                self._close_open()

    async def _messages(self) -> AsyncGenerator[asr_pb2.TranscribeLiveRequest]:
        while piece := await self._tape.read():
            yield asr_pb2.TranscribeLiveRequest(audio=piece)
        yield asr_pb2.TranscribeLiveRequest(finish=common_pb2.Finish())

    async def _take(self, event: live_pb2.CaptionResponse) -> None:
        if event.speech.warning.code == _STOPPING:
            return  # the call ends with the same sentence
        self._numbers.count(event)
        match event.WhichOneof("event"):
            case "speech":
                self._take_speech(event.speech)
            case "sentence" if self.files is not None and self.asked.spec.target_languages:
                targets = set(self.asked.spec.target_languages)
                self._untranslated[event.sentence.sentence] = event.sentence, targets
            case "translated" if self.files is not None:
                self._take_translated(event.translated, self.files)
            case _:
                pass
        self.display.take(event)

    def _take_speech(self, reply: asr_pb2.TranscribeLiveResponse) -> None:
        match reply.WhichOneof("event"):
            case "accepted":
                if not self.begun:
                    self.display.say("listening; Ctrl-C ends it")
                self.begun = self._listening = True
            case "language_detected" if reply.language_detected.languages:
                self._language = reply.language_detected.languages[0].language
            case "progress":
                self._tape.settle(seconds(reply.progress.settled))
            case "committed":
                self._keep(reply.committed)
            case "utterance":
                self._open.pop(reply.utterance.utterance, None)
                self._tape.settle(seconds(reply.utterance.end))
                if self.files is not None:
                    self.files.utterance(reply.utterance)
            case _:
                pass

    def _keep(self, committed: asr_pb2.Committed) -> None:
        """Keeps text that a break would leave without its utterance."""
        kept = self._open.setdefault(
            committed.utterance, asr_pb2.Utterance(utterance=committed.utterance)
        )
        if not kept.segments:
            kept.segments.add()
        whole = kept.segments[0]
        whole.text += committed.text
        whole.words.extend(committed.words)
        if committed.words:
            self._tape.settle(seconds(committed.words[-1].end))

    def _close_open(self) -> None:
        """Closes what a call that ended early has left open: what is settled is in files too."""
        left, self._open = self._open, {}
        for _, utterance in sorted(left.items()):
            (whole,) = utterance.segments
            whole.text = whole.text.strip()
            utterance.language = self._language
            if whole.words:
                for message in (whole, utterance):
                    message.start.CopyFrom(whole.words[0].start)
                    message.end.CopyFrom(whole.words[-1].end)
            if self.files is not None:
                self.files.utterance(utterance)
            reply = asr_pb2.TranscribeLiveResponse(utterance=utterance)
            self.display.take(live_pb2.CaptionResponse(speech=reply))
        self._untranslated.clear()

    def _take_translated(self, translated: live_pb2.Translated, files: SubtitleFiles) -> None:
        sentence, left = self._untranslated[translated.sentence]
        left.discard(translated.target_language)
        if not left:
            del self._untranslated[translated.sentence]
        text = TranslatedSegment(
            segment_id=translated.sentence,
            text=translated.text,
            status=STATUSES.get(translated.status, "SUSPECT"),
            detail=translated.detail,
        )
        files.translated(translated.target_language, sentence, text)

    def _missed(self, from_s: float, length_s: float) -> None:
        self.display.warn(
            f"{length_s:.1f} s of sound from {clock(from_s)} on could not be sent; what was said"
            " there is missing"
        )
