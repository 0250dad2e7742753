"""What services do again for segments that a person has changed: translations, times of words."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.calling import in_job
from voxroute_orchestrator.client.translate import NextTranslator, TranslateClient
from voxroute_orchestrator.client.uploads.align import ALIGNMENT_FAILED, align
from voxroute_orchestrator.client.uploads.upload import Recording
from voxroute_orchestrator.errors import (
    DeviceMemoryError,
    RefusedError,
    ServiceUnavailableError,
)
from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.fleet.needs import Needs, ObserveRoute, observe_nothing
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.jobs.editing.revisions import Revision
from voxroute_orchestrator.jobs.editing.segments import translated_anew
from voxroute_orchestrator.media import PcmReader
from voxroute_orchestrator.pipeline.recording import environment, looked_at
from voxroute_orchestrator.pipeline.run import CONTEXT_SEGMENTS
from voxroute_orchestrator.pipeline.second_passes import NO_ALIGNER
from voxroute_orchestrator.pipeline.translation import TargetTranslation, TranslationEvents
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.reporter import Reporter
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.transcript import Media, Note, Segment, TranslatedSegment, Translation
from voxroute_serving.audio.media import Watch
from voxroute_serving.telemetry.logs import get_logger

TRANSLATION_FAILED = "TRANSLATION_FAILED"
TRANSLATION_REFUSED = "TRANSLATION_REFUSED"
CHANGED = "CHANGED"
_PATIENCE_S = 30.0  # a person waits, and can ask again
_AROUND_S = 1.0  # of the recording, before the first of the segments and behind the last

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """How those are found that do it."""

    settings: Settings
    observe_route: ObserveRoute = observe_nothing

    @contextlib.asynccontextmanager
    async def connected(self, job: Job, *, speech: bool) -> AsyncGenerator[Connected]:
        """The speech services, or the translation services, of a job. Raises VoxrouteError."""
        needs = Needs(
            job.spec,
            speech=speech,
            translation=not speech,
            only_asr_endpoints=job.only_asr_endpoints,
            only_translate_endpoints=job.only_translate_endpoints,
        )
        retry_s = min(self.settings.retry_s, _PATIENCE_S)
        with in_job(job.job_id, {}):
            async with services(
                self.settings.model_copy(update={"retry_s": retry_s}),
                needs,
                environment(),
                _log.info,
                _log.warning,
                observe=self.observe_route,
            ) as connected:
                yield connected


@dataclass(slots=True)
class Again:
    """What came out."""

    revision: Revision
    """What was worked on."""
    translated: dict[str, list[TranslatedSegment]] = field(
        default_factory=dict[str, list[TranslatedSegment]]
    )
    """What went well, by language."""
    timed: dict[int, Segment] = field(default_factory=dict[int, Segment])
    """What went well, by number of the segment."""
    left: list[jobs_pb2.LeftSegment] = field(default_factory=list[jobs_pb2.LeftSegment])
    """What has stayed as it was."""
    hidden: Callable[[str], str] = str
    """Makes sentences for clients: without paths of this host."""

    def leave(self, segment: Segment, reason: str, sentence: str, language: str = "") -> None:
        """Notes that a segment, or its translation, has stayed as it was, and why."""
        left = jobs_pb2.LeftSegment(
            segment_id=self.revision.id_of(segment),
            language=language,
            reason=reason,
            message=self.hidden(sentence),
        )
        self.left.append(left)

    def put_on(self, newest: Revision) -> tuple[Revision, list[jobs_pb2.LeftSegment]]:
        """The newest revision with what went well, and what of it is of something else by now.

        The work takes a while, and people go on writing: what they wrote stays, and so does what
        was made of all that they left alone.
        """
        fresh = Again(self.revision, hidden=self.hidden)
        before = {segment.id: segment for segment in self.revision.transcript.segments}
        there = newest.by_id()
        timed: dict[int, Segment] = {}
        for number, made in self.timed.items():
            was = before[number]
            now = there.get(self.revision.id_of(was))
            if now is None or _told(now) != _told(was) or _times(now) != _times(was):
                fresh.leave(was, CHANGED, "its text or its times have changed meanwhile")
                continue
            times = {"start_s": made.start_s, "end_s": made.end_s, "words": made.words}
            timed[now.id] = now.model_copy(update=times)
        translated: dict[str, list[TranslatedSegment]] = {}
        for language, items in self.translated.items():
            old, new = _texts(self.revision, language), _texts(newest, language)
            for item in items:
                was = before[item.segment_id]
                now = there.get(self.revision.id_of(was))
                if (
                    now is None
                    or language not in newest.transcript.translations
                    or _told(now) != _told(was)
                    or new.get(now.id) != old.get(was.id)
                ):
                    why = "its text or its translation has changed meanwhile"
                    fresh.leave(was, CHANGED, why, language)
                    continue
                # one that was removed and put back has another number
                kept = item.model_copy(update={"segment_id": now.id})
                translated.setdefault(language, []).append(kept)
        found = translated_anew(newest, translated) if translated else newest
        if timed:
            segments = [timed.get(one.id, one) for one in found.transcript.segments]
            found = found.with_segments(segments, found.marks)
        return found, fresh.left


def _told(segment: Segment) -> tuple[str, str]:
    return segment.text, segment.language


def _times(segment: Segment) -> tuple[float, float]:
    return segment.start_s, segment.end_s


def _texts(revision: Revision, language: str) -> dict[int, str]:
    translation = revision.transcript.translations.get(language, Translation())
    return {item.segment_id: item.text for item in translation.items}


# --- translations ---------------------------------------------------------------------------------


class _Events(Reporter, TranslationEvents):
    """Takes what translations tell; nobody watches them."""

    def __init__(self, following: NextTranslator) -> None:
        self.reporter = self
        self._following = following

    def end_of(self, segment_id: int) -> float:
        del segment_id
        return 0.0

    def stage_ended(self, name: str, outcome: str) -> None:
        del name, outcome

    async def note(self, note: Note) -> None:
        _log.info("a translation tells", code=note.code, message=note.message)

    async def replace_translator(
        self, given_up: TranslateClient, error: DeviceMemoryError
    ) -> TranslateClient | None:
        del given_up, error
        return await self._following()

    def stage(self, name: str, total_s: float | None) -> None:
        del name, total_s

    def advance(self, name: str, done_s: float) -> None:
        del name, done_s

    def finish(self, name: str) -> None:
        del name

    def say(self, text: str) -> None:
        _log.info(text)

    def warn(self, text: str) -> None:
        _log.warning(text)


async def retranslate(
    again: Again, job: Job, segments: Sequence[Segment], languages: Sequence[str], found: Services
) -> None:
    """Translates segments anew, with those before them in view.

    Raises VoxrouteError; ServiceUnavailableError where one goes away meanwhile.
    """
    before = again.revision.transcript.segments
    place = {segment.id: number for number, segment in enumerate(before)}
    async with found.connected(job, speech=False) as connected:
        events = _Events(connected.next_translate)
        targets = [
            TargetTranslation(
                language, Translation(), connected.translators, events, None,
                media_s=None, glossary=job.spec.glossary,
            )
            for language in languages
        ]  # fmt: skip
        try:
            for target in targets:
                for segment in segments:
                    first = max(0, place[segment.id] - CONTEXT_SEGMENTS)
                    context = tuple(one.text for one in before[first : place[segment.id]])
                    await target.put(segment, context)
                target.end()
            for target in targets:
                await target.wait()
        finally:
            for target in targets:
                await target.abandon()
    for target in targets:
        if isinstance(target.error, ServiceUnavailableError):
            raise target.error
        again.translated[target.target] = _kept(again, target, segments)


def _kept(
    again: Again, target: TargetTranslation, segments: Sequence[Segment]
) -> list[TranslatedSegment]:
    """What has a text now; the rest is noted."""
    items = {item.segment_id: item for item in target.items}
    kept: list[TranslatedSegment] = []
    for segment in segments:
        item = items.get(segment.id)
        if item is None:
            why = str(target.error or "no service has answered")
            again.leave(segment, TRANSLATION_REFUSED, why, target.target)
        elif item.status == "FAILED":
            why = item.detail or "the service could not translate it"
            again.leave(segment, TRANSLATION_FAILED, why, target.target)
        else:
            kept.append(item)
    return kept


# --- words ----------------------------------------------------------------------------------------


async def retime(again: Again, job: Job, segments: Sequence[Segment], found: Services) -> None:
    """Gives segments the words of their texts, with times, by services that align.

    They begin and end with their words then. Raises VoxrouteError.
    """
    media = await reading(Watch(job.recording.label), lambda: looked_at(job))
    async with found.connected(job, speech=True) as connected:
        for language in dict.fromkeys(segment.language for segment in segments):
            spoken = [one for one in segments if one.language == language]
            service = await connected.aligner(language)
            if service is None:
                for segment in spoken:
                    again.leave(
                        segment, NO_ALIGNER, f"no speech service has an aligner for {language}"
                    )
                continue
            try:
                aligned = await _aligned(service, media, spoken, language)
            except RefusedError as error:
                for segment in spoken:
                    again.leave(segment, ALIGNMENT_FAILED, str(error))
                continue
            for segment in aligned:
                if segment.words:
                    again.timed[segment.id] = _with_its_words(segment)
                else:
                    again.leave(
                        segment, ALIGNMENT_FAILED,
                        "its words are not found in the recording between its start and its end,"
                        " or it has none, or it is longer than 30 s",
                    )  # fmt: skip


async def _aligned(
    service: AsrClient, media: Media, segments: Sequence[Segment], language: str
) -> list[Segment]:
    first_s = max(0.0, min(one.start_s for one in segments) - _AROUND_S)
    last_s = max(one.end_s for one in segments) + _AROUND_S

    async def tell(note: Note) -> None:
        _log.info("an alignment tells", code=note.code, message=note.message)

    recording = Recording(last_s - first_s, lambda: PcmReader(media, start_s=first_s, end_s=last_s))
    return await align(service, recording, segments, language, tell)


def _with_its_words(segment: Segment) -> Segment:
    start_s = segment.words[0].start_s
    return segment.model_copy(
        update={"start_s": start_s, "end_s": max(start_s, segment.words[-1].end_s)}
    )
