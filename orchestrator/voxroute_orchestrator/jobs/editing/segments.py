"""Between the contract's segments and those of a revision; what a client sends is checked here."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.client.messages import duration, duration_fields, seconds
from voxroute_orchestrator.jobs.editing.revisions import Mark, Revision
from voxroute_orchestrator.jobs.errors import InvalidJobError
from voxroute_orchestrator.transcript import (
    Segment,
    TranslatedSegment,
    Translation,
    Word,
    standard_tag,
)
from voxroute_serving.bounds import quoted

MAX_SEGMENTS = 10_000
MAX_CHARACTERS = 5_000  # of a text, as of those that are aligned
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FLAG = re.compile(r"[A-Z0-9_]{1,64}")
_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
"""What no screen shows, and what makes XML, such as TTML, unreadable."""
_SAME_S = 1e-6  # times that differ by less went through a message and back
_NO_LENGTH_S = 366 * 86_400.0  # the contract's longest, for a recording that does not tell its own


# --- to messages ----------------------------------------------------------------------------------


def head(revision: Revision) -> jobs_pb2.TranscriptHead:
    """What is true of a revision as a whole."""
    transcript = revision.transcript
    spoken = [transcript.language, *(segment.language for segment in transcript.segments)]
    return jobs_pb2.TranscriptHead(
        revision=revision.number,
        duration=duration(transcript.media.duration_s or _end_s(revision)),
        source_languages=list(dict.fromkeys(one for one in spoken if one)),
        target_languages=list(transcript.translations),
        speakers=[
            jobs_pb2.SpeakerName(speaker=speaker, name=name)
            for speaker, name in revision.speakers.items()
        ],
        untranscribed=[
            jobs_pb2.UntranscribedStretch(
                start=duration(one.start_s), end=duration(one.end_s), reason=one.reason
            )
            for one in transcript.untranscribed
        ],
    )


def messages(revision: Revision) -> Iterator[jobs_pb2.TranscriptSegment]:
    """The segments of a revision."""
    items = {
        language: {item.segment_id: item for item in translation.items}
        for language, translation in revision.transcript.translations.items()
    }
    for segment in revision.transcript.segments:
        mark = revision.mark_of(segment)
        yield jobs_pb2.TranscriptSegment(
            id=revision.id_of(segment),
            start=duration(segment.start_s),
            end=duration(segment.end_s),
            text=segment.text,
            language=segment.language,
            speaker=segment.speaker,
            # as fields: a third of the time that messages take, and a film has 20,000 words
            words=[
                {
                    "start": duration_fields(word.start_s),
                    "end": duration_fields(word.end_s),
                    "text": word.text,
                    "probability": word.confidence,
                }
                for word in segment.words
            ],
            flags=segment.flags,
            edited=mark.edited,
            translations=[
                jobs_pb2.SegmentTranslation(
                    language=language,
                    text=of_language[segment.id].text,
                    status=of_language[segment.id].status,
                    stale=language in mark.stale,
                    edited=language in mark.translated,
                )
                for language, of_language in items.items()
                if segment.id in of_language
            ],
        )


# --- from messages --------------------------------------------------------------------------------


def changed(
    base: Revision,
    first: Revision,
    sent: Sequence[jobs_pb2.TranscriptSegment],
    speakers: Iterable[jobs_pb2.SpeakerName],
) -> Revision:
    """What a person has made of a revision; what is not as it was is marked.

    A segment of another text, time, speaker or language is edited; its translations are stale then,
    where its text is another, and they are not written anew themselves. What is as in the first
    revision again, such as after an undo, has no mark. Raises InvalidJobError.
    """
    merge = _Merge(base, first)
    for number, segment in enumerate(sent):
        merge.take(segment, f"segments[{number}]")
    names = _names(speakers)
    return merge.revision().model_copy(update={"speakers": names})


def _names(speakers: Iterable[jobs_pb2.SpeakerName]) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, one in enumerate(speakers):
        if not one.speaker or one.speaker in names:
            raise InvalidJobError.of_field(
                f"config.speakers[{number}].speaker", "name each speaker once"
            )
        _check_shown(f"config.speakers[{len(names)}].name", one.name)
        names[one.speaker] = one.name.strip()
    return {speaker: name for speaker, name in names.items() if name}


def _end_s(revision: Revision) -> float:
    """Where the last segment ends."""
    return max((segment.end_s for segment in revision.transcript.segments), default=0.0)


@dataclass(frozen=True, slots=True)
class _Before:
    """A segment as it was, and its translations by language."""

    segment: Segment
    mark: Mark
    items: dict[str, TranslatedSegment]


def _by_id(revision: Revision) -> dict[str, _Before]:
    items: dict[int, dict[str, TranslatedSegment]] = {}
    for language, translation in revision.transcript.translations.items():
        for item in translation.items:
            items.setdefault(item.segment_id, {})[language] = item
    return {
        name: _Before(segment, revision.mark_of(segment), items.get(segment.id, {}))
        for name, segment in revision.by_id().items()
    }


class _Merge:
    """The segments that are sent, one after the other, over those of a revision."""

    def __init__(self, base: Revision, first: Revision) -> None:
        transcript = base.transcript
        self._base = base
        self._languages = tuple(transcript.translations)
        length_s = transcript.media.duration_s or _NO_LENGTH_S
        self._limit_s = max(length_s, _end_s(base)) + _SAME_S
        self._next = base.next_number
        self._before = _by_id(base)
        self._made = self._before if first is base else _by_id(first)
        self._taken: set[str] = set()
        self._segments: list[Segment] = []
        self._marks: dict[int, Mark] = {}
        self._items: dict[str, list[TranslatedSegment]] = {one: [] for one in self._languages}

    def take(self, sent: jobs_pb2.TranscriptSegment, path: str) -> None:
        """Adds a segment. Raises InvalidJobError."""
        if not _ID.fullmatch(sent.id):
            raise InvalidJobError.of_field(f"{path}.id", "use 1 to 64 of [A-Za-z0-9._-]")
        if sent.id in self._taken:
            raise InvalidJobError.of_field(f"{path}.id", f"{sent.id} is there twice")
        self._taken.add(sent.id)
        before = self._before.get(sent.id)
        segment = self._segment(sent, before.segment if before else None, path)
        mark = before.mark if before else Mark(id=sent.id, edited=True)
        retold = before is not None and _retold(segment, before.segment)
        if before is not None and (retold or _moved(segment, before.segment)):
            mark = mark.model_copy(update={"edited": True})
        made = self._made.get(sent.id)
        if made is not None and _retold(segment, made.segment):
            made = None
        if made is not None and not _moved(segment, made.segment):
            mark = mark.model_copy(update={"edited": False})
        mark = self._translate(sent, segment, before, mark, retold=retold, path=path)
        mark = self._as_made(segment, made, mark) if made is not None else mark
        self._segments.append(segment)
        self._marks[segment.id] = mark

    def revision(self) -> Revision:
        """What has come."""
        found = self._base.with_segments(self._segments, self._marks)
        order = {segment.id: place for place, segment in enumerate(found.transcript.segments)}
        translations = {
            language: translation.model_copy(
                update={
                    "items": sorted(self._items[language], key=lambda one: order[one.segment_id])
                }
            )
            for language, translation in found.transcript.translations.items()
        }
        transcript = found.transcript.model_copy(update={"translations": translations})
        return found.model_copy(update={"transcript": transcript})

    def _segment(
        self, sent: jobs_pb2.TranscriptSegment, before: Segment | None, path: str
    ) -> Segment:
        _check_text(f"{path}.text", sent.text, before.text if before else "")
        for number, flag in enumerate(sent.flags):
            if not _FLAG.fullmatch(flag):
                raise InvalidJobError.of_field(f"{path}.flags[{number}]", "use [A-Z0-9_] alone")
        language = self._language(sent, before, path)
        start_s, end_s = seconds(sent.start), seconds(sent.end)
        if before is None:
            number, self._next = self._next, self._next + 1
            before = Segment(id=number, start_s=-1, end_s=-1, text="", language=language)
        if _same(start_s, before.start_s) and _same(end_s, before.end_s):
            start_s, end_s = before.start_s, before.end_s
        else:
            self._check_times(start_s, end_s, path)
        return before.model_copy(
            update={
                "start_s": start_s,
                "end_s": end_s,
                "text": sent.text,
                "language": language,
                "speaker": sent.speaker,
                "words": self._words(sent, before, path),
                "flags": self._flags(sent, before),
            }
        )

    def _flags(self, sent: jobs_pb2.TranscriptSegment, before: Segment) -> tuple[str, ...]:
        """Those of the text, as long as it is the same or the job's own; those sent with another.

        The recogniser has found them: a client may not know them.
        """
        made = self._made.get(sent.id)
        if sent.id in self._before and sent.text == before.text:
            return before.flags
        if made is not None and sent.text == made.segment.text:
            return made.segment.flags
        return tuple(sent.flags)

    def _language(self, sent: jobs_pb2.TranscriptSegment, before: Segment | None, path: str) -> str:
        known = before.language if before else self._base.transcript.language or ""
        if sent.language in {"", known} and known:
            return known
        try:
            return standard_tag(sent.language)
        except ValueError as error:
            raise InvalidJobError.of_field(f"{path}.language", str(error)) from error

    def _words(
        self, sent: jobs_pb2.TranscriptSegment, before: Segment, path: str
    ) -> tuple[Word, ...]:
        """Those that are sent; as they were, where they are the same or none for the same text."""
        words = tuple(
            Word(
                text=word.text,
                start_s=seconds(word.start),
                end_s=seconds(word.end),
                confidence=float(f"{word.probability:.6g}")
                if word.HasField("probability")
                else None,
            )
            for word in sent.words
        )
        if (not words and sent.text == before.text) or _alike(words, before.words):
            return before.words
        for number, word in enumerate(words):
            place = f"{path}.words[{number}]"
            self._check_times(word.start_s, word.end_s, place)
            _check_shown(f"{place}.text", word.text)
            if word.confidence is not None and not 0 <= word.confidence <= 1:
                raise InvalidJobError.of_field(f"{place}.probability", "is not from 0 to 1")
        return words

    def _check_times(self, start_s: float, end_s: float, path: str) -> None:
        if start_s < 0:
            raise InvalidJobError.of_field(f"{path}.start", "is before the recording begins")
        if end_s < start_s:
            raise InvalidJobError.of_field(f"{path}.end", "is before its start")
        if end_s > self._limit_s:
            raise InvalidJobError.of_field(
                f"{path}.end", f"is behind the end of the recording, {self._limit_s:.3f} s"
            )

    def _translate(
        self,
        sent: jobs_pb2.TranscriptSegment,
        segment: Segment,
        before: _Before | None,
        mark: Mark,
        *,
        retold: bool,
        path: str,
    ) -> Mark:
        """Keeps the translations of a segment; the mark with what they are. Raises as `take`."""
        told: dict[str, jobs_pb2.SegmentTranslation] = {}
        for number, one in enumerate(sent.translations):
            if one.language not in self._languages or one.language in told:
                raise InvalidJobError.of_field(
                    f"{path}.translations[{number}].language",
                    f"{quoted(one.language)} is there twice, or the transcript has no translations"
                    " to it",
                )
            item = before.items.get(one.language) if before else None
            was = item.text if item else ""
            _check_text(f"{path}.translations[{number}].text", one.text, was)
            told[one.language] = one
        stale, translated, earlier = set(mark.stale), set(mark.translated), dict(mark.earlier)
        for language in self._languages:
            item = before.items.get(language) if before else None
            said = told.get(language)
            if said is not None and said.text != (item.text if item else ""):
                item = TranslatedSegment(segment_id=segment.id, text=said.text, status="OK")
                # a part of one that was cut, or two that were joined: nobody has written it; with
                # the same text a client only repeats what it has read
                fresh = not (said.stale and (before is None or retold))
                # what an undo puts back is as old as it was
                fresh = fresh and not (said.stale and said.text == earlier.get(language))
                if fresh and language in stale and before is not None:
                    earlier[language] = before.items[language].text
                (stale.discard if fresh else stale.add)(language)
                (translated.add if fresh else translated.discard)(language)
            elif item is not None and (retold or (said is not None and said.stale)):
                stale.add(language)
            if item is not None:
                self._items[language].append(item)
        if retold:
            earlier = {}  # of another text
        return mark.model_copy(
            update={
                "stale": _ordered(stale), "translated": _ordered(translated), "earlier": earlier
            }
        )  # fmt: skip

    def _as_made(self, segment: Segment, made: _Before, mark: Mark) -> Mark:
        """Puts the job's own translations where theirs is the text; the mark without them."""
        own: set[str] = set()
        for language in {*mark.stale, *mark.translated}:
            items, item = self._items[language], made.items.get(language)
            if (
                item is not None
                and items
                and (items[-1].segment_id, items[-1].text) == (segment.id, item.text)
            ):
                items[-1] = item.model_copy(update={"segment_id": segment.id})
                own.add(language)
        return mark.model_copy(
            update={
                "stale": _ordered({*mark.stale} - own),
                "translated": _ordered({*mark.translated} - own),
            }
        )


def _ordered(languages: set[str]) -> tuple[str, ...]:
    return tuple(sorted(languages))


def _check_text(field: str, text: str, before: str) -> None:
    """Looks at a text that was not there before. Raises InvalidJobError."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidJobError.of_field(
            field, f"has {len(text)} characters; send at most {MAX_CHARACTERS}"
        )
    if text != before:  # who changes something else cannot help what an engine has written
        _check_shown(field, text)


def _check_shown(field: str, text: str) -> None:
    """Raises InvalidJobError."""
    found = _UNSHOWN.search(text)
    if found is not None:
        raise InvalidJobError.of_field(
            field, f"holds U+{ord(found[0]):04X}, which no screen shows; leave it out"
        )


def _same(time_s: float, before_s: float) -> bool:
    return abs(time_s - before_s) < _SAME_S


def _moved(segment: Segment, before: Segment) -> bool:
    return segment.speaker != before.speaker or not (
        _same(segment.start_s, before.start_s) and _same(segment.end_s, before.end_s)
    )


def _retold(segment: Segment, before: Segment) -> bool:
    return (segment.text, segment.language) != (before.text, before.language)


def _alike(words: Sequence[Word], before: Sequence[Word]) -> bool:
    """Whether they are the same words at the same times."""
    return len(words) == len(before) and all(
        one.text == other.text
        and _same(one.start_s, other.start_s)
        and _same(one.end_s, other.end_s)
        for one, other in zip(words, before, strict=True)
    )


def translated_anew(revision: Revision, found: dict[str, list[TranslatedSegment]]) -> Revision:
    """The revision with translations in place of those that it had, none of them stale."""
    place = {segment.id: n for n, segment in enumerate(revision.transcript.segments)}
    translations: dict[str, Translation] = dict(revision.transcript.translations)
    marks = dict(revision.marks)
    for language, items in found.items():
        before = {item.segment_id: item for item in translations[language].items}
        before |= {item.segment_id: item for item in items}
        ordered = sorted(before.values(), key=lambda item: place[item.segment_id])
        translations[language] = translations[language].model_copy(update={"items": ordered})
        for item in items:
            mark = marks.get(item.segment_id)
            if mark is not None:
                marks[item.segment_id] = mark.model_copy(
                    update={
                        "stale": tuple(one for one in mark.stale if one != language),
                        "translated": tuple(one for one in mark.translated if one != language),
                    }
                )
    transcript = revision.transcript.model_copy(update={"translations": translations})
    changed = revision.model_copy(update={"transcript": transcript})
    return changed.with_segments(changed.transcript.segments, marks)
