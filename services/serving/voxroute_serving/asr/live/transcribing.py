"""A live stream, from its first sample to its last utterance."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from google.protobuf.duration_pb2 import Duration

from voxroute.asr.v1 import asr_pb2
from voxroute_serving import messages as common_messages
from voxroute_serving.asr.answers import PROGRESS_S, Stats, Warnings, device_info
from voxroute_serving.asr.asked import (
    effective_options,
    languages_of,
    likeliest,
    recogniser,
    refuse_ignored,
)
from voxroute_serving.asr.engine import (
    DecodingOptions,
    EngineDescription,
    WindowResult,
    Word,
)
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.asr.live.agreement import text_of
from voxroute_serving.asr.live.hearing import EndReason, Hearing, News, Spoken
from voxroute_serving.asr.live.messages import (
    LiveOptions,
    accepted_config,
    warned,
    word_messages,
)
from voxroute_serving.asr.live.utterance import Arrivals, Line, Missing, Update, UtteranceText
from voxroute_serving.asr.messages import (
    DEFAULT_TOP_LANGUAGES,
    SegmentNumbering,
    ignored_messages,
    languages_message,
    untranscribed,
)
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.asr.queues import DeviceQueues
from voxroute_serving.asr.recogniser import Placed, Recogniser
from voxroute_serving.asr.text.doubt import among
from voxroute_serving.audio.pcm import LiveSamples
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.vad import Probabilities, SpeechProbabilities
from voxroute_serving.audio.windows import Window
from voxroute_serving.calls.requests import Requests, Send, open_group
from voxroute_serving.device.batcher import Timed
from voxroute_serving.errors import InvalidInputError, NotReadyError
from voxroute_serving.telemetry.request_ids import request_id

_LANGUAGE_S = 1.5  # s of voice that tell a language
_PIECE_S = 0.2  # s of sound that are heard at once; a client may send more in one message
_MOST_AHEAD_S = 45.0  # s of sound that wait for the device, before the client has to wait
_MOST_REFINED = 4  # utterances that wait to be decoded once more
_RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class LiveTranscription:
    """What TranscribeLive does once a stream is admitted."""

    queues: DeviceQueues
    metrics: AsrMetrics
    about: Callable[[], EngineDescription]
    _leaving: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def leave(self) -> None:
        """Ends all streams: their utterances are closed, their clients are told."""
        self._leaving.set()

    async def transcribe(
        self,
        requests: Requests[asr_pb2.LiveConfig],
        options: LiveOptions,
        model: FallbackModel,
        send: Send[asr_pb2.TranscribeLiveResponse],
    ) -> None:
        """One admitted stream. Raises InvalidInputError, NotReadyError, what the device raises."""
        features = self.about().features
        languages = languages_of(options, model, features)
        effective, ignored = effective_options(options, model, languages or model.languages[:1])
        if options.strict:
            refuse_ignored(ignored)
        config = accepted_config(options, effective, model.ref.id, languages)
        accepted = asr_pb2.LiveAccepted(
            request_id=request_id(),
            model=common_messages.model_ref(model.ref),
            device=common_messages.device(device_info(self.about(), model)),
            config=config,
            ignored=ignored_messages(ignored),
        )
        await send(asr_pb2.TranscribeLiveResponse(accepted=accepted))
        again = recogniser(
            options,
            model,
            languages,
            features=features,
            queues=self.queues,
            on_redecode=self.metrics.observe_redecode,
        )
        stream = _Stream(
            queues=self.queues,
            metrics=self.metrics,
            options=options,
            model=model,
            languages=languages,
            again=again,
            send=send,
        )
        self.metrics.live_streams.inc()
        try:
            await stream.run(requests, self._leaving)
        finally:
            self.metrics.live_streams.dec()


@dataclass(eq=False, kw_only=True)
class _Stream:
    """One stream: a task reads and hears, another writes down utterance by utterance."""

    queues: DeviceQueues
    metrics: AsrMetrics
    options: LiveOptions
    model: FallbackModel
    languages: tuple[str, ...]
    again: Recogniser
    send: Send[asr_pb2.TranscribeLiveResponse]

    def __post_init__(self) -> None:
        options, languages = self.options, self.languages
        self._samples = LiveSamples(options.audio)
        self._silero = SpeechProbabilities()
        self._hearing = Hearing(options.vad, options.endpoint)
        self._arrivals = Arrivals()
        self._begun: deque[Spoken] = deque()  # and not closed
        self._language = languages[0] if len(languages) == 1 else ""
        self._has_several = len(languages) > 1
        self._has_ended = False
        self._changed = asyncio.Event()  # something was heard
        self._room = asyncio.Event()  # something was written down
        self._settled_to = 0  # samples up to which it is told what was said
        self._told_at = 0.0  # when progress was
        self._numbering = SegmentNumbering(end_s=options.audio.start_s)
        self._warnings = Warnings(self.model)
        self._stats = Stats()
        self._utterances = self._updates = 0
        self._is_behind = False  # with refining

    @property
    def _tape_end_s(self) -> float:
        return self._hearing.tape.end / SAMPLE_RATE

    async def run(self, requests: Requests[asr_pb2.LiveConfig], leaving: asyncio.Event) -> None:
        """All of it. Raises what went wrong with the client's messages, or on the device."""
        async with open_group() as group:
            writing = group.create_task(self._write(group))
            left = await self._read(requests, leaving)
            await self._news(self._hearing.end(EndReason.FINISH))
            self._has_ended = True
            self._changed.set()
            await writing
        if left:
            sentence = "the service shuts down; connect again, or to another endpoint"
            await self.send(warned("SERVICE_STOPPING", sentence))
            raise NotReadyError(sentence, retry_after_s=_RETRY_S)
        done = asr_pb2.LiveDone(
            stats=self._stats.message(self._tape_end_s),
            utterances=self._utterances,
            updates=self._updates,
        )
        await self.send(asr_pb2.TranscribeLiveResponse(done=done))

    # --- what is heard

    async def _read(self, requests: Requests[asr_pb2.LiveConfig], leaving: asyncio.Event) -> bool:
        """Takes the client's messages up to the last; whether the service leaves before it."""
        reading = asyncio.ensure_future(self._messages(requests))
        stop = asyncio.ensure_future(leaving.wait())
        try:
            await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
            return not reading.done()
        finally:
            stop.cancel()
            reading.cancel()
            await asyncio.wait({reading})

    async def _messages(self, requests: Requests[asr_pb2.LiveConfig]) -> None:
        """Takes the client's messages up to the last. Raises InvalidInputError."""
        while True:
            kind, content = await requests.next()
            match kind:
                case "audio":
                    await self._hear(content)
                case "end_utterance":
                    await self._news(self._hearing.end(EndReason.CLIENT))
                case "drop_utterance":
                    await self._news(self._hearing.end(EndReason.DROPPED))
                case "finish":
                    return
                case _:
                    raise InvalidInputError.of_field(kind, "was sent twice; send it once, first")

    async def _hear(self, chunk: bytes) -> None:
        pcm = self.options.audio
        piece_bytes = round(_PIECE_S * pcm.sample_rate_hz) * (1 if pcm.law else 2 * pcm.channels)
        for begin in range(0, len(chunk), piece_bytes):
            while self._ahead_s > _MOST_AHEAD_S:
                self._room.clear()
                await self._room.wait()
            piece = chunk[begin : begin + piece_bytes]
            samples, probabilities = await asyncio.to_thread(self._voice, piece)
            self.metrics.audio_seconds.labels("TranscribeLive").inc(len(samples) / SAMPLE_RATE)
            news = self._hearing.push(samples, probabilities)
            self._arrivals.add(self._hearing.tape.end)
            await self._news(news)
        if time.monotonic() - self._told_at >= PROGRESS_S:
            self._told_at = time.monotonic()
            await self.send(self._progress())

    def _voice(self, chunk: bytes) -> tuple[Samples, Probabilities]:
        samples = self._samples.push(chunk)
        return samples, self._silero.push(samples)

    @property
    def _ahead_s(self) -> float:
        """How much sound waits to be written down, seconds."""
        oldest = self._begun[0].start if self._begun else self._hearing.tape.end
        return (self._hearing.tape.end - oldest) / SAMPLE_RATE

    async def _news(self, news: Sequence[News]) -> None:
        """Tells what has begun and ended, and hands it on."""
        for one in news:
            spoken = one.spoken
            if spoken not in self._begun:
                self._begun.append(spoken)
            if not one.ended:
                started = asr_pb2.SpeechStarted(
                    utterance=spoken.number, at=self._at(spoken.start / SAMPLE_RATE)
                )
                await self.send(asr_pb2.TranscribeLiveResponse(speech_started=started))
            elif spoken.end != spoken.start:
                stopped = asr_pb2.SpeechStopped(
                    utterance=spoken.number, at=self._at(spoken.voice_end / SAMPLE_RATE)
                )
                await self.send(asr_pb2.TranscribeLiveResponse(speech_stopped=stopped))
        if not self._begun:
            kept = round((self.options.vad.padding_s + _PIECE_S) * SAMPLE_RATE)
            self._hearing.tape.drop_before(self._hearing.tape.end - kept)
            self._settled_to = self._hearing.tape.end
        self._changed.set()

    def _progress(self) -> asr_pb2.TranscribeLiveResponse:
        interval_s = self.queues.pace.interval_s(self.options.update_s or 0.0)
        return asr_pb2.TranscribeLiveResponse(
            progress=asr_pb2.LiveProgress(
                stage=asr_pb2.STAGE_TRANSCRIBING,
                heard=self._at(self._tape_end_s),
                settled=self._at(self._settled_to / SAMPLE_RATE),
                update_interval=common_messages.duration(interval_s),
            )
        )

    # --- what is written down

    async def _write(self, group: asyncio.TaskGroup) -> None:
        """Writes down one utterance after the other, until the last has ended."""
        refined: deque[asyncio.Task[None]] = deque()
        while True:
            while not self._begun:
                if self._has_ended:
                    for task in refined:
                        await task
                    return
                await self._wait()
            text = UtteranceText(
                self._begun[0], self._hearing.tape, self._decode, self.metrics, self._arrivals
            )
            await self._follow(text)
            while refined and refined[0].done():
                refined.popleft()
            before = refined[-1] if refined else None
            window = self._refinable(text)
            if window is not None and len(refined) >= _MOST_REFINED:
                window = None
                await self._warn_behind()
            if window is None and before is None:
                await self._tell(text, None)
            else:
                refined.append(group.create_task(self._tell(text, before, window)))
            self._written(text.spoken)

    def _written(self, spoken: Spoken) -> None:
        """Frees what only this utterance needed."""
        self._begun.popleft()
        assert spoken.end is not None  # noqa: S101 - it has been written down
        self._settled_to = max(self._settled_to, spoken.end)
        padding = round(self.options.vad.padding_s * SAMPLE_RATE)
        start = self._begun[0].start if self._begun else self._settled_to - padding
        self._hearing.tape.drop_before(start)
        self._room.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _follow(self, text: UtteranceText) -> None:
        """The texts of an utterance, as it goes on, until it is whole."""
        shown = ""
        spoken = text.spoken
        while spoken.end is None or not (text.covers_all or self._is_over(spoken)):
            if spoken.end is None and not self._is_due(text):
                await self._wait()
                continue
            text.language = text.language or await self._told_language(spoken)
            options, _ = effective_options(self.options, self.model, (text.language,))
            if not self.queues.pace.has_beams(self.options.update_s or math.inf):
                options = replace(options, beam_size=1)
            await self._commit(spoken, await text.renew(replace(options, short_context=True)))
            self._updates += 1
            now = text_of(text.tentative)
            if self.options.tentative and now != shown and spoken.end is None:
                await self.send(self._tentative(spoken, text.tentative))
            shown = now
        await self._commit(spoken, text.close())

    @staticmethod
    def _is_over(spoken: Spoken) -> bool:
        """Whether nothing more of it is to be written down."""
        return spoken.reason is EndReason.DROPPED or spoken.end == spoken.start

    def _is_due(self, text: UtteranceText) -> bool:
        """Whether it is time to look what is said in an utterance that goes on."""
        spoken = text.spoken
        if self.options.update_s is None:
            return False
        if spoken.is_quiet:
            return not text.covers_all
        is_told = bool(text.language or (self._language and not self._has_several))
        if not is_told and spoken.speech < _LANGUAGE_S * SAMPLE_RATE:
            return False
        interval_s = self.queues.pace.interval_s(self.options.update_s)
        self.metrics.live_interval.set(interval_s)
        return self._hearing.tape.end - text.decoded_to >= interval_s * SAMPLE_RATE

    async def _told_language(self, spoken: Spoken) -> str:
        """The language of an utterance: the call's, or what it sounds like."""
        is_enough = spoken.speech >= _LANGUAGE_S * SAMPLE_RATE
        if self._language and not (self._has_several and is_enough):
            return self._language
        end = spoken.end or self._hearing.tape.end
        heard = await self.queues.listen(self.model, self._hearing.tape.take(spoken.start, end))
        heard = among(heard, self.languages) if self.languages else heard
        language = likeliest(heard)
        if language != self._language:
            detected = asr_pb2.LanguageDetected(
                languages=languages_message(heard, DEFAULT_TOP_LANGUAGES)
            )
            await self.send(asr_pb2.TranscribeLiveResponse(language_detected=detected))
        if is_enough:
            self._language = language
        return language

    async def _decode(self, options: DecodingOptions, update: Update) -> Timed[WindowResult]:
        timed = await self.queues.transcribe_live(self.model, options, update)
        self._count(timed)
        for warning in self._warnings.news(timed.result.warnings):
            await self.send(asr_pb2.TranscribeLiveResponse(warning=warning))
        return timed

    def _count(self, timed: Timed[WindowResult]) -> None:
        self._stats.queue_s += timed.queue_s
        self._stats.inference_s += timed.inference_s
        self._stats.windows += 1
        self.metrics.queue_seconds.inc(timed.queue_s)
        self.metrics.inference_seconds.inc(timed.inference_s)

    async def _commit(self, spoken: Spoken, words: Sequence[Word]) -> None:
        if not words:
            return
        self._settled_to = max(self._settled_to, spoken.settled)
        committed = asr_pb2.Committed(
            utterance=spoken.number,
            text=text_of(words),
            words=word_messages(words, self.options.audio.start_s),
        )
        await self.send(asr_pb2.TranscribeLiveResponse(committed=committed))

    def _tentative(self, spoken: Spoken, words: Sequence[Word]) -> asr_pb2.TranscribeLiveResponse:
        return asr_pb2.TranscribeLiveResponse(
            tentative=asr_pb2.Tentative(
                utterance=spoken.number,
                text=text_of(words),
                words=word_messages(words, self.options.audio.start_s),
            )
        )

    # --- what an utterance was

    async def _warn_behind(self) -> None:
        if not self._is_behind:
            self._is_behind = True
            sentence = (
                "the device has too much to do to decode every utterance once more; those without"
                " `refined` have their committed text"
            )
            await self.send(warned("REFINE_BEHIND", sentence))

    def _refinable(self, text: UtteranceText) -> Window | None:
        """The sound of an utterance that is to be decoded once more."""
        spoken = text.spoken
        if not self.options.refine or not text.language or self._is_over(spoken):
            return None
        assert spoken.end is not None  # noqa: S101 - it has ended
        samples = self._hearing.tape.take(spoken.start, spoken.end)
        speech = ((0.0, len(samples) / SAMPLE_RATE),)
        return Window(samples, self._start_s(spoken), speech, spoken.voice)

    async def _tell(
        self,
        text: UtteranceText,
        before: "asyncio.Task[None] | None",
        window: Window | None = None,
    ) -> None:
        """The utterance as a whole, after the one before it."""
        spoken, language = text.spoken, text.language
        lines: list[Line]
        missing: list[Missing]
        refined = window is not None
        if window is not None:
            found = await self.again(Placed(window, language))
            self._count(found.timed)
            judged, language = found.judged, found.language
            lines = list(zip(judged.result.segments, judged.doubts, strict=True))
            missing = list(found.untranscribed)
        else:
            options = None
            if language:
                options, _ = effective_options(self.options, self.model, (language,))
            window, lines, missing = text.segments(options)
            window = replace(window, start_s=self._start_s(spoken))
        if before is not None:
            await asyncio.wait({before})
        utterance = asr_pb2.Utterance(
            utterance=spoken.number,
            start=self._at(spoken.start / SAMPLE_RATE),
            end=common_messages.duration(window.end_s),
            language=language,
            untranscribed=[untranscribed(window, *one) for one in missing],
            reason=cast("asr_pb2.EndReason", spoken.reason.value if spoken.reason else 0),
            refined=refined,
        )
        for segment, doubts in lines:
            spoken_in = segment.language or language
            message = self._numbering.message(segment, window, spoken_in, doubts)
            if message is not None:
                utterance.segments.append(message)
                self.metrics.observe_segment(message)
        if utterance.segments:  # each has a length, be the utterance ever so short
            end_s = max(window.end_s, self._numbering.end_s)
            utterance.end.CopyFrom(common_messages.duration(end_s))
        self._observe(spoken, missing)
        await self.send(asr_pb2.TranscribeLiveResponse(utterance=utterance))

    def _observe(self, spoken: Spoken, missing: Sequence[Missing]) -> None:
        speech_s = spoken.speech / SAMPLE_RATE
        missing_s = sum(end_s - start_s for start_s, end_s, _ in missing)
        self._utterances += 1
        self._stats.speech_s += speech_s
        self._stats.untranscribed_s += missing_s
        self.metrics.speech_seconds.inc(speech_s)
        self.metrics.untranscribed_seconds.inc(missing_s)

    def _start_s(self, spoken: Spoken) -> float:
        return self.options.audio.start_s + spoken.start / SAMPLE_RATE

    def _at(self, time_s: float) -> Duration:
        return common_messages.duration(self.options.audio.start_s + time_s)
