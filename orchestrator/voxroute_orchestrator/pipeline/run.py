"""A job: speech to text and, at the same time, every finished segment to each target language."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator import __version__
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.messages import Accepted
from voxroute_orchestrator.client.retry import RESUMED
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.client.uploads.upload import Recording
from voxroute_orchestrator.errors import DeviceMemoryError, UsageError, VoxrouteError
from voxroute_orchestrator.fleet.connect import Connected
from voxroute_orchestrator.glossary import hotwords
from voxroute_orchestrator.media import PcmReader
from voxroute_orchestrator.pipeline.journal import Journal, keep_accepted, restore_accepted
from voxroute_orchestrator.pipeline.second_passes import Diarization, add_words
from voxroute_orchestrator.pipeline.transcription import Recognition
from voxroute_orchestrator.pipeline.translation import TargetTranslation, in_use, taken_over
from voxroute_orchestrator.pipeline.workers import Workers
from voxroute_orchestrator.reporter import Reporter
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.subtitles.cues import GrowingCues
from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES, CueRules
from voxroute_orchestrator.transcript import (
    AsrStats,
    LanguageProbability,
    Media,
    Note,
    Segment,
    Transcript,
    Translation,
    Untranscribed,
    same_language,
)

CONTEXT_SEGMENTS = 2  # what was said before, for models that can use it
_AFTERMATH_S = 30.0  # for translations to catch up after recognition has failed
_SURE_OF_LANGUAGE = 0.7  # a detection below it is a guess, or of a recording of several
_RECOGNITION = "transcribing"

S = TypeVar("S", AsrClient, TranslateClient)

# facts of the journal
_JOB = "job"
_ACCEPTED = "accepted"
_LANGUAGES = "languages"
_WARNINGS = "warnings"


def _until_s(spec: JobSpec, media: Media) -> float | None:
    """Where the work ends on the timeline; None where the container does not tell."""
    known = [end_s for end_s in (spec.end_s, media.duration_s) if end_s is not None]
    return min(known, default=None)


def _identity(spec: JobSpec, media: Media) -> dict[str, Any]:
    """What a run that goes on must have in common with the one before, as JSON values."""
    channel = media.audio_channel
    return {
        **({} if channel is None else {"audio_channel": channel}),
        **({"prompt": spec.prompt} if spec.prompt else {}),
        "audio_stream": media.audio_stream,
        "duration_s": media.duration_s,
        "source_language": spec.source,
        "allowed_languages": list(spec.allowed_languages),
        "word_timestamps": spec.times_words,
        "align": spec.align,
        "speakers": [spec.tells_speakers, spec.min_speakers, spec.max_speakers],
        "vad_disabled": spec.vad_disabled,
        "glossary": [list(dataclasses.astuple(term)) for term in spec.glossary],
        "start_s": spec.start_s,
        "end_s": spec.end_s,
    }


def _config(spec: JobSpec, language: str | None) -> asr_pb2.TranscribeConfig:
    """What all calls of a run ask a speech service for."""
    return asr_pb2.TranscribeConfig(
        language="" if spec.allowed_languages else language or "",
        allowed_languages=spec.allowed_languages,
        word_timestamps=spec.times_words,
        strict_options=spec.strict,
        vad=asr_pb2.VadOptions(disabled=True) if spec.vad_disabled else None,
        decoding=_decoding(spec),
    )


def _decoding(spec: JobSpec) -> asr_pb2.DecodingOptions | None:
    asked = asr_pb2.DecodingOptions(initial_prompt=spec.prompt, hotwords=hotwords(spec.glossary))
    return asked if asked.ListFields() else None


class Run:
    """One run of a job. `transcript` holds what is finished, at any moment.

    `connected` are the services that share the work, beside `workers` that come for it by
    themselves, and what finds others. Words are timed by its aligner where that is asked for;
    `diarizer` tells speakers apart, None for nobody. `reader` is the job's recording, whose
    reading may have begun; the run closes it. What is finished is in the `journal` at any moment,
    and what is in it already is not done again. Raises UsageError where the journal is that of a
    job with other options.
    """

    def __init__(
        self,
        spec: JobSpec,
        media: Media,
        connected: Connected,
        reporter: Reporter,
        journal: Journal,
        *,
        reader: PcmReader,
        diarizer: AsrClient | None = None,
        max_audio_s: float | None = None,
        workers: Workers | None = None,
        rules: CueRules = DEFAULT_RULES,
    ) -> None:
        self._workers = workers
        self._spec = spec
        self._connected = connected
        self._until_s = _until_s(spec, media)
        self.reporter = reporter
        self.transcript = Transcript(
            voxroute_version=__version__,
            media=media,
            language=spec.source,
            language_detected=spec.source is None,
        )
        self.cues = GrowingCues(rules)
        """Those of the segments so far."""
        self.errors: list[VoxrouteError] = []
        """What went wrong for good, the recognition's first."""
        self._journal = journal
        self._reader = reader
        self._recording = Recording(
            self._until_s,
            lambda: PcmReader(media, start_s=spec.start_s, end_s=spec.end_s, max_s=max_audio_s),
        )
        self._diarization = self._diarization_by(diarizer) if diarizer is not None else None
        self._replacements: dict[TranslateClient, TranslateClient | None] = {}
        self._replacing = asyncio.Lock()
        self._targets: list[TargetTranslation] = []
        self._started = time.monotonic()
        self._loading_told = False
        self._take_over()

    async def execute(self) -> None:
        """Fills the transcript. A failure is in `errors`, and what was finished before is kept.

        Cancelling leaves the transcript as far as it is.
        """
        try:
            if self._journal.fact(_JOB) is None:
                await self._journal.keep_fact(_JOB, self._identity())
            self._begin_translations()
            failed = await self._recognise()
            await self._finish_translations(_AFTERMATH_S if failed else None)
        finally:
            for target in self._targets:
                await target.abandon()
            self._drop_empty_translations()
            self.transcript.wall_s = round(time.monotonic() - self._started, 3)
        self.transcript.complete = not self.errors

    def _identity(self) -> dict[str, Any]:
        return _identity(self._spec, self.transcript.media)

    def _take_over(self) -> None:
        """Begins with what an earlier run has found out."""
        journal = self._journal
        identity, before = self._identity(), journal.fact(_JOB)
        if before is not None and before != identity:
            changed = sorted(name for name in identity if before.get(name) != identity[name])
            raise UsageError(
                f"{', '.join(changed)} of the job changed since the run that is to be continued;"
                " run without --resume to start anew"
            )
        restore_accepted(journal, _ACCEPTED, self.transcript.recognition)
        self.transcript.warnings = [
            Note.model_validate(one) for one in journal.fact(_WARNINGS) or ()
        ]
        languages = journal.fact(_LANGUAGES)
        if languages is not None:
            self._set_languages([LanguageProbability.model_validate(one) for one in languages])

    def _set_languages(self, languages: list[LanguageProbability]) -> None:
        self.transcript.language = languages[0].language
        self.transcript.language_probabilities = languages

    async def _recognise(self) -> bool:
        """Whether recognition failed."""
        spec = self._spec
        self.reporter.stage(_RECOGNITION, self._until_s)
        recognition = Recognition(
            self._reader,
            _config(spec, self.transcript.language),
            self,
            self._journal,
            length_s=self._until_s,
            model=self.transcript.recognition.model,
            workers=self._workers.recognisers if self._workers is not None else None,
        )
        stage = "asr"
        try:
            async with self._diarizing():
                following = self._connected.next_asr
                await recognition.run(self._connected.speech, lambda: self._following(following))
                await self._recognised()
                self.stage_ended(stage, "COMPLETED")
                if (spec.words or spec.align) and self._lack_words():
                    stage = "alignment"
                    self.transcript.segments = await add_words(
                        self.transcript.segments,
                        self._recording,
                        self._connected.aligner,
                        self._journal,
                        told=self.reporter,
                        tell=self.note,
                    )
                    self.stage_ended(stage, "COMPLETED")
                if self._diarization is not None:
                    stage = "diarization"
                    await self._assign(self._diarization)
                    self.stage_ended(stage, "COMPLETED")
        except VoxrouteError as error:
            self.errors.insert(0, error)
            self.transcript.error = str(error)
            self.stage_ended(stage, "FAILED")
            return True
        self.transcript.recognition.complete = True
        return False

    async def _recognised(self) -> None:
        """Tells what came out."""
        if not self.transcript.segments:
            await self.note(
                Note(
                    source="asr",
                    code="NO_SPEECH",
                    message="the recording holds no speech that could be written down; if it does,"
                    f" try {', or '.join([*self.transcript.media.other_sound, '--no-vad'])}",
                )
            )
        if self._spec.allowed_languages:
            self._name_language()
        self.reporter.finish(_RECOGNITION)
        self.reporter.say(f"Transcription completed: {len(self.transcript.segments)} segments")

    # --- words and speakers

    def _lack_words(self) -> bool:
        return any(
            segment.text.strip() and not segment.words for segment in self.transcript.segments
        )

    def _diarization_by(self, service: AsrClient) -> Diarization:
        return Diarization(
            service,
            self._recording,
            self._journal,
            self.reporter,
            self._spec.min_speakers,
            self._spec.max_speakers,
        )

    def _diarizing(self) -> contextlib.AbstractAsyncContextManager[None]:
        if self._diarization is None:
            return contextlib.nullcontext()
        busy = [speech.endpoint.target for speech in self._connected.speech]
        return self._diarization.running(beside=busy)

    async def _assign(self, found: Diarization) -> None:
        """Gives the segments their speakers and hands them on, as they may have been split."""
        self.transcript.segments = await found.assigned(self.transcript.segments, self.note)
        for segment in self.transcript.segments:
            await self._translate(segment)

    async def _translate(self, segment: Segment) -> None:
        for target in self._targets:
            await target.put(segment, self._context(segment))

    def _name_language(self) -> None:
        """Calls the transcript of several languages by the one that is spoken longest.

        Where a translation into that one is wanted, another gives the name: the two would be files
        of one name.
        """
        segments, targets = self.transcript.segments, self._spec.target_languages
        others = [
            segment
            for segment in segments
            if not any(same_language(segment.language, target) for target in targets)
        ]
        self.transcript.language = _dominant(others) or _dominant(segments)

    # --- translation

    def _begin_translations(self) -> None:
        """A translation for each language; with none of its own where nothing is to be done."""
        translators = self._connected.translators
        if not translators and self._workers is None:
            return
        for target in self._spec.target_languages:
            source = self._spec.source
            if source is not None and same_language(source, target):
                continue
            done = self._journal.translations(target)
            translation = self.transcript.translations[target] = Translation(items=done)
            self._targets.append(
                TargetTranslation(
                    target,
                    translation,
                    translators,
                    self,
                    self._journal,
                    media_s=self._until_s,
                    glossary=self._spec.glossary,
                    workers=self._workers,
                )
            )

    async def _finish_translations(self, timeout_s: float | None) -> None:
        for target in self._targets:
            target.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for target in self._targets:
                    await target.wait()
        self.errors += [target.error for target in self._targets if target.error is not None]

    def _drop_empty_translations(self) -> None:
        """Leaves out a language that is the one that was spoken, as it turned out."""
        spoken = self.transcript.language
        for target in self._spec.target_languages:
            if spoken is not None and same_language(spoken, target):
                self.reporter.say(f"the speech is {spoken}: nothing to translate for {target}")
                self.transcript.translations.pop(target, None)

    def _context(self, segment: Segment) -> tuple[str, ...]:
        before = self.transcript.segments[
            max(0, segment.id - 1 - CONTEXT_SEGMENTS) : segment.id - 1
        ]
        return tuple(one.text for one in before)

    async def replace_translator(
        self, given_up: TranslateClient, error: DeviceMemoryError
    ) -> TranslateClient | None:
        """The service that goes on where one has given up, the same for every language."""
        async with self._replacing:
            if given_up not in self._replacements:
                replacement = await self._following(self._connected.next_translate)
                self._replacements[given_up] = replacement
                if replacement is not None:
                    await self._tell_fallback(error, str(replacement.endpoint))
            return self._replacements[given_up]

    async def _following(self, following: Callable[[], Awaitable[S | None]]) -> S | None:
        """The next service; None also where it cannot be started, which is told."""
        try:
            return await following()
        except VoxrouteError as error:
            self.reporter.warn(str(error))
            return None

    async def _tell_fallback(self, error: DeviceMemoryError, endpoint: str) -> None:
        await self.note(
            Note(
                source="orchestrator",
                code="OUT_OF_MEMORY_FALLBACK",
                message=f"{error}; {endpoint} goes on",
            )
        )

    def stage_ended(self, name: str, outcome: str) -> None:
        """Tells how a stage ended, and how long after the start of the run."""
        took_s = time.monotonic() - self._started
        self.reporter.say(f"Stage {name}: {outcome} ({took_s:.1f}s)")

    def end_of(self, segment_id: int) -> float:
        """When a segment ends on the timeline."""
        return self.transcript.segments[segment_id - 1].end_s

    # --- the events of the recognition

    async def accepted(self, speech: AsrClient, accepted: Accepted) -> None:
        """Notes who answers, with which options."""
        recognition = self.transcript.recognition
        recognition.run.request_ids.append(accepted.request_id)
        recognition.run.add_device(accepted.device)
        endpoint = speech.endpoint.target
        if endpoint not in recognition.run.endpoints:
            recognition.run.endpoints.append(endpoint)
            self.reporter.say(in_use("speech model", accepted))
        if recognition.model is not None:
            return
        taken_over(recognition, accepted, self.reporter)
        await keep_accepted(self._journal, _ACCEPTED, recognition)

    async def loading(self) -> None:
        """Tells that it takes a while."""
        if not self._loading_told:
            self._loading_told = True
            self.reporter.say("the speech service is loading its model")

    async def progress(self, done_s: float) -> None:
        """Moves the bar."""
        self.reporter.advance(_RECOGNITION, done_s)

    async def language(self, languages: list[LanguageProbability]) -> None:
        """Notes the language."""
        self._set_languages(languages)
        await self._journal.keep_fact(_LANGUAGES, [one.model_dump() for one in languages])
        chosen = languages[0]
        self.reporter.say(f"language: {chosen.language} ({chosen.probability:.0%})")
        if chosen.probability < _SURE_OF_LANGUAGE:
            self.reporter.warn(
                f"the language is not sure: if it is another one than {chosen.language}, name it"
                " with -s; if it changes within the recording, name all of them, as in -s en,es"
            )

    async def segment(self, segment: Segment) -> None:
        """Keeps a segment and hands it on to every translation."""
        self.transcript.segments.append(segment)
        self.cues.add(segment)
        if self._diarization is None:
            await self._translate(segment)

    async def untranscribed(self, stretch: Untranscribed) -> None:
        """Keeps a stretch of speech without text."""
        self.transcript.untranscribed.append(stretch)

    async def note(self, note: Note) -> None:
        """Keeps a warning and tells it."""
        kept = self.transcript.notes if note.code == RESUMED else self.transcript.warnings
        if note in kept:
            return  # a run before this one has told it
        kept.append(note)
        self.reporter.warn(note.message)
        if kept is self.transcript.warnings:
            await self._journal.keep_fact(_WARNINGS, [one.model_dump() for one in kept])

    async def done(self, stats: AsrStats) -> None:
        """Adds up what the calls cost."""
        run = self.transcript.recognition.run
        run.stats = run.stats.plus(stats)

    async def repeated(self) -> None:
        """Counts a window that was transcribed twice."""
        self.transcript.recognition.run.repeated_windows += 1

    async def replaced(self, error: DeviceMemoryError, speech: AsrClient) -> None:
        """Notes that another service goes on."""
        await self._tell_fallback(error, str(speech.endpoint))

    async def lost(self, speech: AsrClient, error: VoxrouteError) -> None:
        """Tells that a service was given up."""
        self.reporter.warn(f"{error}; other services do the work of {speech.endpoint}")


def _dominant(segments: Sequence[Segment]) -> str | None:
    """The language that is spoken longest, the earliest of equals; None without segments."""
    spoken_s: dict[str, float] = {}
    for segment in segments:
        length_s = segment.end_s - segment.start_s
        spoken_s[segment.language] = spoken_s.get(segment.language, 0.0) + length_s
    return max(spoken_s, key=lambda language: spoken_s[language], default=None)
